"""docs/benchmarks.md, docs/benchmarks.json and the picture, made from what the parts have kept.

Knows the table's layout; the words around it stand in page.md. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters import disk
from benchmarks import results, targets
from benchmarks.picture import png
from benchmarks.results import write
from benchmarks.workload import ROOT

PAGE, FIGURES, PICTURE = "docs/benchmarks.md", "docs/benchmarks.json", "docs/pictures/benchmarks.png"
TEMPLATE = ROOT / "benchmarks" / "page.md"


def make(parts: Sequence[str]) -> list[Path]:
    """Write all three; where they are."""
    records = results.kept(parts)
    lines = targets.lines(records)
    write(ROOT / FIGURES, records)
    disk.replace(ROOT / PAGE, page(records, lines).encode())
    (ROOT / PICTURE).parent.mkdir(exist_ok=True)
    disk.replace(ROOT / PICTURE, png(records, lines))
    return [ROOT / PAGE, ROOT / FIGURES, ROOT / PICTURE]


def page(records: Mapping[str, Any], lines: Sequence[targets.Line]) -> str:
    """The page's text; the machine is a part like any other."""
    machine = records["machine"]["raw"]
    rough = [part for part, record in records.items() if record["quick"]]
    head = TEMPLATE.read_text(encoding="utf-8").format(
        date=max((record["date"] for record in records.values()), default="never") + " UTC",
        commit=machine["commit"] or "unknown",
        quick=f" (quick runs, rough figures: {', '.join(rough)})" if rough else "",
        machine=machine_line(machine),
        table="\n".join(map(row, lines)),
        speeds=speeds(records.get("decode")),
    )
    return head + "\n".join(section(part, record) for part, record in records.items())


def machine_line(machine: Mapping[str, Any]) -> str:
    peaks, versions = machine["peaks"], machine["versions"]
    device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
    on = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"{device}{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB; measured in this"
        f" run: {peaks['flops'] / 1e9:,.0f} GFLOP/s in PyTorch's quickest matrix products,"
        f" {peaks['bytes'] / 1e9:.0f} GB/s read. Python {machine['python']}, {on}."
    )


def row(line: targets.Line) -> str:
    """One line of the table."""
    target = line.target
    return f"| {target.what} | {target.peer} | {target.wanted()} | {line.measured} | {line.verdict} |"


def speeds(record: Mapping[str, Any] | None) -> str:
    """Decoded tokens a second, a line for each engine; what was not measured is a dash."""
    shapes = record["raw"].get("tokens a second", {}) if record else {}
    if record is None or not shapes:
        return ""
    names = dict.fromkeys(name for found in shapes.values() for name in found)
    measured = {name: [found.get(name, {}).get("decode") for found in shapes.values()] for name in names}
    measured["floor: memory or arithmetic"] = list(record["raw"]["floor, tokens a second"].values())
    lines = [["decoded tokens a second", *shapes], ["---"] * (len(shapes) + 1)]
    lines += [
        [name, *("–" if v is None else f"{v:,.0f}" for v in values)] for name, values in measured.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(part: str, record: Mapping[str, Any]) -> str:
    """Everything that one part kept."""
    out = [
        f"### {part}",
        "",
        f"`python -m benchmarks {part}`, {record['seconds']:.0f} s, {record['date']} UTC",
    ]
    if record["left_out"]:
        out += ["", *(f"- left out: {what}: {why}" for what, why in record["left_out"].items())]
    if found := [*flat(record["figures"]), *flat(record["raw"])]:
        out += ["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found)]
    return "\n".join(out) + "\n"


def flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Every number under its path; lists of single turns stay in the JSON file.

    >>> flat({"a": {"b": 1.5, "c": [1]}})
    [('a, b', '1.5')]
    """
    out: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += flat(value, f"{path}{name}, ")
        elif isinstance(value, int | float | str) and not isinstance(value, bool):
            out.append((f"{path}{name}", f"{value:,.4g}" if isinstance(value, float) else str(value)))
    return out
