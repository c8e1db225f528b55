"""What goes on learning: a kept state is taken up where it fits, and begins fresh where it does not."""

import logging

import pytest
import torch

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from adapters.policy import Sequences, score_base
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


def test_the_less_doubt_the_less_a_nat_costs(model):
    sure = learner(model)
    assert sure.price == 0.03
    sure.trust(0.1, 27.0)
    assert sure.price == pytest.approx(0.003)
    assert sure.kl.update(20.0, 128) < 0.03, "20 nats are less than 27"
    assert sure.meta() == {"kl": {"coef": sure.kl.coef}}, "the doubt is each round's own"


def test_a_kept_state_stays_as_it_is_however_often_it_is_taken_up(model):
    """An update that is taken back twice is the second time still the state from before the first."""
    tensors, meta = kept(learner(model))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    after = learner(model)
    for _ in range(2):
        after.resume((tensors, meta))
        assert all(torch.equal(tensor, before[name]) for name, tensor in after.tensors().items())
        step(after)
    assert not torch.equal(after.tensors()["optimiser.1.exp_avg"], before["optimiser.1.exp_avg"]), "it moved"
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def test_a_step_back_is_to_the_base_model_and_without_the_push_away_from_it(model):
    back = learner(model)
    for _ in range(2):  # a B of nothing gives A no gradient
        step(back)
    sequences = Sequences.of(SEQUENCES, back.policy.model.device)
    base = score_base(back.policy.model, sequences).logprobs
    assert not torch.equal(back.policy.score(sequences).logprobs, base)
    before = back.tensors()
    back.step_back(1)
    assert torch.equal(back.policy.score(sequences).logprobs.detach(), base)
    of_critic = {name for name in before if name.startswith("critic")}
    factors = len(back.policy.parameters())
    of_critic |= {
        f"optimiser.{factors + n}.{field}" for n in range(4) for field in ("exp_avg", "exp_avg_sq", "step")
    }
    assert back.tensors().keys() == of_critic
    assert all(torch.equal(tensor, before[name]) for name, tensor in back.tensors().items())


def test_half_way_back_lies_between(model):
    far = learner(model)
    for _ in range(2):
        step(far)
    there = far.policy.adapter()
    far.step_back(0.5)
    for (_, b), (_, half) in zip(there.weights.values(), far.policy.adapter().weights.values(), strict=True):
        assert torch.allclose(half, b / 2) and half.any()


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
