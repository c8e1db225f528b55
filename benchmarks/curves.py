"""The proof as one PNG: gain against thumbs, reward against KL inside the rounds, accepted answers over time.

Knows the trials' records, what they show, and matplotlib. What has not been run leaves its place empty.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.findings import Found
from benchmarks.results import Result
from benchmarks.trials import STEP
from service.picture import ACCEPTED, DOTS_AN_INCH, KL, REWARD, SCORE

INCHES = (15.0, 4.6)


def png(found: Found, results: Mapping[str, Result]) -> bytes:
    """The picture's file."""
    figure = Figure(figsize=INCHES, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_gain(left, results["gain"])
    _draw_rounds(middle, found)
    _draw_acceptance(right, results["long"])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_AN_INCH)
    return file.getvalue()


def _draw_gain(axes: Axes, gain: Result) -> None:
    """Every taste thin, all of them thick with their interval."""
    for single in gain.raw.get("tastes", {}).values():
        thumbs = [0, *map(int, single["gains"])]
        axes.plot(
            thumbs, [0.0, *(each["mean"] for each in single["gains"].values())], color=ACCEPTED, linewidth=0.8
        )
    if spans := gain.raw.get("intervals", {}):
        thumbs = [0, *(int(name.split()[0]) for name in spans)]
        means = [0.0, *(gain.figures[name] for name in spans)]
        lows = [0.0, *(gain.figures[name] - span[0] for name, span in spans.items())]
        highs = [0.0, *(span[1] - gain.figures[name] for name, span in spans.items())]
        axes.errorbar(thumbs, means, yerr=[lows, highs], color=SCORE, marker="o", capsize=4, linewidth=2)
        axes.set_xticks(thumbs)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(title="prompts never rated (thin: each taste)", xlabel="thumbs", ylabel="gain (bars: 95 %)")


def _draw_rounds(axes: Axes, found: Found) -> None:
    """Each round a line, published or not; along it PPO climbs."""
    colours = {"published": REWARD, "held": ACCEPTED}
    rounds = [
        each
        for records in found.tables.get("gain", {}).values()
        for record in records
        for each in record["rounds"]
    ]
    for each in rounds:
        if each["path"]:
            rewards, kls = zip(*each["path"], strict=True)
            axes.plot(
                kls, rewards, color=colours.get(each["state"], KL), linewidth=0.8, marker=".", markersize=3
            )
    axes.set(title="inside the rounds (grey: held)", xlabel="KL to the base model, nats an answer")
    axes.set_ylabel("reward over the base's answer, log-odds")


def _draw_acceptance(axes: Axes, long: Result) -> None:
    """Of each STEP answers in a row, the accepted share."""
    over_time: Mapping[str, Sequence[float]] = long.raw.get("over time", {})
    for shares in over_time.values():
        axes.plot(_ends(shares), shares, color=ACCEPTED, linewidth=0.8)
    if over_time:
        means = [fmean(each) for each in zip(*over_time.values(), strict=True)]
        axes.plot(_ends(means), means, color=SCORE, marker="o", linewidth=2)
    else:
        axes.text(0.5, 0.5, "not run yet", transform=axes.transAxes, ha="center")
    axes.set(
        title="a user's own chats (thin: each taste)", xlabel="thumbs", ylabel="accepted by the strict test"
    )
    axes.set_ylim(0, 1)


def _ends(shares: Sequence[float]) -> list[int]:
    return [STEP * (number + 1) for number in range(len(shares))]
