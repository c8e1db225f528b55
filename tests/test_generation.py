"""The engine's thread and asyncio, with an engine whose tokens and failures are written down beforehand."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from adapters.engine import PromptTooLong, Request, Token
from adapters.sampling import Sampling
from service.answers import Ask
from service.generation import Busy, EngineFailed, Generation, ShareTaken, Stopping
from service.metrics import Metrics

END = 0
ENDLESS = 100_000  # tokens: on a busy machine the thread may play a thousand before the test goes on


class Script:
    """An engine that plays, for each request, the tokens of its prompt: `per_step` of them a step, then the end."""

    def __init__(self, rows=2, per_step=1):
        self.rows, self.per_step = rows, per_step
        self.running, self.waiting, self.cancelled = {}, [], []
        self.fail_once = None
        self.broken = False

    @property
    def busy(self):
        return bool(self.running)

    def add(self, request):
        if not request.prompt:
            raise PromptTooLong("nothing to play")
        self.running[request.id] = list(request.prompt)

    def cancel(self, id):
        if self.broken:
            raise RuntimeError("broken")
        if self.running.pop(id, None):
            self.cancelled.append(id)

    def step(self):
        if self.fail_once:
            error, self.fail_once = self.fail_once, None
            raise error
        out = []
        for id, left in list(self.running.items()):
            for _ in range(self.per_step):
                if id in self.running:
                    token = left.pop(0) if left else END
                    out.append(Token(id, token, 0.0, 0.0, "stop" if token == END else None))
                    if token == END:
                        del self.running[id]
        return out


def letters(ids):
    return "".join(map(chr, ids))


def ask(id, text, stops=(), uid="u"):
    return Ask(Request(id, [ord(each) for each in text], None, 100, Sampling()), uid, stops)


@asynccontextmanager
async def generating(engine, max_waiting=2, tell=lambda rows: None):
    generation = Generation(engine, letters, max_waiting, Metrics(), tell)
    generation.start()
    try:
        yield generation
    finally:
        await generation.close()


async def read(answers):
    """(text, how it ended, tokens) of each."""
    texts, ends, tokens = {}, {}, {}
    async for piece in answers:
        texts[piece.index] = texts.get(piece.index, "") + piece.text
        tokens[piece.index] = piece.tokens
        if piece.finish:
            ends[piece.index] = piece.error or piece.finish
    return [(texts[i], ends[i], tokens[i]) for i in sorted(texts)]


def run(test):
    """`test(generation, engine)` on an event loop."""

    async def inner(engine):
        async with generating(engine) as generation:
            return await test(generation, engine)

    return lambda **options: asyncio.run(inner(Script(**options)))


@pytest.mark.parametrize("per_step", [1, 2, 5])
def test_answers_come_whole_and_a_stop_string_frees_the_row(per_step):
    async def test(generation, engine):
        answers = generation.submit([ask("a", "hello"), ask("b", "one STOP two", ["STOP"])])
        assert await read(answers) == [("hello", "stop", 6), ("one ", "stop", 8)]
        assert not engine.running

    run(test)(per_step=per_step)


def test_the_end_of_an_answer_tells_its_tokens_as_they_were_drawn():
    async def test(generation, _):
        pieces = [piece async for piece in generation.submit([ask("a", "hé")])]
        assert [(piece.text, list(piece.ids)) for piece in pieces] == [
            ("h", []), ("é", []), ("", [ord("h"), ord("é"), END])
        ]  # fmt: skip
        (piece,) = [p async for p in generation.submit([ask("b", "one STOP two", ["on"])]) if p.finish]
        assert list(piece.ids) == [ord("o"), ord("n")]

    run(test)()


def test_somebody_is_told_after_every_step_how_many_answers_there_are():
    told = []

    async def test():
        async with generating(Script(), tell=told.append) as generation:
            await read(generation.submit([ask("a", "hey"), ask("b", "you there")]))

    asyncio.run(test())
    assert max(told) == 2 and told[-1] == 0
    assert [rows for at, rows in enumerate(told) if rows != told[at - 1]] in ([2, 1, 0], [1, 2, 1, 0])


def test_an_engine_that_refuses_tells_the_one_who_asked():
    async def test(generation, _):
        ((text, error, _),) = await read(generation.submit([ask("a", "")]))
        assert text == "" and isinstance(error, PromptTooLong)

    run(test)()


def test_a_step_that_fails_ends_the_answers_in_it_and_not_the_service():
    async def test(generation, engine):
        engine.fail_once = ValueError("out of memory")
        ((_, error, _),) = await read(generation.submit([ask("a", "hello")]))
        assert isinstance(error, EngineFailed) and engine.cancelled == ["a"]
        assert await read(generation.submit([ask("b", "again")])) == [("again", "stop", 6)]
        assert generation.alive

    run(test)()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_nobody_waiting():
    async def test(generation, engine):
        engine.fail_once, engine.broken = ValueError("out of memory"), True
        ((_, error, _),) = await asyncio.wait_for(read(generation.submit([ask("a", "hello")])), 5)
        assert isinstance(error, EngineFailed)
        while generation.alive:
            await asyncio.sleep(0.01)
        with pytest.raises(Stopping):
            generation.submit([ask("b", "again")])

    run(test)()


def held_up(ending=None):
    """Work for the thread that lasts until `go_on` is set; and what is set when it has begun."""
    begun, go_on = threading.Event(), threading.Event()

    def work(_):
        begun.set()
        assert go_on.wait(10)
        if ending:
            raise ending

    return work, begun, go_on


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_leaves_no_work_unanswered():
    async def test(generation, _):
        work, begun, go_on = held_up(SystemExit())
        works = [asyncio.ensure_future(generation.run(work))]
        await asyncio.to_thread(begun.wait, 10)
        works.append(asyncio.ensure_future(generation.run(lambda _: 1)))
        await asyncio.sleep(0)  # it lies in the inbox
        go_on.set()
        for each in works:
            with pytest.raises(EngineFailed):
                await asyncio.wait_for(each, 10)
        with pytest.raises(Stopping):
            await generation.run(lambda _: 1)

    run(test)()


def test_work_whose_caller_is_cancelled_is_left_alone_and_harms_nobody():
    async def test(generation, _):
        done = []
        work, begun, go_on = held_up()
        works = [asyncio.ensure_future(generation.run(work))]
        await asyncio.to_thread(begun.wait, 10)
        works.append(asyncio.ensure_future(generation.run(lambda _: done.append(1))))
        await asyncio.sleep(0)
        for each in works:
            each.cancel()
        await asyncio.wait(works, timeout=10)
        go_on.set()
        assert await generation.run(lambda _: 7) == 7
        assert done == [] and generation.alive

    run(test)()


def test_all_or_none_is_taken_on():
    async def test(generation, _):
        with pytest.raises(Busy):
            generation.submit([ask(str(number), "x") for number in range(5)])  # 2 rows and 2 in line
        answers = generation.submit([ask(str(number), "x") for number in range(4)])
        with pytest.raises(Busy):
            generation.submit([ask("more", "x")])
        assert len(await read(answers)) == 4
        assert len(await read(generation.submit([ask("more", "x")]))) == 1

    run(test)()


def test_one_users_answers_leave_places_for_everybody_else():
    async def test(generation, _):
        def asked(id, uid, many=1):
            return generation.submit([ask(f"{id}{number}", "x" * ENDLESS, uid=uid) for number in range(many)])

        asked("a", "greedy", 3)
        asked("b", "greedy")  # 4 of theirs, 4 left
        with pytest.raises(ShareTaken, match="4 of your answers"):
            asked("c", "greedy")
        kept = asked("d", "second", 2)  # 2 left
        with pytest.raises(ShareTaken):
            asked("e", "second")
        asked("f", "third", 2)  # the first time whatever fits
        with pytest.raises(Busy):
            asked("g", "fourth")
        generation.cancel(kept)
        asked("h", "fourth")

    run(test)(rows=6)  # and 2 in line


def test_cancelled_is_cancelled_whatever_the_thread_still_says():
    async def test(generation, engine):
        answers = generation.submit([ask("a", "x" * ENDLESS)])
        pieces = aiter(answers)
        await anext(pieces)
        generation.cancel(answers)
        generation.cancel(answers)
        *_, last = [piece async for piece in pieces]
        assert last.finish == "cancelled"
        await generation.run(lambda engine: None)  # by now the thread has taken the command before
        assert engine.cancelled == ["a"]

    run(test)()


def test_one_users_answers_are_cancelled_and_nobody_elses():
    async def test(generation, _):
        theirs = generation.submit([ask("a", "x" * ENDLESS, uid="gone")])
        others = generation.submit([ask("b", "hello", uid="here")])
        generation.cancel_user("gone")
        assert [end for _, end, _ in await read(theirs)] == ["cancelled"]
        assert await read(others) == [("hello", "stop", 6)]

    run(test)()


def test_winding_down_takes_nothing_new_and_cuts_off_after_the_grace_time():
    async def test(generation, _):
        answers = generation.submit([ask("a", "x" * 100_000)])
        await generation.wind_down(0.1)
        with pytest.raises(Stopping):
            generation.submit([ask("b", "x")])
        assert [end for _, end, _ in await read(answers)] == ["cancelled"]

    run(test)()
