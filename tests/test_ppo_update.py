"""The update on a policy small enough to see through, the critic's own fit, and what is refused."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn, tensor

from feedback import ppo

NAN = math.nan


class Bandit(nn.Module):
    """One state, three actions, one token a row: a policy that can be read off."""

    def __init__(self, actions: list[int]) -> None:
        super().__init__()
        self.actions = tensor(actions)
        self.logits, self.value = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(()))

    def evaluate(self, rows: Tensor) -> ppo.Evaluation:
        logprobs = self.logits.log_softmax(0)
        entropy = -(logprobs.exp() * logprobs).sum().expand(len(rows), 1)
        return ppo.Evaluation(
            logprobs[self.actions[rows], None], entropy, self.value * torch.ones(len(rows), 1)
        )

    def update(
        self, rewards: list[float], also: Sequence[Callable[[], Tensor]] = (), **settings: float
    ) -> dict[str, float]:
        """One update after one action a row, each rewarded; by plain descent, which shows a gradient's size."""
        config = ppo.PPOConfig(**{"minibatch_rows": 2, "learning_rate": 0.5, **settings})  # type: ignore[arg-type]
        with torch.no_grad():
            old = self.evaluate(torch.arange(len(self.actions)))
        mask = torch.ones(len(self.actions), 1).bool()
        better, returns = ppo.advantages(
            tensor(rewards)[:, None], old.values, mask, gamma=1, lam=1, bootstrap=torch.zeros(len(rewards))
        )
        batch = ppo.Batch(old.logprobs, old.values, better, returns, mask)
        optimiser = torch.optim.SGD(
            [{"params": [self.logits]}, {"params": [self.value]}], config.learning_rate
        )
        draw = torch.Generator().manual_seed(0)
        return ppo.update(self.evaluate, batch, optimiser, config, draw, also)

    def chances(self) -> list[float]:
        return self.logits.softmax(0).tolist()


def test_what_was_rewarded_becomes_likelier():
    bandit = Bandit([0, 1, 2, 0])
    metrics = bandit.update([1, -1, -1, 1], target_kl=1)
    first, second, third = bandit.chances()
    assert first > 1 / 3 > max(second, third)
    assert metrics["first_ratio_error"] == 0
    assert metrics["steps"] == 8  # 4 rows in minibatches of 2, 4 times over
    assert metrics["advantage_std"] == 1
    assert metrics["approx_kl"] > 0
    assert set(metrics) == {
        "policy_loss", "value_loss", "entropy", "approx_kl", "clipfrac", "explained_variance", "grad_norm",
        "advantage_std", "steps", "first_ratio_error",
    }  # fmt: skip


def test_first_ratio_error_tells_of_log_probabilities_that_are_not_the_policys():
    bandit, config = Bandit([0, 1]), ppo.PPOConfig(target_kl=1)
    zeros, mask = torch.zeros(2, 1), torch.ones(2, 1).bool()
    stale = ppo.Batch(torch.full((2, 1), math.log(1 / 2)), zeros, zeros, zeros, mask)
    optimiser = ppo.optimiser([bandit.logits], [bandit.value], config)
    metrics = ppo.update(bandit.evaluate, stale, optimiser, config, torch.Generator())
    assert metrics["first_ratio_error"] == pytest.approx(1 / 3)  # |(1/3) / (1/2) - 1|


@pytest.mark.parametrize("rewards", [[1.0], [1.0, 1.0]], ids=["a single row", "equal rewards"])
def test_nothing_to_compare_with_still_teaches(rewards):
    good, bad = Bandit([0] * len(rewards)), Bandit([0] * len(rewards))
    good.update(rewards)
    bad.update([-reward for reward in rewards])
    assert good.chances()[0] > 1 / 3 > bad.chances()[0]
    assert good.value > 0 > bad.value


def test_no_advantage_moves_nothing():
    bandit = Bandit([0, 1])
    bandit.update([0, 0])
    assert bandit.chances() == pytest.approx([1 / 3] * 3)


def test_the_update_stops_before_it_goes_too_far():
    free, held = Bandit([0, 1, 2, 0]), Bandit([0, 1, 2, 0])
    assert free.update([1, -1, -1, 1], target_kl=10)["steps"] == 8
    assert (
        held.update([1, -1, -1, 1], target_kl=1e-4)["steps"] == 1
    )  # seen to be too far at the second minibatch
    assert 1 / 3 < held.chances()[0] < free.chances()[0]


def test_the_entropy_coefficient_reaches_the_loss():
    bandit = Bandit([0, 1])
    bandit.logits.data = tensor([2.0, 0.0, 0.0])
    before = max(bandit.chances())
    bandit.update([0, 0], entropy_coef=0.1, target_kl=1)
    assert max(bandit.chances()) < before


def test_another_loss_of_the_policy_is_made_smaller_in_the_same_steps():
    """No advantage: all that moves is -log p of the third action, by its gradient (1/3, 1/3, -2/3) at rate 1/2."""
    bandit = Bandit([0, 1])
    norm = bandit.update([0, 0], also=[lambda: -bandit.logits.log_softmax(0)[2]], epochs=1)["grad_norm"]
    assert norm == pytest.approx(math.sqrt(6 / 9))
    assert bandit.logits.tolist() == pytest.approx([-1 / 6, -1 / 6, 1 / 3])


def test_several_other_losses_add_up_and_one_of_nothing_is_left_out():
    bandit = Bandit([0, 1])

    def half() -> Tensor:
        return -bandit.logits.log_softmax(0)[2] / 2

    bandit.update([0, 0], also=[half, lambda: 0 * bandit.logits.sum(), half], epochs=1)
    assert bandit.logits.tolist() == pytest.approx([-1 / 6, -1 / 6, 1 / 3])


def test_another_loss_does_not_go_past_the_target_either():
    held = Bandit([0, 1])
    metrics = held.update([0, 0], also=[lambda: -held.logits.log_softmax(0)[2]], epochs=50, target_kl=1e-3)
    assert metrics["steps"] == 1


def test_the_unit_of_the_reward_does_not_matter():
    small, large = Bandit([0, 1]), Bandit([0, 1])
    small.update([1, -1], target_kl=1)
    large.update([1000, -1000], target_kl=1)
    assert small.chances() == pytest.approx(large.chances())
    assert small.chances()[0] > 1 / 3


def test_a_critic_far_off_does_not_slow_the_policy():
    # Off by 1,000 for every row, it shifts the advantages, which whitening takes back, and has a huge gradient.
    near, far = Bandit([0, 1]), Bandit([0, 1])
    far.value.data.fill_(1000)
    for bandit in (near, far):
        bandit.update([1, -1], epochs=1)
    assert near.chances() == pytest.approx(far.chances(), abs=1e-5)
    assert near.chances()[0] > 1 / 3


def test_a_gradient_is_clipped():
    free, held = Bandit([0, 1]), Bandit([0, 1])
    norm = free.update([1, -1], epochs=1)["grad_norm"]
    assert held.update([1, -1], epochs=1, max_grad_norm=norm / 10)["grad_norm"] == pytest.approx(norm)
    # At uniform chances, A = 1 and -1: d loss / d logits = (-1/2, 1/2, 0), of norm sqrt(1/2).
    assert norm == pytest.approx(math.sqrt(1 / 2))
    assert (free.logits / held.logits)[:2].tolist() == pytest.approx([10, 10], rel=1e-3)


def test_a_gradient_that_is_not_finite_changes_nothing():
    bandit = Bandit([0, 1])
    bandit.value.register_hook(lambda gradient: gradient * NAN)
    with pytest.raises(ppo.Diverged):
        bandit.update([1, -1])
    assert bandit.chances() == pytest.approx([1 / 3] * 3)
    assert bandit.value == 0


def test_the_same_generator_draws_the_same_update():
    one, two = Bandit([0, 1, 2, 0, 1]), Bandit([0, 1, 2, 0, 1])
    assert one.update([1, -1, 0, 2, 0]) == two.update([1, -1, 0, 2, 0])
    assert torch.equal(one.logits, two.logits)


def test_the_critic_is_fitted_alone():
    policy, critic = nn.Linear(2, 1), nn.Linear(2, 1)
    inputs = torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(0))
    returns = inputs @ tensor([1.0, -2.0]) + 0.5
    returns[0, 2] = NAN
    mask = torch.ones(64, 3).bool()
    mask[0, 2] = False
    config = ppo.PPOConfig(critic_learning_rate=0.05)
    optimiser = ppo.optimiser(policy.parameters(), critic.parameters(), config)
    policy(inputs).sum().backward()  # a gradient left lying about must not be stepped on
    before = [parameter.clone() for parameter in policy.parameters()]

    def values(rows: Tensor) -> Tensor:
        return critic(inputs[rows]).squeeze(-1)

    explained = ppo.fit_critic(
        values, returns, mask, optimiser, config, torch.Generator().manual_seed(0), epochs=30
    )
    assert explained > 0.99
    assert all(map(torch.equal, before, policy.parameters()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("clip", 0), ("lam", 1.1), ("gamma", -0.1), ("epochs", 0), ("entropy_coef", -1), ("target_kl", NAN),
     ("advantage_std_floor", 0)],
)  # fmt: skip
def test_a_setting_outside_its_range_is_refused(name, value):
    with pytest.raises(ppo.BadInput, match=name):
        ppo.PPOConfig(**{name: value})


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"values": torch.zeros(2, 4)}, "values"),
        ({"returns": torch.full((2, 3), NAN)}, "returns"),
        ({"logprobs": torch.zeros(2, 3, requires_grad=True)}, "logprobs"),
        ({"mask": torch.ones(2, 3)}, "mask"),
        ({"mask": torch.zeros(2, 3).bool()}, "mask"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(wrong, what):
    names = ("logprobs", "values", "advantages", "returns")
    fitting = {name: torch.zeros(2, 3) for name in names} | {"mask": torch.ones(2, 3).bool()}
    ppo.Batch(**fitting)
    with pytest.raises(ppo.BadInput, match=what):
        ppo.Batch(**(fitting | wrong))
