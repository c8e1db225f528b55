"""One round of learning for one person, top to bottom: thumbs → reward model → PPO on rollouts → gate → candidate.

Knows the order of things and why; knows nothing of Redis, locks or HTTP. The thumbs teach only the reward model; PPO
learns from answers that it samples itself and the reward model scores (Ziegler et al. 2019; Ouyang et al. 2022, §3.5).
A correction is a thumb up for its text, and beside PPO's own loss it is learnt by word (ibid., eq. 2).

    read      features of the rated answers; the reward model that is climbed, and the judge's, which knows more thumbs
    base      the base model's own answers to the same prompts: what every reward is relative to
    begin     from the version that answers now; with a step back to the base where this person would like that better
    practise  k times: update → sample → measure the KL; an update that leaves its budget is tried again, shorter
              (practice.py)
    judge     candidate against the version that it began from, on prompts that no rollout began from (gate.py); one
              that goes too far is judged again with less of it (Wortsman et al. 2022, Ramé et al. 2024)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.model import BaseModel
from adapters.store import AdapterStore, Candidate, Revision
from adapters.versions import Learner as Kept
from feedback import gate, ppo
from feedback.credit import critic_inputs
from feedback.features import Answers
from feedback.harm import Harm
from feedback.learner import Learner
from feedback.practice import measure, practise, set_out
from feedback.reward import RewardModel
from feedback.rollouts import Rollout, features, rated
from feedback.round import Example, Progress, Report, Round, RoundConfig, Stop
from feedback.taste import read_taste

RETREATS = 3  # of a candidate that goes too far: how much is left is foretold, and the KL is measured

__all__ = ["Example", "Progress", "RoundConfig", "run_round"]


@dataclass(frozen=True)
class Rivals:
    """Whom a candidate has to beat on the gate's prompts: the base model's answers and their features, and the features
    of the version's that it began from."""

    base: list[Rollout]
    base_read: Answers
    now_read: Answers

    @staticmethod
    def of(round: Round, parent: Adapter | None) -> Rivals:
        base = _at_the_gate(round, None)
        base_read = features(round.model, base, round.stop)
        now_read = features(round.model, _at_the_gate(round, parent), round.stop) if parent else base_read
        return Rivals(base, base_read, now_read)


def run_round(
    model: BaseModel,
    store: AdapterStore,
    uid: str,
    examples: Sequence[Example],
    *,
    start: int,
    seed: int,
    config: RoundConfig,
    harm: Harm,
    report: Report,
    stop: Stop,
) -> Candidate:
    """A candidate that began from version `start`, with the gate's verdict on it.

    `harm`: the classifier and the probes, which hold for everybody. `stop` is called between tokens and minibatches and
    raises to abandon the round. Raises what the store raises, and `ppo.Diverged`.
    """
    began = time.monotonic()
    round = Round(model, config, harm, seed, examples, report, stop)

    round.begin("reading the thumbs")
    thumbs = [rated(model, e.messages, e.answer, e.ended) for e in examples if not e.silent]
    read = features(model, thumbs, stop)

    round.begin("asking the base model")
    base = round.sampler.sample(round.prompts, None, round.sampling(1))
    base_read = features(model, base, stop)
    taste = read_taste(model, examples, read, base_read, config, stop)
    round.metrics |= taste.metrics

    parent = store.load(uid, start) if start else None
    rivals = Rivals.of(round, parent)
    learner = begin_learner(round, parent, store.learner(uid, start) if start else None)
    if parent and outgrown(taste.judge, rivals, config.gate, seed):
        learner.step_back(1)
        parent = None  # from here on it is the base that the candidate moves away from
    elif parent:
        trust(learner, taste.judge.certainty(rivals.now_read, rivals.base_read), config)
    round.metrics["stepped_back"] = bool(start) and parent is None
    parent, first = set_out(round, learner, parent, taste.climbed, base_read)
    begun = learner.policy.adapter()
    candidate = practise(round, learner, parent, taste.climbed, base_read, first)

    round.begin("judging the candidate")
    candidate, verdict = as_far_as_it_may(
        round,
        candidate,
        begun,
        judged=partial(judge, round, taste.judge, rivals),
        measured=lambda part: measure(round, learner, part, parent, taste.climbed, base_read),
    )
    if candidate.is_silent:
        learner.step_back(1)  # what drove the policy along the way that was given up is not gone on with
    round.metrics["seconds"] = time.monotonic() - began
    return Candidate(
        adapter=candidate,
        learner_tensors=learner.tensors() | {f"reward.{k}": t for k, t in taste.climbed.tensors().items()},
        learner_meta=learner.meta(),
        parent=start,
        trained_on=[Revision(e.message_id, e.revision) for e in examples],
        metrics=round.metrics,
        gate=verdict.to_json(),
        seed=seed,
    )


def outgrown(judging: RewardModel, rivals: Rivals, config: gate.GateConfig, seed: int) -> bool:
    """Whether this person would surely like the base's answers better than those of the version that answers now, as
    after a turn of the taste: from there the way leads back through the base, along the edge of the KL budget."""
    worse = -judging.liking(rivals.now_read, rivals.base_read)
    return gate.lower_bound(worse, config.confidence, torch.Generator().manual_seed(seed)) > 0


def begin_learner(round: Round, parent: Adapter | None = None, kept: Kept | None = None) -> Learner:
    """The parent with its own optimiser, critic and KL state; fresh from the base model (None) or an import."""
    config = round.config
    adapter = parent or Adapter.fresh(round.shape, round.generator)
    controller = ppo.KLController(config.kl_coef, config.kl_target, config.kl_horizon)
    learner = Learner(
        round.model, adapter, critic_inputs(config.reward), config.ppo, controller, round.generator
    )
    if kept is not None:
        learner.resume(kept)
    return learner


def trust(learner: Learner, certainty: float, config: RoundConfig) -> None:
    """The surer it is that this person likes the version's answers, the less a nat costs, in proportion to the doubt;
    and the KL that the controller aims at is what the version may spend. At a first round's price the rounds after it
    went no farther, and back, however much was known."""
    doubt = min(1.0, (1 - certainty) / config.kl_doubt)
    learner.trust(doubt, max(config.kl_target, gate.stake(certainty) * config.gate.lifetime_kl))


def as_far_as_it_may(
    round: Round,
    candidate: Adapter,
    begun: Adapter,
    judged: Callable[[Adapter, float | None], gate.Verdict],
    measured: Callable[[Adapter], None],
) -> tuple[Adapter, gate.Verdict]:
    """The candidate with the verdict on it; where it went too far from where it had `begun`, as much of it as passes,
    or what is left after RETREATS. After a step back nothing of it is, if nothing passes: what was outgrown is liked
    less than the base's answers, and does not answer on whatever came of the way from these.

    `judged`: an adapter, and how certain the whole way is where it is a part of one."""
    verdict = judged(candidate, None)
    for left in reversed(range(RETREATS + 1)):
        # What is drawn back anyway need not be probed, which takes as long again.
        if not (left and verdict.too_far):
            verdict = gate.Verdict([*verdict.checks, *probed(round, candidate)])
        if not (left and verdict.too_far):
            break
        round.metrics.setdefault("held_whole", verdict.failed)
        way_back = candidate.silent() if verdict.from_base else begun
        candidate = way_back.towards(candidate, verdict.near_enough)
        measured(candidate)
        verdict = judged(candidate, round.metrics["certainty"])
    if round.metrics["stepped_back"] and not verdict.passed:
        round.metrics.setdefault("held_whole", verdict.failed)
        candidate = candidate.silent()
        measured(candidate)
        verdict = gate.Verdict([*judged(candidate, None).checks, *probed(round, candidate)])
    return candidate, verdict


def judge(
    round: Round, judging: RewardModel, rivals: Rivals, candidate: Adapter, certainty: float | None
) -> gate.Verdict:
    """The candidate against its rivals, before it is probed. `certainty`: of the whole way that it is a part of, for
    the less of a way is left, the more of what can be seen of it is chance."""
    config = round.config
    theirs = _at_the_gate(round, candidate)
    read = features(round.model, theirs, round.stop)
    sides, base = (read, rivals.now_read), rivals.base_read
    after, before = (judging.liking(side, base) for side in sides)
    round.metrics |= change(after, before, round.seed)
    if certainty is None:
        certainty = judging.certainty(read, base)
    round.metrics["certainty"] = certainty
    candidate_prospect, now_prospect = (judging.prospect(side, base) for side in sides)
    return gate.judge(
        candidate_prospect,
        now_prospect,
        _side(theirs),
        _side(rivals.base),
        certainty=certainty,
        kl_base=round.metrics["kl"],
        kl_token=round.metrics["kl_per_token"],
        kl_parent=round.metrics["kl_parent"],
        entropy_share=round.metrics["entropy_share"],
        config=config.gate,
        generator=round.generator,
    )


def probed(round: Round, candidate: Adapter) -> list[gate.Check]:
    """What the candidate does on the probes, beside the base model."""
    own, of_base = (round.harm.conduct(round.sampler, one, round.config.chat) for one in (candidate, None))
    return gate.harmless(own, of_base, round.config.gate, round.generator)


def change(after: Tensor, before: Tensor, seed: int) -> dict[str, float]:
    """The held-out reward of both sides (N,), and the 95 % interval of its change: paired, by the percentile bootstrap
    over prompts as the gate's own bound (Efron 1979), which is one-sided."""
    low, high = (
        sign * gate.lower_bound(sign * (after - before), 0.975, torch.Generator().manual_seed(seed))
        for sign in (1, -1)
    )
    return {
        "reward_before": float(before.mean()),
        "reward_after": float(after.mean()),
        "reward_change_low": low,
        "reward_change_high": high,
    }


def _at_the_gate(round: Round, adapter: Adapter | None) -> list[Rollout]:
    """Answers to the gate's prompts as chat draws them, with the same seeds for every side."""
    chat = replace(round.config.chat, seed=round.sampling(2).seed)
    return round.sampler.sample(round.gate_prompts, adapter, chat)


def _side(answers: Sequence[Rollout]) -> gate.Side:
    return gate.Side([a.text for a in answers], [a.ended for a in answers])
