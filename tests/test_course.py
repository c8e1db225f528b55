"""What the demo makes of its measurements: intervals, the verdict, typical examples, the picture."""

import json

import pytest

from service.course import Course, Estimate, Exam, Marked, Seen, Step, Thumb
from service.picture import png
from service.screen import examples, verdict


def exam(version, scores, thumbs=0):
    marked = [
        Marked(f"Question {n}?", f"Answer {n}.", score, score > 0.5, 2) for n, score in enumerate(scores)
    ]
    return Exam(version, thumbs, marked)


def course(*exams):
    made = Course("someone", "calm", 0.8, 1, 96, list(exams))
    made.thumbs.append(Thumb("Why?", 0, 0.5, True, False, "queued"))
    steps = [Step(3, 0.0, 0.0), Step(4, 0.5, 2.0)]
    made.rounds.append(Seen("round_1", "published", 1, None, {"kl": 2.0}, 60.0, steps))
    return made


def test_a_mean_with_its_interval():
    # 100 values, half 0 and half 1: the mean's standard error is 0.05, so 95 % lie within 1.96 × 0.05
    found = Estimate.of([0.0, 1.0] * 50)
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - 0.098, abs=0.012)
    assert found.high == pytest.approx(0.5 + 0.098, abs=0.012)


def test_equal_values_leave_no_doubt():
    assert Estimate.of([0.25] * 7) == Estimate(0.25, 0.25, 0.25)
    assert Estimate.of([1.0]) == Estimate(1.0, 1.0, 1.0)


def test_a_difference_is_paired():
    before = [0.0, 1.0] * 20
    after = [value + 0.5 for value in before]
    assert Estimate.of_difference(before, after) == Estimate(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="shorter"):
        Estimate.of_difference(before, after[:-1])


def test_the_same_figures_again():
    values = [0.1, 0.9, 0.4, 0.3]
    assert Estimate.of(values) == Estimate.of(values)


@pytest.mark.parametrize(("after", "says", "learnt"), [
    ([0.5, 0.5, 0.5, 0.5], "Learnt: the score rose by +0.20 (95 % interval +0.20 to +0.20)", True),
    ([0.2, 0.2, 0.2, 0.2], "Worse: the score went down by -0.10", False),
    ([0.1, 0.5, 0.1, 0.5], "Not shown: the score changed by +0.00", False),
])  # fmt: skip
def test_the_verdict_says_what_the_interval_says(after, says, learnt):
    made = course(exam(0, [0.3] * 4), exam(1, after, 28))
    assert verdict(made).startswith(says)
    assert made.learnt == learnt


def test_without_a_new_version_nothing_is_claimed():
    made = course(exam(0, [0.1, 0.2]))
    assert not made.learnt and verdict(made).startswith("Nothing was learnt")


def test_examples_are_typical_ones():
    gains = [0.7, 0.0, 0.3, 0.1, 0.6, 0.2, 0.5, 0.4]
    made = course(exam(0, [0.0] * 8), exam(1, gains, 28))
    assert [after.score for _, after in examples(made)] == [0.2, 0.4, 0.6]
    assert all(before.prompt == after.prompt for before, after in examples(made))


def test_every_figure_is_in_the_json():
    made = course(exam(0, [0.1, 0.2]), exam(1, [0.4, 0.5], 28))
    found = json.loads(json.dumps(made.to_json()))
    assert [each["version"] for each in found["versions"]] == [0, 1]
    assert found["versions"][1]["gain"]["mean"] == pytest.approx(0.3)
    assert found["learnt"] is True
    assert found["exams"][1]["marked"][0]["answer"] == "Answer 0."
    assert found["rounds"][0]["steps"][1] == {"step": 4, "reward": 0.5, "kl": 2.0}


@pytest.mark.parametrize("exams", [1, 3])
def test_the_picture_is_a_png_whatever_happened(exams):
    made = course(*[exam(n, [0.1 * n, 0.2], 28 * n) for n in range(exams)])
    assert png(made).startswith(b"\x89PNG\r\n")
    made.rounds.clear()
    assert png(made).startswith(b"\x89PNG\r\n")
