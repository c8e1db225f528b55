"""A version packed to take away, and the check of one brought in.

Knows: the zip archive with PEFT's two files and a card, and every way in which an archive from elsewhere can be broken
or hostile. Does not know: HTTP, or whether an adapter is any good (that is the gate's to say).
"""

from __future__ import annotations

import io
import json
import stat
import struct
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from adapters.adapter import Adapter, BadAdapter, LoraShape
from adapters.store import AdapterStore, Base, Version
from adapters.versions import CONFIG, WEIGHTS, metadata

CARD = "README.md"
TEXT_BYTES = 1 << 20  # the config and the card have a few kB each
HEADER_BYTES = 1 << 20  # safetensors' own header: some 150 bytes a tensor
WIDEST = 8  # bytes a number: float64
CENTRAL_ENTRY = b"PK\x01\x02"  # begins each entry of a zip's directory


class BadArchive(BadAdapter):
    """Not an archive with an adapter for this model; the message says what is wrong and what would be right."""


@dataclass(frozen=True)
class Limits:
    """`archive_bytes`: the largest archive that is looked at (> 0). What it may unpack to follows from the shape."""

    archive_bytes: int = 256 << 20


def pack(store: AdapterStore, uid: str, version: int) -> bytes:
    """The zip that `peft.PeftModel.from_pretrained` and vLLM load once it is unpacked.

    Raises `UnknownUser`, `UnknownVersion` (0 and retired ones too: they have no weights).
    """
    files = {**store.peft_files(uid, version), CARD: card(store.version(uid, version)).encode()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # stored: weights hardly compress
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)
    return packed.getvalue()


def card(version: Version) -> str:
    """The README of an exported version, in the form of a Hugging Face model card."""
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(version.created))
    ratings = "\n".join(f"- `{r.message_id}`, revision {r.revision}" for r in version.trained_on)
    metrics = "\n".join(f"- {name}: {json.dumps(value)}" for name, value in sorted(version.metrics.items()))
    return f"""---
base_model: {json.dumps(version.base.name)}
library_name: peft
tags: [lora, thumbtune]
---
# A personal adapter, version {version.version}

- base model: `{version.base.name}`
- digest of the base model's weights: `{version.base.digest}`
- made: {made}, seed {version.seed}, from version {"none" if version.parent is None else version.parent}
- the gate: {"passed" if version.gate["passed"] else "held"}

```python
base = AutoModelForCausalLM.from_pretrained({json.dumps(version.base.name)})
model = peft.PeftModel.from_pretrained(base, "this folder")
```

## Trained on {len(version.trained_on)} ratings

{ratings or "None: it was brought in, or made without any."}

## Metrics

{metrics or "None."}
"""


def unpack(data: bytes | Path, shape: LoraShape, base: Base, limits: Limits | None = None) -> Adapter:
    """The adapter in an archive that `pack` made, or that holds what PEFT saves; nothing is written anywhere.

    Raises `BadArchive` (not a sound archive, or of another base model), `BadAdapter` (not an adapter of this shape).
    """
    files = _unzip(_archive_bytes(data, limits or Limits()), _sizes(shape))
    config = _parse_config(files[CONFIG])
    try:
        tensors = safetensors.torch.load(files[WEIGHTS])
        written_by = metadata(files[WEIGHTS])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadArchive(f"{WEIGHTS} is no sound safetensors file: {error}") from error
    _check_base(config, written_by.get("base_digest"), base)
    return Adapter.from_peft(config, tensors, shape)


def _archive_bytes(data: bytes | Path, limits: Limits) -> bytes:
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    if size > limits.archive_bytes:
        raise BadArchive(f"the archive has {size} bytes, at most {limits.archive_bytes} are taken")
    return data.read_bytes() if isinstance(data, Path) else data


def _sizes(shape: LoraShape) -> dict[str, int]:
    """The files an archive may hold, with the most bytes that each may unpack to."""
    return {CONFIG: TEXT_BYTES, WEIGHTS: HEADER_BYTES + WIDEST * shape.numbers, CARD: TEXT_BYTES}


def _unzip(data: bytes, sizes: dict[str, int]) -> dict[str, bytes]:
    """The archive's files by name, without ever holding more than they may have."""
    # Counted before `zipfile` reads the directory: a million entries would cost it a gigabyte. Among random
    # weights these four bytes turn up by chance about once in four billion.
    if data.count(CENTRAL_ENTRY) > 16:
        raise BadArchive(f"the archive has too many entries: it must hold just {', '.join(sizes)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            for entry in entries:
                _check_entry(entry, sizes)
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise BadArchive("a name is twice in the archive")
            if missing := {CONFIG, WEIGHTS} - set(names):
                raise BadArchive(f"{min(missing)} is not in the archive (at its top level)")
            return {entry.filename: _inflate(archive, entry, sizes[entry.filename]) for entry in entries}
    except (
        zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError, struct.error, NotImplementedError,
    ) as error:  # fmt: skip
        raise BadArchive(f"not a sound zip archive: {error}") from error


def _check_entry(entry: zipfile.ZipInfo, sizes: dict[str, int]) -> None:
    name = repr(entry.filename)[:80]
    if entry.filename not in sizes:
        raise BadArchive(
            f"{name} has no place in the archive: it must hold just {', '.join(sizes)}, no folders"
        )
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise BadArchive(f"{name} is a link or another special file")
    if entry.flag_bits & 0x1:
        raise BadArchive(f"{name} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"{name} must be stored or deflated")
    if entry.file_size > sizes[entry.filename]:
        raise BadArchive(
            f"{name} unpacks to {entry.file_size} bytes, at most {sizes[entry.filename]} are taken"
        )


def _inflate(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(entry) as file:
        data = file.read(most + 1)  # the size that the archive states may be a lie
    if len(data) > most:
        raise BadArchive(f"{entry.filename} unpacks to more than {most} bytes")
    return data


def _parse_config(data: bytes) -> dict[str, Any]:
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadArchive(f"{CONFIG} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadArchive(f"{CONFIG} must hold a JSON object")
    return config


def _check_base(config: dict[str, Any], digest: str | None, base: Base) -> None:
    """Our own exports name the base model's digest; others only have PEFT's name for it."""
    name = config.get("base_model_name_or_path")
    if digest is not None:
        if digest != base.digest:
            raise BadArchive(
                f"the adapter is for other weights ({digest[:12]}), not {base.name} ({base.digest[:12]})"
            )
    elif name != base.name:
        raise BadArchive(
            f"base_model_name_or_path is {repr(name)[:80]}, this service's model is {base.name!r}"
        )
