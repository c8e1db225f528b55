"""Many users over few slots: what it costs that most adapters must be loaded from disk first.

Knows a real adapter store with 1,024 users, and 64 slots among which they take turns; answers are of different lengths,
so that rows end, and adapters are loaded, at any time. Does not know how the engine loads one.

    load  from the wish for an adapter that no slot holds until it lies in one: read, checked, packed; but not the time
          for which it is there and waits for a row to be free
    gap   between two tokens of the same answer
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from adapters.adapter import Adapter, LoraShape
from adapters.engine import Engine, Request
from adapters.model import BaseModel
from adapters.slots import Owner, Slots
from adapters.store import AdapterStore, Base, Candidate
from benchmarks import workload
from benchmarks.contender import answering
from benchmarks.ours import GREEDY, endless_model
from benchmarks.results import Result, Say, percentile
from service.settings import part_environment

ROWS, SLOTS = 32, 64
FEW, MOST = 32, 1024
LENGTHS = (32, 96)  # tokens of the shortest and of the longest answer
DRAWN = 32  # adapters that differ; further users have copies of their files


class TimedSlots(Slots):
    """Slots that note how long each adapter took to come."""

    def __init__(
        self, model: BaseModel, shape: LoraShape, load: Callable[[str, int], Adapter], count: int
    ) -> None:
        super().__init__(model, shape, self._timed, count)
        self.from_disk = load
        self.wished: dict[Owner, float] = {}
        self.fetched: dict[Owner, float] = {}
        self.seconds: list[float] = []

    def expect(self, owners: Iterable[Owner | None]) -> None:
        super().expect(owners)
        for owner in self.fetching.coming:
            self.wished.setdefault(owner, time.perf_counter())

    def pin(self, owner: Owner | None) -> int:
        if owner is None or self.holds(owner):
            return super().pin(owner)
        began = self.wished.setdefault(owner, time.perf_counter())
        asked = time.perf_counter()
        slot = super().pin(owner)
        there = self.fetched.pop(owner)
        self.seconds.append(there - began + time.perf_counter() - max(asked, there))
        del self.wished[owner]
        return slot

    def _timed(self, uid: str, version: int) -> Adapter:
        adapter = self.from_disk(uid, version)
        self.fetched[uid, version] = time.perf_counter()
        return adapter


@dataclass
class Turns:
    """One run: all tokens of `answers` answers, and when they came."""

    users: int
    answers: int
    seconds: float = 0.0
    tokens: int = 0
    loads: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "answers": self.answers,
            "tokens a second": self.speed,
            "loads": len(self.loads),
        }
        for name, values in (("load", self.loads), ("gap", self.gaps)):
            for label, share in (("p50", 0.5), ("p95", 0.95), ("longest", 1.0)):
                found[f"{name} {label} ms"] = percentile(values, share) * 1000 if values else 0.0
        return found


def measure(quick: bool, say: Say) -> Result:
    """In a process of its own, as its environment is the one that the service gives its parts."""
    most = MOST // 4 if quick else MOST
    command = [sys.executable, "-m", "benchmarks.turns", str(most), str(ROWS * (4 if quick else 12))]
    done = subprocess.run(
        command, cwd=workload.ROOT, env=part_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    runs = [Turns(**each) for each in json.loads(done.stdout)]
    for each in runs:
        say(f"{each.users} users: {each.speed:.0f} tokens a second")
    before, _, many, after = runs
    figures = {
        "many against few": many.speed / fmean([before.speed, after.speed]),
        "load p95 ms": percentile(many.loads, 0.95) * 1000,
        "longest gap more ms": (max(many.gaps) - fmean([max(before.gaps), max(after.gaps)])) * 1000,
    }
    names = (f"{FEW} users, before", f"{most // 8} users", f"{most} users", f"{FEW} users, after")
    return Result(figures, {name: each.to_json() for name, each in zip(names, runs, strict=True)})


def main(most: int, answers: int) -> None:
    """One engine for all runs, as in a service: every slot has been in use before the clock starts."""
    out = answering()
    model = endless_model()
    root = workload.BUILD / "data" / "turns"
    shutil.rmtree(root, ignore_errors=True)
    try:
        store = fill(AdapterStore(root, Base(model.name, model.digest)), model, most)
        prompts = workload.Prompts(model)
        slots = TimedSlots(model, model.lora_shape(workload.RANK, workload.ALPHA), store.load, SLOTS)
        engine = Engine(model, slots, ROWS)
        run(engine, slots, 2 * SLOTS, 2 * SLOTS, prompts)
        # the few before and after, should the machine change its pace
        runs = [run(engine, slots, users, answers, prompts) for users in (FEW, most // 8, most, FEW)]
    finally:
        shutil.rmtree(root, ignore_errors=True)
    out.write(json.dumps([asdict(each) for each in runs]))
    out.flush()


def fill(store: AdapterStore, model: BaseModel, users: int) -> AdapterStore:
    """The store with a published version 1 for `users` users, user-0 and on."""
    shape = model.lora_shape(workload.RANK, workload.ALPHA)
    for number in range(users):
        uid = f"user-{number}"
        if number < DRAWN:
            store.create(uid)
            store.publish(uid, published(workload.drawn(shape, number)), store.head(uid).epoch)
        else:
            shutil.copytree(store.root / f"user-{number % DRAWN}", store.root / uid)
    return store


def published(adapter: Any) -> Candidate:
    """A candidate that the gate let through."""
    return Candidate(
        adapter=adapter, learner_tensors={}, learner_meta={}, parent=None, trained_on=[], metrics={},
        gate={"passed": True, "checks": []}, seed=0,
    )  # fmt: skip


def run(engine: Engine, slots: TimedSlots, users: int, answers: int, prompts: workload.Prompts) -> Turns:
    """`answers` answers, the users taking turns; there is always another one that waits for a row."""
    slots.seconds = []
    lengths = itertools.cycle(range(LENGTHS[0], LENGTHS[1] + 1, 5))
    for number, prompt in enumerate(prompts.next(answers)):
        owner = (f"user-{number % users}", 1)
        engine.add(Request(str(number), prompt, owner, next(lengths), GREEDY))
    done, times = Turns(users, answers), defaultdict[str, list[float]](list)
    began = time.perf_counter()
    while engine.busy:
        for token in engine.step():
            assert token.error is None, token.error
            times[token.request].append(time.perf_counter())
            done.tokens += 1
    done.seconds = time.perf_counter() - began
    done.loads = slots.seconds
    done.gaps = [after - before for row in times.values() for before, after in itertools.pairwise(row)]
    return done


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
