"""The reward model: by hand, on made-up people, and where thumbs say little."""

import math
import random
from dataclasses import replace

import pytest
import torch

from feedback import crowd, prior
from feedback.auroc import auroc, interval
from feedback.company import DRAWS, Company, resampled
from feedback.crowd import Crowd, People
from feedback.features import Answers, Scale
from feedback.posterior import Belief
from feedback.reward import KEENNESS, RewardConfig, RewardModel, fit
from feedback.rollouts import styles
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
    assert interval(0.5 + 1.96 * 0.0648148**0.5, 3, 3) == pytest.approx((0.5, 1.0), abs=2e-3)
    assert interval(0.5, 20, 20) == pytest.approx((0.332, 0.668), abs=2e-3)


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
    guessed = replace(model, believed=replace(model.believed, aimless=0.9))
    (sure,) = (belief[2] for belief in guessed.beliefs() if belief[0] == strongest[0])
    assert sure < 0.6, "of thumbs that most likely follow nothing nobody can be sure"


def test_a_scale_of_few_answers_is_finite():
    for n in (1, 2, 3):
        made = answers(n)
        model = model_of(made, torch.ones(n))
        assert torch.isfinite(model.reward(answers(5, seed=1), answers(5, seed=2))).all()
        assert all(math.isfinite(weight) for _, weight, _ in model.beliefs())


FLAT = Scale(torch.zeros(S), torch.ones(S), torch.zeros(D), torch.zeros(D, 0), reach=3.0)


def counted(*counts):
    """Answers of no style, in which people count one thing."""
    return Answers(torch.zeros(len(counts), S), torch.zeros(len(counts), D), torch.tensor(counts)[:, None])


def in_company(kinds, *people, caution=0.0, aimless=0.0):
    """One kind of taste of so much probability, feature 2 of weight 1 ± 2, and people of one part each: their
    probability, where the part is worth nothing, and all, and the unit of their scores; of the threshold 0.5."""
    mean, covariance = torch.zeros(1, S), torch.zeros(1, S, S)
    mean[0, 2], covariance[0, 2, 2] = 1.0, 4.0
    share, none, full, unit = torch.tensor(people, dtype=torch.float32).T
    alike = torch.ones(len(people), 1)
    found = People(
        torch.zeros(len(people), 1, dtype=torch.long), none[:, None], full[:, None], alike,
        torch.zeros(len(people), dtype=torch.bool), alike[:, 0] / 2, unit,
    )  # fmt: skip
    leans = torch.zeros(len(people), S)
    leans[:, 4] = torch.tensor([1.0 if more else -2.0 for more in full > none])
    return RewardModel(
        FLAT,
        Belief(torch.tensor([kinds]), mean, covariance, share, aimless),
        spread=0.5,
        caution=caution,
        company=Company(found, leans),
    )


def test_likings_in_company_by_hand():
    """Of the one who likes more of it 0.75 - 0.25 in units of 0.5 is 1 deviation, of the other -0.5 in 0.25 is -2."""
    model = in_company(0.5, (0.3, 0, 4, 0.5), (0.2, 4, 0, 0.25))
    x, base = counted(3.0), counted(1.0)
    assert KEENNESS == 1
    # 0.5 · σ(0) + 0.3 · σ(1) + 0.2 · σ(-2) = 0.25 + 0.219318 + 0.023841 = 0.493158
    assert float(model.liking(x, base)) == pytest.approx(math.log(0.493158 / 0.506842), abs=1e-5)
    assert float(model.liking(base, x)) == pytest.approx(math.log(0.506842 / 0.493158), abs=1e-5)
    # Their mean is 0.243159 / 0.5 = 0.486317; the deviation √(0.6 · 0.244742² + 0.4 · 0.367114²) = 0.299747, for half
    # of everybody 0.149873; half of that is taken off, or all of it added.
    low, high = (model.liking(x, base, caution) for caution in (0.5, -1.0))
    assert float(low) == pytest.approx(math.log((0.493158 - 0.074937) / (0.506842 + 0.074937)), abs=1e-5)
    assert float(high) == pytest.approx(math.log((0.493158 + 0.149873) / (0.506842 - 0.149873)), abs=1e-5)


def test_the_same_answer_is_liked_as_much_as_itself_whoever_one_is_like():
    x = counted(0.0, 1.3, 9.0)
    model = in_company(0.5, (0.3, 0, 4, 0.5), (0.17, 4, 0, 0.25), (0.03, 1, 2, 0.1))
    assert (model.liking(x, x) == 0).all(), "to the bit"
    assert torch.allclose(model.liking(x, x, 0.5), torch.zeros(3), atol=1e-6), "nobody disagrees about it"


def test_what_people_disagree_in_is_taken_off_and_after_thumbs_down_alone_added():
    split, agreed = ((0.25, 0, 4, 0.5), (0.25, 4, 0, 0.5)), ((0.25, 0, 4, 0.5), (0.25, 0, 4, 0.5))
    x, base = counted(3.0), counted(1.0)
    wary, bold = (in_company(0.5, *split, caution=c) for c in (CONFIG.caution, -CONFIG.curiosity))
    assert float(wary.liking(x, base)) == pytest.approx(0, abs=1e-6)
    assert float(wary.reward(x, base)) < -0.1 and float(bold.reward(x, base)) > 0.1
    assert torch.equal(bold.prospect(x, base), bold.reward(x, base))
    assert torch.equal(wary.prospect(x, base), wary.liking(x, base))
    alike = in_company(0.5, *agreed, caution=CONFIG.caution)
    assert float(alike.reward(x, base)) == pytest.approx(float(alike.liking(x, base)), abs=1e-5)


def test_no_disagreement_makes_a_reward_infinite():
    """Nine tenths are surely against it and a tenth for it: 0.1 less half of the deviation 0.3 is below nothing."""
    model = in_company(0.0, (0.1, 0, 1, 0.02), (0.9, 1, 0, 0.02), caution=0.5)
    assert model.reward(counted(1.0), counted(0.0)).isfinite().all()
    assert model.liking(counted(0.0), counted(1.0), -1.0).isfinite().all()


def test_how_certainly_answers_are_liked_in_company_by_hand():
    """Of a half, three fifths are for more of it and two fifths against it; the kind says Φ(1 / 1) along feature 2."""
    model = in_company(0.5, (0.3, 0, 4, 0.5), (0.2, 4, 0, 0.25))
    more, less, beyond = counted(3.0), counted(1.0), counted(9.0)
    along = replace(more, style=torch.eye(S)[2:3])
    assert float(model.sureness(along, less)) == pytest.approx(0.5 * 0.841345 + 0.3, abs=1e-5)
    assert model.certainty(along, less) == pytest.approx(0.5 * 0.841345 + 0.3, abs=1e-5)
    assert float(model.sureness(more, less)) == pytest.approx(0.5 * 0.5 + 0.3, abs=1e-5)
    assert float(model.sureness(less, more)) == pytest.approx(0.5 * 0.5 + 0.2, abs=1e-5)
    assert float(model.sureness(beyond, counted(4.0))) == pytest.approx(0.5), "to either it is all the same"
    # Taken together: of 0.5 more for the one answer and 0.25 less for the other the mean counts.
    pair = Answers.join([counted(3.0), counted(1.0)])
    assert model.certainty(pair, Answers.join([counted(1.0), counted(2.0)])) == pytest.approx(0.55)
    aimless = replace(model, believed=replace(model.believed, aimless=0.5))
    assert aimless.certainty(more, less) == pytest.approx((0.55 + 0.5) / 2)
    # One deviation bolder: Φ(1 + 1) of the kind; Φ⁻¹(0.6) = 0.253347, and Φ(1.253347) = 0.894961 of the people.
    bold = replace(model, caution=-1.0)
    assert bold.certainty(along, less) == pytest.approx(0.5 * 0.977250 + 0.5 * 0.894961, abs=1e-5)


def test_answers_to_different_prompts_are_ranked_by_the_chance_of_a_thumb():
    """0.5 · σ(1) + 0.3 · σ(4 · (0.75 - 0.5) / 0.5) + 0.2 · σ(-4) = 0.365529 + 0.264239 + 0.003597."""
    model = in_company(0.5, (0.3, 0, 4, 0.5), (0.2, 4, 0, 0.25))
    x = replace(counted(3.0), style=torch.eye(S)[2:3])
    assert float(model.preference(x)) == pytest.approx(math.log(0.633365 / 0.366635), abs=1e-5)


def test_what_is_told_of_a_feature_is_what_kinds_and_people_make_of_it():
    """Feature 2 is the kind's, of whom half is left: 1 · 0.5, surely so by Φ(1 / 2) = 0.691462 of them and by half of
    the people, to all of whom it is the same. To feature 4 three tenths lean by 1 and a fifth by -2; the kind's guess
    at it is a half. Of feature 5 nobody knows anything."""
    told = in_company(0.5, (0.3, 0, 4, 0.5), (0.2, 4, 0, 0.25)).beliefs()
    assert told[2] == (FEATURES[2].name, pytest.approx(0.5), pytest.approx(0.5 * 0.691462 + 0.25, abs=1e-5))
    assert told[4] == (FEATURES[4].name, pytest.approx(-0.1), pytest.approx(1 - 0.55))
    assert told[5] == (FEATURES[5].name, 0.0, pytest.approx(0.5))


def test_fewer_people_stand_for_all_and_always_the_same_ones():
    """Steps of 1/4096 of the whole: three people whose parts are whole numbers of steps keep them to the bit."""
    kept, share = resampled(torch.tensor([0.4, 0.2, 0.0, 0.2]))
    assert (kept.tolist(), share.tolist()) == (
        [0, 1, 3],
        [pytest.approx(0.4), pytest.approx(0.2), pytest.approx(0.2)],
    )
    many = torch.rand(60_000, generator=torch.Generator().manual_seed(1)) ** 80
    many *= 0.7 / many.sum()
    kept, share = resampled(many)
    assert float(share.sum()) == pytest.approx(0.7, rel=1e-5)
    assert len(kept) <= DRAWS and kept.tolist() == sorted(set(kept.tolist()))
    assert float((share - many[kept]).abs().max()) < 1.001 * 0.7 / DRAWS, "by less than a step"
    again, same = resampled(many)
    assert torch.equal(kept, again) and torch.equal(share, same)
    likely = (many > 0.7 / DRAWS).nonzero()[:, 0]
    assert len(likely) > 100 and torch.isin(likely, kept).all(), "nobody of a step and more is left out"


@pytest.mark.parametrize("whole", [0.0, 1e-44, 1e-30])
def test_a_crowd_that_nobody_is_like_any_more_is_nobody(whole):
    kept, share = resampled(torch.full((3,), whole))
    assert len(kept) == len(share) == 0
    assert len(resampled(torch.empty(0))[0]) == 0


def looking_at(feature):
    """Counts that are one style feature, and two people: one wants much of it and one little, in the answers' upper and
    lower halves."""
    people = Crowd(
        torch.zeros(2, 1, dtype=torch.long), torch.tensor([[0.2], [0.8]]), torch.tensor([[0.8], [0.2]]),
        torch.zeros(2, 1), torch.ones(2, 1), torch.zeros(2, dtype=torch.bool), torch.full((2,), 0.5),
    )  # fmt: skip

    def read(made):
        return replace(made, counts=made.style[:, feature : feature + 1])

    return people, read


def test_leanings_by_hand():
    """x is -1 or 1 as often, and a person's score 0 or 1, of deviation 0.5: 8 log-odds of a thumb between them. The
    slope is 4, and 4 / 1.3 with a ridge of 0.3 of the answers."""
    people, read = looking_at(2)
    made = Answers(torch.zeros(8, S), torch.zeros(8, D))
    made.style[:, 2] = torch.tensor([1.0, -1.0] * 4)
    company = Company.among(people, read(made), read(made.rows([])), FLAT)
    assert company.leans.shape == (2, S)
    assert company.leans[:, 2].tolist() == pytest.approx([4 / 1.3, -4 / 1.3], abs=1e-4)
    assert not company.leans[:, :2].any() and not company.leans[:, 3:].any()


def test_a_company_finds_whom_a_person_is_like_and_names_what_is_liked():
    people, read = looking_at(4)
    made, usual = read(answers(24)), read(answers(32, seed=3))
    scale = Scale.of(Answers.join([made, usual]), CONFIG, PRIOR)
    company = Company.among(people, usual, made, scale)
    model = fit(made, person(made, 4, flipped=0.1), scale, CONFIG, PRIOR, company=company)
    assert float(model.believed.people.sum() + model.believed.share.sum()) == pytest.approx(1)
    assert len(model.company.people) == len(model.believed.people) == len(model.company.leans)
    assert float(model.believed.people[0]) > 0.9
    name, weight, certainty = max(model.beliefs(), key=lambda belief: belief[1])
    assert name == FEATURES[4].name and weight > 0.5 and certainty > 0.95
    kept = model.tensors()
    assert torch.equal(kept["people"], model.believed.people)
    assert torch.equal(kept["people.none"], model.company.people.none.half())


def test_a_crowd_of_no_share_is_no_crowd():
    people, read = looking_at(4)
    made, usual = read(answers(24)), read(answers(32, seed=3))
    up, scale = person(made, 4), Scale.of(Answers.join([made, usual]), CONFIG, PRIOR)
    company = Company.among(people, usual, made, scale)
    none, without = (
        fit(made, up, scale, replace(CONFIG, crowd=share), PRIOR, company=among)
        for share, among in ((0.0, company), (0.8, None))
    )
    test = read(answers(50, seed=9))
    assert torch.equal(none.preference(test), without.preference(test))
    assert torch.equal(none.liking(test, made.rows([0] * 50)), without.liking(test, made.rows([0] * 50)))
    assert none.believed.aimless == without.believed.aimless
    assert none.beliefs() == without.beliefs()


SENTENCES = (
    "The sea is salty because rivers carry minerals to it.", "Cats sleep all day.", "It rains.",
    "You can boil an egg in five minutes.", "However, some people may not like that.", "Why is the sky blue?",
    "A long walk in the old town is good for your heart and your mood.", "First, take a pan and add water.",
    "I think that bridges are wonderful!", "Many years ago they grew wheat here, and sold it in the town.",
)  # fmt: skip


def written(n, seed):
    """Texts of 1 to 12 sentences."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(SENTENCES, k=chance.randint(1, 12))) for _ in range(n)]


def read_texts(texts):
    return Answers(styles([(text, True) for text in texts]), torch.zeros(len(texts), 16), crowd.tally(texts))


def test_a_middle_length_is_found_by_the_crowd_and_not_by_a_straight_line():
    """35 to 70 words, of 2 to 150: after 24 thumbs, with the people who ship."""
    known = prior.for_model("another digest", CONFIG.alone)
    areas = []
    for seed in (1, 2, 3):
        rated, usual, test = (written(n, seed + n) for n in (24, 32, 200))
        made, base, others = map(read_texts, (rated, usual, test))
        up, likes = (torch.tensor([float(35 <= len(t.split()) <= 70) for t in ts]) for ts in (rated, test))
        scale = Scale.of(Answers.join([made, base]), CONFIG, known)
        company = Company.among(crowd.shipped()[0], base, made, scale)
        models = [fit(made, up, scale, CONFIG, known, company=among) for among in (company, None)]
        areas.append([auroc(model.preference(others), likes) or 0.0 for model in models])
        reward = models[0].reward(others, base.rows([0] * 200))
        assert reward.isfinite().all()
    with_people, without = (sum(each) / len(areas) for each in zip(*areas, strict=True))
    assert with_people > 0.8 and with_people > without + 0.1
