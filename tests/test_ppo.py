"""The maths of PPO against numbers worked out by hand, and the fast against the plain."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, tensor

from feedback import ppo

NAN = math.nan


def close(actual: Tensor, expected: Sequence[Sequence[float]] | Sequence[float]) -> bool:
    return torch.allclose(actual, tensor(expected, dtype=actual.dtype), atol=1e-6)


# --- advantages ---


def test_gae_by_hand():
    # gamma 0.5, lam 0.5, so each step back carries 0.25 of the advantage after it.
    # Row 1 ended.     d3 = 1 - 0.5 = 0.5                    A3 = 0.5
    #                  d2 = 0 + 0.5 * 0.5 - 0.5 = -0.25      A2 = -0.25 + 0.25 * 0.5 = -0.125
    #                  d1 = 0 + 0.5 * 0.5 - 0.5 = -0.25      A1 = -0.25 + 0.25 * -0.125 = -0.28125
    # Row 2 was cut off after two tokens in a state worth 0.8.
    #                  d2 = 0 + 0.5 * 0.8 - 0.5 = -0.1       A2 = -0.1
    #                  d1 = 1 + 0.5 * 0.5 - 0.25 = 1         A1 = 1 + 0.25 * -0.1 = 0.975
    # Returns are A + V.
    rewards = tensor([[0, 0, 1], [1, 0, NAN]])
    values = tensor([[0.5, 0.5, 0.5], [0.25, 0.5, NAN]])
    mask = tensor([[True, True, True], [True, True, False]])
    found, returns = ppo.advantages(rewards, values, mask, gamma=0.5, lam=0.5, bootstrap=tensor([0.0, 0.8]))
    assert close(found, [[-0.28125, -0.125, 0.5], [0.975, -0.1, 0]])
    assert close(returns, [[0.21875, 0.375, 1], [1.225, 0.4, 0]])


def plain_gae(
    rewards: list[float], values: list[float], gamma: float, lam: float, last: float
) -> list[float]:
    """Eq. 16 of Schulman 2016 as it stands: the sum of (gamma lam)^l delta_{t+l}, one row, no mask."""
    after = [*values[1:], last]
    deltas = [r + gamma * w - v for r, v, w in zip(rewards, values, after, strict=True)]
    return [
        sum((gamma * lam) ** (later - now) * deltas[later] for later in range(now, len(deltas)))
        for now in range(len(deltas))
    ]


def test_gae_agrees_with_the_plain_sum_for_rows_of_any_length_and_place():
    draw = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 20, 12, generator=draw, dtype=torch.float64)
    last = torch.randn(20, generator=draw, dtype=torch.float64)
    begin = torch.randint(0, 6, (20,), generator=draw)
    end = torch.randint(6, 13, (20,), generator=draw)
    places = torch.arange(12)
    mask = (places >= begin[:, None]) & (places < end[:, None])
    found, returns = ppo.advantages(rewards, values, mask, gamma=0.9, lam=0.7, bootstrap=last)
    for row in range(20):
        acted = mask[row]
        plain = plain_gae(
            rewards[row][acted].tolist(), values[row][acted].tolist(), 0.9, 0.7, float(last[row])
        )
        assert torch.allclose(found[row][acted], tensor(plain, dtype=torch.float64))
        assert not found[row][~acted].any() and not returns[row][~acted].any()


def test_with_lambda_1_the_returns_are_the_rewards_to_come_whatever_the_critic_says():
    rewards, values, mask = tensor([[1.0, 2.0, 4.0]]), tensor([[9.0, -3.0, 0.5]]), torch.ones(1, 3).bool()
    _, returns = ppo.advantages(rewards, values, mask, gamma=1, lam=1, bootstrap=torch.zeros(1))
    assert close(returns, [[7, 6, 4]])


# --- whitening ---


def test_whitening_by_hand():
    # Mean (1 + 3) / 2 = 2, deviation 1, well above the floor: (1 - 2) / 1 and (3 - 2) / 1.
    found, std = ppo.whiten(tensor([[1.0, NAN], [3.0, NAN]]), tensor([[True, False]] * 2), floor=0.1)
    assert std == pytest.approx(1)
    assert close(found, [[-1, 0], [1, 0]])


def test_noise_is_not_whitened_into_signal():
    # Mean 0.02, deviation 0.01, a tenth of the floor, so believed by a tenth.
    # Whitened: (0.01 - 0.02) / 0.1 = -0.1 and 0.1. Mixed: 0.1 * -0.1 + 0.9 * 0.01 = -0.001; 0.01 + 0.027 = 0.037.
    found, std = ppo.whiten(tensor([[0.01], [0.03]]), torch.ones(2, 1).bool(), floor=0.1)
    assert std == pytest.approx(0.01)
    assert close(found, [[-0.001], [0.037]])


def test_equal_advantages_stay_what_they_are():
    found, std = ppo.whiten(torch.full((4, 2), 0.75), torch.ones(4, 2).bool(), floor=0.1)
    assert std == 0
    assert close(found, [[0.75, 0.75]] * 4)


def test_a_single_row_keeps_its_advantage_over_the_critic():
    found, std = ppo.whiten(tensor([[1.0, 0.5]]), torch.ones(1, 2).bool(), floor=0.1)
    assert std == pytest.approx(0.25)
    assert close(found, [[1, 0.5]])


# --- losses ---


def test_clipped_loss_by_hand():
    # ratio  A    ratio * A  clipped to 0.8..1.2   the smaller   ratio - 1 - ln ratio
    # 1.5    2     3          2.4                   2.4           0.5 - 0.405465 = 0.094535
    # 0.5   -1    -0.5       -0.8                  -0.8          -0.5 + 0.693147 = 0.193147
    # 1.1   -1    -1.1       -1.1                  -1.1           0.1 - 0.095310 = 0.004690
    # Loss -(2.4 - 0.8 - 1.1) / 3 = -1/6; KL 0.292372 / 3 = 0.097457; two of three outside 0.8..1.2.
    old = tensor([[-1.0, -2.0], [-0.5, NAN]])
    new = (old + tensor([[1.5, 0.5], [1.1, NAN]]).log()).requires_grad_()
    better, mask = tensor([[2.0, -1.0], [-1.0, NAN]]), tensor([[True, True], [True, False]])
    loss, metrics = ppo.policy_loss(new, old, better, mask, clip=0.2)
    assert loss.item() == pytest.approx(-1 / 6, abs=1e-6)
    assert metrics == pytest.approx({"approx_kl": 0.097457, "clipfrac": 2 / 3, "ratio_error": 0.5}, abs=1e-6)
    # Only the third is inside the clip: d loss / d logp = -A * ratio / 3 = 1.1 / 3.
    (gradient,) = torch.autograd.grad(loss, new)
    assert close(gradient, [[0.0, 0.0], [1.1 / 3, 0]])


def test_clipped_value_loss_by_hand():
    # old 0, new 0.5, return 1: (0.5 - 1)^2 = 0.25, held at 0.2 (0.2 - 1)^2 = 0.64: 0.64.
    # old 0, new -0.1, return 0: 0.01 either way. Half the mean: (0.64 + 0.01) / 4 = 0.1625.
    mask = tensor([[True, True, False]])
    new, old, returns = tensor([[0.5, -0.1, NAN]]), tensor([[0.0, 0.0, NAN]]), tensor([[1.0, 0.0, NAN]])
    assert ppo.value_loss(new, old, returns, mask, 0.2).item() == pytest.approx(0.1625)


def test_explained_variance_by_hand():
    # Returns 1 and 3: variance 1. Errors 0 and 1: variance 0.25. 1 - 0.25 / 1.
    mask = tensor([[True, True, False]])
    found = ppo.explained_variance(tensor([[1.0, 2.0, NAN]]), tensor([[1.0, 3.0, NAN]]), mask)
    assert found == pytest.approx(0.75)
    assert ppo.explained_variance(tensor([[1.0, 2.0]]), tensor([[3.0, 3.0]]), mask[:, :2]) == 0


# --- KL ---


def test_kl_by_hand_and_without_bias():
    # p (1/2, 1/2), q (1/4, 3/4). At the first action 0.5 - 1 + ln 2 = 0.193147, at the second
    # 1.5 - 1 - ln 1.5 = 0.094535; under p their mean is 0.143841 = ln 2 / 2 + ln(2/3) / 2, the KL itself.
    found = ppo.per_token_kl(tensor([0.5, 0.5]).log(), tensor([0.25, 0.75]).log())
    assert close(found, [0.193147, 0.094535])
    assert found.mean().item() == pytest.approx(math.log(2) / 2 + math.log(2 / 3) / 2, abs=1e-6)


def test_kl_penalties_by_hand():
    # beta 0.1. Row 1: -0.1 * (-1 + 2) = -0.1; -0.1 * (-2 + 1.5) = 0.05.
    # Row 2: 0; -0.1 * (-1 + 1.5) = -0.05; -0.1 * (-1.5 + 1) = 0.05.
    logprobs = tensor([[-1.0, -2.0, NAN], [-0.5, -1.0, -1.5]])
    reference = tensor([[-2.0, -1.5, NAN], [-0.5, -1.5, -1.0]])
    mask = tensor([[True, True, False], [True, True, True]])
    found = ppo.kl_penalties(logprobs, reference, 0.1, mask)
    assert close(found, [[-0.1, 0.05, 0], [0, -0.05, 0.05]])


def test_kl_controller_by_hand():
    control = ppo.KLController(coef=0.2, target=6, horizon=100)
    # 6.6 is 0.1 above the target; 50 answers of 100 take half of it: 0.2 * 1.05.
    assert control.update(6.6, answers=50) == pytest.approx(0.21)
    # Ten times the target counts as 0.2 above it: 0.21 * 1.1.
    assert control.update(60, answers=50) == pytest.approx(0.231)
    # Below by the whole target counts as 0.2 below; 1,000 answers count as 100: 0.231 * 0.8.
    assert control.update(0, answers=1000) == pytest.approx(0.1848)
    later = ppo.KLController(coef=1, target=6, horizon=100)
    later.load_state_dict(control.state_dict())
    assert later.coef == control.coef


def test_kl_controller_refuses_what_would_break_it():
    control = ppo.KLController(coef=0.2, target=6, horizon=100)
    with pytest.raises(ppo.Diverged):
        control.update(NAN, answers=8)
    with pytest.raises(ppo.BadInput):
        control.load_state_dict({"coef": 0.0})
    with pytest.raises(ppo.BadInput):
        ppo.KLController(coef=0.2, target=0, horizon=100)
    assert control.coef == 0.2
