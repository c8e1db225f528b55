"""How something appears on disk: whole or not at all, and there after a power cut.

Knows: fsync, `os.replace`, advisory locks, and which errors mean that the disk takes no more. Does not know: what the
files are about.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.errors import StoreFull

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderGone(Exception):
    """The folder to be locked is not there, or no longer."""


@contextmanager
def room_needed() -> Iterator[None]:
    """Turns the operating system's ways to say "full" into `StoreFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFull(f"the disk of the data folder takes no more: {error.strerror}") from error


def write(path: Path, data: bytes) -> None:
    """A new file, on disk when this returns. Not atomic: for folders that are renamed into place afterwards."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """The file holds `data` from one instant on, and still does after a power cut."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # left by a process killed here; writers of one path hold one lock
    try:
        write(draft, data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move_folder(source: Path, target: Path) -> None:
    """The folder has its new name from one instant on, and still does after a power cut."""
    source.replace(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def sync_folder(folder: Path) -> None:
    """The names in `folder` are on disk when this returns."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` against every other process and thread that takes its lock; waits for it.

    `FolderGone` if the folder is not there, or was moved away while waiting.
    """
    path = folder / ".lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise FolderGone(folder) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Whoever held it before may have moved the folder away: this lock then guards nothing that is still there.
        if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:
            raise FolderGone(folder)
        yield
    finally:
        os.close(handle)
