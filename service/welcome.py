"""What `thumbtune serve` says once it is ready, and the first user that it makes on a new data folder.

Knows the operator's calls and the file in which that user's key is kept. Does not know processes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from adapters import disk
from service.operator import Operator, address, operator_of
from service.settings import Settings

FIRST_USER = "me"
KEY_FILE = "first-user.json"  # {"id", "api_key"}


def show(settings: Settings) -> None:
    """Print the address, and on a new data folder what is needed for a first chat. Raises `CallFailed`."""
    where, file = address(settings), settings.folder / KEY_FILE
    print(f"\nthumbtune is ready at {where} (all calls: {where}/docs)")
    if file.exists():
        print(f"The key of the first user is kept in {file}. More users: thumbtune users add", flush=True)
    elif key := _first_user(operator_of(settings), file):
        print(f"Your key:  {key}  (user {FIRST_USER!r}, kept in {file}, mode 0600)")
        print(f"\nA chat:\n{chat_line(where, key)}")
        print(f"\nA thumb up for the newest answer:\n{thumb_line(where, key)}\n", flush=True)
    else:
        print("It has users already. More of them: thumbtune users add", flush=True)


def forget_first_user(settings: Settings, id: str) -> None:
    """Keep no key of a user who is gone or has another by now; nothing to do for any but the first."""
    file = settings.folder / KEY_FILE
    with suppress(FileNotFoundError):
        if json.loads(file.read_text())["id"] == id:
            file.unlink()


def chat_line(where: str, key: str) -> str:
    """A shell line that asks something."""
    body = json.dumps({"messages": [{"role": "user", "content": "How do I make good coffee?"}]})
    return (
        f"curl -s {where}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def thumb_line(where: str, key: str) -> str:
    """A shell line that rates the newest answer: it works as it is pasted."""
    known = f"-H 'Authorization: Bearer {key}'"
    newest = f"$(curl -s '{where}/v1/messages?limit=1' {known} | grep -o 'msg_[0-9a-z]*' | head -n 1)"
    return (
        f"curl -s -X PUT {where}/v1/messages/{newest}/feedback {known} "
        "-H 'Content-Type: application/json' -d '{\"rating\": \"up\"}'"
    )


def _first_user(operator: Operator, file: Path) -> str | None:
    """The key of a new user, kept in `file`; None if there are users already, made over the API."""
    if next(iter(operator.users()), None) is not None:
        return None
    made = operator.add(FIRST_USER)
    disk.replace(file, json.dumps(made).encode())
    return str(made["api_key"])
