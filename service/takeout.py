"""Everything that the service holds about one user, as a zip that is made while it is sent.

Knows the names and formats within that zip. Does not know HTTP.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

from adapters.errors import UnknownVersion
from adapters.store import Version
from service.auth import Account
from service.parts import Parts
from service.shown import message_shown, version_shown

PAGE = 100  # messages read at once


class _Pipe(io.RawIOBase):
    """Holds what was written since it was last drained."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        return len(data)

    def drain(self) -> bytes:
        data, self._written = b"".join(self._written), []
        return data


def takeout(parts: Parts, account: Account) -> Iterator[bytes]:
    """The zip, piece by piece; never more of it in memory than one page of messages or one version."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("account.json", json.dumps({"id": account.id, "created": account.created}))
        for name, records in (
            ("messages.jsonl", _messages(parts, account.uid)),
            ("feedback.jsonl", parts.ratings.history(account.uid)),
        ):
            with archive.open(name, "w", force_zip64=True) as file:
                yield from _lines(file, records, pipe)
        for version in parts.store.versions(account.uid):
            for name, data in _files(parts, account.uid, version):
                archive.writestr(f"adapter/{version.version:06d}/{name}", data)
            yield pipe.drain()
    yield pipe.drain()


def _messages(parts: Parts, uid: str) -> Iterator[dict[str, Any]]:
    before = None
    while page := parts.messages.list(uid, PAGE, before):
        ratings = parts.ratings.of(uid, [message.id for message in page])
        for message in page:
            yield message_shown(message, ratings.get(message.id))
        before = page[-1].id


def _lines(file: Any, records: Iterable[dict[str, Any]], pipe: _Pipe) -> Iterator[bytes]:
    for record in records:
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        if data := pipe.drain():
            yield data


def _files(parts: Parts, uid: str, version: Version) -> Iterator[tuple[str, bytes]]:
    yield "version.json", json.dumps(version_shown(version), indent=1).encode()
    try:
        yield from parts.store.peft_files(uid, version.version).items()
    except UnknownVersion:
        return  # retired, or pruned just now: its weights are gone
