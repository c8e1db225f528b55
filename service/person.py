"""A person who uses a running service, over HTTP alone: asks, gives thumbs, and waits for rounds.

Knows the REST contract from a user's side. Does not know tastes, nor how the service does what it does. Several
questions are under way at once, so that the service answers them in one batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import httpx

from service.operator import CallFailed, reason

AT_ONCE = 16  # calls under way together
WAIT_SECONDS = 300.0  # for one answer, on a slow machine
AGAIN_SECONDS, PATIENCE = 2.0, 60  # a pause after "try again later", and how often it is taken
BUSY = (429, 503)

Made = TypeVar("Made")
Given = TypeVar("Given")


@dataclass(frozen=True)
class Reply:
    """One answer. `version`: of the adapter that wrote it, 0 for the base model."""

    message_id: str
    prompt: str
    answer: str
    finish_reason: str
    version: int


class Person:
    """Calls `address` as the user who has `key`; used in a `with` block. Every method raises `CallFailed`."""

    def __init__(self, address: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=WAIT_SECONDS,
            limits=httpx.Limits(max_connections=AT_ONCE),
            trust_env=False,
        )
        self._hands = ThreadPoolExecutor(AT_ONCE)

    def __enter__(self) -> Person:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hands.shutdown(cancel_futures=True)
        self._client.close()

    def ask(
        self, prompts: Sequence[str], seeds: Sequence[int], max_tokens: int, done: Callable[[], None]
    ) -> list[Reply]:
        """The personal model's answer to each prompt, in their order. `done` is called after each one."""

        def one(number: int) -> Reply:
            body = {
                "model": "personal",
                "messages": [{"role": "user", "content": prompts[number]}],
                "max_tokens": max_tokens,
                "seed": seeds[number],
            }
            made = self._call("POST", "/v1/chat/completions", body)
            choice = made["choices"][0]
            done()
            return Reply(
                message_id=made["id"],
                prompt=prompts[number],
                answer=choice["message"]["content"],
                finish_reason=choice["finish_reason"],
                version=made["adapter_version"],
            )

        return self._all(one, range(len(prompts)))

    def rate(self, thumbs: Sequence[tuple[str, bool]]) -> list[dict[str, Any]]:
        """A thumb, True for up, on each message; what the service made of each."""

        def one(thumb: tuple[str, bool]) -> dict[str, Any]:
            message_id, up = thumb
            body = {"rating": "up" if up else "down"}
            return self._call("PUT", f"/v1/messages/{message_id}/feedback", body)

        return self._all(one, thumbs)

    def adapter(self) -> dict[str, Any]:
        """What answers now, and how the learning goes."""
        return self._call("GET", "/v1/adapter")

    def ask_for_round(self) -> dict[str, Any]:
        """The round that waits or runs already, or a new one."""
        return self._call("POST", "/v1/adapter/rounds")

    def round(self, id: str) -> dict[str, Any]:
        """One round and how far it is."""
        return self._call("GET", f"/v1/adapter/rounds/{id}")

    def leave(self) -> None:
        """Deletes the person and everything of theirs."""
        self._call("DELETE", "/v1/me")

    def _all(self, one: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
        """What `one` makes of each, several at once, in their order."""
        return list(self._hands.map(one, given))

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        for _ in range(PATIENCE):
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                raise CallFailed(
                    f"{method} {path} got no answer from {self._client.base_url} ({type(error).__name__})"
                ) from error
            if answer.status_code not in BUSY:
                break
            time.sleep(AGAIN_SECONDS)
        if not answer.is_success:
            raise CallFailed(f"{method} {path}: {reason(answer)}")
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found
