"""Rounds on a real server: one at a time, and what overtakes one."""

import pytest

from feedback import keys
from feedback.claims import Claims, Rules
from feedback.events import ClaimLost, NothingRated, RoundOvertaken, UnknownRound, UserGone
from feedback.queue import Queue
from feedback.ratings import Ratings
from feedback.rounds import Rounds
from tests.records import START, Clock, add_user, answered

RULES = Rules()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def rounds(redis, clock):
    add_user(redis, "ann")
    return Rounds(redis, clock)


@pytest.fixture
def ratings(redis, rounds, clock):
    made = Ratings(redis, clock)
    for id in answered(redis, "ann", 9)[:8]:
        made.put("ann", id, "up")
    return made


@pytest.fixture
def claims(redis, clock):
    return Claims(redis, clock)


def begin(rounds, ratings, claims, uid="ann"):
    """(claim, round) of a round over all standing ratings."""
    rounds.request(uid)
    claim = claims.take("one", RULES, 60)
    assert claim.uid == uid
    return claim, rounds.start(claim, [(each.message_id, each.revision) for each in ratings.standing(uid)])


def test_a_round_is_asked_for_once_while_it_waits_or_runs(rounds, ratings, claims):
    first, made = rounds.request("ann")
    assert made and (first.state, first.created, first.started, first.progress) == ("waiting", START, None, 0)
    assert rounds.request("ann") == (first, False)
    claim, running = begin(rounds, ratings, claims)
    assert (running.id, running.state, running.started) == (first.id, "running", START)
    assert rounds.request("ann") == (running, False)
    rounds.end(claim, running.id, "held", version=1, reason="kl")
    assert rounds.current("ann") is None
    assert rounds.request("ann")[1]


def test_without_a_standing_rating_there_is_nothing_to_ask_for(redis, rounds, ratings):
    add_user(redis, "bob")
    with pytest.raises(NothingRated):
        rounds.request("bob")
    ratings.mark_used("ann", [("msg_0000", 1)], 1)
    for number in range(1, 8):
        ratings.withdraw("ann", f"msg_000{number}")
    assert rounds.request("ann")[1]  # a used one stands


def test_a_round_that_nobody_asked_for_has_a_record_as_well(rounds, ratings, claims, redis):
    redis.zadd(keys.DUE, {"ann": START})
    claim = claims.take("one", RULES, 60)
    assert rounds.current("ann") is None
    assert rounds.start(claim, []).state == "running"


def test_progress_and_end_can_be_read(rounds, ratings, claims, clock):
    claim, round = begin(rounds, ratings, claims)
    clock.now += 5
    rounds.progress(claim, round.id, 0.25, 2, 8, {"kl": 1.5, "reward_model_auroc": None})
    now = rounds.get("ann", round.id)
    assert (now.progress, now.step, now.steps, now.metrics["kl"]) == (0.25, 2, 8, 1.5)
    assert now.metrics["reward_model_auroc"] is None and now.ended is None
    rounds.end(claim, round.id, "published", version=7, metrics={"kl": 3})
    end = rounds.get("ann", round.id)
    assert (end.state, end.version, end.reason, end.progress, end.ended) == (
        "published",
        7,
        None,
        1,
        START + 5,
    )
    assert end.metrics == {"kl": 3}


def test_a_failed_round_says_why_and_keeps_how_far_it_came(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    rounds.progress(claim, round.id, 0.5, 4, 8, {"kl": 1})
    rounds.end(claim, round.id, "failed", reason="no memory")
    end = rounds.get("ann", round.id)
    assert (end.state, end.reason, end.progress, end.metrics) == ("failed", "no memory", 0.5, {"kl": 1})


def test_a_round_that_was_put_back_waits_and_is_repeated_under_its_name(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    rounds.progress(claim, round.id, 0.5, 4, 8, {})
    rounds.put_back(claim, round.id)
    claims.release(claim)
    back = rounds.current("ann")
    assert (back.id, back.state, back.progress, back.step) == (round.id, "waiting", 0, 0)
    again = claims.take("two", RULES, 60)
    assert again.failures == 0  # to stop is no failure
    assert rounds.start(again, []).id == round.id


def test_rounds_are_listed_newest_first(rounds, ratings, claims):
    made: list[str] = []
    for _ in range(3):
        claim, round = begin(rounds, ratings, claims)
        rounds.end(claim, round.id, "held")
        claims.release(claim)
        made.insert(0, round.id)
    assert [each.id for each in rounds.list("ann", 2)] == made[:2]
    assert [each.id for each in rounds.list("ann", 2, before=made[1])] == made[2:]


def test_nobody_sees_another_users_rounds(redis, rounds, ratings):
    add_user(redis, "bob")
    round, _ = rounds.request("ann")
    with pytest.raises(UnknownRound):
        rounds.get("bob", round.id)
    assert rounds.list("bob", 10) == [] and rounds.current("bob") is None


# what overtakes a running round


def assert_overtaken(rounds, claim, round):
    ended = rounds.get("ann", round.id)
    assert (ended.state, ended.reason, ended.ended) == ("failed", "overtaken", START)
    for call in (
        lambda: rounds.check(claim, round.id),
        lambda: rounds.progress(claim, round.id, 0.5, 1, 2, {}),
        lambda: rounds.end(claim, round.id, "published", version=1),
        lambda: rounds.put_back(claim, round.id),
    ):
        with pytest.raises(RoundOvertaken):
            call()
    assert rounds.get("ann", round.id) == ended


def test_a_rollback_ends_it_and_its_ratings_stay_queued(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    assert rounds.overtake("ann") and not rounds.overtake("ann")
    assert_overtaken(rounds, claim, round)
    assert ratings.counts("ann").queued == 8
    claims.release(claim)
    assert rounds.current("ann") is None
    assert claims.take("two", RULES, 60).uid == "ann"  # eight are still new


def test_one_that_its_trainer_ends_is_followed_by_another_while_a_rating_stands(
    redis, rounds, ratings, claims
):
    claim, round = begin(rounds, ratings, claims)
    rounds.follow(claim, round.id)
    assert rounds.get("ann", round.id).reason == "overtaken"
    following = rounds.current("ann")
    assert following.state == "waiting" and following.id != round.id
    assert not redis.exists(keys.round_uses("ann"))
    with pytest.raises(RoundOvertaken):  # said twice, for the first answer was lost
        rounds.follow(claim, round.id)
    assert rounds.current("ann") == following


def test_where_none_stands_nothing_follows(redis, rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    redis.delete(keys.queued("ann"), keys.counts("ann"))
    rounds.follow(claim, round.id)
    assert rounds.current("ann") is None and rounds.get("ann", round.id).reason == "overtaken"


def test_a_waiting_round_is_overtaken_by_nothing_but_forgetting(rounds, ratings):
    round, _ = rounds.request("ann")
    assert not rounds.overtake("ann")
    assert rounds.current("ann") == round
    ratings.forget("ann")
    assert rounds.current("ann") is None and rounds.get("ann", round.id).state == "failed"


def test_a_change_of_a_rating_that_it_uses_ends_it_and_asks_for_another(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    ratings.put("ann", "msg_0003", "up")  # the same again is no change
    rounds.check(claim, round.id)
    ratings.put("ann", "msg_0003", "down")
    assert_overtaken(rounds, claim, round)
    assert ratings.counts("ann").queued == 8 and rounds.current("ann").state == "waiting"


def test_a_comment_does_not_end_it_and_a_change_after_that_does(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    ratings.put("ann", "msg_0003", "up", comment="Danke.")
    ratings.put("ann", "msg_0004", "up", ["tone"])
    rounds.check(claim, round.id)
    ratings.withdraw("ann", "msg_0004")
    assert_overtaken(rounds, claim, round)


def test_a_change_of_a_used_rating_asks_for_a_round_that_waits_for_more_of_them(
    redis, rounds, ratings, claims, clock
):
    rules, queue = Rules(settle=2), Queue(redis, clock)
    ratings.mark_used("ann", [(f"msg_000{number}", 1) for number in range(8)], 1)
    ratings.put("ann", "msg_0003", "down")
    asked = rounds.current("ann")
    assert asked.state == "waiting"
    queue.open()
    queue.mark_due(queue.claim("one"))
    clock.now += 1
    ratings.put("ann", "msg_0004", "down")
    clock.now += 1
    assert claims.take("one", rules, 60) is None
    clock.now += 1
    assert claims.take("one", rules, 60).uid == "ann" and rounds.current("ann") == asked


def test_a_change_of_what_nobody_learnt_asks_for_nothing(rounds, ratings):
    ratings.put("ann", "msg_0003", "down")
    ratings.withdraw("ann", "msg_0003")
    ratings.put("ann", "msg_0003", "up")
    assert rounds.current("ann") is None


def test_a_new_rating_waits_for_the_next_one(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    ratings.put("ann", "msg_0008", "up")
    ratings.put("ann", "msg_0008", "down")  # and may change: this round does not use it
    ratings.withdraw("ann", "msg_0008")
    ratings.put("ann", "msg_0008", "up")
    rounds.check(claim, round.id)
    ratings.mark_used("ann", [(f"msg_000{number}", 1) for number in range(8)], 1)
    rounds.end(claim, round.id, "published", version=1)
    claims.release(claim)
    assert ratings.counts("ann").queued == 1 and ratings.get("ann", "msg_0008").state == "queued"


def test_a_withdrawal_of_a_rating_that_it_uses_ends_it_and_asks_for_another(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    ratings.withdraw("ann", "msg_0003")
    assert_overtaken(rounds, claim, round)
    following = rounds.current("ann")
    assert following.id != round.id and following.state == "waiting"
    claims.release(claim)
    assert claims.take("two", RULES, 60).uid == "ann"


def test_a_withdrawal_of_a_used_rating_asks_for_a_round_over_the_rest(redis, rounds, ratings, claims):
    ratings.mark_used("ann", [(f"msg_000{number}", 1) for number in range(8)], 1)
    assert redis.zcard(keys.DUE) == 0
    ratings.withdraw("ann", "msg_0003")
    assert rounds.current("ann").state == "waiting"
    assert claims.take("one", RULES, 60).uid == "ann"


def test_a_withdrawal_of_what_nobody_learnt_asks_for_nothing(rounds, ratings):
    ratings.withdraw("ann", "msg_0003")
    assert rounds.current("ann") is None


def test_with_the_last_rating_goes_the_wish_for_a_round(redis, rounds, ratings, claims):
    ratings.mark_used("ann", [("msg_0000", 1)], 1)
    rounds.request("ann")
    for number in range(8):
        ratings.withdraw("ann", f"msg_000{number}")
    assert rounds.current("ann") is None
    assert claims.take("one", RULES, 60) is None and redis.zcard(keys.DUE) == 0


def test_forgetting_ends_it(rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    ratings.forget("ann")
    assert_overtaken(rounds, claim, round)
    assert rounds.current("ann") is None


def test_a_rating_that_changed_between_reading_and_start_is_noticed(rounds, ratings, claims):
    rounds.request("ann")
    claim = claims.take("one", RULES, 60)
    read = [(each.message_id, each.revision) for each in ratings.standing("ann")]
    ratings.put("ann", "msg_0000", "down")
    with pytest.raises(RoundOvertaken):
        rounds.start(claim, read)
    assert rounds.current("ann").state == "waiting"


def test_a_late_trainer_changes_nothing(redis, rounds, ratings, claims):
    late, round = begin(rounds, ratings, claims)
    redis.delete(keys.lock("ann"))  # as it runs out
    claim = claims.take("two", RULES, 60)
    rounds.start(claim, [])
    for call in (
        lambda: rounds.start(late, []),
        lambda: rounds.progress(late, round.id, 0.9, 1, 2, {}),
        lambda: rounds.end(late, round.id, "published", version=1),
    ):
        with pytest.raises(ClaimLost):
            call()
    assert rounds.get("ann", round.id).state == "running"
    rounds.check(claim, round.id)


def test_a_deletion_ends_it(redis, rounds, ratings, claims):
    claim, round = begin(rounds, ratings, claims)
    redis.sadd(keys.LEAVING, "ann")
    with pytest.raises(ClaimLost):
        rounds.check(claim, round.id)
    with pytest.raises(ClaimLost):
        rounds.start(claim, [])
    with pytest.raises(UserGone):
        rounds.request("ann")
