"""The way to Redis: one client that heals by itself, and what the server on the other end promises.

Knows redis-py, the server's settings, and the errors below. Does not know what is kept there.

    StoreError
    ├── StoreUnavailable    Redis does not answer, is loading, or did not confirm that a write is on disk
    ├── StoreFull           Redis has no memory (or disk) left: nothing was written
    └── UnfitStore          it cannot be used at all
        ├── BadAddress      the URL is no Redis URL
        ├── TooOld          older than 6.2, or a cluster
        └── OtherInstance   it and the data folder do not belong together (instance.py)

Commands are tried again when the connection breaks, so a write may be made twice: every script here may run twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import redis
from redis import exceptions
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.retry import Retry

from feedback import keys
from feedback.calls import Call, Script

TIMEOUT_SECONDS = 5.0  # for a reply; longer than any wait that a command asks the server for
DISK_SECONDS = 3.0  # how long a write waits for the disk
WAIT = ("WAITAOF", 1, 0, int(DISK_SECONDS * 1000))  # until what this connection wrote last is on disk
OLDEST = (6, 2)
REFUSALS = ("MISCONF", "READONLY", "MASTERDOWN", "NOREPLICAS")  # Redis's words for "no writes now"

T = TypeVar("T")


class StoreError(Exception):
    """Redis cannot do what was asked of it."""


class StoreUnavailable(StoreError):
    """Redis does not answer, is loading, or did not confirm that a write is on disk. It may work again soon."""


class StoreFull(StoreError):
    """Redis has no room left: nothing was written."""


class UnfitStore(StoreError):
    """This Redis cannot be used."""


class BadAddress(UnfitStore):
    """The URL is no Redis URL."""


class TooOld(UnfitStore):
    """Redis is older than 6.2, or a cluster."""


@dataclass(frozen=True)
class Durability:
    """`strong`: what was answered is on disk. `why` says in words what makes it weak; empty when strong."""

    level: Literal["strong", "weak"]
    why: list[str]


# What WAIT waits for is the connection's own: a write that is found done (by a connection since broken, or by an
# earlier try) may not be on disk yet. This write comes after it. DEL first, so that a full server takes it.
MARK = Script("redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '')")


class Store(redis.Redis):
    """redis-py's client, raising `StoreUnavailable` and `StoreFull` for what is not the caller's fault.

    Thread-safe. `read`, `write` and `do` run a script in one round trip, `together` many; what has to be on disk is
    there when they return, as far as the server can say so.
    """

    _waits: bool | None = None  # whether the disk has to be waited for; None: not asked yet

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with translated():
            return super().execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def read(self, script: Script, names: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """The script's reply. Also for writes that need not be on disk at once."""
        return self.do(Call(script, names, args, _itself, durable=False))

    def write(self, script: Script, names: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """The script's reply, once what it wrote is on disk. Raises `StoreUnavailable` if the disk did not confirm."""
        return self.do(Call(script, names, args, _itself))

    def do(self, call: Call[T]) -> T:
        """The call's result. Raises as `write`, and what the reply reports."""
        (reply,) = self.together([call])
        return call.result(reply)

    def together(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Each call's reply, or the error that Redis gave it: in one round trip, and with one wait for the disk.

        The reply of a durable call is `StoreUnavailable` if the disk did not confirm. Raises it if Redis does not
        answer. Either way what was called may be done.
        """
        replies = self._sent(calls, "EVALSHA")
        unknown = [
            place for place, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)
        ]
        if unknown:  # the server has been restarted, and may be once more: this time the scripts go along
            again = self._sent([calls[place] for place in unknown], "EVAL")
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies

    def durable(self) -> None:
        """Returns once everything that this process wrote is on disk, as far as the server can say so."""
        if self.waits:
            self.write(MARK, [keys.MARK])

    @property
    def waits(self) -> bool:
        """Whether a write has to wait for the disk. False where the reply itself says it is there, or nothing does."""
        if self._waits is None:
            durability(self)
        return bool(self._waits)

    def _sent(self, calls: Sequence[Call[Any]], how: Literal["EVALSHA", "EVAL"]) -> list[Any]:
        waits = any(call.durable for call in calls) and self.waits
        with self.pipeline(transaction=False) as pipe:
            for call in calls:
                script = call.script.sha if how == "EVALSHA" else call.script.source
                pipe.execute_command(how, script, len(call.names), *call.names, *call.args)
            if waits:
                pipe.execute_command("EVAL", MARK.source, 1, keys.MARK)
                pipe.execute_command(*WAIT)
            replies = pipe.execute(raise_on_error=False)
        replies = [_as_ours(reply) or reply if isinstance(reply, Exception) else reply for reply in replies]
        if waits:
            *replies, mark, wait = replies
            if doubt := _doubt(mark, wait):
                return [_doubted(call, reply, doubt) for call, reply in zip(calls, replies, strict=True)]
        return replies


class _Pipeline(Pipeline):
    """redis-py's pipeline, with `Store`'s errors."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with translated():
            return super().execute(raise_on_error)


def connect(url: str) -> Store:
    """A client for `redis://`, `rediss://` or `unix://`. Connects at the first command. Raises `BadAddress`."""
    try:
        store = Store.from_url(
            url,
            decode_responses=True,
            protocol=2,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            # A server that is restarted is back within the retries; one that hangs costs one timeout, not four.
            retry=Retry(ExponentialBackoff(cap=0.4, base=0.05), 3, (exceptions.ConnectionError,)),
        )
    except ValueError:  # its own words quote what it took for the port: it may be a part of the password
        raise BadAddress(
            "not a Redis URL (redis://, rediss:// or unix://), like redis://name:password@host:6379/0; "
            "a /, ?, # or @ in the password needs percent-encoding (%2F, %3F, %23, %40)"
        ) from None
    assert isinstance(store, Store), "from_url makes what it is called on"
    return store


@contextmanager
def translated() -> Iterator[None]:
    """Raises redis-py's errors as ours, where they are the server's state and not a mistake of the caller."""
    try:
        yield
    except exceptions.RedisError as error:
        ours = _as_ours(error)
        if ours is None:
            raise
        raise ours from error


def _as_ours(error: Exception) -> StoreError | None:
    """What redis-py's error means; None where the caller made a mistake."""
    if isinstance(error, exceptions.AuthenticationError):
        return StoreUnavailable(f"Redis refuses the name or password: {error}")
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError)):
        return StoreUnavailable(f"Redis does not answer: {error}")
    if not isinstance(error, exceptions.ResponseError):
        return None
    words = str(error)  # before 7.0 what a script met stands there only
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM command not allowed" in words:
        return StoreFull("Redis is full: give it more memory (maxmemory), or delete something")
    if isinstance(error, exceptions.ReadOnlyError) or any(code in words for code in REFUSALS):
        return StoreUnavailable(f"Redis takes no writes: {error}")
    return None


# what the server is


def check(store: Store) -> None:
    """Raises `TooOld` for a server that cannot be used."""
    server = store.info("server")
    version = str(server.get("redis_version", "0"))
    if _numbers(version) < OLDEST:
        raise TooOld(f"Redis {version} is too old; 6.2 or newer is needed")
    if server.get("redis_mode") == "cluster":
        raise TooOld("a Redis cluster cannot be used; a single Redis is needed")


def durability(store: Store) -> Durability:
    """Asks the server whether an acknowledged write survives a crash, and whether it may evict what it was given.

    From then on `store.write` waits for the disk where that is needed and possible.
    """
    memory, persistence = store.info("memory"), store.info("persistence")
    always = _config(store, "appendfsync") == "always" and _config(store, "no-appendfsync-on-rewrite") == "no"
    why = []
    if not int(persistence.get("aof_enabled", 0)):
        store._waits = False
        why.append("appendonly is off: a crash loses the newest ratings; set appendonly yes")
    elif always:
        store._waits = False
    elif _can_wait(store):
        store._waits = True
    else:
        store._waits = False
        why.append(_unsynced(_config(store, "appendfsync")))
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        why.append(f"maxmemory-policy {policy} may evict ratings; set noeviction")
    return Durability("weak" if why else "strong", why)


def _unsynced(appendfsync: str | None) -> str:
    if appendfsync is None:
        return "appendfsync cannot be read (CONFIG is refused) and there is no WAITAOF: ratings may not be on disk yet"
    return (
        f"appendfsync {appendfsync} does not put a rating on disk before it is answered, and this Redis has no WAITAOF "
        "(7.2); set appendfsync always and no-appendfsync-on-rewrite no"
    )


def _config(store: Store, name: str) -> str | None:
    """One of the server's settings; None where it does not tell."""
    try:
        return store.config_get(name).get(name)
    except exceptions.ResponseError:  # managed servers refuse CONFIG
        return None


def _can_wait(store: Store) -> bool:
    try:
        return int(store.execute_command(*WAIT)[0]) >= 1
    except exceptions.ResponseError:
        return False


def _doubt(mark: Any, wait: Any) -> str:
    """Why what came before these replies may not be on disk; empty when it is."""
    for reply in (mark, wait):
        if isinstance(reply, Exception):
            return str(reply)
    return "" if int(wait[0]) >= 1 else f"it took longer than {DISK_SECONDS:g} s"


def _doubted(call: Call[Any], reply: Any, doubt: str) -> Any:
    """What a call's reply is worth then; an error, or what need not be on disk, stays what it is."""
    if isinstance(reply, Exception) or not call.durable:
        return reply
    return StoreUnavailable(f"Redis did not confirm that the write is on disk: {doubt}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _itself(reply: Any) -> Any:
    return reply
