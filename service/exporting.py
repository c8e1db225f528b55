"""`thumbtune export`: one user's adapter into a file, by the operator on the machine with the data folder.

Knows where accounts and adapters are kept. Does not know the archive's format, and needs no model: the store's folder
says which one its adapters belong to.
"""

from __future__ import annotations

from pathlib import Path

from adapters import export as archive
from adapters.store import AdapterStore, UnknownVersion, base_of
from feedback.connection import connect
from service.auth import Accounts
from service.settings import Settings
from service.starting import CannotStart, redis_url


def export(settings: Settings, id: str, version: int | None, to: Path | None) -> Path:
    """Writes the zip (None: of the active version, to <id>-<version>.zip) and returns its path.

    Raises `NoSuchUser`, `UnknownVersion`, `CannotStart`, `OSError`.
    """
    root = settings.folder / "adapters"
    base = base_of(root)
    if base is None:
        raise CannotStart(f"there are no adapters in {root}: name the service's THUMBTUNE_DATA")
    with connect(redis_url(settings)) as redis:
        uid = Accounts(redis).named(id).uid
    store = AdapterStore(root, base, settings.keep)
    version = store.head(uid).active if version is None else version
    if version == 0:
        raise UnknownVersion(f"{id} is on version 0, the base model itself: there is no adapter to export")
    packed = archive.pack(store, uid, version)
    to = to or Path(f"{id}-{version}.zip")
    to.write_bytes(packed)
    return to
