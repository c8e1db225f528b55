"""Corrections learnt by word, on PyTorch and on the compiled kernels: which they are, and what they move."""

import dataclasses

import pytest
import torch

from adapters.policy import Policy, Sequences
from adapters.store import AdapterStore, Base
from feedback import rollouts, round
from feedback.gate import GateConfig
from feedback.ppo import PPOConfig
from feedback.rollouts import newest, rated
from feedback.round import Example, Round, RoundConfig, lessons
from feedback.trainer import run_round
from tests.decoders import loaded, write
from tests.probes import FEW

UID = "u1"
CONFIG = RoundConfig(
    rank=4, iterations=3, rollouts=8, rows=8, answer_tokens=24,
    gate=GateConfig(prompts=4), ppo=PPOConfig(lam=0.95, epochs=1, minibatch_rows=4),
)  # fmt: skip
WITHOUT = dataclasses.replace(CONFIG, correction_coef=0.0)
WANTED = ["Yes! Go!", "No. Stay.", "Ask again.", "So be it."]


@pytest.fixture(scope="module", params=["float32", "bfloat16"], ids=["on PyTorch", "on the kernels"])
def model(request, tmp_path_factory):
    model = loaded(write(tmp_path_factory.mktemp("model"), "llama"), request.param)
    assert (model.native is None) == (request.param == "float32")
    return model


def examples(corrections):
    """Somebody who likes nothing and says what it should have been; every third is held out."""
    return [
        Example(
            message_id=f"m{i}", revision=1, messages=[{"role": "user", "content": f"Question {i}?"}],
            answer="Well, it depends on this.", ended=True, rating=-1, correction=correction,
            held_out=i % 3 == 2, max_tokens=24,
        )
        for i, correction in enumerate(corrections)
    ]  # fmt: skip


ALL = examples(WANTED * 2)
HELD_OUT = [e if e.held_out else dataclasses.replace(e, correction=None) for e in ALL]
NONE = [dataclasses.replace(e, correction=None) for e in ALL]


def learn(model, folder, given, config=CONFIG, seed=7):
    store = AdapterStore(folder / "adapters", Base(model.name, model.digest))
    store.create(UID)
    return run_round(
        model,
        store,
        UID,
        given,
        start=0,
        seed=seed,
        config=config,
        harm=FEW,
        report=lambda _: None,
        stop=lambda: None,
    )


def begin(model, given, config=CONFIG):
    return Round(model, config, FEW, 7, given, lambda _: None, lambda: None)


@torch.no_grad()
def known(model, adapter):
    """Mean log-probability a token of the corrections that may be learnt, each with its end, nats."""
    pairs = []
    for example in ALL:
        if not example.held_out:
            prompt, whole = model.encode(example.messages), model.encode(example.messages, example.correction)
            pairs.append((prompt, [*whole[len(prompt) :], model.tokenizer.eos_token_id]))
    sequences = Sequences.of(pairs, model.device)
    return float(Policy(model, adapter).score(sequences).logprobs[sequences.mask].mean())


def matrices(candidate):
    return [matrix for pair in candidate.adapter.weights.values() for matrix in pair]


def same(one, other):
    """Bit by bit: the adapter, and all that the next round goes on with."""
    return (
        all(map(torch.equal, matrices(one), matrices(other)))
        and one.learner_meta == other.learner_meta
        and one.learner_tensors.keys() == other.learner_tensors.keys()
        and all(torch.equal(t, other.learner_tensors[name]) for name, t in one.learner_tensors.items())
    )


def test_corrections_become_likelier_than_without_the_term(model, tmp_path):
    taught, untaught = learn(model, tmp_path, ALL), learn(model, tmp_path, ALL, WITHOUT)
    before, after = (taught.metrics[f"correction_logprob_{when}"] for when in ("before", "after"))
    assert after == pytest.approx(known(model, taught.adapter), abs=1e-5)
    assert untaught.metrics["correction_logprob_before"] == before
    assert after > before + 0.05
    assert after > known(model, untaught.adapter) + 0.05
    assert taught.metrics["corrections"] == 8


def test_without_corrections_nothing_changes_by_a_bit(model, tmp_path):
    one = learn(model, tmp_path, NONE)
    assert same(one, learn(model, tmp_path, NONE, WITHOUT))
    assert not any(name.startswith("correction_logprob") for name in one.metrics)


def test_what_is_held_out_stays_the_judges(model, tmp_path):
    assert same(learn(model, tmp_path, HELD_OUT), learn(model, tmp_path, HELD_OUT, WITHOUT))
    assert not same(learn(model, tmp_path, ALL), learn(model, tmp_path, ALL, WITHOUT))


def test_the_same_round_with_corrections_gives_the_same_bits(model, tmp_path):
    assert same(learn(model, tmp_path, ALL), learn(model, tmp_path, ALL))


def test_the_kl_budget_rules_over_corrections_too(model, tmp_path):
    tight = dataclasses.replace(
        CONFIG, correction_coef=5.0, gate=GateConfig(prompts=4, lifetime_kl=0.02, version_kl=0.02)
    )
    hot = dataclasses.replace(tight, ppo=dataclasses.replace(tight.ppo, learning_rate=0.02))
    candidate = learn(model, tmp_path, ALL, hot)
    assert candidate.metrics["taken_back_kl"] > 0.02, "a step left the budget, or the test shows nothing"
    assert candidate.metrics["kl"] <= 0.02
    assert candidate.metrics["correction_logprob_after"] == pytest.approx(
        known(model, candidate.adapter), abs=1e-5
    ), "told of what was kept"


def test_a_lesson_is_a_correction_with_its_end_and_no_longer_than_an_answer(model):
    given = examples(["  Yes! \n", "   ", "never learnt", None, "x" * 100])
    assert [e.wanted for e in given] == ["Yes!", None, "never learnt", None, "x" * 100]
    first, last = begin(model, given).lessons
    assert first[0] == model.encode(given[0].messages)
    assert model.decode(first[1]) == "Yes!" and first[1][-1] in model.eos_ids
    assert len(last[1]) == CONFIG.answer_tokens and last[1][-1] not in model.eos_ids


def test_the_gate_asks_no_prompt_whose_wanted_answer_was_learnt(model):
    many = examples(["Yes!"] * 60)
    plain = begin(model, [dataclasses.replace(e, correction=None) for e in many])
    taught = begin(model, many)
    own = {e.messages[0]["content"]: e.held_out for e in many}
    asked = [[own.get(p.messages[0]["content"]) for p in round.gate_prompts] for round in (plain, taught)]
    assert False in asked[0], "the gate asks the person's own prompts"
    assert False not in asked[1] and True in asked[1], "and of those with corrections the held-out ones alone"


def test_of_a_long_conversation_a_round_reads_the_newest(model, monkeypatch):
    """Else one person's long chats would hold up everybody's rounds for hours."""
    for module in (rollouts, round):
        monkeypatch.setattr(module, "PROMPT_TOKENS", 100)
    messages = [{"role": "user", "content": "So it goes on. " * 20}, {"role": "user", "content": "And then?"}]
    whole = model.encode(messages)
    assert model.context > len(whole) > 300
    (example,) = examples(WANTED[:1])
    long = dataclasses.replace(example, messages=messages)
    read = rated(model, messages, long.answer, ended=True)
    ((prompt, _),) = lessons(model, [long], longest=24)
    assert newest(model, whole, 24, 100) == read.prompt == prompt == whole[-100:]
    assert read.answer == rated(model, example.messages, long.answer, ended=True).answer
    assert newest(model, whole, model.context - 8, 100) == whole[-8:]
