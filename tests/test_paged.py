"""Rows on the compiled kernels: prompts in chunks, pasts that are remembered, and memory over a long run."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.engine import Engine, Request
from adapters.model import ModelConfig, load
from adapters.native import PAGE
from adapters.sampling import Sampling
from adapters.slots import Slots
from tests.engines import adapter_of, answers, engine_of, resident
from tests.tiny import tiny_model

OWN = ("user1", 1)
TEXT = [number * 7 % 251 for number in range(200)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = load(ModelConfig(str(tiny_model(folder / "tiny")), "cpu", "bfloat16"), folder, lambda _: None)
    assert model.native
    return model


class Counted:
    """Notes how many tokens of prompts an engine computes, chunk by chunk."""

    def __init__(self, engine):
        self.chunks: list[int] = []
        self.compute = engine.past.compute
        engine.past.compute = self

    def __call__(self, answers, prompts):
        self.chunks += [len(part) for _, part, _ in prompts]
        return self.compute(answers, prompts)


def ask(prompt, owner=OWN, id="r", tokens=40):
    return Request(id, prompt, owner, tokens, Sampling(temperature=0.8, top_p=0.95, seed=7))


def answer(engine, prompt, owner=OWN):
    return answers(engine, [ask(prompt, owner)])["r"]


@pytest.mark.parametrize("chunk", [1, 7, 31, 32, 33, 100])
@torch.inference_mode()
def test_a_prompt_in_chunks_of_any_length_has_the_same_bits(model, chunk):
    engine = engine_of(model)
    slot = engine.slots.pin(OWN)
    past = engine.past
    whole, parts = past.place(None, TEXT), past.place(None, TEXT)
    expected = past.compute([], [(whole, TEXT, slot)])
    for start in range(0, len(TEXT), chunk):
        logits = past.compute([], [(parts, TEXT[start : start + chunk], slot)])
    assert torch.equal(logits, expected)
    for one, other in zip(whole.pages, parts.pages, strict=True):
        assert one != other and torch.equal(past.cache[one], past.cache[other])


def test_the_next_turn_computes_only_what_is_new_and_answers_as_a_fresh_engine_does(model):
    engine = engine_of(model)
    computed = Counted(engine)
    prompt = TEXT[:100]
    for _ in range(4):
        said = answer(engine, prompt)
        assert said == answer(engine_of(model), prompt)
        prompt = prompt + said + TEXT[:11]
    # What a turn leaves: its prompt and its answer but for the last token, which was drawn and never computed.
    lengths, expected, known = [], [], 0
    length = 100
    fresh = engine_of(model)
    prompt = TEXT[:100]
    for _ in range(4):
        lengths.append(length)
        expected.append(length - known)
        said = answer(fresh, prompt)
        known = (length + len(said) - 1) // PAGE * PAGE
        prompt = prompt + said + TEXT[:11]
        length = len(prompt)
    assert computed.chunks == expected
    assert sum(computed.chunks) < sum(lengths) / 2, "most of it was remembered"


def test_the_same_question_again_computes_its_last_page_alone(model):
    engine = engine_of(model)
    computed = Counted(engine)
    first = answer(engine, TEXT)
    assert answer(engine, TEXT) == first
    assert computed.chunks == [200, 200 - 192]


def test_another_version_or_user_or_nobody_gets_nothing_of_it(model):
    engine = engine_of(model)
    computed = Counted(engine)
    said = {
        owner: answer(engine, TEXT, owner) for owner in (OWN, ("user1", 2), ("user2", 1), ("user1", 0), None)
    }
    assert computed.chunks == [200] * 5
    assert len({tuple(tokens) for tokens in said.values()}) == 4, "version 0 and nobody are the base model"
    for owner, tokens in said.items():
        assert tokens == answer(engine_of(model), TEXT, owner)


def test_an_answer_that_was_broken_off_is_remembered_as_far_as_it_was_computed(model):
    engine = engine_of(model)
    computed = Counted(engine)
    engine.add(ask(TEXT[:90]))
    for _ in range(10):
        engine.step()
    engine.cancel("r")
    assert answer(engine, TEXT) == answer(engine_of(model), TEXT)
    assert computed.chunks == [90, 200 - 64]


def test_forgetting_a_user_wipes_what_the_pages_hold(model):
    engine = engine_of(model)
    computed = Counted(engine)
    said = answer(engine, TEXT)
    other = answer(engine, TEXT, ("user2", 1))
    pages = [held.page for key, held in engine.past.pages.known.items() if key[0] == OWN]
    assert len(pages) == (200 + len(said) - 1) // PAGE
    assert all(engine.past.cache[page].any() for page in pages)
    slot = engine.slots.held[OWN] - 1
    assert engine.slots.stack[slot].any()
    engine.forget("user1")
    assert not any(engine.past.cache[page].any() for page in engine.past.pages.free)
    assert OWN not in engine.slots.held and not engine.slots.stack[slot].any()
    assert answer(engine, TEXT) == said and answer(engine, TEXT, ("user2", 1)) == other
    assert computed.chunks == [200, 200, 200, 8]


def test_a_pass_that_failed_is_not_remembered(model, monkeypatch):
    engine = engine_of(model)
    said = answer(engine, TEXT[:40])

    def fail(*_, **__):
        raise MemoryError

    for steps in (0, 3):  # in the prompt, in the answer
        engine.add(ask(TEXT[:104]))
        for _ in range(steps):
            engine.step()
        with monkeypatch.context() as patched:
            patched.setattr(model.native, "compute", fail)
            with pytest.raises(MemoryError):
                engine.step()
        engine.cancel("r")
        assert answer(engine, TEXT[:150]) == answer(engine_of(model), TEXT[:150])
    assert answer(engine, TEXT[:40]) == said
    assert not any(engine.past.pages.uses)


def test_one_users_nan_does_not_reach_the_next_user_of_the_page(model):
    def load_adapter(uid, version):
        return adapter_of(model, uid, version, size=float("nan") if uid == "broken" else 0.3)

    engine: Any = Engine(model, Slots(model, model.lora_shape(8, 16.0), load_adapter, 4), 2)
    engine.past.pages.most_idle = 0
    engine.add(ask(TEXT, ("broken", 1)))
    for _ in range(3):
        engine.step()
    broken = list(engine.running["r"].row.pages)
    assert sum(bool(engine.past.cache[page].isnan().any()) for page in broken) >= 6, (
        "or the test shows nothing"
    )
    engine.cancel("r")
    engine.past.pages.free = broken
    assert answer(engine, TEXT[:50]) == answer(engine_of(model), TEXT[:50])


def test_pages_run_short_and_every_answer_stays_the_same(model):
    """Turns of many conversations through one small cache, where old pasts go and pages change hands all the time."""
    draws = random.Random(5)
    engine, plain = engine_of(model, rows=4), engine_of(model, rows=4)
    plain.past.pages.most_idle = 0  # remembers nothing
    count = model.context // PAGE + 6
    for each in (engine, plain):
        each.cache_tokens = model.context
        each.past.pages.free = list(range(count))
        each.past.pages.uses = [0] * count
    engine.past.pages.most_idle = count
    prompts = {number: TEXT[number : number + 40] for number in range(6)}
    for turn in range(12):
        chosen = draws.sample(sorted(prompts), 3)
        requests = [
            ask(prompts[number], (f"user{number}", 1 + turn // 6), f"r{number}", 20) for number in chosen
        ]
        said = answers(engine, requests)
        assert said == answers(plain, requests)
        for number in chosen:
            prompts[number] = (prompts[number] + said[f"r{number}"] + TEXT[:9])[-250:]
    assert engine.past.pages.serial > 2 * count, "pages changed hands"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's account of memory")
def test_ten_thousand_requests_take_no_more_memory_than_two_thousand(model):
    engine = engine_of(model, slots=8, rows=16)
    draws = random.Random(11)
    made, finished = 0, 0
    after: dict[int, int] = {}
    while finished < 10_000:
        while made < 10_000 and len(engine.waiting) < 8:
            start, length = draws.randrange(40), draws.choice([3, 20, 40, 90, 150])
            owner = (f"user{draws.randrange(300)}", draws.randrange(3))
            engine.add(ask(TEXT[start : start + length], owner, f"r{made}", draws.randrange(1, 5)))
            made += 1
        finished += sum(token.finish is not None for token in engine.step())
        if engine.running and draws.random() < 0.02:
            engine.cancel(draws.choice(sorted(engine.running)))
            finished += 1
        if finished >= 2_000:
            after.setdefault(2_000, resident())
    assert resident() - after[2_000] < 8 << 20
    pages = engine.past.pages
    assert not engine.busy and not engine.slots.pins and not any(pages.uses)
    assert sorted([*pages.free, *pages.keys]) == list(range(len(pages.uses)))
    assert len(pages.known) <= pages.most_idle
    assert len(engine.slots.held) <= 8
