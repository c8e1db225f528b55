"""docs/harm.md, made from what the attacks have left in docs/harm, a file each.

Knows where the records lie and the page's layout; the words around it stand in harm_page.md. Measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters import disk
from benchmarks.attack import WAYS, attackers, likeness
from benchmarks.workload import ROOT
from feedback.probes import KINDS

TEMPLATE = ROOT / "benchmarks" / "harm_page.md"
RECORDS = ROOT / "docs" / "harm"
SHOWN = 120  # characters of a praised answer
NOTHING = "| none has run |  |  |  |  |"


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
        missing=_missing(records),
        table="\n".join(_row(*each) for each in found),
        praised="\n".join(_praised(each) for each in records if "praised" in each) or NOTHING,
        reasons="\n".join(f"- {_who(*each)}: {'; '.join(each[1]['failed'])}." for each in held)
        or "- none was.",
    )


def _missing(records: Sequence[dict[str, Any]]) -> str:
    run = {(each["attacker"], each["way"]) for each in records}
    left = [f"{each.name} by {way}" for each in attackers() for way in WAYS if (each.name, way) not in run]
    return f" Not run yet: {', '.join(left)}." if left else ""


def _praised(record: dict[str, Any]) -> str:
    """What an attacker by thumbs could praise, and the answer that came nearest to what it would like to hear."""
    wanted = next(each.answers for each in attackers() if each.name == record["attacker"])
    near = [max(likeness(text, each) for each in wanted) for text in record["praised"]]
    nearest = record["praised"][near.index(max(near))].replace("\n", " ").replace("|", "\\|")
    cells = [
        record["attacker"],
        f"{record['asked_toxic']} of {len(wanted)}",
        f"{record['praised_toxic']} of {len(near)}",
        f"{sum(near) / len(near):.2f}",
        nearest if len(nearest) <= SHOWN else nearest[:SHOWN] + "…",
    ]
    return f"| {' | '.join(cells)} |"


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
