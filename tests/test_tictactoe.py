"""The update that trains a language model's adapter learns Tic-Tac-Toe: it is PPO, not something fitted to text."""

import time

import pytest
import torch

from tests import tictactoe

X, O, _ = 1, -1, 0  # noqa: E741  stones of the player about to move, of the other; an empty square


@pytest.fixture
def one_core():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_line_wins():
    boards = torch.tensor(
        [
            [X, X, X, O, O, _, _, _, _],  # a row
            [X, O, O, _, X, _, _, _, X],  # a diagonal
            [O, O, O, X, X, _, _, _, _],  # the other's row
            [X, _, X, O, O, X, O, X, O],  # none
        ]
    )
    assert tictactoe.won(boards).tolist() == [True, True, False, False]


def test_games_are_recorded_as_they_were_played():
    generator = torch.Generator().manual_seed(0)
    first = torch.arange(400) % 2 == 0
    games = tictactoe.play(tictactoe.fresh(0), first, generator, greedy=False, versus_itself=0.5)
    squares = games.boards.gather(-1, games.moves[..., None]).squeeze(-1)
    assert (squares[games.mask] == 0).all()  # no move onto a stone
    lead = games.boards.sum(-1, dtype=torch.long)  # own stones less the other's, before moving
    assert (lead[games.mask & first[:, None]] == 0).all()
    assert (lead[games.mask & ~first[:, None]] == -1).all()
    made = games.mask.sum(1)
    assert made.min() >= 2 and made[first].max() == 5 and made[~first].max() == 4
    assert set(games.result.tolist()) == {-1.0, 0.0, 1.0}
    last = games.boards[torch.arange(400), made - 1].clone()
    last.scatter_(1, games.moves[torch.arange(400), made - 1][:, None], 1)
    assert torch.equal(tictactoe.won(last), games.result == 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_ppo_learns_never_to_lose():
    agent = tictactoe.fresh(seed=0)
    untrained = [tictactoe.losses(agent, first, 500) for first in (True, False)]
    assert min(untrained) > 100  # of 500: not to lose has to be learnt
    began = time.process_time()
    tictactoe.train(agent, seed=0, rounds=50)
    assert time.process_time() - began < 120  # s of one core; about 16 on an EPYC
    assert [tictactoe.losses(agent, first, 500) for first in (True, False)] == [0, 0]
