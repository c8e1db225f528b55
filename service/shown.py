"""How records look to callers: the fields that the contract names, and what is known beside them.

Knows the records of the layers below and the contract's names. Does not know where the records come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from adapters.store import Version
from adapters.versions import RolledBack
from feedback.events import Feedback, Message, Round

# What metrics hold at least; null where a version or round has no such number.
METRICS = (
    "thumbs", "reward_before", "reward_after", "reward_model_auroc", "kl", "kl_per_token", "entropy", "seconds",
    "approx_kl", "clipfrac", "policy_loss", "value_loss", "explained_variance",
)  # fmt: skip


def message_shown(message: Message, feedback: Feedback | None) -> dict[str, Any]:
    """A message with what was said of it."""
    return {**message.to_json(), "feedback": feedback and feedback_shown(feedback)}


def feedback_shown(feedback: Feedback) -> dict[str, Any]:
    """A rating as it stands."""
    return {**vars(feedback)}


def round_shown(round: Round, rolled_back: Sequence[RolledBack] = ()) -> dict[str, Any]:
    """A round and how far it is; the `reason` of one whose version gave way again by itself is why that was."""
    shown = {**round.to_json(), "metrics": _metrics(round.metrics)}
    for each in rolled_back:
        if each.version == round.version:
            shown["reason"] = f"rolled back to version {each.to}: {each.why}"
    return shown


def version_shown(version: Version) -> dict[str, Any]:
    """A version and what it was made from."""
    return {**dataclasses.asdict(version), "metrics": _metrics(version.metrics)}


def _metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(METRICS), **metrics}
