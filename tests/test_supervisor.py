"""`thumbtune serve` on the tiny model: what it says, what it brings back to life, how it stops."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.serving import ask, environment, free_port
from tests.supervised import ROOT, alive, served, spawn, until


@pytest.mark.slow
def test_first_start_second_start_and_a_second_service(tmp_path):
    with served(tmp_path) as service:
        said = service.log.read_text()
        key = json.loads((service.data / "first-user.json").read_text())["api_key"]
        admin = (service.data / "admin.key").read_text().strip()
        assert service.url in said and f"Your key:  {key}" in said and said.count(admin) == 1
        for name in ("first-user.json", "admin.key"):
            assert (service.data / name).stat().st_mode & 0o777 == 0o600
        assert service.data.stat().st_mode & 0o777 == 0o700
        sockets = [path for path in service.data.rglob("*") if path.is_socket()]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in sockets)

        chat, thumb = (line for line in said.splitlines() if line.startswith("curl "))
        answer = json.loads(shell(chat))
        rated = json.loads(shell(thumb))
        state = "queued" if answer["choices"][0]["message"]["content"].strip() else "refused"  # it is noise
        assert (rated["message_id"], rated["rating"], rated["state"]) == (answer["id"], "up", state)

        second = service.command("serve")
        assert second.returncode == 3 and "another `thumbtune serve` runs on" in second.stderr
        assert "Traceback" not in second.stderr

        pids = service.pids()
        assert len(pids) == 3 and service.stop() == 0
        assert not any(alive(pid) for pid in pids)

    with served(tmp_path) as service:
        said = service.log.read_text()
        assert str(service.data / "first-user.json") in said and key not in said and admin not in said
        with service.client() as client:
            assert [each["id"] for each in client.get("/v1/messages").json()["data"]] == [answer["id"]]
            assert last_line_of_an_answer_under_way(client, service, signal.SIGINT) == "data: [DONE]"
        assert service.process.wait(60) == 0


def last_line_of_an_answer_under_way(client, service, *numbers):
    """While the service is told to stop, by these signals."""
    body = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 100, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        for number in numbers:
            service.process.send_signal(number)
            time.sleep(0.2)  # two of a kind at once would come as one
        *_, last = (line for line in lines if line)
    return last


def shell(line):
    """What a pasted line prints."""
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def with_a_terminal():
    """What is started here does not inherit that SIGHUP is ignored, as under `nohup make test`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_each_part_is_brought_back_and_ends_in_order_when_the_terminal_is_closed(tmp_path, with_a_terminal):
    with served(tmp_path) as service, service.client() as client:
        ask(client)
        for word in ("service trainer", "valkey-server", "service api"):
            pid = service.part(word)
            os.kill(pid, signal.SIGKILL)
            until(
                lambda pid=pid, word=word: service.part(word) not in (None, pid), service.process, service.log
            )
            until(lambda: answers(client), service.process, service.log, seconds=60)
        assert service.log.read_text().count("starting it again") == 3
        pids = service.pids()
        # The kernel says so, and the shell once more.
        last = last_line_of_an_answer_under_way(client, service, signal.SIGHUP, signal.SIGHUP)
        assert last == "data: [DONE]" and service.process.wait(60) == 0
        assert not any(alive(pid) for pid in pids)


def answers(client):
    """Whether a chat is answered now. While a part is away it is refused, in words and without a traceback."""
    try:
        reply = client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "?"}], "max_tokens": 2}
        )
    except httpx.TransportError:
        return False
    assert reply.status_code in (200, 503), reply.text
    assert reply.status_code == 200 or int(reply.headers["Retry-After"]) >= 1
    return reply.status_code == 200


@pytest.mark.slow
def test_when_the_supervisor_is_killed_its_parts_end_and_the_next_one_waits_for_them(tmp_path):
    with served(tmp_path, grace=5) as service, service.client() as client:
        pids = service.pids()
        body = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 100, "stream": True}
        with client.stream(
            "POST", "/v1/chat/completions", json=body
        ) as answer:  # so that the API takes its time
            next(answer.iter_lines())
            service.process.kill()
            process, log = spawn(tmp_path, service.env, "nohup")
        try:
            until(lambda: "thumbtune is ready" in log.read_text(), process, log, seconds=90)
            until(lambda: not any(alive(pid) for pid in pids), seconds=30)
            ask(client)
            assert ignores(process.pid, signal.SIGHUP)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def ignores(pid, number):
    """Whether the process takes no notice of the signal."""
    (mask,) = re.findall(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "/no/such/folder"}, "there is no folder or GGUF file at /no/such/folder"),
        ({"host": "203.0.113.1"}, "cannot listen on 203.0.113.1"),
    ],
)
def test_what_cannot_start_is_said_once_and_not_tried_again(tmp_path, wrong, said):
    done, log = ended(tmp_path, **wrong)
    assert done == 3 and said in log and "Traceback" not in log and "starting it again" not in log
    made = [file.read_text().strip() for file in (tmp_path / "data").glob("admin.key")]
    assert all(log.count(key) == 1 for key in made), "it is shown by the start that makes it, or never"


def test_a_port_in_use_is_said_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        done, log = ended(tmp_path, port=other.getsockname()[1])
    assert done == 3 and "cannot listen on 127.0.0.1" in log and "THUMBTUNE_PORT" in log


def ended(folder, port=None, **settings):
    """The exit code of a `serve` that cannot start, and what it printed."""
    settings = {"admin_key": "", **settings}
    process, log = spawn(folder, environment(folder / "data", "", port or free_port(), **settings))
    try:
        return process.wait(60), log.read_text()
    finally:
        process.kill()
        process.wait()


def test_settings_that_cannot_be_are_told_before_anything_starts(tmp_path):
    env = environment(tmp_path / "data", "", 1, grace="soon")
    done = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2 and re.fullmatch(r"thumbtune: THUMBTUNE_GRACE .*\n", done.stderr)
    assert not (tmp_path / "data").exists()
