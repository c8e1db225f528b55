"""The adapter store on a disk that takes no more."""

import errno
import os
import subprocess

import pytest
import torch

from adapters.store import AdapterStore, StoreFull
from tests.candidates import BASE, UID, number_in, publish

LEARNER = ({"critic": torch.zeros(1)}, {"kl_coefficient": 0.1})


@pytest.fixture
def store(tmp_path):
    store = AdapterStore(tmp_path / "adapters", BASE, keep=2)
    store.create(UID)
    publish(store, 1)
    publish(store, 2)
    return store


def tree(store):
    """Every file with its bytes, but for the locks."""
    return {
        path: path.read_bytes() for path in store.root.rglob("*") if path.is_file() and path.name != ".lock"
    }


def full_from_step(number, monkeypatch):
    """From the `number`-th fsync on the disk is full, as it is for a real one: writing fails, deleting does not."""
    left, fsync = [number], os.fsync

    def failing(handle):
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", failing)


@pytest.mark.parametrize("step", range(1, 8))
def test_a_publish_onto_a_full_disk_changes_nothing(store, monkeypatch, step):
    before = tree(store)
    with monkeypatch.context() as patch:
        full_from_step(step, patch)
        with pytest.raises(StoreFull):
            publish(store, 3, learner=LEARNER)
    assert tree(store) == before
    assert publish(store, 3, learner=LEARNER) == 3


def test_where_only_the_last_fsync_fails_the_version_is_published_whole(store, monkeypatch):
    with monkeypatch.context() as patch:
        full_from_step(8, patch)  # four files, their folder, its new name and the head are on disk by then
        with pytest.raises(StoreFull):
            publish(store, 3, learner=LEARNER)
    assert store.head(UID).active == 3
    assert number_in(store.load(UID, 3)) == 3


@pytest.mark.parametrize("change", ["reset", "overtake"])
def test_a_small_change_on_a_full_disk_changes_nothing(store, monkeypatch, change):
    before = store.head(UID)
    with monkeypatch.context() as patch:
        full_from_step(1, patch)
        with pytest.raises(StoreFull):
            getattr(store, change)(UID)
        with pytest.raises(StoreFull):
            store.create("another")
        assert store.users() == [UID]
        store.load(UID, 2)
    assert store.head(UID) == before


def test_a_file_system_of_one_megabyte(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting takes more rights than these tests have")
    try:
        store = AdapterStore(tmp_path / "adapters", BASE)
        store.create(UID)
        publish(store, 1)
        before = tree(store)
        with pytest.raises(StoreFull):
            publish(store, 2, learner=({"critic": torch.zeros(400_000)}, {}))  # 1.6 MB
        assert tree(store) == before
        assert publish(store, 2) == 2
    finally:
        subprocess.run(["umount", tmp_path], check=True)
