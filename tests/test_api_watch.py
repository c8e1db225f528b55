"""The watch over HTTP: a version that is liked less gives way within seconds, says so, and after a crash too."""

import time

import pytest

from tests.learnt import Trainer
from tests.servers import server
from tests.serving import ask, running

LIMIT_SECONDS = 60


@pytest.fixture
def trainer(api, user):
    with Trainer(api, user) as trainer:
        yield trainer


def answered(user, count):
    """(id, version) of so many answers."""
    made = [ask(user, max_tokens=4, seed=number) for number in range(count)]
    return [(each["id"], each["adapter_version"]) for each in made]


def rated(user, count, rating, version):
    """Ids of so many answers of this version, each with a thumb."""
    made = answered(user, count)
    assert {by for _, by in made} == {version}
    for id, _ in made:
        assert user.put(f"/v1/messages/{id}/feedback", json={"rating": rating}).status_code == 200
    return [id for id, _ in made]


def published(trainer, ids):
    """A round over these that ends with a published version."""
    claim, round = trainer.begin_round()
    version = trainer.publish(*ids)
    trainer.rounds.end(claim, round.id, "published", version=version)
    return round.id


def wait_for(user, version):
    """Until this version answers; the status."""
    end = time.monotonic() + LIMIT_SECONDS
    while (status := user.get("/v1/adapter").json())["active_version"] != version:
        assert time.monotonic() < end, status
        time.sleep(0.1)
    return status


def test_a_disliked_version_gives_way_and_status_versions_and_rounds_say_why(user, trainer):
    round = published(trainer, rated(user, 8, "up", 0))
    wait_for(user, 1)
    disliked = rated(user, 8, "down", 1)
    status = wait_for(user, 0)
    why = "thumbs down: 8 of 8, 0 of 8 for the version before; worse with probability 0.999"
    (version,) = user.get("/v1/adapter/versions").json()["data"]
    assert version["state"] == "kept"
    assert version["rolled_back"] == {
        "version": 1, "to": 0, "at": version["rolled_back"]["at"], "why": why,
    }  # fmt: skip
    assert status["learning"][0]["rolled_back"] == version["rolled_back"]
    reason = f"rolled back to version 0: {why}"
    shown = user.get(f"/v1/adapter/rounds/{round}").json()
    assert (shown["state"], shown["version"], shown["reason"]) == ("published", 1, reason)
    asked, first = user.get("/v1/adapter/rounds").json()["data"]
    assert first == shown and asked["state"] == "waiting", "what was said against it is learnt by itself"
    assert status["feedback"] == {"up": 8, "down": 8, "queued": 8, "used": 8}
    states = {user.get(f"/v1/messages/{id}/feedback").json()["state"] for id in disliked}
    assert states == {"queued"} and answered(user, 1)[0][1] == 0


def test_an_import_that_is_disliked_gives_way_and_the_status_says_so_too(user, trainer):
    trainer.publish(*rated(user, 8, "up", 0), size=0.01)
    exported = user.get("/v1/adapter/export").content
    user.post("/v1/adapter/reset")
    headers = {"Content-Type": "application/zip"}
    assert user.post("/v1/adapter/import", content=exported, headers=headers).json()["state"] == "active"
    assert [each["version"] for each in user.get("/v1/adapter").json()["learning"]] == [1]
    rated(user, 8, "down", 2)
    learnt, brought = wait_for(user, 0)["learning"]
    assert (brought["version"], brought["rolled_back"]["to"]) == (2, 0)
    assert brought["says"] == "brought in, not learnt here" and learnt["rolled_back"] is None


def test_who_asks_for_it_again_keeps_it(api, user, trainer):
    trainer.publish(*rated(user, 8, "up", 0))
    rated(user, 8, "down", 1)
    wait_for(user, 0)
    assert user.post("/v1/adapter/rollback", json={"version": 1}).json()["active_version"] == 1
    rated(user, 8, "down", 1)
    with api.user() as other, Trainer(api, other) as others:
        others.publish(*rated(other, 8, "up", 0))
        rated(other, 8, "down", 1)
        wait_for(other, 0)  # so the watch has looked at the first one again, too
    assert user.get("/v1/adapter").json()["active_version"] == 1
    assert user.get("/v1/adapter/versions").json()["data"][0]["rolled_back"] is None


def test_thumbs_that_a_killed_api_had_not_looked_at_count_at_its_next_start(tmp_path):
    with server(tmp_path / "redis", appendonly="yes") as url:
        with running(tmp_path / "data", url) as api, api.user() as user:
            with Trainer(api, user) as trainer:
                trainer.publish(*rated(user, 8, "up", 0))
                ids = [id for id, _ in answered(user, 8)]
                api.process.kill()
                api.process.wait()
                for id in ids:
                    trainer.ratings.put(trainer.uid, id, "down")
            key = user.key
        with running(tmp_path / "data", url) as api, api.client(key) as user:
            wait_for(user, 0)
