"""A round's progress in the terminal, and without one in the log."""

import io
import logging

from rich.console import Console

from service.bar import Bar


def test_a_terminal_gets_a_bar():
    shown = io.StringIO()
    with Bar("round_1", Console(file=shown, force_terminal=True, width=120)) as bar:
        bar.show(3, 9, "practising, 2 of 7")
    assert "learning round_1" in shown.getvalue() and "3/9" in shown.getvalue()
    assert "practising, 2 of 7" in shown.getvalue()


def test_without_a_terminal_each_step_is_a_line_in_the_log(caplog):
    shown = io.StringIO()
    with caplog.at_level(logging.INFO), Bar("round_1", Console(file=shown)) as bar:
        bar.show(3, 9, "practising, 2 of 7")
    assert caplog.messages == ["round round_1: step 3 of 9, practising, 2 of 7"] and shown.getvalue() == ""
