"""The adapter store on a bad disk or after a foreign hand: what is set aside, and what answers then."""

import json
import logging

import pytest
import torch

from adapters.store import (
    DamagedVersion,
    UnknownVersion,
)
from tests.candidates import (
    HELD,
    UID,
    all_but,
    all_stand,
    number_in,
    publish,
    states,
)


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


def test_what_was_never_published_is_deleted_at_start(store, root, caplog):
    publish(store, 1)
    versions = root / UID / "versions"
    (versions / ".new-000002").mkdir()
    (versions / ".new-000002/adapter_config.json").write_text("{")
    (versions / "000002").mkdir()
    (versions / ".gone-000000-ab").mkdir()
    assert states(store) == {1: "active"}
    store.check(UID)
    assert "process that was killed" in caplog.text
    assert [path.name for path in versions.iterdir()] == ["000001"]
    assert not (root / UID / "damaged").exists()
    assert publish(store) == 2


def test_what_was_set_aside_goes_at_start_if_a_rating_that_shaped_it_is_withdrawn(store, root):
    """The API was killed between the withdrawal in Redis and here, and no version that is listed was shaped by it."""
    publish(store, 1)
    publish(store, 2, ratings=[("msg_a", 1)])
    publish(store, 3, ratings=[("msg_b", 1)])
    for number in (2, 3):
        flip(root / UID / f"versions/{number:06d}/adapter_model.safetensors")
        with pytest.raises(DamagedVersion):
            store.load(UID, number)
    head = store.check(UID, all_stand)
    assert len(list((root / UID / "damaged").iterdir())) == 2
    assert store.check(UID, all_but(("msg_a", 1))) == head
    assert [path.name[:6] for path in (root / UID / "damaged").iterdir()] == ["000003"]


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
