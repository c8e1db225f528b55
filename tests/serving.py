"""A real API process on the tiny model, with a real Redis, and clients that call it over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from feedback.connection import connect
from tests.servers import server
from tests.tiny import tiny_model

ADMIN = "operator-key-of-the-tests"


@dataclass
class Api:
    """A running API: its address, data folder, Redis and process."""

    url: str
    data: object
    redis_url: str
    process: subprocess.Popen
    log: object

    def client(self, key=None, **options):
        """An HTTP client that calls with this key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False, **options)

    def call(self, method, path, key=None, **more):
        """One call with this key; bytes are sent as they are."""
        word = key.encode() if isinstance(key, str) else key
        headers = {b"Authorization": b"Bearer " + word} if key else {}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, trust_env=False, **more)

    def user(self, id=None):
        """A client for a new user."""
        with self.client(ADMIN) as admin:
            made = admin.post("/v1/users", json={"id": id} if id else {})
        assert made.status_code == 201, made.text
        client = self.client(made.json()["api_key"])
        client.id, client.key = made.json()["id"], made.json()["api_key"]
        return client

    def stop(self, number=signal.SIGTERM, seconds=30):
        """Sends the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


def another_database(url):
    """The same server's database 9, emptied: other tests empty theirs."""
    other = urlsplit(url)._replace(path="/9").geturl()
    with connect(other) as store:
        store.flushdb()
    return other


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(data, redis_url, port, **settings):
    """Of a process of the service: the tiny model beside the data, nothing from outside."""
    given = {f"THUMBTUNE_{name.upper()}": str(value) for name, value in settings.items()}
    return {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "THUMBTUNE_DATA": str(data),
        "THUMBTUNE_REDIS_URL": redis_url,
        "THUMBTUNE_PORT": str(port),
        "THUMBTUNE_MODEL": str(tiny_model(data.parent / "tiny")),
        "THUMBTUNE_ADMIN_KEY": ADMIN,
        "THUMBTUNE_DTYPE": "float32",
        **given,
    }


def spawn(data, redis_url, port, **settings):
    """`thumbtune api`, not waited for; what it prints and logs goes to a file beside the data."""
    log = data.parent / "api.log"
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "api"],
            env=environment(data, redis_url, port, **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return process, log


@contextmanager
def running(data, redis_url, **settings):
    """An `Api` that is ready."""
    port = free_port()
    process, log = spawn(data, redis_url, port, **settings)
    api = Api(f"http://127.0.0.1:{port}", data, redis_url, process, log)
    try:
        wait_ready(api)
        yield api
    finally:
        process.kill()
        process.wait()


def wait_ready(api, seconds=240):
    """Converting the packaged model, once, may take a minute where the cores are shared."""
    end = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{api.url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert api.process.poll() is None, api.log.read_text()
        assert time.monotonic() < end, api.log.read_text()
        time.sleep(0.05)


@contextmanager
def alone(folder, **settings):
    """An `Api` with a strong Redis of its own."""
    folder.mkdir(exist_ok=True)
    with (
        server(folder / "redis", appendonly="yes", appendfsync="always") as url,
        running(folder / "data", url, **settings) as api,
    ):
        yield api


def ask(client, text="Hello", **more):
    """A chat's answer as JSON; with the same words and nothing said, always the same (about one draw in a hundred of
    this noise is empty, and nothing can be learnt from that)."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "seed": 1, **more}
    reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def events(response):
    """The data of each server-sent event, JSON unless it is [DONE]."""
    for line in response.iter_lines():
        if line:
            assert line.startswith("data: "), line
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def problem(response, status, code=None):
    """Checks that it is an error in OpenAI's shape; its message."""
    assert response.status_code == status, (response.status_code, response.text)
    error = response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"]
    assert code is None or error["code"] == code, error
    return error["message"]
