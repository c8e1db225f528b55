"""The prompts of service and benchmarks: as many as promised, one a line, and no prompt in two sets."""

from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETS = {
    ("feedback", "neutral_prompts.txt"): 80,
    ("service", "demo_prompts.txt"): 96,
    ("benchmarks", "prompts.txt"): 48,
}


def prompts(package, name):
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return text.splitlines()


def bare(prompt):
    """What stays of a prompt when case and punctuation do not count."""
    return "".join(letter for letter in prompt.lower() if letter.isalnum())


@pytest.mark.parametrize(("where", "count"), SETS.items())
def test_a_set_is_well_formed(where, count):
    found = prompts(*where)
    assert len(found) == count
    for prompt in found:
        assert prompt == prompt.strip() and prompt.isprintable() and prompt[0].isupper()
        assert 10 <= len(prompt) <= 100 and prompt[-1] in ".?"


def test_no_prompt_stands_twice_in_one_set_or_two():
    every = [bare(prompt) for where in SETS for prompt in prompts(*where)]
    assert len(every) == len(set(every)) == 224


@pytest.mark.parametrize(("package", "name"), SETS)
def test_a_set_is_found_where_the_package_is(package, name):
    assert str(files(package).joinpath(name)) == str(ROOT / package / name)
