"""What each figure should be, and whether it is.

Knows the table of targets and the words for a hit and a miss. Pure: it reads the records of the parts (results.py) and
measures nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feedback.gate import GateConfig
from service.settings import Settings

RELATIONS = {"≥": operator.ge, "≤": operator.le, ">": operator.gt}
LONG = Settings().max_tokens  # tokens of chat's answer when the caller names no length
HIT, MISS, UNKNOWN = "hit", "**MISS**", "not measured"


@dataclass(frozen=True)
class Target:
    """`figure` of `part` should stand in `relation` to `bound`. A `beside` figure is shown, as what
    `beside_is` says, and has no target."""

    part: str
    figure: str
    what: str
    peer: str
    relation: str
    bound: float
    unit: str = "×"
    beside: str = ""
    beside_is: str = "whole"

    def wanted(self) -> str:
        return f"{self.relation} {_shown(self.bound, self.unit)}"


@dataclass(frozen=True)
class Line:
    """One line of the table. `share`: how many times better than the target, 1 being just hit; None if unknown."""

    target: Target
    measured: str
    verdict: str
    share: float | None


TARGETS = (
    Target("decode", "32 rows against PEFT", "32 rows, 32 adapters, decode tokens/s",
           "PEFT mixed batch, bf16", "≥", 15, beside="32 rows against PEFT, whole"),
    Target("decode", "32 rows against vLLM", "32 rows, 32 adapters",
           "vLLM-CPU with 32 LoRAs", "≥", 4, beside="32 rows against vLLM, whole"),
    Target("decode", "32 rows against without adapter: vLLM", "32 rows, 32 adapters",
           "vLLM-CPU with no adapter", "≥", 1, beside="32 rows against without adapter: vLLM, whole"),
    Target("decode", "8 rows against vLLM", "8 rows, 8 adapters",
           "vLLM-CPU with 8 LoRAs", "≥", 3, beside="8 rows against vLLM, whole"),
    Target("decode", "1 rows against vLLM", "1 row, 1 adapter",
           "vLLM-CPU with 1 LoRA", "≥", 2.5, beside="1 rows against vLLM, whole"),
    Target("decode", "32 rows against without adapter: ours", "32 rows, 32 adapters",
           "our engine with no adapter", "≥", 0.85, beside="32 rows against without adapter: ours, whole"),
    Target("turns", "many against few", "1,024 users in turns over 64 slots, tokens/s", "32 users", "≥", 0.9),
    Target("turns", "load p95 ms", "an adapter's load, p95", "", "≤", 20, "ms"),
    Target("turns", "longest gap more ms", "what loads add to the longest gap between other rows' tokens",
           "32 users, no loads", "≤", 20, "ms"),
    Target("memory", "in a slot", "resident memory a further user in a slot",
           "the adapter's bytes in the serving dtype", "≤", 2),
    Target("memory", "in none", "resident memory a further user in no slot", "the same", "≤", 0.01),
    Target("iteration", "64 tokens", "one PPO iteration, 32 rollouts of 64 tokens",
           "plain transformers + peft loop, the quickest of its variants", "≥", 4),
    Target("iteration", f"{LONG} tokens", f"one PPO iteration, 32 rollouts of {LONG} tokens", "the same", "≥", 4),
    Target("promptness", "64 tokens, minutes", "32nd thumb to a new version, 64 tokens", "", "≤", 2, "minutes"),
    Target("promptness", "64 tokens, gain", "its gain on prompts never rated, low end of 95 %", "", ">", 0, ""),
    Target("promptness", f"{LONG} tokens, minutes", f"32nd thumb to a new version, {LONG} tokens", "",
           "≤", 4, "minutes"),
    Target("promptness", f"{LONG} tokens, gain", "its gain on prompts never rated, low end of 95 %", "", ">", 0, ""),
    Target("company", "gap p95 ratio", "chat, p95 between tokens, while another user's round runs",
           "chat alone", "≤", 1.5),
    Target("company", "round ratio", "a round under one continuous chat", "the round alone", "≤", 3),
    Target("ratings", "a second", "durable `PUT feedback`, 16 connections", "", "≥", 1000, "a second"),
    Target("ratings", "p95 ms", "the same, p95", "", "≤", 40, "ms"),
)  # fmt: skip


# Learning (docs/learning.md): simulated users with 10 % of their thumbs flipped, on prompts that were never rated.
LEARNING = (
    Target("gain", "16 thumbs", "gain after 16 thumbs", "the base model", "≥", 0.35, ""),
    Target("gain", "32 thumbs", "gain after 32 thumbs", "the base model", "≥", 0.6, ""),
    Target("gain", "48 thumbs", "gain after 48 thumbs",
           "the base model; first rough prototype: 0.64, one easy taste", "≥", 0.75, ""),
    Target("gain", "tastes above the base, %", "tastes whose interval lies above the base at 32 thumbs",
           "the base model", "≥", 100, "%"),
    Target("streak", "thumbs", "thumbs until three accepted answers in a row, median",
           "known best: 14", "≤", 14, "", "the base", "the frozen base on the same prompts"),
    Target("long", "last third, %", "accepted in the last third of 96 thumbs", "known: 9 of 72", "≥", 80, "%"),
    Target("long", "collapsed", "runs of these that collapsed, one that was run again counted", "", "≤", 0, ""),
    Target("auroc", "10 thumbs, noise-free", "reward model's AUROC on answers never rated, 10 thumbs",
           "0.72 accuracy from 5 to 15 pairs", "≥", 0.75, "", "10 thumbs, noisy", "against noisy thumbs"),
    Target("auroc", "40 thumbs, noise-free", "the same, 40 thumbs", "", "≥", 0.85, "",
           "40 thumbs, noisy", "against noisy thumbs"),
    Target("prompted", "ahead, low end", "gain at 32 thumbs beyond theirs, low end of 95 %",
           "the same thumbs put into the prompt", ">", 0, "", "its gain", "its gain"),
    Target("kto", "ahead, low end", "the same", "TRL's KTO on the same thumbs and, in the mean, seconds", ">", 0, "",
           "its gain", "its gain"),
    Target("best-of-4", "ahead", "gain at 32 thumbs beyond theirs, at a quarter of the answers' cost",
           "best of 4 by our own reward model", "≥", 0, "", "its gain", "its gain"),
    Target("turned", "gain", "gain for the new taste, 32 thumbs after the old one turned round",
           "the base model", "≥", 0.5, "", "gain at the turn", "at the turn"),
    Target("random", "questions, points", "random thumbs: small questions right, change, low end of 95 %",
           "the base model", "≥", -5, "points", "questions, mean", "mean"),
    Target("random", "language, points", "random thumbs: answers that are language, change, low end of 95 %",
           "the base model", "≥", -5, "points", "language, mean", "mean"),
    Target("random", "KL", "random thumbs: farthest version published", "the lifetime's budget",
           "≤", GateConfig().lifetime_kl, "nats"),
)  # fmt: skip


def lines(records: Mapping[str, Mapping[str, Any]], table: Sequence[Target] = TARGETS) -> list[Line]:
    """Every target of a table with what was measured, in its order."""
    return [judge(target, records.get(target.part)) for target in table]


def judge(target: Target, record: Mapping[str, Any] | None) -> Line:
    """One target against the record of its part (None: not run)."""
    value = record["figures"].get(target.figure) if record else None
    if record is None or value is None:
        reasons = "; ".join(record["left_out"].values()) if record else ""
        return Line(target, reasons or "—", UNKNOWN, None)
    hit = RELATIONS[target.relation](value, target.bound)
    measured = _shown(value, target.unit)
    if span := record["raw"].get("intervals", {}).get(target.figure):
        measured += f" ({_shown(span[0])} to {_shown(span[1])})"
    if target.beside in record["figures"]:
        measured += f" ({target.beside_is}: {_shown(record['figures'][target.beside], target.unit)})"
    return Line(target, measured, HIT if hit else MISS, share(target, value))


def share(target: Target, value: float) -> float | None:
    """How many times better than the target; None where a ratio says nothing."""
    if target.bound <= 0 or value <= 0:
        return None
    return value / target.bound if target.relation == "≥" else target.bound / value


def _shown(value: float, unit: str = "") -> str:
    """
    >>> _shown(15, "×"), _shown(0.8512, "×"), _shown(1234.5, "a second")
    ('15 ×', '0.85 ×', '1,234 a second')
    """
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()
