"""One user's folder: the head file that names the active version, the versions, and what was set aside.

Knows: where each thing lies, how the head changes in one replace, and how to get back to a sound state from whatever a
crash or a bad disk left. Does not know: why a version becomes active or retired. Every method that changes something
expects its caller to hold the folder's lock; reading needs none.

    <uid>/head.json           read for every chat
          versions/000007/    complete when it is here (`versions.py`), published once the head's `next` is past it
          versions/.new-...   being written, or left by a process killed while writing
          versions/.gone-...  being deleted
          damaged/            set aside for the operator to look at
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from adapters import disk
from adapters.errors import DamagedVersion, NotKept, UnknownVersion
from adapters.head import Head
from adapters.versions import (
    CONFIG,
    LEARNER,
    WEIGHTS,
    Base,
    Candidate,
    Damaged,
    Revision,
    Version,
    read_adapter,
    read_manifest,
    write_version,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

ASIDE = 10  # folders that `damaged/` holds at most


class UserFolder:
    """The folder at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.versions, self.damaged = path / "versions", path / "damaged"

    def version_folder(self, number: int) -> Path:
        return self.versions / f"{number:06d}"

    def head(self) -> Head:
        """One small file read. `FileNotFoundError`: there is no user, or no head. `Damaged`: it cannot be read."""
        data = (self.path / "head.json").read_bytes()
        try:
            return Head.from_json(data)
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"head.json cannot be read: {error}") from error

    def numbers(self, head: Head) -> list[int]:
        """Every published version, newest first."""
        return [number for number in _numbers_in(self.versions) if number < head.next]

    def record(self, number: int, head: Head) -> Version:
        """A version's manifest with its state. Raises `Damaged`."""
        gave_way = next((each for each in head.rolled_back if each.version == number), None)
        version = dataclasses.replace(read_manifest(self.version_folder(number)), rolled_back=gave_way)
        if number in head.retired:
            return dataclasses.replace(version, state="retired")
        return dataclasses.replace(version, state="active") if number == head.active else version

    def records(self, head: Head) -> list[Version]:
        """Every published version, newest first. Raises `Damaged`; under the lock `sound_head` has ruled that out."""
        return [self.record(number, head) for number in self.numbers(head)]

    def require(self, number: int, head: Head) -> None:
        """Raises `UnknownVersion` unless it is a published version with weights; `Damaged`: the active one's folder
        is not there."""
        if number in head.retired:
            raise UnknownVersion(f"version {number} is retired, its weights are deleted")
        published = 0 < number < head.next  # asked first: a number may be too long for a folder's name
        there = published and self.version_folder(number).exists()
        if number == head.active and number and not there:
            raise Damaged("its folder is gone")
        if not there:
            raise UnknownVersion(f"there is no version {number} with weights")

    def require_kept(self, number: int, head: Head) -> None:
        """Raises `NotKept` or `UnknownVersion` unless it may answer chats."""
        if number in head.retired:
            raise NotKept(f"version {number} is retired, its weights are deleted")
        self.require(number, head)
        if self.record(number, head).state == "held":
            raise NotKept(f"version {number} is held, the gate refused it")

    # what changes something: under the lock only

    def make(self) -> None:
        """A new folder of a user on version 0."""
        self.versions.mkdir(parents=True)
        self.write_head(Head())

    def write_head(self, head: Head) -> Head:
        """Visible to everybody in one replace."""
        disk.replace(self.path / "head.json", head.to_json())
        return head

    def sound_head(self) -> Head:
        """The head, after everything whose manifest cannot be read has been set aside; made anew if it is lost."""
        try:
            head = self.head()
        except (FileNotFoundError, Damaged) as error:
            head = self._rebuilt_head(error)
        for number in {head.active, *self.numbers(head)} - {0}:
            try:
                read_manifest(self.version_folder(number))
            except Damaged as error:
                head = self.set_aside(number, head, error)
        return head

    def add(self, number: int, candidate: Candidate, trained_on: list[Revision], base: Base) -> None:
        """A complete version folder; nobody sees it before the head's `next` is past its number."""
        self.discard(number)  # never published: its process was killed just before the head's replace
        draft = self.versions / f".new-{number:06d}"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            write_version(
                draft, candidate, number=number, trained_on=trained_on, base=base, created=int(time.time())
            )
            disk.move_folder(draft, self.version_folder(number))
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            self.discard(number)
            raise

    def discard(self, number: int) -> None:
        """Deletes a version, gone in one rename."""
        folder = self.version_folder(number)
        if folder.exists():
            gone = folder.with_name(f".gone-{folder.name}-{secrets.token_hex(4)}")
            folder.rename(gone)
            shutil.rmtree(gone)

    def retire(self, head: Head, fallen: Sequence[int], stand_in: int) -> Head:
        """In one replace: these are retired, and `stand_in` answers if the active one is among them. All that was set
        aside goes first, for what is damaged need not say what shaped it: a process killed before the replace leaves
        a head by which the next start comes here again."""
        self.clear_aside()
        after = self.write_head(head.without(fallen, stand_in))
        self.strip(fallen)
        return after

    def strip(self, numbers: Iterable[int]) -> None:
        """Deletes everything of these versions but their manifests."""
        for number in numbers:
            for name in (WEIGHTS, LEARNER, CONFIG):
                (self.version_folder(number) / name).unlink(missing_ok=True)

    def prune(self, head: Head, keep: int) -> None:
        """Deletes the oldest beyond `keep` that can answer and `keep` that are held: refused candidates in a row do
        not cost the user what could be rolled back to. Never the active one, nor the one before it."""
        versions = self.records(head)
        kept = [v.version for v in versions if v.state == "kept"]
        kept.sort(key=lambda number: number != head.previous)  # counts first; the rest in order, newest first
        held = [v.version for v in versions if v.state == "held"]
        for number in kept[keep - bool(head.active) :] + held[keep:]:
            if number != head.previous:
                self.discard(number)

    def clear_aside(self) -> None:
        """Deletes all that was set aside."""
        if self.damaged.exists():
            shutil.rmtree(self.damaged)

    def aside(self) -> list[tuple[Path, Version]]:
        """What was set aside and can still say what shaped it: its folder and its manifest."""
        found = []
        for folder in self.damaged.iterdir() if self.damaged.exists() else ():
            with suppress(Damaged):
                found.append((folder, read_manifest(folder)))
        return found

    def set_aside(self, number: int, head: Head, why: Exception) -> Head:
        """Moves a damaged version away. Was it active, the newest kept one is in its place."""
        log.error("adapter %s version %d is damaged and set aside: %s", self.path.name, number, why)
        if number == head.active:
            head = head.answering(self._newest_kept(head, number))
            log.error("adapter %s falls back to version %d", self.path.name, head.active)
            self.write_head(head)
        if self.version_folder(number).exists():
            self._move_aside(self.version_folder(number))
        return head

    def heal(self, head: Head) -> Head:
        """Falls back until the active version is whole."""
        while head.active:
            try:
                read_adapter(self.version_folder(head.active))
            except Damaged as error:
                head = self.set_aside(head.active, head, error)
            else:
                break
        return head

    def read(self, number: int, head: Head, reader: Callable[[Path], T]) -> T:
        """What `reader` finds in a version's folder. Raises `UnknownVersion`, `DamagedVersion`."""
        try:
            self.require(number, head)
            return reader(self.version_folder(number))
        except Damaged as error:
            self.heal(self.set_aside(number, head, error))
            raise DamagedVersion(f"version {number} is damaged and was set aside") from error

    def sweep(self, head: Head) -> None:
        """Deletes what a killed process left half done: nothing lists it, so nothing would take it back with the
        ratings that shaped it. Under the lock nobody else is still at it."""
        for folder in list(self.versions.iterdir()):
            if folder.name.startswith(".") or (folder.name.isdigit() and int(folder.name) >= head.next):
                name = self.path.name
                log.warning("adapter %s: %s is left of a process that was killed, deleted", name, folder.name)
                shutil.rmtree(folder)

    def _newest_kept(self, head: Head, other_than: int) -> int:
        for number in self.numbers(head):
            if number == other_than or number in head.retired:
                continue
            try:
                if self.record(number, head).may_step_in:
                    return number
            except Damaged:
                continue  # its turn to be set aside comes
        return 0

    def _move_aside(self, folder: Path) -> None:
        self.damaged.mkdir(exist_ok=True)
        disk.move_folder(folder, self.damaged / f"{folder.name}-{secrets.token_hex(4)}")
        for old in sorted(self.damaged.iterdir(), key=lambda aside: aside.stat().st_mtime)[:-ASIDE]:
            shutil.rmtree(old)

    def _rebuilt_head(self, why: Exception) -> Head:
        """From the versions on disk: the newest good one is active, those without weights were retired.

        The clock gives an epoch beyond every one before: until now it has counted changes, not seconds.
        """
        self.versions.mkdir(exist_ok=True)
        found = _numbers_in(self.versions)
        log.error("adapter %s has lost its head, made anew from its versions: %s", self.path.name, why)
        beyond = max([0, *found, *_numbers_in(self.damaged)]) + 1
        retired = tuple(n for n in found if not (self.version_folder(n) / WEIGHTS).exists())
        head = Head(active=0, epoch=int(time.time()), next=beyond, retired=retired)
        head = dataclasses.replace(head, active=self._newest_kept(head, 0))
        return self.heal(self.write_head(head))


def _numbers_in(folder: Path) -> list[int]:
    """The version numbers that the names in a folder begin with, newest first."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    heads = (name.partition("-")[0] for name in names)
    return sorted({int(head) for head in heads if head.isdigit()}, reverse=True)
