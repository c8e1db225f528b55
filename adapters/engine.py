"""Continuous batching: rows of different users, each with its own adapter version, decode in one batch.

Knows requests, rows and tokens; knows nothing of text, HTTP or what an answer is good for. `step()` tells the story:
admit who waits, compute one chunk of a prompt, decode one token for every row. Rows join and leave at every token.

A row's numbers do not depend on its company: prompts are computed one row at a time in chunks at fixed positions,
and decoding keeps to shapes whose rounding is a row's own (see cache.py). One thread owns an engine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from adapters import lora
from adapters.adapter import BadAdapter
from adapters.cache import Cache, Decode, Prefill, Row
from adapters.errors import StoreError
from adapters.model import BaseModel
from adapters.sampling import Sampling, draw, uniform
from adapters.slots import NoFreeSlot, Owner, Slots

CHUNK = 256  # prompt tokens computed between two tokens of the other rows


class PromptTooLong(ValueError):
    """The prompt leaves no room for an answer."""


@dataclass(frozen=True)
class Request:
    """One answer wanted. `owner` None is the base model; `max_tokens` > 0 counts the end token."""

    id: str
    prompt: list[int]
    owner: Owner | None
    max_tokens: int
    sampling: Sampling


@dataclass(frozen=True)
class Token:
    """One token of an answer. `finish`: "stop" (this is the end token), "length", or "error" with no token at all."""

    request: str
    id: int
    logprob: float  # of the model's own distribution; NaN where the draw was from an altered one
    finish: Literal["stop", "length", "error"] | None = None
    error: Exception | None = None


@dataclass(eq=False)
class Running:
    """A request that has a row and a slot."""

    request: Request
    row: Row
    slot: int
    prefilled: int = 0
    last: int = -1
    made: int = 0

    @property
    def ready(self) -> bool:
        return self.prefilled == len(self.request.prompt)


@dataclass
class Engine:
    """See the module. `rows` answers at once, and together at most `cache_tokens` tokens of prompts and answers (a
    longer one runs alone); further ones wait in line."""

    model: BaseModel
    slots: Slots
    rows: int = 32
    cache_tokens: int = 65_536
    waiting: deque[Request] = field(default_factory=deque)
    running: dict[str, Running] = field(default_factory=dict)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.cache = Cache(self.rows)
        self.seen: dict[str, Tensor] = {}
        self.choice: tuple[tuple[int, ...], int, lora.Base | lora.Mixed] = ((), 0, lora.Base())

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: Request) -> None:
        """Put a request in line. Raises PromptTooLong."""
        room = self.model.context - len(request.prompt)
        if room < 1 or not request.prompt:
            raise PromptTooLong(
                f"the prompt has {len(request.prompt)} tokens; it must have 1 to {self.model.context - 1},"
                f" for the model's context is {self.model.context} tokens, the answer included"
            )
        assert request.max_tokens > 0
        assert request.id not in self.running and all(r.id != request.id for r in self.waiting), (
            "ids are unique"
        )
        self.waiting.append(request)

    @torch.inference_mode()  # the rows behind it move up in the cache
    def cancel(self, request_id: str) -> None:
        """Forget a request, wherever it is; its place is free at once."""
        self.waiting = deque(r for r in self.waiting if r.id != request_id)
        if request_id in self.running:
            self._leave(self.running[request_id])

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Admit, compute one chunk of a prompt, decode one token for every row that is ready."""
        out = self._admit()
        out += self._prefill()
        out += self._decode()
        return out

    def _admit(self) -> list[Token]:
        failed = []
        while self.waiting and len(self.running) < self.rows:
            request = self.waiting[0]
            if self.running and self._room_for(request) < 0:
                break
            try:
                slot = self.slots.pin(request.owner)
            except NoFreeSlot:
                break
            except (StoreError, BadAdapter, OSError) as error:  # fails its own request only
                failed.append(Token(request.id, -1, float("nan"), "error", error))
                self.waiting.popleft()
                continue
            self.waiting.popleft()
            self.running[request.id] = Running(request, self.cache.place(len(request.prompt)), slot)
            self.seen[request.id] = self._mark(request)
        return failed

    def _room_for(self, request: Request) -> int:
        """Tokens of the cache that would be left if every answer became as long as it may."""
        requests = [request, *(run.request for run in self.running.values())]
        return self.cache_tokens - sum(
            min(len(each.prompt) + each.max_tokens, self.model.context) for each in requests
        )

    def _mark(self, request: Request) -> Tensor:
        seen = torch.zeros(self.model.vocabulary, dtype=torch.bool, device=self.model.device)
        seen[torch.tensor(request.prompt, device=self.model.device)] = True
        return seen

    def _prefill(self) -> list[Token]:
        """Prompts in order of arrival, until CHUNK tokens are computed; a finished one yields its first token."""
        budget, out = CHUNK, []
        for run in [run for run in self.running.values() if not run.ready]:
            if budget <= 0:
                break
            # Chunks begin at multiples of CHUNK whatever else waits, so that the rounding is the prompt's own.
            part = run.request.prompt[run.prefilled : run.prefilled + CHUNK]
            budget -= len(part)
            ids = torch.tensor([part], device=self.model.device)
            positions = torch.arange(run.prefilled, run.prefilled + len(part), device=self.model.device)[None]
            past = Prefill(self.cache, run.row)
            states = self.model.states(ids, lora.Single(run.slot), positions, past)
            run.prefilled += len(part)
            run.row.length = run.prefilled
            if run.ready:
                out += self._emit([run], self.model.logits(states[:, -1]))
        return out

    def _decode(self) -> list[Token]:
        ready = {run.row: run for run in self.running.values() if run.ready and run.made}
        if not ready:
            return []
        for row in list(ready):
            self.cache.grow(row)
        past = Decode(self.cache, self.model.device)
        runs = [ready.get(row) if row is not None else None for row in past.rows]
        ids = torch.tensor([[run.last if run else 0] for run in runs], device=self.model.device)
        positions = torch.cat(past.at)[:, None]
        states = self.model.states(ids, self._choose(runs), positions, past)[:, 0]
        for run in ready.values():
            run.row.length += 1
        live = [i for i, run in enumerate(runs) if run]
        return self._emit([run for run in runs if run], self.model.logits(states)[live])

    def _choose(self, runs: list[Running | None]) -> lora.Base | lora.Mixed:
        slots = tuple(run.slot if run else 0 for run in runs)
        # A slot that was filled anew has the same number and other weights: `writes` tells.
        if (slots, self.slots.writes) != self.choice[:2]:
            rank = self.slots.shape.rank
            mixed = lora.Mixed(list(slots), rank, self.model.device) if any(slots) else lora.Base()
            self.choice = (slots, self.slots.writes, mixed)
        return self.choice[2]

    def _emit(self, runs: list[Running], logits: Tensor) -> list[Token]:
        """Draw a token for each of the runs from logits (B, V); rows that end leave."""
        samplings = [run.request.sampling for run in runs]
        draws = [uniform(run.request.sampling.seed, run.made) for run in runs]
        seen = torch.stack([self.seen[run.request.id] for run in runs])
        out = []
        for run, token, logprob in zip(runs, *draw(logits, samplings, draws, seen), strict=True):
            run.last, run.made = token, run.made + 1
            self.seen[run.request.id][token] = True
            finish = self._finish(run)
            out.append(Token(run.request.id, token, logprob, finish))
            if finish:
                self._leave(run)
        self.tokens += len(out)
        return out

    def _finish(self, run: Running) -> Literal["stop", "length"] | None:
        if run.last in self.model.eos_ids:
            return "stop"
        full = len(run.request.prompt) + run.made >= self.model.context
        return "length" if full or run.made >= run.request.max_tokens else None

    def _leave(self, run: Running) -> None:
        del self.running[run.request.id], self.seen[run.request.id]
        self.cache.remove(run.row)
        self.slots.unpin(run.request.owner)
