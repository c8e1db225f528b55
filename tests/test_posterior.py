"""Beliefs about weights: by hand, against sums over a fine grid, and one hypothesis at a time."""

import math

import pytest
import torch

from feedback.posterior import Thumbs, believe, laplace

ONE = torch.ones(1, 1, 1, dtype=torch.double)


def thumbs(x, sign, order=None):
    sign = torch.tensor(sign, dtype=torch.double)
    x = torch.tensor(x, dtype=torch.double)
    return Thumbs(x, sign, torch.arange(len(sign)) if order is None else order)


def fitted(x, sign, flip):
    given = thumbs(x, sign)
    return laplace(given.x, given.sign, torch.tensor([flip], dtype=torch.double))


def on_a_grid(x, sign, flip):
    """Mean, variance and log-evidence of one weight with prior N(0, 1), by adding up."""
    w = torch.linspace(-8, 8, 20001, dtype=torch.double)
    density = torch.exp(-(w**2) / 2) / math.sqrt(2 * math.pi)
    for each, s in zip(x, sign, strict=True):
        density = density * (flip + (1 - 2 * flip) * torch.sigmoid(s * each[0] * w))
    total = density.sum() * (w[1] - w[0])
    mean = (density * w).sum() / density.sum()
    return float(mean), float((density * (w - mean) ** 2).sum() / density.sum()), float(total.log())


def test_one_weight_and_one_thumb_by_hand():
    """x = 1, prior deviation 1, no slips: w solves (1 - σ(w)) - w = 0; variance = 1 / (1 + σ(1 - σ))."""
    belief, _ = fitted([[1.0]], [1.0], 0.0)
    assert float(belief.mean) == pytest.approx(0.4010581, abs=1e-6)
    assert float(belief.covariance) == pytest.approx(1 / 1.2402105, abs=1e-5)


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.3])
def test_the_approximation_is_near_the_sum_over_a_grid(flip):
    x, sign = [[1.0], [0.5], [-1.0], [2.0], [1.5]], [1.0, -1.0, -1.0, 1.0, 1.0]
    belief, evidence = fitted(x, sign, flip)
    mean, variance, log_evidence = on_a_grid(x, sign, flip)
    assert float(belief.mean) == pytest.approx(mean, abs=0.15)
    assert float(belief.covariance) == pytest.approx(variance, rel=0.35)
    assert float(evidence) == pytest.approx(log_evidence, abs=0.1)


def test_the_mode_is_a_mode():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(30, 4, generator=draw, dtype=torch.double)
    sign = torch.where(torch.rand(30, generator=draw) < 0.5, 1.0, -1.0).double()
    flip = torch.tensor([0.05, 0.3], dtype=torch.double)
    belief, _ = laplace(x, sign, flip)
    for weights, rate in zip(belief.mean, flip, strict=True):
        w = weights.clone().requires_grad_()
        chance = rate + (1 - 2 * rate) * torch.sigmoid(sign * (x @ w))
        (chance.log().sum() - w @ w / 2).backward()
        assert float(w.grad.abs().max()) < 0.05


def test_many_hypotheses_at_once_are_each_by_itself():
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(5, 12, 3, generator=draw, dtype=torch.double) * torch.arange(1, 6)[:, None, None] ** -0.5
    sign = torch.where(x[0, :, 0] > 0, 1.0, -1.0).double()
    flip = torch.tensor([0.0, 0.05, 0.1, 0.2, 0.4], dtype=torch.double)
    together, evidence = laplace(x, sign, flip)
    for j in range(5):
        alone, likely = laplace(x[j], sign, flip[j : j + 1])
        assert torch.allclose(alone.mean[0], together.mean[j], atol=1e-2)
        assert torch.allclose(alone.covariance[0], together.covariance[j], atol=1e-2)
        assert float(likely) == pytest.approx(float(evidence[j]), abs=1e-3)


def test_no_thumbs_leave_the_average_of_the_kinds():
    kinds = torch.stack([torch.eye(2), 4 * torch.eye(2)]).double()
    share = torch.tensor([0.75, 0.25], dtype=torch.double)
    empty = Thumbs(torch.zeros(0, 2, dtype=torch.double), torch.zeros(0, dtype=torch.double), torch.zeros(0))
    belief = believe(empty, kinds, share, (0.1, 0.2), 0.007).whole
    assert not belief.mean.any()
    assert torch.allclose(belief.covariance, 1.75 * torch.eye(2, dtype=torch.double))  # 0.75 · 1 + 0.25 · 4


def test_fewer_thumbs_than_weights_are_counted_in_fewer_numbers_to_the_same_end():
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(6, 9, generator=draw, dtype=torch.double)
    root = torch.randn(9, 9, generator=draw, dtype=torch.double)
    kind = root @ root.T + torch.eye(9, dtype=torch.double)
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.double)
    short = believe(Thumbs(x, sign, torch.zeros(6)), kind[None], torch.ones(1).double(), (0.1,), 0.007).whole
    whole = torch.linalg.cholesky(kind)
    own, _ = laplace(x @ whole, sign, torch.tensor([0.1], dtype=torch.double))
    assert torch.allclose(short.mean, whole @ own.mean[0], atol=1e-3)
    assert torch.allclose(short.covariance, whole @ own.covariance[0] @ whole.T, atol=1e-3)


def test_two_thumbs_on_the_same_answer_are_no_error():
    x = torch.ones(2, 5, dtype=torch.double)
    twice = Thumbs(x, torch.tensor([1.0, 1.0], dtype=torch.double), torch.arange(2))
    belief = believe(
        twice, torch.eye(5, dtype=torch.double)[None], torch.ones(1).double(), (0.1,), 0.007
    ).whole
    assert float(belief.mean.min()) > 0
    assert torch.allclose(belief.mean, belief.mean.mean().expand(5))


def test_kinds_are_told_apart_by_the_thumbs():
    """Features 0 and 1 always agree; one kind of taste hangs on 0 alone, so it is 0 that gets the weight."""
    first = torch.diag(torch.tensor([4.0, 0.01])).double()
    second = torch.diag(torch.tensor([0.01, 0.01])).double()
    x = [[1.0, 1.0], [-1.0, -1.0]] * 6
    kinds, share = torch.stack([first, second]), torch.tensor([0.5, 0.5], dtype=torch.double)
    belief = believe(thumbs(x, [1.0, -1.0] * 6), kinds, share, (0.05,), 0.007).whole
    assert float(belief.mean[0]) > 1
    assert abs(float(belief.mean[1])) < 0.1


def test_thumbs_that_contradict_each_other_make_slips_likely_and_weights_weak():
    x = [[1.0]] * 20 + [[-1.0]] * 20
    kinds, share = 4 * ONE, torch.ones(1).double()
    agreed = believe(
        thumbs(x, [1.0] * 20 + [-1.0] * 20, torch.zeros(40)), kinds, share, (0.02, 0.3), 0.007
    ).whole
    mixed = [1.0, 1.0, -1.0, 1.0, -1.0] * 4
    torn = believe(
        thumbs(x, mixed + [-s for s in mixed], torch.zeros(40)), kinds, share, (0.02, 0.3), 0.007
    ).whole
    assert float(agreed.mean) > 2
    assert abs(float(torn.mean)) < 1
    assert float(torn.covariance) > 0


def test_a_taste_that_turned_round_is_followed_and_a_steady_one_loses_little():
    x = [[1.0], [-1.0]] * 24
    sign = [1.0, -1.0] * 12 + [-1.0, 1.0] * 12
    kinds, share = 4 * ONE, torch.ones(1).double()
    turned = believe(thumbs(x, sign), kinds, share, (0.1,), 0.007).whole
    unturned = believe(thumbs(x, sign, torch.zeros(48)), kinds, share, (0.1,), 0.007).whole
    assert float(turned.mean) < -1
    assert abs(float(unturned.mean)) < 0.3, "all thumbs alike in age cancel"
    steady = [1.0, -1.0] * 24
    kept = believe(thumbs(x, steady), kinds, share, (0.1,), 0.007).whole
    sure = believe(thumbs(x, steady, torch.zeros(48)), kinds, share, (0.1,), 0.007).whole
    assert float(kept.mean) > 0.9 * float(sure.mean)


def test_thumbs_that_follow_nothing_by_hand():
    """Without weights a thumb is up by σ(0): four thumbs have 1/16. By one chance for all, any as likely as another,
    two up and two down have 2! 2! / 5! = 1/30, and four up 4! / 5! = 1/5."""
    nothing = torch.eye(2, dtype=torch.double)[None] * 1e-12
    x = [[1.0, 1.0], [0.5, 1.0], [-1.0, 1.0], [0.0, 1.0]]

    def aimless(sign, before=0.25):
        given = thumbs(x, sign, torch.zeros(4))
        return believe(given, nothing, torch.ones(1).double(), (0.0,), 0.007, before).aimless

    assert aimless([1.0, -1.0, 1.0, -1.0]) == pytest.approx(
        (1 / 30 / 4) / (1 / 30 / 4 + 3 / 16 / 4), rel=1e-3
    )
    assert aimless([1.0] * 4) == pytest.approx((1 / 5 / 4) / (1 / 5 / 4 + 3 / 16 / 4), rel=1e-3)
    assert aimless([1.0] * 4, before=0.0) == 0.0
