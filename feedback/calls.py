"""What Redis can be asked: a script, and one call of it.

Knows what a call consists of. Does not know how it gets to Redis, or what is kept there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Script:
    """A Lua script. It must be right when it runs twice, and its first write must be one that a full server refuses."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Call(Generic[T]):
    """A script and what it is given. `meaning` makes the result of its reply, or raises what the reply reports.

    `durable`: the result counts only once what was written is on disk.
    """

    script: Script
    names: Sequence[str]
    args: Sequence[Any]
    meaning: Callable[[Any], T]
    durable: bool = True

    def result(self, reply: Any) -> T:
        """Of one of the replies of `Store.together`."""
        if isinstance(reply, Exception):
            raise reply
        return self.meaning(reply)
