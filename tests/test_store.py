"""The adapter store: what is active when, what is left of what, and what a bad disk or a foreign hand costs."""

import json
import logging
import math

import pytest
import torch

from adapters.adapter import Adapter, BadAdapter, LoraShape
from adapters.store import (
    AdapterStore,
    Base,
    Candidate,
    DamagedVersion,
    NotKept,
    OtherBase,
    Overtaken,
    Revision,
    UnknownUser,
    UnknownVersion,
)

UID = "a1b2c3"
BASE = Base("tiny/model", "d1" * 32)
SHAPE = LoraShape(rank=2, alpha=4.0, modules={"model.layers.0.self_attn.q_proj": (6, 4)})
PASSED = {"passed": True, "checks": [{"name": "kl", "value": 1.0, "limit": 20.0, "passed": True}]}
HELD = {"passed": False, "checks": [{"name": "kl", "value": 30.0, "limit": 20.0, "passed": False}]}


def adapter(number):
    """One that says which it is: every weight is `number`."""
    (path,) = SHAPE.modules
    return Adapter(SHAPE, {path: (torch.full((2, 4), float(number)), torch.full((6, 2), float(number)))})


def candidate(number=1, *, ratings=(), parent=0, gate=PASSED, learner=None, **more):
    tensors, meta = learner or ({}, {})
    trained_on = [Revision(message, revision) for message, revision in ratings]
    return Candidate(
        adapter(number), tensors, meta, parent, trained_on, more.get("metrics", {}), gate, seed=5
    )


def publish(store, number=1, **more):
    return store.publish(UID, candidate(number, **more), store.head(UID).epoch)


def number_in(adapter):
    (pair,) = adapter.weights.values()
    return pair[0][0, 0].item()


def states(store):
    return {v.version: v.state for v in store.versions(UID)}


def all_stand(message_id, revision):
    return True


def all_but(*fallen):
    return lambda message_id, revision: (message_id, revision) not in fallen


@pytest.fixture
def root(tmp_path):
    return tmp_path / "adapters"


@pytest.fixture
def store(root):
    store = AdapterStore(root, BASE)
    store.create(UID)
    return store


# publish, rollback, reset, prune


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
    publish(store, 9)
    assert states(store) == {9: "active", 8: "held", 7: "held", 6: "held", 4: "kept", 3: "kept"}
    assert sorted(path.name for path in (root / UID / "versions").iterdir()) == [
        f"{number:06d}" for number in (3, 4, 6, 7, 8, 9)
    ]
    for gone in (1, 2, 5):
        for call in (store.load, store.version, store.rollback):
            with pytest.raises(UnknownVersion):
                call(UID, gone)


def test_a_number_is_never_used_again(root):
    store = AdapterStore(root, BASE, keep=1)
    store.create(UID)
    assert [publish(store, number) for number in (1, 2, 3)] == [1, 2, 3]
    store.reset(UID)
    assert publish(store) == 4


# ratings that no longer stand


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


# damage


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, flip, lambda path: path.unlink()], ids=["cut", "flipped", "gone"])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json"])
def test_a_damaged_active_version_is_set_aside_and_the_newest_good_one_answers(
    store, root, caplog, name, harm
):
    for number in (1, 2, 3):
        publish(store, number)
    publish(store, 4, gate=HELD)
    epoch = store.head(UID).epoch
    harm(root / UID / "versions/000003" / name)
    with caplog.at_level(logging.ERROR), pytest.raises(UnknownVersion):
        store.load(UID, 3)
    assert "version 3 is damaged" in caplog.text
    assert (store.head(UID).active, store.head(UID).epoch) == (2, epoch + 1)
    assert number_in(store.load(UID, 2)) == 2
    assert states(store) == {4: "held", 2: "active", 1: "kept"}
    assert [path.name[:6] for path in (root / UID / "damaged").iterdir()] == ["000003"]
    assert publish(store) == 5


def test_fallback_skips_what_is_damaged_too(store, root):
    for number in (1, 2, 3):
        publish(store, number)
    cut(root / UID / "versions/000003/adapter_model.safetensors")
    cut(root / UID / "versions/000002/adapter_model.safetensors")
    with pytest.raises(DamagedVersion):
        store.load(UID, 3)
    assert store.head(UID).active == 1
    flip(root / UID / "versions/000001/adapter_model.safetensors")
    with pytest.raises(DamagedVersion):
        store.load(UID, 1)
    assert store.head(UID).active == 0


def test_damage_is_found_at_start_and_before_a_rollback(store, root):
    for number in (1, 2, 3):
        publish(store, number)
    flip(root / UID / "versions/000001/adapter_model.safetensors")
    with pytest.raises(DamagedVersion):
        store.rollback(UID, 1)
    assert store.head(UID).active == 3
    flip(root / UID / "versions/000003/adapter_model.safetensors")
    assert store.check(UID).active == 2


def test_an_active_version_whose_folder_is_gone_falls_back(store, root):
    publish(store, 1)
    publish(store, 2)
    (root / UID / "versions/000002").rename(root / "taken")
    with pytest.raises(UnknownVersion):
        store.load(UID, 2)
    assert store.head(UID).active == 1


def test_a_damaged_learner_costs_the_learner_only(store, root, caplog):
    publish(store, 1, learner=({"critic": torch.ones(3)}, {}))
    flip(root / UID / "versions/000001/learner.safetensors")
    assert store.learner(UID, 1) is None
    assert "learner" in caplog.text
    assert number_in(store.load(UID, 1)) == 1


@pytest.mark.parametrize(
    "head", [None, b"", b"{", b"[]", b'{"active": "x", "epoch": 1, "next": 2, "retired": []}']
)
def test_a_lost_head_is_made_anew_beyond_every_earlier_epoch(store, root, head):
    publish(store, 1)
    publish(store, 2, ratings=[("msg_a", 1)])
    publish(store, 3, gate=HELD)
    store.retire(UID, all_but(("msg_a", 1)))
    before = store.head(UID)
    path = root / UID / "head.json"
    path.unlink() if head is None else path.write_bytes(head)
    assert store.head(UID).active == 1
    assert store.head(UID).epoch > before.epoch
    assert states(store) == {3: "held", 2: "retired", 1: "active"}
    assert publish(store) == 4


def test_what_was_never_published_is_set_aside_at_start(store, root, caplog):
    publish(store, 1)
    versions = root / UID / "versions"
    (versions / ".new-000002").mkdir()
    (versions / ".new-000002/adapter_config.json").write_text("{")
    (versions / "000002").mkdir()
    (versions / ".gone-000000-ab").mkdir()
    assert states(store) == {1: "active"}
    store.check(UID)
    assert "never published" in caplog.text
    assert [path.name for path in versions.iterdir()] == ["000001"]
    assert len(list((root / UID / "damaged").iterdir())) == 2
    assert publish(store) == 2


def test_a_withdrawal_deletes_what_was_set_aside_and_it_never_grows_without_end(store, root):
    for number in range(1, 16):
        publish(store, number)
        (root / UID / f"versions/{number:06d}/manifest.json").unlink()
        with pytest.raises(UnknownVersion):
            store.load(UID, number)
    assert len(list((root / UID / "damaged").iterdir())) == 10
    store.retire(UID, all_stand)
    assert not (root / UID / "damaged").exists()


def test_an_edited_manifest_is_damage(store, root):
    publish(store, 1, gate=HELD)
    path = root / UID / "versions/000001/manifest.json"
    record = json.loads(path.read_text())
    record["manifest"]["gate"]["passed"] = True
    path.write_text(json.dumps(record))
    assert states(store) == {}
