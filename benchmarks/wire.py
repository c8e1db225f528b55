"""Many HTTP calls at once from one thread, with little work of its own, and the moment at which each piece came.

Knows just as much of HTTP/1.1 as the service's answers need: a length or chunks, and connections that stay open. Does
not know what is asked. It is no client for anything but a measurement on this machine.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

EVENT = b"data: {"
END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass
class Answer:
    """One answer: when its call began, when its pieces came (seconds), and all that came."""

    began: float
    arrivals: list[float] = field(default_factory=list)
    events: list[float] = field(default_factory=list)  # when each server-sent event came
    raw: bytearray = field(default_factory=bytearray)
    whole: bool = False
    _length: int = 0  # of the whole answer in bytes, where it states one

    @property
    def status(self) -> int:
        return int(self.raw[9:12])

    @property
    def seconds(self) -> float:
        """From the call to the last byte."""
        return self.arrivals[-1] - self.began

    @property
    def gaps(self) -> list[float]:
        """Between two pieces of text; the first event is none, and the last only ends the answer."""
        texts = self.events[1:-1]
        return [after - before for before, after in itertools.pairwise(texts)]

    def json(self) -> Any:
        return json.loads(bytes(self.raw).partition(b"\r\n\r\n")[2])

    def take(self, data: bytes, now: float) -> None:
        self.arrivals.append(now)
        self.events += [now] * data.count(EVENT)
        self.raw += data
        if not self._length:
            head, found, _ = bytes(self.raw).partition(b"\r\n\r\n")
            _, states, length = head.lower().partition(b"\r\ncontent-length:")
            if found and states:
                self._length = len(head) + 4 + int(length.split(b"\r\n")[0])
        self.whole = len(self.raw) >= self._length if self._length else self.raw.endswith(END_OF_CHUNKS)


def call(method: str, path: str, key: str, body: dict[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    data = json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def exchange(port: int, calls: Iterator[bytes], connections: int) -> list[Answer]:
    """Every call's answer, `connections` calls under way at any time; each connection takes the next call there is.

    Raises ConnectionError when the service hangs up.
    """
    answers: list[Answer] = []
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            fresh = socket.create_connection(("127.0.0.1", port))
            fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(fresh, selectors.EVENT_READ)
            _next(selector, fresh, calls, answers)
        while selector.get_map():
            for key, _ in selector.select():
                line, answer = key.fileobj, key.data
                assert isinstance(line, socket.socket)
                data = line.recv(65536)
                if not data:
                    raise ConnectionError("the service hung up")
                answer.take(data, time.perf_counter())
                if answer.whole:
                    _next(selector, line, calls, answers)
    return answers


def _next(
    selector: selectors.BaseSelector, line: socket.socket, calls: Iterator[bytes], answers: list[Answer]
) -> None:
    """The connection's next call; without one it is closed."""
    request = next(calls, None)
    if request is None:
        selector.unregister(line)
        line.close()
        return
    answer = Answer(time.perf_counter())
    answers.append(answer)
    selector.modify(line, selectors.EVENT_READ, answer)
    line.sendall(request)
