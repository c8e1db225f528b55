"""An adapter in training."""

import pytest
import torch

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from adapters.policy import Policy
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return load(
        ModelConfig(str(tiny_model(folder / "tiny")), "cpu", "float32"), folder, report=lambda _: None
    )


def test_the_parameters_have_one_order_whatever_the_adapters(model):
    """A version read from disk has its modules in another order than a fresh one, and goes on with its optimiser."""
    fresh = Adapter.fresh(model.lora_shape(4, 8.0), torch.Generator().manual_seed(1))
    turned = Adapter(fresh.shape, dict(reversed(fresh.weights.items())))
    for one, other in zip(Policy(model, fresh).parameters(), Policy(model, turned).parameters(), strict=True):
        assert torch.equal(one, other)
