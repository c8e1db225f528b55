"""Every setting of the service: its name, meaning, default, unit and range.

Knows the environment, and is the only module that does: each field of `Settings` is read from
`THUMBTUNE_<FIELD>`. Does not know what anybody does with a value. A bad value is a `BadSetting` whose
message names the variable, what was given and what would be right.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

PREFIX = "THUMBTUNE_"
DATA = Path("~/.local/share/thumbtune")
MOST_ALPHA = 16.0  # times the rank: what an adapter's file may have (adapters/adapter.py, slow to import)


class BadSetting(ValueError):
    """A THUMBTUNE_* variable holds what it cannot hold."""


@dataclass(frozen=True)
class Described:
    """One line of `thumbtune settings`; `secret` values are never shown."""

    variable: str
    meaning: str
    default: str
    unit: str
    range: str
    value: str


def _setting(
    default: Any,
    meaning: str,
    unit: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    starts: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field with what `Settings.read` checks and `Settings.describe` shows."""
    metadata = {
        "meaning": meaning, "unit": unit, "low": low, "high": high,
        "choices": choices, "starts": starts, "secret": secret,
    }  # fmt: skip
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True)
class Settings:
    """All settings, checked. `Settings.read()` takes them from the environment."""

    # where things are
    data: Path = _setting(DATA, "the data folder", "path")  # noqa: RUF009 - a field, like all the others
    host: str = _setting("127.0.0.1", "address that the API listens on", "address")
    port: int = _setting(8000, "port that the API listens on", "port", low=1, high=65535)
    redis_url: str | None = _setting(
        None, "Redis to use; unset: `serve` starts one of its own in the data folder", "URL",
        starts=("redis://", "rediss://", "unix://"), secret=True,
    )  # fmt: skip
    admin_key: str | None = _setting(
        None, "the operator's key; unset: made at first start and kept in the data folder", "text",
        low=1, high=256, secret=True,
    )  # fmt: skip
    log_level: str = _setting(
        "info", "least serious message that is logged", choices=("debug", "info", "warning", "error")
    )

    # the base model
    model: str | None = _setting(
        None,
        "the base model: a hub name, a folder or a GGUF file; unset: the embedded SmolLM2-135M-Instruct",
        "name",
    )
    toxicity_model: str | None = _setting(
        None,
        "what judges toxicity: a hub name or a folder of a sequence classifier; unset: the packaged one",
        "name",
    )
    device: str = _setting("auto", "where the model runs: `auto`, `cpu`, `cuda`, `cuda:1`...", "device")
    dtype: str = _setting(
        "auto", "number format of the linear layers", choices=("auto", "float32", "bfloat16")
    )
    threads: int = _setting(
        0, "processor threads a process; 0: PyTorch's own choice", "threads", low=0, high=1024
    )

    # the adapters
    rank: int = _setting(8, "rank R of every user's LoRA", "dimensions", low=1, high=256)
    alpha: float = _setting(
        16.0, "LoRA's alpha; the update is scaled by alpha / rank", "factor", low=0.001, high=4096
    )
    keep: int = _setting(
        10, "adapter versions kept a user; older ones are pruned", "versions", low=1, high=1000
    )
    slots: int = _setting(48, "adapters held in memory at once", "slots", low=2, high=4096)
    max_import: int = _setting(
        64 * 2**20,
        "largest adapter archive that is taken in; what it may unpack to follows from the rank",
        "bytes",
        low=1024,
        high=2**34,
    )

    # chat
    rows: int = _setting(32, "answers that are decoded at once", "answers", low=1, high=1024)
    cache_tokens: int = _setting(
        65_536, "tokens of prompts and answers that the rows hold together", "tokens", low=1, high=2**40
    )
    max_waiting: int = _setting(
        64, "answers that may wait for a row; more get 429", "answers", low=0, high=100_000
    )
    max_tokens: int = _setting(
        160, "an answer's length when the caller names none", "tokens", low=1, high=100_000
    )
    max_max_tokens: int = _setting(
        4096, "largest max_tokens a caller may ask for", "tokens", low=1, high=1_000_000
    )
    temperature: float = _setting(0.7, "temperature when the caller names none", "", low=0, high=2)
    top_p: float = _setting(0.9, "top_p when the caller names none", "probability", low=0.001, high=1)
    repetition_penalty: float = _setting(
        1.1, "divides the logits of tokens already seen", "factor", low=1, high=2
    )
    max_choices: int = _setting(8, "largest n, the choices of one chat", "choices", low=1, high=128)
    grace: float = _setting(
        20.0, "time that running answers get to finish when the service stops", "seconds", low=0, high=3600
    )

    # what a caller may send
    max_body: int = _setting(
        2**20, "largest request body (an adapter archive has its own limit)", "bytes", low=1024, high=2**30
    )
    max_comment: int = _setting(10_000, "longest comment", "characters", low=1, high=1_000_000)
    max_correction: int = _setting(20_000, "longest correction", "characters", low=1, high=1_000_000)
    max_tags: int = _setting(32, "most tags on one rating", "tags", low=0, high=1000)
    max_tag: int = _setting(64, "longest tag", "characters", low=1, high=1000)

    # learning
    round_new: int = _setting(8, "new ratings that start a round at once", "ratings", low=1, high=10_000)
    round_few: int = _setting(
        3, "new ratings that start a round after a quiet time", "ratings", low=1, high=10_000
    )
    round_quiet: float = _setting(
        60.0, "that quiet time since the last rating", "seconds", low=0, high=86_400
    )
    round_attempts: int = _setting(
        3, "failures in a row after which a user's ratings are set aside", "rounds", low=1, high=100
    )

    nice: int = _setting(10, "how far a trainer's process steps back behind chat", "niceness", low=0, high=19)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings in `environ`, defaults where it names none (or names it empty). `BadSetting` if one is bad."""
        hints = get_type_hints(cls)
        given = {}
        for each in fields(cls):
            text = environ.get(PREFIX + each.name.upper(), "").strip()
            if text:
                given[each.name] = _parse(each.name, text, hints[each.name], each.metadata)
        settings = cls(**given)
        if settings.alpha > MOST_ALPHA * settings.rank:
            most = f"{MOST_ALPHA:g} × {PREFIX}RANK, here {MOST_ALPHA * settings.rank:g}"
            raise BadSetting(f"{PREFIX}ALPHA must be at most {most}, not {settings.alpha:g}")
        if not (settings.admin_key or "").isascii():
            raise BadSetting(
                f"{PREFIX}ADMIN_KEY must hold ASCII characters only: it goes into a call's headers"
            )
        return settings

    @classmethod
    def variables(cls) -> list[str]:
        """The name of every variable that is read."""
        return [PREFIX + each.name.upper() for each in fields(cls)]

    @property
    def folder(self) -> Path:
        """The data folder as an absolute path."""
        return self.data.expanduser().absolute()

    def describe(self) -> list[Described]:
        """Every setting with its meaning, default, unit, range and present value."""
        return [
            Described(
                PREFIX + each.name.upper(),
                each.metadata["meaning"],
                _shown(each.default, secret=False),
                each.metadata["unit"],
                _range(each.metadata, textual=isinstance(each.default, str | None)),
                _shown(getattr(self, each.name), each.metadata["secret"]),
            )
            for each in fields(self)
        ]


def part_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a part that `serve` starts.

    OpenMP's threads sleep where they wait. API and trainer share the processor's cores, and threads that spin until
    another process lets their partner on make both of them tens of times slower.
    """
    return {"OMP_WAIT_POLICY": "passive", **environ}


def _parse(name: str, text: str, kind: Any, checks: Mapping[str, Any]) -> Any:
    """`text` as a value of type `kind` that passes `checks`."""
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]  # `str | None`: a variable that is set is never None
    variable = PREFIX + name.upper()
    shown = "what was given" if checks["secret"] else repr(text)
    try:
        value = kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise BadSetting(f"{variable} must be {what}{_within(checks)}, not {shown}") from None
    size = len(value) if kind is str else value
    low, high = checks["low"], checks["high"]
    if (low is not None and not size >= low) or (high is not None and not size <= high):
        raise BadSetting(f"{variable} must be {_range(checks, kind is str)}, not {shown}")
    if checks["choices"] and value not in checks["choices"]:
        raise BadSetting(f"{variable} must be {_range(checks, True)}, not {shown}")
    if checks["starts"] and not value.startswith(checks["starts"]):
        raise BadSetting(f"{variable} must be {_range(checks, True)}, not {shown}")
    if isinstance(value, str) and not value.isprintable():
        raise BadSetting(f"{variable} must hold printable characters only")
    return value


def _within(checks: Mapping[str, Any]) -> str:
    return f" ({_range(checks, False)})" if checks["low"] is not None else ""


def _range(checks: Mapping[str, Any], textual: bool) -> str:
    """The range in words, empty when anything goes."""
    if checks["choices"]:
        return "one of " + ", ".join(checks["choices"])
    if checks["starts"]:
        return "a URL that begins " + " or ".join(checks["starts"])
    if checks["low"] is None:
        return ""
    span = f"{_number(checks['low'])} to {_number(checks['high'])}"
    return f"{span} characters long" if textual else span


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _shown(value: Any, secret: bool) -> str:
    if value is None:
        return "(unset)"
    return "(set)" if secret else str(value)
