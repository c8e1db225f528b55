"""Many tasks on one way to Redis, on real servers: how often the way is gone, and whose errors are whose."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from feedback.calls import Call, Script
from feedback.connection import Store, StoreFull, StoreUnavailable, connect
from feedback.courier import MOST, Courier
from feedback.events import UnknownMessage
from feedback.ratings import Ratings
from tests.records import add_user, answered
from tests.servers import server

ECHO = Script("return ARGV[1]")
COUNT = Script("return redis.call('INCR', KEYS[1])")


def echo(word):
    return Call(ECHO, [], [word], str.upper)


def together(store, calls):
    """The results of calls that come at once, errors included."""

    async def all_at_once():
        with closing(Courier(store)) as courier:
            return await asyncio.gather(*(courier.do(call) for call in calls), return_exceptions=True)

    return asyncio.run(all_at_once())


@pytest.fixture
def trips(redis, round_trips):
    """`round_trips`, once the scripts are there."""
    for script in (ECHO, COUNT):
        redis.script_load(script.source)
    del round_trips[:]
    return round_trips


def test_what_comes_at_once_goes_at_once_and_each_gets_its_own(redis, trips):
    assert together(redis, [echo(f"w{n}") for n in range(40)]) == [f"W{n}" for n in range(40)]
    assert trips == [40]


def test_what_comes_while_a_load_is_under_way_goes_with_the_next(redis, trips, monkeypatch):
    carry = Store.together

    async def in_waves():
        courier, loop = Courier(redis), asyncio.get_running_loop()
        later = []

        def slow(store, calls):
            if not trips:
                loop.call_soon_threadsafe(
                    lambda: later.extend(loop.create_task(courier.do(echo(w))) for w in "bcd")
                )
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()  # until they have come
            return carry(store, calls)

        monkeypatch.setattr(Store, "together", slow)
        first = await courier.do(echo("a"))
        return [first, *[await task for task in later], await courier.do(echo("e"))]

    assert asyncio.run(in_waves()) == ["A", "B", "C", "D", "E"]
    assert trips == [1, 3, 1]


def test_a_crowd_goes_in_loads_and_in_order(redis, trips):
    calls = [Call(COUNT, ["counter"], [], int) for _ in range(2 * MOST + 1)]
    assert together(redis, calls) == list(range(1, 2 * MOST + 2))
    assert trips == [MOST, MOST, 1]


def test_an_error_is_its_callers_own(redis):
    add_user(redis, "ann")
    (id,) = answered(redis, "ann", 1)
    putting = Ratings(redis).putting
    calls = [putting("ann", each, "up", [], None, None, None) for each in ("msg_none", id)]
    unknown, put = together(redis, [*calls])
    assert isinstance(unknown, UnknownMessage) and put.feedback.state == "queued"


def test_a_full_server_refuses_what_writes_and_answers_the_rest(tmp_path):
    with server(tmp_path, appendonly="yes", appendfsync="always") as url, connect(url) as store:
        store.config_set("maxmemory", 1)
        refused, said = together(store, [Call(COUNT, ["counter"], [], int), echo("a")])
        assert isinstance(refused, StoreFull) and said == "A"


def test_a_caller_that_goes_away_leaves_the_others(redis):
    async def one_of_two():
        courier = Courier(redis)
        going, staying = (asyncio.create_task(courier.do(echo(word))) for word in "ab")
        await asyncio.sleep(0)
        going.cancel()
        return await staying

    assert asyncio.run(one_of_two()) == "B"


def test_while_redis_is_away_everybody_hears_it_and_it_heals(tmp_path):
    with connect(f"unix://{tmp_path}/s") as store:
        with server(tmp_path, appendonly="yes", appendfsync="everysec"):
            assert together(store, [echo("a")]) == ["A"]
        errors = together(store, [echo("a"), echo("b")])
        assert [type(each) for each in errors] == [StoreUnavailable] * 2
        assert errors[0] is not errors[1] and str(errors[0]) == str(errors[1])
        with server(tmp_path, appendonly="yes", appendfsync="everysec"):  # it knows no script any more
            assert together(store, [echo("a"), Call(COUNT, ["counter"], [], int)]) == ["A", 1]


def test_a_load_is_on_disk_when_its_callers_hear_of_it_by_one_wait(tmp_path):
    with server(tmp_path, appendonly="yes", appendfsync="everysec") as url, connect(url) as store:

        def waits():
            return int(store.info("commandstats")["cmdstat_waitaof"]["calls"])

        store.script_load(COUNT.source)
        assert store.waits and waits() == 1  # that was asking whether it can
        together(store, [Call(COUNT, ["counter"], [], int) for _ in range(5)])
        assert int(store.info("persistence")["aof_pending_bio_fsync"]) == 0 and waits() == 2
        together(store, [Call(COUNT, ["counter"], [], int, durable=False)])
        assert waits() == 2


def test_what_the_disk_does_not_confirm_is_no_success_for_anybody(tmp_path):
    with server(tmp_path, appendonly="yes", appendfsync="everysec") as url, connect(url) as store:
        assert store.waits
        store.config_set("appendonly", "no")
        written = [Call(COUNT, ["counter"], [], int) for _ in range(3)]
        *found, read = together(store, [*written, Call(ECHO, [], ["a"], str.upper, durable=False)])
        assert [type(each) for each in found] == [StoreUnavailable] * 3 and len(
            {id(each) for each in found}
        ) == 3
        assert read == "A"


def test_a_round_that_breaks_leaves_nobody_waiting_and_another_begins(redis, monkeypatch):
    async def broken_twice():
        with closing(Courier(redis)) as courier:

            async def crowd():
                calls = [asyncio.create_task(courier.do(echo("a"))) for _ in range(MOST + 1)]
                await asyncio.sleep(0)
                return calls

            async def end(calls):
                found = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
                return {type(each) for each in found}

            with monkeypatch.context() as patch:
                patch.setattr(Store, "together", lambda store, calls: [])
                failed = await end(await crowd())
            calls = await crowd()
            await asyncio.sleep(0)  # it is under way
            assert courier._round
            courier._round.cancel()
            cancelled = await end(calls)
            return failed, cancelled, await end(await crowd())

    assert asyncio.run(broken_twice()) == ({StoreUnavailable}, {StoreUnavailable}, {str})


def test_no_other_work_is_before_a_load(redis):
    async def beside_a_long_deletion():
        loop, deleted = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        deletion = loop.run_in_executor(None, deleted.wait)
        try:
            with closing(Courier(redis)) as courier:
                return await asyncio.wait_for(courier.do(echo("a")), 10)
        finally:
            deleted.set()
            await deletion

    assert asyncio.run(beside_a_long_deletion()) == "A"
