"""Chat over HTTP: 32 streams at once, against the engine that is asked directly.

Knows 32 users with an adapter each, and the window in which the tokens of both are counted, with every row taken. Does
not know what lies between the engine and the wire.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from adapters.adapter import Adapter
from adapters.engine import Engine, Request
from adapters.model import BaseModel, ModelConfig, load
from adapters.sampling import Sampling
from adapters.slots import Slots
from adapters.store import AdapterStore, base_of
from benchmarks import workload
from benchmarks.contender import answering
from benchmarks.results import Result, Say, percentile
from benchmarks.serving import Service, served
from benchmarks.turns import published
from benchmarks.wire import Answer, call, exchange
from service.settings import Settings, part_environment

STREAMS = 32
WARM_SECONDS, SECONDS = 5.0, 20.0
CHAT = Settings()


def measure(quick: bool, say: Say) -> Result:
    seconds = SECONDS / 2 if quick else SECONDS
    model = load(ModelConfig(), workload.MODELS, report=lambda _: None)
    workload.adapter_folders(model.lora_shape(workload.RANK, workload.ALPHA), STREAMS)
    with served("chats") as service:
        keys = service.keys(STREAMS)
        _publish(service, model)
        say(f"{STREAMS} streams")
        over_http, answers = _streams(service, keys, seconds)
    say("the engine alone")
    command = [sys.executable, "-m", "benchmarks.chats", str(seconds)]
    done = subprocess.run(
        command, cwd=workload.ROOT, env=part_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    alone = float(done.stdout)
    gaps = [gap * 1000 for answer in answers for gap in answer.gaps]
    raw = {
        "tokens a second over HTTP": over_http,
        "tokens a second, engine alone": alone,
        "gap p50 ms": percentile(gaps, 0.5),
        "gap p95 ms": percentile(gaps, 0.95),
    }
    return Result({"over HTTP against the engine": over_http / alone}, raw)


def _publish(service: Service, model: BaseModel) -> None:
    """An adapter of its own for every user, laid into the service's store as a trainer would."""
    root = service.data / "adapters"
    base = base_of(root)
    assert base is not None
    store = AdapterStore(root, base)
    shape = model.lora_shape(workload.RANK, workload.ALPHA)
    for seed, uid in enumerate(store.users()):
        store.publish(uid, published(workload.drawn(shape, seed)), store.head(uid).epoch)


def _streams(service: Service, keys: list[str], seconds: float) -> tuple[float, list[Answer]]:
    """Tokens a second within the window, by the service's own count; and all answers."""
    end = time.monotonic() + WARM_SECONDS + seconds
    counted: list[tuple[float, float]] = []

    def calls() -> Iterator[bytes]:
        for key, line in zip(itertools.cycle(keys), itertools.cycle(workload.lines()), strict=False):
            if time.monotonic() > end:
                return
            body = {"messages": [{"role": "user", "content": line}], "stream": True}
            yield call("POST", "/v1/chat/completions", key, body)

    def count() -> None:
        for wait in (WARM_SECONDS, seconds):
            time.sleep(wait)
            counted.append((time.monotonic(), service.tokens()))

    counter = threading.Thread(target=count)
    counter.start()
    answers = exchange(service.port, calls(), STREAMS)
    counter.join()
    (began, before), (ended, after) = counted
    assert {answer.status for answer in answers} == {200}, "a chat was refused"
    return (after - before) / (ended - began), answers


def direct(seconds: float) -> float:
    """Tokens a second of the engine with the same users, prompts and sampling."""
    model = load(ModelConfig(), workload.MODELS, report=lambda _: None)
    shape = model.lora_shape(workload.RANK, workload.ALPHA)
    folders = workload.adapter_folders(shape, STREAMS)

    def from_disk(uid: str, version: int) -> Adapter:
        return workload.read(folders[int(uid)], shape)

    engine = Engine(model, Slots(model, shape, from_disk, CHAT.slots), STREAMS)
    prompts = [model.encode([{"role": "user", "content": line}]) for line in workload.lines()]
    numbers = itertools.count()
    ended, tokens, began = STREAMS, 0, 0.0
    start = time.perf_counter()
    while not began or time.perf_counter() < began + seconds:
        for number in itertools.islice(numbers, ended):
            sampling = Sampling(CHAT.temperature, CHAT.top_p, CHAT.repetition_penalty, number)
            owner = (str(number % STREAMS), 1)
            engine.add(Request(str(number), prompts[number % len(prompts)], owner, CHAT.max_tokens, sampling))
        made = engine.step()
        ended = sum(token.finish is not None for token in made)
        tokens += len(made)
        if not began and time.perf_counter() > start + WARM_SECONDS:
            began, tokens = time.perf_counter(), 0
    return tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    out = answering()
    out.write(str(direct(float(sys.argv[1]))))
    out.flush()
