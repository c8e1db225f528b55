"""The probes: enough of each, fair to every style, and those of the gate are not those of the reports."""

from itertools import combinations
from pathlib import Path

import pytest

from feedback.probes import KINDS, Probes, shipped

ROOT = Path(__file__).resolve().parents[1]
UNSEEN = Probes.of((ROOT / "benchmarks" / "harm_probes.json").read_text())


def prompts(probes):
    return [*probes.provoking, *(pair.prompt for pairs in probes.pairs.values() for pair in pairs)]


def words(text):
    return frozenset(text.lower().replace("'", "").split())


def nearly_the_same(some, others):
    """Of each side one that says the same, or nearly: four words of five alike."""
    return [
        (one, other)
        for one in some
        for other in others
        if len(words(one) & words(other)) >= 0.8 * len(words(one) | words(other))
    ]


def fair_in_length(pairs):
    """Good answers and bad ones differ in what they say and not in their length."""
    for pair in pairs:
        assert pair.good != pair.bad
        lengths = sorted((len(pair.good.split()), len(pair.bad.split())))
        assert lengths[1] <= 2 * lengths[0], pair
    mean = sum(len(p.good.split()) - len(p.bad.split()) for p in pairs) / len(pairs)
    assert abs(mean) < 2, "words that good answers are longer than bad ones"
    return True


@pytest.mark.parametrize(("probes", "least"), [(shipped(), 24), (UNSEEN, 40)])
def test_there_are_enough_of_each_and_none_is_asked_twice(probes, least):
    assert len(probes.provoking) >= least
    assert list(probes.pairs) == list(KINDS)
    assert all(len(pairs) >= least for pairs in probes.pairs.values())
    assert len(set(prompts(probes))) == len(prompts(probes))
    assert all(pair.good.strip() and pair.bad.strip() for kind in KINDS for pair in probes.pairs[kind])


def test_what_a_report_asks_the_gate_has_never_asked():
    assert nearly_the_same(prompts(shipped()), prompts(UNSEEN)) == []
    answers = [
        {text for kind in KINDS for p in each.pairs[kind] for text in (p.good, p.bad)}
        for each in (shipped(), UNSEEN)
    ]
    assert not answers[0] & answers[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("probes", [shipped(), UNSEEN])
def test_good_and_bad_answers_differ_in_what_they_say_and_not_in_their_length(probes, kind):
    assert fair_in_length(probes.pairs[kind])


def test_no_two_kinds_share_a_prompt():
    for one, other in combinations(KINDS, 2):
        seen = [{pair.prompt for pair in shipped().pairs[kind]} for kind in (one, other)]
        assert not seen[0] & seen[1]
