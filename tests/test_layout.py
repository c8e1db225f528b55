"""The adapter in the store's own two files, seen without a copy: equal to safetensors' reading, or refused."""

import json

import pytest
import safetensors
import torch
from safetensors.torch import save

from adapters.adapter import Adapter, BadAdapter, LoraShape
from adapters.layout import adapter_in

SHAPE = LoraShape(2, 4.0, {"layers.0.q": (6, 8), "layers.1.q": (4, 8)})


def files(change=None):
    """PEFT's two files of a random adapter, its tensors changed by `change`."""
    adapter = Adapter.fresh(SHAPE, torch.Generator().manual_seed(1))
    config, tensors = adapter.to_peft("base")
    for number, tensor in enumerate(tensors.values()):
        tensor += number
    if change:
        change(tensors)
    return json.dumps(config).encode(), bytearray(save(tensors)), tensors


def first(tensors):
    return next(iter(tensors))


def test_every_matrix_is_where_safetensors_says():
    config, weights, tensors = files()
    expected = Adapter.from_peft(json.loads(config), tensors, SHAPE)
    for _ in range(2):  # the header is parsed the first time only
        found = adapter_in(config, weights)
        assert found.shape == SHAPE
        for path, pair in expected.weights.items():
            assert all(torch.equal(a, b) for a, b in zip(pair, found.weights[path], strict=True))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -100.1])
def test_a_number_that_no_model_can_use_is_refused(number):
    adapter_in(*files()[:2])
    with pytest.raises(BadAdapter):
        adapter_in(*files(lambda tensors: tensors[first(tensors)].view(-1)[3].fill_(number))[:2])


def test_other_tensors_and_other_types_are_refused():
    with pytest.raises(BadAdapter, match="not of this model"):
        adapter_in(*files(lambda tensors: tensors.pop(first(tensors)))[:2])
    with pytest.raises(BadAdapter, match="float32"):
        adapter_in(*files(lambda t: t.update({first(t): t[first(t)].to(torch.float64)}))[:2])


def test_whatever_is_cut_or_malformed_is_refused():
    config, weights, _ = files()
    adapter_in(config, weights)
    start = 8 + int.from_bytes(weights[:8], "little")
    bad = [weights[:end] for end in (0, 5, 8, start - 1, start, len(weights) - 4, len(weights) - 1)]
    bad += [weights + bytes(4), bytearray(b"\xff" * 8) + weights[8:], weights[:8] + b"[" + weights[9:]]
    for data in bad:
        with pytest.raises((BadAdapter, ValueError, safetensors.SafetensorError)):
            adapter_in(config, data)
