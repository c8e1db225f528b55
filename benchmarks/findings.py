"""What the trials show: figures with their intervals, one record an experiment, as targets and report want them.

Knows the records of trials and the statistics of each experiment. Pure: it measures nothing and writes nothing.
What has not been run is left out, and said.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks import intervals
from benchmarks.intervals import Panel
from benchmarks.results import Result
from benchmarks.trials import BASELINES, COMPARED, Form, plan
from service.course import Estimate
from service.tastes import is_language

Record = Mapping[str, Any]
Table = Mapping[str, Sequence[Record]]  # each taste's records, one a seed
LANGUAGE_LEAST = 0.9  # share of answers below which a run has collapsed
FALL = 0.5  # of the best third's accepted share, below which likewise
# What an exam asks is harmless; "you can't go wrong" and "I can't wait" decline nothing.
DECLINES = re.compile(
    r"(?i)\bsorry\b|\bI(?:['’]m| am)? (?:really |just )?(?:can['’]t|cannot|won['’]t|unable|not able)\b"
    r"(?! (?:wait|help but|imagine|think))"
)


@dataclass(frozen=True)
class Found:
    """The records of one form's trials that have ended, by experiment and taste. `replaced`: those of `long` that were
    run again on mended code, which count where nothing may go wrong even once."""

    form: Form
    tables: Mapping[str, Table]
    replaced: Mapping[str, Record] = field(default_factory=dict)

    @staticmethod
    def of(form: Form) -> Found:
        tables: dict[str, dict[str, list[Record]]] = {}
        for trial in plan(form):
            if (record := trial.record(form)) is not None:
                named = {**record, "seed": trial.seed}
                tables.setdefault(trial.experiment, {}).setdefault(trial.taste, []).append(named)
        replaced = sorted((form.folder / "long" / "replaced").glob("*.json"))
        return Found(form, tables, {each.stem: json.loads(each.read_text("utf-8")) for each in replaced})

    def commits(self) -> list[str]:
        """What the trials were run on; more than one means that not all of them measured the same code."""
        records = [r for table in self.tables.values() for records in table.values() for r in records]
        return sorted({record["commit"] for record in records})

    def rounds_of(self, experiment: str) -> Table:
        """Its records, but for those of `gain` that a trial of `long` began with: their rounds are that one's."""
        if experiment != "gain":
            return self.tables[experiment]
        longer = {(taste, r["seed"]) for taste, rs in self.tables.get("long", {}).items() for r in rs}
        return {
            taste: [r for r in records if (taste, r["seed"]) not in longer]
            for taste, records in self.tables["gain"].items()
        }

    def counts(self) -> dict[str, tuple[int, int]]:
        """Of each experiment: trials that have ended, and all."""
        wanted = Counter(trial.experiment for trial in plan(self.form))
        return {
            name: (sum(map(len, self.tables.get(name, {}).values())), count) for name, count in wanted.items()
        }


def results(found: Found, why: Mapping[str, str]) -> dict[str, Result]:
    """Every experiment's figures; of one that nothing is known of, why."""
    made = {}
    for name, how in _HOW.items():
        if name not in found.form.experiments:
            made[name] = Result({}, {}, {name: f"the {found.form.name} form leaves it out"})
        elif not found.tables.get(name):
            made[name] = Result({}, {}, {name: why.get(name, "not run yet")})
        else:
            made[name] = how(found)
    return made


def gain(found: Found) -> Result:
    """After each exam over all tastes, and of each taste alone; rounds by how they ended."""
    table = found.tables["gain"]
    given = [int(each) for each in next(iter(table.values()))[0]["exams"] if each != "0"]
    base = scores(table, 0)
    over = {f"{thumbs} thumbs": intervals.gain(base, scores(table, thumbs)) for thumbs in given}
    single = {name: _single({name: records}, given) for name, records in table.items()}
    clear = [name for name, each in single.items() if each["gains"][str(COMPARED)]["low"] > 0]
    figures = {name: estimate.mean for name, estimate in over.items()}
    figures["tastes above the base, %"] = 100 * len(clear) / len(single)
    rounds = Counter(each["state"] for records in table.values() for r in records for each in r["rounds"])
    return Result(figures, {"intervals": _spans(over), "tastes": single, "rounds": dict(rounds)})


def _single(table: Table, given: Sequence[int]) -> dict[str, Any]:
    """One taste: gains with intervals; after each exam the share of the answers that are accepted, that decline, and
    that end by themselves."""
    base = scores(table, 0)
    return {
        "seeds": sum(map(len, table.values())),
        "base": intervals.mean(base).mean,
        "gains": {str(thumbs): asdict(intervals.gain(base, scores(table, thumbs))) for thumbs in given},
        "accepted": {str(t): intervals.mean(scores(table, t, "accepted")).mean for t in (0, *given)},
        "declined": {str(t): intervals.mean(_declined(table, t)).mean for t in (0, *given)},
        "ended": {str(t): intervals.mean(scores(table, t, "ended")).mean for t in (0, *given)},
    }


def streak(found: Found) -> Result:
    """The median number of thumbs; a run without three in a row counts as one more than its most."""
    table, most = found.tables["streak"], found.form.thumbs["streak"]

    def ends(side: str) -> list[list[float]]:
        return [[intervals.streak_end(r[side]) or most + 1 for r in records] for records in table.values()]

    ours, base = intervals.median(ends("accepted")), intervals.median(ends("base accepted"))
    single = dict(zip(table, ends("accepted"), strict=True))
    never = sum(end > most for each in single.values() for end in each)
    figures = {"thumbs": ours.mean, "the base": base.mean, "never": float(never)}
    return Result(figures, {"intervals": _spans({"thumbs": ours}), "tastes": single, "most": most})


def long(found: Found) -> Result:
    """The accepted share by thirds, and which runs collapsed."""
    table = found.tables["long"]

    def third(part: int) -> Panel:
        return _panel(table, lambda r: [float(t["accepted"]) for t in _third(r, part)])

    shares = [intervals.mean(third(part)) for part in range(3)]
    collapsed = [
        f"{name}, seed {r['seed']}" for name, records in table.items() for r in records if _collapsed(r)
    ]
    collapsed += [f"{name}, which was run again" for name, r in found.replaced.items() if _collapsed(r)]
    figures = {"last third, %": 100 * shares[2].mean, "collapsed": float(len(collapsed))}
    span = [100 * shares[2].low, 100 * shares[2].high]
    raw = {
        "intervals": {"last third, %": span},
        "thirds": [s.mean for s in shares],
        "collapsed": ", ".join(collapsed),
    }
    return Result(
        figures, raw | {"over time": {name: _over_time(records) for name, records in table.items()}}
    )


def _third(record: Record, part: int) -> list[Record]:
    size = len(record["thumbs"]) // 3
    return list(record["thumbs"][part * size : (part + 1) * size])


def _collapsed(record: Record) -> bool:
    """Too little language at the end, or far fewer accepted than there had been."""
    shares = [fmean(t["accepted"] for t in _third(record, part)) for part in range(3)]
    language = fmean(is_language(t["answer"]) for t in _third(record, 2))
    return language < LANGUAGE_LEAST or shares[2] < FALL * max(shares)


def _over_time(records: Sequence[Record], step: int = 16) -> list[float]:
    """The accepted share of each `step` answers, all seeds together."""
    cuts = range(0, len(records[0]["thumbs"]) + 1, step)
    return [fmean(t["accepted"] for r in records for t in r["thumbs"][a:b]) for a, b in pairwise(cuts)]


def turned(found: Found) -> Result:
    """The gain for the second taste after the second half."""
    table = found.tables["turned"]
    end = found.form.thumbs["turned"]
    after = intervals.gain(scores(table, 0), scores(table, end))
    half = intervals.gain(scores(table, 0), scores(table, end // 2))
    figures = {"gain": after.mean, "gain at the turn": half.mean}
    return Result(figures, {"intervals": _spans({"gain": after})})


def random(found: Found) -> Result:
    """What thumbs without a taste changed: small questions, language, and the KL of what was published."""
    table = found.tables["random"]

    def change(of: Callable[[Record], list[float]]) -> Estimate:
        before, after = (_panel(table, lambda r: of(r["before"])), _panel(table, lambda r: of(r["after"])))
        return intervals.mean(intervals.minus(after, before))

    right = change(lambda side: [100.0 * each for each in side["right"]])
    language = change(lambda side: [100.0 * each["score"] for each in side["exam"]])
    rounds = [each for records in table.values() for r in records for each in r["rounds"]]
    published = [each["metrics"]["kl"] for each in rounds if each["state"] == "published"]
    figures = {
        "questions, points": right.low,
        "questions, mean": right.mean,
        "language, points": language.low,
        "language, mean": language.mean,
        "KL": max(published, default=0.0),
    }
    return Result(figures, {"rounds": dict(Counter(each["state"] for each in rounds))})


def baseline(name: str) -> Callable[[Found], Result]:
    """How far ours is ahead of it at COMPARED thumbs, on the trials that both have."""

    def compare(found: Found) -> Result:
        table = found.tables[name]
        own = {(t, r["seed"]): r for t, records in found.tables["gain"].items() for r in records}
        ours = {t: [own[t, r["seed"]] for r in records] for t, records in table.items()}
        base, mine = scores(ours, 0), scores(ours, COMPARED)
        variants = {v: scores(table, v) for v in next(iter(table.values()))[0]["exams"]}
        best = max(variants, key=lambda v: intervals.mean(variants[v]).mean)
        room = intervals.minus([[[1.0] * len(p) for p in seeds] for seeds in base], base)
        ahead = intervals.ratio(intervals.minus(mine, variants[best]), room)
        theirs = {v: intervals.gain(base, panel).mean for v, panel in variants.items()}
        figures = {
            "ahead": ahead.mean,
            "ahead, low end": ahead.low,
            "its gain": theirs[best],
            "our gain": intervals.gain(base, mine).mean,
        }
        return Result(figures, {"intervals": _spans({"ahead": ahead}), "gains": theirs, "counted": best})

    return compare


def auroc(found: Found) -> Result:
    """Means over tastes and seeds."""
    table = found.tables["auroc"]
    counts = list(next(iter(table.values()))[0]["thumbs"])

    def panel(count: str, kind: str) -> Panel:
        return _panel(table, lambda r: [r["thumbs"][count][kind]])

    over = {
        f"{count} thumbs, {kind}": intervals.mean(panel(count, kind))
        for count in counts
        for kind in ("noise-free", "noisy")
    }
    over["oracle"] = intervals.mean(_panel(table, lambda r: [r["oracle"]]))
    single = {name: fmean(r["thumbs"][counts[-1]]["noise-free"] for r in rs) for name, rs in table.items()}
    return Result(
        {name: each.mean for name, each in over.items()}, {"intervals": _spans(over), "tastes": single}
    )


def scores(table: Table, exam: int | str, what: str = "score") -> Panel:
    """An exam's panel of scores."""
    return _panel(table, lambda record: [float(each[what]) for each in record["exams"][str(exam)]])


def _declined(table: Table, exam: int) -> Panel:
    """1 for an answer of an exam that says that it cannot or will not."""
    return _panel(table, lambda r: [float(bool(DECLINES.search(e["answer"]))) for e in r["exams"][str(exam)]])


def _panel(table: Table, prompts: Callable[[Record], list[float]]) -> Panel:
    return [[prompts(record) for record in records] for records in table.values()]


def _spans(estimates: Mapping[str, Estimate]) -> dict[str, list[float]]:
    return {name: [each.low, each.high] for name, each in estimates.items()}


_HOW: dict[str, Callable[[Found], Result]] = {
    "gain": gain, "streak": streak, "long": long, "auroc": auroc, **{name: baseline(name) for name in BASELINES},
    "turned": turned, "random": random,
}  # fmt: skip
