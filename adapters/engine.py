"""Continuous batching: rows of different users, each with its own adapter version, decode in one batch.

Knows requests, rows and tokens; knows nothing of text, HTTP or what an answer is good for. `step()` tells the story:
admit who waits; in one pass, one token of every row that decodes and a chunk of the prompts; draw. Rows join and leave
at every token.

A row's numbers do not depend on its company: paged.py and shelved.py see to that, each in its way. One thread owns an
engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import nan
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from adapters.adapter import BadAdapter
from adapters.errors import StoreError
from adapters.model import BaseModel
from adapters.paged import Paged
from adapters.sampling import Drawn, Sampling, uniform
from adapters.shelved import Shelved
from adapters.slots import NoFreeSlot, Owner, Slots


class PromptTooLong(ValueError):
    """The prompt leaves no room for an answer."""


@dataclass(frozen=True)
class Request:
    """One answer wanted. `owner`: a user and a version, 0 for the base model; None is the base model for nobody, whose
    past is not remembered. `max_tokens` > 0 counts the end token."""

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
    logprob: float  # nats, of the model's own distribution; NaN where the draw was from an altered one
    entropy: float  # nats, of that distribution
    finish: Literal["stop", "length", "error"] | None = None
    error: Exception | None = None


@dataclass(eq=False)
class Running:
    """A request that has a row and a slot."""

    request: Request
    row: Any  # of the engine's past
    slot: int
    last: int = -1
    made: int = 0


Part = tuple[Any, list[int], int]  # a row, its next tokens, its slot


class Past(Protocol):
    """The rows' keys and values, and the passes over them: paged.py on the kernels, shelved.py for any decoder."""

    def place(self, owner: Owner | None, prompt: list[int]) -> Any: ...
    def remove(self, row: Any) -> None: ...
    def forget(self, uid: str) -> None: ...
    def budget(self, beside_others: bool) -> int: ...
    def chunk(self, left: int) -> int: ...
    def compute(self, answers: Sequence[Part], prompts: Sequence[Part]) -> Tensor: ...
    def draw(
        self, logits: Tensor, samplings: list[Sampling], draws: list[float], seen: list[Tensor]
    ) -> Drawn: ...


@dataclass
class Engine:
    """See the module. `rows` answers at once, and together at most `cache_tokens` tokens of prompts and answers (a
    longer one runs alone); further ones wait in line. `patient`: nobody waits for single tokens, so prompts need not
    make way for them."""

    model: BaseModel
    slots: Slots
    rows: int = 32
    cache_tokens: int = 65_536
    patient: bool = False
    waiting: deque[Request] = field(default_factory=deque)
    running: dict[str, Running] = field(default_factory=dict)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.past: Past = (
            Shelved(self.model, self.slots, self.rows)
            if self.model.native is None
            else Paged(self.model.native, self.slots, self.rows, self.cache_tokens)
        )
        self.seen: dict[str, Tensor] = {}

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

    def forget(self, uid: str) -> None:
        """Nothing of a user's is kept: no past conversation, no adapter."""
        self.past.forget(uid)
        self.slots.forget(uid)

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Admit; one more token of every row that decodes and a chunk of the prompts, in one pass; draw."""
        failed = self._admit()
        answers = [run for run in self.running.values() if run.made]
        prompts = self._prompts(beside_others=bool(answers) and not self.patient)
        if not (answers or prompts):
            return failed
        logits = self.past.compute(
            [(run.row, [run.last], run.slot) for run in answers],
            [(run.row, part, run.slot) for run, part in prompts],
        )
        runs = answers + [run for run, _ in prompts]
        if runs[-1].row.length < len(runs[-1].request.prompt):  # only the last prompt is cut off
            runs.pop()
        return failed + self._emit(runs, logits[: len(runs)])

    def _admit(self) -> list[Token]:
        """Requests in order of arrival, while there is room; beside rows that decode, a step loads one adapter at
        most, and waits for none that is still being fetched."""
        failed = []
        loaded, beside_others = self.slots.writes, any(run.made for run in self.running.values())
        self.slots.expect(request.owner for request in islice(self.waiting, self.rows))
        while self.waiting and len(self.running) < self.rows:
            request = self.waiting[0]
            at_hand = self.slots.ready if self.slots.writes == loaded else self.slots.holds
            if beside_others and not at_hand(request.owner):
                break
            if self.running and self._room_for(request) < 0:
                break
            # What may fail for want of memory comes before what would have to be undone.
            seen = self._mark(request)
            try:
                slot = self.slots.pin(request.owner)
            except NoFreeSlot:
                break
            except (StoreError, BadAdapter, OSError) as error:  # fails its own request only
                failed.append(Token(request.id, -1, nan, nan, "error", error))
                self.waiting.popleft()
                continue
            self.waiting.popleft()
            self.running[request.id] = Running(request, self.past.place(request.owner, request.prompt), slot)
            self.seen[request.id] = seen
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

    def _prompts(self, beside_others: bool) -> list[tuple[Running, list[int]]]:
        """The next tokens of prompts in order of arrival, as many as one pass is to compute."""
        left = self.past.budget(beside_others)
        parts = []
        for run in [run for run in self.running.values() if not run.made]:
            if left <= 0:
                break
            start = run.row.length
            part = run.request.prompt[start : start + self.past.chunk(left)]
            parts.append((run, part))
            left -= len(part)
        return parts

    def _emit(self, runs: list[Running], logits: Tensor) -> list[Token]:
        """Draw a token for each of the runs from logits (B, V); rows that end leave."""
        if not runs:
            return []
        samplings = [run.request.sampling for run in runs]
        draws = [uniform(run.request.sampling.seed, run.made) for run in runs]
        seen = [self.seen[run.request.id] for run in runs]
        out = []
        drawn = self.past.draw(logits, samplings, draws, seen)
        for run, token, logprob, entropy in zip(runs, *drawn, strict=True):
            run.last, run.made = token, run.made + 1
            self.seen[run.request.id][token] = True
            finish = self._finish(run)
            out.append(Token(run.request.id, token, logprob, entropy, finish))
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
        self.past.remove(run.row)
        self.slots.unpin(run.request.owner)
