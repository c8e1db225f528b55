"""How a demo looks in the terminal: bars while it runs, and at the end a table and examples.

Knows what a demo measured. Does not know how, nor HTTP. Where there is no terminal, each line is printed once and
nothing moves.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.course import Course, Estimate, Exam, Marked

EXAMPLES = 3
EXAMPLE_CHARACTERS = 420


class Screen:
    """One terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()

    def say(self, words: str) -> None:
        self._console.print(escape(words), soft_wrap=True)

    @contextmanager
    def counting(self, label: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar that each call of what is yielded moves on by one; safe from any thread."""
        with self._bars() as bars:
            task = bars.add_task(label, total=total, note="")
            yield lambda: bars.advance(task)
        self._once(f"{label}: {total}")

    @contextmanager
    def round(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A bar that follows a round as the API shows it."""
        with self._bars() as bars:
            task = bars.add_task("learning", total=None, note="")
            last = ""

            def show(round: dict[str, Any]) -> None:
                nonlocal last
                note = _note(round)
                bars.update(task, completed=round["step"], total=round["steps"] or None, note=note)
                if note != last:
                    self._once(f"learning: {round['step']} of {round['steps']}, {note}")
                last = note

            yield show

    def results(self, course: Course) -> None:
        """The table, the verdict and the examples."""
        self._console.print(_table(course))
        self.say(verdict(course))
        if course.after is not course.before:
            for number, (before, after) in enumerate(examples(course), 1):
                self._example(number, before, after)

    def _example(self, number: int, before: Marked, after: Marked) -> None:
        self._console.print(f"\n[bold]Example {number}: {escape(before.prompt)}[/bold]")
        for name, marked in (("before", before), ("after", after)):
            self._console.print(f"[dim]{name}, score {marked.score:.2f}[/dim]")
            self.say(textwrap.indent(_shortened(marked.answer), "    "))

    def _bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def _once(self, words: str) -> None:
        if not self._console.is_terminal:
            self.say(words)


def verdict(course: Course) -> str:
    """What the figures say, in one line, and nothing more than they say."""
    if course.after is course.before:
        return "Nothing was learnt: the base model still answers, so there is no after."
    gain = course.gain
    span = f"{gain.mean:+.2f} (95 % interval {gain.low:+.2f} to {gain.high:+.2f})"
    if course.learnt:
        return f"Learnt: the score rose by {span} on prompts that were never rated."
    if gain.high < 0:
        return f"Worse: the score went down by {span} on prompts that were never rated."
    return f"Not shown: the score changed by {span} on prompts that were never rated, and that may be chance."


def examples(course: Course) -> list[tuple[Marked, Marked]]:
    """Pairs at the quarter, the half and three quarters of the gains in order: typical ones, not the best."""
    pairs = sorted(
        zip(course.before.marked, course.after.marked, strict=True),
        key=lambda pair: pair[1].score - pair[0].score,
    )
    places = [len(pairs) * part // (EXAMPLES + 1) for part in range(1, EXAMPLES + 1)]
    return [pairs[place] for place in places]


def _table(course: Course) -> Table:
    table = Table(title=f"{course.taste}: {len(course.before.marked)} prompts that were never rated")
    table.add_column("")
    for exam in course.exams:
        who = f"version {exam.version}" if exam.version else "base model"
        table.add_column(f"{who}\n{exam.thumbs} thumbs", justify="right")
    table.add_row("taste's score, 0 to 1", *_row(course, lambda exam: exam.scores))
    table.add_row("accepted by the strict test", *_row(course, lambda exam: exam.accepted))
    table.add_row("words an answer", *_row(course, lambda exam: exam.words, digits=0))
    return table


def _row(course: Course, values: Callable[[Exam], list[float]], digits: int = 2) -> list[str]:
    found = [Estimate.of(values(exam)) for exam in course.exams]
    return [f"{each.mean:.{digits}f}\n({each.low:.{digits}f} to {each.high:.{digits}f})" for each in found]


def _note(round: dict[str, Any]) -> str:
    """What the round does now, and its reward and KL once it has them."""
    metrics = round["metrics"]
    parts = [metrics.get("stage") or round["state"]]
    for name, unit in (("reward", ""), ("kl", " nats")):
        if metrics.get(name) is not None:
            parts.append(f"{name} {metrics[name]:.2f}{unit}")
    return ", ".join(parts)


def _shortened(text: str) -> str:
    text = text.strip()
    return text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS].rstrip() + " ..."
