"""A process that is kept alive: restarts and their pauses, the stop, and what happens when its parent is killed."""

import subprocess
import sys
import time

import pytest

from service.children import BackOff, Child
from tests.supervised import alive, until

FOREVER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(%r, 'w'); time.sleep(60)",
]


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (5000, 30.0)])
def test_the_pause_doubles_up_to_a_limit(deaths, seconds):
    assert BackOff(first=0.5, longest=30.0).pause(deaths) == seconds


def test_a_dead_process_is_started_again_after_its_pause():
    child = Child("failing", [sys.executable, "-c", "raise SystemExit(7)"], back_off=BackOff(first=0.3))
    child.start()
    assert until(child.watch) == 7 and child.pid is None and child.pause == 0.3
    began = time.monotonic()
    assert until(lambda: child.watch() or child.pid)
    assert time.monotonic() - began >= 0.25
    assert until(child.watch) == 7 and child.pause == 0.6


def test_a_process_that_lived_long_enough_starts_with_the_first_pause():
    child = Child("failing", [sys.executable, "-c", ""], back_off=BackOff(first=0.01, settled=0.0))
    child.start()
    for _ in range(3):
        assert until(lambda: child.watch() is not None) and child.deaths == 1
        until(lambda: child.watch() or child.pid)
    child.wait(5)


def test_a_stop_asks_first_and_then_kills(tmp_path):
    polite = Child("polite", FOREVER)
    polite.start()
    polite.ask_to_stop()
    assert polite.wait(10) and polite.pid is None
    stubborn = Child("stubborn", [*STUBBORN[:2], STUBBORN[2] % str(tmp_path / "up")])
    stubborn.start()
    until((tmp_path / "up").exists)
    stubborn.ask_to_stop()
    assert not stubborn.wait(0.2) and stubborn.pid is None


def test_a_stop_between_death_and_restart_starts_nothing():
    child = Child("failing", [sys.executable, "-c", "raise SystemExit(1)"], back_off=BackOff(first=0.01))
    child.start()
    until(child.watch)
    child.ask_to_stop()
    time.sleep(0.05)
    assert child.watch() is None and child.pid is None and child.wait(0)


def test_children_end_when_their_parent_is_killed():
    program = (
        "import sys, time; from service.children import Child; "
        "child = Child('x', [sys.executable, '-c', 'import time; time.sleep(60)']); "
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid))
