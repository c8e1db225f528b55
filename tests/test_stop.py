"""A stop that signals ask for, many at once."""

import subprocess
import sys
import time

from service.stop import Stop

ASKED_BETWEEN_ALL_LINES = """
import sys
from service.stop import Stop
stop, asked = Stop(), 0
def ask(frame, event, arg):  # as a signal's handler does, which runs between any two lines
    global asked
    asked += 1
    stop.set()
    return ask
sys.settrace(ask)
stop.wait(0.01)
stop.set()
sys.settrace(None)
print(asked)
"""


def test_a_signal_that_comes_while_one_is_answered_is_answered_too():
    """With an event of threading's this stands still."""
    told = subprocess.run([sys.executable, "-c", ASKED_BETWEEN_ALL_LINES], capture_output=True, timeout=60)
    assert told.returncode == 0 and int(told.stdout) > 5, told.stderr


def test_a_wait_ends_when_it_is_asked_for_and_not_before():
    stop = Stop()
    assert not stop.wait(0.01) and not stop.is_set()
    stop.set()
    began = time.monotonic()
    assert stop.wait(30) and stop.wait(30) and stop.is_set()
    assert time.monotonic() - began < 10
