"""Which Redis and which data folder belong together.

Knows one file and one key that hold the same id. Without it, a service on the wrong Redis would rate messages that it
does not have, and number adapter versions that exist.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from feedback import keys
from feedback.connection import Store, UnfitStore

FILE = "instance"


class OtherInstance(UnfitStore):
    """This Redis and this data folder do not belong together."""


def check_instance(store: Store, folder: Path) -> str:
    """The id that the data folder and this Redis share; made if both are new. Raises `OtherInstance`.

    The file comes first, its id marked as new until Redis has it: so a crash between the two goes on at the next
    start, and a Redis that has lost its data since is told from one that never had any.
    """
    file = folder / FILE
    used = store.exists(keys.INSTANCE)
    if not file.exists():
        if used:
            raise OtherInstance(
                f"this Redis holds the ratings of another data folder, and {folder} is new: "
                "name that data folder, or an empty Redis"
            )
        _make(file, f"{secrets.token_hex(16)} new\n")
    ours, _, new = file.read_text().strip().partition(" ")
    if new:
        store.set(keys.INSTANCE, ours, nx=True)
        store.durable()
    theirs = store.get(keys.INSTANCE)
    if theirs is None:
        raise OtherInstance(
            f"this Redis is empty, but the one that {folder} was used with is not: "
            "name that Redis, or restore its data"
        )
    if theirs != ours:
        raise OtherInstance(
            f"this Redis belongs to another data folder than {folder}: name the one or the other"
        )
    if new:
        _draft(file, f"{ours}\n").replace(file)
    return ours


def _make(file: Path, text: str) -> None:
    """Creates the file whole, unless another process is faster."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(file, text)
    with suppress(FileExistsError):
        os.link(draft, file)
    draft.unlink()


def _draft(file: Path, text: str) -> Path:
    """Another file beside it that holds the text; processes that start together do not share one."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with draft.open("x") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return draft
