"""Beliefs about weights: by hand, against sums over a fine grid, and one hypothesis at a time."""

import math
from dataclasses import replace

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


NOTHING = torch.eye(2, dtype=torch.double)[None] * 1e-12  # a kind whose weights are nothing: up by σ(0)
ALONE = torch.ones(1, dtype=torch.double)


def with_people(sign, chance, order=None):
    """Thumbs of which no weight tells anything; `chance`: of each thumb, of each of the crowd."""
    given = thumbs([[0.0, 1.0]] * len(sign), sign, order)
    return replace(given, chance=torch.tensor(chance, dtype=torch.float32).view(len(sign), -1))


def test_whom_of_a_crowd_a_person_is_like_by_hand():
    """One rate of slips, 0.1: a thumb up that two people give with 0.9 and 0.2 has 0.1 + 0.8 · 0.9 = 0.82 and 0.26, and
    0.5 without weights; a thumb down that they would give with 0.3 and 0.6 has 0.66, 0.42 and 0.5."""
    one = believe(with_people([1.0], [[0.9, 0.2]]), NOTHING, ALONE, (0.1,), 0.007, 0.25, crowd=0.5)
    # of each person a quarter beforehand, of the kind a half: 0.205, 0.065 and 0.25, together 0.52
    assert one.people.tolist() == pytest.approx([0.205 / 0.52, 0.065 / 0.52], rel=1e-4)
    assert one.share.tolist() == pytest.approx([0.25 / 0.52], rel=1e-4)
    assert one.aimless == pytest.approx(0.25 / 2 / (0.25 / 2 + 0.75 * 0.52), rel=1e-4), "1! 0! / 2! = 1/2"
    two = believe(
        with_people([1.0, -1.0], [[0.9, 0.2], [0.3, 0.6]]), NOTHING, ALONE, (0.1,), 0.007, crowd=0.5
    )
    # 0.25 · 0.82 · 0.66 = 0.1353, 0.25 · 0.26 · 0.42 = 0.0273, 0.5 · 0.25 = 0.125, together 0.2876
    assert two.people.tolist() == pytest.approx([0.1353 / 0.2876, 0.0273 / 0.2876], rel=1e-4)
    assert two.share.tolist() == pytest.approx([0.125 / 0.2876], rel=1e-4)


def test_a_crowd_beside_which_hardly_anything_else_is_possible():
    """Then the kinds, if they are left at all, are told apart as without it."""
    kinds = torch.cat([NOTHING, torch.diag(torch.tensor([9.0, 1e-12], dtype=torch.double))[None]])
    x, share = [[1.0, 1.0]] * 3, torch.full((2,), 0.5, dtype=torch.double)
    chance = torch.tensor([[0.9, 0.1]] * 3)
    given = replace(thumbs(x, [1.0] * 3), chance=chance)
    found = believe(given, kinds, share, (0.1,), 0.007, crowd=1 - 1e-9)
    # 0.82 and 0.18 to the power of 3
    assert found.people.tolist() == pytest.approx([0.551368 / 0.5572, 0.005832 / 0.5572], rel=1e-4)
    assert float(found.share.sum()) < 1e-8
    without = believe(thumbs(x, [1.0] * 3), kinds, share, (0.1,), 0.007)
    assert torch.allclose(found.share / found.share.sum(), without.share)
    assert torch.equal(found.mean, without.mean) and torch.equal(found.covariance, without.covariance)
    assert torch.allclose(found.whole.mean, without.whole.mean), "of the kinds alone"


def test_rates_of_slips_are_summed_over_for_people_too():
    """Without slips 0.9 and 0.2, and with a fifth of them 0.2 + 0.6 · 0.9 = 0.74 and 0.32: 0.82 and 0.26 on average,
    but their squares 0.6788 and 0.0712, so that both thumbs tell of the rate together."""
    found = believe(with_people([1.0] * 2, [[0.9, 0.2]] * 2), NOTHING, ALONE, (0.0, 0.2), 0.007, crowd=0.5)
    # the kind has 0.5² whatever the rate
    whole = 0.25 * 0.6788 + 0.25 * 0.0712 + 0.5 * 0.25
    assert found.people.tolist() == pytest.approx([0.25 * 0.6788 / whole, 0.25 * 0.0712 / whole], rel=1e-4)


def test_a_person_may_turn_from_one_of_the_crowd_to_another_by_hand():
    """Eight thumbs as the first would give them, then eight as the second: the one turn that can be looked for."""
    chance = [[0.9, 0.1]] * 8 + [[0.1, 0.9]] * 8  # that each would give a thumb up, where all 16 are up
    found = believe(with_people([1.0] * 16, chance), NOTHING, ALONE, (0.1,), 0.007, crowd=0.5)
    steady = 0.993**16
    before = (1 - steady) * (0.25 * 0.82**8 + 0.25 * 0.18**8 + 0.5 * 0.5**8)  # whoever it was that turned
    first = steady * 0.25 * (0.82 * 0.18) ** 8 + before * 0.25 * 0.18**8
    second = steady * 0.25 * (0.18 * 0.82) ** 8 + before * 0.25 * 0.82**8
    nobody = steady * 0.5 * 0.5**16 + before * 0.5 * 0.5**8
    whole = first + second + nobody
    assert found.people.tolist() == pytest.approx([first / whole, second / whole], rel=1e-4)
    assert float(found.people[1]) > 0.9, "for the second, of whom the newest thumbs speak"
    unturned = believe(
        with_people([1.0] * 16, chance, torch.zeros(16)), NOTHING, ALONE, (0.1,), 0.007, crowd=0.5
    )
    assert float(unturned.people[0]) == pytest.approx(float(unturned.people[1]))


def test_no_thumbs_leave_a_crowd_as_it_was():
    empty = Thumbs(
        torch.zeros(0, 2, dtype=torch.double), torch.zeros(0).double(), torch.zeros(0), torch.zeros(0, 4)
    )
    found = believe(empty, NOTHING, ALONE, (0.1, 0.2), 0.007, 0.25, crowd=0.8)
    assert found.people.tolist() == pytest.approx([0.2] * 4)
    assert found.share.tolist() == pytest.approx([0.2]) and found.aimless == pytest.approx(0.25)


def test_without_people_a_belief_is_of_the_kinds_alone():
    draw = torch.Generator().manual_seed(4)
    given = thumbs(torch.randn(20, 2, generator=draw).tolist(), [1.0, -1.0] * 10)
    kinds, share = torch.stack([torch.eye(2), 4 * torch.eye(2)]).double(), torch.tensor([0.75, 0.25]).double()
    plain = believe(given, kinds, share, (0.1, 0.2), 0.007, 0.25)
    nobody = believe(
        replace(given, chance=torch.empty(20, 0)), kinds, share, (0.1, 0.2), 0.007, 0.25, crowd=0.0
    )
    for name in ("share", "mean", "covariance"):
        assert torch.equal(getattr(plain, name), getattr(nobody, name))
    assert plain.aimless == nobody.aimless and len(plain.people) == len(nobody.people) == 0
    assert float(plain.share.sum()) == pytest.approx(1)
    # Where there is no turn to look for, somebody of the crowd changes nothing between the kinds.
    given = replace(given, order=torch.zeros(20))
    plain = believe(given, kinds, share, (0.1, 0.2), 0.007)
    coin = believe(
        replace(given, chance=torch.full((20, 1), 0.5)), kinds, share, (0.1, 0.2), 0.007, crowd=0.5
    )
    assert torch.allclose(coin.share / coin.share.sum(), plain.share)
    assert torch.allclose(coin.mean, plain.mean) and 0 < float(coin.people) < 1


def test_after_thousands_of_thumbs_that_one_of_a_crowd_foretells_the_kinds_are_still_numbers():
    """Some 0.6 nats a thumb behind, which no number of double precision holds as a share."""
    sign = [1.0, -1.0] * 1500
    chance = [[0.99 if each > 0 else 0.01] for each in sign]
    found = believe(with_people(sign, chance, torch.zeros(3000)), NOTHING, ALONE, (0.02,), 0.007, crowd=0.5)
    assert found.people.tolist() == [1.0]
    assert found.share.tolist() == [0.0]
    assert found.mean.isfinite().all() and found.covariance.isfinite().all()
