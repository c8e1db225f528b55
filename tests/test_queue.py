"""The stream on a real server: at least once, taken over from the dead, and dead letters with a reason."""

import pytest

from feedback import keys
from feedback import queue as queue_module
from feedback.queue import Queue, Size
from feedback.ratings import Ratings
from tests.records import START, Clock, add_user, answered


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ratings(redis, clock):
    return Ratings(redis, clock)


@pytest.fixture
def queue(redis, clock):
    made = Queue(redis, clock)
    made.open()
    return made


def rate(redis, ratings, uid, count):
    """So many first ratings of a new user."""
    add_user(redis, uid)
    for id in answered(redis, uid, count):
        ratings.put(uid, id, "up")


def test_what_was_queued_before_the_first_trainer_came_is_not_skipped(redis, ratings, clock):
    rate(redis, ratings, "ann", 2)
    queue = Queue(redis, clock)
    queue.open()
    queue.open()
    assert [entry.uid for entry in queue.claim("one")] == ["ann", "ann"]


def test_each_entry_goes_to_one_trainer_and_only_marking_acknowledges_it(redis, ratings, queue, clock):
    rate(redis, ratings, "ann", 2)
    first, second = queue.claim("one", count=1), queue.claim("two", count=1)
    assert len(first) == len(second) == 1 and first != second
    assert queue.claim("three") == []
    assert queue.size() == Size(events=2, pending=2, due=0, dead=0)
    clock.now += 50
    queue.mark_due(first)
    assert queue.size() == Size(events=1, pending=1, due=1, dead=0)
    assert redis.zscore(keys.DUE, "ann") == START  # waits since the rating, not since the mark
    queue.mark_due(second)
    queue.mark_due(second)  # delivered twice does no harm
    assert queue.size() == Size(events=0, pending=0, due=1, dead=0)


def test_a_dead_trainers_entries_are_taken_over(redis, ratings, queue):
    rate(redis, ratings, "ann", 2)
    left = queue.claim("dead")
    assert queue.claim("alive", idle=60) == []
    assert queue.claim("alive", idle=0) == left


def test_an_entry_that_nobody_can_mark_becomes_a_dead_letter_with_the_reason(
    redis, ratings, queue, monkeypatch
):
    monkeypatch.setattr(queue_module, "MAX_DELIVERIES", 3)
    rate(redis, ratings, "ann", 1)
    assert [len(queue.claim("one", idle=0)) for _ in range(4)] == [1, 1, 1, 0]
    [letter] = queue.dead()
    assert letter["uid"] == "ann" and letter["at"] == str(int(START))
    assert letter["reason"] == "delivered 3 times, and no trainer could mark it"
    assert queue.size() == Size(events=0, pending=0, due=0, dead=1)
    queue.recover()  # the rating itself is the truth
    assert queue.size().due == 1


def test_an_entry_that_makes_no_sense_is_set_aside_and_holds_nothing_up(redis, ratings, queue):
    redis.xadd(keys.EVENTS, {"junk": "1"})
    rate(redis, ratings, "ann", 1)
    assert [entry.uid for entry in queue.claim("one")] == ["ann"]
    assert [letter["reason"] for letter in queue.dead()] == ["it names no user"]


def test_giving_up_on_a_user_leaves_a_letter(redis, queue):
    for uid in ("ann", "bob", "cleo"):
        add_user(redis, uid)
    redis.sadd(keys.LEAVING, "cleo")
    queue.bury("cleo", "no time")
    queue.bury("nobody", "no time")
    queue.bury("ann", "no memory")
    queue.bury("bob", "no disk")
    assert [(each["uid"], each["reason"]) for each in queue.dead()] == [
        ("bob", "no disk"),
        ("ann", "no memory"),
    ]


def test_only_who_has_something_new_is_marked(redis, ratings, queue):
    rate(redis, ratings, "ann", 1)
    rate(redis, ratings, "bob", 1)
    ratings.mark_used("bob", [("msg_0000", 1)], 1)  # learnt meanwhile
    entries = queue.claim("one")
    redis.delete(keys.account("ann"))  # deleted meanwhile
    queue.mark_due(entries)
    assert queue.size() == Size(events=0, pending=0, due=0, dead=0)


def test_the_records_bring_back_what_the_stream_has_lost(redis, ratings, queue, clock, monkeypatch):
    monkeypatch.setattr(queue_module, "PAGE", 2)
    for number in range(5):
        rate(redis, ratings, f"user{number}", 1)
        clock.now += 1
    add_user(redis, "idle")
    redis.delete(keys.EVENTS)
    queue.recover()
    expected = [(f"user{number}", START + number) for number in range(5)]
    assert redis.zrange(keys.DUE, 0, -1, withscores=True) == expected


def test_a_lost_group_is_made_again(redis, ratings, queue):
    redis.delete(keys.EVENTS)
    assert queue.size() == Size(0, 0, 0, 0)
    rate(redis, ratings, "ann", 1)
    assert queue.claim("one") == []
    assert [entry.uid for entry in queue.claim("one")] == ["ann"]


def test_waiting_for_an_entry_ends_in_time(queue):
    assert queue.claim("one", wait=0.05) == []


def test_a_trainer_that_ends_is_forgotten_unless_it_still_has_entries(redis, ratings, queue):
    queue.leave("early")  # there is nobody to forget
    rate(redis, ratings, "ann", 1)
    entries = queue.claim("one")
    assert queue.claim("two") == []
    queue.leave("one")
    queue.leave("two")
    assert [each["name"] for each in redis.xinfo_consumers(keys.EVENTS, keys.TRAINERS)] == ["one"]
    queue.mark_due(entries)
    queue.leave("one")
    assert redis.xinfo_consumers(keys.EVENTS, keys.TRAINERS) == []
    redis.delete(keys.EVENTS)
    queue.leave("one")
