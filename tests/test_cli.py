"""The command line: what each command prints, and that every failure is one clear line and an exit code."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from feedback import keys
from feedback.connection import connect
from service.auth import Accounts, new_uid
from service.settings import Settings
from tests.candidates import BASE, SHAPE, candidate
from tests.servers import server
from tests.serving import ADMIN, environment, free_port
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[1]


def thumbtune(*words, env=None, **more):
    return subprocess.run(
        [sys.executable, "-m", "service", *words],
        cwd=ROOT, env=env or {"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120, **more,
    )  # fmt: skip


def refused(done, code, said):
    """One line on stderr, this exit code, no traceback."""
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert said in last and last.startswith("thumbtune: ") and "Traceback" not in done.stderr, done.stderr


def test_the_script_is_the_module():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"thumbtune": "service.__main__:main"}


def test_settings_lists_every_one_with_default_and_present_value():
    env = {"PATH": os.environ["PATH"], "THUMBTUNE_PORT": "8123", "THUMBTUNE_ADMIN_KEY": "hush-hush"}
    done = thumbtune("settings", env=env)
    assert done.returncode == 0 and done.stderr == "" and "hush" not in done.stdout
    lines = done.stdout.splitlines()
    assert [line.split("=")[0] for line in lines if not line.startswith(" ")] == Settings.variables()
    place = lines.index("THUMBTUNE_PORT=8123")
    assert lines[place + 1 : place + 3] == [
        "    port that the API listens on",
        "    default 8000 · port · 1 to 65535",
    ]


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["users"], ["users", "remove"], ["trainer", "--fast"], ["export"]]
)
def test_a_command_line_that_cannot_be(words):
    done = thumbtune(*words)
    assert (
        done.returncode == 2 and done.stderr.startswith("usage: thumbtune") and "Traceback" not in done.stderr
    )


def test_a_setting_that_cannot_be():
    refused(thumbtune("api", env={"THUMBTUNE_ROWS": "many"}), 2, "THUMBTUNE_ROWS must be a whole number")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_cut_off_by_a_pipe_is_no_traceback(unbuffered):
    command = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m service settings | true"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_users(api):
    env = {**environment(api.data, api.redis_url, api.url.rpartition(":")[2])}
    added = thumbtune("users", "add", "käthe", env=env)
    id, key = added.stdout.strip().split("\t")
    assert id == "käthe"
    with api.client(key) as client:
        assert client.get("/v1/me").json()["id"] == "käthe"
    refused(thumbtune("users", "add", "käthe", env=env), 1, "in use")
    refused(thumbtune("users", "add", "a/b", env=env), 1, "id")
    listed = thumbtune("users", "list", env=env).stdout.splitlines()
    assert listed[0] == "id\tmessages\tthumbs\tactive version" and "käthe\t0\t0\t0" in listed
    assert thumbtune("users", "remove", "käthe", env=env).returncode == 0
    refused(thumbtune("users", "remove", "käthe", env=env), 1, "käthe")
    with api.client(key) as client:
        assert client.get("/v1/me").status_code == 401
    refused(thumbtune("users", "list", env={**env, "THUMBTUNE_ADMIN_KEY": "wrong"}), 1, "key")


def test_users_of_more_than_a_page(api):
    env = environment(api.data, api.redis_url, api.url.rpartition(":")[2])
    made = {api.call("POST", "/v1/users", ADMIN, json={}).json()["id"] for _ in range(101)}
    listed = thumbtune("users", "list", env=env).stdout.splitlines()
    assert made <= {line.split("\t")[0] for line in listed}


def test_users_without_a_service_or_a_key(tmp_path):
    env = environment(tmp_path / "data", "", free_port())
    refused(thumbtune("users", "list", env=env), 1, "start it with `thumbtune serve`")
    refused(thumbtune("users", "list", env={**env, "THUMBTUNE_ADMIN_KEY": ""}), 1, "there is no admin key")


def test_export(redis_url, redis, tmp_path):
    env = environment(tmp_path / "data", redis_url, 1)
    refused(thumbtune("export", "ada", env=env), 3, "there are no adapters in")
    store = AdapterStore(tmp_path / "data" / "adapters", BASE)
    uid = new_uid()
    Accounts(redis).add("ada", uid)
    store.create(uid)
    refused(thumbtune("export", "ada", env=env), 1, "version 0, the base model itself")
    for number in (1, 2):
        store.publish(uid, candidate(number), store.head(uid).epoch)
    there = tmp_path / "out.zip"
    done = thumbtune("export", "ada", "--version", "1", "--to", str(there), env=env)
    assert (done.returncode, done.stdout) == (0, f"{there}\n")
    with zipfile.ZipFile(there) as archive:
        assert set(archive.namelist()) == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
        assert json.loads(archive.read("adapter_config.json"))["r"] == SHAPE.rank
        assert "version 1" in archive.read("README.md").decode()
    refused(thumbtune("export", "ada", "--version", "9", env=env), 1, "there is no version 9")
    refused(thumbtune("export", "bob", env=env), 1, "there is no user 'bob'")
    refused(thumbtune("export", "ada", "--to", "/no/such/folder/x.zip", env=env), 1, "/no/such/folder/x.zip")
    refused(thumbtune("export", "ada", env={**env, "THUMBTUNE_REDIS_URL": ""}), 3, "there is no Redis")


def without_template(folder):
    tiny_model(folder)
    (folder / "chat_template.jinja").unlink()


def without_weights(folder):
    tiny_model(folder)
    (folder / "model.safetensors").unlink()


def with_pickled_weights(folder):
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (without_template, "has no chat template"),
        (without_weights, "has no *.safetensors weights"),
        (with_pickled_weights, "pickled weights are refused"),
        (lambda folder: None, "there is no folder or GGUF file at"),
    ],
)
@pytest.mark.parametrize("command", ["api", "trainer"])
def test_a_model_that_cannot_be(redis_url, redis, tmp_path, command, make, said):
    make(tmp_path / "model")
    env = environment(tmp_path / "data", redis_url, free_port(), model=tmp_path / "model")
    refused(thumbtune(command, env=env), 3, said)


@pytest.mark.parametrize("command", ["api", "trainer"])
def test_a_toxicity_classifier_that_cannot_be(redis_url, redis, tmp_path, command):
    env = environment(tmp_path / "data", redis_url, free_port(), toxicity_model=tmp_path / "tiny")
    refused(thumbtune(command, env=env), 3, "is no sequence classifier")  # it is the language model itself


def test_a_redis_that_is_not_there_or_belongs_to_another_folder(redis_url, redis, tmp_path):
    env = environment(tmp_path / "data", f"unix://{tmp_path}/none", free_port())
    refused(thumbtune("api", env=env), 1, "Redis does not answer")
    refused(thumbtune("api", env={**env, "THUMBTUNE_REDIS_URL": ""}), 3, "there is no Redis")
    refused(
        thumbtune("trainer", env={**env, "THUMBTUNE_REDIS_URL": "redis://host:port"}), 3, "not a Redis URL"
    )
    redis.set(keys.INSTANCE, "somebody else's")
    refused(thumbtune("api", env={**env, "THUMBTUNE_REDIS_URL": redis_url}), 3, "another data folder")


def test_a_second_api_on_the_same_folder_and_one_on_the_same_port(api):
    env = environment(api.data, api.redis_url, free_port())
    refused(thumbtune("api", env=env), 3, "another API runs on")
    refused(
        thumbtune("api", env={**env, "THUMBTUNE_PORT": api.url.rpartition(":")[2]}), 3, "cannot listen on"
    )


def test_a_data_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    env = environment(tmp_path / "data", "", free_port())
    done = thumbtune("serve", env={**env, "THUMBTUNE_DATA": str(tmp_path / "file")})
    refused(done, 1, str(tmp_path / "file"))


@pytest.mark.slow
def test_a_burst_learns_what_is_due_and_ends(tmp_path):
    """A real round on the tiny model, in a trainer process of its own, and the adapter that it made in the store."""
    from feedback.ratings import Ratings
    from tests.records import add_user, answered

    with server(tmp_path / "redis", appendonly="yes", appendfsync="always") as url, connect(url) as redis:
        env = environment(tmp_path / "data", url, 1, max_tokens=8)
        uid = add_user(redis, new_uid())
        ratings = Ratings(redis)
        for place, id in enumerate(answered(redis, uid, 8, answer="Hallo.\n")):
            ratings.put(uid, id, "up" if place % 2 else "down")
        (tmp_path / "data" / "adapters" / uid).mkdir(parents=True)
        done = thumbtune("trainer", "--burst", env=env)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert "practising" in done.stderr
        assert {each.state for each in ratings.standing(uid)} == {"used"}
        assert thumbtune("trainer", "--burst", env=env).returncode == 0
        assert [each.used_in for each in ratings.standing(uid)] == [[1]] * 8
