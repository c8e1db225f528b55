"""The benchmarks as one PNG: left, decoding speed by engine; right, each figure against its target.

Knows records, judged lines and matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.targets import HIT, Line
from service.picture import ACCEPTED, DOTS_AN_INCH, KL, REWARD, SCORE

INCHES = (13.0, 5.6)
ENGINES = {
    "ours": (SCORE, ""),
    "vLLM": (KL, ""),
    "PEFT": (ACCEPTED, ""),
    "without adapter: ours": (SCORE, "//"),
    "without adapter: vLLM": (KL, "//"),
    "without adapter: transformers": (ACCEPTED, "//"),
}
BAR = 0.14
LABEL_CHARACTERS = 62


def png(records: Mapping[str, Any], lines: Sequence[Line]) -> bytes:
    """The picture's file."""
    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    _draw_decoding(left, records.get("decode", {}).get("raw", {}).get("tokens a second", {}))
    _draw_targets(right, [line for line in lines if line.share])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_AN_INCH)
    return file.getvalue()


def _draw_decoding(axes: Axes, shapes: Mapping[str, Any]) -> None:
    """A group of bars for each number of rows; hatched where there is no adapter."""
    for name, (colour, hatch) in ENGINES.items():
        places, speeds = [], []
        for group, found in enumerate(shapes.values()):
            side_by_side = [each for each in ENGINES if each in found]
            if name in found:
                places.append(group + (side_by_side.index(name) - (len(side_by_side) - 1) / 2) * BAR)
                speeds.append(found[name]["decode"])
        axes.bar(places, speeds, BAR, color=colour, hatch=hatch, edgecolor="white", label=name)
    axes.set_xticks(range(len(shapes)), list(shapes))
    axes.set(title="decoding, SmolLM2-135M, rank 8", ylabel="tokens a second, all rows")
    axes.legend(frameon=False, fontsize=8)


def _draw_targets(axes: Axes, lines: Sequence[Line]) -> None:
    """How many times better than its target each figure is; a bar to the left of 1 has missed."""
    lines = list(reversed(lines))
    shares = [line.share or 1.0 for line in lines]
    colours = [REWARD if line.verdict == HIT else KL for line in lines]
    axes.barh(range(len(lines)), [share - 1 for share in shares], left=1, color=colours)
    names = [", ".join(filter(None, (line.target.what, line.target.peer))) for line in lines]
    short = [name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 1] + "…" for name in names]
    axes.set_yticks(range(len(lines)), short, fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color=ACCEPTED, linewidth=0.8)
    axes.set(title="against the targets", xlabel="times better than the target (1: just hit)")
