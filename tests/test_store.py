"""The adapter store: what is active when, what is left of what, and whose it is."""

import math

import pytest
import torch

from adapters.adapter import BadAdapter
from adapters.store import (
    AdapterStore,
    Base,
    NotKept,
    OtherBase,
    Overtaken,
    Revision,
    UnknownUser,
    UnknownVersion,
)
from tests.candidates import BASE, HELD, PASSED, UID, all_stand, candidate, number_in, publish, states


def test_a_new_user_is_on_the_base_model(store):
    assert (store.head(UID).active, store.head(UID).epoch) == (0, 1)
    assert store.versions(UID) == []
    assert store.users() == [UID]
    assert store.learner(UID, 0) is None
    for version in (0, 1, -1):
        with pytest.raises(UnknownVersion):
            store.load(UID, version)


def test_what_is_published_is_active_and_as_it_was_given(store):
    tensors = {"critic": torch.arange(3.0), "step": torch.tensor(7)}
    made = candidate(
        3,
        ratings=[("msg_b", 1), ("msg_a", 2)],
        learner=(tensors, {"kl_coefficient": 0.1}),
        metrics={"kl": 2.5},
    )
    assert store.publish(UID, made, epoch=1) == 1
    assert store.head(UID).active == 1
    assert number_in(store.load(UID, 1)) == 3
    found, meta = store.learner(UID, 1)
    assert torch.equal(found["critic"], torch.arange(3.0))
    assert (found["step"].item(), meta) == (7, {"kl_coefficient": 0.1})
    version = store.version(UID, 1)
    assert (version.version, version.parent, version.state, version.seed, version.base) == (
        1,
        0,
        "active",
        5,
        BASE,
    )
    assert version.trained_on == [Revision("msg_a", 2), Revision("msg_b", 1)]
    assert (version.metrics, version.gate) == ({"kl": 2.5}, PASSED)
    assert set(version.files) == {"adapter_config.json", "adapter_model.safetensors", "learner.safetensors"}


def test_a_metric_without_a_value_is_null(store, root):
    publish(store, metrics={"explained_variance": math.nan, "curve": [1.0, math.inf]})
    assert store.version(UID, 1).metrics == {"explained_variance": None, "curve": [1.0, None]}
    assert "NaN" not in (root / UID / "versions/000001/manifest.json").read_text()


def test_a_version_without_a_learner_has_none(store):
    publish(store)
    assert store.learner(UID, 1) is None


def test_a_held_candidate_is_stored_and_does_not_answer(store):
    publish(store, 1)
    assert publish(store, 2, gate=HELD) == 2
    assert states(store) == {2: "held", 1: "active"}
    assert number_in(store.load(UID, 2)) == 2
    with pytest.raises(NotKept, match="held"):
        store.rollback(UID, 2)


def test_an_adapter_with_nan_is_never_stored(store, root):
    with pytest.raises(BadAdapter):
        store.publish(UID, candidate(math.nan), epoch=1)
    assert list((root / UID / "versions").iterdir()) == []


def test_a_version_inherits_what_shaped_its_parent(store):
    publish(store, 1, ratings=[("msg_a", 1)])
    publish(store, 2, ratings=[("msg_b", 1)], parent=1)
    publish(store, 3, ratings=[("msg_c", 1)], parent=None)
    assert store.version(UID, 2).trained_on == [Revision("msg_a", 1), Revision("msg_b", 1)]
    assert store.version(UID, 3).trained_on == [Revision("msg_c", 1)]
    with pytest.raises(UnknownVersion):
        publish(store, 4, parent=9)


def test_rollback_and_reset(store):
    for number in (1, 2, 3):
        publish(store, number)
    store.rollback(UID, 1)
    assert states(store) == {3: "kept", 2: "kept", 1: "active"}
    store.reset(UID)
    assert store.head(UID).active == 0
    assert states(store) == {3: "kept", 2: "kept", 1: "kept"}
    assert publish(store, 4) == 4
    for unknown in (5, -1, 99):
        with pytest.raises(UnknownVersion):
            store.rollback(UID, unknown)


def test_everything_that_overtakes_a_round_raises_the_epoch_and_ends_it(store):
    publish(store, 1, ratings=[("msg_a", 1)])
    for overtake in (
        lambda: store.rollback(UID, 1),
        lambda: store.reset(UID),
        lambda: store.overtake(UID),
        lambda: store.retire(UID, all_stand),
        lambda: publish(store, 2, parent=None),
        lambda: publish(store, 3, gate=HELD),
    ):
        before = store.head(UID)
        overtake()
        after = store.head(UID)
        assert after.epoch == before.epoch + 1
        with pytest.raises(Overtaken):
            store.publish(UID, candidate(9), before.epoch)
        assert store.head(UID) == after


def test_pruning_keeps_the_newest_and_the_active_one_and_counts_held_ones_apart(root):
    store = AdapterStore(root, BASE, keep=3)
    store.create(UID)
    for number in (1, 2, 3, 4):
        publish(store, number)
    assert states(store) == {4: "active", 3: "kept", 2: "kept"}
    store.rollback(UID, 2)
    for number in (5, 6, 7, 8):
        publish(store, number, gate=HELD)
    assert states(store) == {8: "held", 7: "held", 6: "held", 4: "kept", 3: "kept", 2: "active"}
    publish(store, 9)  # what answered before it stays too, old as it is
    assert states(store) == {9: "active", 8: "held", 7: "held", 6: "held", 4: "kept", 2: "kept"}
    assert sorted(path.name for path in (root / UID / "versions").iterdir()) == [
        f"{number:06d}" for number in (2, 4, 6, 7, 8, 9)
    ]
    for gone in (1, 3, 5):
        for call in (store.load, store.version, store.rollback):
            with pytest.raises(UnknownVersion):
                call(UID, gone)


def test_a_number_is_never_used_again(root):
    store = AdapterStore(root, BASE, keep=1)
    store.create(UID)
    assert [publish(store, number) for number in (1, 2, 3)] == [1, 2, 3]
    store.reset(UID)
    assert publish(store) == 4


# users


def test_nothing_is_left_of_a_removed_user_and_a_late_publish_writes_nothing(store, root):
    publish(store, 1)
    epoch = store.head(UID).epoch
    store.remove(UID)
    assert sorted(path.name for path in root.iterdir()) == [".lock", "base.json"]
    with pytest.raises(Overtaken):
        store.publish(UID, candidate(2), epoch)
    for call in (store.head, store.versions, store.check, store.reset, store.overtake):
        with pytest.raises(UnknownUser):
            call(UID)
    for call in (store.load, store.rollback, store.version):
        with pytest.raises(UnknownUser):
            call(UID, 1)
    assert sorted(path.name for path in root.iterdir()) == [".lock", "base.json"]
    store.remove(UID)  # once more changes nothing


def test_creating_a_user_twice_changes_nothing(store):
    publish(store, 1)
    store.create(UID)
    assert store.head(UID).active == 1


@pytest.mark.parametrize(
    "uid", ["../evil", "", ".", "..", "a/b", ".lock", "base.json", "a\0b", "ü", "a" * 65]
)
def test_what_is_no_uid_is_no_user(store, uid):
    for call in (store.create, store.remove, store.head):
        with pytest.raises(UnknownUser):
            call(uid)


def test_two_users_share_nothing(store):
    store.create("other")
    publish(store, 1)
    assert store.head("other").active == 0
    assert store.versions("other") == []


def test_a_folder_of_another_base_model_is_refused(store, root):
    AdapterStore(root, Base("moved/elsewhere", BASE.digest))
    with pytest.raises(OtherBase, match="tiny/model"):
        AdapterStore(root, Base("tiny/model", "ff" * 32))
