"""The benchmarks' pure parts: what a hit is, how figures are worded and laid out. Nothing here measures anything."""

import json
import sys
from itertools import pairwise

import pytest

from benchmarks import report, results, targets
from benchmarks.apart import CannotInstall, run
from benchmarks.decode import Speed, ratios
from benchmarks.machine import Floor, Peaks
from benchmarks.targets import HIT, MISS, UNKNOWN, Target, judge
from benchmarks.vllm_setup import needed
from benchmarks.wire import Answer


def record(figures, left_out=None):
    return {
        "figures": figures,
        "left_out": left_out or {},
        "raw": {},
        "quick": False,
        "seconds": 1.0,
        "date": "d",
    }


def test_decoding_alone_is_what_64_tokens_took_longer_than_one():
    speed = Speed.of(rows=2, first=1.0, all=2.0)
    assert speed == Speed(whole=64.0, decode=126.0)  # 128 tokens in 2 s; 126 in 1 s


def test_ratios_are_ours_over_the_peers():
    found = ratios({8: {"ours": Speed(30.0, 40.0), "PEFT": Speed(10.0, 8.0)}})
    assert found == {"8 rows against PEFT": 5.0, "8 rows against PEFT, whole": 3.0}


def test_the_floor_is_reading_or_arithmetic_whichever_takes_longer():
    floor = Floor(weights=100, adapter=10)
    # 4 rows: 140 weights of 2 bytes at 28 bytes/s are 10 s; 2 · 110 · 4 operations at 88/s are 10 s, at 44/s 20 s.
    assert floor.tokens_a_second(4, Peaks(flops=1e9, bytes=28.0)) == 0.4
    assert floor.tokens_a_second(4, Peaks(flops=44.0, bytes=28.0)) == 0.2


@pytest.mark.parametrize(
    ("relation", "value", "verdict"),
    [("≥", 2.0, HIT), ("≥", 1.99, MISS), ("≤", 2.0, HIT), ("≤", 2.01, MISS), (">", 2.0, MISS)],
)
def test_a_figure_at_the_bound(relation, value, verdict):
    target = Target("part", "figure", "what", "peer", relation, 2.0)
    assert judge(target, record({"figure": value})).verdict == verdict


def test_what_was_not_measured_is_no_hit_and_says_why():
    target = Target("part", "figure", "what", "peer", "≥", 2.0)
    assert judge(target, None).verdict == UNKNOWN
    line = judge(target, record({}, {"vLLM": "no package"}))
    assert (line.verdict, line.measured) == (UNKNOWN, "no package")


def test_how_many_times_better_than_its_target_a_figure_is():
    assert targets.share(Target("p", "f", "w", "", "≥", 4.0), 6.0) == 1.5
    assert targets.share(Target("p", "f", "w", "", "≤", 4.0), 2.0) == 2.0
    assert targets.share(Target("p", "f", "w", "", ">", 0.0), 2.0) is None


def test_a_line_of_the_table():
    target = Target("part", "figure", "32 rows", "PEFT", "≥", 15.0, beside="whole")
    line = judge(target, record({"figure": 9.256, "whole": 7.143}))
    assert report.row(line) == "| 32 rows | PEFT | ≥ 15 × | 9.26 × (whole: 7.14 ×) | **MISS** |"


def test_every_target_names_a_part_and_no_figure_twice():
    from benchmarks.__main__ import PARTS

    assert {target.part for target in targets.TARGETS} <= set(PARTS)
    assert len({(target.part, target.figure) for target in targets.TARGETS}) == len(targets.TARGETS)


def test_the_page_marks_quick_runs_and_misses():
    machine = {
        "processor": "P", "cores": 2, "memory_gb": 24.0, "device": "cpu", "python": "3.11", "versions": {"torch": "2"},
        "peaks": {"flops": 8e11, "bytes": 4e10}, "commit": "abc",
    }  # fmt: skip
    records = {
        "machine": record({}) | {"raw": machine},
        "memory": record({"in a slot": 3.0}) | {"quick": True},
    }
    page = report.page(records, targets.lines(records))
    assert "quick runs, rough figures: memory" in page
    assert "800 GFLOP/s" in page and "40 GB/s" in page
    assert "| ≤ 2 × | 3 × | **MISS** |" in page
    assert "| in a slot | 3 |" in page


def test_the_speeds_are_a_line_for_each_engine():
    shapes = {
        "32 rows": {"ours": {"decode": 1234.5}},
        "1 rows": {"ours": {"decode": 61.0}, "PEFT": {"decode": 20.0}},
    }
    raw = {"tokens a second": shapes, "floor, tokens a second": {"32 rows": 2100.0, "1 rows": 159.0}}
    assert report.speeds(record({}) | {"raw": raw}).splitlines() == [
        "| decoded tokens a second | 32 rows | 1 rows |",
        "| --- | --- | --- |",
        "| ours | 1,234 | 61 |",
        "| PEFT | – | 20 |",
        "| floor: memory or arithmetic | 2,100 | 159 |",
    ]
    assert report.speeds(None) == ""


def test_a_percentile_is_the_nearest_rank():
    values = [float(number) for number in range(1, 101)]
    assert [results.percentile(values, share) for share in (0.5, 0.95, 1.0)] == [50.0, 95.0, 100.0]
    assert results.percentile([7.0], 0.95) == 7.0


def test_a_record_is_written_with_four_digits(tmp_path):
    results.write(tmp_path / "a.json", {"a": [1.23456, {"b": 0.000123456}], "c": 7})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.235, {"b": 0.0001235}], "c": 7}


def test_text_needs_neither_torchvision_nor_extras():
    given = [
        "numpy",
        "fastapi[standard]<0.137",
        "torch==2.13.0+cpu; x",
        "torchvision",
        "pandas; extra == 'bench'",
    ]
    assert needed(given) == ["numpy", "fastapi[standard]<0.137"]


def test_an_answer_with_a_length_is_whole_at_its_last_byte():
    answer = Answer(0.0)
    for number, part in enumerate([b"HTTP/1.1 200 OK\r\nContent-", b"Length: 4\r\n\r\n{", b"} ", b" "]):
        assert not answer.whole
        answer.take(part, float(number))
    assert answer.whole and answer.status == 200 and answer.json() == {} and answer.seconds == 3.0


def test_the_gaps_of_a_stream_are_between_its_texts():
    answer = Answer(0.0)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b"9\r\ndata: {}\n\n\r\n"
    times = [1.0, 2.0, 2.5, 4.0, 5.0]  # the role, three texts, the end
    for number, now in enumerate(times):
        answer.take((head if not number else b"") + event, now)
    assert not answer.whole
    answer.take(b"0\r\n\r\n", 6.0)
    assert answer.whole
    assert answer.gaps == [after - before for before, after in pairwise(times[1:-1])] == [0.5, 1.5]


def test_an_environment_that_cannot_be_made_says_why():
    with pytest.raises(CannotInstall, match="there is no such package"):
        run([sys.executable, "-c", "raise SystemExit('there is no such package')"])
    assert run([sys.executable, "-c", "print('here')"]) == "here\n"


def test_an_interval_and_what_stands_beside_are_shown():
    target = Target("p", "f", "what", "peer", "≥", 0.6, "", "g", "its gain")
    line = judge(target, record({"f": 0.5, "g": 0.25}) | {"raw": {"intervals": {"f": [0.4, 0.75]}}})
    assert line.measured == "0.50 (0.40 to 0.75) (its gain: 0.25)" and line.verdict == MISS
