"""One round of learning for one person, top to bottom: thumbs → reward model → PPO on fresh rollouts → gate → candidate.

Knows the order of things and why; knows nothing of Redis, locks or HTTP. The thumbs teach only the reward model; PPO
learns from answers that it samples itself and the reward model scores (Ziegler et al. 2019; Ouyang et al. 2022, §3.5).

    read      features of the rated answers; the climbed reward model, and the judge's from the thumbs kept apart
    base      the base model's own answers to the same prompts: what every reward is relative to
    learn     k times: sample → score → measure the KL → stop at the budget, or update
    gate      candidate against the active version, on prompts that no rollout began from

Shapes: B rollouts, A answer tokens, N answers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import torch
from torch import Generator, Tensor

from adapters.adapter import Adapter
from adapters.model import BaseModel
from adapters.policy import Scores, Sequences, score_base
from adapters.sampling import Sampling
from adapters.store import AdapterStore, Candidate, Revision
from feedback import gate, ppo, reward
from feedback.learner import Learner
from feedback.reward import Answers, RewardModel, Scale
from feedback.rollouts import Prompt, Rollout, Sampler, features, rated, styles

Report = Callable[["Progress"], None]
Stop = Callable[[], None]


@dataclass(frozen=True)
class RoundConfig:
    """How a round learns. `chat` is how chat draws its answers, for the gate; its seed is not used."""

    rank: int = 8
    alpha: float = 16.0
    iterations: int = 6  # sampling and updating, ≥ 1
    rollouts: int = 32  # answers an iteration, ≥ 2
    rows: int = 32  # answers sampled at once, ≥ 1
    answer_tokens: int = 160  # longest rollout, as chat's own answers
    kl_coef: float = 0.03  # log-odds a nat, where the controller begins
    kl_target: float = 12.0  # nats an answer that the controller aims at
    kl_horizon: float = 128.0  # answers until a full correction
    critic_epochs: int = 8  # passes over the first rollouts before the first policy step
    chat: Sampling = field(default_factory=lambda: Sampling(0.7, 0.9, 1.1))
    ppo: ppo.PPOConfig = field(
        default_factory=lambda: ppo.PPOConfig(
            lam=1.0, epochs=2, minibatch_rows=8, learning_rate=1e-3, critic_learning_rate=3e-3, target_kl=0.1
        )
    )
    reward: reward.RewardConfig = field(default_factory=reward.RewardConfig)
    gate: gate.GateConfig = field(default_factory=gate.GateConfig)


@dataclass(frozen=True)
class Example:
    """A rated answer. `rating` +1 or -1; `held_out` is kept from the climbed reward model, for the judge."""

    message_id: str
    revision: int
    messages: list[dict[str, str]]
    answer: str
    ended: bool
    rating: int
    correction: str | None
    held_out: bool
    max_tokens: int


@dataclass(frozen=True)
class Progress:
    """How far a round is: `step` of `steps`, what it does now, and its figures so far."""

    step: int
    steps: int
    stage: str
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Taste:
    """What the thumbs say: the reward model that PPO climbs, the judge's, and what a person is told about them."""

    climbed: RewardModel
    judge: RewardModel
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Iteration:
    """One batch of rollouts, scored: B rows of A tokens."""

    sequences: Sequences
    policy: Scores
    base: Scores
    rewards: Tensor  # (B,) of whole answers
    offsets: Tensor  # (B,) the worth of the base's answer to the same prompt
    metrics: dict[str, float]


class Round:
    """The parts of one round and what is known so far."""

    def __init__(
        self, model: BaseModel, config: RoundConfig, seed: int, examples: Sequence[Example], report: Report, stop: Stop
    ) -> None:
        self.model = model
        self.config = config
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.shape = model.lora_shape(config.rank, config.alpha)
        self.sampler = Sampler(model, self.shape, config.rows, stop)
        self.stop = stop
        self.prompts, self.gate_prompts = split_prompts(examples, config)
        self.metrics: dict[str, Any] = {}
        self._report = report
        self._step = 0

    def begin(self, stage: str) -> None:
        """Tell what comes next; a safe point."""
        self.stop()
        self._report(Progress(self._step, self.config.iterations + 3, stage, dict(self.metrics)))
        self._step += 1

    def sampling(self, purpose: int) -> Sampling:
        """Untouched draws with seeds of their own for each purpose of the round."""
        return Sampling(seed=(self.seed + 1) * 1_000_003 + purpose * 10_007)


def run_round(
    model: BaseModel,
    store: AdapterStore,
    uid: str,
    examples: Sequence[Example],
    *,
    start: int,
    seed: int,
    config: RoundConfig,
    report: Report,
    stop: Stop,
) -> Candidate:
    """A candidate that began from version `start`, with the gate's verdict on it.

    `stop` is called between tokens and minibatches and raises to abandon the round. Raises what the store raises.
    """
    began = time.monotonic()
    round = Round(model, config, seed, examples, report, stop)
    learner = _learner(round, store, uid, start)
    parent = store.load(uid, start) if start else None

    round.begin("reading the thumbs")
    thumbs = [rated(model, e.messages, e.answer, e.ended) for e in examples]
    read = features(model, thumbs, stop)

    round.begin("asking the base model")
    base = round.sampler.sample(round.prompts, None, round.sampling(1))
    base_read = features(model, base, stop)
    taste = read_taste(model, examples, read, base_read, config, stop)
    round.metrics |= taste.metrics

    candidate = learn(round, learner, parent, taste.climbed, base_read)

    round.begin("judging the candidate")
    active = store.head(uid).active
    verdict = judge(round, taste.judge, candidate, store.load(uid, active) if active else None)
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


def split_prompts(examples: Sequence[Example], config: RoundConfig) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts for rollouts and, disjoint from them, for the gate: the person's own, then a shipped neutral set.

    A prompt's side follows from its own words, so that it never changes sides from round to round.
    """
    own = {_key(e.messages): Prompt(e.messages, min(e.max_tokens, config.answer_tokens)) for e in examples}
    longest = max((prompt.max_tokens for prompt in own.values()), default=config.answer_tokens)
    lines = (resources.files("feedback") / "neutral_prompts.txt").read_text().splitlines()
    neutral = [Prompt([{"role": "user", "content": line}], longest) for line in lines if line.strip()]
    pool = own | {_key(p.messages): p for p in neutral if _key(p.messages) not in own}
    apart = {key for key in pool if key[0] in "0123"}  # a quarter
    for_gate = [p for key, p in pool.items() if key in apart][: config.gate.prompts]
    return [p for key, p in pool.items() if key not in apart][: config.rollouts], for_gate


def _key(messages: list[dict[str, str]]) -> str:
    words = "\n".join(f"{m['role']}: {m['content']}" for m in messages)
    return hashlib.sha256(words.encode()).hexdigest()


def _learner(round: Round, store: AdapterStore, uid: str, start: int) -> Learner:
    """Version `start` with its own optimiser, critic and KL state; fresh from the base model or an import."""
    config = round.config
    adapter = store.load(uid, start) if start else Adapter.fresh(round.shape, round.generator)
    controller = ppo.KLController(config.kl_coef, config.kl_target, config.kl_horizon)
    learner = Learner(round.model, adapter, config.ppo, controller, round.generator)
    kept = store.learner(uid, start) if start else None
    if kept is not None:
        learner.resume(kept)
    return learner


def read_taste(
    model: BaseModel,
    examples: Sequence[Example],
    read: Answers,
    base: Answers,
    config: RoundConfig,
    stop: Stop,
) -> Taste:
    """Two reward models from one person's thumbs: one to climb, one to judge by. A correction is a thumb up for it."""
    corrected = [e for e in examples if e.correction]
    wanted = [rated(model, e.messages, e.correction or "", True) for e in corrected]
    answers = Answers.join([read, features(model, wanted, stop)]) if wanted else read
    up = torch.tensor([float(e.rating > 0) for e in examples] + [1.0] * len(corrected))
    apart = torch.tensor([e.held_out for e in [*examples, *corrected]])
    scale = Scale.of(Answers.join([answers, base]), config.reward)
    climbed, judge = (
        reward.fit(answers.rows(rows), up[rows], scale, config.reward)
        for rows in ((~apart).nonzero()[:, 0].tolist(), apart.nonzero()[:, 0].tolist())
    )
    area = reward.auroc(climbed.preference(answers)[apart], up[apart], config.reward.auroc_least)
    ups = sum(e.rating > 0 for e in examples)
    downs = len(examples) - ups
    metrics = {
        "thumbs": len(examples),
        "thumbs_up": ups,
        "thumbs_down": downs,
        "thumbs_held_out": sum(e.held_out for e in examples),
        "corrections": len(corrected),
        "reward_model_auroc": area,
        "reward_model_says": reward.describe(ups, downs, area),
        "beliefs": [
            {"feature": name, "weight": weight, "certainty": certainty}
            for name, weight, certainty in climbed.beliefs()
        ],
    }
    return Taste(climbed, judge, metrics)


def learn(
    round: Round, learner: Learner, parent: Adapter | None, climbed: RewardModel, base: Answers
) -> Adapter:
    """PPO until the iterations or the KL budget are used up; the last adapter whose measured KL lay inside it.

    Every batch of rollouts measures the adapter that drew it, so one more batch than there are updates is drawn.
    """
    config = round.config
    inside = learner.policy.adapter()
    for number in range(config.iterations + 1):
        round.begin(f"practising, {number + 1} of {config.iterations + 1}")
        drawn = rollout(round, learner, parent, climbed, base, number)
        if number and not _inside_budget(drawn.metrics, config):
            learner.policy.load(inside)
            break
        inside = learner.policy.adapter()
        round.metrics |= drawn.metrics
        if number < config.iterations:
            round.metrics |= improve(round, learner, drawn, number)
    return inside


def _inside_budget(metrics: dict[str, float], config: RoundConfig) -> bool:
    return metrics["kl"] <= config.gate.lifetime_kl and metrics["kl_parent"] <= config.gate.version_kl


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
        policy = _by_parts(round, sequences, learner.policy.score)
        reference = _by_parts(round, sequences, lambda part: score_base(model, part))
        before = policy_of(learner, parent, round, sequences) if parent else reference
    read = Answers(styles(answers), _mean_states(reference))
    of_base = base.rows(chosen)
    rewards = climbed.reward(read, of_base)
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
        "engine_gap": _engine_gap(answers, policy.logprobs),
    }
    offsets = climbed.preference(of_base)
    return Iteration(sequences, policy, reference, rewards.to(model.device), offsets.to(model.device), metrics)


def policy_of(learner: Learner, adapter: Adapter, round: Round, sequences: Sequences) -> Scores:
    """The same answers under another adapter than the policy's present one."""
    now = learner.policy.adapter()
    learner.policy.load(adapter)
    scores = _by_parts(round, sequences, learner.policy.score)
    learner.policy.load(now)
    return scores


def improve(round: Round, learner: Learner, drawn: Iteration, number: int) -> dict[str, float]:
    """One PPO update on one batch of rollouts."""
    config, sequences, mask = round.config.ppo, drawn.sequences, drawn.sequences.mask
    shaped = ppo.shaped_rewards(
        drawn.rewards, drawn.policy.logprobs, drawn.base.logprobs, learner.kl.coef, mask
    )
    ended = torch.zeros(len(mask), device=mask.device)

    def values(rows: Tensor) -> Tensor:
        return learner.critic(drawn.policy.states[rows], drawn.offsets[rows])  # type: ignore[no-any-return]

    if number == 0:  # the reward model is new: its critic has to be, too
        sums = torch.where(mask, shaped.flip(1).cumsum(1).flip(1), 0.0)
        ppo.fit_critic(
            values, sums, mask, learner.optimiser, config, round.generator, epochs=round.config.critic_epochs
        )
    with torch.no_grad():
        old_values = torch.where(mask, values(torch.arange(len(mask))), 0.0)
    # An answer at the limit is finished for its reader too: it has no later worth to bootstrap from.
    advantages, returns = ppo.advantages(
        shaped, old_values, mask, gamma=config.gamma, lam=config.lam, bootstrap=ended
    )
    batch = ppo.Batch(drawn.policy.logprobs, old_values, advantages, returns, mask)

    def evaluate(rows: Tensor) -> ppo.Evaluation:
        round.stop()
        now = learner.policy.score(sequences.rows(rows))
        return ppo.Evaluation(now.logprobs, now.entropy, learner.critic(now.states, drawn.offsets[rows]))

    metrics = ppo.update(evaluate, batch, learner.optimiser, config, round.generator)
    metrics["kl_coef"] = learner.kl.update(drawn.metrics["kl"], len(mask))
    return metrics


def judge(
    round: Round, judging: RewardModel, candidate: Adapter, active: Adapter | None
) -> gate.Verdict:
    """Candidate, active version and base on the gate's prompts, with the same seeds, drawn as chat draws."""
    config, prompts = round.config, round.gate_prompts
    chat = Sampling(
        config.chat.temperature, config.chat.top_p, config.chat.repetition_penalty, round.sampling(2).seed
    )
    base = round.sampler.sample(prompts, None, chat)
    theirs = round.sampler.sample(prompts, candidate, chat)
    now = round.sampler.sample(prompts, active, chat) if active else base
    base_read = features(round.model, base, round.stop)
    rewards = [
        judging.worth(features(round.model, side, round.stop), base_read)[0] for side in (theirs, now)
    ]
    after, before = rewards
    round.metrics |= {"reward_before": float(before.mean()), "reward_after": float(after.mean())}
    return gate.judge(
        after,
        before,
        _side(theirs),
        _side(base),
        kl_base=round.metrics["kl"],
        kl_parent=round.metrics["kl_parent"],
        entropy_share=round.metrics["entropy_share"],
        config=config.gate,
        generator=round.generator,
    )


def _side(answers: Sequence[Rollout]) -> gate.Side:
    return gate.Side([a.text for a in answers], [a.ended for a in answers])


def _by_parts(round: Round, sequences: Sequences, score: Callable[[Sequences], Scores]) -> Scores:
    """Scores of all rows, a minibatch at a time, so that memory does not grow with the batch."""
    parts = []
    for rows in torch.arange(len(sequences.mask)).split(round.config.ppo.minibatch_rows):
        round.stop()
        parts.append(score(sequences.rows(rows)))
    return Scores(
        torch.cat([p.logprobs for p in parts]),
        torch.cat([p.entropy for p in parts]),
        torch.cat([p.states for p in parts]),
    )


def _mean_states(scores: Scores) -> Tensor:
    """(N, D) of the states that each answer's tokens were chosen on."""
    chosen = (scores.entropy != 0) | (scores.logprobs != 0)
    total = (scores.states * chosen[..., None]).sum(1)
    return (total / chosen.sum(1, keepdim=True).clamp_min(1)).cpu()


def _correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's, 0 where one side does not vary."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm > 0 else 0.0


def _engine_gap(answers: Sequence[Rollout], logprobs: Tensor) -> float:
    """Mean |difference| between the engine's log-probabilities and the trainer's, nats a token."""
    gaps = [
        (torch.tensor(a.logprobs) - logprobs[row, : len(a.logprobs)].cpu()).abs() for row, a in enumerate(answers)
    ]
    return float(torch.cat(gaps).mean())
