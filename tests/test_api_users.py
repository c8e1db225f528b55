"""Users, their keys, and how they go: over HTTP, with a look into Redis and onto the disk afterwards."""

import json
import stat
import subprocess
import threading
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from feedback.connection import connect
from tests.serving import ADMIN, alone, ask, events, free_port, problem, running, spawn

CALLS = [
    ("GET", "/v1/me"),
    ("GET", "/v1/me/data"),
    ("DELETE", "/v1/me"),
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/messages"),
    ("GET", "/v1/messages/msg_1"),
    ("PUT", "/v1/messages/msg_1/feedback"),
    ("GET", "/v1/messages/msg_1/feedback"),
    ("DELETE", "/v1/messages/msg_1/feedback"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/adapter"),
    ("GET", "/v1/adapter/versions"),
    ("POST", "/v1/adapter/rounds"),
    ("GET", "/v1/adapter/rounds"),
    ("GET", "/v1/adapter/rounds/round_1"),
    ("POST", "/v1/adapter/rollback"),
    ("POST", "/v1/adapter/reset"),
    ("GET", "/v1/adapter/export"),
    ("POST", "/v1/adapter/import"),
]
OPERATORS = [
    ("POST", "/v1/users"),
    ("GET", "/v1/users"),
    ("POST", "/v1/users/ada/keys"),
    ("DELETE", "/v1/users/ada"),
]
UNREADABLE = [b"{bad", b'"\xff"', b"[" * 100_000]  # no JSON, no UTF-8, too deep


@pytest.fixture
def admin(api):
    with api.client(ADMIN) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_users_call_needs_a_users_key(api, method, path):
    for key in (None, "wrong", "ключ".encode()):
        response = api.call(method, path, key)
        problem(response, 401, "invalid_api_key")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "operator" in problem(api.call(method, path, ADMIN), 401)


@pytest.mark.parametrize(("method", "path"), OPERATORS)
def test_an_operators_call_needs_the_operators_key(api, user, method, path):
    for key in (None, "wrong", user.key):
        problem(api.call(method, path, key, json={} if method == "POST" else None), 401)


@pytest.mark.parametrize(("method", "path"), CALLS + OPERATORS)
def test_a_wrong_key_is_told_whatever_the_body_is_like(api, method, path):
    for body in UNREADABLE:
        problem(api.call(method, path, "wrong", content=body), 401, "invalid_api_key")


@pytest.mark.parametrize("body", UNREADABLE)
def test_a_body_that_cannot_be_read_is_400_for_whoever_may_call(admin, user, body):
    problem(user.post("/v1/users", content=body), 401, "invalid_api_key")
    problem(admin.post("/v1/users", content=body), 400)
    problem(admin.post("/v1/feedback", content=body), 401, "invalid_api_key")
    problem(user.post("/v1/feedback", content=body), 400)


def test_a_user_is_made_listed_and_knows_itself(admin, api):
    made = admin.post("/v1/users", json={"id": "Zoë @ work"})
    assert made.status_code == 201 and set(made.json()) == {"id", "api_key"}
    with api.client(made.json()["api_key"]) as zoe:
        ask(zoe, n=2)
        me = zoe.get("/v1/me").json()
        id = zoe.get("/v1/messages").json()["data"][0]["id"]
        zoe.put(f"/v1/messages/{id}/feedback", json={"rating": "down"})
        assert (me["id"], me["messages"], me["thumbs"]) == ("Zoë @ work", 2, 0)
        assert zoe.get("/v1/me").json()["thumbs"] == 1
    (listed,) = [
        each for each in admin.get("/v1/users?limit=1000").json()["data"] if each["id"] == "Zoë @ work"
    ]
    assert listed == {**listed, "messages": 2, "thumbs": 1, "active_version": 0, "created": me["created"]}


def test_an_id_in_use_is_409_and_one_left_out_is_made_up(admin):
    assert admin.post("/v1/users", json={"id": "twice"}).status_code == 201
    problem(admin.post("/v1/users", json={"id": "twice"}), 409, "id_in_use")
    ids = {admin.post("/v1/users").json()["id"], admin.post("/v1/users", json={}).json()["id"]}
    assert len(ids) == 2


@pytest.mark.parametrize("id", ["", "a/b", "..", "a\nb", " a", "x" * 200, 5, "\ud800"])
def test_an_id_that_cannot_be_is_400(admin, id):
    body = json.dumps({"id": id})
    problem(admin.post("/v1/users", content=body, headers={"Content-Type": "application/json"}), 400)


def test_an_unknown_field_is_400(admin):
    assert "name" in problem(admin.post("/v1/users", json={"name": "ada"}), 400)


def test_a_new_key_ends_the_old_one(admin, api, user):
    kept = Path(api.data) / "first-user.json"
    kept.write_text(json.dumps({"id": user.id, "api_key": user.key}))
    with api.user() as other:
        assert admin.post(f"/v1/users/{other.id}/keys").status_code == 201 and kept.exists()
    made = admin.post(f"/v1/users/{user.id}/keys")
    assert made.status_code == 201 and made.json()["id"] == user.id and not kept.exists()
    problem(user.get("/v1/me"), 401)
    with api.client(made.json()["api_key"]) as again:
        assert again.get("/v1/me").json()["id"] == user.id
    problem(admin.post("/v1/users/nobody/keys"), 404, "user_not_found")


def test_users_are_listed_page_by_page(tmp_path):
    with alone(tmp_path) as api, api.client(ADMIN) as admin:
        ids = [admin.post("/v1/users").json()["id"] for _ in range(5)]
        seen, after = [], {}
        while True:
            page = admin.get("/v1/users", params={"limit": 2, **after}).json()
            seen += [each["id"] for each in page["data"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert seen == ids
        problem(admin.get("/v1/users?after=x"), 400)
        problem(admin.get("/v1/users?limit=0"), 400)


def test_the_data_of_a_user_is_a_zip_of_everything(user):
    answer = ask(user, "Grüße 🦊", n=2)
    user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "up", "comment": "schön"})
    user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "down"})
    response = user.get("/v1/me/data")
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert user.id in archive.read("account.json").decode()
        messages = archive.read("messages.jsonl").decode().splitlines()
        feedback = archive.read("feedback.jsonl").decode().splitlines()
    assert len(messages) == 2 and "Grüße 🦊" in messages[0]
    assert len(feedback) == 2 and '"superseded"' in feedback[0] and "schön" in feedback[0]


def test_nothing_is_left_of_a_user_who_goes(tmp_path):
    with alone(tmp_path) as api, api.user("ada") as ada, api.user("bob") as bob:
        answer = ask(ada, "a very secret question")
        ada.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "up", "comment": "a secret remark"})
        ada.post("/v1/adapter/rounds")
        kept = ask(bob, "an open question")
        files = [path.read_bytes() for path in (tmp_path / "redis").rglob("*") if path.is_file()]
        assert any(b"very secret" in data for data in files)
        with connect(api.redis_url) as redis:
            uid = redis.hget("thumbtune:ids", "ada")
            assert (api.data / "adapters" / uid).is_dir()
            assert ada.delete("/v1/me").status_code == 204
            assert not [key for key in redis.scan_iter("*") if uid in key]
            assert uid not in str([redis.zrange("thumbtune:due", 0, -1), redis.smembers("thumbtune:leaving")])
        files = [path.read_bytes() for path in (tmp_path / "redis").rglob("*") if path.is_file()]
        assert not any(b"secret" in data or uid.encode() in data for data in files)
        assert any(b"open question" in data for data in files)
        assert not (api.data / "adapters" / uid).exists()
        problem(ada.get("/v1/me"), 401)
        assert bob.get(f"/v1/messages/{kept['id']}").status_code == 200


def test_the_same_id_made_again_shares_nothing_with_the_old_one(api):
    with api.user("again") as old:
        id = ask(old)["id"]
        with api.client(ADMIN) as admin:
            assert admin.delete("/v1/users/again").status_code == 204
            problem(admin.delete("/v1/users/again"), 404, "user_not_found")
        with api.user("again") as new:
            problem(old.get("/v1/me"), 401)
            problem(new.get(f"/v1/messages/{id}"), 404)
            assert new.get("/v1/me").json()["messages"] == 0


def test_a_deletion_ends_running_answers_and_nothing_is_written_afterwards(api):
    # The tiny model is done in half a second, and a busy machine may bring the deletion after that.
    assert any(deleted_while_answering(api) == "cancelled" for _ in range(20))


def deleted_while_answering(api):
    """How the answers of a user end who goes meanwhile."""
    user = api.user()
    body = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 450, "n": 8}
    with connect(api.redis_url) as redis, user, api.client(user.key) as leaver:
        uid = redis.hget("thumbtune:ids", user.id)
        leaver.get("/v1/me")  # connected already
        with user.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
            stream = events(response)
            next(stream)
            gone = []
            deleting = threading.Thread(target=lambda: gone.append(leaver.delete("/v1/me")))
            deleting.start()
            *_, last, done = stream
            deleting.join()
        assert gone[0].status_code == 204
        assert not [key for key in redis.scan_iter("*") if uid in key]
    if done != "[DONE]":  # the answers were whole, and there was nobody any more to keep them for
        assert done["error"]["message"] == "this user has been deleted"
        return "too late"
    return last["choices"][0]["finish_reason"]


def test_a_deletion_cut_short_is_finished_at_the_next_start(tmp_path):
    with alone(tmp_path) as api, api.user("ada") as ada:
        ask(ada)
        with connect(api.redis_url) as redis:
            uid = redis.hget("thumbtune:ids", "ada")
            api.stop()
            # As a process killed between the first step and the second leaves it.
            redis.hdel("thumbtune:ids", "ada")
            redis.sadd("thumbtune:leaving", uid)
            with running(api.data, api.redis_url) as again:
                for _ in range(100):
                    if not redis.smembers("thumbtune:leaving"):
                        break
                    threading.Event().wait(0.1)
                assert not [key for key in redis.scan_iter("*") if uid in key]
                problem(again.call("GET", "/v1/me", ada.key), 401)


def test_keys_are_kept_hashed(api, user):
    ask(user)
    with connect(api.redis_url) as redis:
        everything = [
            str(redis.hgetall("thumbtune:api-keys")),
            redis.get(f"thumbtune:user:{uid_of(redis, user)}:account"),
        ]
    assert not any(user.key in text or ADMIN in text for text in everything)
    assert user.key not in api.log.read_text() and ADMIN not in api.log.read_text()


def uid_of(redis, user):
    return redis.hget("thumbtune:ids", user.id)


def test_the_operators_key_is_made_once_kept_private_and_printed_once(tmp_path):
    with alone(tmp_path, admin_key="") as api:
        file = Path(api.data) / "admin.key"
        key = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert api.log.read_text().count(key) == 1
        assert api.call("POST", "/v1/users", key).status_code == 201
        api.stop()
        with running(api.data, api.redis_url, admin_key="") as again:
            assert file.read_text().strip() == key and again.log.read_text().count(key) == 1
            assert again.call("GET", "/v1/users", key).status_code == 200


def test_a_second_api_on_the_same_data_folder_is_refused_with_a_reason(tmp_path):
    with alone(tmp_path) as api:
        process, log = spawn(api.data, api.redis_url, free_port())
        assert process.wait(60) == 3
        last = log.read_text().splitlines()[-1]
        assert "another API runs on" in last and "THUMBTUNE_DATA" in last


def test_a_port_in_use_is_refused_with_a_reason(tmp_path, api):
    port = int(api.url.rpartition(":")[2])
    (tmp_path / "data").mkdir()
    process, log = spawn(tmp_path / "data", api.redis_url, port)
    assert process.wait(60) == 3
    assert "Traceback" not in log.read_text() and f"cannot listen on 127.0.0.1:{port}" in log.read_text()


def test_another_folders_redis_is_refused_with_a_reason(tmp_path, api):
    (tmp_path / "data").mkdir()
    process, log = spawn(tmp_path / "data", api.redis_url, 1)
    try:
        assert process.wait(60) == 3
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert "Traceback" not in log.read_text() and "another data folder" in log.read_text()
