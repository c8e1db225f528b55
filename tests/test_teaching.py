"""Scores and gradients on the compiled kernels: against float32 autograd, finite differences, and the engine itself."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.adapter import Adapter
from adapters.engine import Engine, Request
from adapters.native import Native
from adapters.policy import Policy, Sequences, mean_states, score_base
from adapters.sampling import Sampling
from adapters.slots import Slots
from tests.decoders import adapter_of, loaded, write
from tests.engines import resident


def ids(count, seed):
    return torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


# Prompt and answer lengths: within a page of 32, on its border, over it, over the 48 queries that attention's gradient
# takes at once, over two of these, and as short as can be.
PAIRS = [
    (ids(prompt, 2 * number), ids(answer, 2 * number + 1))
    for number, (prompt, answer) in enumerate(
        [(10, 30), (60, 75), (1, 1), (33, 1), (5, 44), (31, 97), (32, 33), (1, 48), (3, 46)]
    )
]
SEQUENCES = Sequences.of(PAIRS, torch.device("cpu"))
BEGINNING = ids(45, 99)  # over a page's border
ALIKE = Sequences.of([(BEGINNING + prompt, answer) for prompt, answer in PAIRS], torch.device("cpu"))
SHAPES: dict[str, tuple[str, dict[str, Any], int]] = {
    "llama, rank 8": ("llama", {}, 8),
    "llama, rank 3": ("llama", {}, 3),
    "qwen2, rank 5": ("qwen2", {}, 5),
    "qwen3, rank 7": ("qwen3", {"head_dim": 32}, 7),
    "mistral, a window, rank 4": ("mistral", {"sliding_window": 41}, 4),
    "one group, a head of its own, rank 9": ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": False}, 9),
    "heads of 48, rank 1": ("llama", {"head_dim": 48}, 1),
    "three heads a group, rank 16": ("llama", {"hidden_size": 96, "num_attention_heads": 6}, 16),
    "a group for every head, rank 2": ("llama", {"num_key_value_heads": 4}, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("model"), "qwen2")


@pytest.fixture(scope="module")
def model(folder):
    return loaded(folder)


def gradient(policy, sequences, weights):
    scores = policy.score(sequences)
    return scores, torch.autograd.grad((scores.logprobs * weights).sum(), policy.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_scores_and_gradients_are_those_of_float32(name, tmp_path):
    family, changes, rank = SHAPES[name]
    folder = write(tmp_path, family, **changes)
    model, right = loaded(folder), loaded(folder, "float32")
    assert model.native and not right.native
    adapter = adapter_of(model, rank)
    weights = torch.randn(SEQUENCES.mask.shape, generator=torch.Generator().manual_seed(5))
    scores, grads = gradient(Policy(model, adapter), SEQUENCES, weights)
    expected, right_grads = gradient(Policy(right, adapter), SEQUENCES, weights)
    mask = SEQUENCES.mask
    # bfloat16's rounding, as seen over these shapes: log-probabilities by 0.03 in the mean and 0.16 at most, entropies
    # by 0.1, states by 0.37 of their spread at most; PyTorch's own bfloat16 0.06, 0.31, 0.13, 0.55.
    difference = (scores.logprobs - expected.logprobs).abs()
    assert difference[mask].mean() < 0.05 and difference.max() < 0.3
    assert (scores.entropy - expected.entropy).abs().max() < 0.2
    assert (scores.states - expected.states)[mask].abs().max() < 0.5 * expected.states[mask].std()
    for kept in (scores.logprobs, scores.entropy, scores.states):
        assert not kept[~mask].any()
    # Seen: cosines from 0.9965, the whole within 8 %; PyTorch's own bfloat16 0.992 and 11 %.
    for one, other in zip(grads, right_grads, strict=True):
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.99
    one, other = (torch.cat([part.flatten() for part in parts]) for parts in (grads, right_grads))
    assert (one - other).norm() < 0.1 * other.norm()
    assert float(one @ other / (other @ other)) == pytest.approx(1, abs=0.03)  # seen: 0.993 to 1.019


def test_a_gradient_is_the_same_whatever_threads_are_asked_for_between_it_and_its_pass(folder):
    model = loaded(folder)
    native, policy = model.native, Policy(model, adapter_of(model, 5))
    right = gradient(policy, SEQUENCES, 1.0)[1]
    slot = torch.empty(native.adapter_size(5), dtype=torch.bfloat16)
    native.threads = lambda: 1
    total = policy.score(SEQUENCES).logprobs.sum()
    native.threads = lambda: 64  # their scratch is more than the pass was given
    native.pack(adapter_of(model, 5), slot)
    for one, other in zip(torch.autograd.grad(total, policy.parameters()), right, strict=True):
        assert torch.equal(one, other)


def test_the_scores_change_along_the_gradient_as_it_says(model):
    """Central differences at two distances; their mixture (Richardson) leaves errors of the fifth order alone."""
    policy = Policy(model, adapter_of(model, 5))
    _, grads = gradient(policy, SEQUENCES, torch.ones(SEQUENCES.mask.shape))
    norm = torch.cat([part.flatten() for part in grads]).norm()

    @torch.no_grad()
    def at(distance):
        moved = Policy(model, policy.adapter())
        for parameter, part in zip(moved.parameters(), grads, strict=True):
            parameter += distance * part / norm
        return moved.score(SEQUENCES).logprobs.double().sum()

    near, far = ((at(step) - at(-step)) / (2 * step) for step in (0.1, 0.2))
    assert float((4 * near - far) / 3 / norm) == pytest.approx(1, abs=0.08)


def test_a_distributions_own_mean_of_the_gradient_is_nought(model):
    """Σ p ∇ log p = ∇ Σ p = 0: an answer of one token, once with every token of the vocabulary."""
    policy = Policy(model, adapter_of(model, 5))
    sequences = Sequences.of([(ids(20, 1), [token]) for token in range(259)], model.device)
    shares = policy.score(sequences).logprobs.detach().exp()
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    signs = torch.randn(shares.shape, generator=torch.Generator().manual_seed(2)).sign()
    nought, large = (
        torch.cat([part.flatten() for part in gradient(policy, sequences, weights)[1]]).norm()
        for weights in (shares, shares * signs)
    )
    assert nought < 0.02 * large  # seen: 0.006; and 0.09 with a softmax 5 % too small


def test_a_gradient_of_every_row_alone_adds_up_to_that_of_the_batch(model):
    policy = Policy(model, adapter_of(model, 3))
    weights = torch.randn(SEQUENCES.mask.shape, generator=torch.Generator().manual_seed(5))
    _, whole = gradient(policy, SEQUENCES, weights)
    alone = [
        gradient(policy, SEQUENCES.rows(torch.tensor([row])), weights[row : row + 1])[1]
        for row in range(len(PAIRS))
    ]
    for number, part in enumerate(whole):
        total = torch.stack([each[number] for each in alone]).sum(0)
        # The gradient of a token's own log-probability is rounded to bfloat16 where it comes down from the head alike.
        assert (part - total).norm() < 1e-5 * part.norm()


@pytest.mark.parametrize("name", ["llama, rank 8", "qwen3, rank 7", "mistral, a window, rank 4"])
def test_a_common_beginning_gets_the_gradient_of_all_rows(name, tmp_path):
    family, changes, rank = SHAPES[name]
    model = loaded(write(tmp_path, family, **changes))
    policy = Policy(model, adapter_of(model, rank))
    weights = torch.randn(ALIKE.mask.shape, generator=torch.Generator().manual_seed(5))
    _, whole = gradient(policy, ALIKE, weights)
    rows = [torch.tensor([row]) for row in range(len(PAIRS))]
    alone = [gradient(policy, ALIKE.rows(row), weights[row])[1] for row in rows]
    for number, part in enumerate(whole):
        total = torch.stack([each[number] for each in alone]).sum(0)
        # What comes down to a shared token is rounded to bfloat16 once, not row by row.
        assert (part - total).norm() < 0.01 * part.norm()


@pytest.mark.parametrize("sequences", [SEQUENCES, ALIKE], ids=["each its own", "a common beginning"])
def test_an_answers_score_has_the_same_bits_in_any_batch_and_without_a_gradient(model, sequences):
    policy = Policy(model, adapter_of(model, 3))
    whole = policy.score(sequences)
    with torch.no_grad():
        again = policy.score(sequences)
    for name in ("logprobs", "entropy", "states"):
        assert torch.equal(getattr(whole, name), getattr(again, name))
    assert whole.logprobs.requires_grad and not again.logprobs.requires_grad
    assert not whole.entropy.requires_grad and not whole.states.requires_grad
    for row in range(len(PAIRS)):
        alone = policy.score(sequences.rows(torch.tensor([row])))
        assert torch.equal(alone.logprobs[0], whole.logprobs[row])
        assert torch.equal(alone.states[0], whole.states[row])


def test_only_a_pass_with_a_gradient_keeps_what_that_needs(model, monkeypatch):
    kept = []
    compute = model.native.compute

    def note(*arguments, keep):
        kept.append(keep)
        return compute(*arguments, keep=keep)

    monkeypatch.setattr(model.native, "compute", note)
    policy = Policy(model, adapter_of(model, 3))
    policy.score(SEQUENCES)
    with torch.no_grad():
        policy.score(SEQUENCES)
    score_base(model, SEQUENCES)
    assert kept == [True, False, False]


def test_the_engines_log_probabilities_and_entropies_are_the_scores(model):
    """The same passes; the sums of the softmax alone are rounded another way, by 1e-6 at most."""
    adapter = adapter_of(model, 5)
    owners = [("ann", 1), ("ann", 1), None]
    requests = [
        Request(str(n), ids(5 + 7 * n % 90, 50 + n), owners[n % 3], 80, Sampling(seed=n)) for n in range(18)
    ]
    engine = Engine(model, Slots(model, adapter.shape, lambda uid, version: adapter, 2), 8)
    tokens = {request.id: [] for request in requests}
    for request in requests:
        engine.add(request)
    while engine.busy:
        for token in engine.step():
            tokens[token.request].append(token)
    policy = Policy(model, adapter)
    for request in requests:
        drawn = tokens[request.id]
        sequences = Sequences.of([(request.prompt, [token.id for token in drawn])], model.device)
        scores = policy.score(sequences) if request.owner else score_base(model, sequences)
        assert torch.tensor([t.logprob for t in drawn]).sub(scores.logprobs[0]).abs().max() < 5e-6
        assert torch.tensor([t.entropy for t in drawn]).sub(scores.entropy[0]).abs().max() < 5e-6
    assert sum(map(len, tokens.values())) > 500


def test_entropy_is_of_the_whole_distribution(tmp_path):
    """A model whose head is nought says nothing: every token has 1 / V."""
    folder = write(tmp_path, "llama", tie_word_embeddings=False)
    model = loaded(folder)
    model.head.weight.zero_()
    model.native = Native(model.network, lambda _: None)  # packs the weights as they are now
    scores = score_base(model, SEQUENCES)
    assert scores.entropy[SEQUENCES.mask].tolist() == pytest.approx(
        [math.log(259)] * int(SEQUENCES.mask.sum())
    )
    assert scores.logprobs[SEQUENCES.mask].tolist() == pytest.approx(
        [-math.log(259)] * int(SEQUENCES.mask.sum())
    )


def test_the_mean_state_of_an_answer_is_that_of_its_scores(model):
    states = score_base(model, SEQUENCES).states
    means = mean_states(model, SEQUENCES)
    for row, (_, answer) in enumerate(PAIRS):
        assert torch.allclose(means[row], states[row, : len(answer)].mean(0), atol=1e-6)


def test_a_pass_in_inference_mode_leaves_the_next_one_free_to_take_gradients(folder):
    model = loaded(folder)
    with torch.inference_mode():
        score_base(model, SEQUENCES)
    policy = Policy(model, adapter_of(model, 3))
    scores, grads = gradient(policy, SEQUENCES, torch.ones_like(SEQUENCES.mask))
    assert scores.logprobs.isfinite().all() and any(grad.any() for grad in grads)


def test_a_policy_that_has_become_nan_spoils_no_later_score(model):
    policy = Policy(model, adapter_of(model, 3))
    before = policy.score(SEQUENCES), score_base(model, SEQUENCES)
    fresh = adapter_of(model, 3)
    broken = Adapter(fresh.shape, {name: (a, b * math.nan) for name, (a, b) in fresh.weights.items()})
    long = Sequences.of([(ids(200, 1), ids(200, 2))] * 3, model.device)
    assert Policy(model, broken).score(long).logprobs.isnan().any()
    for one, other in zip(before, (policy.score(SEQUENCES), score_base(model, SEQUENCES)), strict=True):
        assert torch.equal(one.logprobs, other.logprobs)


def test_a_gradient_is_never_taken_from_another_pass(model):
    policy = Policy(model, adapter_of(model, 3))
    first = policy.score(SEQUENCES)
    score_base(model, SEQUENCES)
    with pytest.raises(AssertionError, match="right after its own pass"):
        first.logprobs.sum().backward()


def test_a_few_steps_of_adam_make_the_answers_likelier(model):
    policy = Policy(model, Adapter.fresh(model.lora_shape(4, 8.0), torch.Generator().manual_seed(1)))
    optimiser = torch.optim.Adam(policy.parameters(), lr=0.02)
    found = []
    for _ in range(12):
        loss = -policy.score(SEQUENCES).logprobs[SEQUENCES.mask].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.6 * found[0]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's account of memory")
def test_passes_leave_nothing_behind(model):
    policy = Policy(model, adapter_of(model, 16))
    found = []
    for number in range(301):
        policy.score(SEQUENCES).logprobs.sum().backward()
        if number % 100 == 0:
            found.append(resident())
    # One slot alone, kept from each of 200 passes, would be 24 MB.
    assert found[-1] - found[1] < 4 << 20
