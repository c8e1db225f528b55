"""How a round's progress looks in the trainer's terminal: a bar where there is a terminal, else one line a step.

Knows what a round reports. Does not know Redis or whom the round is for.
"""

from __future__ import annotations

import logging
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)


class Bar:
    """One round's bar, shown inside a `with` block. `name`: the round's id."""

    def __init__(self, name: str, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._name = name
        self._plain = not console.is_terminal
        self._progress = Progress(
            TextColumn("learning {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}"),
            console=console,
            disable=self._plain,
        )
        self._task = self._progress.add_task(name, total=None, stage="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, step: int, steps: int, stage: str) -> None:
        """The round has done `step` of `steps` and is now at `stage`."""
        self._progress.update(self._task, completed=step, total=steps, stage=stage)
        if self._plain:
            log.info("round %s: step %d of %d, %s", self._name, step, steps, stage)
