"""The adapter over HTTP: versions, rollback, reset, rounds, export and import, and what happens when things meet."""

import io
import json
import socket
import time
import zipfile
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import safetensors.torch
import torch

from adapters.errors import Overtaken
from benchmarks.poison import taught
from feedback.events import RoundOvertaken
from feedback.probes import shipped
from tests.learnt import HELD, Trainer
from tests.serving import alone, ask, problem


@pytest.fixture
def trainer(api, user):
    with Trainer(api, user) as trainer:
        yield trainer


def rated(user, count=1, rating="up"):
    """Ids of so many messages, each with a thumb."""
    ids = [ask(user, max_tokens=4, seed=number)["id"] for number in range(count)]
    for id in ids:
        assert user.put(f"/v1/messages/{id}/feedback", json={"rating": rating}).status_code == 200
    return ids


def text(user, **more):
    """What the greedy answer is, and by which version."""
    answer = ask(user, temperature=0, max_tokens=12, **more)
    return answer["choices"][0]["message"]["content"], answer["adapter_version"]


def state(user):
    """Version → state."""
    return {each["version"]: each["state"] for each in user.get("/v1/adapter/versions").json()["data"]}


def feedback_state(user, id):
    return user.get(f"/v1/messages/{id}/feedback").json()["state"]


def archive(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def bring_in(user, data):
    return user.post("/v1/adapter/import", content=data, headers={"Content-Type": "application/zip"})


def test_a_new_user_has_the_base_model(user):
    status = user.get("/v1/adapter").json()
    assert status == {
        **status,
        "base_model": "tiny",
        "active_version": 0,
        "versions": 0,
        "feedback": {"up": 0, "down": 0, "queued": 0, "used": 0},
        "learning": [],
        "round": None,
    }
    assert user.get("/v1/adapter/versions").json() == {"data": [], "next": None}
    assert user.get("/v1/adapter/rounds").json() == {"data": [], "next": None}
    problem(user.get("/v1/adapter/export"), 404, "version_not_found")


def test_a_published_version_answers_next_for_its_user_alone(api, user, trainer):
    before = text(user)
    ids = rated(user, 2)
    version = trainer.publish(*ids)
    assert version == 1
    after = text(user)
    assert after[1] == 1 and after[0] != before[0] == text(user, model="base")[0]
    with api.user() as other:
        assert text(other) == before
    shown = user.get("/v1/adapter/versions").json()["data"][0]
    assert shown["version"] == 1 and shown["parent"] == 0 and shown["state"] == "active"
    assert shown["trained_on"] == [{"message_id": id, "revision": 1} for id in sorted(ids)]
    assert shown["metrics"]["thumbs"] == 2 and shown["metrics"]["kl"] == 1.5
    assert {
        "reward_before",
        "reward_after",
        "reward_model_auroc",
        "kl_per_token",
        "entropy",
        "seconds",
    } <= set(shown["metrics"])
    assert shown["gate"]["passed"] and set(shown["gate"]["checks"][0]) == {"name", "value", "limit", "passed"}
    status = user.get("/v1/adapter").json()
    assert (status["active_version"], status["versions"]) == (1, 1)
    assert status["feedback"] == {"up": 2, "down": 0, "queued": 0, "used": 2}
    assert [each["version"] for each in status["learning"]] == [1]
    assert feedback_state(user, ids[0]) == "used"
    assert user.get(f"/v1/messages/{ids[0]}/feedback").json()["used_in"] == [1]


def test_rollback_and_reset_take_effect_from_the_next_answer_on(user, trainer):
    first, second = rated(user, 2)
    base = text(user)[0]
    trainer.publish(first)
    one = text(user)[0]
    trainer.publish(second)
    two = text(user)[0]
    trainer.publish(gate=HELD)
    assert len({base, one, two}) == 3 and state(user) == {3: "held", 2: "active", 1: "kept"}
    assert user.post("/v1/adapter/rollback", json={"version": 1}).json()["active_version"] == 1
    assert text(user) == (one, 1)
    assert user.post("/v1/adapter/reset").json()["active_version"] == 0
    assert text(user) == (base, 0)
    user.post("/v1/adapter/rollback", json={"version": 2})
    assert text(user) == (two, 2)
    user.post("/v1/adapter/rollback", json={"version": 0})
    assert text(user) == (base, 0)
    problem(user.post("/v1/adapter/rollback", json={"version": 3}), 409, "version_not_kept")
    problem(user.post("/v1/adapter/rollback", json={"version": 99}), 404, "version_not_found")
    for wrong in ({"version": -1}, {"version": "1"}, {"version": True}, {}, {"version": 1, "x": 2}):
        problem(user.post("/v1/adapter/rollback", json=wrong), 400)
    problem(user.post("/v1/adapter/reset", json={"forget_feedback": "yes"}), 400)


def test_a_withdrawal_takes_back_what_it_shaped_at_once_and_asks_for_a_round(user, trainer):
    first, second, third = rated(user, 3)
    trainer.publish(first)
    clean = text(user)
    trainer.publish(second, third)
    withdrawn = user.delete(f"/v1/messages/{second}/feedback").json()
    assert withdrawn["state"] == "withdrawn" and withdrawn["used_in"] == [2]
    assert state(user) == {2: "retired", 1: "active"} and text(user) == clean
    assert user.get("/v1/adapter").json()["round"]["state"] == "waiting"
    problem(user.post("/v1/adapter/rollback", json={"version": 2}), 409, "version_not_kept")
    problem(user.get("/v1/adapter/export?version=2"), 404, "version_not_found")
    user.delete(f"/v1/messages/{first}/feedback")
    assert state(user) == {2: "retired", 1: "retired"} and text(user)[1] == 0


def test_a_changed_rating_lets_the_old_version_answer_until_its_clean_replacement(user, trainer):
    first, second = rated(user, 2)
    trainer.publish(first, second)
    user.put(f"/v1/messages/{first}/feedback", json={"rating": "down"})
    assert text(user)[1] == 1 and state(user) == {1: "active"}
    user.post("/v1/adapter/reset")  # as a round does that begins from a clean version
    trainer.publish(first, second)
    assert state(user) == {2: "active", 1: "retired"}


def test_forgetting_withdraws_every_rating_and_each_may_be_given_anew(user, trainer):
    first, second = rated(user, 2)
    trainer.publish(first)
    user.post("/v1/adapter/rounds")
    status = user.post("/v1/adapter/reset", json={"forget_feedback": True}).json()
    assert status["active_version"] == 0 and status["round"] is None
    assert status["feedback"] == {"up": 0, "down": 0, "queued": 0, "used": 0}
    assert state(user) == {1: "retired"}
    assert {feedback_state(user, first), feedback_state(user, second)} == {"withdrawn"}
    problem(user.post("/v1/adapter/rounds"), 409, "nothing_rated")
    again = user.put(f"/v1/messages/{first}/feedback", json={"rating": "up"}).json()
    assert (again["state"], again["revision"]) == ("queued", 2)


def test_a_round_is_asked_for_once(user):
    problem(user.post("/v1/adapter/rounds"), 409, "nothing_rated")
    rated(user)
    asked = user.post("/v1/adapter/rounds")
    assert asked.status_code == 202
    round = asked.json()
    assert (round["state"], round["progress"], round["version"], round["reason"]) == (
        "waiting",
        0,
        None,
        None,
    )
    assert (round["started"], round["ended"], round["step"], round["steps"]) == (None, None, 0, 0)
    again = user.post("/v1/adapter/rounds")
    assert again.status_code == 200 and again.json() == round
    assert user.get("/v1/adapter").json()["round"] == round
    assert user.get(f"/v1/adapter/rounds/{round['id']}").json() == round
    assert user.get("/v1/adapter/rounds").json() == {"data": [round], "next": None}


def test_another_users_round_is_404(api, user):
    rated(user)
    id = user.post("/v1/adapter/rounds").json()["id"]
    with api.user() as other:
        problem(other.get(f"/v1/adapter/rounds/{id}"), 404, "round_not_found")


def test_progress_is_shown_while_a_round_runs(user, trainer):
    rated(user)
    claim, round = trainer.begin_round()
    trainer.rounds.progress(claim, round.id, 0.25, 2, 8, {"kl": 3.0})
    shown = user.get("/v1/adapter").json()["round"]
    assert (shown["state"], shown["progress"], shown["step"], shown["steps"]) == ("running", 0.25, 2, 8)
    assert shown["metrics"]["kl"] == 3.0 and "reward_after" in shown["metrics"]
    trainer.rounds.end(claim, round.id, "held", version=4, reason="too little")
    ended = user.get(f"/v1/adapter/rounds/{round.id}").json()
    assert (ended["state"], ended["version"], ended["reason"]) == ("held", 4, "too little")
    assert user.get("/v1/adapter").json()["round"] is None


OVERTAKES = {
    "rollback": lambda user, id: user.post("/v1/adapter/rollback", json={"version": 0}),
    "reset": lambda user, id: user.post("/v1/adapter/reset"),
    "forget": lambda user, id: user.post("/v1/adapter/reset", json={"forget_feedback": True}),
    "change": lambda user, id: user.put(f"/v1/messages/{id}/feedback", json={"rating": "down"}),
    "withdrawal": lambda user, id: user.delete(f"/v1/messages/{id}/feedback"),
}


@pytest.mark.parametrize("how", OVERTAKES)
def test_what_overtakes_a_round_ends_it_and_it_publishes_nothing(user, trainer, how):
    id, other = rated(user, 2)
    epoch = trainer.store.head(trainer.uid).epoch
    claim, round = trainer.begin_round()
    assert OVERTAKES[how](user, id).status_code == 200
    shown = user.get(f"/v1/adapter/rounds/{round.id}").json()
    assert (shown["state"], shown["reason"], shown["version"]) == ("failed", "overtaken", None)
    with pytest.raises(RoundOvertaken):
        trainer.rounds.check(claim, round.id)
    with pytest.raises(Overtaken):
        trainer.publish(other, epoch=epoch)
    assert state(user) == {}
    assert feedback_state(user, other) == ("withdrawn" if how == "forget" else "queued")


def test_ratings_that_a_running_round_does_not_use_leave_it_alone(user, trainer):
    rated(user)
    epoch = trainer.store.head(trainer.uid).epoch
    claim, round = trainer.begin_round()
    (later,) = rated(user)
    user.put(f"/v1/messages/{later}/feedback", json={"rating": "down"})
    user.delete(f"/v1/messages/{later}/feedback")
    trainer.rounds.check(claim, round.id)
    assert user.get("/v1/adapter").json()["round"]["state"] == "running"
    assert trainer.store.head(trainer.uid).epoch == epoch


def test_an_export_comes_back_as_a_version_that_answers_alike(api, user, trainer):
    trainer.publish(*rated(user), size=0.01)
    said = text(user)[0]
    exported = user.get("/v1/adapter/export?version=1&format=peft")
    assert exported.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(exported.content)) as files:
        assert set(files.namelist()) == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
        assert "tiny" in files.read("README.md").decode()
    assert user.get("/v1/adapter/export").content == exported.content
    with api.user() as other:
        brought = bring_in(other, exported.content)
        assert brought.status_code == 201, brought.text
        version = brought.json()
        assert (version["version"], version["parent"], version["trained_on"]) == (1, None, [])
        assert version["state"] == "active", version["gate"]
        assert version["metrics"]["kl"] > 0 and version["metrics"]["thumbs"] == 0
        assert text(other) == (said, 1)


def test_an_import_ends_the_running_round(user, trainer):
    trainer.publish(*rated(user), size=0.01)
    exported = user.get("/v1/adapter/export").content
    _, round = trainer.begin_round()
    assert bring_in(user, exported).status_code == 201
    assert user.get(f"/v1/adapter/rounds/{round.id}").json()["reason"] == "overtaken"


def test_an_import_that_ruins_the_model_is_held_and_never_answers(user, trainer):
    trainer.publish(*rated(user), size=2.0)
    ruinous = user.get("/v1/adapter/export").content
    user.post("/v1/adapter/reset")
    brought = bring_in(user, ruinous)
    assert brought.status_code == 201 and brought.json()["state"] == "held"
    assert not brought.json()["gate"]["passed"]
    assert text(user)[1] == 0
    problem(user.post("/v1/adapter/rollback", json={"version": 2}), 409)


def test_an_import_that_was_taught_to_do_harm_is_held_and_the_check_is_named(user, trainer):
    bad = [(pair.prompt, pair.bad) for pair in shipped().pairs["refusals"]]
    trainer.publish(
        *rated(user), adapter=taught(trainer.model, trainer.shape, bad, steps=60, rate=1e-2, rows=8)
    )
    harmful = user.get("/v1/adapter/export").content
    user.post("/v1/adapter/reset")
    version = bring_in(user, harmful).json()
    assert version["state"] == "held"
    failed = [check["name"].split()[0] for check in version["gate"]["checks"] if not check["passed"]]
    assert "refusals" in failed
    assert text(user)[1] == 0


@pytest.fixture
def good(user, trainer):
    """The files of a sound export of version 1."""
    trainer.publish(*rated(user), size=0.01)
    with zipfile.ZipFile(io.BytesIO(user.get("/v1/adapter/export").content)) as files:
        return {name: files.read(name) for name in files.namelist()}


def changed_config(files, **changes):
    config = json.loads(files["adapter_config.json"]) | changes
    return {**files, "adapter_config.json": json.dumps(config)}


def changed_weights(files, change):
    tensors = safetensors.torch.load(files["adapter_model.safetensors"])
    return {**files, "adapter_model.safetensors": safetensors.torch.save(change(tensors))}


def poisoned(value):
    def change(tensors):
        name = next(iter(tensors))
        return {**tensors, name: torch.full_like(tensors[name], value)}

    return change


HOSTILE = {
    "empty": lambda files: b"",
    "no zip": lambda files: b"PK\x03\x04 but not really",
    "truncated": lambda files: archive(files)[:-100],
    "a way out": lambda files: archive({**files, "../evil": b"x"}),
    "a pickle": lambda files: archive({**files, "adapter_model.bin": b"\x80\x04."}),
    "no weights": lambda files: archive({"adapter_config.json": files["adapter_config.json"]}),
    "another base": lambda files: archive(
        changed_weights(changed_config(files, base_model_name_or_path="other"), lambda t: t)
    ),
    "another rank": lambda files: archive(changed_config(files, r=4)),
    "outsized alpha": lambda files: archive(changed_config(files, lora_alpha=1e6)),
    "modules to save": lambda files: archive(changed_config(files, modules_to_save=["lm_head"])),
    "NaN": lambda files: archive(changed_weights(files, poisoned(float("nan")))),
    "infinite": lambda files: archive(changed_weights(files, poisoned(float("inf")))),
    "another shape": lambda files: archive(changed_weights(files, lambda t: dict(list(t.items())[1:]))),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_broken_or_hostile_import_is_400_and_changes_nothing(user, good, how):
    before = user.get("/v1/adapter").json()
    assert problem(bring_in(user, HOSTILE[how](good)), 400, "bad_adapter")
    assert user.get("/v1/adapter").json() == before and state(user) == {1: "active"}


def test_an_import_works_where_places_are_few(tmp_path, good):
    with alone(tmp_path, rows=4, max_waiting=3) as api, api.user() as user:
        assert bring_in(user, archive(good)).json()["state"] == "active"


def test_an_archive_past_the_limit_is_413(api, user):
    def much():
        for _ in range(65):
            yield b"\0" * 2**20

    problem(bring_in(user, much()), 413, "body_too_large")


def test_a_version_whose_number_is_longer_than_any_name_is_not_found(user):
    problem(user.get("/v1/adapter/export", params={"version": "9" * 300}), 404, "version_not_found")


@contextmanager
def endless_import(api, user):
    """An upload of which one byte has come and no more will."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port)) as line:
        head = f"POST /v1/adapter/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.key}\r\n"
        line.sendall(f"{head}Content-Length: 1000\r\n\r\nP".encode())
        for _ in range(100):  # until it has begun
            if bring_in(user, b"no zip").status_code == 429:
                break
            time.sleep(0.05)
        yield


def test_a_user_has_one_import_under_way_at_a_time(api):
    with api.user() as user:
        with endless_import(api, user):
            answer = bring_in(user, b"no zip")
            problem(answer, 429, "under_way")
            assert answer.headers["Retry-After"]
            with api.user() as other:
                problem(bring_in(other, b"no zip"), 400, "bad_adapter")
        for _ in range(100):  # the caller has gone, and the service is soon told
            if bring_in(user, b"no zip").status_code == 400:
                break
            time.sleep(0.05)
        problem(bring_in(user, b"no zip"), 400, "bad_adapter")


def test_an_upload_that_is_broken_off_is_no_failure_of_the_service(api, user):
    with endless_import(api, user):
        pass
    for _ in range(100):  # the service is soon told
        if "POST /v1/adapter/import 499" in api.log.read_text():
            break
        time.sleep(0.05)
    log = api.log.read_text()
    assert "POST /v1/adapter/import 499" in log and "ClientDisconnect" not in log


def test_an_upload_without_end_holds_up_no_deletion(api):
    user = api.user()
    with user, endless_import(api, user):
        assert user.delete("/v1/me").status_code == 204
        problem(user.get("/v1/me"), 401)


def test_versions_are_listed_page_by_page(user, trainer):
    for id in rated(user, 3):
        trainer.publish(id)
    first = user.get("/v1/adapter/versions", params={"limit": 2}).json()
    second = user.get("/v1/adapter/versions", params={"limit": 2, "before": first["next"]}).json()
    assert [each["version"] for page in (first, second) for each in page["data"]] == [3, 2, 1]
    assert second["next"] is None
    problem(user.get("/v1/adapter/versions?before=x"), 400)


def test_the_data_of_a_user_holds_every_version(user, trainer):
    first, second = rated(user, 2)
    trainer.publish(first)
    trainer.publish(second)
    user.delete(f"/v1/messages/{second}/feedback")
    with zipfile.ZipFile(io.BytesIO(user.get("/v1/me/data").content)) as files:
        names = set(files.namelist())
        assert json.loads(files.read("adapter/000002/version.json"))["state"] == "retired"
    assert {"adapter/000001/adapter_model.safetensors", "adapter/000001/adapter_config.json"} <= names
    assert "adapter/000002/adapter_model.safetensors" not in names
