"""The adapter store and a version that gives way by itself: to whom, when not, and that it does not come back."""

import json

import pytest

from adapters.head import Head
from adapters.store import AdapterStore, Overtaken
from adapters.versions import WEIGHTS
from tests.candidates import BASE, HELD, UID, all_but, all_stand, candidate, number_in, publish, states

WHY = "worse"


def fall_back(store):
    """At the epoch of this instant."""
    return store.fall_back(UID, store.head(UID).epoch, WHY)


def damage(root, number):
    (root / UID / f"versions/{number:06d}" / WEIGHTS).write_bytes(b"damaged")


def test_the_version_before_answers_again_and_the_other_says_why_it_does_not(store):
    publish(store, 1)
    publish(store, 2)
    epoch = store.head(UID).epoch
    fall_back(store)
    assert (store.head(UID).active, store.head(UID).epoch) == (1, epoch + 1)
    assert states(store) == {2: "kept", 1: "active"}
    left = store.version(UID, 2).rolled_back
    assert (left.version, left.to, left.why) == (2, 1, WHY) and left.at > 0
    assert store.version(UID, 1).rolled_back is None
    assert AdapterStore(store.root, BASE).version(UID, 2).rolled_back == left  # it is on disk


def test_the_first_version_gives_way_to_the_base_model(store):
    publish(store, 1)
    assert store.head(UID).previous == 0
    fall_back(store)
    assert store.head(UID).active == 0


def test_the_version_before_is_the_one_that_answered_whoever_the_parent_is(store):
    publish(store, 1)
    publish(store, 2)
    publish(store, 3, gate=HELD)
    publish(store, 4, parent=1)
    assert store.head(UID).previous == 2
    publish(store, 5, gate=HELD)
    assert store.head(UID).previous == 2  # a held one changes nothing of who answers


@pytest.mark.parametrize("number", [1, 2])
def test_there_is_no_way_back_and_forth(store, number):
    publish(store, 1)
    publish(store, 2)
    if number == 1:
        fall_back(store)
    else:
        store.rollback(UID, 1)
    before = store.head(UID)
    assert before.previous is None
    with pytest.raises(Overtaken):
        fall_back(store)
    assert store.head(UID) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda store: publish(store, 3),
        lambda store: publish(store, 3, gate=HELD),
        lambda store: store.rollback(UID, 2),
        lambda store: store.reset(UID),
        lambda store: store.overtake(UID),
        lambda store: store.retire(UID, all_stand),
        fall_back,
    ],
    ids=["published", "held", "rolled back", "reset", "overtaken", "withdrawn", "fell back"],
)
def test_whatever_came_in_between_voids_it(store, change):
    publish(store, 1)
    publish(store, 2)
    epoch = store.head(UID).epoch
    change(store)
    after = store.head(UID)
    with pytest.raises(Overtaken):
        store.fall_back(UID, epoch, WHY)
    assert store.head(UID) == after


def test_it_overtakes_a_round_and_the_next_begins_from_the_version_before(store):
    publish(store, 1)
    publish(store, 2)
    epoch = store.head(UID).epoch
    fall_back(store)
    with pytest.raises(Overtaken):
        store.publish(UID, candidate(3, parent=2), epoch)
    assert store.start_of_round(UID, all_stand) == 1
    publish(store, 3, parent=1)
    assert store.head(UID).previous == 1


def test_it_never_comes_back_by_itself(store, root):
    publish(store, 1, ratings=[("msg_a", 1)])
    publish(store, 2, parent=None)  # an import: what shaped version 1 did not shape it
    fall_back(store)
    store.retire(UID, all_but(("msg_a", 1)))
    assert states(store) == {2: "kept", 1: "retired"} and store.head(UID).active == 0
    publish(store, 3, parent=0)
    damage(root, 3)
    assert store.check(UID).active == 0
    publish(store, 4, ratings=[("msg_b", 1)], parent=0)
    assert store.start_of_round(UID, all_but(("msg_b", 1))) == 0


def test_if_the_version_before_is_damaged_another_one_answers(store, root):
    for number in (1, 2, 3):
        publish(store, number)
    damage(root, 2)
    fall_back(store)
    assert store.head(UID).active == 1 and number_in(store.load(UID, 1)) == 1
    assert store.version(UID, 3).rolled_back.to == 1, "what is told is what answers"


def test_who_asks_for_it_gets_it_and_it_is_not_watched(store):
    publish(store, 1)
    publish(store, 2)
    fall_back(store)
    store.rollback(UID, 2)
    assert (store.head(UID).active, store.head(UID).previous) == (2, None)
    assert store.version(UID, 2).rolled_back is None


def test_a_replacement_of_what_a_changed_rating_shaped_is_watched_beside_the_version_before_that(store):
    publish(store, 1)
    publish(store, 2, ratings=[("msg_a", 1)])
    made = candidate(3, ratings=[("msg_a", 2)], parent=1)
    store.publish(UID, made, store.head(UID).epoch, all_but(("msg_a", 1)))
    assert states(store) == {3: "active", 2: "retired", 1: "kept"} and store.head(UID).previous == 1


def test_with_the_version_before_retired_there_is_nothing_to_go_back_to(store):
    publish(store, 1, ratings=[("msg_a", 1)])
    publish(store, 2, parent=None)
    store.retire(UID, all_but(("msg_a", 1)))
    assert (store.head(UID).active, store.head(UID).previous) == (2, None)


def test_a_withdrawal_puts_another_version_in_its_place_which_is_not_watched(store):
    publish(store, 1)
    publish(store, 2)
    publish(store, 3, ratings=[("msg_a", 1)], parent=2)
    store.retire(UID, all_but(("msg_a", 1)))
    assert (store.head(UID).active, store.head(UID).previous) == (2, None)


def test_the_version_before_is_pruned_last(root):
    store = AdapterStore(root, BASE, keep=2)
    store.create(UID)
    publish(store, 1)
    publish(store, 2)
    store.rollback(UID, 1)
    publish(store, 3, parent=1)
    assert states(store) == {3: "active", 1: "kept"}
    fall_back(store)
    assert store.head(UID).active == 1


def test_the_version_before_is_there_to_go_back_to_however_few_are_kept(root):
    store = AdapterStore(root, BASE, keep=1)
    store.create(UID)
    for number in (1, 2, 3):
        publish(store, number)
    assert states(store) == {3: "active", 2: "kept"}
    fall_back(store)
    left = store.version(UID, 3).rolled_back
    assert store.head(UID).active == 2 and left is not None and left.to == 2


def test_a_head_from_before_the_watch_is_read_and_watches_nothing(store, root):
    publish(store, 1)
    path = root / UID / "head.json"
    record = json.loads(path.read_bytes())
    del record["previous"], record["rolled_back"]
    path.write_text(json.dumps(record))
    assert store.head(UID) == Head(active=1, epoch=2, next=2)


@pytest.mark.parametrize("previous", ["1", -1, [1], True, 1.0])
def test_a_head_whose_previous_version_is_none_is_made_anew(store, root, previous):
    publish(store, 1)
    path = root / UID / "head.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"previous": previous}))
    assert (store.head(UID).active, store.head(UID).previous) == (1, None)
