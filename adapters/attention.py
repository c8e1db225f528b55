"""Attention over rows of different ages, as a transformers attention function.

Knows queries, keys, values and where a row's past is kept; knows nothing of adapters or of sampling. It is
registered under the name ATTENTION, so every model of transformers that takes its attention from that table
runs on it unchanged. Without a past it is plain causal attention, which the trainer differentiates.

Attention is computed in float32: on processors without fast bf16 attention that is eight times quicker, and
its sums do not depend on how many rows share the batch.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION = "thumbtune"


class Past(Protocol):
    """What the attention of one forward pass needs of the cache (see cache.py)."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Store key and value, attend over the whole past: (B, H, T, D) → (B, H, T, D), float32."""
        ...


class UnsupportedAttention(Exception):
    """The model asks for something that this attention does not do."""


def attention(
    module: nn.Module,
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, G, T, D), G groups of query heads
    value: Tensor,  # (B, G, T, D)
    attention_mask: Tensor | None,
    *,
    scaling: float,
    past: Past | None = None,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """One layer's attention. Rows are padded on the right only, so that causality is mask enough."""
    for feature in ("softcap", "s_aux"):
        if kwargs.get(feature) is not None:
            raise UnsupportedAttention(f"attention with {feature} is not supported")
    if past is None:
        out = causal(query, key, value, scaling, sliding_window)
    else:
        out = past.attend(int(module.layer_idx), query, key, value, scaling, sliding_window)  # type: ignore[arg-type]
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


def causal(query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
    """Attention of whole sequences (B, H, T, D) over themselves, in float32."""
    length = query.shape[2]
    mask = None
    if window is not None and window < length:
        mask = visible(length, length, window, query.device)
    return scaled_dot_product_attention(
        query.float(),
        key.float(),
        value.float(),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=True,
    )


def visible(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor:
    """(queries, keys) bool: may the i-th of the last `queries` positions see key j?"""
    at = torch.arange(keys - queries, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None, :]
    seen = key <= at
    return seen if window is None else seen & (key > at - window)


AttentionInterface.register(ATTENTION, attention)
