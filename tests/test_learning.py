"""A change of mind on a real server and a real store, with trainers that come at the worst moment."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.security import HTTPAuthorizationCredentials

from adapters.errors import StoreFull
from adapters.store import AdapterStore
from feedback.claims import Rules
from feedback.connection import StoreUnavailable
from feedback.courier import Courier
from feedback.events import RoundOvertaken
from feedback.queue import Queue
from service import bring_in, learning
from service.attempt import Records
from service.auth import Accounts
from service.callers import writer
from service.presence import Presence
from service.schemas import Rating
from tests.candidates import BASE, HELD, UID, candidate, publish
from tests.records import add_user, answered


@pytest.fixture
def parts(redis, tmp_path):
    """As much of the API's parts as is needed; four ratings, all learnt from by version 1."""
    records = Records.of(redis)
    store = AdapterStore(tmp_path / "adapters", BASE)
    store.create(add_user(redis, UID))
    ids = answered(redis, UID, 4)
    for id in ids:
        records.ratings.put(UID, id, "up")
    publish(store, ratings=[(id, 1) for id in ids])
    records.ratings.mark_used(UID, [(id, 1) for id in ids], 1)
    return SimpleNamespace(
        store=store, ratings=records.ratings, rounds=records.rounds, claims=records.claims, ids=ids,
        half_withdrawn=set(), unwatched=set(), courier=Courier(redis), accounts=Accounts(redis),
        presence=Presence(),
    )  # fmt: skip


def rate(parts, id, rating):
    return asyncio.run(learning.rate(parts, UID, id, Rating(rating=rating), None))


def begin_round(parts, first_revision=1):
    """(claim, round) of a round over all ratings."""
    parts.rounds.request(UID)
    claim = parts.claims.take("one", Rules(), lease=60)
    revisions = [first_revision, 1, 1, 1]
    return claim, parts.rounds.start(claim, list(zip(parts.ids, revisions, strict=True)))


def replacing(parts, redis):
    """(claim, round) of the round that is to replace version 1, which a changed rating has shaped."""
    rate(parts, parts.ids[0], "down")
    queue = Queue(redis)
    queue.open()
    queue.mark_due(queue.claim("one"))
    return begin_round(parts, first_revision=2)


def test_a_rating_is_two_round_trips_one_for_the_key_and_one_for_all_the_rest(parts, redis, round_trips):
    account, key = parts.accounts.add(None, add_user(redis, "bob"))
    (id,) = answered(redis, "bob", 1)
    request: Any = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(parts=parts)))
    given = HTTPAuthorizationCredentials(scheme="Bearer", credentials=key)

    async def call(rating):
        async for caller in writer(request, given):
            await learning.rate(parts, caller.uid, id, Rating(rating=rating), None)

    asyncio.run(call("up"))  # loads the scripts
    del round_trips[:]
    asyncio.run(call("down"))
    assert round_trips == [1, 1]
    assert parts.ratings.get(account.uid, id).revision == 2


def test_a_changed_rating_ends_the_round_and_the_store_takes_nothing_from_it(parts):
    claim, round = begin_round(parts)
    epoch = parts.store.head(UID).epoch
    assert rate(parts, parts.ids[0], "up").revision == 1  # the same again
    assert parts.store.head(UID).epoch == epoch
    assert rate(parts, parts.ids[0], "down").revision == 2
    assert parts.store.head(UID).epoch == epoch + 1
    with pytest.raises(RoundOvertaken):
        parts.rounds.check(claim, round.id)
    rate(parts, parts.ids[0], "up")
    assert parts.store.head(UID).epoch == epoch + 1  # no round is left that could be overtaken


def test_a_change_that_was_sent_twice_for_want_of_an_answer_tells_both_times_of_the_round_it_ended(
    parts, redis
):
    begin_round(parts)
    change = parts.ratings.putting(UID, parts.ids[0], "down", [], None, None, None)
    assert [redis.do(change).ended, redis.do(change).ended] == [True, True]
    assert parts.ratings.get(UID, parts.ids[0]).revision == 2
    again = parts.ratings.putting(UID, parts.ids[0], "down", [], None, None, None)
    assert not redis.do(again).ended


def test_a_round_taken_before_the_store_knows_of_the_withdrawal_is_followed_by_another(parts, monkeypatch):
    retire, taken = parts.store.retire, []

    def trainer_comes_first(uid, stands):
        claim = parts.claims.take("one", Rules(), lease=60)
        taken.append((claim, parts.rounds.start(claim, [(id, 1) for id in parts.ids[1:]])))
        return retire(uid, stands)

    monkeypatch.setattr(parts.store, "retire", trainer_comes_first)
    learning.withdraw(parts, UID, parts.ids[0])
    ((claim, first),) = taken
    with pytest.raises(RoundOvertaken):
        parts.rounds.check(claim, first.id)
    following = parts.rounds.current(UID)
    assert following.state == "waiting" and following.id != first.id
    assert parts.store.head(UID).active == 0


def test_a_version_that_was_set_aside_goes_with_the_rating_that_shaped_it(parts):
    (weights,) = parts.store.root.glob(f"{UID}/versions/*/adapter_model.safetensors")
    weights.write_bytes(b"damaged")
    parts.store.check(UID)
    assert list(parts.store.root.glob(f"{UID}/damaged/*"))
    learning.withdraw(parts, UID, parts.ids[0])
    assert not list(parts.store.root.glob(f"{UID}/damaged/*"))


def test_a_rollback_does_not_lose_the_round_that_replaces_what_a_changed_rating_shaped(parts, redis):
    claim, round = replacing(parts, redis)
    learning.rollback(parts, UID, 1)  # the version that it is to replace
    assert parts.rounds.get(UID, round.id).reason == "overtaken"
    assert parts.rounds.current(UID).state == "waiting"
    parts.claims.release(claim)
    begin_round(parts, first_revision=2)
    learning.reset(parts, UID, forget_feedback=False)
    assert parts.rounds.current(UID).state == "waiting", "what it was to learn teaches from the base model on"
    learning.reset(parts, UID, forget_feedback=True)
    assert parts.rounds.current(UID) is None


def test_an_import_that_is_held_does_not_lose_it_either(parts, redis):
    _, round = replacing(parts, redis)
    assert bring_in._publish(parts, UID, candidate(gate=HELD, parent=None)) == 2
    assert parts.store.head(UID).active == 1
    assert parts.rounds.get(UID, round.id).reason == "overtaken"
    assert parts.rounds.current(UID).state == "waiting"


@pytest.mark.parametrize("by_itself", [False, True])  # whether its trainer notices first
@pytest.mark.parametrize(
    "change",
    [
        lambda parts: bring_in._publish(parts, UID, candidate(gate=HELD, parent=None)),
        lambda parts: bring_in._publish(parts, UID, candidate(parent=None)),
        lambda parts: learning.rollback(parts, UID, 0),
        lambda parts: learning.reset(parts, UID, forget_feedback=False),
    ],
)
def test_the_round_that_a_withdrawal_asked_for_is_not_lost(parts, monkeypatch, change, by_itself):
    """All that it is to learn was learnt before, so no new thumb would ask for it."""
    learning.withdraw(parts, UID, parts.ids[0])
    claim = parts.claims.take("one", Rules(), lease=60)
    round = parts.rounds.start(claim, [(id, 1) for id in parts.ids[1:]])
    if by_itself:

        def noticed(uid):
            with suppress(RoundOvertaken):  # since the first time
                parts.rounds.follow(claim, round.id)
            return False

        monkeypatch.setattr(parts.rounds, "overtake", noticed)
        change(parts)
        monkeypatch.undo()
    else:
        change(parts)
    assert parts.rounds.get(UID, round.id).reason == "overtaken"
    following = parts.rounds.current(UID)
    assert following.state == "waiting" and following.id != round.id


def test_without_a_round_a_rollback_asks_for_none(parts):
    learning.rollback(parts, UID, 0)
    assert parts.rounds.current(UID) is None


def test_a_rollback_cut_short_by_redis_is_finished_later(parts, monkeypatch):
    learning.withdraw(parts, UID, parts.ids[0])
    parts.rounds.start(parts.claims.take("one", Rules(), lease=60), [(id, 1) for id in parts.ids[1:]])

    def fail(uid):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(parts.rounds, "overtake", fail)
        with pytest.raises(StoreUnavailable):
            learning.rollback(parts, UID, 0)
    assert parts.half_withdrawn == {UID}
    learning.finish_withdrawals(parts)
    assert parts.rounds.current(UID).state == "waiting"


def test_a_second_withdrawal_leaves_the_round_alone(parts):
    learning.withdraw(parts, UID, parts.ids[0])
    before = parts.store.head(UID), parts.rounds.current(UID).id
    learning.withdraw(parts, UID, parts.ids[0])
    assert (parts.store.head(UID), parts.rounds.current(UID).id) == before


@pytest.mark.parametrize("error", [OSError("no disk"), StoreFull("full"), StoreUnavailable("away")])
def test_a_withdrawal_cut_short_by_a_store_is_finished_later(parts, monkeypatch, error):
    def fail(uid, stands):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(parts.store, "retire", fail)
        with pytest.raises(type(error)):
            learning.withdraw(parts, UID, parts.ids[0])
    assert parts.store.head(UID).active == 1 and parts.half_withdrawn == {UID}
    learning.finish_withdrawals(parts)
    assert parts.store.head(UID).active == 0 and parts.half_withdrawn == set()
    assert parts.rounds.current(UID).state == "waiting"
