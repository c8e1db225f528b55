"""Resident memory that a further user costs: one whose adapter sits in a slot, and one whose adapter does not.

Knows processes that fill so many slots for so many users and then say how large they are. Does not know what lies
where in them.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from adapters.adapter import Adapter
from adapters.engine import Engine, Request
from adapters.slots import Slots
from benchmarks import workload
from benchmarks.contender import answering
from benchmarks.ours import GREEDY, endless_model
from benchmarks.results import Result, Say
from service.settings import part_environment

FEW, MANY = 16, 48  # slots, each in use
BEYOND = 432  # users more than slots
ROWS, TOKENS = 16, 4
PAST_TOKENS = 2048  # that the engine may remember: few, so that every process comes to that limit


def measure(quick: bool, say: Say) -> Result:
    beyond = BEYOND // 4 if quick else BEYOND
    model = endless_model()
    width = model.head.weight.dtype.itemsize
    own = model.lora_shape(workload.RANK, workload.ALPHA).numbers * width
    workload.adapter_folders(model.lora_shape(workload.RANK, workload.ALPHA), MANY)
    sizes = {}
    for slots, users in ((FEW, FEW), (MANY, MANY), (MANY, MANY + beyond)):
        sizes[slots, users] = _child(slots, users)
        say(f"{users} users, {slots} slots: {sizes[slots, users] / 1e6:.0f} MB")
    held = (sizes[MANY, MANY] - sizes[FEW, FEW]) / (MANY - FEW)
    absent = max(0.0, (sizes[MANY, MANY + beyond] - sizes[MANY, MANY]) / beyond)
    raw = {f"{users} users, {slots} slots: MB": size / 1e6 for (slots, users), size in sizes.items()}
    raw |= {"adapter MB": own / 1e6, "a user in a slot MB": held / 1e6, "a user in none MB": absent / 1e6}
    return Result({"in a slot": held / own, "in none": absent / own}, raw)


def _child(slots: int, users: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", str(slots), str(users)]
    done = subprocess.run(
        command, cwd=workload.ROOT, env=part_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def main(slots: int, users: int) -> None:
    """Every user has one short answer; then this process's resident bytes."""
    out = answering()
    model = endless_model()
    shape = model.lora_shape(workload.RANK, workload.ALPHA)
    folders = workload.adapter_folders(shape, MANY)

    def load(uid: str, version: int) -> Adapter:
        return workload.read(folders[int(uid) % MANY], shape)

    engine = Engine(model, Slots(model, shape, load, slots), ROWS, PAST_TOKENS)
    prompt = model.encode([{"role": "user", "content": "Hello"}])
    for user in range(users):
        engine.add(Request(str(user), prompt, (str(user), 1), TOKENS, GREEDY))
    while engine.busy:
        engine.step()
    gc.collect()
    out.write(str(_resident()))
    out.flush()


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
