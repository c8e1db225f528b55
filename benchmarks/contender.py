"""An engine in a process of its own that answers whenever it is asked to, so that several can take turns.

Knows the lines of JSON that go to and fro, and the clock. Does not know what an engine is. It needs nothing beyond
Python itself, for vLLM's environment has none of the project's packages.

    Job    prompts (token ids), tokens to make for each, adapters among which the rows take turns (0: none)
    Run    seconds from the first prompt handed in to the last token had, and how many tokens there were
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


class ContenderFailed(Exception):
    """The engine's process ended; the message is the last that it said."""


@dataclass(frozen=True)
class Job:
    """See the module."""

    prompts: list[list[int]]
    tokens: int
    adapters: int


@dataclass(frozen=True)
class Run:
    """See the module."""

    seconds: float
    tokens: int


class Contender:
    """The parent's side. `command` is run in `folder`; what it says beside its answers goes to `log`."""

    def __init__(
        self, name: str, command: list[str], folder: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Returns at once; the first `run` waits until the engine is there."""
        self.name = name
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, env=env, text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Until the engine is ready. Raises `ContenderFailed`."""
        self._ask("wait")

    def run(self, job: Job) -> Run:
        """Between its jobs the process is stopped: some engines go on spinning while they wait, and take a core from
        whoever's turn it is. Raises `ContenderFailed`."""
        self._signal(signal.SIGCONT)
        try:
            return Run(**self._ask(asdict(job)))
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """Ends the process and those that it started."""
        self._signal(signal.SIGCONT)
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        except ProcessLookupError:
            self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _ask(self, question: Any) -> Any:
        pipes = self._process
        assert pipes.stdin and pipes.stdout
        try:
            pipes.stdin.write(json.dumps(question) + "\n")
            pipes.stdin.flush()
            answer = pipes.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ContenderFailed(f"{self.name}: {self._last_words()}")
        return json.loads(answer)

    def _last_words(self) -> str:
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return said[-1][:300] if said else "it ended without a word"


def serve(generate: Callable[[Job], int]) -> None:
    """The engine's side: answers jobs until there are no more. `generate` returns how many tokens it made."""
    answers = answering()
    for line in sys.stdin:
        question = json.loads(line)
        reply: Any = "ready"
        if question != "wait":
            job = Job(**question)
            began = time.perf_counter()
            tokens = generate(job)
            reply = asdict(Run(time.perf_counter() - began, tokens))
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


_answers: Any = None


def answering() -> Any:
    """The real standard output, kept for answers; whatever libraries print goes to standard error from now on."""
    global _answers
    if _answers is None:
        _answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
    return _answers
