"""What a chat request asks of the engine and the log, checked and with all defaults filled in.

Knows the request's fields, the model's chat template and which version is active. Does not know how answers are made,
kept or sent.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from jinja2 import TemplateError

from adapters.engine import Request
from adapters.model import BaseModel
from adapters.sampling import Sampling
from adapters.store import AdapterStore
from feedback.events import Message, new_message_id
from service.answers import Ask
from service.errors import ApiError
from service.schemas import ChatRequest
from service.settings import Settings

PERSONAL = "personal"


@dataclass(frozen=True)
class Plan:
    """Everything about the answers before the first token. One message a choice; all share prompt and version."""

    uid: str
    model: str
    version: int
    asks: list[Ask]
    messages: list[Message]
    streamed: bool

    @property
    def prompt_tokens(self) -> int:
        return len(self.asks[0].request.prompt)


class Planner:
    """Turns a request into a plan; blocks on the tokenizer and on one small file."""

    def __init__(self, settings: Settings, model: BaseModel, store: AdapterStore) -> None:
        self._settings = settings
        self._model = model
        self._store = store

    def plan(self, uid: str, body: ChatRequest) -> Plan:
        """Raises `ApiError` for what the service does not do, `UnknownUser` for one who was deleted."""
        self._check(body)
        messages = [message.plain() for message in body.messages]
        try:
            prompt = self._model.encode(messages)
        except TemplateError as error:  # some models' templates insist on an order of roles
            raise ApiError(
                400, "bad_messages", f"the model's chat template refuses these messages: {error}"
            ) from None
        model = body.model or PERSONAL
        version = self._store.head(uid).active if model == PERSONAL else 0
        seed = body.seed if body.seed is not None else secrets.randbits(53)
        made = [
            self._choice(uid, body, messages, prompt, model, version, choice_seed(seed, index))
            for index in range(body.n or 1)
        ]
        return Plan(uid, model, version, [ask for ask, _ in made], [m for _, m in made], bool(body.stream))

    def _check(self, body: ChatRequest) -> None:
        limits = self._settings
        choices = min(limits.max_choices, limits.rows + limits.max_waiting)  # no more can ever be taken on
        if (body.n or 1) > choices:
            raise ApiError(400, "invalid_value", f"n: at most {choices} choices", "n")
        asked = body.max_completion_tokens or body.max_tokens or 1
        if asked > limits.max_max_tokens:
            param = "max_completion_tokens" if body.max_completion_tokens else "max_tokens"
            raise ApiError(400, "invalid_value", f"{param}: at most {limits.max_max_tokens}", param)

    def _choice(
        self, uid: str, body: ChatRequest, messages: list[dict[str, str]], prompt: list[int],
        model: str, version: int, seed: int,
    ) -> tuple[Ask, Message]:  # fmt: skip
        defaults = self._settings
        temperature = defaults.temperature if body.temperature is None else body.temperature
        top_p = defaults.top_p if body.top_p is None else body.top_p
        max_tokens = body.max_completion_tokens or body.max_tokens or defaults.max_tokens
        message = Message(
            id=new_message_id(), created=int(time.time()), model=model, messages=messages, answer="",
            finish_reason=None, adapter_version=version, max_tokens=max_tokens, temperature=temperature,
            top_p=top_p, seed=seed,
        )  # fmt: skip
        sampling = Sampling(temperature, top_p, defaults.repetition_penalty, seed)
        return Ask(
            Request(message.id, prompt, (uid, version), max_tokens, sampling), uid, body.stops
        ), message


def choice_seed(seed: int, index: int) -> int:
    """The seed of choice `index`: the first has the request's own, so that n=1 and n=3 begin alike."""
    if index == 0:
        return seed
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11  # 53 bits: exact in JSON everywhere
