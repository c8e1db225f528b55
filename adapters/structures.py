"""The kernels' structures, as adapters/kernel/model.h and draw.h have them.

Knows their fields and their order; knows nothing of what they mean or who fills them.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_float, c_int64, c_void_p

MODULES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


class Linear(Structure):
    _fields_ = [("outputs", c_int64), ("inputs", c_int64), ("panels", c_void_p), ("back", c_void_p),
                ("bias", c_void_p)]  # fmt: skip


class Layer(Structure):
    _fields_ = [("linear", Linear * len(MODULES)), ("norm", c_void_p * 2), ("head_norm", c_void_p * 2)]


class Model(Structure):
    _fields_ = [
        *((name, c_int64) for name in (
            "layers", "hidden", "heads", "groups", "head", "inner", "vocabulary", "rank", "window", "threads"
        )),
        ("eps", c_float), ("scaling", c_float), ("layer", POINTER(Layer)), ("out", Linear),
        ("embedding", c_void_p), ("norm", c_void_p), ("cosine", c_void_p), ("sine", c_void_p), ("positions", c_int64),
    ]  # fmt: skip


class Batch(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("tokens", "wanted", "table_width", "sequences", "shared")),
        *((name, c_void_p) for name in (
            "id", "position", "sequence", "slot", "table", "want", "target", "cache", "adapters"
        )),
        ("adapter_size", c_int64),
        *((name, c_void_p) for name in ("states", "logits", "logprob", "entropy")),
        ("keep", c_int64),
    ]  # fmt: skip


class Draws(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "vocabulary", "threads")),
        *((name, c_void_p) for name in (
            "logits", "temperature", "top_p", "penalty", "uniform", "seen", "token", "logprob", "entropy"
        )),
    ]  # fmt: skip
