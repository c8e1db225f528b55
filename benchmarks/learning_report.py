"""docs/learning.md, docs/learning.json and the picture, made from the records of the trials that have ended.

Knows the page's layout; the words around it stand in learning_page.md. Measures nothing. Only the full form writes into
docs/; the other forms' pages lie beside their records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from adapters import disk
from benchmarks import curves, findings, outcomes, targets
from benchmarks.findings import Found
from benchmarks.report import row
from benchmarks.results import Result, write
from benchmarks.targets import LEARNING, MISS
from benchmarks.tastes import USERS, base_utility
from benchmarks.trials import BASELINES, COMPARED, FULL, OVER_HTTP, STEP, Form
from benchmarks.workload import ROOT

TEMPLATE = ROOT / "benchmarks" / "learning_page.md"
SHOWN = 400  # characters of an answer
UNDERSTOOD = 0.9  # AUROC from which a taste counts as read well


def make(form: Form, why: Mapping[str, str]) -> list[Path]:
    """Write all three; where they are. `why`: of experiments that failed just now."""
    folder = ROOT / "docs" if form is FULL else form.folder
    picture = folder / "pictures" / "learning.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    found = Found.of(form)
    results = findings.results(found, why)
    records = {name: dataclasses.asdict(result) for name, result in results.items()}
    write(
        folder / "learning.json",
        {"form": form.name, "tokens": form.tokens, "commits": found.commits(), **records},
    )
    disk.replace(folder / "learning.md", page(found, results).encode())
    disk.replace(picture, curves.png(found, results))
    return [folder / "learning.md", folder / "learning.json", picture]


def page(found: Found, results: Mapping[str, Result]) -> str:
    """The page's text."""
    form = found.form
    judged = targets.lines({name: dataclasses.asdict(each) for name, each in results.items()}, LEARNING)
    counts = found.counts()
    ended, wanted = (sum(each[side] for each in counts.values()) for side in (0, 1))
    ended_rounds = {
        name: outcomes.outcomes(found.rounds_of(name)) for name in OVER_HTTP if name in found.tables
    }
    return TEMPLATE.read_text(encoding="utf-8").format(
        form=form.name,
        tokens=form.tokens,
        seeds=len(form.seeds),
        tastes=len(form.tastes),
        held_out=form.held_out,
        commits=", ".join(f"`{each}`" for each in found.commits()) or "none",
        ended=f"{ended} of {wanted}",
        table="\n".join(map(row, judged)),
        misses=sum(line.verdict == MISS for line in judged),
        partly=_partly(counts),
        trials="\n".join(f"| {name} | {done} of {count} |" for name, (done, count) in counts.items()),
        users="\n".join(_user(name, results["gain"]) for name in form.tastes),
        rounds="\n".join(line for name, each in ended_rounds.items() for line in outcomes.rows(name, each)),
        ways=" | ".join(outcomes.WAYS),
        lost="\n".join(line for name, each in ended_rounds.items() for line in outcomes.lost(name, each)),
        failures=failures(found, results),
    )


def _partly(counts: Mapping[str, tuple[int, int]]) -> str:
    """A warning that a hit is none yet, where not every trial of an experiment has ended."""
    begun = [f"{name} {done} of {count}" for name, (done, count) in counts.items() if 0 < done < count]
    return (
        f" **Only a part has run, and its figures are of that part alone: {', '.join(begun)}.**"
        if begun
        else ""
    )


def failures(found: Found, results: Mapping[str, Result]) -> str:
    """What went wrong, in lines: runs, what is least understood, what the baselines gain, and answers of the
    tastes that gained least and most."""
    lines = []
    if collapsed := results["long"].raw.get("collapsed"):
        lines.append(f"- Collapsed: {collapsed}.")
    if never := results["streak"].figures.get("never"):
        lines.append(f"- Never three accepted in a row: {never:.0f} runs.")
    if read := results["auroc"].raw.get("tastes"):
        told = ", ".join(
            f"{name} {area:.2f}" for name, area in sorted(read.items(), key=lambda each: each[1])
        )
        lines.append(f"- The reward model's AUROC after the most thumbs, the least understood first: {told}.")
        lines += _by_understanding(read, results["gain"])
        lines.append(_against_noise(results["auroc"].figures))
    for name, result in results.items():
        lines += [f"- {name}: {why}." for why in result.left_out.values()]
    return "\n".join([*lines, *_beside(found, results), *_extremes(found, results["gain"])])


def _by_understanding(read: Mapping[str, float], gain: Result) -> list[str]:
    """How much of a miss is the reward model's: gains of the tastes that it reads well, and of the others."""
    single: Mapping[str, Any] = gain.raw.get("tastes", {})
    lines = []
    for side, well in (("below", False), ("from", True)):
        gains = [
            each["gains"]
            for name, each in single.items()
            if name in read and (read[name] >= UNDERSTOOD) is well
        ]
        if gains:
            told = ", ".join(f"{fmean(each[n]['mean'] for each in gains):.2f} after {n}" for n in gains[0])
            lines.append(
                f"- Mean gain of the {len(gains)} tastes with an AUROC {side} {UNDERSTOOD}: {told} thumbs."
            )
    return lines


def _against_noise(figures: Mapping[str, float]) -> str:
    """The same reward models against thumbs with slips, beside what nobody can surpass there."""
    noisy = {name.removesuffix(" thumbs, noisy"): each for name, each in figures.items() if "noisy" in name}
    told = " and ".join(f"{area:.2f} after {count}" for count, area in noisy.items())
    return (
        f"- Against thumbs with slips the taste itself has an AUROC of {figures['oracle']:.2f}, the reward model"
        f" {told} thumbs."
    )


def _beside(found: Found, results: Mapping[str, Result]) -> list[str]:
    """What each baseline gains, in each of its ways, and ours on the trials that both have."""
    lines = []
    for name in BASELINES:
        result = results[name]
        if result.figures:
            ways = ", ".join(f"{way} {mean:.2f}" for way, mean in result.raw["gains"].items())
            ours = f"ours {result.figures['our gain']:.2f}"
            lines.append(
                f"- `{name}`, gain at {COMPARED} thumbs on {found.counts()[name][0]} trials: {ways}; {ours}."
            )
    return lines


def _extremes(found: Found, gain: Result) -> list[str]:
    """Answers of the taste that gained least, where it lost most, and of the one that gained most, where its score is
    in the middle: a score says little of what an answer is like."""
    single: Mapping[str, Any] = gain.raw.get("tastes", {})
    if not single:
        return []

    def lost_most(pairs: list[Any]) -> Any:
        return min(pairs, key=lambda pair: pair[1]["score"] - pair[0]["score"])

    def in_the_middle(pairs: list[Any]) -> Any:
        return sorted(pairs, key=lambda pair: pair[1]["score"])[len(pairs) // 2]

    order = sorted(single, key=lambda taste: single[taste]["gains"][str(COMPARED)]["mean"])
    return [
        *_before_and_after(found, order[0], "least", "this one lost most", lost_most),
        *_before_and_after(found, order[-1], "most", "this one's score is in the middle", in_the_middle),
    ]


def _before_and_after(
    found: Found, name: str, which: str, how: str, pick: Callable[[list[Any]], Any]
) -> list[str]:
    """One prompt's answers of the taste with the least gain, or the most."""
    exams = found.tables["gain"][name][0]["exams"]
    told = f"The {which} gain at {COMPARED} thumbs was that of `{name}`"
    if exams["0"] == exams[str(COMPARED)]:
        return ["", f"{told}: it still answered as the base model does, word by word."]
    out = ["", f"{told}; of its prompts, {how}:", ""]
    pair = pick(list(zip(exams["0"], exams[str(COMPARED)], strict=True)))
    for when, each in zip(("before", "after"), pair, strict=True):
        text = " ".join(each["answer"].split())
        shown = text if len(text) <= SHOWN else text[:SHOWN] + "…"
        out += [f"> *{each['prompt']}* {when}, {each['score']:.2f}: {shown}", ""]
    return out


def _user(name: str, gain: Result) -> str:
    """One taste's line of the second table."""
    user, base = USERS[name], base_utility()[name]
    cells = [f"{name}: {user.taste.wish}", user.kind, f"{base['utility']:.2f}", f"{base['accepted']:.0%}"]
    single = gain.raw.get("tastes", {}).get(name)
    if single is None:
        return f"| {' | '.join([*cells, *['–'] * 6])} |"
    gains = single["gains"]
    cells += [
        _gain(gains.get(str(n)), single["seeds"], whole=n == COMPARED)
        for n in range(STEP, FULL.thumbs["gain"] + 1, STEP)
    ]
    for share in ("accepted", "declined", "ended"):
        before, *_, after = single[share].values()
        cells.append(f"{before:.0%} → {after:.0%}")
    return f"| {' | '.join(cells)} |"


def _gain(found: Mapping[str, float] | None, seeds: int, whole: bool) -> str:
    if found is None:
        return "–"
    if not whole:
        return f"{found['mean']:.2f}"
    mark = "" if found["low"] > 0 else " **not clear of 0**"
    over = "; one seed" if seeds == 1 else ""  # its interval is over prompts alone
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f}{over}){mark}"
