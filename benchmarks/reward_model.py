"""How well a person's reward model foretells that person, offline: `python -m benchmarks.reward_model [module ...]`.

Knows simulated people whom the prior was not made from, what they would thumb, and the variants that show what each
part of the reward model is good for. Does not know how a reward model is fitted, and trains no assistant.

A module named on the command line has TASTES, a mapping of names to tastes with `score` and `likes`; without one it is
the demo's, and people drawn as the prior's were, from another seed. Each rates one answer to each of some prompts,
10 % of the thumbs by mistake; the model then ranks answers to other prompts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch
from torch import Generator, Tensor

from benchmarks import prior_corpus, prior_tastes
from benchmarks.prior_corpus import Corpus, Person
from benchmarks.workload import BUILD
from feedback.auroc import auroc
from feedback.company import Company
from feedback.crowd import shipped
from feedback.features import Answers, Scale
from feedback.prior import Prior
from feedback.reward import RewardConfig, RewardModel, fit, shared
from service.tastes import TASTES

RATED, DRAWS, DRAWN, SEED = 56, 3, 12, 7  # prompts that may be rated; thumbs drawn anew; people drawn
THUMBS, ABLATED, TURNED = (5, 10, 20, 40), (10, 40), 32
FLIPPED = 0.1
PAIRS = 200
LIKED = (
    0.1,
    0.9,
)  # of the answers that are ranked: where a taste likes more or fewer, there is nothing to rank
BINS = 10
OTHERS = 32  # base answers that give the scale beside the rated ones, as a round's

Fit = Callable[[Answers, Tensor, Answers], RewardModel]


@dataclass(frozen=True)
class Pool:
    """One person: what they would say of answers to prompts that may be rated, and of those to other prompts."""

    person: Person
    rated: Answers
    would: Tensor
    prompt: Tensor
    others: Answers
    likes: Tensor
    scores: Tensor

    @staticmethod
    def of(person: Person, corpus: Corpus) -> Pool:
        prompt = torch.tensor(corpus.prompt)
        near, far = (prompt < RATED).nonzero()[:, 0].tolist(), (prompt >= RATED).nonzero()[:, 0].tolist()
        likes = prior_corpus.liked([person], corpus.texts)[0]
        scores = torch.tensor([person.score(text) for text in corpus.texts])
        return Pool(
            person,
            corpus.read.rows(near),
            likes[near],
            prompt[near],
            corpus.read.rows(far),
            likes[far],
            scores[far],
        )

    def thumbs(self, number: int, generator: Generator) -> tuple[list[int], Tensor]:
        """Answers to so many different prompts, and the thumbs on them, slips among them."""
        asked = torch.randperm(RATED, generator=generator)[:number].tolist()
        rows = []
        for each in asked:
            answers = (self.prompt == each).nonzero()[:, 0]
            rows.append(int(answers[int(torch.randint(len(answers), (1,), generator=generator))]))
        return rows, slipped(self.would[rows], generator)


def slipped(likes: Tensor, generator: Generator) -> Tensor:
    """Thumbs of which 10 % are mistakes."""
    return torch.where(torch.rand(len(likes), generator=generator) < FLIPPED, 1 - likes, likes)


def variants(digest: str) -> dict[str, Fit]:
    """The reward model on this base model as it is, and without each of its parts."""
    config = RewardConfig()
    whole, alone = shared(digest, config), config.alone.prior()

    def model(
        prior: Prior = whole, recent: bool = True, style: float = 1, states: float = 1, crowd: bool = True
    ) -> Fit:
        def made(answers: Answers, up: Tensor, others: Answers) -> RewardModel:
            kept, usual = (Answers(p.style * style, p.states * states, p.counts) for p in (answers, others))
            scale = Scale.of(Answers.join([kept, usual]), config, prior)
            order = torch.arange(len(up)) if recent else torch.zeros(len(up))
            company = Company.among(shipped()[0], usual, kept, scale) if crowd else None
            return fit(kept, up, scale, config, prior, order, company)

        return made

    return {
        "as it is": model(),
        "no crowd": model(crowd=False),
        "the crowd, no kinds of one feature": model(replace(whole, single=0.0)),
        "no crowd, no kinds of one feature": model(replace(whole, single=0.0), crowd=False),
        "no crowd, no shared prior": model(alone, crowd=False),
        "no crowd, no hidden states": model(states=0, crowd=False),
        "no crowd, no style": model(style=0, crowd=False),
        "no turns": model(recent=False),
    }


def examined(pool: Pool, made: Fit, number: int, draw: int) -> dict[str, Any]:
    """One reward model after so many thumbs: its areas, and (foretold, true) of pairs for its calibration."""
    generator = Generator().manual_seed(1000 * draw + number)
    rows, up = pool.thumbs(number, generator)
    base = torch.randperm(len(pool.rated), generator=generator)[:OTHERS].tolist()
    model = made(pool.rated.rows(rows), up, pool.rated.rows(base))
    guess = model.preference(pool.others)
    noisy = slipped(pool.likes, generator)
    return {
        "area": auroc(guess, pool.likes),
        "noisy": auroc(guess, noisy),
        "oracle": auroc(pool.scores, noisy),
        "pairs": _pairs(pool, model, generator),
    }


def _pairs(pool: Pool, model: RewardModel, generator: Generator) -> list[tuple[float, bool, bool]]:
    """Of pairs of answers, drawn whatever they are worth but for ties: how surely the first is better, whether it is,
    and whether the reward (the lower bound) says so."""
    x, base = torch.randint(len(pool.scores), (2, 2 * PAIRS), generator=generator)
    apart = (pool.scores[x] != pool.scores[base]).nonzero()[:PAIRS, 0]
    x, base = x[apart], base[apart]
    sides = pool.others.rows(x.tolist()), pool.others.rows(base.tolist())
    sure = model.sureness(*sides)
    above = model.liking(*sides, RewardConfig().caution) > 0
    better = pool.scores[x] > pool.scores[base]
    return list(zip(sure.tolist(), better.tolist(), above.tolist(), strict=True))


def calibration(pairs: Sequence[tuple[float, bool, bool]]) -> dict[str, float]:
    """Expected calibration error (Guo et al. 2017), and how often a positive lower bound is right."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for sure, better, _ in pairs:
        bins[min(BINS - 1, int(sure * BINS))].append((sure, better))
    error = sum(abs(sum(s - b for s, b in each)) for each in bins) / len(pairs)
    trusted = [better for _, better, above in pairs if above]
    return {
        "calibration error": error,
        "lower bound right": mean(trusted) if trusted else math.nan,
        "of pairs": len(trusted) / len(pairs),
    }


def turned_round(pools: Sequence[Pool], made: Fit) -> float:
    """The area for a new taste after so many thumbs of another person's and as many of this one's."""
    areas = []
    for number, pool in enumerate(pools):
        old = pools[(number + 1) % len(pools)]
        for draw in range(DRAWS):
            generator = Generator().manual_seed(5000 + draw)
            first, said = old.thumbs(TURNED, generator)
            rows, up = pool.thumbs(TURNED, generator)
            model = made(pool.rated.rows([*first, *rows]), torch.cat([said, up]), pool.rated.rows(rows))
            areas.append(auroc(model.preference(pool.others), pool.likes) or 0.5)
    return mean(areas)


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.reward_model", description=__doc__)
    words.add_argument("modules", nargs="*", help="each with TASTES")
    modules = words.parse_args().modules
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    corpus = prior_corpus.to_judge_by(say)
    groups = {name: importlib.import_module(name).TASTES for name in modules}
    people: dict[str, Sequence[Person]] = {name: list(tastes.values()) for name, tastes in groups.items()}
    if not modules:
        people = {"demo": list(TASTES.values()), "drawn": prior_tastes.draw(corpus.texts, DRAWN, SEED)}
    found = {}
    for group, each in people.items():
        pools = [Pool.of(person, corpus) for person in each]
        pools = [pool for pool in pools if LIKED[0] <= float(pool.likes.mean()) <= LIKED[1]]
        say(f"{group}: {len(pools)} of {len(each)} tastes can be ranked")
        found[group] = _group(pools, corpus.model, say)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "reward_model.json").write_text(json.dumps(found, indent=1))


def _group(pools: Sequence[Pool], digest: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything about one group of people."""
    kept: dict[str, Any] = {}
    for name, made in variants(digest).items():
        for number in THUMBS if name == "as it is" else ABLATED:
            runs = [[examined(pool, made, number, draw) for draw in range(DRAWS)] for pool in pools]
            flat = [run for each in runs for run in each]
            figures = {what: mean(run[what] for run in flat) for what in ("area", "noisy", "oracle")}
            figures |= calibration([pair for run in flat for pair in run["pairs"]])
            say(f"{name}, {number} thumbs: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
            tastes = {
                p.person.name: mean(r["area"] for r in each) for p, each in zip(pools, runs, strict=True)
            }
            kept[f"{name}, {number} thumbs"] = figures | {"tastes": tastes}
            if name == "as it is":
                say("  " + ", ".join(f"{taste} {area:.2f}" for taste, area in tastes.items()))
        if name in ("as it is", "no turns"):
            kept[f"{name}, turned round"] = turned_round(pools, made)
            say(f"{name}, turned round: {kept[f'{name}, turned round']:.3f}")
    return kept


if __name__ == "__main__":
    main()
