"""What Redis promises, and what becomes of a caller when it is full, away, or unfit; on real servers."""

import threading
import time
from contextlib import nullcontext
from typing import Any

import pytest

from feedback import connection, keys
from feedback.calls import Call, Script
from feedback.connection import BadAddress, Store, StoreFull, StoreUnavailable, TooOld, connect
from feedback.messages import MessageLog
from feedback.ratings import Ratings
from feedback.removal import remove_records
from tests.records import add_user, answered, message
from tests.servers import PROGRAMS, hang, server

ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
SECOND = {"appendonly": "yes", "appendfsync": "everysec"}


def level(folder, **options):
    """(level, reasons in one text, whether writes wait for the disk)."""
    with server(folder, **options) as url, connect(url) as store:
        found = connection.durability(store)
        return found.level, " ".join(found.why), store.waits


def as_user(url, *rules):
    """A client with fewer rights."""
    with connect(url) as admin:
        admin.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~*", "&*", "+@all", *rules)
    return connect(url.replace("unix://", "unix://few:secret@"))


# durability


def test_synced_at_each_write_is_strong_without_waiting(tmp_path):
    assert level(tmp_path, **ALWAYS) == ("strong", "", False)


def test_synced_each_second_is_strong_by_waiting(tmp_path):
    with server(tmp_path, **SECOND) as url, connect(url) as store:
        assert connection.durability(store).level == "strong" and store.waits
        store.write(Script("return redis.call('SET', 'a', 'b')"), [])
        assert int(store.info("persistence")["aof_pending_bio_fsync"]) == 0
        assert store.execute_command("WAITAOF", 1, 0, 1) == [1, 0]


def test_no_file_is_weak(tmp_path):
    found = level(tmp_path, appendonly="no")
    assert found[0] == "weak" and "appendonly" in found[1] and found[2] is False


def test_a_pause_of_syncing_is_not_taken_for_always(tmp_path):
    found = level(tmp_path, **ALWAYS, no_appendfsync_on_rewrite="yes")
    assert found == ("strong", "", True)


def test_without_waitaof_each_second_is_weak(tmp_path):
    with server(tmp_path, **SECOND) as url, as_user(url, "-waitaof") as store:
        found = connection.durability(store)
        assert found.level == "weak" and "appendfsync everysec" in found.why[0] and not store.waits
        assert store.write(Script("return 7"), []) == 7


@pytest.mark.parametrize(("policy", "expected"), [("allkeys-lru", "weak"), ("volatile-lru", "strong")])
def test_evicting_ratings_is_weak(tmp_path, policy, expected):
    found = level(tmp_path, **ALWAYS, maxmemory_policy=policy)
    assert found[0] == expected and (policy in found[1]) == (expected == "weak")


def test_a_server_that_refuses_config_is_waited_for(tmp_path):
    with server(tmp_path, **ALWAYS) as url:
        with as_user(url, "-config") as store:
            assert connection.durability(store) == connection.Durability("strong", [])
            assert store.waits
        with as_user(url, "-config", "-waitaof") as store:
            found = connection.durability(store)
            assert found.level == "weak" and "cannot be read" in found.why[0]
            connection.check(store)


def test_a_write_that_the_disk_does_not_confirm_is_no_success(tmp_path):
    with server(tmp_path, **SECOND) as url, connect(url) as store, connect(url) as admin:
        assert store.waits
        admin.config_set("appendonly", "no")
        with pytest.raises(StoreUnavailable, match="appendonly"):
            store.write(Script("return 1"), [])
        with pytest.raises(StoreUnavailable):
            store.durable()


def test_what_need_not_be_on_disk_does_not_suffer_from_a_slow_disk(tmp_path, monkeypatch):
    with server(tmp_path, **SECOND) as url, connect(url) as store:
        assert store.waits
        monkeypatch.setattr(
            connection, "WAIT", ("WAITAOF", 0, 0, 1)
        )  # says how it stands, and waits for nothing
        calls = [Call(Script("return 1"), [], [], int, durable=durable) for durable in (True, False)]
        written, read = store.together(calls)
        assert isinstance(written, StoreUnavailable) and "3 s" in str(written) and read == 1


@pytest.mark.parametrize("repeat", [lambda store: store.write(Script("return 1"), []), Store.durable])
def test_what_is_found_done_is_waited_for_too_by_a_write_behind_it(tmp_path, repeat):
    with server(tmp_path, **SECOND) as url, connect(url) as store, connect(url) as other:
        assert store.waits
        other.set("a", "b")
        before = store.info("persistence")["aof_current_size"]
        repeat(store)  # which finds nothing to write
        assert store.info("persistence")["aof_current_size"] > before
        assert other.execute_command("WAITAOF", 0, 0, 1) == [1, 0]


def test_where_nothing_is_waited_for_no_mark_is_written(tmp_path):
    with server(tmp_path, **ALWAYS) as url, connect(url) as store:
        store.write(Script("return 1"), [])
        store.durable()
        assert store.keys("*") == []


# full


def fill(store):
    store.config_set("maxmemory", store.info("memory")["used_memory"] - 1)


def contents(store):
    """All that is in there."""
    read = {
        "string": store.get,
        "hash": store.hgetall,
        "set": store.smembers,
        "list": lambda key: store.lrange(key, 0, -1),
        "zset": lambda key: store.zrange(key, 0, -1, withscores=True),
        "stream": store.xrange,
    }
    return {key: read[store.type(key)](key) for key in store.keys("*")}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_full_server_refuses_and_changes_nothing(tmp_path, program):
    with server(tmp_path, program, **ALWAYS) as url, connect(url) as store:
        add_user(store, "ann")
        ids = answered(store, "ann", 3)
        log, ratings = MessageLog(store), Ratings(store)
        ratings.put("ann", ids[0], "up")
        log.begin("ann", message("msg_open"))
        before = contents(store)
        fill(store)
        for call in (
            lambda: ratings.put("ann", ids[0], "down", idempotency_key="k"),
            lambda: ratings.put("ann", ids[1], "up"),
            lambda: ratings.withdraw("ann", ids[0]),
            lambda: ratings.mark_used("ann", [(ids[0], 1)], 1),
            lambda: log.begin("ann", message("msg_9")),
            lambda: log.finish("ann", "msg_open", "text", "stop"),
            lambda: store.set("a", "b"),
        ):
            with pytest.raises(StoreFull):
                call()
        assert contents(store) == before
        assert [each.rating for each in ratings.standing("ann")] == ["up"]  # reading goes on
        store.config_set("maxmemory", 0)
        assert ratings.put("ann", ids[0], "down").revision == 2


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("synced", [ALWAYS, SECOND])
def test_a_user_can_be_deleted_from_a_full_server(tmp_path, program, synced):
    with server(tmp_path, program, **synced) as url, connect(url) as store:
        add_user(store, "ann")
        for id in answered(store, "ann", 3):
            Ratings(store).put("ann", id, "up")
        fill(store)
        remove_records(store, "ann")
        assert store.keys(keys.of_user("ann") + "*") == [keys.account("ann")]


# away


def test_nobody_there_is_unavailable_soon(tmp_path):
    began = time.monotonic()
    with connect(f"unix://{tmp_path}/nobody") as store:
        for call in (store.ping, lambda: store.read(Script("return 1"), []), store.durable):
            with pytest.raises(StoreUnavailable):
                call()
        with pytest.raises(StoreUnavailable):
            store.pipeline().get("a").execute()
    assert time.monotonic() - began < 6


def test_a_server_that_hangs_costs_one_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "TIMEOUT_SECONDS", 0.3)
    with server(tmp_path, **ALWAYS) as url, connect(url) as store:
        store.set("a", "b")
        go_on = hang(url)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.get("a")
        assert time.monotonic() - began < 0.9
        go_on()
        assert store.get("a") == "b"


def test_a_client_heals_when_its_server_is_back(tmp_path):
    with server(tmp_path, **ALWAYS) as url:
        store = connect(url)
        ratings = Ratings(store)
        add_user(store, "ann")
        ids = answered(store, "ann", 2)
        ratings.put("ann", ids[0], "up")
    with pytest.raises(StoreUnavailable):
        ratings.put("ann", ids[1], "up")
    with server(tmp_path, **ALWAYS):  # knows no script any more
        assert ratings.put("ann", ids[1], "up").state == "queued"
        assert ratings.counts("ann").queued == 2
        store.close()


def test_a_server_that_forgets_its_scripts_before_every_load_is_served_all_the_same(redis, monkeypatch):
    send = Store._sent
    monkeypatch.setattr(Store, "_sent", lambda store, *given: (redis.script_flush(), send(store, *given))[1])
    add_user(redis, "ann")
    (answer,) = answered(redis, "ann", 1)
    assert Ratings(redis).put("ann", answer, "up").state == "queued"


def test_a_pause_shorter_than_the_retries_is_not_noticed(tmp_path):
    with server(tmp_path, **ALWAYS) as url:
        store = connect(url)
        store.set("a", "b")
    found = []
    asking = threading.Thread(target=lambda: found.append(store.get("a")))
    asking.start()
    time.sleep(0.02)
    with server(tmp_path, **ALWAYS):
        asking.join()
        store.close()
    assert found == ["b"]


def test_many_threads_share_a_client(redis):
    add_user(redis, "ann")
    ids, ratings = answered(redis, "ann", 20), Ratings(redis)
    threads = [threading.Thread(target=ratings.put, args=("ann", id, "up")) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ratings.counts("ann").up == ratings.counts("ann").queued == 20
    assert sum(each.held_out for each in ratings.standing("ann")) == 4


# unfit


@pytest.mark.parametrize(
    "url", ["", "http://localhost", "localhost:6379", "redis://localhost:port", "redis://h/0?db=x"]
)
def test_what_is_no_redis_url_is_said_so(url):
    with pytest.raises(BadAddress):
        connect(url)


def test_no_password_is_ever_told(tmp_path):
    with server(tmp_path, **ALWAYS) as url:
        as_user(url).close()
        with pytest.raises(StoreUnavailable) as refused, connect(url.replace("//", "//few:wr0ng@")) as store:
            store.ping()
    with pytest.raises(StoreUnavailable) as away, connect("redis://few:wr0ng@127.0.0.1:1") as store:
        store.ping()
    assert not any("wr0ng" in str(each.value) for each in (refused, away))
    assert "name or password" in str(refused.value)


@pytest.mark.parametrize("password", ["wr0ng", "wr0ng/", "wr0ng?", "wr0ng#", "wr0ng\u2100"])
def test_no_password_in_a_url_that_is_none_is_told(password):
    with pytest.raises(BadAddress, match=r"a /, \?, # or @ in the password needs percent-encoding") as bad:
        connect(f"redis://few:{password}@localhost:port")
    assert "wr0ng" not in str(bad.value)


class Pretending(Store):
    """Tells another version than the server's own: older servers cannot be had everywhere."""

    told: dict[str, Any]

    def info(self, section=None, *args, **kwargs):
        return {**super().info(section), **self.told}


@pytest.mark.parametrize(
    ("told", "fit"),
    [
        ({"redis_version": "6.2.0"}, True),
        ({"redis_version": "7.2.4"}, True),
        ({"redis_version": "10.0"}, True),
        ({"redis_version": "6.0.16"}, False),
        ({"redis_version": "5.0.7"}, False),
        ({"redis_mode": "cluster"}, False),
    ],
)
def test_what_is_older_than_6_2_or_a_cluster_is_refused(redis_url, told, fit):
    with Pretending.from_url(redis_url, decode_responses=True) as store:
        store.told = told
        with nullcontext() if fit else pytest.raises(TooOld):
            connection.check(store)


def test_the_server_under_test_is_fit(redis):
    connection.check(redis)
    assert connection.durability(redis).level in ("strong", "weak")
