"""Adapters on their way from disk: read and checked by a thread of their own, while rows decode.

Knows who has been asked for, and what has come of it; knows nothing of slots, rows or files. Reading a file and taking
its digest leave Python to others, so that the engine's thread goes on meanwhile and only fills the slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from adapters.adapter import Adapter


class Fetching:
    """What was asked for stays until it is taken, or not asked for any more. One thread owns this object."""

    def __init__(self, load: Callable[[str, int], Adapter]) -> None:
        """`load(uid, version)` gives an adapter or raises; it is called on another thread."""
        self.load = load
        self.coming: dict[tuple[str, int], Future[Adapter]] = {}
        # It starts with the first wish, and ends with this object. Only one: the cores belong to the rows that decode.
        self.thread = ThreadPoolExecutor(1, "fetching")

    def expect(self, owners: Sequence[tuple[str, int]]) -> None:
        """Fetch these, in this order; what else was fetched is dropped."""
        self._drop(self.coming.keys() - set(owners))
        for owner in owners:
            if owner not in self.coming:
                self.coming[owner] = self.thread.submit(self.load, *owner)

    def done(self, owner: tuple[str, int]) -> bool:
        """Whether `take` need not wait."""
        return owner in self.coming and self.coming[owner].done()

    def take(self, owner: tuple[str, int]) -> Adapter:
        """The adapter, waited for; raises what `load` raises. It has to be asked for anew afterwards."""
        fetched = self.coming.pop(owner, None)
        return self.load(*owner) if fetched is None else fetched.result()

    def forget(self, uid: str) -> None:
        """Nothing of a user's is kept; what is just being read goes as soon as it has been."""
        self._drop([owner for owner in self.coming if owner[0] == uid])

    def _drop(self, owners: Iterable[tuple[str, int]]) -> None:
        for owner in owners:
            self.coming.pop(owner).cancel()
