"""Where an error that nobody foresaw came from, for the log.

Knows tracebacks. Does not know who catches what, or why.
"""

from __future__ import annotations

import traceback


def frames(error: BaseException) -> str:
    """Its frames alone: its own words may quote a user."""
    return "".join(traceback.format_tb(error.__traceback__))
