"""Proximal policy optimisation (Schulman 2017): advantages, clipped losses, KL, and the update that uses them.

Knows: tensors of shape (B rows, T tokens), an optimiser, and one closure, `evaluate`, that scores actions already
taken under the policy as it is now. Does not know: what a token, a prompt or a model is, where rewards come from,
disk, clock, or global randomness (a torch.Generator comes in). The same `update` trains a language model's
adapter and a Tic-Tac-Toe player.

Everywhere `mask` (B, T) is bool, True where the policy acted; what lies elsewhere is never read, not even NaN.
Losses and metrics are means over a minibatch's acted tokens, so a long answer weighs more than a short one.
A mean of the rows' own means would instead make long bad answers cheaper, a token, than short bad ones.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import Parameter
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam, Optimizer


class BadInput(ValueError):
    """A setting outside its range, or tensors that do not belong together, carry a gradient or are not finite."""


class Diverged(ArithmeticError):
    """A gradient or a KL is not finite. The parameters are as they were before the step that failed."""


@dataclass(frozen=True)
class PPOConfig:
    """How an update goes about it. Raises BadInput for what is outside its range."""

    clip: float = 0.2  # how far the probability ratio may go from 1 and still be rewarded, > 0
    value_clip: float = 0.2  # how far a value may go from its old one, in units of reward, > 0
    gamma: float = 1.0  # discount a token, 0 to 1
    lam: float = 0.95  # GAE's lambda, 0 (trust the critic) to 1 (trust the sampled return)
    epochs: int = 4  # passes over a batch, >= 1
    minibatch_rows: int = 8  # rows a step, >= 1
    learning_rate: float = 1e-3  # of the policy, Adam, > 0
    critic_learning_rate: float = 1e-3  # of the critic, Adam, > 0
    max_grad_norm: float = 1.0  # of each parameter group alone, > 0
    entropy_coef: float = 0.0  # reward for a nat of entropy a token, >= 0
    advantage_std_floor: float = 0.1  # a smaller spread is taken for noise, in units of reward, > 0
    target_kl: float = 0.03  # the update stops beyond this KL to the old policy, nats a token, > 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            share = name in ("gamma", "lam")
            if not (0 <= value <= 1 if share else value > 0 or (value == 0 and name == "entropy_coef")):
                raise BadInput(f"{name} = {value} is outside its range")


@dataclass(frozen=True)
class Batch:
    """What was sampled, as the policy and the critic saw it then. All (B, T), finite, constant. Raises BadInput."""

    logprobs: Tensor  # of the actions taken, by the policy that took them, nats
    values: Tensor  # the critic's, of the state before each action
    advantages: Tensor  # not whitened
    returns: Tensor  # what the critic should have said
    mask: Tensor  # bool; an action in every row

    def __post_init__(self) -> None:
        _check_mask(self.mask)
        for name in ("logprobs", "values", "advantages", "returns"):
            tensor: Tensor = getattr(self, name)
            same = tensor.shape == self.mask.shape
            if not same or tensor.requires_grad or not tensor[self.mask].isfinite().all():
                raise BadInput(f"{name} must be of the mask's shape, finite and without a gradient")


@dataclass(frozen=True)
class Evaluation:
    """The policy and the critic as they are now, on b of the batch's rows. All (b, T); gradients flow."""

    logprobs: Tensor  # of the actions in the batch, nats
    entropy: Tensor  # of each action's distribution, nats
    values: Tensor


def advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float, bootstrap: Tensor
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman 2016, eq. 16) -> (advantages, returns), (B, T), 0 off the mask.

    `bootstrap` (B,) is the worth of the state after a row's last action: 0 for an episode that ended, the
    critic's value of that state for one that was cut off. Returns are advantages + values; with lam = 1 they are
    the plain discounted sums of rewards, whatever the critic says.
    """
    result = torch.zeros_like(values)
    next_value, next_advantage = bootstrap, torch.zeros_like(bootstrap)
    for t in reversed(range(values.shape[1])):
        acted = mask[:, t]  # (B,)
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        result[:, t] = torch.where(acted, advantage, 0.0)
        next_advantage = torch.where(acted, advantage, next_advantage)
        next_value = torch.where(acted, values[:, t], next_value)
    return result, torch.where(mask, result + values, 0.0)


def whiten(advantages: Tensor, mask: Tensor, floor: float) -> tuple[Tensor, float]:
    """-> (advantages (B, T) of mean 0 and standard deviation 1 over the mask, their deviation before that).

    `floor` is the least deviation that is believed. Below it the differences within the batch are taken for noise,
    which dividing by them would make into signal, and the result slides to the raw advantages against the critic.
    Equal advantages, or a single row, get just these: centring would give zeros and silently teach nothing.
    """
    acted = advantages[mask]
    std = float(acted.std(correction=0))
    trust = min(1.0, std / floor) if len(advantages) > 1 else 0.0
    whitened = (advantages - acted.mean()) / max(std, floor)
    return torch.where(mask, trust * whitened + (1 - trust) * advantages, 0.0), std


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, dict[str, float]]:
    """The clipped surrogate (Schulman 2017, eq. 7), to be made smaller -> (loss (), metrics).

    All (b, T). Metrics: approx_kl (old to new, nats a token), clipfrac, ratio_error (the largest |ratio - 1|).
    """
    new, old, advantage = logprobs[mask], old_logprobs[mask], advantages[mask]  # (acted tokens,)
    ratio = (new - old).exp()
    loss = -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    gap = (ratio.detach() - 1).abs()
    return loss, {
        "approx_kl": float(per_token_kl(old, new.detach()).mean()),
        "clipfrac": float((gap > clip).float().mean()),
        "ratio_error": float(gap.max()),
    }


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the values, or of the values held within `clip` of the old, the worse. (b, T) -> ()."""
    new, old, target = values[mask], old_values[mask], returns[mask]
    held = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.max((new - target) ** 2, (held - target) ** 2).mean()


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """The share of the returns' variance (B, T) that the critic foretells; 0 where they do not vary, at most 1."""
    target, error = returns[mask], (returns - values)[mask]
    variance = float(target.var(correction=0))
    return 1 - float(error.var(correction=0)) / variance if variance > 0 else 0.0


def per_token_kl(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """KL from the policy that sampled to the reference, at each sampled token, nats; a row's sum is nats an answer.

    Schulman's k3: unbiased like the log ratio, but never negative and of less variance. Any shape.
    """
    logratio = reference_logprobs - logprobs
    return logratio.expm1() - logratio


def kl_penalties(logprobs: Tensor, reference_logprobs: Tensor, kl_coef: float, mask: Tensor) -> Tensor:
    """-kl_coef * (log p - log p_ref) at each token (Ziegler 2019, eq. 2), 0 off the mask. (B, T)."""
    return torch.where(mask, -kl_coef * (logprobs - reference_logprobs), 0.0)


class KLController:
    """The KL coefficient, raised while the policy is too far from the reference and lowered while it is too near.

    Ziegler 2019, section 2.2: the relative error, held within 0.2 either way, moves the coefficient in proportion.
    `coef` > 0 (reward a nat), `target` > 0 (nats an answer), `horizon` > 0 (answers until a full correction).
    """

    def __init__(self, coef: float, target: float, horizon: float) -> None:
        if not all(0 < number < math.inf for number in (coef, target, horizon)):
            raise BadInput(f"coef {coef}, target {target}, horizon {horizon} must be above 0 and finite")
        self.coef, self.target, self.horizon = coef, target, horizon

    def update(self, kl: float, answers: int) -> float:
        """-> the new coefficient, after `answers` answers of mean KL `kl` (nats an answer). Raises Diverged."""
        if not math.isfinite(kl):
            raise Diverged(f"the KL to the reference is {kl}")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        # More answers than the horizon count as the horizon: a coefficient that once reached 0 would stay there.
        self.coef *= 1 + error * min(answers / self.horizon, 1.0)
        return self.coef

    def state_dict(self) -> dict[str, float]:
        """Plain JSON; target and horizon are settings and stay behind."""
        return {"coef": self.coef}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Raises BadInput for a coefficient that is not above 0 and finite."""
        if not 0 < state["coef"] < math.inf:
            raise BadInput(f"a KL coefficient must be above 0 and finite, not {state['coef']}")
        self.coef = state["coef"]


def optimiser(policy: Iterable[Parameter], critic: Iterable[Parameter], config: PPOConfig) -> Optimizer:
    """Adam over two groups, policy first, each with its own rate; one pass over all factors a step."""
    rates = [(policy, config.learning_rate), (critic, config.critic_learning_rate)]
    return Adam([{"params": list(params), "lr": rate} for params, rate in rates], eps=1e-5, fused=True)


def fit_critic(
    values: Callable[[Tensor], Tensor],
    returns: Tensor,
    mask: Tensor,
    optimiser: Optimizer,
    config: PPOConfig,
    generator: Generator,
    *,
    epochs: int,
) -> float:
    """Fit the critic alone, before a policy step is taken on its word -> its explained variance afterwards.

    `values(rows)` -> (b, T) is the critic on those rows; `returns`, `mask` (B, T). What it sends no gradient to
    stays as it is, even if the optimiser holds it. Raises Diverged.
    """
    for rows in _minibatches(mask, epochs, config.minibatch_rows, generator):
        loss = 0.5 * mse_loss(values(rows)[mask[rows]], returns[rows][mask[rows]])
        _step(loss, optimiser, config.max_grad_norm)
    with torch.no_grad():
        return explained_variance(values(torch.arange(len(mask), device=mask.device)), returns, mask)


def update(
    evaluate: Callable[[Tensor], Evaluation],
    batch: Batch,
    optimiser: Optimizer,
    config: PPOConfig,
    generator: Generator,
    also: Sequence[Callable[[], Tensor]] = (),
) -> dict[str, float]:
    """Move the policy and the critic by one batch of fresh rollouts: some epochs of minibatches, in a drawn order.

    `evaluate(rows)` is the only thing here that knows the policy; keep the critic's gradient out of the policy
    there, by detaching. Advantages are whitened over the whole batch, so that a minibatch of one row still knows
    good from bad. The update ends, before the step, at the first minibatch whose approx_kl is above the target.
    Every step adds the gradients of `also`, other losses of the policy (Ouyang 2022, eq. 2, of pretraining text).

    -> means over the minibatches: policy_loss, value_loss, entropy, approx_kl, clipfrac, grad_norm (the first group's,
    before clipping); of the batch: explained_variance, advantage_std (before whitening), steps, first_ratio_error (the
    largest |ratio - 1| before any step: about 0, or the old log-probabilities are not this policy's). Raises Diverged.
    """
    whitened, std = whiten(batch.advantages, batch.mask, config.advantage_std_floor)
    seen: dict[str, list[float]] = defaultdict(list)
    for rows in _minibatches(batch.mask, config.epochs, config.minibatch_rows, generator):
        now, mask = evaluate(rows), batch.mask[rows]
        old, better = batch.logprobs[rows], whitened[rows]
        surrogate, metrics = policy_loss(now.logprobs, old, better, mask, config.clip)
        critic = value_loss(now.values, batch.values[rows], batch.returns[rows], mask, config.value_clip)
        entropy = now.entropy[mask].mean()
        metrics |= {"policy_loss": surrogate.item(), "value_loss": critic.item(), "entropy": entropy.item()}
        for name, value in metrics.items():
            seen[name].append(value)
        if metrics["approx_kl"] > config.target_kl:
            break
        loss = surrogate + critic - config.entropy_coef * entropy
        seen["grad_norm"].append(_step(loss, optimiser, config.max_grad_norm, also))
    of_batch = {
        "explained_variance": explained_variance(batch.values, batch.returns, batch.mask),
        "advantage_std": std,
        "steps": float(len(seen["grad_norm"])),
        "first_ratio_error": seen.pop("ratio_error")[0],
    }
    return of_batch | {name: sum(values) / max(len(values), 1) for name, values in seen.items()}


def _minibatches(mask: Tensor, epochs: int, size: int, generator: Generator) -> Iterator[Tensor]:
    for _ in range(epochs):
        order = torch.randperm(len(mask), generator=generator, device=generator.device)
        yield from order.to(mask.device).split(size)


def _step(
    loss: Tensor, optimiser: Optimizer, most: float, also: Sequence[Callable[[], Tensor]] = ()
) -> float:
    """-> the first group's gradient norm. Groups are clipped apart: a critic far off must not slow the policy."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for other in also:  # each by itself, for on compiled kernels a gradient is taken right after its own pass
        other().backward()
    norms = [float(clip_grad_norm_(group["params"], most)) for group in optimiser.param_groups]
    if not all(map(math.isfinite, norms)):
        optimiser.zero_grad(set_to_none=True)
        raise Diverged(f"gradient norms {norms}")
    optimiser.step()
    return norms[0]


def _check_mask(mask: Tensor) -> None:
    if mask.dim() != 2 or mask.dtype != torch.bool or not len(mask) or not mask.any(1).all():
        raise BadInput("the mask must be bool, (rows, tokens), with an action in every row")
