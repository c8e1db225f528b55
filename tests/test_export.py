"""Export and import: plain PEFT loads what is packed, and no archive from elsewhere gets past the checks."""

import io
import json
import math
import stat
import zipfile
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM

from adapters.adapter import Adapter, BadAdapter, LoraShape
from adapters.export import BadArchive, Limits, pack, unpack
from adapters.store import AdapterStore, Base, Candidate, Revision, UnknownVersion
from tests.tiny import tiny_model

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
BASE = Base("tiny/model", "d1" * 32)
SHAPE = LoraShape(rank=2, alpha=4.0, modules={"model.layers.0.self_attn.q_proj": (6, 4)})


def random_adapter(shape):
    draw = torch.Generator().manual_seed(3)
    return Adapter(
        shape,
        {
            path: (
                torch.randn(shape.rank, d_in, generator=draw) * 0.1,
                torch.randn(d_out, shape.rank, generator=draw) * 0.1,
            )
            for path, (d_out, d_in) in shape.modules.items()
        },
    )


# peft 0.21 asks transformers 5.23 by a name that the latter is giving up
of_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def packed(tmp_path, shape=SHAPE, base=BASE):
    store = AdapterStore(tmp_path / "adapters", base)
    store.create("u1")
    gate = {"passed": True, "checks": []}
    ratings = [Revision("msg_a", 2), Revision("msg_b", 1)]
    candidate = Candidate(random_adapter(shape), {}, {}, 0, ratings, {"thumbs": 2, "kl": 1.5}, gate, seed=9)
    assert store.publish("u1", candidate, epoch=1) == 1
    return pack(store, "u1", 1)


@pytest.fixture
def archive(tmp_path):
    return packed(tmp_path)


def files_of(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """`files`: (name or ZipInfo, bytes) pairs, duplicates and all."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as opened:
        for name, data in files:
            opened.writestr(name, data)
    return out.getvalue()


def changed(archive, **parts):
    """The archive with its config's fields (config=...) or tensors (tensors=...) or metadata changed."""
    files = files_of(archive)
    config = {**json.loads(files[CONFIG]), **parts.get("config", {})}
    tensors = {**load(files[WEIGHTS]), **parts.get("tensors", {})}
    weights = save(tensors, parts.get("metadata", {"base_digest": BASE.digest}))
    return zipped([(CONFIG, json.dumps(config)), (WEIGHTS, weights)])


def with_null_for_metadata(archive):
    """As safetensors accepts it, though it never writes it."""
    files = files_of(archive)
    data = files[WEIGHTS]
    length = int.from_bytes(data[:8], "little")
    header = json.dumps({**json.loads(data[8 : 8 + length]), "__metadata__": None}).encode()
    weights = len(header).to_bytes(8, "little") + header + data[8 + length :]
    return zipped([(CONFIG, files[CONFIG]), (WEIGHTS, weights)])


@of_peft
def test_plain_peft_loads_an_export_and_gives_the_logits_worked_out_by_hand(tmp_path):
    folder = tiny_model(tmp_path / "tiny")
    base = AutoModelForCausalLM.from_pretrained(folder).eval()
    shape = LoraShape(
        rank=4,
        alpha=12.0,
        modules={
            path: tuple(module.weight.shape)
            for path, module in base.named_modules()
            if path.rpartition(".")[2] in LINEAR
        },
    )
    assert len(shape.modules) == 14
    with zipfile.ZipFile(io.BytesIO(packed(tmp_path, shape, Base(str(folder), "d1")))) as opened:
        opened.extractall(tmp_path / "export")
    tokens = torch.tensor([[256, 72, 101, 108, 108, 111, 257]])  # (1, T)
    with torch.no_grad():
        plain = base(tokens).logits
        by_peft = peft.PeftModel.from_pretrained(base, tmp_path / "export").eval()(tokens).logits
        by_hand = AutoModelForCausalLM.from_pretrained(folder).eval()
        for path, (a, b) in random_adapter(shape).weights.items():
            by_hand.get_submodule(path).weight += 12.0 / 4 * b @ a
        expected = by_hand(tokens).logits
    assert (expected - plain).abs().max() > 0.1  # the adapter does something
    torch.testing.assert_close(by_peft, expected, atol=1e-4, rtol=1e-4)


def test_an_export_holds_just_the_three_files_and_its_card_says_what_it_is(archive):
    files = files_of(archive)
    assert set(files) == {CONFIG, WEIGHTS, CARD}
    card = files[CARD].decode()
    for said in (
        "tiny/model",
        BASE.digest,
        "version 1",
        "2 ratings",
        "`msg_a`, revision 2",
        "kl: 1.5",
        "seed 9",
    ):
        assert said in card


def test_an_export_comes_back_as_the_same_adapter(archive, tmp_path):
    (tmp_path / "in.zip").write_bytes(archive)
    for source in (archive, tmp_path / "in.zip"):
        adapter = unpack(source, SHAPE, BASE)
        for path, pair in random_adapter(SHAPE).weights.items():
            for mine, theirs in zip(pair, adapter.weights[path], strict=True):
                assert torch.equal(mine, theirs)


@of_peft
def test_an_adapter_that_peft_itself_saved_is_taken(tmp_path):
    folder = tiny_model(tmp_path / "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "saved")
    files = [(path.name, path.read_bytes()) for path in (tmp_path / "saved").iterdir()]
    shape = LoraShape(4, 16.0, {f"model.layers.{i}.self_attn.q_proj": (64, 64) for i in (0, 1)})
    adapter = unpack(zipped(files), shape, Base(str(folder), "d1"))
    assert not adapter.weights["model.layers.1.self_attn.q_proj"][1].any()


def test_the_digest_decides_and_without_one_the_name(archive):
    unpack(changed(archive, config={"base_model_name_or_path": "moved/elsewhere"}), SHAPE, BASE)
    unpack(changed(archive, metadata={"format": "pt"}), SHAPE, BASE)
    unpack(with_null_for_metadata(archive), SHAPE, BASE)
    with pytest.raises(BadArchive, match="other weights"):
        unpack(changed(archive, metadata={"base_digest": "ff" * 32}), SHAPE, BASE)
    other = changed(archive, config={"base_model_name_or_path": "other/model"}, metadata={"format": "pt"})
    with pytest.raises(BadArchive, match="base_model_name_or_path"):
        unpack(other, SHAPE, BASE)


def test_hostile_adapters_in_a_sound_archive_are_refused(archive):
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tensors": {name: torch.full((2, 4), math.nan)}}, "NaN"),
        ({"tensors": {name: torch.full((2, 4), math.inf)}}, "infinite"),
        ({"tensors": {name: torch.zeros(2, 5)}}, "shape"),
        ({"config": {"lora_alpha": 1e6}}, "lora_alpha"),
        ({"config": {"lora_alpha": math.inf}}, "lora_alpha"),
        ({"config": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
        ({"config": {"r": 8}}, "rank"),
        ({"config": {"r": 10**400}}, "r is 1000.* it must be"),
        ({"tensors": {"base_model.model.lm_head.weight": torch.zeros(4)}}, "not of this model"),
    ]
    for parts, says in cases:
        with pytest.raises(BadAdapter, match=says):
            unpack(changed(archive, **parts), SHAPE, BASE)


def special(name, mode):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = mode << 16
    return entry


def far_beyond_the_end():
    """The directory says, in zip64's 64 bits, that an entry begins where no offset reaches."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        opened.writestr(CONFIG, b"{}")
        opened.writestr(WEIGHTS, b"x")
        opened.getinfo(CONFIG).header_offset = 1 << 63
    return out.getvalue()


def hostile_archives():
    good = {CONFIG: b"{}", WEIGHTS: b"x"}
    lying = bytearray(zipped([(CONFIG, b" " * (3 << 20)), (WEIGHTS, b"x")]))
    at = lying.index(b"PK\x01\x02") + 24  # the size that the directory states
    lying[at : at + 4] = (10).to_bytes(4, "little")
    yield "parent folder", zipped([*good.items(), ("../evil", b"x")]), "no place"
    yield "absolute", zipped([*good.items(), ("/etc/passwd", b"x")]), "no place"
    yield "a folder", zipped([(f"adapter/{name}", data) for name, data in good.items()]), "no place"
    yield "pickle", zipped([(CONFIG, b"{}"), ("adapter_model.bin", b"\x80\x04")]), "no place"
    yield "link", zipped([(CONFIG, b"{}"), (special(WEIGHTS, stat.S_IFLNK | 0o777), "/etc/passwd")]), "link"
    yield "fifo", zipped([(CONFIG, b"{}"), (special(WEIGHTS, stat.S_IFIFO | 0o600), b"")]), "special"
    yield "bomb", zipped([(CONFIG, b" " * (50 << 20)), (WEIGHTS, b"x")]), "unpacks to"
    yield "bomb of weights", zipped([(CONFIG, b"{}"), (WEIGHTS, b"\0" * (50 << 20))]), "unpacks to"
    yield "a bomb that lies", bytes(lying), "not a sound zip"
    yield "an offset of 64 bits", far_beyond_the_end(), "not a sound zip"
    yield "many entries", zipped([(f"{i}", b"") for i in range(1000)]), "too many"
    yield "missing weights", zipped([(CONFIG, b"{}")]), "not in the archive"
    yield "missing config", zipped([(WEIGHTS, b"x")]), "not in the archive"
    yield "bzip2", zipped(good.items(), zipfile.ZIP_BZIP2), "stored or deflated"
    yield "no safetensors", zipped([(CONFIG, b"{}"), (WEIGHTS, b"\x80\x04pickle")]), "safetensors"
    yield "a vast header", zipped([(CONFIG, b"{}"), (WEIGHTS, b"\xff" * 64)]), "safetensors"
    yield "no JSON", zipped([(CONFIG, b"{"), (WEIGHTS, save({}))]), "no JSON"
    yield "no UTF-8", zipped([(CONFIG, b'{"a": "\xff"}'), (WEIGHTS, save({}))]), "no JSON"
    yield "deep JSON", zipped([(CONFIG, b"[" * 500_000), (WEIGHTS, save({}))]), "no JSON"
    yield "a list", zipped([(CONFIG, b"[]"), (WEIGHTS, save({}))]), "object"
    yield "not a zip", b"hello", "not a sound zip"
    yield "nothing", b"", "not a sound zip"


@pytest.mark.parametrize(("data", "says"), [pytest.param(d, s, id=i) for i, d, s in hostile_archives()])
def test_a_hostile_archive_is_refused(data, says):
    with pytest.raises(BadArchive, match=says):
        unpack(data, SHAPE, BASE)


def test_a_name_that_is_twice_in_the_archive_is_refused(archive):
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped([*files_of(archive).items(), (CONFIG, b"{}")])
    with pytest.raises(BadArchive, match="twice"):
        unpack(twice, SHAPE, BASE)


def test_an_encrypted_archive_is_refused(archive):
    locked = bytearray(archive)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadArchive, match="encrypted"):
        unpack(bytes(locked), SHAPE, BASE)


def test_too_large_an_archive_is_not_looked_at(archive, tmp_path):
    (tmp_path / "in.zip").write_bytes(archive)
    for source in (archive, tmp_path / "in.zip"):
        with pytest.raises(BadArchive, match="at most 100"):
            unpack(source, SHAPE, BASE, Limits(archive_bytes=100))


def test_wherever_an_archive_is_cut_it_is_refused(archive):
    for length in range(0, len(archive), 7):
        with pytest.raises(BadAdapter):
            unpack(archive[:length], SHAPE, BASE)


def test_whatever_byte_is_changed_the_answer_is_an_adapter_or_a_refusal(archive):
    refused = 0
    for at in range(len(archive)):
        bent = bytearray(archive)
        bent[at] ^= 0xFF
        try:
            unpack(bytes(bent), SHAPE, BASE)
        except BadAdapter:
            refused += 1
    assert refused > len(archive) / 2


def test_the_base_model_and_a_version_that_is_not_there_cannot_be_packed(archive, tmp_path):
    store = AdapterStore(tmp_path / "adapters", BASE)
    for version in (0, 2, -1):
        with pytest.raises(UnknownVersion):
            pack(store, "u1", version)
