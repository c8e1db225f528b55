"""The whole loop on the embedded model, over HTTP: of two users one gives thumbs, and only that one's answers move."""

import io
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from statistics import fmean

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters import lora
from adapters.model import ModelConfig, load
from adapters.slots import Slots
from adapters.store import AdapterStore, Base
from service.tastes import TASTES
from tests.serving import alone, ask, environment

TASTE = TASTES["second-person"]
TOKENS = 32
PROMPTS = (resources.files("service") / "demo_prompts.txt").read_text().splitlines()
RATED, HELD_OUT = PROMPTS[:56], PROMPTS[56:72]
PART = 28  # thumbs before each round
LIMIT_SECONDS = 900
# float32 on both sides: what is left is the order of sums through thirty layers.
TOLERANCE = 2e-3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


@contextmanager
def learning(api):
    """A trainer process beside the API."""
    env = environment(api.data, api.redis_url, 1, model="", dtype="auto", threads=2, nice=0)
    process = subprocess.Popen([sys.executable, "-m", "service", "trainer"], env=env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def exam(client, model="personal"):
    """Answers to the held-out prompts, with seeds of their own."""
    return answers(client, HELD_OUT, 500, model)[0]


def answers(client, prompts, seed, model="personal"):
    """(texts, message ids); eight at once."""

    def one(number):
        return ask(client, prompts[number], model=model, seed=seed + number, max_tokens=TOKENS)

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(one, range(len(prompts))))
    return [r["choices"][0]["message"]["content"] for r in replies], [r["id"] for r in replies]


def teach(client, prompts, seed):
    texts, ids = answers(client, prompts, seed)
    for text, message in zip(texts, ids, strict=True):
        rating = "up" if TASTE.likes(text) else "down"
        assert client.put(f"/v1/messages/{message}/feedback", json={"rating": rating}).status_code == 200


def finished(client, round):
    """The round's last state."""
    end = time.monotonic() + LIMIT_SECONDS
    while round["state"] in ("waiting", "running"):
        assert time.monotonic() < end, round
        time.sleep(1)
        round = client.get(f"/v1/adapter/rounds/{round['id']}").json()
    return round


def test_one_rates_and_only_that_ones_assistant_changes(tmp_path):
    with (
        alone(tmp_path, model="", dtype="auto", threads=2) as api,
        api.user("ada") as ada,
        api.user("ben") as ben,
    ):
        before = exam(ada)
        assert exam(ben) == before, "nobody has taught anything yet"
        assert exam(ada, "base") == before
        with learning(api):
            for part in range(
                2
            ):  # an honest gate may hold the first candidate back: then there are more thumbs
                teach(ada, RATED[part * PART : (part + 1) * PART], 1000 * part)
                round = finished(ada, ada.post("/v1/adapter/rounds").json())
                assert round["state"] in ("published", "held"), round
                if round["state"] == "published":
                    break
        status = ada.get("/v1/adapter").json()
        assert status["active_version"] == round["version"], round

        after = exam(ada)
        assert after != before
        assert fmean(map(TASTE.score, after)) > fmean(map(TASTE.score, before)), (
            "on prompts that were never rated"
        )
        assert exam(ben) == before, "bit by bit: thumbs are their giver's alone"
        assert exam(ada, "base") == before

        archive = ada.get("/v1/adapter/export")
        assert archive.status_code == 200
        same_in_peft(api, tmp_path, archive.content, status["active_version"])

        assert ada.post("/v1/adapter/reset").status_code == 200
        assert exam(ada) == before, "the base model's answers are back"


def same_in_peft(api, folder, archive, version):
    """What was exported gives the same logits in plain peft as the version that serves here."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        packed.extractall(folder / "exported")
    model = load(ModelConfig(dtype="float32"), api.data / "models", lambda _: None)
    store = AdapterStore(api.data / "adapters", Base(model.name, model.digest))
    (owner,) = [uid for uid in store.users() if store.head(uid).active == version]
    slot = Slots(model, model.lora_shape(8, 16.0), store.load, 1).pin((owner, version))
    ids = torch.tensor([model.encode([{"role": "user", "content": "What is a fork?"}])])
    (checkpoint,) = (path for path in (api.data / "models").iterdir() if path.is_dir())
    network = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.inference_mode():
        ours = model.logits(model.states(ids, lora.Single(slot)))
        base = model.logits(model.states(ids, lora.Base()))
        theirs = PeftModel.from_pretrained(network, folder / "exported")(ids).logits
    assert (ours - theirs).abs().max() <= TOLERANCE
    assert (ours - base).abs().max() > 100 * TOLERANCE, "the adapter does something"
