"""`thumbtune demo` against a real `serve` on the tiny model: it can only learn noise, but every step is taken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.course import Seen
from service.demo import OVERTAKEN, PARTS, _outcome
from tests.supervised import ROOT, served


def demo(env, *words):
    command = [sys.executable, "-m", "service", "demo", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=170)


@pytest.mark.slow
def test_a_demo_from_the_first_chat_to_the_picture(tmp_path):
    with served(tmp_path) as service:
        out = tmp_path / "results"
        ran = demo(
            service.env,
            "--taste",
            "calm",
            "--out",
            out,
            "--max-tokens",
            12,
            "--url",
            service.url + "/",
            "--minutes",
            3,
        )
        assert ran.returncode in (0, 1) and not ran.stderr, ran.stderr
        found = json.loads((out / "calm" / "figures.json").read_text())
        assert (out / "calm" / "learning.png").read_bytes().startswith(b"\x89PNG")
        admin = {"Authorization": f"Bearer {(service.data / 'admin.key').read_text().strip()}"}
        users = httpx.get(f"{service.url}/v1/users", headers=admin, trust_env=False).json()["data"]
    (left,) = [user for user in users if user["id"] == found["user"]]
    # The watch may take the noise of the first round back while the second runs; then another takes its place.
    ended = [round for round in found["rounds"] if round["reason"] != OVERTAKEN]
    rounds = len(ended)
    assert rounds == 2 or (rounds == 1 and found["learnt"]), "no second part once it is learnt"
    assert left["thumbs"] == len(found["thumbs"]) == sum(PARTS[:rounds])
    assert left["messages"] == sum(PARTS[:rounds]) + 40 * len(found["exams"])
    rated = {thumb["prompt"] for thumb in found["thumbs"]}
    for exam in found["exams"]:
        asked = [marked["prompt"] for marked in exam["marked"]]
        assert len(set(asked)) == 40 and not rated & set(asked)
    assert {round["state"] for round in ended} <= {"published", "held"}
    # Noise without a word, which now and then is said, is refused: nothing can be learnt from it.
    taught = [
        sum(thumb["state"] != "refused" for thumb in found["thumbs"][:n]) for n in (PARTS[0], sum(PARTS))
    ]
    for round in ended:
        assert round["metrics"]["thumbs"] in taught
    published = [round["version"] for round in ended if round["state"] == "published"]
    examined = [exam["version"] for exam in found["exams"]]
    taken_back = (
        f"Version {published[-1]} answers no longer: rolled back to version 0" in ran.stdout
        if published
        else False
    )
    assert examined == [0, *published, *([0] if taken_back else [])]
    assert left["active_version"] == found["exams"][-1]["version"]
    assert (ran.returncode == 0) == found["learnt"]
    assert "40 prompts that were never rated" in ran.stdout


@pytest.mark.slow
def test_a_demo_without_time_says_so_and_one_that_is_to_leaves_nothing(tmp_path):
    with served(tmp_path) as service:
        ran = demo(
            service.env, "--out", tmp_path / "results", "--max-tokens", 4, "--minutes", 0.01, "--remove"
        )
        assert ran.returncode == 1 and not ran.stderr, ran.stderr
        assert "Nothing was learnt" in ran.stdout and "The user was removed." in ran.stdout
        admin = {"Authorization": f"Bearer {(service.data / 'admin.key').read_text().strip()}"}
        users = httpx.get(f"{service.url}/v1/users", headers=admin, trust_env=False).json()["data"]
    assert not [user for user in users if user["id"].startswith("demo-")]


def test_without_a_service_it_says_what_to_start(tmp_path):
    env = {"PATH": os.environ["PATH"], "THUMBTUNE_ADMIN_KEY": "key", "THUMBTUNE_DATA": str(tmp_path)}
    ran = demo(env, "--url", "http://127.0.0.1:9", "--out", tmp_path)
    assert ran.returncode == 1
    assert (
        ran.stderr.startswith("thumbtune: no thumbtune answers at http://127.0.0.1:9")
        and "thumbtune serve" in ran.stderr
    )
    assert len(ran.stderr.splitlines()) == 1


def test_results_that_cannot_be_kept_are_told_before_anything_begins(tmp_path):
    Path(tmp_path / "file").touch()
    env = {"PATH": os.environ["PATH"], "THUMBTUNE_ADMIN_KEY": "key", "THUMBTUNE_DATA": str(tmp_path)}
    ran = demo(env, "--out", tmp_path / "file")
    assert ran.returncode == 1 and "the results cannot be kept in" in ran.stderr


@pytest.mark.parametrize(
    "words", [("--taste", "sweet"), ("--minutes", "0"), ("--max-tokens", "x"), ("--seed", "-1")]
)
def test_a_command_line_that_cannot_be(tmp_path, words):
    ran = demo({"PATH": os.environ["PATH"], "THUMBTUNE_DATA": str(tmp_path)}, *words)
    assert ran.returncode == 2 and f"argument {words[0]}" in ran.stderr


@pytest.mark.parametrize(("state", "active", "says"), [
    ("published", 1, "Version 2 was published after 61 s and answers from now on."),
    ("held", 0, "held by the gate after 61 s: why. You would notice nothing: the base model goes on answering."),
    ("failed", 1, "failed after 61 s: why. You would notice nothing: version 1 goes on answering."),
    ("running", 1, "still running after 61 s; it goes on unwatched. For now version 1 answers."),
])  # fmt: skip
def test_how_a_round_ended_is_said(state, active, says):
    assert says in _outcome(Seen("round_1", state, 2, "why", {}, 61.2, []), active)


def test_an_overtaken_round_is_not_called_a_failure():
    said = _outcome(Seen("round_1", "failed", None, "overtaken", {}, 61.2, []), 0)
    assert said == "The round ended after 61 s: something newer overtook it. Its thumbs are queued again."
