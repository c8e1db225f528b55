"""What a running API consists of, and how it is put together from the settings.

Knows every part and the order in which they start. Does not know HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from adapters.adapter import LoraShape
from adapters.engine import Engine
from adapters.model import BaseModel
from adapters.slots import Slots
from adapters.store import AdapterStore, Base
from feedback.connection import Durability, Store, StoreError, check, connect, durability
from feedback.courier import Courier
from feedback.harm import Harm
from feedback.instance import check_instance
from feedback.messages import MessageLog
from feedback.queue import Queue
from feedback.ratings import Ratings
from feedback.rounds import Rounds
from service.auth import Accounts, AdminKey
from service.base_model import load_harm, load_model
from service.cores import ChatCores
from service.endings import Endings
from service.generation import Generation
from service.metrics import Metrics
from service.operator import ADMIN_KEY_FILE
from service.plan import Planner
from service.presence import OneEach, Presence
from service.settings import Settings
from service.starting import alone, redis_url

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Made by `assemble`, used by the routes, ended by the app's lifespan."""

    settings: Settings
    redis: Store
    courier: Courier
    durability: Durability
    admin: AdminKey
    accounts: Accounts
    messages: MessageLog
    ratings: Ratings
    rounds: Rounds
    queue: Queue
    store: AdapterStore
    model: BaseModel
    harm: Harm
    shape: LoraShape
    generation: Generation
    planner: Planner
    endings: Endings
    metrics: Metrics
    presence: Presence
    imports: OneEach = field(default_factory=OneEach)
    deleting: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while one user's data is removed
    half_withdrawn: set[str] = field(default_factory=set)  # uids: a store cut something short (learning.py)
    unwatched: set[str] = field(default_factory=set)  # uids with ratings that the watch has not looked at yet
    held: ExitStack = field(default_factory=ExitStack)  # locks and connections, released by `close`

    def not_ready(self) -> list[str]:
        """Why chats cannot be answered now; empty when they can."""
        why = [] if self.generation.alive else ["the engine has stopped"]
        try:
            self.redis.ping()
        except StoreError:  # its own words may name hosts and paths, and no key is needed to read this
            why.append("Redis does not answer; the log says more")
        return why

    def close(self) -> None:
        """Lets go of the data folder and of Redis."""
        self.held.close()


def assemble(settings: Settings) -> Parts:
    """All parts, ready but for the generation's thread.

    Raises `CannotStart`, `ModelError`, the adapter store's `OtherBase`, and the errors of feedback/connection.py.
    """
    with ExitStack() as held:
        held.enter_context(alone(settings.folder / "api.lock", "API"))
        admin = _admin_key(settings)
        redis, promised = _redis(settings)
        held.callback(redis.close)
        courier = Courier(redis)
        held.callback(courier.close)
        metrics, presence = Metrics(), Presence()
        messages = MessageLog(redis)
        model = load_model(settings)
        harm = load_harm(settings)
        shape = model.lora_shape(settings.rank, settings.alpha)
        store = AdapterStore(settings.folder / "adapters", Base(model.name, model.digest), settings.keep)
        slots = Slots(model, shape, store.load, settings.slots)
        cores = ChatCores(settings.folder)
        held.callback(cores.close)
        if model.native is not None:
            model.native.threads = cores.threads
        engine = Engine(model, slots, settings.rows, settings.cache_tokens)
        metrics.durability_strong.set(promised.level == "strong")
        parts = Parts(
            settings=settings,
            redis=redis,
            courier=courier,
            durability=promised,
            admin=admin,
            accounts=Accounts(redis),
            messages=messages,
            ratings=Ratings(redis),
            rounds=Rounds(redis),
            queue=Queue(redis),
            store=store,
            model=model,
            harm=harm,
            shape=shape,
            generation=Generation(engine, model.decode, settings.max_waiting, metrics, cores.tell),
            planner=Planner(settings, model, store),
            endings=Endings(messages, presence),
            metrics=metrics,
            presence=presence,
            held=held.pop_all(),
        )
    try:
        _heal(parts)
    except BaseException:
        parts.close()
        raise
    return parts


def _admin_key(settings: Settings) -> AdminKey:
    """Says at once what it made: if the rest of this start fails, the next one finds it made and shows it no more."""
    file = settings.folder / ADMIN_KEY_FILE
    admin = AdminKey(settings.admin_key, file)
    if admin.made:
        print(f"Admin key: {admin.made}  (shown only now, kept in {file}, mode 0600)", flush=True)
    return admin


def _redis(settings: Settings) -> tuple[Store, Durability]:
    redis = connect(redis_url(settings))
    check(redis)
    check_instance(redis, settings.folder)
    promised = durability(redis)
    for reason in promised.why:
        log.warning("DURABILITY IS WEAK: %s", reason)
    return redis, promised


def _heal(parts: Parts) -> None:
    """What a crash may have left half done; what is left of users who were being deleted is upkeep's."""
    began = time.monotonic()
    if left := parts.messages.cancel_unfinished():
        log.warning("%d answers were cut off when the service last ended", left)
    uids, on_disk = set(parts.accounts.uids()), set(parts.store.users())
    for uid in uids - set(parts.accounts.leaving()):
        if uid not in on_disk:
            log.error("user %s has no adapter folder any more and begins again on version 0", uid)
            parts.store.create(uid)
        parts.store.check(uid, parts.ratings.not_withdrawn(uid))
    parts.unwatched.update(uids)  # what was rated just before a crash
    for uid in on_disk - uids:
        if (
            parts.store.head(uid).next == 1
        ):  # made, but its account was not before the crash: nothing is in it
            parts.store.remove(uid)
    log.info("%d users checked in %.1f s", len(uids), time.monotonic() - began)
