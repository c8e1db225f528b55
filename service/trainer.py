"""The trainer process, put together from the settings: the model, the store, Redis, signals, and the worker over them.

Knows what a trainer consists of, and that chat comes first on the machine. Does not know what is due, or how it learns.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

from adapters.model import BaseModel
from adapters.sampling import Sampling
from adapters.store import AdapterStore, Base, Candidate
from feedback.claims import Rules
from feedback.connection import Store, StoreUnavailable, check, connect, durability
from feedback.harm import Harm
from feedback.instance import check_instance
from feedback.recipe import recipe
from feedback.trainer import Progress, RoundConfig, run_round
from service.attempt import Learn, Records, Task
from service.base_model import load_harm, load_model
from service.cores import RoundCores
from service.settings import Settings
from service.starting import redis_url
from service.stop import Stop
from service.worker import Habits, Worker

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0  # between two tries to reach Redis
SETTLE_SECONDS = 2.0  # ratings given in one go are learnt from in one round


def run(settings: Settings, burst: bool) -> None:
    """Learn until SIGTERM or SIGINT; with `burst`, what is due now. Raises `CannotStart`, `ModelError`, `OtherBase`,
    `UnfitStore`."""
    stop = Stop()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    os.nice(settings.nice)
    redis = _redis(settings, stop)
    if redis is None:
        return
    with redis:
        store, learn = _learner(settings)
        settle = 0.0 if burst else SETTLE_SECONDS
        rules = Rules(settings.round_new, settings.round_few, settings.round_quiet, settle)
        habits = Habits(rules=rules, attempts=settings.round_attempts)
        log.info("the trainer is ready")
        Worker(Records.of(redis), store, learn, stop, habits).run(burst)


def _redis(settings: Settings, stop: threading.Event) -> Store | None:
    """This data folder's Redis, once it answers; None if the trainer is to stop before that."""
    redis = connect(redis_url(settings))
    while not stop.is_set():
        try:
            check(redis)
            check_instance(redis, settings.folder)
            durability(redis)
            return redis
        except StoreUnavailable as error:
            log.warning("the trainer waits for Redis: %s", error)
            stop.wait(AGAIN_SECONDS)
    return None


def _learner(settings: Settings) -> tuple[AdapterStore, Learn]:
    """The store of the base model's adapters, and what learns one round on that model."""
    model = load_model(settings)
    cores = RoundCores(settings.folder)
    if model.native is not None:
        model.native.threads = cores.threads
    store = AdapterStore(settings.folder / "adapters", Base(model.name, model.digest), settings.keep)
    config = RoundConfig(
        rank=settings.rank,
        alpha=settings.alpha,
        rows=settings.rows,
        answer_tokens=min(settings.max_tokens, model.context // 2),  # the other half is the prompt's
        chat=Sampling(settings.temperature, settings.top_p, settings.repetition_penalty),
    )

    learn = learning(model, store, config, load_harm(settings))

    def learn_beside_chat(
        task: Task, report: Callable[[Progress], None], stop: Callable[[], None]
    ) -> Candidate:
        try:
            return learn(task, report, stop)
        finally:
            cores.rest()

    return store, learn_beside_chat


def learning(model: BaseModel, store: AdapterStore, config: RoundConfig, harm: Harm) -> Learn:
    """What learns one round, and writes down from what."""

    def learn(task: Task, report: Callable[[Progress], None], stop: Callable[[], None]) -> Candidate:
        candidate = run_round(
            model, store, task.uid, task.examples, start=task.start, seed=task.seed, config=config, harm=harm,
            report=report, stop=stop,
        )  # fmt: skip
        return replace(candidate, recipe=recipe(task.examples, config, harm.name))

    return learn
