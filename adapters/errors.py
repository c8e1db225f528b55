"""What the adapter store refuses.

Knows the errors' names and what each means; the service gives each its status.

    StoreError
    ├── UnknownUser
    ├── UnknownVersion      never made, pruned, or retired where weights are asked for
    │   └── DamagedVersion  found damaged just now; the head already names the newest good one
    ├── NotKept             to roll back to a held or retired version
    ├── Overtaken           the epoch has risen since the round began: nothing was published
    ├── OtherBase           the data folder belongs to another base model
    └── StoreFull           the disk takes no more: nothing has changed
"""


class StoreError(Exception):
    """Something that the store was asked for cannot be."""


class UnknownUser(StoreError):
    """No such user, or no longer."""


class UnknownVersion(StoreError):
    """The user has no such version, or its weights are gone."""


class DamagedVersion(UnknownVersion):
    """The version was just found damaged and set aside; the head names the newest good one by now."""


class NotKept(StoreError):
    """A held or retired version can not be rolled back to."""


class Overtaken(StoreError):
    """Something happened since the round began that makes its result void."""


class OtherBase(StoreError):
    """The adapters in this folder belong to another base model."""


class StoreFull(StoreError):
    """The disk took no more (full, over quota, or past the largest file size): nothing has changed."""
