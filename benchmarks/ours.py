"""Our engine as a contender: `python -m benchmarks.ours`.

Knows the engine as the service uses it. Does not know the clock, nor who else is measured. The model names no end
token here, so that every answer is as long as was asked for.
"""

from __future__ import annotations

from adapters.adapter import Adapter
from adapters.engine import Engine, Request
from adapters.model import BaseModel, ModelConfig, load
from adapters.sampling import Sampling
from adapters.slots import Slots
from benchmarks import workload
from benchmarks.contender import Job, answering, serve

GREEDY = Sampling(temperature=0.0)
ROWS = 32


def endless_model() -> BaseModel:
    """The embedded model, whose answers end by their length alone."""
    model = load(ModelConfig(), workload.MODELS, report=lambda _: None)
    model.eos_ids = frozenset()
    return model


def generate(engine: Engine, job: Job) -> int:
    """Answers all prompts of the job at once; the tokens made."""
    for row, prompt in enumerate(job.prompts):
        owner = (f"user-{row % job.adapters}", 1) if job.adapters else None
        engine.add(Request(str(row), prompt, owner, job.tokens, GREEDY))
    made = 0
    while engine.busy:
        for token in engine.step():
            if token.error:
                raise token.error
            made += 1
    return made


def main() -> None:
    answering()
    model = endless_model()
    shape = model.lora_shape(workload.RANK, workload.ALPHA)
    folders = workload.adapter_folders(shape, ROWS)

    def from_disk(uid: str, version: int) -> Adapter:
        return workload.read(folders[int(uid.removeprefix("user-"))], shape)

    engine = Engine(model, Slots(model, shape, from_disk, ROWS), ROWS)
    serve(lambda job: generate(engine, job))


if __name__ == "__main__":
    main()
