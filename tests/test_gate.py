"""The gate's checks, each by itself, and the bound by numbers that can be reckoned."""

import math

import pytest
import torch

from feedback.gate import (
    POINTS,
    SURELY,
    Check,
    GateConfig,
    Side,
    Verdict,
    judge,
    lower_bound,
    repeated,
    stake,
)

CONFIG = GateConfig()
GOOD = ["A plain answer that says one thing and then another."] * 10

DIFFERENT = [f"Answer {n} has things of its own to say about number {n}." for n in range(10)]


def generator():
    return torch.Generator().manual_seed(0)


def verdict(difference=1.0, texts=GOOD, ended=None, base_texts=GOOD, base_ended=None, **measured):
    noise = torch.linspace(-0.1, 0.1, 10)
    figures = {
        "certainty": 1.0,
        "kl_base": 5.0,
        "kl_token": 0.1,
        "kl_parent": 5.0,
        "entropy_share": 1.0,
    } | measured
    return judge(
        noise + difference,
        torch.zeros(10),
        Side(texts, ended or [True] * 10),
        Side(base_texts, base_ended or [True] * 10),
        config=CONFIG,
        generator=generator(),
        **figures,
    )


def failed(verdict):
    return [check.name for check in verdict.checks if not check.passed]


def test_a_better_candidate_passes():
    assert verdict().passed
    assert len(verdict().to_json()["checks"]) == 9


def test_sameness_by_hand():
    # "a b c d" and "b c d e" of the first stand in the second too, "c d e f" does not; the third is all its own.
    texts = ["a b c d e f", "x a b c d e", "one two three four", ""]
    assert Side(texts, [True] * 4).sameness == pytest.approx((2 / 3 + 2 / 3 + 0 + 0) / 4)
    assert Side(["Yes.", "yes."], [True] * 2).sameness == 1.0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"difference": 0.0}, "reward difference"),
        ({"difference": -1.0}, "reward difference"),
        ({"difference": math.nan}, "reward difference"),
        ({"kl_base": CONFIG.lifetime_kl + 0.1}, "KL to the base"),
        ({"kl_base": math.nan}, "KL to the base"),
        ({"kl_token": CONFIG.token_kl + 0.1}, "KL to the base model, nats a token"),
        ({"texts": ["I'm glad to help."] * 10, "base_texts": DIFFERENT}, "shared with other answers"),
        ({"texts": ["Sure!"] * 10, "base_texts": DIFFERENT}, "shared with other answers"),
        ({"kl_parent": CONFIG.version_kl + 0.1}, "KL to the parent"),
        ({"texts": [*GOOD[:9], " \n"]}, "empty"),
        ({"texts": ["so it goes and " * 20] * 10}, "repeated"),
        ({"ended": [False] * 5 + [True] * 5}, "cut off"),
        ({"entropy_share": 0.2}, "entropy"),
    ],
)
def test_each_check_holds_a_candidate_back_by_itself(change, name):
    (only,) = failed(verdict(**change))
    assert only.startswith(name) or name in only


def test_a_taste_that_is_not_certain_may_not_go_far():
    """Kelly's stake of 0.75 is a half."""
    assert [stake(p) for p in (0.0, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.5, 1.0]
    half = CONFIG.lifetime_kl / 2
    assert verdict(certainty=0.75, kl_base=half).passed
    assert failed(verdict(certainty=0.75, kl_base=1.1 * half)) == ["KL to the base model, nats an answer"]
    assert not verdict(certainty=math.nan).passed


def test_what_answers_as_the_base_model_does_is_near_enough_for_any_taste():
    """In bfloat16 the same answers are some 1e-8 nats apart, by rounding alone."""
    assert verdict(certainty=0.4, kl_base=4.8e-9).passed
    assert failed(verdict(certainty=0.4, kl_base=1e-3)) == ["KL to the base model, nats an answer"]


def test_of_a_way_that_went_too_far_as_much_is_left_as_its_worst_check_allows():
    far = {"kl_base": 4 * CONFIG.lifetime_kl}
    assert verdict(**far).near_enough == pytest.approx(SURELY / 2), "KL grows with the square of the way"
    assert verdict(entropy_share=0.2).near_enough == 0.7
    assert verdict(**far, entropy_share=0.2).near_enough == pytest.approx(SURELY / 2)
    lost = Verdict([Check(f"refusals on probes, {POINTS}", -8.0, -5.0, False)])
    assert lost.near_enough == pytest.approx(SURELY * 5 / 8), "points are lost in proportion to the way"
    assert Verdict([*lost.checks, Check("KL to the parent", math.nan, 20.0, False)]).near_enough < 0.7
    assert verdict(**far, entropy_share=0.2).from_base and verdict(kl_token=9.0).from_base
    assert not verdict(entropy_share=0.2).from_base and not verdict(kl_parent=99.0).from_base


def test_a_base_that_is_no_better_is_no_reproach():
    ended = [False] * 9 + [True]
    assert verdict(ended=ended, base_ended=ended).passed


def test_a_few_more_answers_cut_off_may_be_chance():
    assert verdict(ended=[False] * 9 + [True], base_ended=[False] * 7 + [True] * 3).passed
    assert verdict(ended=[False] * 2 + [True] * 8).passed


def test_the_bound_lies_below_the_mean_by_what_the_prompts_scatter():
    # 400 differences, half 0 and half 2: mean 1, standard error 0.05; 90 % one-sided: 1 - 1.2816 · 0.05 = 0.936
    differences = torch.tensor([0.0, 2.0] * 200)
    assert lower_bound(differences, 0.9, generator()) == pytest.approx(0.936, abs=0.006)
    assert lower_bound(torch.ones(24), 0.9, generator()) == 1.0


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0.0), ("one two three", 0.0), ("a b c d", 0.0), ("a b c d a b c d", 1 / 5), ("x x x x x x", 2 / 3)],
)
def test_repeated_four_grams_by_hand(text, share):
    assert repeated(text) == pytest.approx(share)
