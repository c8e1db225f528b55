"""The command line: `thumbtune ...`, the same as `python -m service ...`.

Knows the commands, their options and which error gives which exit code. Does not know how a command does its work.
Heavy modules are imported by the command that needs them, so that `thumbtune settings` answers at once.

    0 done · 1 it did not work, and may the next time · 2 a command line or setting that cannot be ·
    3 it cannot start like this: the model, the data folder, the port, another instance's Redis · 130 interrupted
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import adapters.errors
import feedback.connection
from adapters.checkpoint import ModelError
from service.auth import NoSuchUser
from service.operator import CallFailed, operator_of
from service.settings import BadSetting, Settings
from service.starting import CannotStart
from service.tastes import TASTES
from service.valkey import ServerFailed

Command = Callable[[Settings, argparse.Namespace], int]

# The first line that fits counts.
EXIT_CODES: list[tuple[type[Exception], int]] = [
    (BadSetting, 2),
    (CannotStart, 3),
    (ServerFailed, 3),
    (ModelError, 3),
    (adapters.errors.OtherBase, 3),
    (feedback.connection.UnfitStore, 3),
    (adapters.errors.StoreError, 1),
    (feedback.connection.StoreError, 1),
    (NoSuchUser, 1),
    (CallFailed, 1),
    (OSError, 1),  # a folder that is not ours, a full disk: it names the file and what is wrong with it
]


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Every named error becomes one line on stderr."""
    arguments = _parser().parse_args(words)
    command: Command = arguments.command
    os.umask(0o077)  # what is written is one person's data
    try:
        settings = Settings.read()
        _log(settings)
        code = command(settings, arguments)
        sys.stdout.flush()  # here, where a reader who has left is no error; not when the interpreter ends
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `thumbtune users list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        print(f"thumbtune: {error}", file=sys.stderr)
        return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thumbtune",
        description="A chat service in which a person's thumbs change how the assistant answers that person.",
        epilog="Settings are environment variables THUMBTUNE_*; `thumbtune settings` lists them.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _command(
        commands, "serve", serve, "start everything on this machine: API, trainer and, unless set, a Redis"
    )
    _command(commands, "api", api, "start only the API")
    trainer_ = _command(commands, "trainer", trainer, "start only a trainer")
    trainer_.add_argument("--burst", action="store_true", help="learn what is due now, then end")
    users = _command(commands, "users", None, "the users of the running service")
    _add_users(users.add_subparsers(required=True, metavar="add|list|remove"))
    export = _command(commands, "export", export_, "write a user's adapter as a zip that peft and vLLM load")
    export.add_argument("id", help="the user")
    export.add_argument("--version", type=int, help="which version; default: the active one")
    export.add_argument("--to", type=Path, help="the file to write; default: <id>-<version>.zip here")
    _add_demo(_command(commands, "demo", demo, "a simulated user teaches the running service a taste"))
    _command(commands, "settings", settings_, "list every setting: meaning, default, range and present value")
    return parser


def _command(
    among: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Command | None, does: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = among.add_parser(
        name, help=does, description=does[0].upper() + does[1:] + "."
    )
    if run is not None:
        parser.set_defaults(command=run)
    return parser


def _add_users(among: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = _command(among, "add", users_add, "a new user; prints the id and the key, which is shown only now")
    add.add_argument("id", nargs="?", help="what to call the user; default: a made-up id")
    _command(among, "list", users_list, "every user: id, messages, thumbs, active version")
    remove = _command(among, "remove", users_remove, "delete a user and everything of theirs")
    remove.add_argument("id")


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument(
        "--taste", choices=TASTES, default="second-person", help="what the user likes; default: %(default)s"
    )
    demo.add_argument(
        "--url", help="the service's address; default: as THUMBTUNE_HOST and THUMBTUNE_PORT say"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo-results"), help="folder of the results; default: %(default)s"
    )
    demo.add_argument(
        "--seed",
        type=_between(int, 0, 1e9),
        default=1,
        help="of answers and mistaken thumbs; default: %(default)s",
    )
    demo.add_argument(
        "--minutes",
        type=_between(float, 0.01, 1e4),
        default=10.0,
        help="what takes longer is left out; default: %(default)g",
    )
    demo.add_argument(
        "--max-tokens",
        type=_between(int, 1, 1e6),
        default=64,
        help="longest answer, in tokens; default: %(default)s",
    )
    demo.add_argument(
        "--remove", action="store_true", help="delete the user, and what was learnt, at the end"
    )


def _between(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    def number(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, not {word!r}")
        return value

    return number


def _log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def serve(settings: Settings, _: argparse.Namespace) -> int:
    from service import supervisor

    return supervisor.serve(settings)


def api(settings: Settings, _: argparse.Namespace) -> int:
    from service import app

    app.serve(settings)
    return 0


def trainer(settings: Settings, arguments: argparse.Namespace) -> int:
    from service import trainer

    trainer.run(settings, burst=arguments.burst)
    return 0


def users_add(settings: Settings, arguments: argparse.Namespace) -> int:
    made = operator_of(settings).add(arguments.id)
    print(f"{made['id']}\t{made['api_key']}")
    return 0


def users_list(settings: Settings, _: argparse.Namespace) -> int:
    users = list(operator_of(settings).users())
    print("id\tmessages\tthumbs\tactive version")
    for user in users:
        print(user["id"], user["messages"], user["thumbs"], user["active_version"], sep="\t")
    return 0


def users_remove(settings: Settings, arguments: argparse.Namespace) -> int:
    operator_of(settings).remove(arguments.id)
    return 0


def export_(settings: Settings, arguments: argparse.Namespace) -> int:
    from service import exporting

    print(exporting.export(settings, arguments.id, arguments.version, arguments.to))
    return 0


def demo(settings: Settings, arguments: argparse.Namespace) -> int:
    from service import demo

    given = {each.name: getattr(arguments, each.name) for each in fields(demo.Options)}
    return demo.run(settings, demo.Options(**given))


def settings_(settings: Settings, _: argparse.Namespace) -> int:
    for each in settings.describe():
        print(f"{each.variable}={each.value}")
        print(f"    {each.meaning}")
        notes = [f"default {each.default}", *filter(None, [each.unit, each.range])]
        print(f"    {' · '.join(notes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
