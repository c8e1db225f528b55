"""The learning curve of a demo as a PNG.

Knows what a demo measured, and matplotlib. Left: the taste's score on prompts that were never rated, by version. Right:
what each round told of itself while it ran: the reward that PPO climbs, and the KL that it costs.
"""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.course import Course, Estimate

INCHES = (10.0, 4.2)
DOTS_AN_INCH = 130
SCORE, ACCEPTED, REWARD, KL = "#1f5fa8", "#8a8f98", "#2a7f4f", "#b0452c"


def png(course: Course) -> bytes:
    """The picture's file."""
    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_exams(left, course)
    _draw_rounds(right, course)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_AN_INCH)
    return file.getvalue()


def _draw_exams(axes: Axes, course: Course) -> None:
    thumbs = [exam.thumbs for exam in course.exams]
    found = [Estimate.of(exam.scores) for exam in course.exams]
    means = [each.mean for each in found]
    spans = [[each.mean - each.low for each in found], [each.high - each.mean for each in found]]
    axes.errorbar(thumbs, means, yerr=spans, color=SCORE, marker="o", capsize=4, label="score")
    accepted = [Estimate.of(exam.accepted).mean for exam in course.exams]
    axes.plot(
        thumbs, accepted, color=ACCEPTED, marker=".", linestyle="--", label="accepted by the strict test"
    )
    versions = [f"version {exam.version}" if exam.version else "base model" for exam in course.exams]
    axes.set_xticks(thumbs, [f"{count}\n{version}" for count, version in zip(thumbs, versions, strict=True)])
    axes.set(
        title=f"“{course.taste}” on {len(course.before.marked)} prompts never rated", xlabel="thumbs given"
    )
    axes.set(ylim=(0, 1), ylabel="mean (bars: 95 % interval)")
    axes.legend(loc="upper left", frameon=False)


def _draw_rounds(axes: Axes, course: Course) -> None:
    """All rounds one after the other, a line between two of them."""
    beside = axes.twinx()
    start = 0
    for round in course.rounds:
        places = [start + number for number in range(len(round.steps))]
        axes.plot(places, [step.reward for step in round.steps], color=REWARD, marker="o", markersize=3)
        beside.plot(places, [step.kl for step in round.steps], color=KL, marker="s", markersize=3)
        start += len(round.steps)
        if round is not course.rounds[-1]:
            axes.axvline(start - 0.5, color=ACCEPTED, linewidth=0.8, linestyle=":")
    axes.set(title="inside the rounds", xlabel="batches of rollouts")
    axes.set_ylabel("reward over the base's answer, log-odds", color=REWARD)
    beside.set_ylabel("KL to the base model, nats an answer", color=KL)
