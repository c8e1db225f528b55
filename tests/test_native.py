"""The kernels' logits: against transformers' own float32, the general path, other threads, other processors."""

import ctypes
import platform
import shutil
import subprocess
from typing import Any

import pytest
import torch

from adapters import compiler, lora
from adapters.arena import arena
from adapters.engine import Engine, Request
from adapters.native import Tokens
from adapters.sampling import Sampling
from adapters.slots import Slots
from tests.decoders import adapter_of, kernel_logits, loaded, plain_logits, write

IDS = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(3)).tolist()
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FIT: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2, biases on q, k and v": ("qwen2", {}),
    "qwen3, norms on q and k": ("qwen3", {"head_dim": 16}),
    "qwen3, wider heads": ("qwen3", {"head_dim": 64, "num_key_value_heads": 1}),
    "mistral, a window that ends inside pages": ("mistral", {"sliding_window": 41}),
    "mistral, a window of less than a page": ("mistral", {"sliding_window": 24}),
    "rotary positions as in Llama 3": ("llama", {"rope_parameters": LLAMA_3}),
    "rotary positions by YaRN": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
    "linear rotary positions": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "a head of its own": ("llama", {"tie_word_embeddings": False}),
    "heads of 64": ("llama", {"head_dim": 64}),
    "heads of 48, no whole panels": ("llama", {"head_dim": 48}),
    "a group for every head": ("llama", {"num_key_value_heads": 4}),
    "one group, half a panel": ("llama", {"num_key_value_heads": 1}),
    "three heads a group": ("llama", {"hidden_size": 96, "num_attention_heads": 6}),
    "biases everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "whole panels of the vocabulary": ("llama", {"vocab_size": 320}),
}
UNFIT: dict[str, tuple[str, dict[str, Any]]] = {
    "its family is gemma": ("gemma", {"hidden_act": "gelu_pytorch_tanh", "head_dim": 16}),
    "its rotary positions change with the length": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "its widths": ("llama", {"hidden_size": 80, "num_attention_heads": 5, "num_key_value_heads": 1}),
    "not of 16": ("llama", {"head_dim": 24}),
    "its activation is not SiLU": ("llama", {"hidden_act": "gelu"}),
    "some of its layers have a window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
}
# Against float32, of the logits' own spread: bfloat16's 8 bits cost 1.2 to 2.2 % in the mean and 0.08 to 0.23 at most
# here, and PyTorch's own bfloat16, which rounds more often, 1.9 to 3.9 % and 0.13 to 0.37.
MEAN, MOST = 0.03, 0.3


def gap(one, other):
    """Root of the mean square of the difference, and the largest, in standard deviations of what is right."""
    difference = (one - other) / other.std()
    return float(difference.pow(2).mean().sqrt()), float(difference.abs().max())


@torch.no_grad()
def general_logits(model, ids, adapter=None):
    choice = lora.Trained(adapter.weights, adapter.shape.scale) if adapter else lora.Base()
    return model.logits(model.states(torch.tensor([ids]), choice))[0]


def agrees(folder, model, adapter):
    right = plain_logits(folder, IDS, adapter)
    mean, most = gap(kernel_logits(model, IDS, adapter), right)
    general_mean, general_most = gap(general_logits(model, IDS, adapter), right)
    assert mean <= MEAN and most <= MOST
    assert general_mean <= 2 * MEAN and general_most <= 2 * MOST


@pytest.mark.parametrize("name", FIT)
def test_the_kernels_logits_are_the_models(name, tmp_path):
    family, changes = FIT[name]
    folder = write(tmp_path, family, **changes)
    model = loaded(folder)
    assert model.native
    agrees(folder, model, None)
    agrees(folder, model, adapter_of(model, 8))


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 7, 16, 33])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_adapters_of_any_rank_are_the_models(family, rank, tmp_path):
    folder = write(tmp_path, family)
    model = loaded(folder)
    adapter = adapter_of(model, rank)
    assert gap(plain_logits(folder, IDS, adapter), plain_logits(folder, IDS))[0] > 10 * MEAN
    agrees(folder, model, adapter)


@pytest.mark.parametrize("reason", UNFIT)
def test_a_model_that_does_not_fit_says_why_and_runs_without_kernels(reason, tmp_path):
    family, changes = UNFIT[reason]
    folder = write(tmp_path, family, **changes)
    said = []
    model = loaded(folder, report=said.append)
    assert model.native is None
    assert any("PyTorch's own operations" in words and reason in words for words in said)
    adapter = adapter_of(model, 4)
    assert gap(general_logits(model, IDS, adapter), plain_logits(folder, IDS, adapter))[0] <= 2 * MEAN
    engine = Engine(model, Slots(model, adapter.shape, lambda uid, version: adapter, 2), 2)
    engine.add(Request("r", IDS[:20], ("ann", 1), 3, Sampling(temperature=0.0)))
    made = 0
    while engine.busy:
        made += len(engine.step())
    assert 1 <= made <= 3


def test_float32_runs_without_kernels(tmp_path):
    said = []
    assert loaded(write(tmp_path, "llama"), "float32", said.append).native is None
    assert any("torch.float32 on cpu" in words for words in said)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="elsewhere auto goes by PyTorch's own products",
)
def test_where_only_the_kernels_are_quick_in_bfloat16_auto_hangs_on_whether_they_fit(tmp_path, monkeypatch):
    for product in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{product}_supported", lambda: False)
    assert loaded(write(tmp_path / "llama", "llama"), "auto").native is not None
    said = []
    family, changes = UNFIT["its widths"]
    general = loaded(write(tmp_path / "unfit", family, **changes), "auto", said.append)
    assert general.native is None and general.head.weight.dtype == torch.float32
    assert [words for words in said if "its widths" in words], "why the kernels do not compute it"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("model"), "qwen2", sliding_window=None)


@pytest.fixture(scope="module")
def model(folder):
    return loaded(folder)


def every_prefix_alone(model, adapter):
    """A token's bits depend on what is before it alone: other numbers of tokens are computed in other groups."""
    whole = kernel_logits(model, IDS, adapter)
    for length in (1, 2, 3, 5, 7, 11, 12, 13, 31, 32, 33, 97):
        assert torch.equal(kernel_logits(model, IDS[:length], adapter), whole[:length])


def test_a_tokens_bits_hang_on_its_own_past_alone(model):
    every_prefix_alone(model, None)
    every_prefix_alone(model, adapter_of(model, 3))


def test_sequences_of_many_slots_and_lengths_in_one_pass_have_the_bits_of_each_alone(model):
    native, rank = model.native, 5
    adapters = [None, adapter_of(model, rank, 1), adapter_of(model, rank, 2)]
    slots = arena(2, native.adapter_size(rank))
    for slot, adapter in zip(slots, adapters[1:], strict=True):
        native.pack(adapter, slot)
    parts = [
        (IDS[start : start + length], start % 3) for start, length in enumerate([40, 1, 97, 32, 5, 33, 64])
    ]
    cache, tables = native.pages([len(ids) for ids, _ in parts])
    flat = [
        (token, position, row, slot)
        for row, (ids, slot) in enumerate(parts)
        for position, token in enumerate(ids)
    ]
    # A sequence's own order is all that counts: here the tokens of all of them come turn by turn.
    flat.sort(key=lambda each: each[1])
    tokens, positions, rows, chosen = ([each[column] for each in flat] for column in range(4))
    batch = Tokens(tokens, positions, rows, chosen, tables, list(range(len(flat))))
    out = native.compute(batch, cache, slots, rank, logits=True).logits
    for row, (ids, slot) in enumerate(parts):
        mine = [at for at, each in enumerate(flat) if each[2] == row]
        assert torch.equal(out[mine], kernel_logits(model, ids, adapters[slot]))


def test_any_number_of_threads_computes_the_same_bits(folder):
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 7, 1):
            torch.set_num_threads(threads)
            model = loaded(folder)  # packed with so many threads, too
            found.append(kernel_logits(model, IDS, adapter_of(model, 3)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


def test_the_number_of_threads_may_change_with_every_pass(folder, monkeypatch):
    model = loaded(folder)
    adapter = adapter_of(model, 3)
    alone = kernel_logits(model, IDS, adapter)
    for threads in (1, 2, 7, 1):
        monkeypatch.setattr(model.native, "threads", lambda threads=threads: threads)
        assert torch.equal(kernel_logits(model, IDS, adapter), alone)
        assert model.native.model.threads == threads


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("cc"), reason="flags of gcc and clang on x86"
)
@pytest.mark.parametrize("lacks", ["avx512bf16", "avx512f", "avx"])
def test_processors_without_bfloat16_products_compute_the_same(lacks, folder, model, tmp_path, monkeypatch):
    library = tmp_path / "portable.so"
    sources = [str(source) for source in compiler.SOURCES.glob("*.c")]
    subprocess.run(
        ["cc", *compiler.FLAGS, "-march=native", f"-mno-{lacks}", *sources, "-o", str(library), "-lm", "-lpthread"],
        check=True,
    )  # fmt: skip
    monkeypatch.setattr("adapters.native.kernels", lambda _: ctypes.CDLL(str(library)))
    portable = loaded(folder)
    adapter = adapter_of(model, 3)
    logits = kernel_logits(portable, IDS, adapter)
    every_prefix_alone(portable, adapter)
    # Seen: 1.5e-7 and 6e-6, one unit of one logit's last place.
    mean, most = gap(logits, kernel_logits(model, IDS, adapter))
    assert mean <= 1e-3 and most <= 0.05
    assert gap(logits, plain_logits(folder, IDS, adapter))[0] <= MEAN
