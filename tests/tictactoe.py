"""Tic-Tac-Toe for the PPO test: the board, the agent's small nets, and games against others or itself.

Many games are played at once. A board is (G, 9) int8, seen by the player about to move: 1 own, -1 the other's.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from feedback import ppo

LINES = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])
MOVES = 5  # the most that one player makes in a game
CONFIG = ppo.PPOConfig(
    minibatch_rows=512, learning_rate=3e-3, critic_learning_rate=3e-3, entropy_coef=0.05, target_kl=0.03
)


def legal(boards: Tensor) -> Tensor:
    """(G, 9) bool."""
    return boards == 0


def won(boards: Tensor) -> Tensor:
    """Has the player whose stones are 1 a line? (G,) bool."""
    return (boards[:, LINES].sum(-1) == 3).any(-1)


class Agent(nn.Module):
    """A policy over the nine squares, and a critic with a net of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.critic = _net(9), _net(1)

    def logits(self, boards: Tensor) -> Tensor:
        """(..., 9), -inf off the legal moves."""
        return self.policy(_planes(boards)).masked_fill(~legal(boards), -torch.inf)

    def values(self, boards: Tensor) -> Tensor:
        """(...)"""
        return self.critic(_planes(boards)).squeeze(-1)


def _net(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(18, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, outputs)
    )


def _planes(boards: Tensor) -> Tensor:
    return torch.cat([boards == 1, boards == -1], -1).float()  # (..., 18)


@dataclass(frozen=True)
class Games:
    """The agent's side of G games. Its t-th move is `moves[:, t]`, made on `boards[:, t]`; `mask` says if it was."""

    boards: Tensor  # (G, 5, 9)
    moves: Tensor  # (G, 5) square
    mask: Tensor  # (G, 5) bool
    result: Tensor  # (G,) 1 won, 0 drawn, -1 lost


@torch.no_grad()
def play(
    agent: Agent, first: Tensor, generator: torch.Generator, *, greedy: bool, versus_itself: float = 0.0
) -> Games:
    """Play a game to its end for each entry of `first` (G,) bool: does the agent open it?

    The other side draws its moves at random, or, in the share `versus_itself` of games, from the agent's policy.
    """
    count = len(first)
    mirror = torch.arange(count) < versus_itself * count
    boards, result = torch.zeros(count, 9, dtype=torch.int8), torch.zeros(count)
    over = torch.zeros(count, dtype=torch.bool)
    record = torch.zeros(count, MOVES, 9, dtype=torch.int8)
    games = Games(record, record[:, :, 0].long(), record[:, :, 0].bool(), result)
    for turn in range(9):
        agents = first == (turn % 2 == 0)  # (G,) whose turn it is
        over |= ~legal(boards).any(-1)
        logits = torch.where((agents | mirror)[:, None], agent.logits(boards), _uniform(boards))
        moves = _choose(logits, over, generator)
        if greedy:
            moves = torch.where(agents, logits.argmax(-1), moves)
        _record(games, turn // 2, agents & ~over, boards, moves)
        boards = torch.where(over[:, None], boards, boards.scatter(1, moves[:, None], 1))
        ended = won(boards) & ~over
        result[ended] = torch.where(agents, 1.0, -1.0)[ended]
        over |= ended
        boards = -boards
    return games


def _uniform(boards: Tensor) -> Tensor:
    return torch.zeros(boards.shape).masked_fill(~legal(boards), -torch.inf)


def _choose(logits: Tensor, over: Tensor, generator: torch.Generator) -> Tensor:
    playable = torch.where(over[:, None], 0.0, logits)  # a full board has no legal move to draw
    return torch.multinomial(playable.softmax(-1), 1, generator=generator).squeeze(-1)


def _record(games: Games, move: int, acts: Tensor, boards: Tensor, moves: Tensor) -> None:
    games.boards[acts, move] = boards[acts]
    games.moves[acts, move] = moves[acts]
    games.mask[:, move] |= acts


def evaluate(agent: Agent, games: Games, rows: Tensor) -> ppo.Evaluation:
    """The agent as it is now on some of the games: all that PPO gets to see of it."""
    boards = games.boards[rows]
    logprobs = (
        agent.logits(boards).masked_fill(~legal(boards), -1e9).log_softmax(-1)
    )  # finite: 0 * -inf is NaN
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    taken = logprobs.gather(-1, games.moves[rows][..., None]).squeeze(-1)
    return ppo.Evaluation(taken, entropy, agent.values(boards))


def batch(agent: Agent, games: Games, config: ppo.PPOConfig) -> ppo.Batch:
    """The reward comes at the last move: the result, a loss three times over, since the aim is to lose none."""
    with torch.no_grad():
        old = evaluate(agent, games, torch.arange(len(games.result)))
    scores = torch.where(games.result < 0, 3 * games.result, games.result)
    rewards = torch.zeros_like(old.logprobs)
    rewards[torch.arange(len(scores)), games.mask.sum(1) - 1] = scores
    ended = torch.zeros(len(rewards))
    advantages, returns = ppo.advantages(
        rewards, old.values, games.mask, gamma=config.gamma, lam=config.lam, bootstrap=ended
    )
    return ppo.Batch(old.logprobs, old.values, advantages, returns, games.mask)


def fresh(seed: int) -> Agent:
    with torch.random.fork_rng(devices=[]):  # first weights can only be drawn from the global generator
        torch.manual_seed(seed)
        return Agent()


def train(agent: Agent, seed: int, rounds: int) -> None:
    """Rounds of games by the policy as it is, half against itself, 3 in 5 as second player, the harder side."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = ppo.optimiser(agent.policy.parameters(), agent.critic.parameters(), CONFIG)
    for done in range(rounds):
        for group in optimiser.param_groups:
            group["lr"] = CONFIG.learning_rate * (1 - done / rounds)
        first = torch.rand(2048, generator=generator) < 0.4
        games = play(agent, first, generator, greedy=False, versus_itself=0.5)
        sampled = batch(agent, games, CONFIG)
        ppo.update(partial(evaluate, agent, games), sampled, optimiser, CONFIG, generator)


def losses(agent: Agent, first: bool, count: int) -> int:
    """How many of `count` games the greedy agent loses to a player who moves at random."""
    games = play(agent, torch.full((count,), first), torch.Generator().manual_seed(1), greedy=True)
    return int((games.result < 0).sum())
