"""One attempt at a round, from a claimed user to a published version and its records.

Knows the order of the steps, and why it is this one: whatever overtakes the round after its first step leaves it with
nothing published, and whenever the process dies in between, the next attempt ends in the same state. Does not know how
a round learns, how claims are taken, or what is done about a failure.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from adapters.errors import Overtaken
from adapters.lineage import clean, shaped_by_fallen
from adapters.store import AdapterStore, Candidate, Version
from feedback.claims import Claim, Claims
from feedback.connection import Store, StoreFull, StoreUnavailable
from feedback.events import ClaimLost, Feedback, Message, Round, RoundOvertaken
from feedback.messages import MessageLog
from feedback.queue import Queue
from feedback.rating_scripts import HELD_OUT_FIRST
from feedback.ratings import Ratings
from feedback.rounds import Rounds
from feedback.trainer import Example, Progress
from service.bar import Bar
from service.keeper import Keeper

log = logging.getLogger(__name__)

T = TypeVar("T")

REDIS_AWAY = (StoreUnavailable, StoreFull)
AGAIN_SECONDS = 0.5  # between two tries while Redis is away


class Stopped(Exception):
    """The trainer is to end: the round is repeated later."""


class NothingToLearn(Exception):
    """No rating stands."""


@dataclass(frozen=True)
class Task:
    """What a round learns from. `start`: the version that it begins from; the same round has the same `seed` again."""

    uid: str
    examples: list[Example]
    start: int
    seed: int


# The second argument takes news of the progress, the third raises to abandon the round.
Learn = Callable[[Task, Callable[[Progress], None], Callable[[], None]], Candidate]


@dataclass(frozen=True)
class Records:
    """What a trainer reads and writes in Redis."""

    queue: Queue
    claims: Claims
    rounds: Rounds
    ratings: Ratings
    messages: MessageLog

    @classmethod
    def of(cls, redis: Store, clock: Callable[[], float] = time.time) -> Records:
        return cls(
            Queue(redis, clock),
            Claims(redis, clock),
            Rounds(redis, clock),
            Ratings(redis, clock),
            MessageLog(redis),
        )


class Attempt:
    """`round` is the running round's record, and `revisions` what it learns from, once they are known."""

    def __init__(
        self, records: Records, store: AdapterStore, claim: Claim, keeper: Keeper, stop: threading.Event
    ) -> None:
        self._records, self._store = records, store
        self._claim, self._keeper, self._stop = claim, keeper, stop
        self._epoch = 0
        self.round: Round | None = None
        self.revisions: list[tuple[str, int]] = []

    def run(self, learn: Learn) -> Version:
        """The version that came of it, active or held. Raises `Overtaken`, `RoundOvertaken`, `ClaimLost`, `UserGone`,
        `UnknownUser`, `NothingToLearn`, `Stopped`, `StoreFull` of the disk, and what `learn` raises."""
        uid, ratings = self._claim.uid, self._records.ratings
        head = self._store.head(uid)
        self._epoch = head.epoch  # first: what changes from here on overtakes this round
        standing = ratings.standing(uid)
        start = self._store.start_of_round(uid, ratings.stands(uid))
        standing = self._judged_by_one(standing)
        self.revisions = [(each.message_id, each.since) for each in standing]
        self.round = self._records.rounds.start(self._claim, self.revisions)
        seed = seed_of(self.round)
        made = self._made_before(seed)
        if made is None:
            task = Task(uid, [self._example(each) for each in standing], start, seed)
            made = self._publish(self._learn(learn, task, self.round))
        if not made.gate["passed"]:
            self._patiently(lambda: go_back(self._store, ratings, uid))
        self._note(made, self.round)
        return made

    def _judged_by_one(self, standing: list[Feedback]) -> list[Feedback]:
        """The ratings, of which one is held out from now on where none is, for without it every candidate is held: what
        was held out may have been withdrawn, or nothing could be learnt from it. As at first it is the fourth of a
        kind, here of those that no version has learnt which may answer."""
        if any_kept(standing):
            return standing
        able = [each for each in self._store.versions(self._claim.uid) if each.state in ("active", "kept")]
        taught = {revision.message_id for version in able for revision in version.trained_on}
        for kind in ("up", "down"):
            new = [each for each in standing if each.rating == kind and each.message_id not in taught]
            if len(new) >= HELD_OUT_FIRST:
                chosen = new[HELD_OUT_FIRST - 1]
                self._records.ratings.hold_out(self._claim.uid, chosen.message_id)
                return [replace(each, held_out=each.held_out or each is chosen) for each in standing]
        return standing

    def _made_before(self, seed: int) -> Version | None:
        """What an earlier attempt at this round published, just before its process died; not if it is retired since, or
        was shaped by a rating that has changed since."""
        stands = self._records.ratings.stands(self._claim.uid)
        able = [each for each in self._store.versions(self._claim.uid) if each.state != "retired"]
        return next((each for each in able if each.seed == seed and clean(each, stands)), None)

    def _learn(self, learn: Learn, task: Task, round: Round) -> Candidate:
        if not task.examples:
            self._patiently(lambda: go_back(self._store, self._records.ratings, task.uid))
            raise NothingToLearn("no rating stands")
        with Bar(round.id) as bar:

            def report(news: Progress) -> None:
                bar.show(news.step, news.steps, news.stage)
                self._report(round, news)

            return learn(task, report, self._check)

    def _publish(self, candidate: Candidate) -> Version:
        """At the epoch with which the round began, and only while every rating that shaped it stands."""
        uid, stands = self._claim.uid, self._records.ratings.stands(self._claim.uid)
        self._check()
        number = self._patiently(lambda: self._store.publish(uid, candidate, self._epoch, retire=stands))
        return self._store.version(uid, number)

    def _note(self, made: Version, round: Round) -> None:
        """Before anything here the version is on disk; done twice, it is the same."""
        records, claim = self._records, self._claim
        revisions = [(each.message_id, each.revision) for each in made.trained_on]
        self._patiently(lambda: records.ratings.mark_used(claim.uid, revisions, made.version))
        passed = made.gate["passed"]
        # It may have been done, and only the answer lost; or somebody has ended it, who asks for the next.
        with suppress(RoundOvertaken):
            self._patiently(
                lambda: records.rounds.end(
                    claim,
                    round.id,
                    "published" if passed else "held",
                    version=made.version,
                    reason=None if passed else reasons(made.gate),
                    metrics=made.metrics,
                )
            )
        self._patiently(lambda: records.claims.succeeded(claim))

    def _report(self, round: Round, news: Progress) -> None:
        """Into the round's record, where people see it. Raises `RoundOvertaken`, `ClaimLost`."""
        done = news.step / max(1, news.steps)
        metrics = finite({**news.metrics, "stage": news.stage})
        try:
            self._records.rounds.progress(self._claim, round.id, done, news.step, news.steps, metrics)
        except REDIS_AWAY as error:
            log.warning("a round's progress is not shown: %s", error)

    def _check(self) -> None:
        """Raises `Stopped`, `ClaimLost`, `Overtaken` or `UnknownUser` if there is no use in going on."""
        if self._stop.is_set():
            raise Stopped
        if self._keeper.lost:
            raise ClaimLost("the claim on this user ran out")
        if self._store.head(self._claim.uid).epoch != self._epoch:
            raise Overtaken("something newer has happened to this adapter since the round began")

    def _patiently(self, call: Callable[[], T]) -> T:
        """Its result, once Redis is there to give it: what was learnt is not to be learnt again for that."""
        while True:
            try:
                return call()
            except REDIS_AWAY as error:
                if self._stop.wait(AGAIN_SECONDS):
                    raise
                log.warning("a round waits for Redis: %s", error)

    def _example(self, feedback: Feedback) -> Example:
        return example(self._records.messages.get(self._claim.uid, feedback.message_id), feedback)


def example(message: Message, feedback: Feedback) -> Example:
    """What a round learns from one rating: what was said, what was answered, and what was thought of it."""
    return Example(
        message_id=message.id,
        revision=feedback.since,
        messages=message.messages,
        answer=message.answer,
        ended=message.finish_reason == "stop",
        rating=1 if feedback.rating == "up" else -1,
        correction=feedback.correction,
        held_out=feedback.held_out,
        max_tokens=message.max_tokens,
    )


def any_kept(standing: list[Feedback]) -> bool:
    """Whether one that is held out stays so in a round: what alone was liked is learnt from (`read_taste`)."""
    liked = any(
        each.rating == "up" or (each.correction or "").strip() for each in standing if not each.held_out
    )
    return any(each.held_out and (liked or each.rating == "down") for each in standing)


def go_back(store: AdapterStore, ratings: Ratings, uid: str) -> None:
    """No version is left that a rating shaped which no longer stands: for when nothing is going to replace it.

    While a round learns from a changed rating, the version that was made with it before answers on. If the gate holds
    what the round made, or it fails for good, that time is over: the version that the round began from answers.
    """
    stands = ratings.stands(uid)
    if shaped_by_fallen(store.versions(uid), stands):
        store.retire(uid, stands)


def seed_of(round: Round) -> int:
    """Every attempt at a round has the same seed, by which the version that it made is found again. 32 bits."""
    return int.from_bytes(hashlib.sha256(round.id.encode()).digest()[:4], "big")


def reasons(gate: dict[str, Any]) -> str:
    """In words, why the gate held a version; the version's own `gate` has every digit."""
    failed = [each for each in gate["checks"] if not each["passed"]]
    return "; ".join(
        f"{each['name']}: {_short(each['value'])}, limit {_short(each['limit'])}" for each in failed
    )


def _short(value: float | None) -> str:
    """Three digits; what was no number is null in the manifest."""
    return "no number" if value is None else f"{value:.3g}"


def finite(value: Any) -> Any:
    """NaN and infinity are no JSON: null in their place."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
