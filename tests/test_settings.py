"""The settings: defaults, what the environment may say, and what is said about a bad value."""

import pytest

from adapters.adapter import MAX_SCALE
from service.settings import MOST_ALPHA, BadSetting, Settings


def test_defaults_are_those_of_the_contract():
    settings = Settings.read({})
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (settings.max_tokens, settings.temperature, settings.top_p) == (160, 0.7, 0.9)
    assert settings.folder.is_absolute() and "~" not in str(settings.folder)


def test_a_variable_is_read_and_an_empty_one_is_unset():
    settings = Settings.read({"THUMBTUNE_PORT": " 9000 ", "THUMBTUNE_REDIS_URL": "", "PORT": "1"})
    assert settings.port == 9000 and settings.redis_url is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PORT", "eight", "THUMBTUNE_PORT must be a whole number (1 to 65535), not 'eight'"),
        ("PORT", "70000", "THUMBTUNE_PORT must be 1 to 65535, not '70000'"),
        ("TEMPERATURE", "nan", "THUMBTUNE_TEMPERATURE must be 0 to 2, not 'nan'"),
        ("DTYPE", "int4", "THUMBTUNE_DTYPE must be one of auto, float32, bfloat16, not 'int4'"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(variable, value, said):
    with pytest.raises(BadSetting) as error:
        Settings.read({"THUMBTUNE_" + variable: value})
    assert str(error.value) == said


def test_an_alpha_that_no_file_of_an_adapter_may_have_is_refused_at_the_start():
    assert MOST_ALPHA == MAX_SCALE
    assert Settings.read({"THUMBTUNE_ALPHA": "64", "THUMBTUNE_RANK": "4"}).alpha == 64
    with pytest.raises(
        BadSetting, match=r"THUMBTUNE_ALPHA must be at most 16 × THUMBTUNE_RANK, here 64, not 65"
    ):
        Settings.read({"THUMBTUNE_ALPHA": "65", "THUMBTUNE_RANK": "4"})


def test_a_secret_is_neither_described_nor_in_an_error():
    settings = Settings.read({"THUMBTUNE_ADMIN_KEY": "hush-hush-hush-hush"})
    assert "hush" not in repr(settings) and "hush" not in repr(settings.describe())
    with pytest.raises(BadSetting) as error:
        Settings.read({"THUMBTUNE_REDIS_URL": "http://:hush@host"})
    assert "hush" not in str(error.value)


def test_an_admin_key_that_no_header_can_hold_is_refused_untold():
    with pytest.raises(BadSetting, match="THUMBTUNE_ADMIN_KEY must hold ASCII characters only") as error:
        Settings.read({"THUMBTUNE_ADMIN_KEY": "hush-hüsh"})
    assert "hush" not in str(error.value)


def test_every_setting_is_described():
    described = Settings.read({}).describe()
    assert [each.variable for each in described] == Settings.variables()
    assert all(each.meaning for each in described)
