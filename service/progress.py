"""Is it learning? What a person is told of it: how far the thumbs are understood, and what each version made of them.

Knows the records of versions and ratings, and words for their numbers. Does not know HTTP, or where records come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.store import Version
from feedback.beliefs import LEAST_THUMBS, describe, too_early
from feedback.ratings import Counts
from feedback.watch import Thumbs

SHOWN = (
    "thumbs", "reward_before", "reward_after", "reward_change_low", "reward_change_high", "reward_model_auroc", "kl",
)  # fmt: skip


def understood(counts: Counts, versions: Sequence[Version]) -> dict[str, Any]:
    """The newest reward model: held-out AUROC, and in words how far it is to be trusted and what it takes the person
    to like. `versions`: newest first. A held one counts, for its reward model is as good as another's; none counts that
    a withdrawn rating shaped."""
    newest = next((each for each in versions if each.parent is not None and each.state != "retired"), None)
    metrics = newest.metrics if newest else {}
    auroc = metrics.get("reward_model_auroc")
    thumbs = counts.up + counts.down
    likes = metrics.get("likes", []) if thumbs >= LEAST_THUMBS else []
    if newest is None and thumbs >= LEAST_THUMBS:
        says = f"nothing is learnt yet from these {thumbs} thumbs"
    else:
        interval = metrics.get("reward_model_auroc_interval")
        says = describe(counts.up, counts.down, metrics.get("corrections", 0), auroc, interval)
    if likes:
        says += f"; it takes you to like {', '.join(each['says'] for each in likes)}"
    return {"thumbs": counts.standing, "auroc": auroc, "says": says, "likes": likes}


def learnt(versions: Sequence[Version]) -> list[dict[str, Any]]:
    """What each version that was learnt gained on held-out prompts, oldest first; null where it was not measured. One
    that was brought in is told of where it gave way by itself."""
    return [
        {
            "version": each.version,
            "created": each.created,
            "state": each.state,
            "rolled_back": each.rolled_back,
            **{name: each.metrics.get(name) for name in SHOWN},
            "says": "brought in, not learnt here" if each.parent is None else gained(each.metrics),
        }
        for each in reversed(versions)
        if each.parent is not None or each.rolled_back
    ]


def gained(metrics: dict[str, Any]) -> str:
    """In words, whether a version is better than the one before it, as far as its round could tell."""
    thumbs = metrics.get("thumbs") or 0
    low, high = metrics.get("reward_change_low"), metrics.get("reward_change_high")
    if thumbs < LEAST_THUMBS:
        return too_early(thumbs)
    if low is None or high is None:
        return "its gain was not measured"
    interval = f"its held-out reward changed by {low:+.2f} to {high:+.2f} (95 % interval)"
    if metrics.get("stepped_back"):
        interval += "; you would have liked the base model's answers better by then, so it began again there"
    if low > 0:
        return f"better: {interval}"
    return f"worse: {interval}" if high < 0 else f"too early to tell: {interval}"


def liked(thumbs: Mapping[int, Thumbs]) -> list[dict[str, Any]]:
    """By version, the base model (0) included: thumbs up and down for its answers, and the share of those up.

    `thumbs` as Ratings.thumbs_by_version. An answer that nothing can be learnt from, such as an empty one, counts here:
    it was liked or not.
    """
    return [
        {"version": version, "up": each.up, "down": each.down, "share_up": each.up / each.total}
        for version, each in thumbs.items()
    ]
