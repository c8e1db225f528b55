"""The adapter store and ratings that no longer stand: what is retired, and what answers in its place."""

import pytest
import torch

from adapters.store import NotKept, Overtaken, UnknownVersion
from tests.candidates import HELD, UID, all_but, all_stand, candidate, publish, states


def test_withdrawal_makes_the_newest_version_active_that_it_did_not_shape(store, root):
    publish(store, 1, ratings=[("msg_a", 1)])
    publish(store, 2, ratings=[("msg_b", 1)], parent=1, learner=({"critic": torch.ones(2)}, {}))
    publish(store, 3, ratings=[("msg_c", 1)], parent=2)
    publish(store, 4, ratings=[("msg_b", 1)], parent=1, gate=HELD)
    epoch = store.head(UID).epoch
    assert store.retire(UID, all_but(("msg_b", 1))) == [2, 3, 4]
    assert (store.head(UID).active, store.head(UID).epoch) == (1, epoch + 1)
    assert states(store) == {4: "retired", 3: "retired", 2: "retired", 1: "active"}
    assert [path.name for path in (root / UID / "versions/000002").iterdir()] == ["manifest.json"]
    for retired in (2, 3, 4):
        with pytest.raises(NotKept, match="retired"):
            store.rollback(UID, retired)
        for read in (store.load, store.learner):
            with pytest.raises(UnknownVersion, match="retired"):
                read(UID, retired)
    assert store.retire(UID, all_but(("msg_b", 1), ("msg_a", 1))) == [1]
    assert store.head(UID).active == 0


def test_another_revision_of_the_same_rating_does_not_stand_for_it(store):
    publish(store, 1, ratings=[("msg_a", 1)])
    assert store.retire(UID, all_but(("msg_a", 2))) == []
    assert store.retire(UID, all_but(("msg_a", 1))) == [1]


def test_held_versions_never_take_the_place_of_a_withdrawn_one(store):
    publish(store, 1, gate=HELD)
    publish(store, 2, ratings=[("msg_a", 1)])
    store.retire(UID, all_but(("msg_a", 1)))
    assert store.head(UID).active == 0


def test_where_nothing_is_shaped_by_it_the_active_version_stays(store):
    publish(store, 1)
    publish(store, 2)
    store.rollback(UID, 1)
    store.retire(UID, all_but(("msg_a", 1)))
    assert store.head(UID).active == 1


def test_a_changed_rating_retires_the_old_version_when_its_clean_replacement_is_published(store):
    publish(store, 1)
    publish(store, 2, ratings=[("msg_a", 1)])
    changed = all_but(("msg_a", 1))
    assert store.start_of_round(UID, changed) == 1
    store.publish(
        UID, candidate(3, ratings=[("msg_a", 2)], parent=1, gate=HELD), store.head(UID).epoch, changed
    )
    assert states(store) == {3: "held", 2: "active", 1: "kept"}  # the old one answers until then
    store.publish(UID, candidate(4, ratings=[("msg_a", 2)], parent=1), store.head(UID).epoch, changed)
    assert states(store) == {4: "active", 3: "held", 2: "retired", 1: "kept"}


def test_a_candidate_shaped_by_a_fallen_rating_is_not_published(store):
    publish(store, 1, ratings=[("msg_a", 1)])
    head = store.head(UID)
    for made in (candidate(2, ratings=[("msg_a", 1)]), candidate(2, ratings=[("msg_b", 1)], parent=1)):
        with pytest.raises(Overtaken):
            store.publish(UID, made, head.epoch, all_but(("msg_a", 1)))
    assert store.head(UID) == head


def test_a_rating_that_falls_while_the_version_is_written_overtakes_it(store, root):
    head, folder = store.head(UID), root / UID / "versions/000001"
    with pytest.raises(Overtaken):
        store.publish(UID, candidate(1, ratings=[("msg_a", 1)]), head.epoch, lambda *_: not folder.exists())
    assert store.head(UID) == head
    assert not list(folder.parent.iterdir())


def test_a_round_starts_from_the_active_version_or_the_newest_clean_one(store):
    assert store.start_of_round(UID, all_stand) == 0
    publish(store, 1)
    publish(store, 2)
    publish(store, 3, ratings=[("msg_a", 1)], parent=2)
    assert store.start_of_round(UID, all_stand) == 3
    assert store.start_of_round(UID, all_but(("msg_a", 1))) == 2
    store.rollback(UID, 1)
    assert store.start_of_round(UID, all_stand) == 1
    store.reset(UID)
    assert store.start_of_round(UID, all_stand) == 0


def test_the_check_at_start_retires_what_was_withdrawn_and_overtakes_nothing_else(store):
    publish(store, 1)
    publish(store, 2, ratings=[("msg_a", 1)])
    head = store.head(UID)
    assert store.check(UID, all_stand) == head
    assert store.check(UID) == head
    assert store.check(UID, all_but(("msg_a", 1))).active == 1
    assert store.head(UID).epoch == head.epoch + 1
