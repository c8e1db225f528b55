"""A clean real server for every test that wants one: the embedded one, or THUMBTUNE_TEST_REDIS_URL, whose database is
emptied."""

import os

import pytest

from feedback.connection import connect
from service.valkey import Valkey


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


def pytest_collection_modifyitems(items):
    """`-m redis` picks what a server is given to: what is worth repeating on another one."""
    for item in items:
        if "redis_url" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.redis)
