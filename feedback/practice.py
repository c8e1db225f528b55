"""The practising of one round: the policy answers, every answer is credited, PPO moves the policy.

Knows rollouts, the reward model that is climbed, and the KL budget; knows nothing of thumbs, the gate or the store. It
ends with the last adapter whose KL, measured on its own fresh answers, lay inside the budget.

Shapes: B rollouts, A answer tokens, N answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.policy import Policy, Scores, Sequences, score_base
from adapters.versions import Learner as Kept
from feedback import beside, ppo
from feedback.credit import credit, see
from feedback.features import Answers
from feedback.learner import Learner
from feedback.reward import RewardModel
from feedback.rollouts import Rollout
from feedback.round import Round, RoundConfig

SURELY = 0.9  # of the way that would just leave room, for the answers drawn from there are other ones
SHORTER = 0.5  # of an update's length, once one has led out of the budget
TRIES = 3  # updates that have led out of it end the practising
TOLD = 32  # newest corrections whose log-probability is told, for to score more takes time


@dataclass(frozen=True)
class Behaviour:
    """(B, A), 0 off the mask, nats: what each token was drawn with, and the entropy that it was drawn from."""

    logprobs: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class Iteration:
    """One batch of rollouts, scored: B rows of A tokens."""

    sequences: Sequences
    policy: Behaviour
    base: Scores
    gains: Tensor  # (B, A) what each piece of an answer added to its reward
    seen: Tensor  # (B, A, K) what the critic sees before each token
    metrics: dict[str, float]


@dataclass(frozen=True)
class Inside:
    """Everything that a step moves, as it was when the KL was last measured inside the budget."""

    adapter: Adapter
    kept: Kept
    metrics: dict[str, Any]

    @staticmethod
    def of(learner: Learner, round: Round) -> Inside:
        tensors = {name: tensor.clone() for name, tensor in learner.tensors().items()}
        return Inside(learner.policy.adapter(), (tensors, learner.meta()), dict(round.metrics))

    def restore(self, learner: Learner, round: Round) -> None:
        """Take back what has been learnt since."""
        learner.policy.load(self.adapter)
        learner.resume(self.kept)
        round.metrics = dict(self.metrics)


def set_out(
    round: Round, learner: Learner, parent: Adapter | None, climbed: RewardModel, base: Answers
) -> tuple[Adapter | None, Iteration]:
    """What the candidate moves away from, and the first answers of practising, drawn from there.

    That is the version that answers now; but where it has spent more of the lifetime's KL than `room` leaves, on this
    round's own prompts and lengths, as much of the way back to the base model as surely leaves it: else a round at the
    edge of the budget has nowhere to go, however much more is known. KL grows about with the square of the way.
    """
    round.begin(f"practising, 1 of {round.config.iterations + 1}")
    drawn = rollout(round, learner, parent, climbed, base, 0)
    spent = _lifetime_spent(drawn.metrics, round.config)
    while parent and spent > 1 - round.config.room:
        learner.step_back(1 - SURELY * math.sqrt((1 - round.config.room) / spent))
        parent = learner.policy.adapter()
        drawn = rollout(round, learner, parent, climbed, base, 0)
        spent = _lifetime_spent(drawn.metrics, round.config)
    return parent, drawn


def practise(
    round: Round,
    learner: Learner,
    parent: Adapter | None,
    climbed: RewardModel,
    base: Answers,
    drawn: Iteration,
) -> Adapter:
    """PPO from the first answers on, `drawn`, until the iterations are used up; the last adapter whose measured KL lay
    inside the budget.

    Every batch of rollouts measures the adapter that drew it, so one more batch than there are updates is drawn. An
    update that led out of the budget is taken back and tried again half as long (the backtracking line search of
    Schulman et al. 2015, appendix C); so are those that follow, and the third ends the practising. From a parent they
    grow shorter in proportion to what is left of the round: it is near where it should be, and what constant steps
    would do there is chance for the most part (Robbins & Monro 1951).
    """
    steps = round.config.iterations + 1
    round.metrics |= _known(round, learner, "before")
    round.metrics |= drawn.metrics
    inside = Inside.of(learner, round)
    taken_back, whole = 0, 1.0
    for number in range(1, steps):
        round.begin(f"practising, {number + 1} of {steps}")
        learner.pace(whole * (1 - (number - 1) / round.config.iterations if parent else 1))
        round.metrics |= improve(round, learner, drawn)
        after = rollout(round, learner, parent, climbed, base, number)
        if _spent(after.metrics, round.config) <= 1:
            drawn = after
            round.metrics |= drawn.metrics
            inside = Inside.of(learner, round)
        else:
            inside.restore(learner, round)
            whole *= SHORTER
            round.metrics["taken_back_kl"] = after.metrics["kl"]
            taken_back += 1
            if taken_back == TRIES:
                round.skip(steps - 1 - number)
                break
    round.metrics |= _known(round, learner, "after")
    return inside.adapter


def measure(
    round: Round,
    learner: Learner,
    adapter: Adapter,
    parent: Adapter | None,
    climbed: RewardModel,
    base: Answers,
) -> None:
    """Puts an adapter that no batch of rollouts has measured into the learner, and its figures into the round's."""
    learner.policy.load(adapter)
    drawn = rollout(round, learner, parent, climbed, base, round.config.iterations + 1)
    round.metrics |= drawn.metrics


def _spent(metrics: dict[str, float], config: RoundConfig) -> float:
    """The share of the KL budget that is used up, by the limit that is nearest; above 1 outside."""
    return max(_lifetime_spent(metrics, config), metrics["kl_parent"] / config.gate.version_kl)


def _lifetime_spent(metrics: dict[str, float], config: RoundConfig) -> float:
    """The same, of the limits to the base model alone."""
    return max(metrics["kl"] / config.gate.lifetime_kl, metrics["kl_per_token"] / config.gate.token_kl)


def rollout(
    round: Round, learner: Learner, parent: Adapter | None, climbed: RewardModel, base: Answers, number: int
) -> Iteration:
    """Fresh answers of the policy as it is now, with everything that is measured on them."""
    config, model = round.config, round.model
    order = torch.randperm(len(round.prompts), generator=round.generator).tolist()
    chosen = [order[i % len(order)] for i in range(config.rollouts)]
    prompts = [round.prompts[i] for i in chosen]
    answers = round.sampler.sample(prompts, learner.policy.adapter(), round.sampling(100 + number))
    sequences = Sequences.of([(a.prompt, a.answer) for a in answers], model.device)
    with torch.no_grad():
        policy = _drawn_with(round, learner, sequences, answers)
        reference = _by_parts(round, sequences, lambda part: score_base(model, part))
        before = _by_parts(round, sequences, Policy(model, parent).score) if parent else reference
    of_base = base.rows(chosen)
    gains = credit(model, climbed, answers, reference, of_base, round.harm)
    rewards = gains.sum(1)
    mask, lengths = sequences.mask, sequences.mask.sum(1).float()
    kl = ppo.per_token_kl(policy.logprobs, reference.logprobs)
    metrics = {
        "reward": float(rewards.mean()),
        "kl": float(kl.sum(1).mean()),
        "kl_per_token": float(kl.sum() / mask.sum()),
        "kl_parent": float(ppo.per_token_kl(policy.logprobs, before.logprobs).sum(1).mean()),
        "entropy": float(policy.entropy[mask].mean()),
        "entropy_share": float(policy.entropy[mask].mean() / reference.entropy[mask].mean().clamp_min(1e-6)),
        "answer_tokens": float(lengths.mean()),
        "ended": sum(a.ended for a in answers) / len(answers),
        "reward_length_correlation": _correlation(rewards, lengths.cpu()),
    }
    if model.native is None:  # on the kernels both are one pass, and `first_ratio_error` tells
        metrics["engine_gap"] = _engine_gap(answers, policy.logprobs)
    seen = see(climbed, reference, gains, of_base)
    return Iteration(sequences, policy, reference, gains.to(model.device), seen.to(model.device), metrics)


def improve(round: Round, learner: Learner, drawn: Iteration) -> dict[str, float]:
    """One PPO update on one batch of rollouts."""
    config, sequences, mask = round.config.ppo, drawn.sequences, drawn.sequences.mask

    def values(rows: Tensor) -> Tensor:
        return learner.critic(drawn.seen[rows])

    # Before the first policy step, for the reward model is new; and on every batch, for the policy has moved.
    sums = torch.where(mask, drawn.gains.flip(1).cumsum(1).flip(1), 0.0)
    ppo.fit_critic(
        values, sums, mask, learner.optimiser, config, round.generator, epochs=round.config.critic_epochs
    )
    with torch.no_grad():
        old_values = torch.where(mask, values(torch.arange(len(mask))), 0.0)
    # An answer at the limit is finished for its reader too: it has no later worth to bootstrap from.
    nothing = torch.zeros(len(mask), device=mask.device)
    advantages, returns = ppo.advantages(
        drawn.gains, old_values, mask, gamma=config.gamma, lam=config.lam, bootstrap=nothing
    )
    # Each token pays for its own KL, as where the KL stands in the loss (Shao et al. 2024, eq. 3), and none for that of
    # later ones: else the cheapest way out of the KL is to end early, and answers shrink whatever the taste is.
    advantages += ppo.kl_penalties(drawn.policy.logprobs, drawn.base.logprobs, learner.price, mask)
    batch = ppo.Batch(drawn.policy.logprobs, old_values, advantages, returns, mask)

    def evaluate(rows: Tensor) -> ppo.Evaluation:
        round.stop()
        now = learner.policy.score(sequences.rows(rows))
        return ppo.Evaluation(now.logprobs, now.entropy, values(rows))

    metrics = ppo.update(
        evaluate, batch, learner.optimiser, config, round.generator, beside.losses(round, learner)
    )
    metrics["kl_price"] = learner.price
    metrics["kl_coef"] = learner.kl.update(drawn.metrics["kl"], len(mask))
    return metrics


def _known(round: Round, learner: Learner, when: str) -> dict[str, float]:
    """The mean log-probability a token of the newest corrections that are learnt by word, nats."""
    if not round.lessons:
        return {}
    sequences = Sequences.of(round.lessons[-TOLD:], round.model.device)
    with torch.no_grad():
        scores = _by_parts(round, sequences, learner.policy.score)
    return {f"correction_logprob_{when}": float(scores.logprobs[sequences.mask].mean())}


def _drawn_with(
    round: Round, learner: Learner, sequences: Sequences, answers: Sequence[Rollout]
) -> Behaviour:
    """What the answers' tokens were drawn with, as the trainer's own pass sees it: PPO's first ratio has to be 1.

    On the kernels the engine's pass is the trainer's, and nothing is computed twice; `first_ratio_error` tells.
    """
    if round.model.native is None:
        scores = _by_parts(round, sequences, learner.policy.score)
        return Behaviour(scores.logprobs, scores.entropy)
    width = sequences.mask.shape[1]

    def padded(rows: Sequence[list[float]]) -> Tensor:
        return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows])

    return Behaviour(padded([a.logprobs for a in answers]), padded([a.entropies for a in answers]))


def _by_parts(round: Round, sequences: Sequences, score: Callable[[Sequences], Scores]) -> Scores:
    """Scores of all rows, a minibatch at a time, so that memory does not grow with the batch."""
    parts = []
    for rows in torch.arange(len(sequences.mask)).split(round.config.ppo.minibatch_rows):
        round.stop()
        parts.append(score(sequences.rows(rows)))
    return Scores.join(parts)


def _correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's, 0 where one side does not vary."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm > 0 else 0.0


def _engine_gap(answers: Sequence[Rollout], logprobs: Tensor) -> float:
    """Mean |difference| between the engine's log-probabilities and the trainer's, nats a token."""
    gaps = [
        (torch.tensor(a.logprobs) - logprobs[row, : len(a.logprobs)].cpu()).abs()
        for row, a in enumerate(answers)
    ]
    return float(torch.cat(gaps).mean())
