"""The experiments over HTTP: what a teacher does in each, and what is written down of it.

Knows the order of chats, rounds and exams. Does not know what any of it shows (findings.py). Each takes a person who
has just begun, and returns a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from statistics import fmean
from typing import Any

from benchmarks import capability
from benchmarks.intervals import streak_end
from benchmarks.tastes import TURNS, USERS
from benchmarks.teacher import Marked, Teacher
from benchmarks.trials import STEP, STREAK_STEP, Form, Trial
from service.person import Person

Record = dict[str, Any]
DRAWS = 8  # answers to each small question: of one apiece, chance alone turns more than the target allows


def run(trial: Trial, person: Person, form: Form) -> Record:
    """The trial's record. Raises what `Teacher` raises."""
    user = USERS[trial.taste]
    teacher = Teacher(person, user.taste, trial.seed, form, user.slips)
    return _HOW[trial.experiment](teacher, form.thumbs[trial.experiment], trial)


def gain(teacher: Teacher, thumbs: int, _: Trial) -> Record:
    """An exam before, and one after each round of STEP thumbs."""
    exams = {0: _plain(teacher.exam())}
    for given in range(STEP, thumbs + 1, STEP):
        teacher.teach(STEP)
        exams[given] = _plain(teacher.exam())
    return {"exams": exams, **teacher.record()}


def streak(teacher: Teacher, thumbs: int, _: Trial) -> Record:
    """Until three answers in a row are accepted; before that the base's answers to the same prompts, same seeds."""
    base = [each.accepted for each in teacher.look(teacher.prompts[:thumbs])]
    accepted: list[bool] = []
    while streak_end(accepted) is None and len(accepted) < thumbs:
        if accepted:
            teacher.learn()
        accepted += [each.accepted for each in teacher.chat(STREAK_STEP)]
    return {"accepted": accepted, "base accepted": base, **teacher.record()}


def turned(teacher: Teacher, thumbs: int, trial: Trial) -> Record:
    """Half of the thumbs by one taste, half by its opposite; all exams are marked by the second."""
    first, second = teacher.taste, USERS[TURNS[trial.taste]].taste
    exams = {}
    for given in range(0, thumbs + 1, STEP):
        if given:
            teacher.taste = first if given <= thumbs // 2 else second
            teacher.teach(STEP)
        if given in (0, thumbs // 2, thumbs):
            teacher.taste = second
            exams[given] = _plain(teacher.exam())
    return {"exams": exams, **teacher.record()}


def random(teacher: Teacher, thumbs: int, _: Trial) -> Record:
    """Thumbs by a coin; exams and small questions before and after."""
    before = _probes(teacher)
    for _number in range(thumbs // STEP):
        teacher.teach(STEP)
    return {"before": before, "after": _probes(teacher), **teacher.record()}


def _probes(teacher: Teacher) -> Record:
    """`right`: of each small question, the share of its answers that are right."""
    asked = teacher.look([question for question in capability.QUESTIONS for _ in range(DRAWS)])
    right = [capability.right(each.prompt, each.answer) for each in asked]
    shares = [fmean(right[first : first + DRAWS]) for first in range(0, len(right), DRAWS)]
    return {"exam": _plain(teacher.exam()), "right": shares}


def _plain(marked: list[Marked]) -> list[Record]:
    return [asdict(each) for each in marked]


_HOW: dict[str, Callable[[Teacher, int, Trial], Record]] = {
    "long": gain, "gain": gain, "streak": streak, "turned": turned, "random": random,
}  # fmt: skip
