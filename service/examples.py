"""What the main calls answer, as /docs shows it.

Knows only these examples. Does not know where the answers come from: a test compares the fields with real ones.
FastAPI leaves fields that are null out of the page.
"""

from __future__ import annotations

from typing import Any

MESSAGE_ID = "msg_187a3f5c9e21d4b0a1b2c3d4e5f6"

USER = {"id": "ada", "api_key": "tt-Zm9yIHRoZSBkb2NzIG9ubHk"}

CHAT: dict[str, Any] = {
    "id": MESSAGE_ID,
    "object": "chat.completion",
    "created": 1800000000,
    "model": "personal",
    "adapter_version": 3,
    "choices": [
        {
            "index": 0,
            "message_id": MESSAGE_ID,
            "message": {"role": "assistant", "content": "Grind it fresh.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 37, "completion_tokens": 5, "total_tokens": 42},
}

FEEDBACK: dict[str, Any] = {
    "message_id": MESSAGE_ID,
    "rating": "up",
    "tags": ["short"],
    "comment": "Just what I needed.",
    "correction": None,
    "revision": 1,
    "state": "queued",
    "adapter_version": 3,
    "used_in": [],
    "reason": None,
    "held_out": False,
    "created": 1800000060,
    "updated": 1800000060,
    "since": 1,
}

MESSAGE: dict[str, Any] = {
    "id": MESSAGE_ID,
    "created": 1800000000,
    "model": "personal",
    "messages": [{"role": "user", "content": "How do I make good coffee?"}],
    "answer": "Grind it fresh.",
    "finish_reason": "stop",
    "adapter_version": 3,
    "max_tokens": 160,
    "temperature": 0.7,
    "top_p": 0.9,
    "seed": 42,
    "feedback": FEEDBACK,
}

_METRICS: dict[str, Any] = {
    "thumbs": 24, "reward_before": -0.21, "reward_after": 0.64, "reward_model_auroc": 0.867, "kl": 2.9,
    "kl_per_token": 0.11, "entropy": 1.7, "seconds": 95.2, "approx_kl": 0.006, "clipfrac": 0.04,
    "policy_loss": -0.012, "value_loss": 0.31, "explained_variance": 0.42,
}  # fmt: skip

VERSION: dict[str, Any] = {
    "version": 3,
    "parent": 2,
    "created": 1799999000,
    "state": "active",
    "trained_on": [{"message_id": MESSAGE_ID, "revision": 1}],
    "metrics": _METRICS,
    "gate": {"passed": True, "checks": [{"name": "kl", "value": 2.9, "limit": 20.0, "passed": True}]},
    "seed": 7,
    "base": {"name": "SmolLM2-135M-Instruct", "digest": "5af5" * 16},
    "files": {"adapter_model.safetensors": "d7a8" * 16},
    "recipe": {"examples": [{"message_id": MESSAGE_ID, "revision": 1, "held_out": False}]},
    "rolled_back": None,
}  # fmt: skip

ROUND: dict[str, Any] = {
    "id": "round_187a3f5c9e21d4b0a1b2c3d4e5f6",
    "state": "running",
    "progress": 0.5,
    "step": 4,
    "steps": 8,
    "metrics": _METRICS,
    "version": None,
    "reason": None,
    "created": 1800000120,
    "started": 1800000121,
    "ended": None,
}

ADAPTER: dict[str, Any] = {
    "base_model": "SmolLM2-135M-Instruct",
    "active_version": 3,
    "versions": 3,
    "feedback": {"up": 15, "down": 9, "queued": 0, "used": 24},
    "reward_model": {
        "thumbs": 24,
        "auroc": 0.867,
        "says": "too early to tell whether it foretells held-out thumbs (AUROC 0.87, 95 % interval 0.43 to 0.98); "
        "it takes you to like shorter answers (clearly, 93 % sure)",
        "likes": [
            {
                "feature": "length", "likes": "shorter answers", "strength": "clearly", "certainty": 0.934,
                "weight": -0.52, "says": "shorter answers (clearly, 93 % sure)",
            }
        ],
    },
    "learning": [
        {
            "version": 3, "created": 1799999000, "state": "active", "rolled_back": None, "thumbs": 24,
            "reward_before": -0.21, "reward_after": 0.64, "reward_change_low": 0.38, "reward_change_high": 1.31,
            "reward_model_auroc": 0.867, "kl": 2.9,
            "says": "better: its held-out reward changed by +0.38 to +1.31 (95 % interval)",
        }
    ],
    "thumbs": [
        {"version": 0, "up": 9, "down": 8, "share_up": 0.529},
        {"version": 3, "up": 6, "down": 1, "share_up": 0.857},
    ],
    "round": ROUND,
}  # fmt: skip


def answers(example: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`: the same example for each status, 200 if none is named."""
    return {status: {"content": {"application/json": {"example": example}}} for status in statuses or (200,)}


def page(example: Any) -> dict[int | str, dict[str, Any]]:
    """`responses` of a listing."""
    return answers({"data": [example], "next": None})
