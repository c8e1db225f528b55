"""Durable ratings a second: `PUT /v1/messages/{id}/feedback` over 16 connections that stay open.

Knows how real messages to rate are made (short chats of many users), and that no round is to start meanwhile: what is
measured is the way of a rating onto the disk. Does not know how the service keeps them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from benchmarks.results import Result, Say, percentile
from benchmarks.serving import Service, served
from benchmarks.wire import call, exchange

CONNECTIONS = 16
USERS, MESSAGES = 64, 64  # messages a user
CHOICES = 8  # answers of one chat, each a message to rate
NEVER = 10_000  # new ratings that would start a round
ASKERS = 4


def measure(quick: bool, say: Say) -> Result:
    messages = MESSAGES // 4 if quick else MESSAGES
    with served("ratings", round_new=NEVER, round_few=NEVER) as service:
        keys = service.keys(USERS)
        say(f"making {USERS * messages} messages of {USERS} users")
        rated = _messages(service, keys, messages)
        first, again = (_rate(service, rated, rating) for rating in ("up", "down"))
    figures = {"a second": first["a second"], "p95 ms": first["p95 ms"]}
    return Result(figures, {"first ratings": first, "the same messages rated anew": again})


def _messages(service: Service, keys: list[str], each: int) -> list[tuple[str, str]]:
    """(key, message id) of as many messages of each user, the users taking turns."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "n": CHOICES}

    def chats(key: str) -> Iterator[bytes]:
        return (call("POST", "/v1/chat/completions", key, body) for _ in range(each // CHOICES))

    answers = {
        key: [choice["message_id"] for answer in exchange(service.port, chats(key), ASKERS) for choice in
              answer.json()["choices"]]
        for key in keys
    }  # fmt: skip
    return [(key, ids[turn]) for turn in range(each) for key, ids in answers.items()]


def _rate(service: Service, rated: list[tuple[str, str]], rating: str) -> dict[str, float]:
    calls = [call("PUT", f"/v1/messages/{id}/feedback", key, {"rating": rating}) for key, id in rated]
    began = time.perf_counter()
    answers = exchange(service.port, itertools.chain(calls), CONNECTIONS)
    seconds = time.perf_counter() - began
    assert {answer.status for answer in answers} == {200}, "a rating was refused"
    took = [answer.seconds * 1000 for answer in answers]
    return {
        "ratings": len(took),
        "a second": len(took) / seconds,
        "p50 ms": percentile(took, 0.5),
        "p95 ms": percentile(took, 0.95),
        "longest ms": max(took),
    }
