"""Which (user, version) sits in which slot of the stacked layers.

Knows slots, pins and what was used last; knows nothing of rows, prompts or files: `fetching.py` brings adapters.
Slot 0 is the base model and never given away. A slot's key is a user AND a version, so that a newly published version
never answers with the weights of the one before it: what is in a slot never changes while the key stands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice

from torch import Tensor

from adapters.adapter import Adapter, BadAdapter, LoraShape
from adapters.arena import arena
from adapters.fetching import Fetching
from adapters.model import BaseModel

Owner = tuple[str, int]  # (uid, version)

AHEAD = 2  # adapters fetched before their rows are free: one a step is loaded beside others, and each takes memory


class NoFreeSlot(Exception):
    """Every slot is in use by a row; try again when one has ended."""


class Slots:
    """Least recently used adapters leave first; those that a row uses are pinned and stay."""

    def __init__(
        self, model: BaseModel, shape: LoraShape, load: Callable[[str, int], Adapter], count: int
    ) -> None:
        """`load(uid, version)` gives an adapter or raises; `count` slots beside slot 0."""
        self.model = model
        self.shape = shape
        self.fetching = Fetching(load)
        self.free = list(range(count, 0, -1))
        self.held: OrderedDict[Owner, int] = OrderedDict()  # oldest use first
        self.pins: dict[Owner, int] = {}
        self.writes = 0  # raised whenever any slot's weights change
        # Where the kernels run, all slots lie in one piece, (S, numbers); else each layer stacks its own.
        self.stack: Tensor | None = None
        if model.native is not None:
            self.stack = arena(count, model.native.adapter_size(shape.rank))
            return
        for layer in model.layers.values():
            layer.stack(count, shape.rank)

    def holds(self, owner: Owner | None) -> bool:
        """Whether `owner` needs no loading."""
        return owner is None or owner[1] == 0 or owner in self.held

    def ready(self, owner: Owner | None) -> bool:
        """Whether `pin` need not wait for the disk."""
        return self.holds(owner) or (owner is not None and self.fetching.done(owner))

    def expect(self, owners: Iterable[Owner | None]) -> None:
        """Fetch the first few that no slot holds; `owners`: of whom will be pinned next, in this order."""
        missing = dict.fromkeys(owner for owner in owners if owner is not None and not self.holds(owner))
        self.fetching.expect(list(islice(missing, AHEAD)))

    def pin(self, owner: Owner | None) -> int:
        """The slot that holds `owner` (version 0 or None: the base model), kept in place until `unpin`.

        Raises NoFreeSlot, or what `load` raises for an adapter that is not there.
        """
        if owner is None or owner[1] == 0:
            return 0
        if not self.holds(owner):
            self._fill(owner)
        self.held.move_to_end(owner)
        self.pins[owner] = self.pins.get(owner, 0) + 1
        return self.held[owner]

    def unpin(self, owner: Owner | None) -> None:
        """One row less uses `owner`."""
        if owner is None or owner[1] == 0:
            return
        self.pins[owner] -= 1
        if not self.pins[owner]:
            del self.pins[owner]

    def forget(self, uid: str) -> None:
        """A user's adapters leave their slots, and nothing fetched is kept; those that a row uses stay until others
        need the room."""
        self.fetching.forget(uid)
        for owner in [owner for owner in self.held if owner[0] == uid and owner not in self.pins]:
            self._clear(self.held.pop(owner))

    def put(self, owner: Owner, adapter: Adapter) -> None:
        """Fill (or refill) the slot of an owner that lives in memory only, such as a policy in training."""
        self._check(adapter)
        self._write(owner, adapter, self.held.pop(owner, 0) or self._vacate())

    def _fill(self, owner: Owner) -> None:
        if not self.free and all(other in self.pins for other in self.held):
            raise NoFreeSlot
        adapter = self.fetching.take(owner)  # may raise, and so may the check: nothing has left its slot yet
        self._check(adapter)
        self._write(owner, adapter, self._vacate())

    def _vacate(self) -> int:
        if self.free:
            return self.free.pop()
        for owner in self.held:
            if owner not in self.pins:
                return self.held.pop(owner)
        raise NoFreeSlot

    def _check(self, adapter: Adapter) -> None:
        if (adapter.shape.rank, adapter.shape.modules) != (self.shape.rank, self.shape.modules):
            raise BadAdapter(
                f"the adapter has rank {adapter.shape.rank} on {len(adapter.shape.modules)} layers, the slots have"
                f" rank {self.shape.rank} on {len(self.shape.modules)}: was THUMBTUNE_RANK changed?"
            )

    def _write(self, owner: Owner, adapter: Adapter, slot: int) -> None:
        """The slot is the owner's once it is whole; one that could not be written is free again."""
        self.writes += 1
        try:
            self._copy(adapter, slot)
        except BaseException:
            self._clear(slot)
            raise
        self.held[owner] = slot

    def _copy(self, adapter: Adapter, slot: int) -> None:
        if self.stack is not None:
            assert self.model.native is not None
            self.model.native.pack(adapter, self.stack[slot - 1])
            return
        for name, (a, b) in adapter.weights.items():
            self.model.layers[name].put(slot, a, b, adapter.shape.scale)

    def _clear(self, slot: int) -> None:
        """The slot is free, and nothing of an adapter is left in it."""
        self.free.append(slot)
        self.writes += 1
        if self.stack is not None:
            self.stack[slot - 1].zero_()
            return
        for layer in self.model.layers.values():
            layer.clear(slot)
