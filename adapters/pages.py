"""Which page of the cache holds whose past, and which pasts need not be computed again.

Knows page numbers, owners and tokens; knows nothing of tensors. A finished row's full pages are remembered under their
owner, a user AND a version, and their tokens: the next prompt of that owner that begins with the same tokens begins
with these pages. They are the first to go when pages run short, oldest use first, and nothing of a user is found
again after `forget`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from adapters.native import PAGE
from adapters.slots import Owner

# Whose, after which remembered page (0: none), and the page's tokens
Key = tuple[Owner, int, tuple[int, ...]]


@dataclass(frozen=True)
class Remembered:
    """`serial` names what the page holds and is never used again, as the page's own number is."""

    page: int
    serial: int


class Pages:
    """`count` pages; at most `idle` of them remember what no row uses. What becomes free goes through `wipe` first."""

    def __init__(self, count: int, idle: int, wipe: Callable[[int], None]) -> None:
        self.wipe = wipe
        self.free = list(range(count - 1, -1, -1))
        self.uses = [0] * count
        self.most_idle = idle
        self.known: dict[Key, Remembered] = {}
        self.keys: dict[int, Key] = {}  # of remembered pages
        self.idle: OrderedDict[Key, None] = OrderedDict()  # oldest use first
        self.serial = 0

    def take(self) -> int:
        """A page to write to."""
        if not self.free:
            assert self.idle, "the engine admits no more tokens than there are pages"
            self._drop(next(iter(self.idle)))
        page = self.free.pop()
        self.uses[page] = 1
        return page

    def find(self, owner: Owner | None, ids: list[int]) -> list[int]:
        """Remembered pages that the tokens begin with, now in use; at least one token is left to compute."""
        pages: list[int] = []
        after = 0
        while owner and (len(pages) + 1) * PAGE < len(ids):
            key = (owner, after, tuple(ids[len(pages) * PAGE : (len(pages) + 1) * PAGE]))
            if key not in self.known:
                break
            held = self.known[key]
            self.uses[held.page] += 1
            self.idle.pop(key, None)
            pages.append(held.page)
            after = held.serial
        return pages

    def leave(self, owner: Owner | None, ids: list[int], pages: list[int]) -> None:
        """A row that held `ids` ends: its full pages are remembered, unless they are already."""
        after = 0
        for number, page in enumerate(pages):
            part = tuple(ids[number * PAGE : (number + 1) * PAGE])
            if owner and len(part) == PAGE:
                key = (owner, after, part)
                if key not in self.known:
                    self.serial += 1
                    self.known[key] = Remembered(page, self.serial)
                    self.keys[page] = key
                after = self.known[key].serial
        for page in reversed(pages):  # the end goes first: without its beginning nothing is found
            self._release(page)

    def forget(self, uid: str) -> None:
        """Nothing of a user's is found any more."""
        for key in [key for key in self.known if key[0][0] == uid]:
            self._drop(key)

    def _release(self, page: int) -> None:
        self.uses[page] -= 1
        if self.uses[page]:
            return
        if page not in self.keys:
            self._free(page)
            return
        self.idle[self.keys[page]] = None
        if len(self.idle) > self.most_idle:
            self._drop(next(iter(self.idle)))

    def _drop(self, key: Key) -> None:
        page = self.known.pop(key).page
        del self.keys[page]
        if key in self.idle:
            del self.idle[key]
            self._free(page)

    def _free(self, page: int) -> None:
        self.wipe(page)
        self.free.append(page)
