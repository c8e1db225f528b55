"""The operator's calls to a running service: its users.

Knows the address, the admin key and the REST contract. Does not know how the service does it, nor the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from service.settings import Settings

ADMIN_KEY_FILE = "admin.key"


class CallFailed(Exception):
    """The service was not reached, or refused; the message says why."""


@dataclass(frozen=True)
class Operator:
    """`address` like http://127.0.0.1:8000; `key`: the admin key. Every method raises `CallFailed`."""

    address: str
    key: str

    def add(self, id: str | None) -> dict[str, Any]:
        """A new user: {"id", "api_key"}."""
        return self._call("POST", "/v1/users", {"id": id} if id is not None else {})

    def users(self) -> Iterator[dict[str, Any]]:
        """Every user, in the order in which they were made."""
        after = ""
        while True:
            page = self._call("GET", f"/v1/users?limit=100{after}")
            yield from page["data"]
            if page["next"] is None:
                return
            after = f"&after={quote(str(page['next']))}"

    def remove(self, id: str) -> None:
        """Delete a user and everything of theirs."""
        self._call("DELETE", f"/v1/users/{quote(id, safe='')}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            # A deletion waits for the user's running answers.
            answer = httpx.request(
                method, self.address + path, json=body, headers=headers, timeout=60, trust_env=False
            )
        except httpx.TransportError as error:
            raise CallFailed(
                f"no thumbtune answers at {self.address} ({type(error).__name__}): start it with `thumbtune serve`, "
                "or name its THUMBTUNE_HOST and THUMBTUNE_PORT"
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else {}
        raise CallFailed(reason(answer))


def address(settings: Settings) -> str:
    """Where this machine reaches the API; one that listens everywhere is reached at the loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def operator_of(settings: Settings) -> Operator:
    """The operator of the service that these settings describe. Raises `CallFailed` where there is no admin key."""
    key = settings.admin_key
    if key is None:
        file = settings.folder / ADMIN_KEY_FILE
        try:
            key = file.read_text().strip()
        except OSError as error:
            raise CallFailed(
                f"there is no admin key: {file} cannot be read ({error.strerror}), and THUMBTUNE_ADMIN_KEY is unset; "
                "`thumbtune serve` makes one when it first starts"
            ) from error
    return Operator(address(settings), key)


def reason(answer: httpx.Response) -> str:
    """The service's own words, or the bare status of something that does not speak its contract."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.request.url} answered {answer.status_code}: is that a thumbtune?"
