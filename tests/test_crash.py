"""kill -9 of the API, the trainer and Redis while people chat and rate: nothing that was acknowledged is lost."""

import itertools
import os
import signal
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from tests.serving import events
from tests.supervised import served, until

KILLS = 3


class Person(threading.Thread):
    """Chats and rates without pause, and writes down what the service said that it has."""

    def __init__(self, service, key, number):
        super().__init__(daemon=True)
        self.client = httpx.Client(
            base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
        )
        self.number = number
        self.over = threading.Event()
        self.answers = {}  # message id → text
        self.ratings = {}  # message id → body, as acknowledged
        self.refusals = 0
        self.wrong = []

    def run(self):
        with self.client:
            for turn in itertools.count():
                if self.over.is_set():
                    return
                if (id := self.chat(turn)) is not None:
                    self.rate(id, turn)

    def chat(self, turn):
        """The id of an answer that came whole, and has text to rate."""
        body = {"messages": [{"role": "user", "content": f"{self.number}, {turn}"}], "max_tokens": 6}
        whole = self.stream(body) if self.number % 2 else self.at_once(body)
        if whole is None:
            return None
        id, text = whole
        self.answers[id] = text
        return id if text.strip() else None

    def at_once(self, body):
        reply = self.call("POST", "/v1/chat/completions", body)
        return reply and (reply["id"], reply["choices"][0]["message"]["content"])

    def stream(self, body):
        """(id, text) once [DONE] is there."""
        try:
            with self.client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as reply:
                if reply.status_code != 200:
                    return self.refused(reply)
                *chunks, last = events(reply)
        except (httpx.TransportError, ValueError):  # cut off, be it before the first event
            return self.refused()
        if last != "[DONE]":
            return self.refused()
        return chunks[0]["id"], "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks)

    def rate(self, id, turn):
        """Until it is acknowledged: as often as it takes."""
        body = {"rating": "up" if turn % 2 else "down", "comment": f"turn {turn}"}
        while not self.over.is_set():
            if self.call("PUT", f"/v1/messages/{id}/feedback", body) is not None:
                self.ratings[id] = body
                return

    def call(self, method, path, body):
        """The answer, or None while a part of the service is away."""
        try:
            reply = self.client.request(method, path, json=body)
        except httpx.TransportError:
            return self.refused()
        return reply.json() if reply.status_code == 200 else self.refused(reply)

    def refused(self, reply=None):
        """Counted, and wrong unless it is a 503 that says when to come back."""
        self.refusals += 1
        if reply is not None and (reply.status_code != 503 or "Retry-After" not in reply.headers):
            self.wrong.append(reply.status_code)
        time.sleep(0.05)


@contextmanager
def people(service, number=2):
    """So many, all chatting; afterwards they have stopped."""
    keys = [service.command("users", "add").stdout.split()[1] for _ in range(number)]
    there = [Person(service, key, number) for number, key in enumerate(keys)]
    for person in there:
        person.start()
    try:
        yield there
    finally:
        for person in there:
            person.over.set()
        for person in there:
            person.join(60)
    assert not any(person.is_alive() for person in there)


def kill(service, word, there):
    """kill -9 of the part in the middle of the work, until it is back and work goes on."""
    pid = until(lambda: service.part(word), service.process, service.log)
    os.kill(pid, signal.SIGKILL)
    until(lambda: service.part(word) not in (None, pid), service.process, service.log, seconds=60)
    so_far = [len(person.ratings) for person in there]
    until(
        lambda: all(len(person.ratings) >= before + 3 for person, before in zip(there, so_far, strict=True)),
        service.process, service.log, seconds=120,
    )  # fmt: skip


def everything(client, path):
    """All of a listing."""
    found, query = [], "?limit=100"
    while True:
        page = client.get(f"{path}{query}").json()
        found += page["data"]
        if page["next"] is None:
            return found
        query = f"?limit=100&before={page['next']}"


def unfinished(client):
    return [each for each in everything(client, "/v1/messages") if each["finish_reason"] is None]


def check(person, service):
    """Every finished answer and every acknowledged rating is there as it was."""
    with httpx.Client(
        base_url=service.url, headers=person.client.headers, timeout=30, trust_env=False
    ) as client:
        # What Redis was away for ends as soon as it is back, which may be a moment after the next chat.
        until(lambda: not unfinished(client), service.process, service.log, seconds=10)
        kept = {message["id"]: message for message in everything(client, "/v1/messages")}
    assert person.wrong == [] and len(person.ratings) > 5
    for id, text in person.answers.items():
        assert kept[id]["answer"] == text and kept[id]["finish_reason"] in ("stop", "length")
    for id, body in person.ratings.items():
        feedback = kept[id]["feedback"]
        assert {name: feedback[name] for name in body} == body
        assert feedback["state"] in ("queued", "used") and feedback["revision"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("word", ["service api", "valkey-server", "service trainer"])
def test_a_killed_part_loses_nothing_that_was_acknowledged(tmp_path, word):
    with served(tmp_path, round_new=10_000, round_few=10_000) as service:
        with people(service) as there:
            for _ in range(KILLS):
                kill(service, word, there)
        for person in there:
            check(person, service)
        if word != "service trainer":
            assert sum(person.refusals for person in there) > 0  # it was felt
        log = service.log.read_text()
        for unforeseen in ("in a call:", "a step of the engine failed", "a round failed with", "Traceback"):
            assert unforeseen not in log


@pytest.mark.slow
def test_a_round_whose_trainer_is_killed_is_repeated(tmp_path):
    with served(tmp_path, round_new=8) as service, service.client() as client:
        ids = []
        for turn in range(8):
            body = {"messages": [{"role": "user", "content": f"{turn}"}], "max_tokens": 6, "seed": turn}
            ids.append(client.post("/v1/chat/completions", json=body).json()["id"])
            client.put(f"/v1/messages/{ids[-1]}/feedback", json={"rating": "up" if turn % 2 else "down"})
        first = until(lambda: running(client), service.process, service.log, seconds=30)
        os.kill(service.part("service trainer"), signal.SIGKILL)
        ended = until(lambda: over(client, first), service.process, service.log, seconds=150)
        assert ended["state"] in ("published", "held")
        for id in ids:
            feedback = client.get(f"/v1/messages/{id}/feedback").json()
            assert (feedback["state"], feedback["used_in"]) == ("used", [ended["version"]])


def running(client):
    """The id of the round that is under way."""
    round = client.get("/v1/adapter").json()["round"]
    return round["id"] if round and round["state"] == "running" and round["step"] >= 1 else None


def over(client, id):
    """The round, once it has ended."""
    round = client.get(f"/v1/adapter/rounds/{id}").json()
    return round if round["ended"] else None
