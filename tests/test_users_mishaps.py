"""The operator's calls about users while something else goes wrong: on a real server and a real store."""

from types import SimpleNamespace

import pytest

from adapters.store import AdapterStore
from feedback import keys
from feedback.connection import StoreUnavailable
from feedback.messages import MessageLog
from feedback.ratings import Ratings
from service.auth import Accounts, IdInUse
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
    )


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
