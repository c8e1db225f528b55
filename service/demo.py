"""`thumbtune demo`: a simulated user with a stated taste teaches a running service; what it never rated shows how well.

    before   the held-out prompts, answered by the user's personal model, which is still the base model
    teach    in parts: chats on other prompts, a thumb for each by the taste, some of them by mistake; then a round;
             the second part only if the first one did not show that it learns
    after    the same held-out prompts with the same seeds, by whatever version answers now
    show     a table, three pairs of answers, a picture, and a JSON file with every figure

Knows the order of these, and how long they may take. Talks to the service over HTTP only, as any client would; of the
taste the service sees nothing but thumbs.
"""

from __future__ import annotations

import dataclasses
import json
import random
import secrets
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from adapters import disk
from service.course import Course, Exam, Marked, Seen, Step, Thumb
from service.operator import CallFailed, operator_of
from service.person import Person, Reply
from service.screen import Screen
from service.settings import Settings
from service.tastes import TASTES, Taste, words

PARTS = (40, 16)  # prompts that are rated before each round; the rest of the file is held out
FLIPPED = 0.1  # chance that a thumb goes the wrong way
LOOK_SECONDS = 1.0  # between two looks at a running round
SPARE = 1.3  # how much longer than the first exam the last one may take
OVERTAKEN = "overtaken"  # the reason of a round that something newer ended
FIGURES, PICTURE = "figures.json", "learning.png"


@dataclass(frozen=True)
class Options:
    """How a demo is asked to go. `minutes`: after that, what is not done is left out."""

    taste: str = "second-person"
    url: str | None = None
    out: Path = Path("demo-results")
    seed: int = 1
    minutes: float = 10.0
    max_tokens: int = 64
    remove: bool = False


def run(settings: Settings, options: Options) -> int:
    """0 if the taste's score is clearly higher afterwards, else 1. Raises `CallFailed`."""
    screen = Screen()
    folder = _folder(options)
    operator = operator_of(settings)
    if options.url:
        operator = dataclasses.replace(operator, address=options.url.rstrip("/"))
    made = operator.add(f"demo-{options.taste}-{secrets.token_hex(3)}")
    with Person(operator.address, made["api_key"]) as person:
        demo = Demo(person, made["id"], options, screen)
        try:
            demo.teach()
        finally:
            demo.course.seconds = demo.elapsed
            if options.remove:
                person.leave()
    course = demo.course
    screen.results(course)
    _keep(course, folder)
    screen.say(
        f"\n{demo.elapsed / 60:.1f} minutes. Every figure: {folder / FIGURES}   The curve: {folder / PICTURE}"
    )
    screen.say(
        "The user was removed." if options.remove else f"The user stays: thumbtune users remove {course.user}"
    )
    return 0 if course.learnt else 1


class Demo:
    """One simulated user's course, and the clock."""

    def __init__(self, person: Person, id: str, options: Options, screen: Screen) -> None:
        self.taste: Taste = TASTES[options.taste]
        self.course = Course(id, options.taste, self.taste.threshold, options.seed, options.max_tokens)
        self._person, self._options, self._screen = person, options, screen
        self._slips = random.Random(options.seed)
        self._began = time.monotonic()
        prompts = (resources.files("service") / "demo_prompts.txt").read_text(encoding="utf-8").splitlines()
        self._rated, self._held_out = prompts[: sum(PARTS)], prompts[sum(PARTS) :]

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    def teach(self) -> None:
        """The whole course; what there is no time for is left out, and said."""
        self._screen.say(f"{self.course.user} likes {self.taste.wish}, and gives thumbs accordingly.")
        self._examine(version=0)
        exam_seconds = self.elapsed
        deadline = self._options.minutes * 60 - SPARE * exam_seconds
        part_seconds = 0.0
        for number, size in enumerate(PARTS):
            if number and self.course.learnt:
                return
            if number and self.elapsed + part_seconds > deadline:
                self._screen.say("There is no time left for another round.")
                return
            part_began = self.elapsed
            self._chat(size)
            self._learn(deadline)
            version = self._person.adapter()["active_version"]
            if version != self.course.after.version:
                self._say_if_taken_back(version)
                self._examine(version)
            part_seconds = self.elapsed - part_began

    def _examine(self, version: int) -> None:
        """The held-out prompts with seeds of their own, the same each time."""
        label = f"the {len(self._held_out)} held-out prompts, version {version}"
        replies = self._ask(self._held_out, first_seed=self._options.seed * 1000 + 500, label=label)
        strange = {reply.version for reply in replies} - {version}
        if strange:
            raise CallFailed(
                f"version {version} was examined, and {sorted(strange)} answered: does somebody else use this key?"
            )
        self.course.exams.append(
            Exam(version, len(self.course.thumbs), [self._mark(reply) for reply in replies])
        )

    def _chat(self, size: int) -> None:
        """The next `size` prompts, and a thumb for each answer once all are read."""
        done = len(self.course.thumbs)
        prompts = self._rated[done : done + size]
        replies = self._ask(prompts, first_seed=self._options.seed * 1000 + done, label="chats")
        thumbs = [self._thumb(reply) for reply in replies]
        kept = self._person.rate(
            [(reply.message_id, thumb.up) for reply, thumb in zip(replies, thumbs, strict=True)]
        )
        states = [each["state"] for each in kept]
        thumbs = [dataclasses.replace(t, state=state) for t, state in zip(thumbs, states, strict=True)]
        self.course.thumbs += thumbs
        ups, slips = sum(thumb.up for thumb in thumbs), sum(thumb.flipped for thumb in thumbs)
        self._screen.say(f"{ups} thumbs up, {len(thumbs) - ups} down; {slips} of them by mistake.")

    def _thumb(self, reply: Reply) -> Thumb:
        flipped = self._slips.random() < FLIPPED
        score = self.taste.score(reply.answer)
        return Thumb(
            reply.prompt, reply.version, score, self.taste.likes(reply.answer) != flipped, flipped, ""
        )

    def _learn(self, deadline: float) -> None:
        """
        Rounds until every thumb is learnt from, one failed, or there is no more time.

        An overtaken round is no failure: the watch took away the version that it set out from, and its thumbs
        are queued again for a round from the older one.
        """
        while self.elapsed < deadline:
            status = self._person.adapter()
            if not (status["round"] or status["feedback"]["queued"]):
                return
            seen = self._follow(status["round"] or self._person.ask_for_round(), deadline)
            self.course.rounds.append(seen)
            self._screen.say(_outcome(seen, self.course.after.version))
            if seen.state == "failed" and seen.reason != OVERTAKEN:
                return

    def _say_if_taken_back(self, version: int) -> None:
        """A version that was examined and answers no longer gave way by itself; its round says why."""
        for seen in self.course.rounds:
            if seen.version == self.course.after.version and seen.version > version:
                reason = self._person.round(seen.id)["reason"]
                self._screen.say(f"Version {seen.version} answers no longer: {reason}.")

    def _follow(self, round: dict[str, Any], deadline: float) -> Seen:
        """The round as it was when it ended, or when there was no more time to wait for it."""
        began, steps = self.elapsed, dict[int, Step]()
        with self._screen.round() as show:
            while True:
                round = self._person.round(round["id"])
                show(round)
                _note(steps, round)
                if round["state"] not in ("waiting", "running") or self.elapsed > deadline:
                    break
                time.sleep(LOOK_SECONDS)
        return Seen(
            id=round["id"],
            state=round["state"],
            version=round["version"],
            reason=round["reason"],
            metrics=round["metrics"],
            seconds=self.elapsed - began,
            steps=list(steps.values()),
        )

    def _ask(self, prompts: list[str], first_seed: int, label: str) -> list[Reply]:
        seeds = list(range(first_seed, first_seed + len(prompts)))
        with self._screen.counting(label, len(prompts)) as done:
            return self._person.ask(prompts, seeds, self._options.max_tokens, done)

    def _mark(self, reply: Reply) -> Marked:
        text = reply.answer
        return Marked(reply.prompt, text, self.taste.score(text), self.taste.accepted(text), len(words(text)))


def _note(steps: dict[int, Step], round: dict[str, Any]) -> None:
    """A running round's reward and KL, once for each batch of rollouts that they were measured on."""
    reward, kl = round["metrics"].get("reward"), round["metrics"].get("kl")
    if (
        reward is not None
        and kl is not None
        and all((reward, kl) != (s.reward, s.kl) for s in steps.values())
    ):
        steps[round["step"]] = Step(round["step"], reward, kl)


def _outcome(seen: Seen, active: int) -> str:
    """How a round ended, and what a person would notice of it."""
    answers = f"version {active}" if active else "the base model"
    took = f"after {seen.seconds:.0f} s"
    nothing = f"You would notice nothing: {answers} goes on answering."
    if seen.state == "published":
        return f"Version {seen.version} was published {took} and answers from now on."
    if seen.state == "held":
        return f"Version {seen.version} was held by the gate {took}: {seen.reason}. {nothing}"
    if seen.state == "failed" and seen.reason == OVERTAKEN:
        return f"The round ended {took}: something newer overtook it. Its thumbs are queued again."
    if seen.state == "failed":
        return f"The round failed {took}: {seen.reason}. {nothing}"
    return f"Time is up, and the round is still {seen.state} {took}; it goes on unwatched. For now {answers} answers."


def _folder(options: Options) -> Path:
    """Where the results go, made beforehand so that no work is lost for want of it. Raises `CallFailed`."""
    folder = options.out / options.taste
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CallFailed(f"the results cannot be kept in {folder}: {error.strerror}") from error
    return folder


def _keep(course: Course, folder: Path) -> None:
    from service.picture import png  # matplotlib takes a second to load

    disk.replace(folder / FIGURES, json.dumps(course.to_json(), indent=2, ensure_ascii=False).encode())
    disk.replace(folder / PICTURE, png(course))
