"""After a deletion nothing of a user is left: not in Redis, not in its file."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.store import AdapterStore
from feedback import keys
from feedback.claims import Claims, Rules
from feedback.connection import connect
from feedback.messages import MessageLog
from feedback.queue import Queue
from feedback.ratings import Ratings
from feedback.removal import remove_records, rewrite_log
from feedback.rounds import Rounds
from service import deletion
from service.auth import Accounts
from tests.candidates import BASE
from tests.records import add_user, answered, message
from tests.servers import server


def live(store, uid):
    """A user of whom there is something in every place."""
    add_user(store, uid)
    log, ratings, queue, claims = MessageLog(store), Ratings(store), Queue(store), Claims(store)
    queue.open()
    for id in answered(store, uid, 9, answer=f"secret of {uid}"):
        ratings.put(uid, id, "up", comment=f"secret of {uid}", idempotency_key=id)
    ratings.put(uid, "msg_0000", "down")
    log.begin(uid, message("msg_open"))
    queue.mark_due(queue.claim("one", count=4))
    queue.claim("one", count=2)
    queue.bury(uid, "no memory")
    Rounds(store).request(uid)
    claim = claims.take("one", Rules(), 60)
    assert claim and claim.uid == uid
    Rounds(store).start(claim, [("msg_0001", 1)])
    claims.failed(claim, "no disk")


def traces(store, uid):
    """Every key and member that names the user."""
    found = [key for key in store.keys("*") if uid in key]
    for stream in (keys.EVENTS, keys.DEAD):
        found += [fields for _, fields in store.xrange(stream) if uid in str(fields)]
    found += [member for member in store.smembers(keys.UNFINISHED) if uid in member]
    return found + [member for member in store.zrange(keys.DUE, 0, -1) if uid in member]


def test_nothing_is_left_but_the_account_and_nobody_else_is_touched(redis):
    live(redis, "bob")
    live(redis, "ann")
    others = sorted(map(str, traces(redis, "bob")))
    # one in every place that keys.py names for a user
    assert len({key.split(":")[3] for key in redis.keys(keys.of_user("ann") + "*")}) == 15
    redis.sadd(keys.LEAVING, "ann")
    remove_records(redis, "ann")
    remove_records(redis, "ann")
    assert traces(redis, "ann") == [keys.account("ann")]
    assert sorted(map(str, traces(redis, "bob"))) == others
    assert Queue(redis).size().pending == 2  # bob's


def test_a_removal_that_was_cut_short_is_done_again(redis, monkeypatch):
    live(redis, "ann")
    redis.sadd(keys.LEAVING, "ann")
    with monkeypatch.context() as patch:
        patch.setattr("feedback.removal._strike", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            remove_records(redis, "ann")
    remove_records(redis, "ann")
    assert traces(redis, "ann") == [keys.account("ann")]


def test_the_text_is_gone_from_disk(tmp_path):
    with server(tmp_path, appendonly="yes", appendfsync="always") as url, connect(url) as store:
        live(store, "bob")
        live(store, "ann")

        def on_disk(text):
            return any(text.encode() in path.read_bytes() for path in tmp_path.rglob("*.aof"))

        assert on_disk("secret of ann") and on_disk("secret of bob")
        store.sadd(keys.LEAVING, "ann")
        remove_records(store, "ann")
        assert on_disk("secret of ann")
        store.config_set("aof-use-rdb-preamble", "no")  # a base that can be searched as text
        assert rewrite_log(store)
        assert on_disk("secret of bob") and not on_disk("secret of ann")
        assert not any(
            b"secret of ann" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
        )


def test_a_deletion_killed_before_the_file_is_rewritten_is_finished_later(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(_):
        raise Killed

    def on_disk(text):
        return any(text in path.read_bytes() for path in tmp_path.rglob("*.aof"))

    with server(tmp_path, appendonly="yes", appendfsync="always") as url, connect(url) as store:
        store.config_set("aof-use-rdb-preamble", "no")  # a base that can be searched as text
        accounts, adapters = Accounts(store), AdapterStore(tmp_path / "adapters", BASE)
        account, _ = accounts.add("ann", "a1b2c3")
        adapters.create("a1b2c3")
        answered(store, "a1b2c3", 9, answer="secret of ann")
        settings = SimpleNamespace(folder=tmp_path)
        parts: Any = SimpleNamespace(accounts=accounts, store=adapters, redis=store, settings=settings)
        (tmp_path / "first-user.json").write_text('{"id": "ann", "api_key": "tt-ann"}')
        store.config_set("maxmemory", 1)  # a full server: a user can go all the same
        accounts.lock_out("a1b2c3")
        with monkeypatch.context() as patch:
            patch.setattr(deletion, "rewrite_log", killed)
            with pytest.raises(Killed):
                deletion._remove(parts, "a1b2c3")
        assert on_disk(b"secret of ann") and accounts.leaving() == []
        parts.deleting = asyncio.Lock()
        asyncio.run(deletion.finish_rewrite(parts))  # as upkeep does
        assert not any(on_disk(trace) for trace in (b"secret of ann", account.key_hash.encode(), b"a1b2c3"))
        monkeypatch.setattr(deletion, "rewrite_log", killed)
        asyncio.run(deletion.finish_rewrite(parts))  # once
        assert not (tmp_path / "first-user.json").exists()
        assert not [key for key in store.keys("*") if "a1b2c3" in key]


def test_a_server_without_a_file_has_nothing_to_rewrite(tmp_path):
    with server(tmp_path, appendonly="no") as url, connect(url) as store:
        assert rewrite_log(store)


def test_a_server_that_refuses_is_reported(tmp_path, caplog):
    with server(tmp_path, appendonly="yes") as url, connect(url) as admin:
        admin.execute_command("ACL", "SETUSER", "few", "on", ">x", "~*", "+@all", "-bgrewriteaof")
        with connect(url.replace("//", "//few:x@")) as store:
            assert not rewrite_log(store)
    assert "deleted text may stay" in caplog.text
