"""A trainer's work: from the stream to due users, and from a due user to a round that ended well, badly or not at all.

Knows claims, retries, and what is done about each way in which a round can end; `learn` is given to it. Does not know
how a round learns, nor processes, signals and settings. Nothing is lost whenever it dies: a rating stays queued until
a version that was trained on it is on disk, and a round without a trainer is repeated by another.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from adapters.errors import Overtaken, UnknownUser
from adapters.errors import StoreFull as DiskFull
from adapters.store import AdapterStore
from feedback.claims import Claim, Rules
from feedback.connection import StoreUnavailable
from feedback.events import ClaimLost, Round, RoundOvertaken, UserGone
from service.attempt import REDIS_AWAY, Attempt, Learn, NothingToLearn, Records, Stopped, go_back
from service.frames import frames
from service.keeper import Keeper

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Habits:
    """How a trainer works; all but `attempts` and `deaths` in seconds.

    `lease`: until a dead trainer's user is taken over; `poll`: the wait for something new; `attempts`: failed rounds in
    a row after which a user's new ratings are given up; `deaths`: trainers lost in the middle of rounds, likewise, but
    more, as an outage is nobody's fault; `pause`, doubled up to `longest_pause`: between two tries while Redis is away;
    `disk_pause`: while the disk is full, as each try costs a round.
    """

    rules: Rules = field(default_factory=Rules)
    attempts: int = 3
    deaths: int = 10
    lease: float = 30.0
    poll: float = 1.0
    pause: float = 0.5
    longest_pause: float = 15.0
    disk_pause: float = 60.0


class Worker:
    """One trainer. `stop`, once set, ends it at the next safe point; `learn` does the learning of one round."""

    def __init__(
        self,
        records: Records,
        store: AdapterStore,
        learn: Learn,
        stop: threading.Event,
        habits: Habits | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._records = records
        self._store = store
        self._learn = learn
        self._stop = stop
        self._habits = habits or Habits()

    def run(self, burst: bool = False) -> None:
        """Work until told to stop; with `burst`, until nothing is due. Waits for a Redis that is away."""
        self._work(burst)
        with suppress(*REDIS_AWAY):
            self._records.queue.leave(self.name)

    def _work(self, burst: bool) -> None:
        begun, pause = False, self._habits.pause
        while not self._stop.is_set():
            try:
                if not begun:
                    self._begin()
                    begun = True
                busy = self._turn(wait=0.0 if burst else self._habits.poll)
                pause = self._habits.pause
                if burst and not busy:
                    return
            except REDIS_AWAY as error:
                log.warning("learning waits for Redis: %s", error)
                begun = False  # what was not marked due meanwhile is found in the records
                self._stop.wait(pause)
                pause = min(2 * pause, self._habits.longest_pause)
            except DiskFull as error:
                log.error("learning waits for the disk: %s", error)
                self._stop.wait(self._habits.disk_pause)

    def _begin(self) -> None:
        """After whatever crash: no version answers that a withdrawn rating shaped, and whoever is due is marked so."""
        for uid in self._store.users():
            with suppress(UnknownUser):
                self._store.check(uid, self._records.ratings.not_withdrawn(uid))
        self._records.queue.open()
        self._records.queue.recover()

    def _turn(self, wait: float) -> bool:
        """Mark who is due, and work for the longest-waiting; whether there was anything to do."""
        entries = self._records.queue.claim(self.name, wait=wait)
        self._records.queue.mark_due(entries)
        claim = self._records.claims.take(self.name, self._habits.rules, self._habits.lease)
        if claim is not None:
            self._serve(claim)
        return bool(entries) or claim is not None

    def _serve(self, claim: Claim) -> None:
        """Work for the claimed user, whose lock is kept meanwhile."""
        lease = self._habits.lease
        with Keeper(lambda: self._records.claims.renew(claim, lease), lease / 4, StoreUnavailable) as keeper:
            try:
                if claim.failures >= self._habits.attempts:  # giving up was cut short
                    self._give_up(claim, None, f"{claim.failures} times in a row, {claim.reason}")
                elif claim.deaths >= self._habits.deaths:
                    self._give_up(claim, None, f"{claim.deaths} times, the trainer died in the middle of it")
                else:
                    self._attempt(claim, Attempt(self._records, self._store, claim, keeper, self._stop))
            except (ClaimLost, UserGone, UnknownUser) as error:
                log.warning("a round was dropped: %s", error)
            finally:
                self._records.claims.release(claim)

    def _attempt(self, claim: Claim, attempt: Attempt) -> None:
        """One round, and the records of how it ended."""
        try:
            made = attempt.run(self._learn)
            log.info(
                "a round ended: version %d, %s", made.version, "active" if made.gate["passed"] else "held"
            )
        except (Overtaken, RoundOvertaken):
            log.info("a round was overtaken")
            if attempt.round is not None:
                with suppress(RoundOvertaken):
                    self._records.rounds.follow(claim, attempt.round.id)
        except NothingToLearn as error:
            self._end(claim, attempt.round, str(error))
        except (Stopped, DiskFull) as error:
            self._put_back(claim, attempt.round)
            if isinstance(error, DiskFull):
                raise
        except (ClaimLost, UserGone, UnknownUser, *REDIS_AWAY):
            raise
        except Exception as error:  # noqa: BLE001 - a user's round may fail in any way and must not end the trainer
            self._failed(claim, attempt, error)

    def _failed(self, claim: Claim, attempt: Attempt, error: Exception) -> None:
        """Try again after a pause; after too many tries, give up."""
        log.error("a round failed with %s:\n%s", type(error).__name__, frames(error))
        reason = f"learning failed: {type(error).__name__}"
        failures = self._records.claims.failed(claim, reason)
        if failures < self._habits.attempts:
            self._put_back(claim, attempt.round)
        else:
            self._give_up(claim, attempt.revisions, f"{failures} times in a row, {reason}")

    def _give_up(self, claim: Claim, revisions: list[tuple[str, int]] | None, reason: str) -> None:
        """Refuse the new ratings (None: all that are new) so that the user's next ones get a round of their own."""
        records, uid = self._records, claim.uid
        log.error("a user's new ratings are given up: %s", reason)
        if revisions is None:
            revisions = [(each.message_id, each.since) for each in records.ratings.standing(uid)]
        records.queue.bury(uid, reason)
        records.ratings.refuse(uid, revisions, reason)
        go_back(self._store, records.ratings, uid)
        self._end(claim, records.rounds.start(claim, []), reason)
        records.claims.succeeded(claim)

    def _end(self, claim: Claim, round: Round | None, reason: str) -> None:
        if round is not None:
            with suppress(RoundOvertaken):
                self._records.rounds.end(claim, round.id, "failed", reason=reason)

    def _put_back(self, claim: Claim, round: Round | None) -> None:
        if round is not None:
            with suppress(RoundOvertaken):
                self._records.rounds.put_back(claim, round.id)
