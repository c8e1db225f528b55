"""Where the matrices of an adapter lie in the safetensors file that the store wrote.

Knows PEFT's two files as bytes, and how to see the adapter in them without a copy. Does not know folders or digests,
nor files from elsewhere (`export.py`): these are read by safetensors, whatever they cost.

All adapters of a service have one layout. What a header says is therefore parsed and checked once, by safetensors and
as an adapter from elsewhere would be; each further file with that header is only cut into its matrices.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import safetensors.torch
import torch

from adapters.adapter import Adapter, BadAdapter, LoraShape, check_numbers, peft_names, shape_in_peft

WIDTH = 4  # bytes of a float32

Place = tuple[int, int, int]  # rows, columns, and which of the file's numbers is the first


@dataclass(frozen=True)
class Layout:
    """`places`: module path → where A and B lie."""

    shape: LoraShape
    places: dict[str, tuple[Place, Place]]


def adapter_in(config: bytes, weights: bytearray) -> Adapter:
    """The adapter in PEFT's two files; its matrices are views of `weights`, which nobody may change any more.

    Raises `BadAdapter`, `ValueError` (no JSON, numbers cut short), `safetensors.SafetensorError`.
    """
    start = 8 + int.from_bytes(weights[:8], "little")
    if start > len(weights):
        raise BadAdapter("the weights end within their header")
    layout = _layout(config, bytes(weights[:start]), len(weights) - start)
    numbers = torch.frombuffer(weights, dtype=torch.float32, offset=start)
    check_numbers("the adapter", numbers)
    return Adapter(
        layout.shape,
        {
            path: (numbers.as_strided(a[:2], (a[1], 1), a[2]), numbers.as_strided(b[:2], (b[1], 1), b[2]))
            for path, (a, b) in layout.places.items()
        },
    )


@lru_cache(maxsize=4)
def _layout(config: bytes, header: bytes, length: int) -> Layout:
    """What a file with this header and `length` bytes of numbers says; all is checked but the numbers themselves."""
    tensors = safetensors.torch.load(header + bytes(length))  # the same file, with zeros for its numbers
    said = json.loads(config)
    shape = shape_in_peft(said, tensors)
    Adapter.from_peft(said, tensors, shape)
    if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        raise BadAdapter("the store's adapters are float32, this one is not")
    entries = json.loads(header[8:])

    def place(name: str) -> Place:
        rows, columns = entries[name]["shape"]
        return rows, columns, entries[name]["data_offsets"][0] // WIDTH

    places = {path: (place(a), place(b)) for path in shape.modules for a, b in [peft_names(path)]}
    return Layout(shape, places)
