"""Ratings over HTTP: states, revisions, withdrawal, idempotency, limits, and what is on disk when a call answers."""

import os
import signal
import threading
import time

import pytest

from feedback.connection import connect
from feedback.messages import MessageLog
from tests.records import message
from tests.servers import server
from tests.serving import alone, ask, problem, running

FIELDS = {
    "message_id", "rating", "tags", "comment", "correction", "revision", "state", "adapter_version", "used_in",
}  # fmt: skip


def rate(client, id, rating="up", **more):
    response = client.put(f"/v1/messages/{id}/feedback", json={"rating": rating, **more})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_rating_is_put_shown_and_counted(user):
    id = ask(user)["id"]
    said = {"tags": ["short", "kind"], "comment": "Schön 🦊", "correction": "Hello, you."}
    given = rate(user, id, **said)
    assert set(given) >= FIELDS
    assert given == {**given, **said, "rating": "up", "revision": 1, "state": "queued", "used_in": []}
    assert given["message_id"] == id and given["adapter_version"] == 0
    assert user.get(f"/v1/messages/{id}/feedback").json() == given
    assert user.get(f"/v1/messages/{id}").json()["feedback"] == given
    assert user.get("/v1/messages").json()["data"][0]["feedback"] == given
    assert user.get("/v1/adapter").json()["feedback"] == {"up": 1, "down": 0, "queued": 1, "used": 0}


def test_what_is_left_out_is_empty(user):
    given = rate(user, ask(user)["id"], "down")
    assert (given["tags"], given["comment"], given["correction"]) == ([], None, None)


def test_the_last_rating_stands_and_the_same_again_changes_nothing(user):
    id = ask(user)["id"]
    assert [rate(user, id, rating)["revision"] for rating in ("up", "up", "down", "down", "up")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert rate(user, id, "up", comment="why")["revision"] == 4
    assert user.get("/v1/adapter").json()["feedback"] == {"up": 1, "down": 0, "queued": 1, "used": 0}


def test_a_withdrawn_rating_is_shown_as_such_and_may_be_given_anew(user):
    id = ask(user)["id"]
    rate(user, id)
    withdrawn = user.delete(f"/v1/messages/{id}/feedback")
    assert withdrawn.status_code == 200 and withdrawn.json()["state"] == "withdrawn"
    assert user.delete(f"/v1/messages/{id}/feedback").json() == withdrawn.json()
    assert user.get(f"/v1/messages/{id}/feedback").json()["state"] == "withdrawn"
    assert user.get("/v1/me").json()["thumbs"] == 0
    assert rate(user, id)["state"] == "queued" and rate(user, id)["revision"] == 2


def test_nothing_rated_is_404(user):
    id = ask(user)["id"]
    problem(user.get(f"/v1/messages/{id}/feedback"), 404, "feedback_not_found")
    problem(user.delete(f"/v1/messages/{id}/feedback"), 404, "feedback_not_found")


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_somebody_elses_message_is_404_like_one_that_never_was(api, user, method):
    with api.user() as other:
        theirs = ask(other)["id"]
        rate(other, theirs)
        for id in (theirs, "msg_0", "a b", "%2e%2e", "x" * 5000):
            response = api.call(
                method,
                f"/v1/messages/{id}/feedback",
                user.key,
                json={"rating": "up"} if method == "PUT" else None,
            )
            problem(response, 404, "message_not_found")
        assert other.get(f"/v1/messages/{theirs}/feedback").json()["revision"] == 1
    assert user.post("/v1/feedback", json={"message_id": theirs, "rating": "up"}).status_code == 404


def test_an_answer_that_still_runs_is_409(api, user):
    with connect(api.redis_url) as redis:
        uid, log = redis.hget("thumbtune:ids", user.id), MessageLog(redis)
        log.begin(uid, message("msg_running"))
        problem(
            user.put("/v1/messages/msg_running/feedback", json={"rating": "up"}), 409, "message_not_ended"
        )
        assert user.get("/v1/messages/msg_running").json()["finish_reason"] is None
        log.finish(uid, "msg_running", "There.", "stop")
    assert rate(user, "msg_running")["state"] == "queued"


def test_nothing_can_be_learnt_from_an_empty_answer(user):
    whole = ask(user, temperature=0, max_tokens=8)["choices"][0]["message"]["content"]
    empty = ask(user, temperature=0, max_tokens=8, stop=whole[0])
    assert empty["choices"][0]["message"]["content"] == ""
    given = rate(user, empty["id"])
    assert given["state"] == "refused" and "empty" in given["reason"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rating": "meh"}, "rating"),
        ({"rating": 1}, "rating"),
        ({}, "rating"),
        ({"rating": "up", "tags": "short"}, "tags"),
        ({"rating": "up", "tags": ["x"] * 33}, "tags"),
        ({"rating": "up", "tags": ["x" * 65]}, "tags.0"),
        ({"rating": "up", "tags": ["a\nb"]}, "tags.0"),
        ({"rating": "up", "comment": 5}, "comment"),
        ({"rating": "up", "comment": "a\x1bb"}, "comment"),
        ({"rating": "up", "comment": "x" * 10_001}, "comment"),
        ({"rating": "up", "correction": "x" * 20_001}, "correction"),
        ({"rating": "up", "remark": "x"}, "remark"),
    ],
)
def test_what_cannot_be_said_is_400_and_changes_nothing(user, body, param):
    id = ask(user)["id"]
    response = user.put(f"/v1/messages/{id}/feedback", json=body)
    problem(response, 400)
    assert response.json()["error"]["param"] == param
    problem(user.get(f"/v1/messages/{id}/feedback"), 404)


def test_a_body_past_the_limit_is_413_however_its_length_is_told(user):
    id = ask(user)["id"]
    body = b'{"rating": "up", "comment": "' + b"x" * 2**20 + b'"}'
    problem(user.put(f"/v1/messages/{id}/feedback", content=body), 413, "body_too_large")
    problem(
        user.put(f"/v1/messages/{id}/feedback", content=iter([body[:1000], body[1000:]])),
        413,
        "body_too_large",
    )


def test_an_idempotency_key_makes_one_of_many(user):
    id, other = ask(user)["id"], ask(user)["id"]
    key = {"Idempotency-Key": "k-1"}
    body = {"message_id": id, "rating": "up"}
    first = user.post("/v1/feedback", json=body, headers=key)
    rate(user, id, "down")
    again = user.post("/v1/feedback", json=body, headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert (
        again.json()["revision"] == 2 and again.json()["rating"] == "down"
    )  # done once: the later change stands
    problem(
        user.post("/v1/feedback", json={**body, "rating": "down"}, headers=key), 409, "idempotency_conflict"
    )
    problem(
        user.post("/v1/feedback", json={**body, "message_id": other}, headers=key),
        409,
        "idempotency_conflict",
    )
    problem(user.post("/v1/feedback", json=body, headers={"Idempotency-Key": "x" * 300}), 400)


def test_idempotency_keys_are_each_users_own(api, user):
    key = {"Idempotency-Key": "shared"}
    with api.user() as other:
        for client, rating in ((user, "up"), (other, "down")):
            body = {"message_id": ask(client)["id"], "rating": rating}
            assert client.post("/v1/feedback", json=body, headers=key).json()["rating"] == rating


def test_post_without_a_key_is_put(user):
    id = ask(user)["id"]
    body = {"message_id": id, "rating": "down", "tags": ["long"]}
    assert user.post("/v1/feedback", json=body).json() == user.get(f"/v1/messages/{id}/feedback").json()


def test_a_rating_that_was_answered_survives_the_kill_of_the_api_and_of_redis(tmp_path):
    with alone(tmp_path) as api, api.user() as user:
        ids = [ask(user, max_tokens=4)["id"] for _ in range(6)]
        answered = []

        def rate_them_all():
            for id in ids * 50:
                try:
                    answered.append(rate(user, id, "up" if len(answered) % 2 else "down"))
                except Exception:  # noqa: BLE001 - the connection breaks when the API dies
                    return

        rating = threading.Thread(target=rate_them_all)
        rating.start()
        time.sleep(0.5)
        api.process.kill()
        rating.join()
        assert answered
        last = {each["message_id"]: each for each in answered}
        with running(api.data, api.redis_url) as again, again.client(user.key) as client:
            for id, told in last.items():
                kept = client.get(f"/v1/messages/{id}/feedback").json()
                # One more may have been written, whose answer the kill cut off.
                assert kept["revision"] - told["revision"] in (0, 1)


def test_while_redis_is_away_calls_get_503_and_it_heals_by_itself(tmp_path):
    with server(tmp_path / "redis", appendonly="yes") as url, running(tmp_path / "data", url) as api:
        with connect(url) as redis, api.user() as user:
            id = ask(user)["id"]
            given = rate(user, id)
            kill(redis)
            for response in (
                user.put(f"/v1/messages/{id}/feedback", json={"rating": "down"}),
                user.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hi"}]}),
                user.get("/v1/me"),
            ):
                problem(response, 503, "redis_unavailable")
                assert int(response.headers["Retry-After"]) >= 1
            unready = user.get("/readyz")
            assert unready.status_code == 503 and unready.json()["reasons"]
            assert user.get("/healthz").status_code == 200
        with server(tmp_path / "redis", appendonly="yes"), api.client(user.key) as client:
            assert client.get("/readyz").status_code == 200
            assert client.get(f"/v1/messages/{id}/feedback").json() == given
            ask(client)


def kill(redis):
    """The server, as a crash would."""
    os.kill(redis.info("server")["process_id"], signal.SIGKILL)
    time.sleep(0.2)


def test_a_full_redis_is_503_and_nothing_is_half_done(tmp_path):
    with alone(tmp_path) as api, api.user() as user, connect(api.redis_url) as redis:
        id = ask(user)["id"]
        redis.config_set("maxmemory", 1)
        problem(user.put(f"/v1/messages/{id}/feedback", json={"rating": "up"}), 503, "redis_full")
        problem(
            user.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hi"}]}), 503
        )
        assert user.get(f"/v1/messages/{id}").json()["feedback"] is None
        redis.config_set("maxmemory", 0)
        assert rate(user, id)["revision"] == 1
        ask(user)
