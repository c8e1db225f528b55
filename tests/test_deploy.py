"""What can be checked of deploy/ without a container engine or systemd: names, commands, shapes, and a real start."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import redis
import yaml

from service.settings import Settings
from service.valkey import binary
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
DOCKER = {
    "ARG",
    "FROM",
    "WORKDIR",
    "COPY",
    "RUN",
    "ENV",
    "USER",
    "VOLUME",
    "EXPOSE",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}
SERVERS = [str(binary()), *filter(None, [shutil.which("redis-server")])]


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest) of each logical line of the Dockerfile; continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def unit() -> dict[str, dict[str, list[str]]]:
    """section → key → values of the systemd unit; a key may stand there several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in (DEPLOY / "thumbtune.service").read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return sections


def spare_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def commands() -> set[tuple[str, ...]]:
    """Every `thumbtune` command that the files in deploy/ give, as its words."""
    said = {tuple(service["command"]) for name, service in compose()["services"].items() if name != "redis"}
    said |= {tuple(json.loads(rest)) for instruction, rest in dockerfile() if instruction == "CMD"}
    said.add(tuple(shlex.split(unit()["Service"]["ExecStart"][0])[3:]))
    readme = (DEPLOY / "README.md").read_text()
    said |= {tuple(words.split()) for words in re.findall(r"exec api python -m service (\w+ \w+)", readme)}
    said |= {(word,) for word in re.findall(r"`thumbtune (\w+)`", readme)}
    return said


def test_every_variable_is_a_setting():
    for path in [*DEPLOY.iterdir(), ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"THUMBTUNE_[A-Z_]*[A-Z]", path.read_text()))
        assert named <= {*Settings.variables(), "THUMBTUNE_TEST_REDIS_URL"}, path


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_every_command_exists(words):
    done = subprocess.run(
        [sys.executable, "-m", "service", *words, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and words[-1] in done.stdout, done.stderr


def test_the_image_copies_what_is_there_runs_as_nobody_and_starts_the_service():
    lines = dockerfile()
    assert {instruction for instruction, _ in lines} <= DOCKER
    copied = [
        rest.split()[:-1] for instruction, rest in lines if instruction == "COPY" and "--from" not in rest
    ]
    sources = {source for sources in copied for source in sources}
    kept = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")
    }
    assert sources == kept and all((ROOT / source).exists() for source in sources)
    last = dict(lines)  # a later line of the same name wins, as it does for Docker
    assert last["USER"] == "thumbtune"
    assert (json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])) == (
        ["python", "-m", "service"],
        ["serve"],
    )
    assert last["VOLUME"] in last["ENV"]


def test_compose_names_only_what_it_declares_and_has_one_api():
    file = compose()
    services = file["services"]
    assert set(services) == {"redis", "api", "trainer"}
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        named = {volume.split(":")[0] for volume in service["volumes"]}
        assert {name for name in named if not name.startswith("./")} <= set(file["volumes"])
        assert all((DEPLOY / name).exists() for name in named if name.startswith("./"))
    for name in ("api", "trainer"):
        assert (DEPLOY / services[name]["build"]["context"] / services[name]["build"]["dockerfile"]).exists()
        assert services[name]["environment"]["THUMBTUNE_REDIS_URL"].startswith("redis://redis:")
    assert "deploy" not in services["api"] and "ports" not in services["trainer"]
    assert (
        all(port.startswith("127.0.0.1:") for port in services["api"]["ports"])
        and "ports" not in services["redis"]
    )


def test_what_compose_passes_through_reads_as_unset_when_it_is():
    for name in ("api", "trainer"):
        given = compose()["services"][name]["environment"]
        unset = {key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for key, value in given.items()}
        assert Settings.read(unset) == Settings.read({"THUMBTUNE_REDIS_URL": given["THUMBTUNE_REDIS_URL"]})


@pytest.mark.parametrize("server", SERVERS, ids=lambda path: Path(path).name)
def test_a_real_server_takes_redis_conf(server, tmp_path):
    port = spare_port()
    config = (DEPLOY / "redis.conf").read_text()
    assert "\ndir /data\n" in config
    (tmp_path / "redis.conf").write_text(config.replace("dir /data", f"dir {tmp_path}"))
    command = [server, str(tmp_path / "redis.conf"), "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(port=port, decode_responses=True)
            until(lambda: answers(client), process)
            want = {
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": "",
            }
            assert client.config_get(*want) == want
            client.set("a", "1")
            assert list((tmp_path / "appendonlydir").iterdir())
            client.close()
        finally:
            process.terminate()


def test_the_unit_has_the_three_sections_and_one_command():
    assert list(unit()) == ["Unit", "Service", "Install"]
    service = unit()["Service"]
    folder = service["WorkingDirectory"][0]
    assert service["ExecStart"] == [f"{folder}/.venv/bin/python -m service serve"]
    assert f"THUMBTUNE_DATA=/var/lib/{service['StateDirectory'][0]}" in service["Environment"]


def test_the_units_command_starts_and_stops(tmp_path):
    given = dict(pair.split("=", 1) for pair in unit()["Service"]["Environment"])
    port = spare_port()
    here = {
        "THUMBTUNE_DATA": str(tmp_path / "data"),
        "THUMBTUNE_MODEL": str(tiny_model(tmp_path / "tiny")),
        "THUMBTUNE_PORT": str(port),
    }
    command = [sys.executable, *shlex.split(unit()["Service"]["ExecStart"][0])[1:]]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **given, **here}) as process:
        try:
            until(lambda: ready(port), process, seconds=60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def until(true, process, seconds=10):
    """Wait until `true()` holds; fails when the process has ended or the time is up."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def ready(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
