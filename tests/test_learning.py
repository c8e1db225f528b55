"""A change of mind on a real server and a real store, with trainers that come at the worst moment."""

from types import SimpleNamespace

import pytest

from adapters.errors import StoreFull
from adapters.store import AdapterStore
from feedback.claims import Rules
from feedback.connection import StoreUnavailable
from feedback.events import RoundOvertaken
from service import learning
from service.attempt import Records
from tests.candidates import BASE, UID, publish
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
        half_withdrawn=set(),
    )  # fmt: skip


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
