"""Intervals against values that are known: worked out by hand, or from the normal distribution."""

import random

import pytest

from benchmarks.intervals import gain, mean, median, minus, ratio, streak_end


def test_where_nothing_varies_the_interval_is_a_point():
    estimate = mean([[[0.4, 0.4], [0.4, 0.4]], [[0.4, 0.4]]])
    assert [estimate.mean, estimate.low, estimate.high] == pytest.approx([0.4, 0.4, 0.4])


def test_gain_is_the_share_of_what_could_be_reached():
    # (0.7 - 0.4) / (1 - 0.4) everywhere
    estimate = gain([[[0.4, 0.4]]], [[[0.7, 0.7]]])
    assert estimate.mean == pytest.approx(0.5) and estimate.low == pytest.approx(0.5)


def test_over_tastes_it_is_the_ratio_of_the_mean_differences():
    # differences 0.3 and 0.1, what could be reached 0.6 and 0.8: 0.4 / 1.4, not (1/2 + 1/8) / 2
    base, after = [[[0.4]], [[0.2]]], [[[0.7]], [[0.3]]]
    estimate = gain(base, after)
    assert estimate.mean == pytest.approx(0.4 / 1.4)
    # both places the first taste, or both the second: one resample in four each
    assert [estimate.low, estimate.high] == pytest.approx([1 / 8, 1 / 2])


def test_tastes_weigh_alike_however_many_seeds_they_have():
    assert mean([[[1.0], [1.0], [1.0]], [[0.0]]]).mean == 0.5


def test_a_missing_seed_is_never_drawn():
    estimate = mean([[[1.0], [1.0], [1.0]], [[1.0]]])
    assert [estimate.low, estimate.high] == pytest.approx([1.0, 1.0])


def test_prompts_alone_give_the_normal_interval():
    draws = random.Random(1)
    values = [draws.gauss(0.0, 1.0) for _ in range(400)]
    estimate = mean([[values]])
    deviation = (sum((v - estimate.mean) ** 2 for v in values) / 400) ** 0.5 / 20  # of the mean of 400
    assert estimate.low == pytest.approx(estimate.mean - 1.96 * deviation, abs=0.1 * deviation)
    assert estimate.high == pytest.approx(estimate.mean + 1.96 * deviation, abs=0.1 * deviation)


def test_one_taste_is_clustered_by_seed():
    # Many prompts that say the same within a seed are no more than one: the interval reaches from seed to seed.
    clustered = mean([[[0.0] * 100, [1.0] * 100]])
    pooled = mean([[[0.0, 1.0] * 100]])
    assert (clustered.low, clustered.high) == (0.0, 1.0)
    assert pooled.high - pooled.low < 0.2


def test_pairs_stay_together():
    # Prompts differ wildly, the difference never: drawn apart the interval would be wide.
    base = [[[0.0, 0.2, 0.5, 0.8]]]
    after = [[[0.1, 0.3, 0.6, 0.9]]]
    estimate = mean(minus(after, base))
    assert estimate.high - estimate.low == pytest.approx(0.0, abs=1e-9)
    assert ratio(minus(after, base), [[[1.0] * 4]]).mean == pytest.approx(0.1)


def test_the_median_is_of_all_tastes_and_seeds():
    estimate = median([[3.0, 41.0], [11.0]])
    assert estimate.mean == 11.0 and estimate.low == 3.0 and estimate.high == 41.0
    assert median([[7.0], [7.0]]).low == 7.0


def test_panels_of_unequal_prompts_are_no_panels():
    with pytest.raises(AssertionError):
        mean([[[1.0], [1.0, 2.0]]])


@pytest.mark.parametrize(
    ("accepted", "end"),
    [("", None), ("ya", None), ("yyy", 3), ("yynyyyy", 6), ("nnnyyy", 6), ("yynyyn", None)],
)
def test_three_in_a_row(accepted, end):
    assert streak_end([letter == "y" for letter in accepted]) == end
