"""How the rounds of the trials ended, and what for: as a table, and one by one.

Knows rounds as the service tells them, and the names of the gate's checks. Does not know gains, or the page around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.findings import Record, Table
from feedback.gate import GateConfig, stake

LATER = 4  # from this round on of a person all are counted together
WHOLE, LESS_KL, LESS_HARM = "version: whole", "less of it, for the KL", "for the probes"
LESS, HELD, HELD_ELSE, NONE = "for something else", "held: the reward", "anything else", "overtaken or failed"
WAYS = (WHOLE, LESS_KL, LESS_HARM, LESS, HELD, HELD_ELSE, NONE)
REWARD, KL, PROBES = "reward difference", "KL to", "probes"  # in the names of the gate's checks


@dataclass(frozen=True)
class Outcome:
    """One round, the `number`-th of its person."""

    whose: str
    number: int
    state: str
    reason: str | None
    metrics: Record

    @property
    def way(self) -> str:
        """One of WAYS. A candidate that was held for the reward is not drawn back, whatever else it was held for."""
        if self.state == "held":
            return HELD if REWARD in (self.reason or "") else HELD_ELSE
        if self.state != "published":
            return NONE
        failed = self.metrics.get("held_whole", [])
        if not failed:
            return WHOLE
        if any(PROBES in name for name in failed):
            return LESS_HARM
        return LESS_KL if any(name.startswith(KL) for name in failed) else LESS


def outcomes(table: Table) -> list[Outcome]:
    """Every round of an experiment, from the records of each taste."""
    return [
        Outcome(f"{taste}, seed {record['seed']}", number, round["state"], round["reason"], round["metrics"])
        for taste, records in table.items()
        for record in records
        for number, round in enumerate(record["rounds"], start=1)
    ]


def rows(experiment: str, ended: Sequence[Outcome]) -> list[str]:
    """Lines of a table: first, second, third and later rounds, how many ended in which way, and in the mean how certain
    the judge was, what KL it allowed so certain a taste, and what the version or candidate had."""
    lines = []
    for number in range(1, LATER + 1):
        alike = [each for each in ended if min(each.number, LATER) == number]
        if not alike:
            continue
        ways = Counter(each.way for each in alike)
        name = f"{number} and later" if number == LATER else f"{number}"
        counts = [f"{ways[way] or ''}" for way in WAYS]
        cells = [f"`{experiment}`", name, f"{len(alike)}", *counts, *_judged(alike)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _judged(ended: Sequence[Outcome]) -> list[str]:
    """Of those that came as far as the gate, the means of P, the KL that it allows, and their KL."""
    metrics = [each.metrics for each in ended if "certainty" in each.metrics]
    if not metrics:
        return ["–"] * 3
    certain = [each["certainty"] for each in metrics]
    allowed = fmean(map(stake, certain)) * GateConfig().lifetime_kl
    return [f"{fmean(certain):.2f}", f"{allowed:.0f}", f"{fmean(each['kl'] for each in metrics):.0f}"]


def lost(experiment: str, ended: Sequence[Outcome]) -> list[str]:
    """Lines of a list: the rounds that no version came of, whose they were, and why."""
    return [
        f"- `{experiment}`, {each.whose}, round {each.number}: {each.state}, {each.reason}"
        for each in ended
        if each.state != "published"
    ]
