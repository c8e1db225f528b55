"""Which version answers, as a user's `head.json` says it, and what each change leaves of that.

Knows: the fields of the head, and that every change raises the epoch. Does not know: folders, locks, or who wants a
change and why.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.versions import RolledBack


@dataclass(frozen=True)
class Head:
    """What `head.json` says. `active`: 0 is the base model. `epoch` rises with everything that overtakes a round.

    `previous`: the version that answered before the active one was published; None once the active one is in its place
    for another reason (a rollback, a withdrawal, damage). `rolled_back`: who gave way by itself and is not taken again
    unless somebody asks for it.
    """

    active: int = 0
    epoch: int = 1
    next: int = 1  # the number of the next version; numbers are never used again
    retired: tuple[int, ...] = ()
    previous: int | None = None
    rolled_back: tuple[RolledBack, ...] = ()

    @staticmethod
    def from_json(data: bytes) -> Head:
        """Raises `ValueError`, `KeyError` or `TypeError` where it is no head."""
        record = json.loads(data)
        active, epoch, following = record["active"], record["epoch"], record["next"]
        retired, previous = tuple(record["retired"]), record.get("previous")  # none in the heads of before
        numbers = [active, epoch, following, *retired, *([] if previous is None else [previous])]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a number that is none")
        gave_way = tuple(RolledBack(**each) for each in record.get("rolled_back", []))
        return Head(active, epoch, following, retired, previous, gave_way)

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    def overtaken(self) -> Head:
        """The same versions, and whatever round is running is not published."""
        return dataclasses.replace(self, epoch=self.epoch + 1)

    def answering(self, version: int) -> Head:
        """This version answers, for another reason than that it was published just now."""
        return dataclasses.replace(self.overtaken(), active=version, previous=None)

    def chosen(self, version: int) -> Head:
        """Somebody asks for this version: that it once gave way by itself no longer counts."""
        others = tuple(each for each in self.rolled_back if each.version != version)
        return dataclasses.replace(self.answering(version), rolled_back=others)

    def published(self, version: int, fallen: Sequence[int], stand_in: int) -> Head:
        """A new version answers and `fallen` are retired. The one before it is the one that answered until now, or
        `stand_in` where that one has fallen."""
        before = stand_in if self.active in fallen else self.active
        after = dataclasses.replace(self.overtaken(), active=version, previous=before)
        return dataclasses.replace(after, retired=(*self.retired, *fallen))

    def without(self, fallen: Sequence[int], stand_in: int) -> Head:
        """`fallen` are retired; `stand_in` answers if the active one is among them."""
        after = self.answering(stand_in) if self.active in fallen else self.overtaken()
        if after.previous in fallen:  # nothing is left that the active one could be compared with
            after = dataclasses.replace(after, previous=None)
        return dataclasses.replace(after, retired=(*self.retired, *fallen))

    def fallen_back(self, why: str, at: int) -> Head:
        """The previous version answers again, by itself. `at`: Unix seconds."""
        assert self.previous is not None
        left = RolledBack(self.active, self.previous, at, why)
        return dataclasses.replace(self.answering(self.previous), rolled_back=(*self.rolled_back, left))
