"""An adapter in memory: PEFT's names, a fresh one, and every one that is refused."""

import math

import pytest
import torch

from adapters.adapter import MAX_SCALE, Adapter, BadAdapter, LoraShape, shape_in_peft

Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
SHAPE = LoraShape(rank=2, alpha=4.0, modules={Q: (6, 4), UP: (8, 4)})
A_OF_Q = f"base_model.model.{Q}.lora_A.weight"
B_OF_Q = f"base_model.model.{Q}.lora_B.weight"


def random_adapter(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Adapter(
        SHAPE,
        {
            path: (torch.randn(2, d_in, generator=draw), torch.randn(d_out, 2, generator=draw))
            for path, (d_out, d_in) in SHAPE.modules.items()
        },
    )


def test_the_scale_and_size_of_a_shape():
    assert SHAPE.scale == 2.0
    assert SHAPE.numbers == 2 * (6 + 4) + 2 * (8 + 4)


def test_a_fresh_adapter_changes_nothing_and_is_drawn_from_the_generator():
    fresh = Adapter.fresh(SHAPE, torch.Generator().manual_seed(7))
    again = Adapter.fresh(SHAPE, torch.Generator().manual_seed(7))
    for path, (d_out, d_in) in SHAPE.modules.items():
        a, b = fresh.weights[path]
        assert a.shape == (2, d_in)
        assert b.shape == (d_out, 2)
        assert not b.any()
        assert 0 < a.abs().max() <= 1 / math.sqrt(d_in)
        assert torch.equal(a, again.weights[path][0])
    fresh.check()


def test_a_fresh_matrix_fills_its_whole_range():
    wide = LoraShape(8, 8.0, {"layer": (4, 400)})
    a, _ = Adapter.fresh(wide, torch.Generator().manual_seed(0)).weights["layer"]
    assert a.max() == pytest.approx(1 / 20, rel=0.01)
    assert a.min() == pytest.approx(-1 / 20, rel=0.01)


def test_to_peft_and_back_is_the_same_adapter():
    adapter = random_adapter()
    config, tensors = adapter.to_peft("some/model")
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (2, 4.0, "some/model")
    assert config["target_modules"] == ["q_proj", "up_proj"]
    assert set(tensors) >= {A_OF_Q, B_OF_Q}
    assert shape_in_peft(config, tensors) == SHAPE
    back = Adapter.from_peft(config, tensors, SHAPE)
    for path in SHAPE.modules:
        for mine, theirs in zip(adapter.weights[path], back.weights[path], strict=True):
            assert torch.equal(mine, theirs)


def test_what_to_peft_gives_is_a_copy():
    adapter = random_adapter()
    _, tensors = adapter.to_peft("some/model")
    tensors[A_OF_Q].zero_()
    assert adapter.weights[Q][0].any()


def test_another_alpha_is_folded_into_b():
    config, tensors = random_adapter().to_peft("some/model")
    taken = Adapter.from_peft({**config, "lora_alpha": 1}, tensors, SHAPE)
    assert torch.equal(taken.weights[Q][1] * 4, tensors[B_OF_Q])  # scale 1/2 instead of 2
    assert torch.equal(taken.weights[Q][0], tensors[A_OF_Q])


def test_half_precision_is_taken():
    config, tensors = random_adapter().to_peft("some/model")
    taken = Adapter.from_peft(config, {name: t.to(torch.bfloat16) for name, t in tensors.items()}, SHAPE)
    assert taken.weights[Q][0].dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"rank_pattern": {"q_proj": 64}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 64}}, "alpha_pattern"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"something_invented_next_year": 1}, "something_invented_next_year"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"r": 3}, "rank 3"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"r": "2"}, "r is '2'"),
        ({"lora_alpha": MAX_SCALE * 2 + 1}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": -1}, "lora_alpha"),
        ({"lora_alpha": math.nan}, "lora_alpha"),
        ({"lora_alpha": math.inf}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_a_config_that_is_not_plain_lora_is_refused(changes, says):
    config, tensors = random_adapter().to_peft("some/model")
    with pytest.raises(BadAdapter, match=says):
        Adapter.from_peft({**config, **changes}, tensors, SHAPE)


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        (A_OF_Q, torch.full((2, 4), math.nan), "NaN"),
        (B_OF_Q, torch.full((6, 2), math.inf), "NaN or infinite"),
        (B_OF_Q, torch.full((6, 2), 1e30), "beyond"),
        (A_OF_Q, torch.zeros(2, 5), "shape"),
        (A_OF_Q, torch.zeros(4, 4), "shape"),
        (A_OF_Q, torch.zeros(2, 4, 1), "shape"),
        (A_OF_Q, torch.zeros(2, 4, dtype=torch.int64), "floating"),
        (A_OF_Q, None, "missing"),
        ("base_model.model.lm_head.weight", torch.zeros(3, 3), "not of this model"),
        (f"base_model.model.{Q}.lora_A.bias", torch.zeros(2), "not of this model"),
        (
            "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight",
            torch.zeros(2, 4),
            "not of this model",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name, tensor, says):
    config, tensors = random_adapter().to_peft("some/model")
    tensors[name] = tensor
    if tensor is None:
        del tensors[name]
    with pytest.raises(BadAdapter, match=says):
        Adapter.from_peft(config, tensors, SHAPE)


@pytest.mark.parametrize(
    "place", [0, 7, 8, 1000, 12_295, -1]
)  # first, last, and where vectors of numbers end
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (math.nan, "NaN"),
        (-math.inf, "infinite"),
        (math.inf, "infinite"),
        (-100.1, "beyond"),
        (100.1, "beyond"),
    ],
)
def test_one_bad_number_anywhere_is_found(place, number, says):
    shape = LoraShape(rank=8, alpha=16.0, modules={Q: (6, 1537)})
    a = torch.rand(8, 1537, generator=torch.Generator().manual_seed(1)) * 200 - 100
    Adapter(shape, {Q: (a, torch.zeros(6, 8))}).check()
    a.view(-1)[place] = number
    with pytest.raises(BadAdapter, match=says):
        Adapter(shape, {Q: (a, torch.zeros(6, 8))}).check()


def test_a_finite_alpha_and_weight_that_overflow_together_are_refused():
    tiny = LoraShape(rank=2, alpha=1e-3, modules=SHAPE.modules)
    config, tensors = random_adapter().to_peft("some/model")
    tensors[B_OF_Q].fill_(99.0)
    with pytest.raises(BadAdapter, match="beyond"):
        Adapter.from_peft({**config, "lora_alpha": 32}, tensors, tiny)


def test_files_without_any_lora_have_no_shape():
    config, _ = random_adapter().to_peft("some/model")
    with pytest.raises(BadAdapter, match="no lora_A"):
        shape_in_peft(config, {"lm_head.weight": torch.zeros(2, 2)})


def test_a_message_about_a_hostile_name_stays_short():
    config, tensors = random_adapter().to_peft("some/model")
    with pytest.raises(BadAdapter) as refusal:
        Adapter.from_peft({**config, "x" * 10_000: "y" * 10_000}, tensors, SHAPE)
    assert len(str(refusal.value)) < 300
