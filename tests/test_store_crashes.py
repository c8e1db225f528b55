"""The adapter store among several processes, and killed at every step."""

import multiprocessing
import os
import signal
import time

import pytest

from adapters.store import AdapterStore, Overtaken, UnknownUser, UnknownVersion
from tests.candidates import BASE, UID, all_but, candidate, number_in, publish

STEPS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")  # of the module os: what changes a disk
FORK = multiprocessing.get_context("fork")  # a process in milliseconds: torch is imported already


without_b = all_but(("msg_b", 1))


@pytest.fixture
def store(tmp_path):
    """Two versions, the newer one shaped by msg_b; with two kept, each publish prunes."""
    store = AdapterStore(tmp_path / "adapters", BASE, keep=2)
    store.create(UID)
    publish(store, 1)
    publish(store, 2, ratings=[("msg_b", 1)])
    return store


def child(work, *args):
    process = FORK.Process(target=work, args=args)
    process.start()
    return process


def ended(process):
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


# several processes


def race(store, start, wins, number):
    start.wait()
    try:
        wins.put((number, store.publish(UID, candidate(number), epoch=3)))
    except Overtaken:
        wins.put((number, None))


def test_of_many_rounds_that_began_alike_just_one_publishes(store):
    assert store.head(UID).epoch == 3
    start, wins = FORK.Event(), FORK.Queue()
    racers = [child(race, store, start, wins, number) for number in range(10, 16)]
    start.set()
    results = [wins.get(timeout=60) for _ in racers]
    assert [ended(racer) for racer in racers] == [0] * len(racers)
    won = [(number, version) for number, version in results if version]
    assert [version for _, version in won] == [3]
    assert number_in(store.load(UID, 3)) == won[0][0]
    assert (store.head(UID).active, store.head(UID).epoch, store.head(UID).next) == (3, 4, 4)


def race_back(store, start, wins, number):
    start.wait()
    try:
        store.fall_back(UID, 3, "worse")
        wins.put(number)
    except Overtaken:
        wins.put(None)


def test_of_rounds_and_watches_that_decided_at_the_same_epoch_just_one_changes_anything(store):
    start, published, fallen = FORK.Event(), FORK.Queue(), FORK.Queue()
    racers = [child(race, store, start, published, number) for number in range(10, 13)]
    racers += [child(race_back, store, start, fallen, number) for number in range(3)]
    start.set()
    new = [version for _, version in (published.get(timeout=60) for _ in range(3)) if version]
    back = [number for number in (fallen.get(timeout=60) for _ in range(3)) if number is not None]
    assert [ended(racer) for racer in racers] == [0] * len(racers)
    assert len(new) + len(back) == 1 and store.head(UID).epoch == 4
    assert store.head(UID).active == (3 if new else 1)


def publish_on_and_on(store, until, published):
    while time.monotonic() < until:
        head = store.head(UID)
        try:
            version = store.publish(UID, candidate(head.next), head.epoch)
        except Overtaken:
            continue
        assert version == head.next
        published.put(version)


def overtake_on_and_on(store, until):
    while time.monotonic() < until:
        store.reset(UID)
        time.sleep(0.003)
        kept = [v.version for v in store.versions(UID)]
        try:
            store.rollback(UID, kept[-1])
        except UnknownVersion:
            assert kept[-1] not in [v.version for v in store.versions(UID)]  # pruned in between
        time.sleep(0.003)


def test_readers_always_find_the_active_version_whole_while_others_publish_prune_and_roll_back(store):
    until, published = time.monotonic() + 2, FORK.Queue()
    others = [child(publish_on_and_on, store, until, published) for _ in range(2)]
    others.append(child(overtake_on_and_on, store, until))
    epoch, reads = 0, 0
    while time.monotonic() < until:
        head = store.head(UID)
        assert head.epoch >= epoch
        epoch = head.epoch
        try:
            if head.active:
                assert number_in(store.load(UID, head.active)) == head.active
                reads += 1
        except UnknownVersion:
            assert store.head(UID).epoch > epoch  # it was pruned because another is active by now
        assert len(store.versions(UID)) <= 3  # two, and one about to be pruned
    versions: list[int] = []
    while len(versions) < 1 or not published.empty():
        versions.append(published.get(timeout=60))
    assert [ended(other) for other in others] == [0, 0, 0]
    assert len(set(versions)) == len(versions)
    assert reads > 10
    assert not (store.root / UID / "damaged").exists()


def publish_until_deleted(store):
    while True:
        try:
            publish(store, 9)
        except (Overtaken, UnknownUser):
            return


def test_a_user_deleted_while_others_publish_is_gone_for_good(store):
    others = [child(publish_until_deleted, store) for _ in range(2)]
    time.sleep(0.2)
    store.remove(UID)
    assert [ended(other) for other in others] == [0, 0]
    assert sorted(path.name for path in store.root.iterdir()) == [".lock", "base.json"]


# killed at every step


def killed_before_step(number, work, store):
    """Runs `work(store)` and is killed before its `number`-th change of the disk."""
    left = [number]

    def fatal(step):
        def before(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args, **kwargs)

        return before

    for name in STEPS:
        setattr(os, name, fatal(getattr(os, name)))
    work(store)


def everywhere(work, tmp_path, prepare):
    """For each step of `work`: a store in which a process was killed just before that step; the last one survived."""
    for number in range(1, 200):
        store = prepare(tmp_path / str(number))
        code = ended(child(killed_before_step, number, work, store))
        assert code in (0, -signal.SIGKILL)
        yield store
        if code == 0:
            assert number > 4  # one replace of a file has four steps
            return
    raise AssertionError("it never ends")


def three_versions(root):
    store = AdapterStore(root, BASE, keep=3)
    store.create(UID)
    publish(store, 1)
    publish(store, 2, ratings=[("msg_b", 1)])
    publish(store, 3, ratings=[("msg_b", 1)])
    return store


def sound(store):
    """Whole for readers as it is, and nothing left over once it has been checked as at start."""
    for checked in (False, True):
        if checked:
            store.check(UID)
        head = store.head(UID)
        assert number_in(store.load(UID, head.active)) == head.active
        listed = {v.version: v.state for v in store.versions(UID)}
        assert listed[head.active] == "active"
        assert set(listed) <= {1, 2, 3, 4}
    folder = store.root / UID
    assert all(path.name.isdigit() and int(path.name) < head.next for path in (folder / "versions").iterdir())
    for version in store.versions(UID):
        files = {path.name for path in (folder / f"versions/{version.version:06d}").iterdir()}
        assert files == (
            {"manifest.json"} if version.state == "retired" else {"manifest.json", *version.files}
        )
    return head


def test_killed_anywhere_while_publishing(tmp_path):
    def work(store):
        publish(store, 4, parent=1)

    actives = []
    for store in everywhere(work, tmp_path, three_versions):
        head = sound(store)
        actives.append(head.active)
        assert (head.active, head.next) in ((3, 4), (4, 5))
        assert publish(store, head.next) == head.next
        assert number_in(store.load(UID, head.next)) == head.next
    assert actives == sorted(actives)
    assert set(actives) == {3, 4}


def test_killed_anywhere_while_a_clean_version_replaces_those_shaped_by_a_changed_rating(tmp_path):
    def work(store):
        store.publish(UID, candidate(4, parent=1), store.head(UID).epoch, without_b)

    for store in everywhere(work, tmp_path, three_versions):
        head = sound(store)
        states = {v.version: v.state for v in store.versions(UID)}
        if head.active == 3:
            assert states == {3: "active", 2: "kept", 1: "kept"}
        else:
            assert states == {4: "active", 3: "retired", 2: "retired", 1: "kept"}


def test_killed_anywhere_while_retiring(tmp_path):
    for store in everywhere(lambda store: store.retire(UID, without_b), tmp_path, three_versions):
        head = sound(store)
        assert (head.active, head.retired) in ((3, ()), (1, (3, 2)))
        store.retire(UID, without_b)
        assert store.head(UID).active == 1


@pytest.mark.parametrize("back_first", [False, True])
def test_nothing_is_left_of_a_rating_withdrawn_after_a_kill_while_publishing(tmp_path, back_first):
    """Withdrawn before the trainer is back, which sweeps at its start, or after."""

    def work(store):
        publish(store, 4, parent=1, ratings=[("msg_c", 1)])

    def without_c(message_id, _):
        return message_id != "msg_c"

    for store in everywhere(work, tmp_path, three_versions):
        for call in (store.check, store.retire) if back_first else (store.retire, store.check):
            call(UID, without_c)
        left = {path.parent.name for path in (store.root / UID).rglob("*") if path.is_file()}
        assert left - {UID} <= {"000001", "000002", "000003", "000004"}
        assert {path.name for path in (store.root / UID / "versions").glob("000004/*")} <= {"manifest.json"}
        assert sound(store).active == 3


def test_killed_anywhere_while_retiring_nothing_is_left_of_what_had_been_set_aside(tmp_path):
    """Its manifest was what was damaged: nobody knows any more what shaped it."""

    def prepare(root):
        store = three_versions(root)
        (root / UID / "versions/000003/manifest.json").write_text("{")
        assert store.check(UID).active == 2
        assert list((root / UID / "damaged").iterdir())
        return store

    for store in everywhere(lambda store: store.retire(UID, without_b), tmp_path, prepare):
        store.check(UID, without_b)
        assert store.head(UID).active == 1
        assert not (store.root / UID / "damaged").exists()


def test_killed_anywhere_while_giving_way_to_the_version_before(tmp_path):
    def work(store):
        store.fall_back(UID, store.head(UID).epoch, "worse")

    for store in everywhere(work, tmp_path, three_versions):
        head = sound(store)
        assert (head.active, head.previous) in ((3, 2), (2, None))
        assert (store.version(UID, 3).rolled_back is None) == (head.active == 3)
        if head.active == 3:
            work(store)
        assert store.head(UID).active == 2


def test_killed_anywhere_while_removing_a_user(tmp_path):
    for store in everywhere(lambda store: store.remove(UID), tmp_path, three_versions):
        try:
            sound(store)
        except UnknownUser:
            AdapterStore(store.root, BASE)  # the next start finishes it
        else:
            store.remove(UID)
        assert sorted(path.name for path in store.root.iterdir()) == [".lock", "base.json"]


def test_killed_anywhere_while_creating_a_user(tmp_path):
    def empty(root):
        return AdapterStore(root, BASE)

    for store in everywhere(lambda store: store.create(UID), tmp_path, empty):
        assert AdapterStore(store.root, BASE).users() in ([], [UID])
        store.create(UID)
        assert store.head(UID).active == 0
