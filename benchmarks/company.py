"""Chat while somebody else's round runs, and that round while somebody chats.

Knows two users who give the same thumbs, one in an idle service and one beside a third who chats without a pause; and
which part of two rounds can be compared: as many of their steps as both took. Does not know who makes way for whom.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

from benchmarks import student, workload
from benchmarks.results import Result, Say, percentile
from benchmarks.serving import Service, served
from benchmarks.wire import Answer, call, exchange

TOKENS = 64
IDLE_SECONDS = 30.0
STEPS = (
    5  # of a round that are compared: thumbs, the base's answers, three batches of rollouts and two updates
)


def measure(quick: bool, say: Say) -> Result:
    with served("company", max_tokens=TOKENS) as service:
        with service.person() as alone:
            student.rate(alone, TOKENS)
            idle_round = student.watch(alone)
        say(f"a round alone: {idle_round.state} after {idle_round.seconds:.0f} s")
        idle = Chatter(service)
        time.sleep(IDLE_SECONDS / 3 if quick else IDLE_SECONDS)
        idle_gaps = idle.stop()
        say(f"chat alone: {percentile(idle_gaps, 0.95) * 1000:.1f} ms between tokens, p95")
        with service.person() as beside:
            student.rate(beside, TOKENS)
            chatter = Chatter(service)
            busy_round = student.watch(beside, STEPS)
            busy_gaps = chatter.stop()
        say(f"a round beside a chat: {busy_round.state} after {busy_round.seconds:.0f} s")
    if "failed" in (idle_round.state, busy_round.state):
        reasons = {"rounds": f"alone: {idle_round.reason}; beside a chat: {busy_round.reason}"}
        return Result({}, {}, reasons)
    common = min(max(each.steps) for each in (idle_round, busy_round))
    if max(idle_round.steps) == max(busy_round.steps):
        common += 1  # both came to the same end
    figures = {
        "gap p95 ratio": percentile(busy_gaps, 0.95) / percentile(idle_gaps, 0.95),
        "round ratio": busy_round.until(common) / idle_round.until(common),
    }
    raw = {
        **{f"gap {label} ms, {name}": percentile(gaps, share) * 1000
           for name, gaps in (("alone", idle_gaps), ("beside a round", busy_gaps))
           for label, share in (("p50", 0.5), ("p95", 0.95), ("longest", 1.0))},
        "steps compared": common,
        "round alone": asdict(idle_round),
        "round beside a chat": asdict(busy_round),
    }  # fmt: skip
    return Result(figures, raw)


class Chatter:
    """A user who asks the next question as soon as the last is answered, from the moment this is made."""

    def __init__(self, service: Service) -> None:
        self._stopped = threading.Event()
        self._answers: list[Answer] = []
        key = service.keys(1)[0]

        def calls() -> Iterator[bytes]:
            for line in itertools.cycle(workload.lines()):
                if self._stopped.is_set():
                    return
                body = {"messages": [{"role": "user", "content": line}], "stream": True}
                yield call("POST", "/v1/chat/completions", key, body)

        def chat() -> None:
            self._answers += exchange(service.port, calls(), connections=1)

        self._thread = threading.Thread(target=chat)
        self._thread.start()

    def stop(self) -> list[float]:
        """Seconds between two tokens of an answer, all of them."""
        self._stopped.set()
        self._thread.join()
        return [gap for answer in self._answers for gap in answer.gaps]
