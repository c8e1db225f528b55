"""Large pieces of memory for what is read from end to end at every token.

Knows the system's memory pages; knows nothing of what lies in them.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor


def arena(rows: int, numbers: int) -> Tensor:
    """Zeros (rows, numbers) bfloat16, which take memory as they are written. Large memory pages, where the system has
    them: weights are read from end to end at every token, and looking addresses up costs as much as reading them."""
    # Nothing is set aside for what may never be written. Python names the flag from 3.13 on.
    unreserved = getattr(mmap, "MAP_NORESERVE", 0)
    memory = mmap.mmap(-1, rows * numbers * 2, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | unreserved)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.bfloat16, count=rows * numbers).view(rows, numbers)
