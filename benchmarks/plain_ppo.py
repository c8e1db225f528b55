"""One PPO iteration with nothing but transformers and PEFT: the peer of our own.

Knows the loop as one would write it with these two: generate a batch padded on the left, score it under the policy and,
with the adapter disabled, under the reference; reward; then clipped steps on minibatches. The maths on numbers of a
token (advantages, losses, the critic, the order of the steps) is the project's own, `feedback.ppo`; every pass through
the model is transformers' and PEFT's. Does not know our engine.

Shapes: B rows, P prompt, A answer, T tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapters.policy import Scores, Sequences
from benchmarks.lesson import Lesson
from benchmarks.peft_peer import padded
from feedback import ppo
from feedback.crowd import tally
from feedback.features import Answers
from feedback.learner import Critic
from feedback.rollouts import styles


@dataclass(frozen=True)
class Variant:
    """`weights`: the frozen model's dtype; `autocast`: whether products are computed in bf16 whatever the weights."""

    name: str
    weights: torch.dtype
    autocast: bool

    def context(self) -> AbstractContextManager[object]:
        """What every pass runs in."""
        return torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext()


VARIANTS = (
    Variant("float32", torch.float32, False),
    Variant("bf16 autocast", torch.float32, True),
    Variant("bf16 weights, bf16 autocast", torch.bfloat16, True),
)


@dataclass(frozen=True)
class Took:
    """One iteration: seconds of its two halves, the answers' tokens, the optimiser's steps."""

    rollouts: float
    update: float
    tokens: int
    steps: float

    @property
    def seconds(self) -> float:
        return self.rollouts + self.update


class PlainLoop:
    """A model under one new adapter in training, a critic, and their optimiser."""

    def __init__(self, path: str, variant: Variant, lesson: Lesson) -> None:
        settings = lesson.round.config
        self.variant, self.lesson, self.settings = variant, lesson, settings
        network: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=variant.weights, attn_implementation="sdpa"
        )
        lora = LoraConfig(r=settings.rank, lora_alpha=int(settings.alpha), target_modules="all-linear")
        self.model: Any = get_peft_model(network, lora)  # its factors are float32 whatever the weights are
        self.end = network.generation_config.eos_token_id
        self.generator = torch.Generator().manual_seed(1)
        self.critic = Critic(settings.reward.components + 1, self.generator)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = ppo.optimiser(trained, self.critic.parameters(), settings.ppo)

    def iterate(self) -> Took:
        """Rollouts, then one update on them."""
        began = time.perf_counter()
        round = self.lesson.round
        prompts = [round.model.encode(prompt.messages) for prompt in round.prompts[: self.settings.rollouts]]
        answers = self.generate(prompts)
        sequences = Sequences.of(list(zip(prompts, answers, strict=True)), torch.device("cpu"))
        with torch.no_grad():
            policy = self._by_minibatch(sequences, self.score)
            with self.model.disable_adapter():
                reference = self._by_minibatch(sequences, self.score)
        rewards = self._rewards(answers, reference, sequences.mask)
        drawn = time.perf_counter()
        steps = self._update(sequences, policy, reference, rewards)
        return Took(drawn - began, time.perf_counter() - drawn, int(sequences.mask.sum()), steps)

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]]) -> list[list[int]]:
        """An answer to each prompt, all at once, from the policy's own distribution; the end token belongs to it."""
        ids, mask = padded(prompts, torch.device("cpu"))  # (B, P)
        self.model.eval()
        with self.variant.context():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=self.settings.answer_tokens,
                do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0,
            )  # fmt: skip
        rows = out[:, ids.shape[1] :].tolist()
        return [row[: row.index(self.end) + 1] if self.end in row else row for row in rows]

    def score(self, sequences: Sequences) -> Scores:
        """The answers under the model as it is; logits are computed from the first answer's first token on."""
        width = sequences.ids.shape[1]
        ends = sequences.starts + sequences.mask.sum(1)
        attention = torch.arange(width)[None, :] < ends[:, None]  # (B, T)
        first = int(sequences.starts.min()) - 1
        with self.variant.context():
            out = self.model(
                input_ids=sequences.ids, attention_mask=attention.long(), use_cache=False,
                logits_to_keep=width - first, output_hidden_states=True,
            )  # fmt: skip
        row, position = sequences.at()
        logprobs = torch.log_softmax(out.logits[row, position - 1 - first].float(), dim=-1)  # (N, V)
        taken = logprobs.gather(1, sequences.ids[row, position][:, None])[:, 0]
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
            states = out.hidden_states[-1][row, position - 1].float()
        mask = sequences.mask
        spread = torch.zeros(*mask.shape, states.shape[-1])
        spread[mask] = states
        return Scores(_placed(taken, mask), _placed(entropy, mask), spread)

    def _by_minibatch(self, sequences: Sequences, score: Callable[[Sequences], Scores]) -> Scores:
        parts = [
            score(sequences.rows(rows))
            for rows in torch.arange(len(sequences.mask)).split(self.settings.ppo.minibatch_rows)
        ]
        return Scores(
            *(
                torch.cat(each)
                for each in zip(*((p.logprobs, p.entropy, p.states) for p in parts), strict=True)
            )
        )

    def _rewards(self, answers: list[list[int]], reference: Scores, mask: Tensor) -> Tensor:
        """(B,) what the person would think of each answer."""
        texts = [(self.lesson.round.model.decode(answer), answer[-1] == self.end) for answer in answers]
        pooled = reference.states.sum(1) / mask.sum(1, keepdim=True)
        base = self.lesson.base.rows(list(range(len(answers))))
        counts = tally([text for text, _ in texts])
        return self.lesson.climbed.reward(Answers(styles(texts), pooled, counts), base)

    def _update(self, sequences: Sequences, policy: Scores, reference: Scores, rewards: Tensor) -> float:
        """As many steps as our own update takes; how many these were."""
        config, mask = self.settings.ppo, sequences.mask
        shaped = ppo.kl_penalties(policy.logprobs, reference.logprobs, self.settings.kl_coef, mask)
        shaped[torch.arange(len(mask)), mask.sum(1) - 1] += rewards
        place = (torch.arange(mask.shape[1]) / mask.shape[1]).expand(mask.shape)
        seen = torch.cat([self.lesson.climbed.scale.reduced(reference.states), place[..., None]], dim=-1)

        def values(rows: Tensor) -> Tensor:
            found: Tensor = self.critic(seen[rows])
            return found

        sums = torch.where(mask, shaped.flip(1).cumsum(1).flip(1), 0.0)
        ppo.fit_critic(
            values, sums, mask, self.optimiser, config, self.generator, epochs=self.settings.critic_epochs
        )
        with torch.no_grad():
            old_values = torch.where(mask, values(torch.arange(len(mask))), 0.0)
        advantages, returns = ppo.advantages(
            shaped, old_values, mask, gamma=config.gamma, lam=config.lam, bootstrap=torch.zeros(len(mask))
        )
        batch = ppo.Batch(policy.logprobs, old_values, advantages, returns, mask)

        def evaluate(rows: Tensor) -> ppo.Evaluation:
            now = self.score(sequences.rows(rows))
            return ppo.Evaluation(now.logprobs, now.entropy, values(rows))

        return ppo.update(evaluate, batch, self.optimiser, config, self.generator)["steps"]


def _placed(values: Tensor, mask: Tensor) -> Tensor:
    """(N,) → (B, A), 0 off the mask; gradients flow."""
    return torch.zeros(mask.shape).masked_scatter(mask, values)
