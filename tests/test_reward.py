"""The reward model: by hand, on made-up people, and where thumbs say little."""

import math
from dataclasses import replace

import pytest
import torch

from feedback import prior
from feedback.posterior import Belief
from feedback.reward import Answers, Company, RewardConfig, RewardModel, Scale, auroc, auroc_interval, fit
from feedback.style import FEATURES

S = len(FEATURES)
D = 24
CONFIG = RewardConfig()
PRIOR = CONFIG.alone.prior()
NOBODY = Company.nobody(S)


def answers(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Answers(torch.randn(n, S, generator=generator), torch.randn(n, D, generator=generator))


def person(made, feature, flipped=0.0, seed=1):
    """Thumbs of somebody who likes a high value of one style feature."""
    up = (made.style[:, feature] > 0).float()
    slips = torch.rand(len(up), generator=torch.Generator().manual_seed(seed)) < flipped
    return torch.where(slips, 1 - up, up)


def model_of(made, up, config=CONFIG):
    alone = config.alone.prior()
    return fit(made, up, Scale.of(made, config, alone), config, alone)


def test_one_weight_and_one_thumb_by_hand():
    """One feature x = 1, bias held at 0, prior deviation 1, no slips: w solves (1 - σ(w)) - w = 0."""
    config = RewardConfig(components=0, style_std=1.0, bias_std=1e-6, flips=(0.0,), spread=0.5)
    made = Answers(torch.zeros(1, S), torch.zeros(1, D))
    made.style[0, 2] = 1.0
    scale = Scale(torch.zeros(S), torch.ones(S), torch.zeros(D), torch.zeros(D, 0), reach=3.0)
    model = fit(made, torch.ones(1), scale, config, replace(config.alone.prior(), single=0.0))
    whole = model.believed.whole
    w = float(whole.mean[2])
    assert w == pytest.approx(0.4010581, abs=1e-6)  # σ(0.4010581) = 0.5989419 = 1 - w
    # Laplace: variance = 1 / (1 + σ(1 - σ)) = 1 / (1 + 0.2402100)
    assert float(whole.covariance[2, 2]) == pytest.approx(1 / 1.2402105, abs=1e-5)
    base = Answers(torch.zeros(1, S), torch.zeros(1, D))
    assert float(model.worth(made, base)[1]) == pytest.approx(0.5 / 1.2402105**0.5, abs=1e-5), (
        "half of its deviation"
    )
    assert float(whole.mean.abs().sum()) == pytest.approx(w, abs=1e-6), "nothing else was said"


def test_no_thumbs_give_the_prior():
    of_one, beside = PRIOR.single / S * prior.SINGLE_STD**2, PRIOR.single * prior.BESIDE**2
    variance = (1 - PRIOR.single + beside) * CONFIG.style_std**2 + of_one
    made = answers(20)
    model = fit(made.rows([]), torch.zeros(0), Scale.of(made, CONFIG, PRIOR), CONFIG, PRIOR)
    assert not model.believed.whole.mean.any()
    assert model.believed.whole.covariance.diagonal()[:S].tolist() == pytest.approx([variance] * S)
    assert (model.reward(made, answers(20, seed=2)) < 0).all(), (
        "nothing is known, so nothing is better for sure"
    )


@pytest.mark.parametrize(("thumbs", "least"), [(8, 0.57), (40, 0.7)])
def test_a_taste_is_found_from_few_thumbs_with_slips_among_them(thumbs, least):
    test = answers(400, seed=9)
    areas = []
    for seed in range(8):
        made = answers(thumbs, seed)
        model = model_of(made, person(made, feature=4, flipped=0.1, seed=seed))
        areas.append(auroc(model.preference(test), person(test, 4)) or 0.0)
    assert sum(areas) / len(areas) > least


def test_more_thumbs_make_it_surer():
    few, many = answers(8), answers(200)
    unsure, sure = (model_of(made, person(made, 4)) for made in (few, many))
    variances = [model.believed.whole.covariance.diagonal()[:S].mean() for model in (unsure, sure)]
    assert float(variances[1]) < 0.6 * float(variances[0])


@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_alike_thumbs_do_not_run_away(kind):
    made = answers(64)
    model = model_of(made, torch.full((64,), kind))
    assert float(model.believed.whole.mean.abs().max()) < 0.5 * CONFIG.style_std


def test_contradictory_thumbs_cancel():
    once = answers(10)
    made = Answers(once.style.repeat(2, 1), once.states.repeat(2, 1))
    up, scale = torch.tensor([1.0] * 10 + [0.0] * 10), Scale.of(made, CONFIG, PRIOR)
    model = fit(made, up, scale, CONFIG, PRIOR, order=torch.zeros(20))
    assert float(model.believed.whole.mean.abs().max()) < 1e-6


def test_reward_is_relative_to_the_base_and_below_the_mean():
    made = answers(40)
    model = model_of(made, person(made, 4))
    x, base = answers(10, seed=5), answers(10, seed=6)
    mean, std = model.worth(x, base)
    moderate = (1 + torch.pi / 8 * std**2).sqrt()
    chance = torch.sigmoid((mean - CONFIG.caution * std) / moderate) @ model.believed.share
    assert torch.allclose(model.reward(x, base), (chance / (1 - chance)).log(), atol=1e-4)
    assert (model.liking(x, x) == 0).all(), "to the bit: the same answer is not surely better than itself"
    assert torch.allclose(model.reward(x, x), torch.zeros(10), atol=1e-6)
    assert torch.allclose(model.worth(base, x)[0], -mean, atol=1e-5)


def test_log_odds_are_those_of_the_chance_averaged_over_what_is_not_known():
    made = answers(12)
    model = model_of(made, person(made, 4))
    x, base = answers(10, seed=5), answers(10, seed=6)
    mean, std = (each.double() for each in model.worth(x, base))
    draws = mean + std * torch.special.ndtri(torch.linspace(0.00005, 0.99995, 10_000).double())[:, None, None]
    chance = torch.sigmoid(draws).mean(0) @ model.believed.share.double()
    assert torch.allclose(torch.sigmoid(model.liking(x, base)).double(), chance, atol=0.02)


def test_farther_in_an_uncertain_direction_is_paid_no_more_than_it_is_certain():
    """One feature, weight 1 ± 2: the odds never exceed those of the sign, 1 / (2 √(π / 8))."""
    scale = Scale(torch.zeros(S), torch.ones(S), torch.zeros(D), torch.zeros(D, 0), reach=1e6)
    mean, covariance = torch.zeros(1, S), torch.zeros(1, S, S)
    mean[0, 2], covariance[0, 2, 2] = 1.0, 4.0
    model = RewardModel(
        scale, Belief(torch.ones(1), mean, covariance), spread=1.0, caution=0.0, company=NOBODY
    )
    base = Answers(torch.zeros(1, S), torch.zeros(1, D))

    def liked(x):
        far = Answers(torch.zeros(1, S), torch.zeros(1, D))
        far.style[0, 2] = x
        return float(model.reward(far, base))

    assert liked(0.1) < liked(1) < liked(10) < liked(1000)
    assert liked(1000) == pytest.approx(0.5 / (torch.pi / 8) ** 0.5, rel=1e-3)


def test_a_kind_of_which_nothing_is_known_costs_its_share_and_no_more():
    """Two kinds, as likely as each other: 2 ± 0 log-odds, and 0 ± 50, of which half a deviation is taken off."""
    scale = Scale(torch.zeros(S), torch.ones(S), torch.zeros(D), torch.zeros(D, 0), reach=3.0)
    mean, covariance = torch.zeros(2, S), torch.zeros(2, S, S)
    mean[0, 2], covariance[1, 2, 2] = 2.0, 2500.0
    model = RewardModel(
        scale, Belief(torch.full((2,), 0.5), mean, covariance), spread=1.0, caution=0.5, company=NOBODY
    )
    one, base = Answers(torch.zeros(1, S), torch.zeros(1, D)), Answers(torch.zeros(1, S), torch.zeros(1, D))
    one.style[0, 2] = 1.0
    # 0.5 · σ(2) + 0.5 · σ(-25 / √(1 + 2500 π / 8)) = 0.5 · 0.8808 + 0.5 · σ(-0.7975) = 0.5957, of odds 1.4734
    assert float(model.reward(one, base)) == pytest.approx(0.3876, abs=1e-3)


def test_how_certainly_answers_are_liked_together_by_hand():
    """Of one feature the weight 1 ± 2, of which half is believed: Φ(1 / 1) of any way along it, however far."""
    scale = Scale(torch.zeros(S), torch.ones(S), torch.zeros(D), torch.zeros(D, 0), reach=3.0)
    mean, covariance = torch.zeros(1, S), torch.zeros(1, S, S)
    mean[0, 2], covariance[0, 2, 2] = 1.0, 4.0
    model = RewardModel(
        scale, Belief(torch.ones(1), mean, covariance), spread=0.5, caution=0.5, company=NOBODY
    )
    base, near = (Answers(torch.zeros(4, S), torch.zeros(4, D)) for _ in range(2))
    near.style[:, 2] = torch.tensor([1.0, -0.5, 0.0, 0.1])
    assert model.certainty(near, base) == pytest.approx(0.8413, abs=1e-4)
    assert model.certainty(base, near) == pytest.approx(1 - 0.8413, abs=1e-4)
    assert model.certainty(near, near) == 0.5, "no way at all is a guess"
    bold = replace(model, caution=-1.0)
    assert bold.certainty(near, base) == pytest.approx(0.9772, abs=1e-4), "Φ(1 + 1) after thumbs down alone"
    aimless = replace(model, believed=replace(model.believed, aimless=0.5))
    assert aimless.certainty(near, base) == pytest.approx((0.8413 + 0.5) / 2, abs=1e-4)


def test_a_coins_thumbs_make_less_certain_than_a_tastes():
    """48 of each, with the prior as it ships; the answers are those that are believed to be liked best."""
    shipped, _, _ = prior.shipped()
    assert shipped.unit is not None and shipped.projection is not None
    unit, wide = shipped.unit, len(shipped.projection)

    def drawn(n, seed):
        generator = torch.Generator().manual_seed(seed)
        style = torch.randn(n, S, generator=generator) * unit
        return Answers(style, torch.zeros(n, wide))

    made, others, base = drawn(48, 1), drawn(200, 2), drawn(24, 3)

    def certainty(up):
        model = fit(made, up, Scale.of(made, CONFIG, shipped), CONFIG, shipped)
        best = model.preference(others).topk(24).indices.tolist()
        return model.certainty(others.rows(best), base)

    coins = [
        (torch.rand(48, generator=torch.Generator().manual_seed(seed)) < 0.5).float() for seed in range(8)
    ]
    assert sum(map(certainty, coins)) / len(coins) < 0.85
    assert certainty(person(made, 4, flipped=0.1)) > 0.97


def test_an_aurocs_interval_by_hand():
    """Of three and three the variance at 0.5 is 0.25 · (1 + 2 · 2 / 3) / 9 = 0.0648; of twenty and twenty at 0.332
    (0.2218 + 19 · 0.0888 + 19 · 0.0553) / 400 = 0.0074, and 0.5 - 0.332 = 1.96 · 0.0860."""
    assert auroc_interval(0.5 + 1.96 * 0.0648148**0.5, 3, 3) == pytest.approx((0.5, 1.0), abs=2e-3)
    assert auroc_interval(0.5, 20, 20) == pytest.approx((0.332, 0.668), abs=2e-3)


def test_thumbs_down_alone_make_it_explore():
    """What differs from the answers that were judged may be better; with one thumb up it has to be, to be paid."""
    made = answers(12)
    model = model_of(made, torch.zeros(12))
    x, base = answers(10, seed=5), answers(10, seed=6)
    assert torch.allclose(model.reward(x, base), model.liking(x, base, -CONFIG.curiosity))
    assert (model.reward(x, base) > model.liking(x, base)).all()
    mixed = model_of(made, torch.tensor([0.0] * 11 + [1.0]))
    assert (mixed.reward(x, base) < mixed.liking(x, base)).all()
    assert torch.equal(model.prospect(x, base), model.reward(x, base)), (
        "the gate lets through what it explores"
    )
    assert torch.equal(mixed.prospect(x, base), mixed.liking(x, base))


def test_a_taste_that_turned_round_is_followed():
    made, test = answers(64), answers(400, seed=9)
    up = person(made, 4)
    up[:32] = 1 - up[:32]
    assert (auroc(model_of(made, up).preference(test), person(test, 4)) or 0) > 0.7


def test_no_reward_beyond_what_was_seen():
    made = answers(40)
    model = model_of(made, person(made, 4))
    far, farther = answers(1, seed=5), answers(1, seed=5)
    far.style[0, 4], farther.style[0, 4] = 20.0, 2000.0
    base = answers(1, seed=6)
    assert torch.equal(model.reward(far, base), model.reward(farther, base))


def test_a_feature_that_never_varied_counts_for_nothing():
    made = answers(30)
    made.style[:, 7] = 2.5
    model = model_of(made, person(made, 4))
    changed = answers(1, seed=8)
    before = model.preference(changed)
    changed.style[0, 7] = 99.0
    assert torch.equal(model.preference(changed), before)


def test_auroc_by_hand():
    scores, up = torch.tensor([0.9, 0.4, 0.4, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    # pairs (up, down): 0.9>0.4, 0.9>0.1, 0.4=0.4 half, 0.4>0.1 → 3.5 of 4
    assert auroc(scores, up) == pytest.approx(3.5 / 4)
    assert auroc(scores, up, least=3) is None
    assert auroc(scores, torch.ones(4)) is None


def test_beliefs_name_what_is_liked():
    made = answers(160)
    model = model_of(made, person(made, feature=4))
    strongest = max(model.beliefs(), key=lambda belief: belief[1])
    assert strongest[0] == FEATURES[4].name
    assert strongest[2] > 0.98


def test_a_scale_of_few_answers_is_finite():
    for n in (1, 2, 3):
        made = answers(n)
        model = model_of(made, torch.ones(n))
        assert torch.isfinite(model.reward(answers(5, seed=1), answers(5, seed=2))).all()
        assert all(math.isfinite(weight) for _, weight, _ in model.beliefs())
