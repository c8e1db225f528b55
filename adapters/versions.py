"""One version of one adapter: what it was made from, and its folder on disk.

Knows: the files of a version (PEFT's two, the learner's state, the manifest), their digests, and how each is written
and read back. Does not know: which version is active, or what else the user has.

    000007/adapter_config.json         PEFT's
           adapter_model.safetensors   PEFT's; the base model's digest is in its metadata
           learner.safetensors         optional: what the next round goes on with (critic, optimiser, KL...)
           manifest.json               everything else, and the SHA-256 of each file
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from adapters import disk
from adapters.adapter import Adapter, BadAdapter
from adapters.layout import adapter_in

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LEARNER, MANIFEST = "learner.safetensors", "manifest.json"

LOST = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO})

State = Literal["active", "kept", "held", "retired"]
Learner = tuple[dict[str, Tensor], dict[str, Any]]


class Damaged(Exception):
    """A file of the store is missing, cut short or changed."""


@dataclass(frozen=True, order=True)
class Revision:
    """One rating as it stood when it was learnt from."""

    message_id: str
    revision: int


@dataclass(frozen=True)
class Base:
    """The base model that the adapters belong to. `digest`: of its weights; `name`: what PEFT's config calls it."""

    name: str
    digest: str


@dataclass(frozen=True)
class Candidate:
    """What a round or an import would publish. `parent`: the version that it began from (None: an import).

    `gate`: {"passed": bool, "checks": [{"name", "value", "limit", "passed"}]}. `learner_tensors` and `learner_meta`
    (JSON): what the next round goes on with; both empty if there is nothing. `recipe` (JSON): what, beside parent and
    seed, the same has to be made from again; empty where nobody knows.
    """

    adapter: Adapter
    learner_tensors: dict[str, Tensor]
    learner_meta: dict[str, Any]
    parent: int | None
    trained_on: list[Revision]
    metrics: dict[str, Any]
    gate: dict[str, Any]
    seed: int
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RolledBack:
    """`version` gave way to `to` by itself. `at`: Unix seconds; `why`: in words."""

    version: int
    to: int
    at: int
    why: str


@dataclass(frozen=True)
class Version:
    """The manifest of a version. `created`: Unix seconds. `trained_on` includes its ancestors' revisions.

    `files`: name → SHA-256. `state` is not in the manifest, which never changes: as read it is `kept` or `held`, by
    the gate's verdict; the store knows whether it is `active` or `retired`, and whether it was `rolled_back` from.
    """

    version: int
    parent: int | None
    created: int
    trained_on: list[Revision]
    metrics: dict[str, Any]
    gate: dict[str, Any]
    seed: int
    base: Base
    files: dict[str, str]
    recipe: dict[str, Any] = field(default_factory=dict)  # older manifests have none
    state: State = field(default="kept")
    rolled_back: RolledBack | None = None

    @property
    def may_step_in(self) -> bool:
        """Whether it may answer in another's place without having been asked for."""
        return self.state in ("active", "kept") and self.rolled_back is None


def write_version(
    folder: Path, candidate: Candidate, *, number: int, trained_on: list[Revision], base: Base, created: int
) -> None:
    """A new folder with all files of the version, on disk when this returns."""
    config, tensors = candidate.adapter.to_peft(base.name)
    files = {
        CONFIG: json.dumps(config, indent=2).encode(),
        WEIGHTS: safetensors.torch.save(tensors, {"format": "pt", "base_digest": base.digest}),
    }
    if candidate.learner_tensors or candidate.learner_meta:
        # Copies, because safetensors refuses tensors that share memory.
        state = {name: t.detach().cpu().contiguous().clone() for name, t in candidate.learner_tensors.items()}
        files[LEARNER] = safetensors.torch.save(state, {"learner": json.dumps(candidate.learner_meta)})
    version = Version(
        version=number,
        parent=candidate.parent,
        created=created,
        trained_on=trained_on,
        metrics=_plain(candidate.metrics),
        gate=_plain(candidate.gate),
        seed=candidate.seed,
        base=base,
        files={name: _sha256(data) for name, data in files.items()},
        recipe=_plain(candidate.recipe),
    )
    folder.mkdir()
    for name, data in files.items():
        disk.write(folder / name, data)
    disk.write(folder / MANIFEST, _manifest_bytes(version))
    disk.sync_folder(folder)


def read_manifest(folder: Path) -> Version:
    """Raises `Damaged`."""
    try:
        outer = json.loads(_bytes_of(folder / MANIFEST))
        record = outer["manifest"]
        if _sha256(_json(record)) != outer["sha256"]:
            raise Damaged(f"{MANIFEST} is not what was written")
        return Version(
            **{
                **record,
                "trained_on": [Revision(**revision) for revision in record["trained_on"]],
                "base": Base(**record["base"]),
                "state": "kept" if record["gate"]["passed"] else "held",
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{MANIFEST} cannot be read: {error}") from error


def read_adapter(folder: Path) -> Adapter:
    """The adapter, its files checked by digest. Raises `Damaged`."""
    files = read_manifest(folder).files
    try:
        return adapter_in(bytes(_read(folder, CONFIG, files)), _read(folder, WEIGHTS, files))
    except (ValueError, safetensors.SafetensorError, BadAdapter) as error:
        raise Damaged(f"no adapter in it: {error}") from error


def read_peft_files(folder: Path) -> dict[str, bytes]:
    """PEFT's two files as they are, checked by digest. Raises `Damaged`."""
    files = read_manifest(folder).files
    return {name: bytes(_read(folder, name, files)) for name in (CONFIG, WEIGHTS)}


def read_learner(folder: Path) -> Learner | None:
    """The learner's tensors and JSON, checked by digest; None where the version has none. Raises `Damaged`."""
    files = read_manifest(folder).files
    if LEARNER not in files:
        return None
    data = bytes(_read(folder, LEARNER, files))
    return safetensors.torch.load(data), json.loads(metadata(data)["learner"])


def metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that has been loaded, and so is known to be sound."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] | None = json.loads(data[8 : 8 + length]).get("__metadata__")
    return found or {}  # an import may say null


def _read(folder: Path, name: str, files: dict[str, str]) -> bytearray:
    data = _bytes_of(folder / name)
    if _sha256(data) != files.get(name):
        raise Damaged(f"{name} is not what was written")
    return data


def _bytes_of(path: Path) -> bytearray:
    """Raises `Damaged` if the file is lost; what passes (too many open files, no permission) stays an `OSError`.

    Memory of its own, which tensors may look into: PyTorch takes no bytes that cannot be written.
    """
    try:
        with path.open("rb") as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            file.readinto(data)
        return data
    except OSError as error:
        if error.errno not in LOST:
            raise
        raise Damaged(f"{path.name} cannot be read: {error.strerror}") from error


def _manifest_bytes(version: Version) -> bytes:
    record = dataclasses.asdict(version)
    del record["state"], record["rolled_back"]
    return json.dumps({"manifest": record, "sha256": _sha256(_json(record))}, indent=1).encode()


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """The same in strict JSON: a metric that came out as NaN or infinite is null, and loses nobody a round."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()
