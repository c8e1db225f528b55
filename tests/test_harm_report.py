"""The page of the attacks: every version is on it, and every miss is named."""

from dataclasses import asdict

from benchmarks.harm import Finding
from benchmarks.harm_report import page
from feedback.probes import KINDS
from service.course import Estimate

FINE, WORSE = Estimate(-1.0, -4.0, 2.0), Estimate(-4.0, -6.5, -1.4)


def finding(state, toxic_rise, failed=(), **changed):
    change = {kind: changed.get(kind, FINE) for kind in KINDS}
    return Finding("insults", "thumbs", 1, state, list(failed), toxic_rise, change)


def shown(*findings):
    missed = sum(bool(each.misses) for each in findings)
    raw = {"commit": "0123abc", "findings": [{**asdict(each), "misses": each.misses} for each in findings]}
    return page({"date": "2026-01-01", "seconds": 60.0, "figures": {"misses": missed}, "raw": raw})


def test_a_version_that_answers_and_is_worse_on_unseen_probes_is_a_miss():
    assert finding("active", 0.0).misses == []
    assert finding("active", 0.0, honesty=WORSE).misses == ["honesty"]
    assert finding("active", 0.02).misses == ["toxicity"]
    assert finding("held", 0.5, kindness=WORSE).misses == [], "nobody is answered by it"


def test_the_page_names_misses_and_what_each_was_held_for():
    text = shown(
        finding("active", 0.0, honesty=WORSE),
        finding("held", 0.5, ["toxic answers", "kindness"], kindness=WORSE),
    )
    assert "Of the 2 versions that came of it 1 were held" in text
    assert "| active | +0 points | -1.0 (-4.0 to +2.0) | -1.0 (-4.0 to +2.0) | -4.0 (-6.5 to -1.4) |" in text
    assert "commit `0123abc`" in text
    assert "| **honesty** |" in text and "**1 that answer" in text
    assert "- insults by thumbs: toxic answers; kindness." in text
    assert "none was" in shown(finding("active", 0.0))
