"""The records that flow between chat, people and learning, and what can be wrong about one.

    record     made by                         eaten by
    Message    chat, when an answer begins     the person who rates it, the trainer
    Feedback   a person's thumb                the trainer
    Round      a request, or the trainer       the person who waits for it

JSON in and out: `to_json` gives what `json.dumps` takes, `from_json` takes it back. Times are integer Unix seconds.
Does not know Redis, nor where or how a record is kept.

    FeedbackError
    ├── UserGone         no such user, or one who is being deleted: nothing is written any more
    ├── UnknownMessage   the user has no such message
    ├── NotEnded         the message's answer is still being written
    ├── NotRated         the message has no rating
    ├── KeyConflict      the idempotency key was used with another body
    ├── NothingRated     a round was asked for and no rating stands
    ├── UnknownRound     the user has no such round
    ├── RoundOvertaken   the round was ended by something newer (a rollback, a withdrawal...)
    └── ClaimLost        another trainer has taken this user over, or the user is gone
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Rating = Literal["up", "down"]
FeedbackState = Literal["queued", "used", "superseded", "withdrawn", "refused"]
RoundState = Literal["waiting", "running", "published", "held", "failed"]


class FeedbackError(Exception):
    """Something that was asked of the records cannot be."""


class UserGone(FeedbackError):
    """No such user, or one who is being deleted."""


class UnknownMessage(FeedbackError):
    """The user has no such message."""


class NotEnded(FeedbackError):
    """The message's answer is still being written."""


class NotRated(FeedbackError):
    """The message has no rating."""


class KeyConflict(FeedbackError):
    """The idempotency key was used with another body."""


class NothingRated(FeedbackError):
    """A round was asked for and no rating stands."""


class UnknownRound(FeedbackError):
    """The user has no such round."""


class RoundOvertaken(FeedbackError):
    """The round was ended by something newer."""


class ClaimLost(FeedbackError):
    """Another trainer has taken this user over, or the user is gone."""


@dataclass(frozen=True)
class Message:
    """One answer and what it answered. `finish_reason` is None while it runs; `adapter_version` 0 is the base model."""

    id: str
    created: int
    model: str
    messages: list[dict[str, str]]
    answer: str
    finish_reason: str | None
    adapter_version: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Message:
        return cls(**record)


@dataclass(frozen=True)
class Feedback:
    """One revision of the rating of one message.

    `adapter_version`: who wrote the answer. `used_in`: versions trained on this revision. `reason`: why it was refused.
    `held_out`: kept from what PPO climbs, to judge by; when that is decided: ratings.py.
    `since`: the first revision with this thumb and correction, by which rounds and versions name what they learn from.
    `updated`: when that was said.
    """

    message_id: str
    rating: Rating
    tags: list[str]
    comment: str | None
    correction: str | None
    revision: int
    state: FeedbackState
    adapter_version: int
    used_in: list[int]
    reason: str | None
    held_out: bool
    created: int
    updated: int
    since: int

    @property
    def stands(self) -> bool:
        """Whether rounds learn from it."""
        return self.state in ("queued", "used")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Feedback:
        return cls(**record)


@dataclass(frozen=True)
class Round:
    """One round of learning. `progress` 0 to 1; `version` is what it made; `reason` says why it is held or failed."""

    id: str
    state: RoundState
    progress: float
    step: int
    steps: int
    metrics: dict[str, Any] = field(default_factory=dict)
    version: int | None = None
    reason: str | None = None
    created: int = 0
    started: int | None = None
    ended: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Round:
        return cls(**record)


def new_message_id() -> str:
    """Random, and sorts by the time at which it was made."""
    return f"msg_{_sortable()}"


def new_round_id() -> str:
    """Random, and sorts by the time at which it was made."""
    return f"round_{_sortable()}"


def _sortable() -> str:
    return f"{time.time_ns():016x}{secrets.token_hex(6)}"
