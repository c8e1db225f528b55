"""The shipped prior: that it fits this code, how it is cut down where it does not fit, and how it is made."""

import math

import pytest
import torch

from adapters.checkpoint import resolve
from benchmarks import make_prior, prior_tastes
from feedback import counts, prior
from feedback.auroc import auroc
from feedback.features import Answers, Scale
from feedback.prior import Alone, for_model, shipped
from feedback.reward import RewardConfig, fit, shared
from feedback.style import FEATURES

S = len(FEATURES)
CONFIG = RewardConfig()
ALONE = Alone(components=3, style=0.8, state=0.25, bias=1.5)


def test_the_shipped_prior_is_of_these_features_and_of_the_embedded_model():
    learnt, digest, features = shipped()
    assert features == [feature.name for feature in FEATURES], (
        "make the prior again: python -m benchmarks.make_prior"
    )
    assert shared(digest, CONFIG) is learnt, "and the default settings use all of it"
    assert float(learnt.share.sum()) == pytest.approx(1)
    assert learnt.unit is not None and bool((learnt.unit > 0).all())


@pytest.mark.slow
def test_the_shipped_prior_reads_the_embedded_model(tmp_path):
    assert shipped()[1] == resolve("", tmp_path, lambda _: None).digest


def test_the_shipped_covariances_are_positive_definite():
    torch.linalg.cholesky(shipped()[0].kinds()[0])


def test_each_feature_of_style_has_a_kind_that_hangs_on_it_alone():
    covariances, share = ALONE.prior().kinds()
    assert covariances.shape == (1 + S, S + 3 + 1, S + 3 + 1)
    assert share.tolist() == pytest.approx([0.4] + [0.6 / S] * S)
    third = covariances[1 + 2].diagonal().tolist()
    beside = (prior.BESIDE * 0.8) ** 2
    assert third[2] == pytest.approx(prior.SINGLE_STD**2 + beside)
    assert third[:2] + third[3:S] == pytest.approx([beside] * (S - 1))
    assert third[-1] == pytest.approx(1.5**2), "the bias is as uncertain as with everybody"


def test_another_base_model_gets_the_style_part():
    learnt = shipped()[0]
    cut = for_model("another digest", CONFIG.alone)
    assert cut.projection is None, "each person's own directions"
    assert cut.unit is learnt.unit
    whole, less = learnt.covariances(), cut.covariances()
    assert torch.allclose(less[:, :S, :S], whole[:, :S, :S])
    assert not less[:, :S, S:-1].any()
    assert less[0, S, S] == pytest.approx(CONFIG.state_std**2)


def test_other_style_features_get_a_diagonal_prior_and_a_word(monkeypatch, caplog):
    monkeypatch.setattr(prior, "FEATURES", FEATURES[1:])
    diagonal = for_model.__wrapped__(shipped()[1], ALONE)
    assert diagonal.unit is None and diagonal.projection is None
    assert diagonal.rest.tolist() == [pytest.approx([0.8] * (S - 1) + [0.25] * 3)]
    assert "other style features" in caplog.text


def test_a_diagonal_prior_by_hand():
    covariance = ALONE.prior().covariances()
    assert covariance.shape == (1, S + 3 + 1, S + 3 + 1)
    assert covariance[0].diagonal().tolist() == pytest.approx([0.64] * S + [0.0625] * 3 + [2.25])
    assert torch.equal(covariance[0], torch.diag(covariance[0].diagonal()))


def test_a_factor_analysis_finds_the_basis_and_the_rest():
    draw = torch.Generator().manual_seed(3)
    basis = torch.randn(1, 8, 2, generator=draw, dtype=torch.double)
    rest = torch.rand(1, 8, generator=draw, dtype=torch.double) + 0.5
    covariance = basis @ basis.mT + torch.diag_embed(rest**2)
    found, left = make_prior.factored(covariance, 2)
    assert torch.allclose(found @ found.mT + torch.diag_embed(left**2), covariance, atol=0.15)


TEXTS = [
    "You can boil an egg in five minutes. Do you like eggs?",
    "Certainly! Here is a list:\n- bread\n- butter\n- jam\n",
    "The sea is salty because rivers carry minerals to it, and the water leaves.",
    "I think that cats are wonderful, truly wonderful animals! They sleep all day.",
    "First, take a pan. Second, add water. Then wait. Finally, eat it.",
    "However, some people may perhaps not like that; others do.",
    "Yes.",
    "A long walk in the old town is good for your heart and your mood, and for your friends.",
] * 3  # fmt: skip


def test_drawn_people_are_the_same_for_the_same_seed_and_like_some_of_what_they_read():
    people = prior_tastes.draw(TEXTS, 60, seed=5)
    again = prior_tastes.draw(TEXTS, 60, seed=5)
    assert [p.score(t) for p in people for t in TEXTS] == [p.score(t) for p in again for t in TEXTS]
    for person in people:
        scores = [person.score(text) for text in TEXTS]
        assert all(0 <= score <= 1 for score in scores)
        assert 0.2 <= sum(map(person.likes, TEXTS)) / len(TEXTS) <= 0.8
    assert len({person.kind for person in people}) >= 6


def test_a_part_rises_or_falls_straight_between_its_levels():
    rising = prior_tastes.Part(lambda said: len(said.words), none=2, full=6)
    falling = prior_tastes.Part(lambda said: len(said.words), none=6, full=2)
    four = counts.Said.of("one two three four")
    assert (rising.score(four), falling.score(four)) == (0.5, 0.5)
    assert rising.score(counts.Said.of("one")) == 0 and falling.score(counts.Said.of("one")) == 1


def test_a_taste_is_found_from_ten_thumbs_under_the_shipped_prior():
    """Somebody who likes lists, on another base model: only the style part is known beforehand."""
    known = for_model("another digest", CONFIG.alone)
    assert known.unit is not None
    liked = [feature.name for feature in FEATURES].index("lists")
    areas = []
    for seed in range(10):
        draw = torch.Generator().manual_seed(seed)
        made = Answers(torch.randn(210, S, generator=draw) * known.unit, torch.randn(210, 16, generator=draw))
        up = (made.style[:, liked] > 0).float()
        first, rest = list(range(10)), list(range(10, 210))
        model = fit(made.rows(first), up[:10], Scale.of(made, CONFIG, known), CONFIG, known)
        areas.append(auroc(model.preference(made.rows(rest)), up[10:]) or 0)
    assert sum(areas) / len(areas) > 0.57


def test_how_likely_thumbs_are_under_a_kind_by_hand():
    """∫ exp(-½ 3 w² + 2 w) N(w; 0, 0.5) dw = (1 + 0.5 · 3)^-½ exp(½ · 2² / (3 + 2)); mean 2 / 5, variance 1 / 5."""
    one = torch.ones(1, 1, dtype=torch.double)
    belief, evidence = make_prior.under(make_prior.Factors(3 * one[None], 2 * one), 0.5 * one)
    assert float(belief.mean) == pytest.approx(0.4)
    assert float(belief.covariance) == pytest.approx(0.2)
    assert float(evidence) == pytest.approx(0.4 - 0.5 * math.log(2.5))
