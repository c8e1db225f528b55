"""The proof's plan: which trials there are in each form of it, on which prompts, and where each one's record lies.

Knows experiments, tastes and seeds by name. Does not know how a trial is run, nor what comes of it. A trial is one
experiment with one taste and one seed; its record is written when it ends, so that a run goes on where it was cut off.

    long       rounds of 16 thumbs up to 96, and after each an exam on prompts that are never rated
    gain       the same up to 48 thumbs; what a trial of `long` began with is one
    streak     eight thumbs a round, as the service begins rounds by itself, until three answers in a row are accepted
    turned     a taste that turns into its opposite half-way
    random     thumbs without a taste
    prompted, best-of-4, kto   the baselines, on the thumbs that a trial of `gain` has given
    auroc      the reward model on answers that were never rated
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks import tastes
from benchmarks.student import HELD_OUT
from benchmarks.targets import LONG
from benchmarks.workload import BUILD, ROOT, lines

FOLDER = BUILD / "learning"
RECORDS = ROOT / "docs" / "learning"  # the full form's, kept with the code: they took many hours
MORE_PROMPTS = ROOT / "benchmarks" / "prompts.txt"
STEP = 16  # thumbs a round, but in `streak`
STREAK_STEP = 8  # the service's own (round_new)
COMPARED = 32  # thumbs at which the baselines stand beside ours
OVER_HTTP = ("long", "gain", "streak", "turned", "random")
BASELINES = ("prompted", "best-of-4", "kto")
EXPERIMENTS = (*OVER_HTTP, *BASELINES, "auroc")
TWO_SEEDS = ("long", "turned")


@dataclass(frozen=True)
class Form:
    """How large a proof is. `tokens`: an answer's length; `held_out`: prompts of an exam; `thumbs`: given in each
    experiment over HTTP, at most (one that is not named is left out); `baselines`: those that are compared."""

    name: str
    tokens: int
    tastes: tuple[str, ...]
    seeds: tuple[int, ...]
    held_out: int
    thumbs: Mapping[str, int]
    baselines: tuple[str, ...] = BASELINES

    @property
    def folder(self) -> Path:
        """Where its trials' records lie."""
        return RECORDS if self is FULL else FOLDER / self.name

    @property
    def experiments(self) -> list[str]:
        """Those that this form runs, in their order."""
        taken = {*self.thumbs, *self.baselines, "auroc"}
        return [each for each in EXPERIMENTS if each in taken]


FULL = Form(
    "full", LONG, tuple(user.taste.name for user in tastes.REPORT), (1, 2, 3), 40,
    {"gain": 48, "streak": 40, "long": 96, "turned": 64, "random": 48},
)  # fmt: skip
# What tuning may look at.
TUNING = replace(
    FULL, name="tuning", tastes=tuple(user.taste.name for user in tastes.TUNING), seeds=(1, 2),
    thumbs={"gain": 48, "streak": 40},
)  # fmt: skip
# So short that it says whether the thread holds, and little about how well; with tastes that tuning may look at.
QUICK = Form(
    "quick", 48, ("second-person", "quick-start"), (1,), 24, {"gain": 32, "streak": 16, "random": 16},
    ("prompted", "best-of-4"),
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """See the module."""

    experiment: str
    taste: str
    seed: int

    def file(self, form: Form) -> Path:
        return form.folder / self.experiment / f"{self.taste}-{self.seed}.json"

    def record(self, form: Form) -> dict[str, Any] | None:
        """What came of it; None while it has not ended. `long` of the same taste and seed began like `gain`."""
        file = self.file(form)
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        if self.experiment == "gain" and (longer := Trial("long", self.taste, self.seed).record(form)):
            return _beginning(longer, form.thumbs["gain"])
        return None


def _beginning(longer: dict[str, Any], thumbs: int) -> dict[str, Any]:
    """What a trial was after so many thumbs."""
    exams = {given: exam for given, exam in longer["exams"].items() if int(given) <= thumbs}
    rounds = list(takewhile(lambda each: each["metrics"].get("thumbs", 0) <= thumbs, longer["rounds"]))
    return {**longer, "exams": exams, "thumbs": longer["thumbs"][:thumbs], "rounds": rounds}


def plan(form: Form, experiments: Sequence[str] = EXPERIMENTS) -> list[Trial]:
    """Every trial, those over HTTP first; one seed after the other, so that a part of them is a fair part."""
    found = []
    for experiment in (each for each in form.experiments if each in experiments):
        seeds = form.seeds[:2] if experiment in TWO_SEEDS else form.seeds
        found += [Trial(experiment, taste, seed) for seed in seeds for taste in _tastes(form, experiment)]
    return found


def _tastes(form: Form, experiment: str) -> Sequence[str]:
    if experiment == "streak":
        return [name for name in form.tastes if tastes.rarely_satisfied(name)]
    special = {"long": tastes.LONG_RUN, "turned": tuple(tastes.TURNS), "random": ("nobody",)}
    return special.get(experiment, form.tastes)


def rated_prompts() -> list[str]:
    """The prompts that may get thumbs."""
    return [*lines()[: HELD_OUT.start], *MORE_PROMPTS.read_text(encoding="utf-8").splitlines()]


def held_out_prompts(form: Form) -> list[str]:
    """The prompts of an exam, which nobody ever rates: the demo's."""
    return lines()[HELD_OUT][: form.held_out]
