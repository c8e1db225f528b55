"""Every user's adapter versions on disk: which there are, which answers, and how that changes.

Knows: the operations, and that each is one change under the user's lock, visible by one replace of the head file.
Does not know: what is in a version, who a user is (`uid` is a random internal id), or why somebody wants a change.
Several processes use one store at a time: the API reads the head for each chat, trainers publish.
Its errors are in `errors.py`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from adapters import disk
from adapters.adapter import Adapter
from adapters.errors import (
    DamagedVersion,
    NotKept,
    OtherBase,
    Overtaken,
    StoreError,
    StoreFull,
    UnknownUser,
    UnknownVersion,
)
from adapters.folder import UserFolder
from adapters.head import Head
from adapters.lineage import Stands, clean, newest_but, require_standing, shaped_by_fallen, with_ancestors
from adapters.versions import (
    Base,
    Candidate,
    Damaged,
    Learner,
    Revision,
    Version,
    read_adapter,
    read_learner,
    read_peft_files,
)

# The records and errors of the store are imported from here, wherever they are defined.
__all__ = [
    "AdapterStore", "Base", "Candidate", "DamagedVersion", "Head", "NotKept", "OtherBase", "Overtaken", "Revision",
    "Stands", "StoreError", "StoreFull", "UnknownUser", "UnknownVersion", "Version", "base_of",
]  # fmt: skip

log = logging.getLogger(__name__)

BASE = "base.json"  # which base model the adapters under a root belong to

T = TypeVar("T")


class AdapterStore:
    """All users' versions under `root`. `keep`: versions that can answer, and as many held ones, kept a user (≥ 1).

    Raises `OtherBase` where the folder's adapters were made for other weights.
    """

    def __init__(self, root: Path, base: Base, keep: int = 10) -> None:
        assert keep >= 1
        self.root, self.base, self.keep = root, base, keep
        root.mkdir(parents=True, exist_ok=True)
        with disk.room_needed(), disk.locked(root):
            self._claim_for_base()
            # a process was killed in `remove`, `create`
            for left in (*root.glob(".gone-*"), *root.glob(".new-*")):
                shutil.rmtree(left)

    # users

    def create(self, uid: str) -> None:
        """A user on version 0; no change where there is one."""
        path, draft = self._path(uid), self.root / f".new-{uid}"
        with disk.room_needed(), disk.locked(self.root):
            if path.exists():
                return
            try:
                UserFolder(draft).make()
                disk.move_folder(draft, path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def remove(self, uid: str) -> None:
        """Nothing of the user is left, and no late round can bring anything back; no change where there is none."""
        path, gone = self._path(uid), self.root / f".gone-{uid}"
        with disk.locked(self.root):
            with suppress(disk.FolderGone), disk.locked(path):
                disk.move_folder(path, gone)
            if gone.exists():
                shutil.rmtree(gone)

    def users(self) -> list[str]:
        """Every uid on disk."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and path.name[0] != ".")

    def check(self, uid: str, stands: Stands | None = None) -> Head:
        """At start: finishes or deletes what a crash left, and falls back from a damaged active version.

        With `stands`, retires as `retire` does, but raises no epoch where there is nothing to retire; and deletes of
        what was set aside all that a rating shaped which no longer stands.
        """
        with self._changing(uid) as (user, head):
            user.sweep(head)
            head = user.heal(head)
            user.strip(head.retired)
            if stands is None:
                return head
            for folder, version in user.aside():
                if not clean(version, stands):
                    shutil.rmtree(folder)
            return _retire(user, head, stands)

    # reading: no lock

    def head(self, uid: str) -> Head:
        """The active version and the epoch: one small file read, cheap enough for every chat."""
        try:
            return UserFolder(self._path(uid)).head()
        except (FileNotFoundError, Damaged):
            with self._changing(uid) as (_, head):
                return head

    def versions(self, uid: str) -> list[Version]:
        """Newest first: retired ones are listed, pruned and damaged ones are not."""
        user, head = UserFolder(self._path(uid)), self.head(uid)
        try:
            return user.records(head)
        except Damaged:  # or pruned between two reads
            with self._changing(uid) as (user, head):
                return user.records(head)

    def version(self, uid: str, version: int) -> Version:
        """Raises `UnknownVersion`."""
        for found in self.versions(uid):
            if found.version == version:
                return found
        raise UnknownVersion(f"there is no version {version}")

    def load(self, uid: str, version: int) -> Adapter:
        """The version's adapter, checked by SHA-256. Raises `UnknownVersion`, `DamagedVersion`."""
        return self._read(uid, version, read_adapter)

    def peft_files(self, uid: str, version: int) -> dict[str, bytes]:
        """PEFT's two files as they are on disk, checked by SHA-256. Raises as `load`."""
        return self._read(uid, version, read_peft_files)

    def learner(self, uid: str, version: int) -> Learner | None:
        """What a round on this version goes on with: tensors and JSON. None for version 0, an import, or damage."""
        user, head = UserFolder(self._path(uid)), self.head(uid)
        if version == 0:
            return None
        try:
            user.require(version, head)
            return read_learner(user.version_folder(version))
        except Damaged as error:
            log.error("adapter %s version %d: learner damaged, rounds begin fresh: %s", uid, version, error)
            return None

    def start_of_round(self, uid: str, stands: Stands) -> int:
        """The version that a round begins from: the active one, or if that is shaped by a rating that no longer
        stands the newest kept one that is not (else 0)."""
        versions = self.versions(uid)
        fallen = shaped_by_fallen(versions, stands)
        active = self.head(uid).active
        return newest_but(versions, fallen) if active in fallen else active

    # changing: one change under the user's lock

    def publish(self, uid: str, candidate: Candidate, epoch: int, retire: Stands | None = None) -> int:
        """Stores the candidate and returns its number; active if its gate passed, else held.

        `epoch`: as read when the round began; it rises here too, so of two that began alike one
        publishes. `retire`: whether a rating stands; a version that becomes active retires, in the same replace,
        all that are shaped by one that does not. Raises `Overtaken` (also for a user since deleted), `BadAdapter`,
        `UnknownVersion` (the parent), `StoreFull`; then nothing has changed.
        """
        candidate.adapter.check()
        try:
            with self._changing(uid) as (user, head):
                if head.epoch != epoch:
                    raise Overtaken("something newer has happened to this adapter since the round began")
                return self._publish(user, head, candidate, retire)
        except UnknownUser as error:
            raise Overtaken("the user has been deleted") from error

    def rollback(self, uid: str, version: int) -> None:
        """A kept version (or 0) is active. Raises `UnknownVersion`, `DamagedVersion`, `NotKept`."""
        with self._changing(uid) as (user, head):
            if version:
                user.require_kept(version, head)
                user.read(version, head, read_adapter)
            user.write_head(head.chosen(version))

    def fall_back(self, uid: str, epoch: int, why: str) -> Head:
        """The version that answered before the active one was published answers again; `why` stands in the head.

        `epoch`: as read before that was decided. Raises `Overtaken` (also where no version is `previous`).
        """
        with self._changing(uid) as (user, head):
            if head.epoch != epoch or head.previous is None:
                raise Overtaken("something newer has happened to this adapter")
            back = user.heal(user.write_head(head.fallen_back(why, int(time.time()))))
            if back.active != head.previous:  # which was damaged: the record names what answers
                told = dataclasses.replace(back.rolled_back[-1], to=back.active)
                back = user.write_head(dataclasses.replace(back, rolled_back=(*back.rolled_back[:-1], told)))
            return back

    def reset(self, uid: str) -> None:
        """Version 0, the base model, is active; the others stay kept."""
        self.rollback(uid, 0)

    def overtake(self, uid: str) -> None:
        """Whatever round is running will not be published."""
        with self._changing(uid) as (user, head):
            user.write_head(head.overtaken())

    def retire(self, uid: str, stands: Stands) -> list[int]:
        """Retires every version shaped by a rating that no longer stands, and returns their numbers.

        Was the active one among them, the newest kept one that was not (else 0) is active in the same replace.
        Overtakes a running round, even if there is nothing to retire: the round may be using that rating.
        """
        with self._changing(uid) as (user, head):
            user.sweep(head)  # a trainer that was killed while it published may not be back yet
            user.clear_aside()  # nobody knows what shaped the damaged ones
            after = _retire(user, head, stands)
            if after == head:
                user.write_head(head.overtaken())
            return sorted(set(after.retired) - set(head.retired))

    # inside

    def _publish(self, user: UserFolder, head: Head, candidate: Candidate, retire: Stands | None) -> int:
        versions, number = user.records(head), head.next
        trained_on = with_ancestors(candidate, versions)
        require_standing(trained_on, retire)
        after, fallen = head.overtaken(), list[int]()
        if candidate.gate["passed"]:  # a held one replaces nothing: the old version answers on
            fallen = shaped_by_fallen(versions, retire) if retire else []
            after = head.published(number, fallen, newest_but(versions, fallen))
        after = dataclasses.replace(after, next=number + 1)
        user.add(number, candidate, trained_on, self.base)
        try:
            require_standing(trained_on, retire)  # again: a version takes its time to be written
            user.write_head(after)
        except BaseException:
            if user.head() == head:  # else only the fsync after the replace failed: it is published
                user.discard(number)
            raise
        user.strip(fallen)
        user.prune(after, self.keep)
        return number

    def _read(self, uid: str, version: int, read: Callable[[Path], T]) -> T:
        user, head = UserFolder(self._path(uid)), self.head(uid)
        try:
            user.require(version, head)
            return read(user.version_folder(version))
        except Damaged:  # or deleted between two reads: under the lock it is certain
            with self._changing(uid) as (user, head):
                return user.read(version, head, read)

    @contextmanager
    def _changing(self, uid: str) -> Iterator[tuple[UserFolder, Head]]:
        """The user's folder under its lock, and its head. Raises `UnknownUser`, `StoreFull`."""
        user = UserFolder(self._path(uid))
        try:
            with disk.room_needed(), disk.locked(user.path):
                yield user, user.sound_head()
        except disk.FolderGone as error:
            raise UnknownUser(f"there is no user {uid}") from error

    def _path(self, uid: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", uid):
            raise UnknownUser("that is no uid")
        return self.root / uid

    def _claim_for_base(self) -> None:
        owner = base_of(self.root)
        if owner is None:
            owner = self.base
            disk.replace(self.root / BASE, json.dumps(dataclasses.asdict(owner)).encode())
        if owner.digest != self.base.digest:
            raise OtherBase(
                f"the adapters in {self.root} belong to {owner.name} ({owner.digest[:12]}), "
                f"not to {self.base.name} ({self.base.digest[:12]}): use that model, or another data folder"
            )


def base_of(root: Path) -> Base | None:
    """The base model whose adapters are kept under `root`; None where there is no store."""
    try:
        return Base(**json.loads((root / BASE).read_bytes()))
    except FileNotFoundError:
        return None


def _retire(user: UserFolder, head: Head, stands: Stands) -> Head:
    """No change where there is nothing to retire."""
    versions = user.records(head)
    fallen = shaped_by_fallen(versions, stands)
    return user.retire(head, fallen, newest_but(versions, fallen)) if fallen else head
