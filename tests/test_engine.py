"""The engine on the tiny model: mixed rows equal lone rows, and PEFT; slots; joining, leaving, ending."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from adapters.adapter import Adapter, BadAdapter
from adapters.engine import Engine, PromptTooLong, Request
from adapters.errors import UnknownVersion
from adapters.model import ModelConfig, load
from adapters.paged import Paged
from adapters.policy import Sequences, score_base
from adapters.sampling import Sampling
from adapters.shelved import CHUNK
from adapters.slots import NoFreeSlot, Slots
from tests.engines import adapter_of, answers, engine_of, request
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=["kernels", "bfloat16", "float32"])
def model(request, folder, tmp_path):
    """On the compiled kernels, and on the general path in both of its dtypes."""
    dtype = "float32" if request.param == "float32" else "bfloat16"
    model = load(ModelConfig(str(folder), device="cpu", dtype=dtype), tmp_path, lambda _: None)
    assert (model.native is None) == (dtype == "float32")
    if request.param != "kernels":
        model.native = None
    return model


def test_an_answer_is_the_same_whatever_shares_the_batch(model):
    full = answers(engine_of(model), [request(model, n) for n in range(32)])
    assert len({tuple(tokens) for tokens in full.values()}) == 32, (
        "32 different answers, or the test shows nothing"
    )
    for group in ([0], [4], [2], [31], [1, 2], [4, 9], range(31), range(5, 20)):
        alone = answers(engine_of(model), [request(model, n) for n in group])
        assert alone == {name: full[name] for name in alone}


def test_an_answer_is_the_same_when_others_join_and_leave_at_any_token(model):
    full = answers(engine_of(model), [request(model, n) for n in range(12)])
    staggered = answers(engine_of(model, rows=5), [request(model, n) for n in range(12)], join_every=3)
    assert staggered == full


def test_an_answer_is_the_same_from_a_cached_and_from_a_fresh_slot(model):
    loads = []
    engine = engine_of(model, slots=4, rows=4, loads=loads)
    fresh = answers(engine, [request(model, n) for n in range(4)])
    assert answers(engine, [request(model, n) for n in range(4)]) == fresh
    assert len(loads) == 4, "the second time all four are in their slots"
    answers(engine, [request(model, n) for n in range(5, 9)])  # drives them out
    assert answers(engine, [request(model, n) for n in range(4)]) == fresh


def test_a_slot_given_to_another_user_forgets_the_one_before(model):
    engine = engine_of(model, slots=1)
    mine = answers(engine, [request(model, 1, owner=("user1", 1))])
    theirs = answers(engine, [request(model, 1, owner=("user2", 1))])
    assert mine != theirs
    assert theirs == answers(engine_of(model), [request(model, 1, owner=("user2", 1))])


def test_versions_of_one_user_run_side_by_side(model):
    one, two = request(model, 1, owner=("user1", 1)), request(model, 6, owner=("user1", 2))
    two = dataclasses.replace(two, prompt=one.prompt, sampling=one.sampling)
    both = answers(engine_of(model), [one, two])
    assert both[one.id] != both[two.id]
    assert both[one.id] == answers(engine_of(model), [one])[one.id]


# The largest difference of any logit; they reach 7. float32: rounding alone. bfloat16 keeps 8 bits, so that numbers
# from 4 to 8 are 0.03 apart, and another order of sums rounds another way in every layer: 0.03 in the mean, 0.3 at
# most was seen.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.4}


@torch.inference_mode()
def logits_of(engine, prompt, owners):
    """Logits (B, T, V) of the prompt's second half, decoded token by token in one batch, a row an owner."""
    half = len(prompt) // 2
    rows = [engine.past.place(None, prompt) for _ in owners]
    slots = [engine.slots.pin(owner) for owner in owners]
    for row, slot in zip(rows, slots, strict=True):
        engine.past.compute([], [(row, prompt[:half], slot)])
    steps = []
    for token in prompt[half:]:
        parts = [(row, [token], slot) for row, slot in zip(rows, slots, strict=True)]
        steps.append(engine.past.compute(parts, []).clone())
    for row, owner in zip(rows, owners, strict=True):
        engine.past.remove(row)
        engine.slots.unpin(owner)
    return torch.stack(steps, dim=1)


# peft asks transformers for a name that is about to go
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_mixed_logits_equal_each_row_alone_and_peft_on_the_same_files(model, folder, tmp_path):
    prompt = model.encode([{"role": "user", "content": "What is a fork?"}])
    engine = engine_of(model)
    owners = [None, ("user1", 1), ("user2", 1), ("user1", 2), None, ("user2", 1)]
    mixed = logits_of(engine, prompt, owners)
    tolerance = TOLERANCE[model.head.weight.dtype]
    for row, owner in enumerate(owners):
        alone = logits_of(engine, prompt, [owner])[0]
        if model.native:
            assert torch.equal(mixed[row], alone)
        assert (mixed[row] - alone).abs().max() <= tolerance
        peft = peft_logits(folder, tmp_path / f"row{row}", model, owner, torch.tensor([prompt]))
        assert (mixed[row] - peft[len(prompt) // 2 :]).abs().max() <= tolerance
    assert (mixed[0] - mixed[1]).abs().max() > 10 * tolerance, (
        "the adapters matter, or the test shows nothing"
    )


def peft_logits(folder, target, model, owner, ids):
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=model.head.weight.dtype)
    if owner is not None:
        target.mkdir()
        config, tensors = adapter_of(model, *owner).to_peft(str(folder))
        (target / "adapter_config.json").write_text(json.dumps(config))
        save_file(tensors, target / "adapter_model.safetensors")
        network = PeftModel.from_pretrained(network, target, autocast_adapter_dtype=False)
    return network(ids).logits[0].float()


def test_decoding_token_by_token_equals_the_whole_sequence_at_once(model):
    """The cache, the shelves and the chunks against one plain forward pass; long enough to cross a shelf."""
    prompt = model.encode([{"role": "user", "content": "All work and no play. " * 13}])
    assert CHUNK < len(prompt) < 384
    engine = engine_of(model)
    engine.add(Request("r", prompt, None, 100, Sampling(seed=3)))
    tokens = []
    while engine.busy:
        tokens += engine.step()
    ids = [token.id for token in tokens]
    assert len(ids) > 20
    whole = score_base(model, Sequences.of([(prompt, ids)], model.device)).logprobs[0]
    gap = (torch.tensor([token.logprob for token in tokens]) - whole).abs()
    assert gap.max() <= TOLERANCE[model.head.weight.dtype]


def test_an_unknown_version_is_an_error_of_its_own_request_only(model):
    engine = engine_of(model)
    engine.add(request(model, 0, owner=("user0", 99)))
    engine.add(request(model, 1))
    out = []
    while engine.busy:
        out += engine.step()
    failed = [token for token in out if token.finish == "error"]
    assert [token.request for token in failed] == ["r0"]
    assert isinstance(failed[0].error, UnknownVersion)
    assert any(token.request == "r1" and token.finish in ("stop", "length") for token in out)


def test_pinned_slots_stay_and_the_least_recently_used_leaves(model):
    loads = []
    slots = engine_of(model, slots=2, loads=loads).slots
    a, b = slots.pin(("a", 1)), slots.pin(("b", 1))
    with pytest.raises(NoFreeSlot):
        slots.pin(("c", 1))
    slots.unpin(("a", 1))
    slots.unpin(("b", 1))
    assert slots.pin(("a", 1)) == a  # used again: b is now the oldest
    assert slots.pin(("c", 1)) == b
    assert loads == [("a", 1), ("b", 1), ("c", 1)]


def test_more_adapters_than_slots_wait_their_turn(model):
    requests = [request(model, n, owner=(f"user{n}", 1)) for n in range(6)]
    assert answers(engine_of(model, slots=2), requests) == answers(engine_of(model), requests)


def test_a_cancelled_request_frees_its_row_and_slot_at_once(model):
    engine = engine_of(model, slots=1, rows=1)
    engine.add(request(model, 1))
    engine.add(request(model, 2))
    engine.step()
    assert [*engine.running] == ["r1"]
    engine.cancel("r1")
    assert not engine.running and not engine.slots.pins
    engine.step()
    assert [*engine.running] == ["r2"]
    engine.cancel("r2")
    assert not engine.busy
    engine.cancel("r2")  # gone already: nothing to do


def test_a_request_that_memory_is_short_for_leaves_nothing_behind(model, monkeypatch):
    engine = engine_of(model, slots=1, rows=2)
    engine.add(request(model, 1))
    with monkeypatch.context() as patch:
        patch.setattr("adapters.engine.torch.zeros", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            engine.step()
    assert not engine.slots.pins
    engine.cancel("r1")
    assert not engine.busy
    assert answers(engine, [request(model, 2)]) == answers(engine_of(model), [request(model, 2)])


def test_a_slot_that_could_not_be_written_is_free_again(model, monkeypatch):
    slots = engine_of(model, slots=2).slots
    slots.put(("mine", -1), adapter_of(model, "mine", 1))
    with monkeypatch.context() as patch:
        part = next(iter(model.layers.values())) if model.native is None else model.native
        patch.setattr(part, "put" if model.native is None else "pack", no_memory)
        for _ in range(3):
            with pytest.raises(torch.OutOfMemoryError):
                slots.pin(("a", 1))
        with pytest.raises(torch.OutOfMemoryError):
            slots.put(("mine", -1), adapter_of(model, "mine", 2))
    assert not slots.held and not slots.pins and sorted(slots.free) == [1, 2]
    assert {slots.pin(("a", 1)), slots.pin(("b", 1))} == {1, 2}


def no_memory(*_, **__):
    raise torch.OutOfMemoryError("no memory")


def test_answers_end_at_the_limit_and_at_the_context(model):
    engine = engine_of(model)
    out = answers(engine, [dataclasses.replace(request(model, 0), max_tokens=1)])
    assert len(out["r0"]) == 1
    prompt = [5] * (model.context - 3)
    out = answers(engine, [Request("long", prompt, None, 100, Sampling(seed=1))])
    assert len(out["long"]) <= 3
    with pytest.raises(PromptTooLong, match=str(model.context)):
        engine.add(Request("longer", [5] * model.context, None, 1, Sampling()))


def test_a_finished_engine_holds_nothing(model):
    engine = engine_of(model)
    answers(engine, [request(model, n) for n in range(8)])
    assert not engine.seen and not engine.running and not engine.slots.pins
    if isinstance(engine.past, Paged):
        pages = engine.past.pages
        assert not any(pages.uses)
        assert sorted([*pages.free, *pages.keys]) == list(range(len(pages.uses))), "free, or remembered"
    else:
        assert not engine.past.cache.shelves, "memory is given back, and nobody's past outlives the answer"


def test_rows_share_the_cache_and_a_longer_one_runs_alone(model):
    requests = [request(model, n) for n in range(6)]
    need = max(len(r.prompt) + r.max_tokens for r in requests)
    engine = engine_of(model)
    engine.cache_tokens = 2 * need
    most = 0
    for r in requests:
        engine.add(r)
    out = {r.id: [] for r in requests}
    while engine.busy:
        for token in engine.step():
            out[token.request].append(token.id)
        most = max(
            most, sum(len(run.request.prompt) + run.request.max_tokens for run in engine.running.values())
        )
    assert need < most <= 2 * need
    assert out == answers(engine_of(model), requests)
    engine.cache_tokens = 1
    assert answers(engine, requests[:2]) == {r.id: out[r.id] for r in requests[:2]}


def test_an_adapter_of_another_shape_is_refused_and_costs_no_slot(model):
    def other(uid, version):
        shape = model.lora_shape(rank=4, alpha=16.0)
        return Adapter.fresh(shape, torch.Generator())

    slots = Slots(model, model.lora_shape(8, 16.0), other, 2)
    for _ in range(3):
        with pytest.raises(BadAdapter, match="THUMBTUNE_RANK"):
            slots.pin(("a", 1))
    assert len(slots.free) == 2


@pytest.mark.slow
def test_the_embedded_models_answers_are_the_same_whatever_shares_the_batch(tmp_path):
    """In the dtype and with the threads that this machine serves with."""
    model = load(ModelConfig(device="cpu"), tmp_path, lambda _: None)
    small = [dataclasses.replace(request(model, n), max_tokens=10) for n in range(32)]

    def strong(uid, version):
        return adapter_of(model, uid, version, size=0.01)

    def engine():
        return Engine(model, Slots(model, model.lora_shape(8, 16.0), strong, 40), 32)

    full = answers(engine(), small)
    for group in ([31], [4], [1, 2], range(31)):
        alone = answers(engine(), [small[n] for n in group])
        assert alone == {name: full[name] for name in alone}
