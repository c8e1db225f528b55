"""A clean real server for every test that wants one: the embedded one, or THUMBTUNE_TEST_REDIS_URL, whose database is
emptied; and an adapter store with one user."""

import contextlib
import os

import pytest
from redis.connection import AbstractConnection

from adapters.store import AdapterStore
from feedback.connection import connect
from service.valkey import Valkey
from tests.candidates import BASE, UID
from tests.servers import server
from tests.serving import another_database, running


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    if given := os.environ.get("THUMBTUNE_TEST_REDIS_URL"):
        yield given
        return
    server = Valkey(tmp_path_factory.mktemp("data"))
    server.start()
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def redis(redis_url):
    """A `Store` on an empty database."""
    with connect(redis_url) as store:
        store.flushdb()
        yield store
        store.flushdb()


@pytest.fixture
def round_trips(redis, monkeypatch):
    """How many scripts each round trip to Redis carried from now on."""
    redis.waits  # noqa: B018 - asks the server, once
    trips, send = [], AbstractConnection.send_packed_command

    def counted(connection, command, **options):
        trips.append(b"".join(command).count(b"EVALSHA"))
        return send(connection, command, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return trips


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    """A running API that many tests share, each with users of its own."""
    folder = tmp_path_factory.mktemp("api")
    given = os.environ.get("THUMBTUNE_TEST_REDIS_URL")
    with contextlib.ExitStack() as stack:
        url = (
            another_database(given)
            if given
            else stack.enter_context(server(folder / "redis", appendonly="yes"))
        )
        yield stack.enter_context(running(folder / "data", url))


@pytest.fixture
def user(api):
    """A client for a user that nobody else uses."""
    with api.user() as client:
        yield client


@pytest.fixture
def root(tmp_path):
    """Where the adapter store of `store` lies."""
    return tmp_path / "adapters"


@pytest.fixture
def store(root):
    """An adapter store with one user, UID, on the base model."""
    store = AdapterStore(root, BASE)
    store.create(UID)
    return store


def pytest_collection_modifyitems(items):
    """`-m redis` picks what a server is given to: what is worth repeating on another one."""
    for item in items:
        if {"redis_url", "api"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.redis)
