"""Which ratings shaped which versions, and so which versions a withdrawn rating ends.

Knows: what is in the manifests. Does not know: disk, the head, or what makes a rating stand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from adapters.errors import Overtaken, UnknownVersion
from adapters.versions import Candidate, Revision, Version

Stands = Callable[[str, int], bool]  # (message id, revision) → whether this rating still stands


def clean(version: Version, stands: Stands) -> bool:
    return all(stands(revision.message_id, revision.revision) for revision in version.trained_on)


def require_standing(trained_on: list[Revision], stands: Stands | None) -> None:
    """Raises `Overtaken` unless every rating stands, or nobody says which do."""
    if stands and not all(stands(revision.message_id, revision.revision) for revision in trained_on):
        raise Overtaken("a rating that the round learnt from no longer stands")


def shaped_by_fallen(versions: list[Version], stands: Stands) -> list[int]:
    """Those not yet retired that a rating shaped which no longer stands."""
    return [v.version for v in versions if v.state != "retired" and not clean(v, stands)]


def newest_but(versions: list[Version], fallen: Collection[int]) -> int:
    """Of those that may answer without having been asked for; 0 if there is none. `versions`: newest first."""
    return next((v.version for v in versions if v.may_step_in and v.version not in fallen), 0)


def with_ancestors(candidate: Candidate, versions: list[Version]) -> list[Revision]:
    """All that shaped it: what it was trained on, and what its parent was. Raises `UnknownVersion`."""
    if not candidate.parent:
        return sorted(set(candidate.trained_on))
    parents = [v for v in versions if v.version == candidate.parent]
    if not parents:
        raise UnknownVersion(f"there is no version {candidate.parent} to be the parent")
    return sorted({*candidate.trained_on, *parents[0].trained_on})
