"""Whose turn it is, on a real server: fair between users, one trainer a user, taken over from the dead."""

import secrets
import time

import pytest

from feedback import claims as claims_module
from feedback import keys
from feedback.claims import Claim, Claims, Rules
from feedback.queue import Queue
from feedback.ratings import Ratings
from feedback.rounds import Rounds
from tests.records import Clock, add_user, answered

RULES = Rules(enough=8, few=3, quiet=60)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def claims(redis, clock):
    return Claims(redis, clock)


@pytest.fixture
def rate(redis, clock):
    """Rates so many messages of a user, new ones each time, and marks the user due."""
    ratings, queue = Ratings(redis, clock), Queue(redis, clock)
    queue.open()
    done: dict[str, int] = {}

    def more(uid, count):
        if uid not in done:
            add_user(redis, uid)
        start = done.get(uid, 0)
        done[uid] = start + count
        for id in answered(redis, uid, start + count)[start:]:
            ratings.put(uid, id, "up")
        queue.mark_due(queue.claim("marker", count=1000))

    return more


def taken(claims, worker="one", lease=60):
    claim = claims.take(worker, RULES, lease)
    return claim and claim.uid


@pytest.mark.parametrize(
    ("count", "quiet", "due"),
    [(8, 0, True), (7, 0, False), (7, 59, False), (7, 60, True), (3, 60, True), (2, 1e6, False)],
)
def test_eight_new_ratings_are_due_at_once_and_three_after_a_quiet_minute(
    claims, rate, clock, count, quiet, due
):
    rate("ann", count)
    clock.now += quiet
    assert (taken(claims) == "ann") == due


def test_each_rating_starts_the_quiet_time_again(claims, rate, clock):
    rate("ann", 3)
    clock.now += 59
    rate("ann", 1)
    clock.now += 59
    assert taken(claims) is None
    clock.now += 1
    assert taken(claims) == "ann"


def test_ratings_given_in_one_go_wait_for_its_end_but_not_for_long(claims, rate, clock):
    rules = Rules(enough=8, few=3, quiet=60, settle=2)
    rate("ann", 8)
    for _ in range(59):
        clock.now += 1
        assert claims.take("one", rules, 60) is None
        rate("ann", 1)
    clock.now += 1
    assert claims.take("one", rules, 600).uid == "ann"
    rate("bob", 2)
    clock.now += 3600  # left over from another day, which says nothing of what is given in one go now
    rate("bob", 6)
    assert claims.take("one", rules, 60) is None
    clock.now += 2
    assert claims.take("one", rules, 60).uid == "bob"


def test_a_changed_rating_is_new_and_a_withdrawn_one_is_not(redis, claims, rate, clock):
    ratings = Ratings(redis, clock)
    rate("ann", 8)
    ratings.withdraw("ann", "msg_0000")
    assert taken(claims) is None
    ratings.put("ann", "msg_0000", "down")
    ratings.put("ann", "msg_0001", "down")  # was new before: still one
    assert taken(claims) == "ann"


def test_asking_is_enough(redis, claims, rate, clock):
    rate("ann", 1)
    assert taken(claims) is None
    Rounds(redis, clock).request("ann")
    assert taken(claims) == "ann"


def test_a_thousand_thumbs_do_not_hold_up_eight(claims, rate, clock):
    rate("busy", 8)
    clock.now += 1
    rate("ann", 8)
    rate("busy", 60)
    first = claims.take("one", RULES, 60)
    assert first.uid == "busy"  # has waited longest
    assert taken(claims, "two") == "ann"


def test_who_came_to_a_turn_waits_behind_those_who_came_meanwhile(redis, claims, rate, clock):
    rate("busy", 8)
    claim = claims.take("one", RULES, 60)
    ratings = Ratings(redis, clock)
    learnt = [(each.message_id, 1) for each in ratings.standing("busy")]
    clock.now += 1
    rate("ann", 8)
    clock.now += 1
    rate("busy", 20)
    ratings.mark_used("busy", learnt, 1)
    claims.release(claim)
    assert [taken(claims), taken(claims)] == ["ann", "busy"]


def test_a_user_who_waits_longest_but_is_not_due_holds_nobody_up(claims, rate, clock, monkeypatch):
    monkeypatch.setattr(claims_module, "PAGE", 3)
    for number in range(7):
        rate(f"quiet{number}", 1)
    clock.now += 1
    rate("ann", 8)
    assert [taken(claims), taken(claims)] == ["ann", None]


def test_one_trainer_a_user_until_it_is_released(claims, rate):
    rate("ann", 8)
    claim = claims.take("one", RULES, 60)
    assert taken(claims, "two") is None
    assert claims.renew(claim, 60)
    assert claims.release(claim)
    assert not claims.release(claim) and not claims.renew(claim, 60)
    assert taken(claims, "two") == "ann"  # nothing was learnt, so still due


def test_a_renewed_lock_holds_and_a_dead_trainers_runs_out(claims, rate):
    rate("ann", 8)
    claim = claims.take("one", RULES, lease=0.3)
    for _ in range(3):
        time.sleep(0.15)
        assert claims.renew(claim, 0.3)
    assert taken(claims, "two") is None
    time.sleep(0.35)
    other = claims.take("two", RULES, 60)
    assert other.uid == "ann"
    assert not claims.renew(claim, 60) and not claims.release(claim) and claims.failed(claim, "x") == 0
    assert claims.renew(other, 60)


def test_a_reply_that_was_lost_is_given_again(redis, claims, rate, monkeypatch):
    """redis-py sends a command again when the connection broke before the reply."""
    rate("ann", 8)
    monkeypatch.setattr(secrets, "token_hex", lambda _: "same")
    assert claims.take("one", RULES, 60) == claims.take("one", RULES, 60) == Claim("ann", "one same")


def test_nobody_is_due_any_more_after_everything_was_learnt(redis, claims, rate, clock):
    rate("ann", 8)
    claim = claims.take("one", RULES, 60)
    ratings = Ratings(redis, clock)
    ratings.mark_used("ann", [(each.message_id, 1) for each in ratings.standing("ann")], 1)
    claims.release(claim)
    assert redis.zcard(keys.DUE) == 0


def test_after_a_failure_nobody_tries_before_a_pause_which_doubles(claims, rate, clock):
    rate("ann", 8)
    for failures, pause in ((1, 10), (2, 20), (3, 40)):
        claim = claims.take("one", RULES, 60)
        assert claim.failures == failures - 1
        assert claims.failed(claim, "no memory") == failures
        claims.release(claim)
        clock.now += pause - 1
        assert taken(claims) is None
        clock.now += 1
    claim = claims.take("one", RULES, 60)
    assert (claim.failures, claim.reason) == (3, "no memory")
    claims.succeeded(claim)
    claims.release(claim)
    assert claims.take("one", RULES, 60).failures == 0


def test_the_pause_has_a_longest(claims, rate, clock):
    rate("ann", 8)
    for _ in range(20):
        claim = claims.take("one", RULES, 60)
        claims.failed(claim, "no")
        claims.release(claim)
        clock.now += 600
    assert taken(claims) == "ann"


def test_a_failure_that_is_told_twice_counts_once(claims, rate, clock):
    """The first answer was lost on its way."""
    rate("ann", 8)
    for failures in (1, 2):
        claim = claims.take("one", RULES, 60)
        assert [claims.failed(claim, "no memory") for _ in range(3)] == [failures] * 3
        claims.release(claim)
        clock.now += 600
    assert claims.take("one", RULES, 60).failures == 2


def test_a_trainer_that_died_in_a_round_is_counted_and_the_round_waits_again(redis, claims, rate, clock):
    rounds = Rounds(redis, clock)
    rate("ann", 8)
    for deaths in range(3):
        claim = claims.take("one", RULES, 60)
        assert (claim.failures, claim.deaths) == (0, deaths)
        rounds.start(claim, [("msg_0000", 1)])
        redis.delete(keys.lock("ann"))  # as it runs out
    claim = claims.take("two", RULES, 60)
    assert (claim.failures, claim.deaths) == (0, 3)
    assert [each.state for each in rounds.list("ann", 10)] == ["waiting"]


def test_a_deleted_user_is_nobodys_turn(redis, claims, rate):
    rate("ann", 8)
    redis.sadd(keys.LEAVING, "ann")
    assert taken(claims) is None
    assert redis.zcard(keys.DUE) == 0
