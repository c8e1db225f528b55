"""A reward model's beliefs in words: by hand, of a model that was fitted, and where it is too early."""

import pytest
import torch

from feedback import auroc
from feedback.beliefs import describe, likes
from feedback.features import Answers, Scale
from feedback.reward import RewardConfig, fit
from feedback.style import FEATURES


def test_what_is_liked_by_hand():
    """log 1.5 = 0.405, log 2 = 0.693."""
    told = likes([("commas", 0.3, 0.8159), ("length", -0.5, 0.9452), ("lists", 0.9, 0.7881)], thumbs=8)
    assert [each["says"] for each in told] == [
        "shorter answers (clearly, 94 % sure)",
        "more commas (slightly, 81 % sure)",
    ]
    assert told[0] == {
        "feature": "length", "likes": "shorter answers", "strength": "clearly", "weight": -0.5,
        "certainty": 0.9452, "says": told[0]["says"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weight", "strength"),
    [
        (0.4, "slightly"),
        (0.41, "clearly"),
        (-0.69, "clearly"),
        (0.7, "strongly"),
        (-9.0, "strongly"),
    ],
)
def test_how_strongly(weight, strength):
    (told,) = likes([("exclamations", weight, 0.99)], thumbs=8)
    assert told["strength"] == strength
    assert told["likes"] == ("exclamation marks" if weight > 0 else "fewer exclamation marks")


def test_five_at_most_and_never_quite_sure():
    told = likes([(feature.name, 1 + i / 100, 1.0) for i, feature in enumerate(FEATURES)], thumbs=8)
    assert [each["feature"] for each in told] == [feature.name for feature in FEATURES[:-6:-1]]
    assert all("99 % sure" in each["says"] for each in told)


def test_too_early_or_nothing_sure_is_no_liking():
    assert likes([("length", -2.0, 0.99)], thumbs=7) == []
    assert likes([(feature.name, 0.0, 0.5) for feature in FEATURES], thumbs=100) == []
    assert likes([("length", -0.09, 0.99), ("commas", 0.09, 0.99)], thumbs=100) == [], "log 1.1 = 0.095"


def test_a_fitted_models_taste_is_the_first_to_be_told():
    draw = torch.Generator().manual_seed(3)
    made = Answers(torch.randn(160, len(FEATURES), generator=draw), torch.randn(160, 24, generator=draw))
    lists = [feature.name for feature in FEATURES].index("lists")
    config = RewardConfig()
    prior = config.alone.prior()
    model = fit(made, (made.style[:, lists] < 0).float(), Scale.of(made, config, prior), config, prior)
    told = likes(model.beliefs(), thumbs=60)
    assert told[0]["likes"] == "prose instead of lists" and told[0]["certainty"] > 0.99
    assert told[0]["weight"] == pytest.approx(float(model.believed.whole.mean[lists]))


@pytest.mark.parametrize(
    ("ups", "downs", "corrections", "area", "kept", "words"),
    [
        (1, 0, 0, None, 0, "too early to tell: 1 thumb"),
        (3, 2, 0, None, 0, "too early to tell: 5 thumbs"),
        (9, 0, 0, None, 0, "all 9 thumbs are up"),
        (0, 9, 0, None, 0, "all 9 thumbs are down: until one is up"),
        (0, 9, 1, None, 0, "too few are held out"),
        (5, 5, 0, None, 0, "too few are held out"),
        (10, 10, 0, 1.0, 3, "too early to tell whether it foretells"),
        (60, 60, 0, 0.5, 20, "contradict"),
        (20, 20, 0, 0.9, 7, "it foretells held-out thumbs (AUROC 0.90, 95 % interval 0.59 to 0.98)"),
    ],
)
def test_it_says_how_far_it_is_to_be_trusted(ups, downs, corrections, area, kept, words):
    interval = auroc.interval(area, kept, kept) if area is not None else None
    assert words in describe(ups, downs, corrections, area, interval)
