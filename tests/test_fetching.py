"""Adapters fetched while rows decode: who waits for whom, what is kept, and what is forgotten."""

import gc
import threading
import time
from typing import Any

import pytest

from adapters.engine import Engine
from adapters.errors import UnknownVersion
from adapters.fetching import Fetching
from adapters.model import ModelConfig, load
from adapters.slots import Owner, Slots
from tests.engines import adapter_of, request
from tests.tiny import tiny_model

PATIENCE = 10  # seconds


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return load(ModelConfig(str(tiny_model(folder)), device="cpu"), folder, lambda _: None)


class Disk:
    """Adapters that come when they are let through."""

    def __init__(self, model):
        self.model, self.asked, self.threads = model, [], set()
        self.let_through = threading.Event()

    def load(self, uid, version):
        self.asked.append(uid)
        self.threads.add(threading.current_thread())
        assert self.let_through.wait(PATIENCE)
        if version > 9:
            raise UnknownVersion("there is none")
        return adapter_of(self.model, uid, version)

    def engine(self, rows=4):
        return Engine(self.model, Slots(self.model, self.model.lora_shape(8, 16.0), self.load, 8), rows)


def beside_a_row(disk, *requests):
    """An engine in which the base model's row decodes and these requests are in line, their adapters not there yet."""
    engine = disk.engine()
    engine.add(request(disk.model, 0, owner=None, max_tokens=300))
    engine.step()
    for each in requests:
        engine.add(each)
    return engine


def fetched(engine, *owners):
    """Waits until these adapters are there."""
    deadline = time.monotonic() + PATIENCE
    while not all(engine.slots.ready(owner) for owner in owners):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_rows_decode_while_an_adapter_is_fetched_and_nobody_is_overtaken(model):
    disk = Disk(model)
    engine = beside_a_row(disk, request(model, 1), request(model, 4, owner=None))
    for _ in range(3):
        assert [token.request for token in engine.step()] == ["r0"]
    disk.let_through.set()
    fetched(engine, ("user1", 1))
    engine.step()
    assert [*engine.running] == ["r0", "r1", "r4"]
    assert disk.asked == ["user1"]
    assert threading.current_thread() not in disk.threads


def test_two_are_fetched_ahead_and_one_a_step_is_loaded(model):
    disk = Disk(model)
    engine = beside_a_row(disk, *(request(model, n) for n in (1, 2, 3)))
    disk.let_through.set()
    engine.slots.expect([("user1", 1), ("user2", 1), ("user3", 1)])
    fetched(engine, ("user1", 1), ("user2", 1))
    assert disk.asked == ["user1", "user2"]
    engine.step()
    assert [*engine.running] == ["r0", "r1"]
    engine.step()
    assert [*engine.running] == ["r0", "r1", "r2"]


def test_an_idle_engine_waits_for_the_fetch(model):
    disk = Disk(model)
    disk.let_through.set()
    engine = disk.engine()
    engine.add(request(model, 1))
    assert [token.request for token in engine.step()] == ["r1"]


def test_what_cannot_be_fetched_fails_its_own_request_and_is_asked_for_anew(model):
    disk = Disk(model)
    disk.let_through.set()
    owner = ("user1", 99)
    engine = beside_a_row(disk, request(model, 1, owner=owner))
    for asked in (1, 2):
        engine.slots.expect([owner])
        fetched(engine, owner)
        decoded, failed = sorted(engine.step(), key=lambda token: token.finish == "error")
        assert decoded.request == "r0"
        assert failed.request == "r1" and isinstance(failed.error, UnknownVersion)
        assert len(disk.asked) == asked
        engine.add(request(model, 1, owner=owner))


def counting():
    """A way to the disk that brings nothing but notes who was asked for."""
    read: list[Owner] = []

    def load_adapter(uid: str, version: int) -> Any:
        read.append((uid, version))

    return Fetching(load_adapter), read


def test_a_forgotten_users_adapter_is_read_anew():
    fetching, read = counting()
    for _ in range(2):
        fetching.expect([("b", 1), ("a", 1)])
        fetching.coming["a", 1].result(PATIENCE)
        fetching.forget("a")
        assert [*fetching.coming] == [("b", 1)] and not fetching.done(("a", 1))
    assert read == [("b", 1), ("a", 1), ("a", 1)]


def test_what_is_not_expected_any_more_is_dropped_and_the_thread_ends():
    fetching, _ = counting()
    fetching.expect([("a", 1)])
    fetching.expect([("b", 1)])
    assert [*fetching.coming] == [("b", 1)]
    fetching.take(("b", 1))
    assert not fetching.coming
    (mine,) = fetching.thread._threads
    assert mine.is_alive()
    del fetching
    gc.collect()
    mine.join(PATIENCE)
    assert not mine.is_alive()
