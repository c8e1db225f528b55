"""The crowd: what people make of answers and what they are used to, by hand; and the people who ship."""

import dataclasses

import pytest
import torch

from benchmarks import make_crowd
from feedback import crowd
from feedback.counts import PARTS, SHAPED, SHAPES
from feedback.crowd import FIRMNESS, LEAST_UNIT, LIKED, Crowd, People
from tests.test_prior import TEXTS


def people(*each, product=None, threshold=0.5, unit=1.0):
    """Of each person the parts that they look at: column, none, full, weight."""
    column, none, full, weight = (
        torch.tensor([[part[n] for part in parts] for parts in each]) for n in range(4)
    )
    alike = torch.ones(len(each))
    return People(
        column,
        none.float(),
        full.float(),
        weight.float(),
        torch.tensor(product or [False] * len(each)),
        alike * threshold,
        alike * unit,
    )


def drawn(*each, beyond=0.0, threshold=0.5, product=False):
    """A crowd of people with one part each: column, and the shares at which it is worth nothing, and all."""
    column, none, full = (torch.tensor([[part[n]] for part in each]) for n in range(3))
    alike = torch.ones(len(each))
    return Crowd(
        column,
        none.float(),
        full.float(),
        alike[:, None] * beyond,
        alike[:, None],
        torch.full((len(each),), product),
        alike * threshold,
    )


def test_scores_by_hand():
    """Two columns. One person wants two to six of the first, one six to two; two want much of the first and, half as
    strongly, little of the second: the one takes the sum, the other the geometric mean."""
    both = ((0, 2, 6, 2 / 3), (1, 4, 0, 1 / 3))
    rising, falling = ((0, 2, 6, 1), (1, 0, 1, 0)), ((0, 6, 2, 1), (1, 0, 1, 0))  # of the second nothing
    four = people(rising, falling, both, both, product=[False, False, False, True])
    found = four.scores(torch.tensor([[4.0, 1.0], [0.0, 9.0], [9.0, 0.0], [3.0, 2.0]]))
    expected = [
        [0.5, 0.5, 2 / 3 * 0.5 + 1 / 3 * 0.75, 0.5 ** (2 / 3) * 0.75 ** (1 / 3)],
        [0, 1, 0, 0],
        [1, 0, 1, 1],
        [0.25, 0.75, 2 / 3 * 0.25 + 1 / 3 * 0.5, 0.25 ** (2 / 3) * 0.5 ** (1 / 3)],
    ]
    assert torch.allclose(found, torch.tensor(expected), atol=2e-6)


def test_a_geometric_mean_is_nothing_where_one_part_is():
    both = ((0, 0, 1, 0.5), (1, 0, 1, 0.5))
    one = people(both, both, product=[True, False]).scores(torch.tensor([[1.0, 0.0]]))
    assert one.tolist()[0] == pytest.approx([0.001, 0.5]), "but for a millionth, whose root it is"


def test_many_answers_are_scored_as_each_by_itself():
    one = people(((0, 0, 200, 1),))
    counts = torch.arange(200.0)[:, None]
    assert torch.allclose(one.scores(counts)[:, 0], torch.arange(200.0) / 200)
    assert one.scores(counts[:0]).shape == (0, 1)


def test_the_chance_of_a_thumb_by_hand():
    """From the threshold on it is likelier up than down: σ(4 · (0.75 - 0.5) / 0.5) = σ(2) a half deviation above."""
    chance = people(((0, 0, 4, 1),), unit=0.5).chance(torch.tensor([[3.0], [2.0], [1.0]]))
    assert FIRMNESS == 4
    assert chance[:, 0].tolist() == pytest.approx([0.880797, 0.5, 0.119203])


def test_levels_are_shares_of_what_is_usual():
    """Of 10, 20, ... 50 a quarter is 20, and 0.85 is 0.4 of the way from 40 to 50; the threshold at half of the scores
    20/24, ... is the middle one's."""
    usual = torch.tensor([[50.0, 1.0], [10.0, 2.0], [40.0, 3.0], [20.0, 4.0], [30.0, 5.0]])
    found = drawn((0, 0.25, 0.85), (0, 0.85, 0.25), (1, 0.0, 1.0)).among(usual)
    assert found.none[:, 0].tolist() == pytest.approx([20, 44, 1])
    assert found.full[:, 0].tolist() == pytest.approx([44, 20, 5])
    assert found.threshold.tolist() == pytest.approx([10 / 24, 14 / 24, 0.5])
    # Scores 0, 0, 10/24, 20/24, 1 (the mean is 0.45, the squares' 0.3736); 0, 1/4, ... 1.
    assert found.unit.tolist() == pytest.approx([0.41366, 0.41366, 0.353553], abs=1e-4)


def test_somebody_may_want_more_than_is_usual():
    usual = torch.tensor([[10.0], [20.0], [30.0], [40.0], [50.0]])
    rising, falling = (drawn(part, beyond=0.5).among(usual) for part in ((0, 0.0, 0.5), (0, 0.75, 0.25)))
    assert (float(rising.none), float(rising.full)) == (10, 40), "half as far again as from 10 to 30"
    assert (float(falling.none), float(falling.full)) == (40, 10)


def test_where_both_levels_are_the_same_the_step_is_to_any_at_all():
    """Three of five have none of it, up to the level of a half."""
    usual = torch.tensor([[0.0], [0.0], [3.0], [0.0], [7.0]])
    found = drawn((0, 0.1, 0.4)).among(usual)
    assert (float(found.none), float(found.full)) == (0, 3)
    scores = found.scores(torch.tensor([[0.0], [1.5], [3.0], [7.0]]))
    assert scores[:, 0].tolist() == [0, 0.5, 1, 1]
    top = drawn((0, 1.0, 1.0)).among(usual)
    assert len(top) == 0, "beyond the most that there is there is no step"


def test_who_likes_all_or_nothing_or_looks_at_what_never_varies_takes_no_part():
    """Columns: one that varies, one that is always 4, and one that a single answer of ten has."""
    usual = torch.stack([torch.arange(10.0), torch.full((10,), 4.0), torch.zeros(10)], 1)
    usual[3, 2] = 1.0
    ordinary, still, rare = (0, 0.1, 0.9), (1, 0.1, 0.9), (2, 0.1, 0.9)
    found = drawn(ordinary, still, rare).among(usual)
    assert found.column[:, 0].tolist() == [0]
    for share, kept in ((0.0, 0), (0.1, 0), (0.25, 1), (0.75, 1), (0.95, 0)):
        assert len(drawn(ordinary, threshold=share).among(usual)) == kept
    assert LIKED == (0.2, 0.8)


def test_a_part_of_no_weight_keeps_nobody_out():
    one = drawn((0, 0.1, 0.9))
    second = {"column": 1, "none": 0.0, "full": 0.0, "beyond": 0.0, "weight": 0.0}
    two = dataclasses.replace(
        one,
        **{
            name: torch.cat([getattr(one, name), torch.full((1, 1), value)], 1)
            for name, value in second.items()
        },
    )
    usual = torch.stack([torch.arange(10.0), torch.full((10,), 4.0)], 1)
    alone, beside = one.among(usual), two.among(usual)
    assert torch.equal(alone.scores(usual), beside.scores(usual)) and len(beside) == 1


def test_a_score_that_hardly_varies_is_not_blown_up():
    """Nine of ten make next to nothing of the way between the levels: the unit stays what is least."""
    usual = torch.tensor([[0.0]] * 7 + [[0.01]] * 3)
    found = drawn((0, 0.0, 1.0), beyond=99.0, threshold=0.7).among(usual)
    assert found.unit.tolist() == [pytest.approx(LEAST_UNIT)]


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_usual_answers_are_no_error(number):
    shipped, families = crowd.shipped()
    usual = crowd.tally(TEXTS[:number])
    found = shipped.among(usual)
    assert len(found) == 0 if number == 1 else len(found) > 1000
    chance = found.chance(crowd.tally([*TEXTS[:8], ""]))
    assert chance.shape == (9, len(found)) and chance.isfinite().all()
    assert usual.shape == (number, SHAPED + len(families))


def test_the_shipped_people_are_sound():
    shipped, families = crowd.shipped()
    assert len(shipped) == make_crowd.PEOPLE
    for name in ("column", "none", "full", "beyond", "weight"):
        assert getattr(shipped, name).shape == (make_crowd.PEOPLE, make_crowd.MOST_PARTS)
    assert shipped.product.shape == shipped.threshold.shape == (make_crowd.PEOPLE,)
    assert shipped.product.dtype == torch.bool and 0.25 < float(shipped.product.float().mean()) < 0.35
    assert int(shipped.column.min()) >= 0 and int(shipped.column.max()) == SHAPED + len(families) - 1
    for name in ("none", "full", "threshold", "weight", "beyond"):
        assert float(getattr(shipped, name).min()) >= 0 and float(getattr(shipped, name).max()) <= 1
    assert torch.allclose(shipped.weight.sum(1), torch.ones(len(shipped)), atol=2e-3), (
        "half precision on disk"
    )
    looked_at = shipped.column[shipped.weight > 0].bincount(minlength=SHAPED + len(families))
    assert (looked_at > 0).all(), "every column is somebody's"
    assert families.members.shape == (len(families.words), len(families))
    assert set(families.members.unique().tolist()) == {0.0, 1.0}
    assert (families.members.sum(0) > 0).all() and (families.members.sum(1) > 0).all()
    assert set(families.part.tolist()) == set(range(len(PARTS)))
    assert list(families.words) == sorted(set(families.words))


def test_what_is_packed_is_unpacked_again():
    """Numbers in half precision, for 60,000 people ship."""
    made, families = make_crowd.draw(TEXTS, 20, 1)
    tensors, told = crowd.packed(made, families)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    again, same = crowd.unpacked(tensors, families.words)
    for name in Crowd.__dataclass_fields__:
        before, after = getattr(made, name), getattr(again, name)
        assert before.dtype == after.dtype
        assert torch.allclose(before.float(), after.float(), atol=1e-3)
    assert torch.equal(made.column, again.column) and torch.equal(made.product, again.product)
    assert same.words == families.words
    assert torch.equal(same.members, families.members) and torch.equal(same.part, families.part)
    assert set(told) == {"words", "shapes"}
    twice, _ = crowd.packed(again, same)
    assert all(torch.equal(twice[name], tensor) for name, tensor in tensors.items())


def test_drawn_people_are_the_same_for_the_same_seed():
    (one, families), (two, others) = (make_crowd.draw(TEXTS, 40, 5) for _ in range(2))
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in Crowd.__dataclass_fields__)
    assert families.words == others.words and torch.equal(families.members, others.members)
    other, _ = make_crowd.draw(TEXTS, 40, 6)
    assert not torch.equal(one.column, other.column)
    assert len(one) == 40 and int(one.column.max()) < SHAPED + len(families)
    assert {int(number) for number in (one.weight > 0).sum(1)} == {1, 2, 3}


def test_people_look_at_every_kind_of_thing():
    """A tenth each at lengths and at layout, half at words; and as many want little of what they look at as much."""
    shipped, _ = crowd.shipped()
    first = shipped.column[:, 0]
    lengths, layout = len(SHAPES["length"]), len(SHAPES["length"]) + len(SHAPES["layout"])
    assert float((first < lengths).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(((first >= lengths) & (first < layout)).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((first >= SHAPED).float().mean()) == pytest.approx(0.5, abs=0.01)
    falls = (shipped.none > shipped.full)[:, 0]
    assert float(falls.float().mean()) == pytest.approx(0.5, abs=0.01)
