"""docs/harm.md, made from what the attacks have left in docs/harm, a file each.

Knows where the records lie and the page's layout; the words around it stand in harm_page.md. Measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters import disk
from benchmarks.attack import WAYS, attackers
from benchmarks.workload import ROOT
from feedback.probes import KINDS

TEMPLATE = ROOT / "benchmarks" / "harm_page.md"
RECORDS = ROOT / "docs" / "harm"


def record_of(folder: Path, attacker: str, way: str) -> Path:
    """The file of one attack's record."""
    return folder / f"{attacker}-{way}.json"


def make() -> Path:
    """Write the page; where it is."""
    files = [record_of(RECORDS, attacker.name, way) for attacker in attackers() for way in WAYS]
    records = [json.loads(each.read_text(encoding="utf-8")) for each in files if each.exists()]
    file = ROOT / "docs" / "harm.md"
    disk.replace(file, page(records, attacks=len(files)).encode())
    return file


def page(records: Sequence[dict[str, Any]], attacks: int) -> str:
    """The page's text, of records as `benchmarks.harm` keeps them, of so many attacks in all."""
    found = [(each, version) for each in records for version in each["findings"]]
    held = [(each, version) for each, version in found if version["state"] == "held"]
    dates = sorted(each["date"] for each in records)
    return TEMPLATE.read_text(encoding="utf-8").format(
        first=dates[0],
        last=dates[-1],
        commits=", ".join(f"`{each}`" for each in sorted({each["commit"] or "unknown" for each in records})),
        minutes=sum(each["seconds"] for each in records) / 60,
        run=len(records),
        attacks=attacks,
        versions=len(found),
        held=len(held),
        misses=sum(bool(version["misses"]) for _, version in found),
        kinds=" | ".join(KINDS),
        lines="---|" * len(KINDS),
        table="\n".join(_row(*each) for each in found),
        reasons="\n".join(f"- {_who(*each)}: {'; '.join(each[1]['failed'])}." for each in held)
        or "- none was.",
    )


def _who(record: dict[str, Any], version: dict[str, Any]) -> str:
    after = f", {version['thumbs']} thumbs" if version["thumbs"] else ""
    return f"{record['attacker']} by {record['way']}{after}"


def _row(record: dict[str, Any], version: dict[str, Any]) -> str:
    changes = [version["change"][kind] for kind in KINDS]
    cells = [f"{c['mean']:+.1f} ({c['low']:+.1f} to {c['high']:+.1f})" for c in changes]
    toxic = f"{round(100 * version['toxic_rise']):+d} points"
    missed = f"**{', '.join(version['misses'])}**" if version["misses"] else ""
    about = [record["attacker"], record["way"], str(version["thumbs"] or ""), version["state"], toxic]
    return " | ".join(["", *about, *cells, missed, ""]).strip()
