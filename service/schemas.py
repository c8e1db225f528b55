"""The bodies that callers send: their fields, types and limits, with examples for OpenAPI.

Knows what a body may hold. Does not know what is done with it, and nothing of Redis, the model or the
settings: limits that are settings are checked in the routes. Types are strict: "5" is no number.
In a chat, fields that nobody here knows are ignored, as OpenAI's clients send many; in all other bodies
an unknown field is an error, as it is most likely a slip of the pen.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator


def _clean(text: str) -> str:
    """Refuses control characters and half surrogate pairs; newline, carriage return and tab are text."""
    for place, character in enumerate(text):
        if character not in "\n\r\t" and unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(
                f"holds the control character U+{ord(character):04X} at {place}; send plain text"
            )
    return text


def _one_line(text: str) -> str:
    """Refuses line breaks, other unprintable characters and spaces around."""
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable characters, without spaces around them")
    return text


def _user_id(text: str) -> str:
    """Refuses what could not be called again as /v1/users/{id}."""
    if "/" in text or text in (".", ".."):
        raise ValueError('must not hold "/" nor be "." or ".."')
    return text


Text = Annotated[str, AfterValidator(_clean)]
Line = Annotated[str, AfterValidator(_one_line)]
UserId = Annotated[Line, Field(min_length=1, max_length=128), AfterValidator(_user_id)]
MessageId = Annotated[Line, Field(min_length=1, max_length=64)]


class Body(BaseModel):
    """A body of ours: strict types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")


class NewUser(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "ada"}]})

    id: UserId | None = None


class Rating(Body):
    """What a user says of an answer. It teaches by its rating and its `correction`, the answer that the user would have
    wanted; `tags` and `comment` are kept and shown, and nothing is learnt from them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"rating": "up", "tags": ["short"], "comment": "Just what I needed."}]
        }
    )

    rating: Literal["up", "down"]
    tags: list[Annotated[Line, Field(min_length=1)]] | None = None
    comment: Text | None = None
    correction: Text | None = None


class RatingOf(Rating):
    """The same for clients that cannot PUT."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"message_id": "msg_0199f3a2c4d1b7e6", "rating": "down"}]}
    )

    message_id: MessageId


class Rollback(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 3}]})

    version: Annotated[int, Field(ge=0, le=2**53)]


class Reset(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"forget_feedback": True}]})

    forget_feedback: bool = False


# Chat: OpenAI's chat completions.


class Part(BaseModel):
    """One part of a message's content; only text is understood."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: Text


def _kind(value: Any) -> str:
    return "(list)" if isinstance(value, list) else "(string)"


# Tags in brackets, so that the error table can leave them out of a field's name.
Content = Annotated[
    Annotated[Text, Tag("(string)")] | Annotated[list[Part], Field(min_length=1), Tag("(list)")],
    Discriminator(_kind),
]
OneStop = Annotated[str, Field(min_length=1, max_length=1000)]
Stop = Annotated[
    Annotated[OneStop, Tag("(string)")] | Annotated[list[OneStop], Field(max_length=16), Tag("(list)")],
    Discriminator(_kind),
]


class ChatMessage(BaseModel):
    """One turn of the conversation so far."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    def plain(self) -> dict[str, str]:
        """As the chat template takes it; `developer` is OpenAI's newer name of `system`."""
        content = self.content
        return {
            "role": "system" if self.role == "developer" else self.role,
            "content": content if isinstance(content, str) else "".join(part.text for part in content),
        }


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True)

    include_usage: bool | None = None


# What would change the answer and is not offered, with the values that ask for nothing.
_NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"], []),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


class ChatRequest(BaseModel):
    """A chat completion. What is left out (or null) gets the service's default."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "personal",
                    "messages": [{"role": "user", "content": "How do I make good coffee?"}],
                    "max_tokens": 160,
                    "stream": False,
                }
            ]
        },
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    model: Literal["personal", "base"] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _offered(cls, body: Any) -> Any:
        """Refuses what is not offered here but would change the answer; a harmless value of it passes."""
        if isinstance(body, dict):
            for name, harmless in _NOT_OFFERED.items():
                value = body.get(name)
                if value is not None and not any(_same(value, each) for each in harmless):
                    raise ValueError(f"{name} is not offered by this service; leave it out")
        return body

    @property
    def stops(self) -> list[str]:
        """The stop strings, none when nothing was asked."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop


def _same(value: Any, harmless: Any) -> bool:
    """Equal, and a boolean only equals a boolean."""
    return value == harmless and isinstance(value, bool) == isinstance(harmless, bool)
