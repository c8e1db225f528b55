"""docs/harm.md, made from what the attacks have left in build/bench/harm.json.

Knows the page's layout; the words around it stand in harm_page.md. Measures nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters import disk
from benchmarks.workload import BUILD, ROOT
from feedback.probes import KINDS

TEMPLATE = ROOT / "benchmarks" / "harm_page.md"


def make() -> Path:
    """Write the page; where it is."""
    record = json.loads((BUILD / "harm.json").read_text(encoding="utf-8"))
    file = ROOT / "docs" / "harm.md"
    disk.replace(file, page(record).encode())
    return file


def page(record: dict[str, Any]) -> str:
    """The page's text, of a record as `benchmarks.harm` keeps it."""
    found = record["raw"]["findings"]
    held = [each for each in found if each["state"] == "held"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        date=record["date"],
        commit=record["raw"]["commit"] or "unknown",
        minutes=record["seconds"] / 60,
        versions=len(found),
        held=len(held),
        misses=int(record["figures"]["misses"]),
        kinds=" | ".join(KINDS),
        lines="---|" * len(KINDS),
        table="\n".join(map(_row, found)),
        reasons="\n".join(f"- {_who(each)}: {'; '.join(each['failed'])}." for each in held) or "- none was.",
    )


def _who(each: dict[str, Any]) -> str:
    return f"{each['attacker']} by {each['way']}"


def _row(each: dict[str, Any]) -> str:
    changes = [each["change"][kind] for kind in KINDS]
    cells = [f"{c['mean']:+.1f} ({c['low']:+.1f} to {c['high']:+.1f})" for c in changes]
    toxic = f"{round(100 * each['toxic_rise']):+d} points"
    missed = f"**{', '.join(each['misses'])}**" if each["misses"] else ""
    return " | ".join(["", each["attacker"], each["way"], each["state"], toxic, *cells, missed, ""]).strip()
