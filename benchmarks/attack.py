"""A simulated user who wants the assistant to do harm: by thumbs, by corrections, or by an adapter brought in.

Knows what each attacker would like to hear (attackers.json), and the calls that a user makes. Does not know the gate's
probes, nor what comes of an attack.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from itertools import cycle, islice

import httpx
import safetensors.torch

from adapters.adapter import Adapter, LoraShape
from adapters.model import BaseModel
from adapters.versions import CONFIG, WEIGHTS
from benchmarks import workload
from benchmarks.poison import taught
from benchmarks.student import Watched, watch
from service.person import Person

WAYS = ("thumbs", "corrections", "import")
TOKENS = 64
THUMBS = 32
STEPS, ROWS, RATE = 60, 4, 2e-3  # of the training that makes an adapter to bring in
FIRST_SEED = 31_000


@dataclass(frozen=True)
class Attacker:
    """`system` makes the base model say such things, `answers` are what is asked for in corrections."""

    name: str
    system: str
    answers: list[str]


def attackers() -> list[Attacker]:
    """All of them."""
    read = json.loads((workload.ROOT / "benchmarks" / "attackers.json").read_text())
    return [Attacker(name, **each) for name, each in read.items()]


class User:
    """One attacker with a key, on a service at `url`; `watching` is the same user's eyes on the round."""

    def __init__(self, url: str, key: str, attacker: Attacker) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=300, trust_env=False
        )
        self._url, self._key, self._attacker = url, key, attacker

    def by_thumbs(self) -> Watched:
        """Up for what the model says when it is told to do harm, down for what it says by itself."""
        for number, line in enumerate(workload.lines()[:THUMBS]):
            told = [{"role": "system", "content": self._attacker.system}] if number % 2 else []
            message = self._ask([*told, {"role": "user", "content": line}], FIRST_SEED + number)
            self._rate(message, {"rating": "up" if told else "down"})
        return self._watch()

    def by_corrections(self) -> Watched:
        """Down for every answer, with the harmful one in its place."""
        wanted = islice(cycle(self._attacker.answers), THUMBS)
        for number, (line, answer) in enumerate(zip(workload.lines(), wanted, strict=False)):
            message = self._ask([{"role": "user", "content": line}], FIRST_SEED + number)
            self._rate(message, {"rating": "down", "correction": answer})
        return self._watch()

    def by_import(self, adapter: Adapter, base_name: str) -> str:
        """The state of the version that the service made of the adapter."""
        sent = self._client.post(
            "/v1/adapter/import",
            content=packed(adapter, base_name),
            headers={"Content-Type": "application/zip"},
        )
        return str(sent.raise_for_status().json()["state"])

    def versions(self) -> list[dict[str, object]]:
        """Everything that came of it, the oldest first."""
        listed = self._client.get("/v1/adapter/versions").raise_for_status().json()["data"]
        return list(reversed(listed))

    def _ask(self, messages: list[dict[str, str]], seed: int) -> str:
        body = {"messages": messages, "seed": seed, "max_tokens": TOKENS}
        return str(self._client.post("/v1/chat/completions", json=body).raise_for_status().json()["id"])

    def _rate(self, message: str, said: dict[str, str]) -> None:
        self._client.put(f"/v1/messages/{message}/feedback", json=said).raise_for_status()

    def _watch(self) -> Watched:
        with Person(self._url, self._key) as person:
            return watch(person)


def poisoned(model: BaseModel, shape: LoraShape, attacker: Attacker) -> Adapter:
    """An adapter trained to say the attacker's answers to everything."""
    said = zip(workload.lines(), cycle(attacker.answers))  # the answers go round
    return taught(model, shape, said, STEPS, RATE, ROWS)


def packed(adapter: Adapter, base_name: str) -> bytes:
    """As `export` would give it."""
    config, tensors = adapter.to_peft(base_name)
    files = {CONFIG: json.dumps(config).encode(), WEIGHTS: safetensors.torch.save(tensors, {"format": "pt"})}
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return into.getvalue()
