"""The proof that it learns: `python -m benchmarks.learning [experiment ...] [--quick | --tuning]`, and its report.

Knows the order of things, what to do when a trial fails, and how much time is left. Does not know what happens in a
trial. What was run before is not run again, wherever it was cut off; a trial that failed is tried again next time.

    (no form)   the full form, many hours, on the report's tastes, into docs/learning.md; its records into docs/learning
                of the repository, so that the proof goes on from there on any machine
    --tuning    the tastes that tuning may look at, into build/bench/learning/tuning
    --quick     under 15 minutes: shorter answers, two tastes, one seed, into build/bench/learning/quick
    report      only the report, of whatever has been run
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import baselines, experiments, learning_report
from benchmarks.machine import commit
from benchmarks.offline import Desk
from benchmarks.results import write
from benchmarks.serving import Service, served
from benchmarks.student import NoRound
from benchmarks.trials import EXPERIMENTS, FULL, OVER_HTTP, QUICK, TUNING, Form, Trial, plan
from benchmarks.workload import ROOT
from feedback.round import RoundConfig
from service.operator import CallFailed

Run = Callable[[Trial], dict[str, Any]]
FAILURES = (CallFailed, NoRound, baselines.Missing)


def main() -> int:
    words = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description="The proof that it learns."
    )
    words.add_argument(
        "experiments", nargs="*", choices=[*EXPERIMENTS, "all", "report"], default="all", metavar="experiment",
        help=", ".join([*EXPERIMENTS, "report", "all"]),
    )  # fmt: skip
    form = words.add_mutually_exclusive_group()
    form.add_argument("--quick", dest="form", action="store_const", const=QUICK, help="under 15 minutes")
    form.add_argument(
        "--tuning", dest="form", action="store_const", const=TUNING, help="the tastes for tuning"
    )
    given = words.parse_args()
    # a list of what was named, or argparse's default, which has to be one of the choices and so is a word
    wanted = EXPERIMENTS if "all" in given.experiments else given.experiments
    return prove(given.form or FULL, wanted)


def prove(form: Form, wanted: Sequence[str]) -> int:
    """What is missing, then the report; 1 if a trial failed."""
    todo = [trial for trial in plan(form, wanted) if trial.record(form) is None]
    print(
        f"The {form.name} form: {len(form.tastes)} tastes, seeds {form.seeds}, answers of {form.tokens} tokens,"
        f" {form.held_out} held-out prompts; {len(todo)} trials to run."
    )
    if form is QUICK:
        print(
            "It shows whether the thread holds, and little of how well it learns: that is for the full form."
        )
    clock = Clock(form, todo)
    chatting = [trial for trial in todo if trial.experiment in OVER_HTTP]
    if chatting:
        with served(f"learning-{form.name}", max_tokens=form.tokens) as service:
            for trial in chatting:
                clock.run(trial, lambda trial: _with_a_new_user(service, trial, form))
    if others := [trial for trial in todo if trial.experiment not in OVER_HTTP]:
        desk = Desk(RoundConfig(answer_tokens=form.tokens))
        for trial in others:
            clock.run(trial, lambda trial: baselines.run(trial, desk, form))
    for file in learning_report.make(form, clock.failures):
        print(f"written: {file.relative_to(ROOT)}")
    return int(bool(clock.failures))


def _with_a_new_user(service: Service, trial: Trial, form: Form) -> dict[str, Any]:
    with service.person() as person:
        try:
            return experiments.run(trial, person, form)
        finally:
            person.leave()


class Clock:
    """Runs trials, keeps their records, and tells how far it is; a trial is foretold to take what others of its
    experiment took. `failures`: the last reason of each experiment that failed."""

    def __init__(self, form: Form, todo: Sequence[Trial]) -> None:
        self._form, self._todo, self._total = form, list(todo), len(todo)
        self._took: dict[str, list[float]] = {}
        for trial in plan(form):
            # a record of its own: what one of `long` says of its beginning took only a part of its time
            if trial.file(form).exists() and (record := trial.record(form)):
                self._took.setdefault(trial.experiment, []).append(record["seconds"])
        self.failures: dict[str, str] = {}

    def run(self, trial: Trial, how: Run) -> None:
        began = time.monotonic()
        self._todo.remove(trial)
        if trial.record(self._form) is not None:
            return  # of a longer one that has ended meanwhile
        name = f"{trial.experiment}, {trial.taste}, seed {trial.seed}"
        try:
            record = how(trial)
        except FAILURES as error:
            self.failures[trial.experiment] = str(error)
            print(f"{self._place()} {name}: FAILED, {error}", flush=True)
            return
        seconds = time.monotonic() - began
        self._took.setdefault(trial.experiment, []).append(seconds)
        date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        write(trial.file(self._form), {**record, "seconds": seconds, "date": date, "commit": commit()})
        print(f"{self._place()} {name}: {seconds:.0f} s; {self.left()}", flush=True)

    def left(self) -> str:
        """The time that the rest will take, in words."""
        known = [sum(took) / len(took) for took in self._took.values()]
        usual = sum(known) / len(known) if known else 0.0
        seconds = 0.0
        for trial in self._todo:
            took = self._took.get(trial.experiment)
            seconds += sum(took) / len(took) if took else usual
        return f"about {seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min left"

    def _place(self) -> str:
        return f"[{self._total - len(self._todo)} of {self._total}]"


if __name__ == "__main__":
    sys.exit(main())
