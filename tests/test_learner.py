"""What goes on learning: a kept state is taken up where it fits, and begins fresh where it does not."""

import logging

import pytest
import torch

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from adapters.policy import Sequences
from feedback.learner import Learner
from feedback.ppo import KLController, PPOConfig
from tests.tiny import tiny_model

SEQUENCES = [([1, 2, 3], [4, 5, 6])]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return load(ModelConfig(str(folder), "cpu", "float32"), folder, lambda _: None)


def learner(model, seen=5, rank=4):
    draw = torch.Generator().manual_seed(0)
    adapter = Adapter.fresh(model.lora_shape(rank, 16.0), draw)
    return Learner(model, adapter, seen, PPOConfig(), KLController(0.03, 12.0, 128.0), draw)


def step(learner):
    """One that moves policy and critic."""
    scores = learner.policy.score(Sequences.of(SEQUENCES, learner.policy.model.device))
    seen = torch.ones(1, 3, learner.critic.inner.in_features)
    (scores.logprobs.sum() + learner.critic(seen).sum()).backward()
    learner.optimiser.step()


def kept(learner):
    learner.kl.coef = 0.5
    step(learner)
    return {name: tensor.clone() for name, tensor in learner.tensors().items()}, learner.meta()


def test_a_kept_state_is_taken_up(model):
    tensors, meta = kept(learner(model))
    after = learner(model)
    after.resume((tensors, meta))
    assert after.kl.coef == 0.5
    assert after.tensors().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in after.tensors().items())


def test_a_critic_of_another_shape_begins_fresh_and_the_policys_moments_go_on(model, caplog):
    tensors, meta = kept(learner(model, seen=5))
    after = learner(model, seen=6)
    with caplog.at_level(logging.WARNING):
        after.resume((tensors, meta))
    assert "the critic begins fresh" in caplog.text
    assert not after.critic.outer.weight.any()
    count = len(after.policy.parameters())
    moments = {name for name in after.tensors() if name.startswith("optimiser.")}
    assert moments == {f"optimiser.{i}.{n}" for i in range(count) for n in ("step", "exp_avg", "exp_avg_sq")}
    assert torch.equal(after.tensors()["optimiser.0.exp_avg"], tensors["optimiser.0.exp_avg"])
    step(after)


def test_moments_of_other_shapes_begin_fresh(model, caplog):
    tensors, meta = kept(learner(model, rank=2))
    after = learner(model, rank=4)
    with caplog.at_level(logging.WARNING):
        after.resume((tensors, meta))
    assert "the optimiser begins fresh" in caplog.text
    assert torch.equal(after.tensors()["critic.outer.weight"], tensors["critic.outer.weight"])
    assert not any(name.startswith("optimiser.") for name in after.tensors())
    step(after)
