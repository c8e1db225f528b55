"""The baselines on the thumbs of a trial of `gain`: in the prompt, best of 4, TRL's KTO; and the reward model alone.

Knows what each is given: the same thumbs, the same held-out prompts with the same seeds, the same length of answers.
Does not know how they are compared (findings.py).

    prompted    the base model is told of the thumbs, in four ways of which the best one counts: all of them, each
                answer cut to its beginning; the newest few in full; or the newest few that are liked as earlier turns,
                with chat's repetition penalty, which sees them too, or without it
    best-of-4   four answers of the base model, of which our own reward model picks one: four answers' cost
    kto         TRL's KTO on the same thumbs, for as many steps as our rounds' seconds allow in the mean (kto_peer.py)
    auroc       what the reward model says of answers that nobody rated, against what the taste says of them
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks import trl_setup, workload
from benchmarks.offline import Conversation, Desk, Rated
from benchmarks.tastes import USERS
from benchmarks.teacher import EXAM_SEEDS, SEEDS, mark, slips
from benchmarks.trials import COMPARED, FOLDER, Form, Trial, held_out_prompts, rated_prompts
from feedback.auroc import auroc
from feedback.rollouts import Rollout

Record = dict[str, Any]
CHOICES = 4
BEGINNING, FEW = 40, 4  # words of each answer; the newest of either kind
READ_THUMBS = (10, 40)
KTO_STEPS = 64  # what our rounds' seconds allow in the mean; a clock would measure the pace of the day
FAR = 1_000_000  # between the seeds of an answer's other choices


class Missing(Exception):
    """What a baseline builds on is not there; the message says what."""


def run(trial: Trial, desk: Desk, form: Form) -> Record:
    """The trial's record. Raises `Missing`."""
    return _HOW[trial.experiment](trial, desk, form)


def prompted(trial: Trial, desk: Desk, form: Form) -> Record:
    """See the module."""
    thumbs = _thumbs(trial, form)
    all_of_them = [_told([(t, BEGINNING) for t in thumbs])]
    told: dict[str, tuple[Conversation, float | None]] = {
        "all, shortened": (all_of_them, None),
        "newest, in full": ([_told(_newest(thumbs))], None),
        "liked, as turns": (_turns(thumbs), None),
        "liked, as turns, no penalty": (_turns(thumbs), 1.0),
    }
    answers = {}
    for variant, (before, penalty) in told.items():
        asked = [[*before, {"role": "user", "content": line}] for line in held_out_prompts(form)]
        answers[variant] = desk.answers(asked, _seed(trial), penalty=penalty)
    return {"exams": {variant: _marked(trial, form, drawn) for variant, drawn in answers.items()}}


def best_of_4(trial: Trial, desk: Desk, form: Form) -> Record:
    """See the module; the first of the four has the exam's own seed."""
    prompts = tuple(held_out_prompts(form))
    drawn = [desk.base(prompts, _seed(trial) + choice * FAR) for choice in range(CHOICES)]
    thumbs = _thumbs(trial, form)
    climbed = desk.taste(thumbs, desk.usual(thumbs, trial.seed * SEEDS + FAR)).climbed
    liked = torch.stack([climbed.preference(read) for _, read in drawn])  # (choices, prompts)
    picked = [drawn[choice][0][number] for number, choice in enumerate(liked.argmax(0).tolist())]
    return {"exams": {"picked": _marked(trial, form, picked)}}


def kto(trial: Trial, desk: Desk, form: Form) -> Record:
    """See the module. Raises `Missing` where TRL cannot be installed."""
    thumbs = _thumbs(trial, form)
    try:
        trl_setup.install()
    except trl_setup.CannotInstall as error:
        raise Missing(f"TRL cannot be installed here: {error}") from error
    folder = FOLDER / "kto"
    folder.mkdir(parents=True, exist_ok=True)
    job = {"thumbs": [asdict(each) for each in thumbs], "steps": KTO_STEPS, "rank": workload.RANK,
           "alpha": workload.ALPHA, "seed": trial.seed, "modules": _modules(desk)}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(trl_setup.PYTHON), "-m", "benchmarks.kto_peer", workload.embedded().path, str(folder)]
    done = subprocess.run(command, cwd=workload.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"TRL's KTO failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    adapter = workload.read(folder, desk.shape)
    answers = desk.answers(held_out_prompts(form), _seed(trial), adapter)
    took = json.loads((folder / "took.json").read_text())
    return {"exams": {"trained": _marked(trial, form, answers)}, **took}


def auroc_of(trial: Trial, desk: Desk, form: Form) -> Record:
    """The reward model after so many thumbs on the base's answers, on answers to other prompts. As in a round, it has
    seen what the base's untouched draws to rated prompts are like, and to neutral ones while these are few. Which
    answers get a thumb, and where the slips are, one in ten of these and of the others, is each taste's own."""
    taste = USERS[trial.taste].taste
    draws = random.Random(f"{trial.taste} {trial.seed}")
    prompts = (*rated_prompts(), *held_out_prompts(form))
    drawn, read = desk.base(prompts, trial.seed * SEEDS)
    order = draws.sample(range(len(drawn)), len(drawn))
    likes = [taste.likes(answer.text) for answer in drawn]
    noisy = {i: likes[i] != slip for i, slip in zip(order, slips(draws, 1), strict=False)}
    rest = order[max(READ_THUMBS) :]
    truth, heard = (torch.tensor([float(side[i]) for i in rest]) for side in (likes, noisy))
    scores = torch.tensor([taste.score(drawn[i].text) for i in rest])
    record: Record = {"oracle": auroc(scores, heard), "thumbs": {}}
    for count in READ_THUMBS:
        thumbs = [Rated(prompts[i], drawn[i].text, drawn[i].ended, noisy[i]) for i in order[:count]]
        usual = desk.usual(thumbs, trial.seed * SEEDS + FAR)
        said = desk.taste(thumbs, usual).climbed.preference(read.rows(rest))
        record["thumbs"][count] = {"noise-free": auroc(said, truth), "noisy": auroc(said, heard)}
    return record


def _gain(trial: Trial, form: Form) -> Record:
    record = Trial("gain", trial.taste, trial.seed).record(form)
    if record is None:
        raise Missing(f"gain, {trial.taste}, seed {trial.seed} has not been run")
    return record


def _thumbs(trial: Trial, form: Form) -> list[Rated]:
    given = _gain(trial, form)["thumbs"][:COMPARED]
    return [Rated(each["prompt"], each["answer"], each["ended"], each["up"]) for each in given]


def _seed(trial: Trial) -> int:
    return trial.seed * SEEDS + EXAM_SEEDS


def _modules(desk: Desk) -> list[str]:
    return sorted({path.rpartition(".")[2] for path in desk.shape.modules})


def _newest(thumbs: Sequence[Rated]) -> list[tuple[Rated, int]]:
    """The last few of either kind, in their order, uncut."""
    kept = [each for kind in (True, False) for each in [t for t in thumbs if t.up is kind][-FEW:]]
    return [(each, len(each.answer)) for each in thumbs if each in kept]


def _turns(thumbs: Sequence[Rated]) -> Conversation:
    """The last few that are liked, as if they had been said before."""
    liked = [each for each in thumbs if each.up][-FEW:]
    return [
        {"role": role, "content": said}
        for each in liked
        for role, said in (("user", each.prompt), ("assistant", each.answer))
    ]


def _told(thumbs: Sequence[tuple[Rated, int]]) -> dict[str, str]:
    """The system message: each thumb with its question and so many words of its answer."""
    said = [
        f"Question: {each.prompt}\nAnswer: {' '.join(each.answer.split(' ')[:most])}\n"
        f"The user gave this answer a thumb {'up' if each.up else 'down'}."
        for each, most in thumbs
    ]
    first = "You are a helpful assistant. This user has rated earlier answers:"
    last = (
        "Write the next answer in the way of those that got a thumb up, unlike those that got a thumb down."
    )
    return {"role": "system", "content": "\n\n".join([first, *said, last])}


def _marked(trial: Trial, form: Form, answers: Sequence[Rollout]) -> list[Record]:
    taste = USERS[trial.taste].taste
    pairs = zip(held_out_prompts(form), answers, strict=True)
    return [asdict(mark(taste, prompt, answer.text, answer.ended, 0)) for prompt, answer in pairs]


_HOW: dict[str, Callable[[Trial, Desk, Form], Record]] = {
    "prompted": prompted, "best-of-4": best_of_4, "kto": kto, "auroc": auroc_of,
}  # fmt: skip
