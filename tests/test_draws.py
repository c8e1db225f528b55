"""Draws by the kernels: against the definition in float64, and against PyTorch's."""

import math

import pytest
import torch

from adapters.native import Native
from adapters.sampling import CANDIDATES, Sampling, draw, uniform
from tests.decoders import loaded, write

NEAR = 3e-5  # of a cumulative sum: closer than that, rounding decides
SIZE = 5003  # no multiple of a vector, and five blocks of sums


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    found = loaded(write(tmp_path_factory.mktemp("model"), "llama")).native
    assert isinstance(found, Native)
    return found


def altered(logits, sampling, seen):
    """The distribution (V,) in float64 that is drawn from, by its definition."""
    logits = logits.double()
    penalty = sampling.repetition_penalty
    logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    return torch.softmax(logits / sampling.temperature, dim=0)


def right(logits, sampling, u, seen):
    """Every token that the draw u may give: the one by definition, and those that are within rounding of it."""
    shares = altered(logits, sampling, seen)
    order = torch.arange(len(shares))
    total = shares.sum()
    if sampling.top_p < 1:
        shares, order = shares.sort(descending=True, stable=True)
        before = shares.cumsum(0) - shares
        total = shares[before < sampling.top_p].sum()
        near = before < sampling.top_p + NEAR
        shares, order = shares[near], order[near]
    ends = shares.cumsum(0) / total
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    return order[(begins - NEAR <= u) & (u <= ends + NEAR)].tolist()


def rows(count, size, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, size, generator=generator) * spread
    return logits, list(torch.rand(count, size, generator=generator) < 0.05)


WAYS = {
    "plain": Sampling(),
    "warm": Sampling(temperature=1.7),
    "cool": Sampling(temperature=0.4),
    "nucleus": Sampling(top_p=0.9),
    "a small nucleus": Sampling(top_p=0.05),
    "nearly everything": Sampling(top_p=0.9999),
    "penalty": Sampling(repetition_penalty=1.3),
    "as chat": Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.1),
    "all of it, warm": Sampling(temperature=1.5, top_p=0.7, repetition_penalty=2.0),
}


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("way", WAYS)
def test_draws_are_those_of_the_definition(native, way, spread):
    sampling = WAYS[way]
    logits, seen = rows(60, SIZE, spread, seed=3)
    draws = [uniform(9, number) for number in range(60)]
    tokens, *_ = native.draw(logits, [sampling] * 60, draws, seen)
    allowed = [
        right(*each, seen[n]) for n, each in enumerate(zip(logits, [sampling] * 60, draws, strict=True))
    ]
    assert all(token in each for token, each in zip(tokens, allowed, strict=True))
    assert sum(map(len, allowed)) < 60 * 8, "or the test shows nothing"


@pytest.mark.parametrize("way", WAYS)
def test_draws_are_pytorchs(native, way):
    """A plain draw runs through the vocabulary, a nucleus from its likeliest token down; so do both ways to draw."""
    sampling = WAYS[way]
    logits, seen = rows(200, 1000, 2.0, seed=4)
    draws = [uniform(5, number) for number in range(200)]
    mine, logprobs, *_ = native.draw(logits, [sampling] * 200, draws, seen)
    theirs, expected, *_ = draw(logits, [sampling] * 200, draws, torch.stack(seen))
    same = [one == other for one, other in zip(mine, theirs, strict=True)]
    assert sum(same) >= 198, "but for a cumulative sum within rounding"
    for number in [number for number, equal in enumerate(same) if equal]:
        assert logprobs[number] == pytest.approx(expected[number], abs=2e-5, nan_ok=True)


def test_log_probability_and_entropy_are_the_models_own_or_nothing(native):
    logits, seen = rows(len(WAYS) + 1, SIZE, 3.0, seed=5)
    ways = [*WAYS.values(), Sampling(temperature=0.0)]
    tokens, logprobs, *entropies = native.draw(logits, ways, [0.5] * len(ways), seen)
    for number, sampling in enumerate(ways):
        if not sampling.untouched:
            assert math.isnan(logprobs[number]) and all(math.isnan(each[number]) for each in entropies)
            continue
        own = torch.log_softmax(logits[number].double(), 0)
        assert logprobs[number] == pytest.approx(float(own[tokens[number]]), abs=1e-5)
        for each in entropies:
            assert each[number] == pytest.approx(float(-(own.exp() * own).sum()), abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 1023, 1024, 1025, 4099])
def test_any_size_of_vocabulary(native, size):
    logits, seen = rows(50, size, 2.0, seed=size)
    draws = [number / 50 for number in range(50)]
    for sampling in (Sampling(), Sampling(top_p=0.8)):
        for number, token in enumerate(native.draw(logits, [sampling] * 50, draws, seen)[0]):
            allowed = right(logits[number], sampling, draws[number], seen[number])
            assert token in allowed
    greedy = native.draw(logits, [Sampling(temperature=0.0)] * 50, draws, seen)[0]
    assert greedy == logits.argmax(1).tolist()


def test_the_ends_of_the_unit_interval_draw_the_first_and_the_last_token(native):
    logits = torch.zeros(2, SIZE)
    seen = [torch.zeros(SIZE, dtype=torch.bool)] * 2
    assert native.draw(logits, [Sampling()] * 2, [0.0, 1 - 2**-53], seen)[0] == [0, SIZE - 1]
    logits = torch.linspace(1, 0, SIZE).expand(2, -1).contiguous()
    everything = Sampling(top_p=0.999999)
    first, last = native.draw(logits, [everything] * 2, [0.0, 1 - 2**-53], seen)[0]
    assert first == 0 and last > 0.99 * SIZE


def test_the_likeliest_of_equals_is_the_first(native):
    logits = torch.zeros(3, SIZE)
    logits[1, 700:] = 1.0
    logits[2, [4000, 5002]] = 9.0
    seen = [torch.zeros(SIZE, dtype=torch.bool)] * 3
    assert native.draw(logits, [Sampling(temperature=0.0)] * 3, [0.9] * 3, seen)[0] == [0, 700, 4000]
    # Two hold 8103 / (2 · 8103 + 5001) = 0.38 each: a nucleus of less than that is the first alone.
    small = Sampling(top_p=0.35)
    assert native.draw(logits[2:], [small], [0.99], seen[:1])[0] == [4000]


def test_one_token_that_has_it_all(native):
    logits = torch.full((8, SIZE), -100.0)
    logits[:, 3210] = 100.0
    draws = [1e-9, 0.3, 0.999999, 1 - 2**-53] * 2
    seen = [torch.zeros(SIZE, dtype=torch.bool)] * 8
    tokens, logprobs, *_ = native.draw(logits, [Sampling()] * 4 + [Sampling(top_p=0.9)] * 4, draws, seen)
    assert tokens == [3210] * 8
    assert logprobs[:4] == [0.0] * 4


def test_a_nucleus_of_a_flat_distribution_is_as_large_as_it_says(native):
    size = 8 * CANDIDATES
    logits, seen = torch.zeros(1, size), [torch.zeros(size, dtype=torch.bool)]
    drawn = {native.draw(logits, [Sampling(top_p=0.75)], [u / 2000], seen)[0][0] for u in range(2000)}
    assert drawn == set(range(size * 3 // 4))


def test_a_token_that_was_seen_is_penalised_whatever_its_sign(native):
    logits = torch.tensor([[2.0, 1.9, -1.0], [-3.0, -1.0, -1.05]])
    seen = [torch.tensor([True, False, False]), torch.tensor([False, True, False])]
    greedy = Sampling(temperature=0.0, repetition_penalty=1.1)
    # 2.0 / 1.1 = 1.818 < 1.9; -1.0 · 1.1 = -1.1 < -1.05
    assert native.draw(logits, [greedy] * 2, [0.5] * 2, seen)[0] == [1, 2]


@pytest.mark.parametrize("way", ["plain", "as chat", "all of it, warm"])
def test_each_token_is_drawn_as_often_as_it_should_be(native, way):
    """At N evenly spaced draws a token's count is N times its share, within two."""
    sampling, draws = WAYS[way], 20_000
    logits, (seen,) = rows(1, 60, 1.5, seed=8)
    shares, order = altered(logits[0], sampling, seen).sort(descending=True)
    inside = shares.cumsum(0) - shares < sampling.top_p
    expected = torch.zeros(60, dtype=torch.double)
    expected[order[inside]] = shares[inside] / shares[inside].sum()
    at = [(number + 0.5) / draws for number in range(draws)]
    counts = torch.zeros(60, dtype=torch.double)
    for start in range(0, draws, 1000):
        part = at[start : start + 1000]
        tokens, *_ = native.draw(
            logits.expand(len(part), -1).contiguous(), [sampling] * len(part), part, [seen] * len(part)
        )
        counts += torch.bincount(torch.tensor(tokens), minlength=60)
    assert (counts - draws * expected).abs().max() <= 2


def test_rows_beside_each_other_draw_as_alone(native):
    logits, seen = rows(40, SIZE, 2.0, seed=6)
    ways = list(WAYS.values()) * 5
    draws = [uniform(2, number) for number in range(40)]
    together = native.draw(logits, ways[:40], draws, seen)[0]
    alone = [native.draw(logits[n : n + 1], [ways[n]], [draws[n]], [seen[n]])[0][0] for n in range(40)]
    assert together == alone


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("way", [*WAYS.values(), Sampling(temperature=0.0)])
def test_broken_logits_draw_some_token_of_the_vocabulary(native, way, broken):
    """A broken adapter's rows must not end the others' step."""
    logits, seen = rows(3, SIZE, 1.0, seed=1)
    expected = native.draw(logits[2:], [way], [0.7], seen[2:])[0]
    logits[0] = broken
    logits[1, ::3] = broken
    tokens, *_ = native.draw(logits, [way] * 3, [0.7] * 3, seen)
    assert all(0 <= token < SIZE for token in tokens) and tokens[2:] == expected
