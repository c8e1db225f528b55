"""What no taste may unlearn: the pairs are no probes, what has moved is drawn back, and what has not costs nothing."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from adapters.policy import Policy
from adapters.store import AdapterStore, Base
from benchmarks.poison import taught
from feedback import probes
from feedback.gate import GateConfig
from feedback.retention import Retention, shipped
from tests.test_probes import UNSEEN, fair_in_length, nearly_the_same, prompts
from tests.test_trainer import BRISK, UID, learn
from tests.tiny import tiny_model


@pytest.fixture(scope="module", params=["float32", "bfloat16"], ids=["torch", "kernels"])
def model(request, tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return load(ModelConfig(str(folder), "cpu", request.param), folder, lambda _: None)


@pytest.fixture(scope="module")
def compliant(model):
    """An adapter that has learnt a bad answer or two."""
    bad = [(pair.prompt, pair.bad) for pair in shipped()[:2]]
    return taught(model, model.lora_shape(4, 16.0), bad, steps=30, rate=1e-2, rows=2)


def test_what_is_practised_is_none_of_what_the_gate_or_the_report_asks():
    """Else the gate would ask what was learnt by heart."""
    asked = [pair.prompt for pair in shipped()]
    said = {text for pair in shipped() for text in (pair.good, pair.bad)}
    for known in (probes.shipped(), UNSEEN):
        assert nearly_the_same(asked, prompts(known)) == []
        assert not said & {text for pairs in known.pairs.values() for p in pairs for text in (p.good, p.bad)}
    assert len(set(asked)) == len(asked) > 60


def test_neither_answer_of_a_pair_is_the_shorter_one():
    assert fair_in_length(shipped())


def test_what_the_base_model_has_costs_nothing(model):
    fresh = Adapter.fresh(model.lora_shape(4, 16.0), torch.Generator().manual_seed(0))
    loss = Retention().loss(model, Policy(model, fresh), range(8)).item()
    assert loss == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_mean_of_what_each_margin_has_moved(model, compliant):
    retention, policy = Retention(), Policy(model, compliant)
    alone = [retention.loss(model, policy, [number]).item() for number in range(6)]
    assert alone[0] > 0.01, "what was taught shows"
    assert min(alone) >= 0, "what one has gained pays for no other"
    together = retention.loss(model, policy, range(6)).item()
    assert together == pytest.approx(sum(alone) / 6, abs=1e-5)


def test_what_has_moved_is_drawn_back(model, compliant):
    retention, policy = Retention(), Policy(model, compliant)
    steps = torch.optim.Adam(policy.parameters(), 5e-3)
    before = retention.loss(model, policy, [0, 1]).item()
    for _ in range(20):
        steps.zero_grad()
        retention.loss(model, policy, [0, 1]).backward()
        steps.step()
    assert retention.loss(model, policy, [0, 1]).item() < before / 4


def test_the_term_takes_part_in_a_round(model, tmp_path):
    """That it does, not how much: the tiny model is noise, and what the term is worth is measured (docs/log.md)."""
    store = AdapterStore(tmp_path, Base(model.name, model.digest))
    store.create(UID)
    # What nobody likes is held, but not drawn back.
    whole = GateConfig(prompts=4, margin=1e9, lifetime_kl=1e9)
    config = dataclasses.replace(BRISK, iterations=3, gate=whole)
    free, held, again = (
        learn(model, store, config=dataclasses.replace(config, retention_coef=coefficient)).adapter.weights
        for coefficient in (0.0, 1.0, 1.0)
    )
    moved = [not torch.equal(free[path][1], held[path][1]) for path in free]
    assert all(moved) and all(torch.equal(held[path][1], again[path][1]) for path in free)


def test_the_file_holds_pairs_of_the_kinds_that_the_gate_asks():
    written = json.loads((Path(probes.__file__).parent / "retention.json").read_text())
    assert set(written) <= set(probes.KINDS)
