"""Chat and rounds see each other across processes, crashes included, and share the threads when both are there."""

import fcntl
import subprocess
import sys
import time

import pytest
import torch

from service.cores import FEW, ChatCores, Mark, RoundCores

SHOW = """
import sys
from pathlib import Path
from service.cores import Mark
mark = Mark(Path(sys.argv[1]))
mark.show(True)
print("shown", flush=True)
for line in sys.stdin:
    mark.show(line == "on\\n")
    print("done", flush=True)
"""


class Other:
    """Another process that shows a mark."""

    def __init__(self, path):
        command = [sys.executable, "-c", SHOW, str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdin and self.process.stdout
        self.says, self.hears = self.process.stdout, self.process.stdin
        assert self.says.readline() == "shown\n"

    def show(self, on):
        self.hears.write("on\n" if on else "off\n")
        assert self.says.readline() == "done\n"

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def other(tmp_path):
    it = Other(tmp_path / "mark.lock")
    yield it
    it.kill()


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The API's part and a trainer's, of five threads each; and the trainer's clock."""
    clock = [100.0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    chat = ChatCores(tmp_path)
    yield chat, RoundCores(tmp_path), clock
    chat.close()


def test_a_mark_is_seen_while_another_process_shows_it(tmp_path, other):
    mark = Mark(tmp_path / "mark.lock")
    assert mark.seen() and mark.seen()
    other.show(False)
    assert not mark.seen() and not mark.seen()
    other.show(True)
    assert mark.seen()
    mark.close()


def test_a_killed_process_shows_nothing(tmp_path, other):
    mark = Mark(tmp_path / "mark.lock")
    assert mark.seen()
    other.kill()
    assert not mark.seen()
    mark.close()


def test_looking_leaves_nothing_behind_and_several_may_show(tmp_path, other):
    mark, third = Mark(tmp_path / "mark.lock"), Mark(tmp_path / "mark.lock")
    mark.show(True)
    other.show(False)
    assert third.seen()
    mark.show(False)
    assert not third.seen()
    mark.show(True)
    mark.show(True)
    assert third.seen()
    mark.close()
    assert not third.seen()
    third.close()


def test_a_mark_that_could_not_be_shown_is_shown_the_next_time(tmp_path):
    mark, looks, third = (Mark(tmp_path / "mark.lock") for _ in range(3))
    assert looks._lock(fcntl.LOCK_EX)  # in the middle of looking, and put off its core there
    mark.show(True)  # does not wait for it
    fcntl.flock(looks._handle, fcntl.LOCK_UN)
    assert not third.seen()
    mark.show(True)
    assert third.seen()


def test_alone_either_has_all_threads(both):
    chat, round, _ = both
    assert round.threads() == 5
    round.rest()
    chat.tell(1)
    assert chat.threads() == 5


def test_few_rows_and_a_round_have_half_each_until_one_of_them_ends(both):
    chat, round, clock = both
    chat.tell(FEW)
    assert (round.threads(), chat.threads()) == (2, 2)
    round.rest()
    assert chat.threads() == 5
    assert (round.threads(), chat.threads()) == (2, 2)
    chat.tell(0)
    clock[0] += 0.9  # the next answer may begin
    assert round.threads() == 2
    clock[0] += 0.2
    assert round.threads() == 5


def test_many_rows_keep_all_threads(both):
    chat, round, _ = both
    chat.tell(FEW + 1)
    assert (round.threads(), chat.threads()) == (5, 5)
    chat.tell(FEW)
    assert (round.threads(), chat.threads()) == (2, 2)


def test_one_thread_stays_one(both, monkeypatch):
    chat, round, _ = both
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    chat.tell(1)
    assert (round.threads(), chat.threads()) == (1, 1)
