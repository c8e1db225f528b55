"""Draws, by numbers worked out by hand."""

import math

import pytest
import torch

from adapters.sampling import CANDIDATES, Sampling, draw, uniform

NONE = torch.zeros(1, 4, dtype=torch.bool)


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


def one(logits: torch.Tensor, sampling: Sampling, u: float, seen: torch.Tensor | None = None) -> int:
    tokens, _, _ = draw(
        logits, [sampling], [u], torch.zeros(logits.shape, dtype=torch.bool) if seen is None else seen
    )
    return tokens[0]


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.09, 0), (0.11, 1), (0.49, 1), (0.51, 2), (0.69, 2), (0.71, 3)]
)
def test_plain_draw_inverts_the_cumulative_distribution(u, token):
    # 0.1, 0.4, 0.2, 0.3 → cumulative 0.1, 0.5, 0.7, 1.0
    assert one(logits_of(0.1, 0.4, 0.2, 0.3), Sampling(), u) == token


def test_plain_draw_gives_the_models_own_log_probability():
    tokens, logprobs, _ = draw(logits_of(0.1, 0.4, 0.2, 0.3), [Sampling()], [0.6], NONE)
    assert tokens == [2]
    assert logprobs[0] == pytest.approx(math.log(0.2), abs=1e-6)


@pytest.mark.parametrize(("u", "token"), [(0.0, 1), (0.56, 1), (0.58, 3), (0.99, 3)])
def test_nucleus_is_the_smallest_set_with_that_probability(u, token):
    # falling: 0.4 (1), 0.3 (3), 0.2 (2), 0.1 (0); top_p 0.5 keeps 0.4 and 0.3: 0.4 / 0.7 = 0.571
    assert one(logits_of(0.1, 0.4, 0.2, 0.3), Sampling(top_p=0.5), u) == token


def test_temperature_sharpens():
    # p² normalised of 0.6, 0.4: 0.36 / 0.52 = 0.692
    assert one(logits_of(0.6, 0.4), Sampling(temperature=0.5), 0.68) == 0
    assert one(logits_of(0.6, 0.4), Sampling(temperature=0.5), 0.70) == 1


@pytest.mark.parametrize(("u", "token"), [(0.30, 0), (0.32, 1)])
def test_where_nothing_is_cut_off_the_draw_runs_through_the_vocabulary_in_its_order(u, token):
    # p² normalised of 0.4, 0.6: 0.16 / 0.52 = 0.308
    assert one(logits_of(0.4, 0.6), Sampling(temperature=0.5), u) == token


def test_a_draw_next_to_1_takes_no_token_without_mass():
    """As a 32-bit number it is 1."""
    logits = torch.cat([logits_of(0.4, 0.6), torch.full((1, 50), -200.0)], dim=1)
    assert one(logits, Sampling(), 0.99999998) == 1


def test_temperature_zero_takes_the_likeliest_whatever_the_draw():
    assert [one(logits_of(0.3, 0.4, 0.3), Sampling(temperature=0.0), u) for u in (0.0, 0.5, 0.999)] == [
        1,
        1,
        1,
    ]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_seen_tokens():
    logits = torch.tensor([[2.0, 1.9, -1.0, -1.05]])
    seen = torch.tensor([[True, False, False, False]])
    greedy = Sampling(temperature=0.0, repetition_penalty=1.1)
    assert one(logits, greedy, 0.5, seen) == 1  # 2.0 / 1.1 = 1.818 < 1.9
    negative = torch.tensor([[-9.0, -9.0, -1.0, -1.05]])
    seen = torch.tensor([[False, False, True, False]])
    assert one(negative, greedy, 0.5, seen) == 3  # -1.0 · 1.1 = -1.1 < -1.05


def test_a_flat_distribution_is_not_cut_to_the_candidates():
    size = 4 * CANDIDATES
    sampling = Sampling(temperature=1.0, top_p=0.999, repetition_penalty=1.0)
    drawn = {one(torch.zeros(1, size), sampling, u / 50) for u in range(50)}
    assert len(drawn) == 50, "each fiftieth of a flat distribution is another token"


def test_rows_are_drawn_each_in_its_own_way():
    logits = logits_of(0.1, 0.4, 0.2, 0.3).repeat(3, 1)
    seen = torch.zeros(3, 4, dtype=torch.bool)
    ways = [Sampling(), Sampling(temperature=0.0), Sampling(top_p=0.5)]
    tokens, logprobs, _ = draw(logits, ways, [0.05, 0.05, 0.99], seen)
    assert tokens == [0, 1, 3]
    assert [math.isnan(x) for x in logprobs] == [False, True, True]


def test_uniform_depends_on_seed_and_position_alone_and_is_even():
    assert uniform(7, 3) == uniform(7, 3)
    draws = [uniform(seed, position) for seed in range(100) for position in range(100)]
    assert len(set(draws)) == len(draws)
    # 10,000 draws: mean 0.5 ± 4 · 0.289 / 100
    assert abs(sum(draws) / len(draws) - 0.5) < 0.0116
    assert all(0 <= u < 1 for u in draws)
    assert 0 <= uniform(-1, 0) < 1
