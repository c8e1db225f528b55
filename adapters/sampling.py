"""Drawing the next token of every row at once.

Knows logits and how a request wants them drawn; knows nothing of models or caches. A draw depends on the request's
seed, the token's position and the row's own logits, and on nothing else: no generator is shared between rows.

Shapes: B rows, V vocabulary, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CANDIDATES = 128
COLD = 1e-5  # a temperature below is 0: to divide by it would leave nothing but infinity
Drawn = tuple[list[int], list[float], list[float]]  # of each row: token, log-probability, entropy
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Sampling:
    """How one request's tokens are drawn.

    `temperature` ≥ 0 (below COLD it takes the likeliest token); `top_p` in (0, 1]: the smallest set of tokens with that
    probability; `repetition_penalty` ≥ 1 divides the logits of tokens already in the context (CTRL, Keskar 2019, §4.1).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    @property
    def untouched(self) -> bool:
        """The model's own distribution, as rollouts need it."""
        return self.temperature == 1.0 and self.top_p == 1.0 and self.repetition_penalty == 1.0


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from a seed and a position alone: two rounds of SplitMix64 (Steele et al. 2014)."""
    return _mix(_mix(seed & _MASK) + position) / 2.0**64


def _mix(state: int) -> int:
    z = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def draw(logits: Tensor, samplings: list[Sampling], draws: list[float], seen: Tensor) -> Drawn:
    """A token a row, its log-probability, and the entropy of what it was drawn from, both in nats and NaN where the
    distribution was altered before the draw.

    logits (B, V) float32; draws[b] in [0, 1); seen (B, V) bool marks the tokens in each row's context.
    """
    tokens = torch.zeros(len(samplings), dtype=torch.long)
    logprobs, entropy = torch.full((2, len(samplings)), float("nan"))
    plain = [b for b, sampling in enumerate(samplings) if sampling.untouched]
    altered = [b for b, sampling in enumerate(samplings) if not sampling.untouched]
    if plain:
        tokens[plain], logprobs[plain], entropy[plain] = _draw_plain(logits[plain], [draws[b] for b in plain])
    if altered:
        chosen = [samplings[b] for b in altered]
        tokens[altered] = _draw_altered(logits[altered], chosen, [draws[b] for b in altered], seen[altered])
    return tokens.tolist(), logprobs.tolist(), entropy.tolist()


def _draw_plain(logits: Tensor, draws: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    logprobs = torch.log_softmax(logits, dim=-1)
    shares = logprobs.exp()
    token = _invert(shares.cumsum(dim=-1), draws)
    return token.cpu(), logprobs.gather(1, token[:, None])[:, 0].cpu(), -(shares * logprobs).sum(-1).cpu()


def _draw_altered(logits: Tensor, samplings: list[Sampling], draws: list[float], seen: Tensor) -> Tensor:
    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=logits.device)[:, None]

    penalty = column([s.repetition_penalty for s in samplings])
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    logits = torch.where(seen, penalised, logits)
    # Near 0 only the likeliest token is left: top_p → 0 does the same and needs no division by 0.
    cold = column([s.temperature for s in samplings]) < COLD
    top_p = column([s.top_p for s in samplings]).masked_fill(cold, 0.0)
    logits = logits / column([s.temperature for s in samplings]).masked_fill(cold, 1.0)
    token = torch.zeros(len(samplings), dtype=torch.long, device=logits.device)
    cut, uncut = ((top_p[:, 0] < 1) == side for side in (True, False))
    cut, uncut = cut.nonzero()[:, 0], uncut.nonzero()[:, 0]
    if len(uncut):
        shares = torch.softmax(logits[uncut], dim=-1)
        token[uncut] = _invert(shares.cumsum(dim=-1), [draws[b] for b in uncut.tolist()])
    if len(cut):
        its_draws = [draws[b] for b in cut.tolist()]
        whole = torch.logsumexp(logits[cut], dim=-1, keepdim=True)
        candidates = min(CANDIDATES, logits.shape[1])
        token[cut] = _nucleus(logits[cut], whole, top_p[cut], its_draws, candidates)
    return token.cpu()


def _nucleus(logits: Tensor, whole: Tensor, top_p: Tensor, draws: list[float], candidates: int) -> Tensor:
    """Nucleus sampling (Holtzman et al. 2020, eq. 3) among the likeliest; among all tokens where those fall short."""
    top, index = logits.topk(candidates, dim=-1)  # (B, C), falling
    mass = (top - whole).exp().cumsum(dim=-1)  # (B, C)
    before = torch.nn.functional.pad(mass[:, :-1], (1, 0))
    inside = before < top_p
    inside[:, 0] = True
    total = mass.masked_fill(~inside, 0).amax(dim=-1, keepdim=True)
    place = _invert((mass / total).masked_fill(~inside, 1.0), draws).clamp_max(inside.sum(dim=-1) - 1)
    token = index.gather(1, place[:, None])[:, 0]
    short = (mass[:, -1] < top_p[:, 0]).nonzero()[:, 0]
    if len(short) and candidates < logits.shape[1]:
        rest = [draws[b] for b in short.tolist()]
        token[short] = _nucleus(logits[short], whole[short], top_p[short], rest, logits.shape[1])
    return token


def _invert(cumulative: Tensor, draws: list[float]) -> Tensor:
    """The index (B,) at which each row's cumulative mass (B, C) passes its draw."""
    whole = cumulative[:, -1:]
    target = torch.tensor(draws, device=cumulative.device)[:, None] * whole
    # A draw just below 1 rounds to 1, and nothing passes the whole: the last index would come of it, with no mass.
    target = target.minimum(whole.nextafter(torch.zeros_like(whole)))
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_max(cumulative.shape[1] - 1)
