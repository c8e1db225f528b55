"""The thread that owns the engine, bridged to asyncio.

Knows: how answers get into the engine, how their tokens come out as text, and how they are cancelled. Does not know
HTTP, Redis or whose adapter is active. Only the thread started here calls the engine; everything else in this
module is called on the event loop. Between the two go `_Command`s one way and `Piece`s the other.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adapters.engine import Engine, PromptTooLong, Token
from service.answers import Answers, Ask, Finish, Piece
from service.frames import frames
from service.metrics import Metrics
from service.text import AnswerText

log = logging.getLogger(__name__)
T = TypeVar("T")


class Busy(Exception):
    """More answers are running and waiting than the service takes on."""


class ShareTaken(Exception):
    """One user has as many answers under way as there are places left for everybody else."""


class Stopping(Exception):
    """The service is going away and takes no new work."""


class EngineFailed(Exception):
    """The engine could not go on with this answer; the cause is in the log."""


@dataclass
class _Row:
    """The thread's side of one answer."""

    answers: Answers
    index: int
    text: AnswerText
    asked: float
    ids: list[int] = field(default_factory=list)


@dataclass
class _Inbox:
    """Commands to the thread; a closed inbox ends it."""

    commands: deque[Callable[[], None]] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)
    closed: bool = False

    def put(self, command: Callable[[], None]) -> None:
        with self.changed:
            self.commands.append(command)
            self.changed.notify()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify()

    def take(self, wait: bool) -> list[Callable[[], None]]:
        """All there are; with `wait`, not before there is one or the inbox is closed."""
        with self.changed:
            while wait and not self.commands and not self.closed:
                self.changed.wait()
            taken = list(self.commands)
            self.commands.clear()
            return taken


class Generation:
    """See the module. `max_waiting` answers may wait beside the engine's rows; more than these `places` are `Busy`.

    `tell` hears from the thread, after every step, how many answers the engine has.
    """

    def __init__(
        self,
        engine: Engine,
        decode: Callable[[Sequence[int]], str],
        max_waiting: int,
        metrics: Metrics,
        tell: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._decode = decode
        self.places = engine.rows + max_waiting
        self._metrics = metrics
        self._tell = tell
        self._inbox = _Inbox()
        self._rows: dict[str, _Row] = {}  # the thread's
        self._flights: set[Answers] = set()  # the event loop's
        self._works: set[Future[Any]] = set()  # the event loop's: what `run` waits for
        self._stopping = self._ended = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    # On the event loop.

    def start(self) -> None:
        """Starts the thread; call it on the event loop that will read the answers."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._ended

    def submit(self, asks: Sequence[Ask]) -> Answers:
        """Takes on all of the asks, which are one user's, or none.

        Whoever has answers under way gets no more of them than would leave as many places free: however much one
        user asks, another finds a place (dynamic thresholds with a factor of one, Choudhury and Hahne 1998).

        Raises `Busy`, `ShareTaken`, `Stopping`; other errors come as pieces.
        """
        if self._stopping or not self.alive:
            raise Stopping("the service is stopping")
        free = self.places - self._under_way() - len(asks)
        if free < 0:
            raise Busy("the service has as many answers under way as it takes on")
        theirs = self._under_way(asks[0].uid)
        if theirs and theirs + len(asks) > free:
            raise ShareTaken(
                f"{theirs} of your answers are under way, and more would leave too few places for others; "
                "try again when some have ended"
            )
        answers = Answers(asks)
        self._flights.add(answers)
        asked = time.monotonic()
        for index, ask in enumerate(asks):
            row = _Row(answers, index, AnswerText(self._decode, ask.stops), asked)
            self._inbox.put(lambda ask=ask, row=row: self._add(ask, row))  # type: ignore[misc]
        return answers

    def cancel(self, answers: Answers) -> None:
        """Ends what is left of the answers; their places are free within one token. Does nothing the second time."""
        self._flights.discard(answers)
        for index in sorted(answers.live):
            request_id = answers.asks[index].request.id
            self._inbox.put(lambda request_id=request_id: self._drop(request_id))  # type: ignore[misc]
            answers.put(Piece(index, "", 0, "cancelled"))

    def cancel_user(self, uid: str) -> None:
        """Ends every answer of this user's that has been submitted; may be called from any thread."""

        def cancel() -> None:
            for answers in [each for each in self._flights if each.uid == uid]:
                self.cancel(answers)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(cancel)

    def forget_user(self, uid: str) -> None:
        """No conversation and no adapter of this user's stays in the engine's memory; from any thread."""
        self._inbox.put(lambda: self._engine.forget(uid))

    async def run(self, work: Callable[[Engine], T]) -> T:
        """Runs `work` on the thread that owns the engine, between two tokens; not at all if the caller is cancelled
        before. Raises what `work` raises, `Stopping`, `EngineFailed`."""
        if not self.alive:
            raise Stopping("the service is stopping")
        done: Future[T] = Future()

        def command() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(work(self._engine))
            except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
                done.set_exception(error)

        self._works.add(done)
        self._inbox.put(command)
        try:
            return await asyncio.wrap_future(done)
        finally:
            self._works.discard(done)

    async def wind_down(self, grace: float) -> None:
        """Takes no new answers, waits up to `grace` seconds for those under way, then cancels the rest."""
        self._stopping = True
        end = time.monotonic() + grace
        while self._flights and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if left := self._under_way():
            log.warning("%d answers did not end within %g s and are cut off", left, grace)
        for answers in list(self._flights):
            self.cancel(answers)

    async def close(self) -> None:
        """Ends the thread; answers still under way are cancelled."""
        await self.wind_down(0)
        self._inbox.close()
        await asyncio.to_thread(self._thread.join)
        self._abandon()

    def _under_way(self, uid: str | None = None) -> int:
        """How many answers have not ended: everybody's, or one user's."""
        return sum(len(flight.live) for flight in self._flights if uid in (None, flight.uid))

    def _hand_out(self, pieces: list[tuple[Answers, Piece]]) -> None:
        for answers, piece in pieces:
            answers.put(piece)
            if not answers.live:
                self._flights.discard(answers)

    def _abandon(self) -> None:
        """The thread has ended: nobody is to wait for what will not come."""
        self._ended = True
        for done in self._works:
            if not done.done():
                done.set_exception(EngineFailed("the engine has stopped"))
        for answers in self._flights:
            for index in list(answers.live):
                answers.put(Piece(index, "", 0, "error", EngineFailed("the engine has stopped")))
        self._flights.clear()

    # On the thread.

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            if not self._inbox.closed:  # it has failed
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._abandon)
            self._tell(0)

    def _serve(self) -> None:
        while True:
            for command in self._inbox.take(wait=not self._engine.busy):
                command()
            if self._inbox.closed:
                return
            self._deliver(self._step())
            running, waiting = len(self._engine.running), len(self._engine.waiting)
            self._metrics.running.set(running)
            self._metrics.waiting.set(waiting)
            self._tell(running + waiting)

    def _step(self) -> list[tuple[Answers, Piece]]:
        try:
            tokens = self._engine.step()
        except Exception as error:  # noqa: BLE001 - a step that fails ends the answers in it, not the service
            log.error("a step of the engine failed with %s:\n%s", type(error).__name__, frames(error))
            return [
                self._fail(request_id, EngineFailed("the model failed")) for request_id in list(self._rows)
            ]
        return [out for token in tokens if (out := self._take(token))]

    def _add(self, ask: Ask, row: _Row) -> None:
        self._rows[ask.request.id] = row
        try:
            self._engine.add(ask.request)
        except PromptTooLong as error:
            self._deliver([self._fail(ask.request.id, error)])
            return
        self._metrics.tokens.labels("prompt").inc(len(ask.request.prompt))

    def _drop(self, request_id: str) -> None:
        if self._rows.pop(request_id, None):
            self._engine.cancel(request_id)

    def _fail(self, request_id: str, error: Exception) -> tuple[Answers, Piece]:
        row = self._rows[request_id]
        self._drop(request_id)
        return row.answers, Piece(row.index, "", len(row.ids), "error", error)

    def _take(self, token: Token) -> tuple[Answers, Piece] | None:
        """What one token adds to its answer, if that is anything to be told."""
        row = self._rows.get(token.request)
        if row is None:
            return None  # a step may yield two tokens of one answer, and a stop string was met in the first
        if token.finish == "error":
            return self._fail(token.request, token.error or EngineFailed("the model failed"))
        if not row.ids:
            self._metrics.first_token_seconds.observe(time.monotonic() - row.asked)
        row.ids.append(token.id)
        self._metrics.tokens.labels("completion").inc()
        text = "" if token.finish == "stop" else row.text.push(token.id)  # the end token is no text
        finish: Finish | None = "stop" if row.text.stopped else token.finish
        if finish:
            text += row.text.flush()
            self._drop(token.request)
        if not (text or finish):
            return None
        return row.answers, Piece(row.index, text, len(row.ids), finish, ids=row.ids if finish else ())

    def _deliver(self, pieces: list[tuple[Answers, Piece]]) -> None:
        if pieces:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._hand_out, pieces)
