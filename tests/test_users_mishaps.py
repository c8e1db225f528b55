"""The operator's calls about users while something else goes wrong: on a real server and a real store."""

import asyncio
from types import SimpleNamespace

import pytest
from fastapi.concurrency import run_in_threadpool

from adapters.store import AdapterStore
from feedback import keys
from feedback.connection import StoreUnavailable
from feedback.messages import MessageLog
from feedback.ratings import Ratings
from service.auth import Accounts, IdInUse, NoSuchUser
from service.deletion import delete_user
from service.presence import Presence
from service.routes import users
from service.schemas import NewUser
from tests.candidates import BASE


@pytest.fixture
def parts(redis, tmp_path):
    return SimpleNamespace(
        accounts=Accounts(redis),
        store=AdapterStore(tmp_path / "adapters", BASE),
        messages=MessageLog(redis),
        ratings=Ratings(redis),
        settings=SimpleNamespace(folder=tmp_path),
    )


def test_whoever_is_leaving_gets_no_new_key(parts, redis):
    made = users.add(parts, NewUser(id="ada"))
    account, before = parts.accounts.named("ada"), redis.hgetall(keys.API_KEYS)
    redis.sadd(keys.LEAVING, account.uid)  # as if the deletion had begun since the id was looked up
    with pytest.raises(NoSuchUser):
        parts.accounts.rotate("ada")
    assert redis.hgetall(keys.API_KEYS) == before and made["id"] == "ada"


def test_deletions_that_wait_hold_no_thread_and_each_user_is_removed_once(parts, redis):
    """Threads are few, and a chat needs one."""
    ids = [users.add(parts, None)["id"] for _ in range(50)]
    uids = [parts.accounts.named(id).uid for id in ids]
    parts.presence, parts.deleting = Presence(), asyncio.Lock()
    parts.generation = SimpleNamespace(cancel_user=lambda uid: None, forget_user=lambda uid: None)
    parts.redis = redis
    for uid in uids:
        parts.presence.enter(uid)

    async def leave():
        going = [asyncio.create_task(delete_user(parts, uid)) for uid in uids]
        again = [asyncio.create_task(delete_user(parts, uid)) for uid in uids]
        while len(parts.accounts.leaving()) < 50:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(run_in_threadpool(lambda: None), 5)
        assert not any(each.done() for each in (*going, *again))
        for uid in uids:
            parts.presence.leave(uid)
        await asyncio.gather(*going, *again)

    asyncio.run(leave())
    assert parts.store.users() == [] and parts.accounts.leaving() == []


def test_a_user_whose_making_was_not_confirmed_keeps_the_folder(parts, redis, monkeypatch):
    write = type(redis).write

    def unconfirmed(store, *script):
        write(store, *script)
        raise StoreUnavailable("not on disk yet")

    with monkeypatch.context() as patch:
        patch.setattr(type(redis), "write", unconfirmed)
        with pytest.raises(StoreUnavailable):
            users.add(parts, NewUser(id="ada"))
    assert parts.store.users() == [parts.accounts.named("ada").uid]
    with pytest.raises(IdInUse):
        users.add(parts, NewUser(id="ada"))
    assert len(parts.store.users()) == 1  # the second one's folder is gone again


def test_users_on_their_way_out_are_not_listed(parts, redis):
    for id in ("ada", "bob", "cleo"):
        users.add(parts, NewUser(id=id))
    redis.sadd(keys.LEAVING, parts.accounts.named("ada").uid)
    parts.store.remove(parts.accounts.named("bob").uid)  # as between the page's two looks
    assert [each["id"] for each in users.page(parts)["data"]] == ["cleo"]
