"""Ratings on a real server: every state and revision of the contract, and who may not."""

import dataclasses

import pytest

from feedback import keys
from feedback.events import KeyConflict, NotEnded, NotRated, UnknownMessage, UserGone
from feedback.messages import MessageLog
from feedback.ratings import Counts, Ratings
from tests.records import START, Clock, add_user, answered, message

DAY = 24 * 3600


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ratings(redis, clock):
    add_user(redis, "ann")
    return Ratings(redis, clock)


@pytest.fixture
def ids(redis, ratings):
    return answered(redis, "ann", 16)


def events(redis):
    return [
        (fields["uid"], fields["message_id"], fields["revision"]) for _, fields in redis.xrange(keys.EVENTS)
    ]


def test_a_first_rating_is_queued_with_everything_that_was_said(redis, ratings, ids):
    made = ratings.put("ann", ids[0], "down", ["tone", ""], 'zu "lang" 🦊\x00', "Kurz.")
    assert made == ratings.get("ann", ids[0])
    assert (made.rating, made.tags, made.comment, made.correction) == (
        "down", ["tone", ""], 'zu "lang" 🦊\x00', "Kurz.",
    )  # fmt: skip
    assert (made.revision, made.state, made.used_in, made.reason) == (1, "queued", [], None)
    assert made.adapter_version == 3  # the version that wrote the answer
    assert made.created == made.updated == int(START)
    assert events(redis) == [("ann", ids[0], "1")]
    assert ratings.counts("ann") == Counts(up=0, down=1, queued=1, used=0)


def test_the_same_again_changes_nothing(redis, ratings, ids, clock):
    first = ratings.put("ann", ids[0], "up", [], None, None)
    clock.now += 100
    assert ratings.put("ann", ids[0], "up") == first
    assert len(events(redis)) == 1 and ratings.counts("ann").up == 1


@pytest.mark.parametrize(
    "change", [{"rating": "down"}, {"correction": "Anders."}], ids=["rating", "correction"]
)
def test_any_change_is_a_new_revision_and_the_last_one_stands(redis, ratings, ids, clock, change):
    ratings.put("ann", ids[0], "up")
    clock.now += 100
    second = ratings.put("ann", ids[0], **{"rating": "up", **change})
    assert (second.revision, second.state, second.created, second.updated) == (
        2,
        "queued",
        START,
        START + 100,
    )
    old, new = ratings.history("ann")
    assert (old["revision"], old["state"], old["rating"]) == (1, "superseded", "up")
    assert new == second.to_json()
    assert ratings.counts("ann").queued == 1 and ratings.counts("ann").up + ratings.counts("ann").down == 1


@pytest.mark.parametrize(
    "more", [{"tags": ["a"]}, {"comment": "Danke."}, {"comment": ""}], ids=["tags", "comment", "empty"]
)
def test_what_nothing_is_learnt_from_is_kept_and_leaves_the_rating_as_it_stands(
    redis, ratings, ids, clock, more
):
    first = ratings.put("ann", ids[0], "up")
    ratings.mark_used("ann", [(ids[0], 1)], 4)
    clock.now += 100
    second = ratings.put("ann", ids[0], **{"rating": "up", **more})
    assert second == ratings.get("ann", ids[0])
    assert dataclasses.replace(second, tags=[], comment=None) == dataclasses.replace(
        first, revision=2, state="used", used_in=[4]
    )
    assert [each["state"] for each in ratings.history("ann")] == ["superseded", "used"]
    assert ratings.counts("ann") == Counts(up=1, down=0, queued=0, used=1) and len(events(redis)) == 1
    assert ratings.stands("ann")(ids[0], 1), "what it shaped is as good as before"
    assert ratings.put("ann", ids[0], **{"rating": "up", **more}) == second
    changed = ratings.put("ann", ids[0], **{"rating": "down", **more})
    assert (changed.revision, changed.since, changed.state) == (3, 3, "queued")
    assert not ratings.stands("ann")(ids[0], 1)


def test_an_old_message_can_be_rated_at_any_time(redis, ratings, ids, clock):
    clock.now += 10_000 * DAY
    assert ratings.put("ann", ids[0], "up").state == "queued"


def test_only_an_ended_message_of_ones_own_can_be_rated(redis, ratings, ids):
    add_user(redis, "bob")
    for uid, id in (("bob", ids[0]), ("ann", "msg_none"), ("ann", ""), ("ann", f"{ids[0]}:x")):
        with pytest.raises(UnknownMessage):
            ratings.put(uid, id, "up")
    MessageLog(redis).begin("ann", message("msg_running"))
    with pytest.raises(NotEnded):
        ratings.put("ann", "msg_running", "up")
    assert ratings.get("bob", ids[0]) is None and ratings.counts("ann") == Counts(0, 0, 0, 0)
    assert events(redis) == []


@pytest.mark.parametrize("answer", ["", " \n\t "])
def test_nothing_can_be_learnt_from_an_empty_answer(redis, ratings, answer):
    [id] = answered(redis, "ann", 1, answer)
    made = ratings.put("ann", id, "down")
    assert (made.state, made.reason) == (
        "refused", "nothing can be learnt from an empty answer, unless a correction says what was wanted",
    )  # fmt: skip
    assert events(redis) == [] and ratings.standing("ann") == []
    assert ratings.counts("ann") == Counts(up=0, down=1, queued=0, used=0)
    assert ratings.put("ann", id, "down", correction=" \n").state == "refused"
    made = ratings.put("ann", id, "down", correction="Kurz.")
    assert (made.state, made.reason) == ("queued", None) and ratings.standing("ann") == [made]
    assert ratings.put("ann", id, "down").state == "refused" and ratings.standing("ann") == []


def test_a_used_rating_names_each_version_once_and_a_change_queues_it_again(ratings, ids):
    for id in ids[:3]:
        ratings.put("ann", id, "up")
    for version in (4, 4, 14, 1):
        ratings.mark_used("ann", [(ids[0], 1), (ids[1], 1)], version)
    assert [(f.state, f.used_in) for f in ratings.standing("ann")] == [
        ("used", [4, 14, 1]), ("used", [4, 14, 1]), ("queued", []),
    ]  # fmt: skip
    assert ratings.counts("ann") == Counts(up=3, down=0, queued=1, used=2)
    changed = ratings.put("ann", ids[0], "down")
    assert (changed.state, changed.used_in) == ("queued", [])
    assert ratings.counts("ann") == Counts(up=2, down=1, queued=2, used=1)
    assert ratings.history("ann")[0]["used_in"] == [4, 14, 1]


def test_a_revision_that_stands_no_longer_is_not_marked(ratings, ids):
    ratings.put("ann", ids[0], "up")
    ratings.put("ann", ids[0], "down")
    ratings.put("ann", ids[1], "up")
    ratings.withdraw("ann", ids[1])
    ratings.mark_used("ann", [(ids[0], 1), (ids[1], 1), ("msg_none", 1)], 5)
    ratings.refuse("ann", [(ids[0], 1), (ids[1], 1), ("msg_none", 1)], "no")
    assert ratings.get("ann", ids[0]).state == "queued"
    assert ratings.get("ann", ids[1]).state == "withdrawn"
    assert ratings.get("ann", "msg_none") is None


def test_a_withdrawn_rating_teaches_nothing_and_can_be_given_again(ratings, ids):
    ratings.put("ann", ids[0], "up", comment="gut")
    gone = ratings.withdraw("ann", ids[0])
    assert (gone.state, gone.revision, gone.comment) == ("withdrawn", 1, "gut")
    assert ratings.withdraw("ann", ids[0]) == gone
    assert ratings.standing("ann") == [] and ratings.counts("ann") == Counts(0, 0, 0, 0)
    again = ratings.put("ann", ids[0], "up", comment="gut")
    assert (again.state, again.revision) == ("queued", 2)
    assert ratings.counts("ann") == Counts(up=1, down=0, queued=1, used=0)
    with pytest.raises(NotRated):
        ratings.withdraw("ann", ids[1])
    with pytest.raises(NotRated):
        ratings.withdraw("ann", "msg_none")


def test_withdrawing_a_used_rating_counts_it_no_more(ratings, ids):
    ratings.put("ann", ids[0], "up")
    ratings.mark_used("ann", [(ids[0], 1)], 1)
    assert ratings.withdraw("ann", ids[0]).used_in == [1]
    assert ratings.counts("ann") == Counts(0, 0, 0, 0)


def test_a_refused_rating_says_why_and_is_queued_again_when_it_is_sent_again(redis, ratings, ids):
    ratings.put("ann", ids[0], "up")
    ratings.refuse("ann", [(ids[0], 1)], "handling it failed again and again: no memory")
    found = ratings.get("ann", ids[0])
    assert (found.state, found.revision) == ("refused", 1)
    assert found.reason == "handling it failed again and again: no memory"
    assert redis.zscore(keys.DUE, "ann") is None
    again = ratings.put("ann", ids[0], "up")
    assert (again.state, again.revision, again.reason) == ("queued", 2, None)
    assert ratings.counts("ann") == Counts(up=1, down=0, queued=1, used=0)
    ratings.refuse("ann", [(ids[0], 2)], "handling it failed again and again: no memory")
    changed = ratings.put("ann", ids[0], "down")
    assert (changed.state, changed.reason) == ("queued", None)
    assert ratings.counts("ann") == Counts(up=0, down=1, queued=1, used=0)


def test_forgetting_withdraws_everything_and_a_message_can_be_rated_anew(redis, ratings, ids):
    for id in ids[:4]:
        ratings.put("ann", id, "up")
    ratings.mark_used("ann", [(ids[0], 1)], 1)
    ratings.withdraw("ann", ids[1])
    assert ratings.forget("ann") == 3
    assert ratings.forget("ann") == 0
    assert {each["state"] for each in ratings.history("ann")} == {"withdrawn"}
    assert ratings.counts("ann") == Counts(0, 0, 0, 0) and redis.zcard(keys.DUE) == 0
    assert ratings.put("ann", ids[0], "up").revision == 2


# held out


def test_the_fourth_ninth_and_so_on_of_each_kind_is_held_out_from_its_first_rating_on(ratings, ids):
    kinds = ["up", "up", "down", "up", "down", "down", "up", "up", "up", "down", "down", "down", *["up"] * 4]
    for id, kind in zip(ids, kinds, strict=False):
        ratings.put("ann", id, kind)
    # ups are numbers 0 1 3 6 7 8 12 13 14 15: the fourth is 6, the ninth 14; downs are 2 4 5 9 10 11: the fourth is 9
    held = [number for number, each in enumerate(ratings.standing("ann")) if each.held_out]
    assert held == [6, 9, 14]


def test_no_later_change_moves_a_rating_into_or_out_of_training(ratings, ids):
    for id in ids[:4]:
        ratings.put("ann", id, "up")
    ratings.put("ann", ids[3], "down")
    ratings.put("ann", ids[0], "down")
    ratings.forget("ann")
    ratings.put("ann", ids[3], "up", comment="doch")
    ratings.put("ann", ids[0], "up")
    assert [ratings.get("ann", id).held_out for id in ids[:4:3]] == [False, True]
    # and what came back is not counted as first again: the next first up is the fifth
    assert ratings.put("ann", ids[4], "up").held_out is False


# idempotency


def test_a_used_key_does_nothing_again_even_after_a_change(ratings, ids):
    first = ratings.put("ann", ids[0], "up", idempotency_key="k 1")
    assert ratings.put("ann", ids[0], "up", idempotency_key="k 1") == first
    changed = ratings.put("ann", ids[0], "down")
    assert ratings.put("ann", ids[0], "up", idempotency_key="k 1") == changed
    withdrawn = ratings.withdraw("ann", ids[0])
    assert ratings.put("ann", ids[0], "up", idempotency_key="k 1") == withdrawn


def test_a_used_key_with_anything_else_is_a_conflict(redis, ratings, ids):
    ratings.put("ann", ids[0], "up", idempotency_key="k")
    for other in (
        {"message_id": ids[1]},
        {"rating": "down"},
        {"tags": ["x"]},
        {"comment": "x"},
        {"correction": "x"},
    ):
        with pytest.raises(KeyConflict):
            ratings.put(
                **{"uid": "ann", "message_id": ids[0], "rating": "up", "idempotency_key": "k", **other}
            )
    assert ratings.get("ann", ids[0]).revision == 1 and ratings.get("ann", ids[1]) is None


def test_a_key_is_its_users_own(redis, ratings, ids):
    add_user(redis, "bob")
    answered(redis, "bob", 1)
    ratings.put("ann", ids[0], "up", idempotency_key="k")
    assert ratings.put("bob", ids[0], "down", idempotency_key="k").rating == "down"


def test_a_key_is_kept_for_24_hours_over_midnight_and_no_longer(ratings, ids, clock):
    clock.now = 20_000 * DAY + DAY - 1  # a second before midnight
    ratings.put("ann", ids[0], "up", idempotency_key="k")
    clock.now += DAY - 1
    with pytest.raises(KeyConflict):
        ratings.put("ann", ids[0], "down", idempotency_key="k")
    clock.now += 1
    assert ratings.put("ann", ids[0], "down", idempotency_key="k").rating == "down"


def test_a_refused_call_does_not_use_up_the_key(redis, ratings, ids):
    MessageLog(redis).begin("ann", message("msg_running"))
    with pytest.raises(NotEnded):
        ratings.put("ann", "msg_running", "up", idempotency_key="k")
    assert ratings.put("ann", ids[0], "up", idempotency_key="k").state == "queued"


# who asks before publishing


def test_only_the_newest_revision_stands(ratings, ids):
    stands = ratings.stands("ann")
    ratings.put("ann", ids[0], "up")
    assert stands(ids[0], 1) and not stands(ids[0], 2) and not stands("msg_none", 1)
    ratings.mark_used("ann", [(ids[0], 1)], 1)
    assert stands(ids[0], 1)
    ratings.put("ann", ids[0], "down")
    assert not stands(ids[0], 1) and stands(ids[0], 2)
    ratings.refuse("ann", [(ids[0], 2)], "no")
    assert not stands(ids[0], 2)


def test_a_withdrawal_holds_for_all_earlier_revisions_and_no_later_one(ratings, ids):
    fine = ratings.not_withdrawn("ann")
    ratings.put("ann", ids[0], "up")
    ratings.put("ann", ids[0], "down")
    assert fine(ids[0], 1) and fine(ids[0], 2)  # replaced is not withdrawn
    ratings.withdraw("ann", ids[0])
    ratings.put("ann", ids[0], "up")
    assert [fine(ids[0], revision) for revision in (1, 2, 3)] == [False, False, True]
    assert not fine("msg_none", 1)


# what is read


def test_the_history_is_in_the_order_of_first_ratings_and_what_stands_in_that_of_the_last(
    ratings, ids, clock
):
    for id in (ids[2], ids[0], ids[1]):
        clock.now += 1
        ratings.put("ann", id, "up")
    assert [each.message_id for each in ratings.standing("ann")] == [ids[2], ids[0], ids[1]]
    clock.now += 1
    ratings.put("ann", ids[2], "down")
    assert [each.message_id for each in ratings.standing("ann")] == [ids[0], ids[1], ids[2]]
    history = [(each["message_id"], each["revision"]) for each in ratings.history("ann")]
    assert history == [(ids[2], 1), (ids[2], 2), (ids[0], 1), (ids[1], 1)]
    assert set(ratings.of("ann", [ids[0], ids[5], ids[2]])) == {ids[0], ids[2]}


def test_what_is_said_while_the_history_is_read_is_in_it_once_or_not_yet(redis, ratings, ids, monkeypatch):
    ratings.put("ann", ids[0], "up")
    lrange = redis.lrange

    def late(*args):
        for id in ids[:2]:  # one that was read, one that is new
            ratings.put("ann", id, "up")
            ratings.put("ann", id, "down")
        return lrange(*args)

    with monkeypatch.context() as patch:
        patch.setattr(redis, "lrange", late)
        history = [(each["message_id"], each["revision"]) for each in ratings.history("ann")]
    assert history == [(ids[0], 1)]
    assert [each["revision"] for each in ratings.history("ann")] == [1, 2, 1, 2]


def test_a_user_who_is_gone_rates_nothing(redis, ratings, ids):
    ratings.put("ann", ids[0], "up")
    redis.sadd(keys.LEAVING, "ann")
    for call in (
        lambda: ratings.put("ann", ids[1], "up"),
        lambda: ratings.withdraw("ann", ids[0]),
        lambda: ratings.forget("ann"),
        lambda: ratings.mark_used("ann", [(ids[0], 1)], 1),
        lambda: ratings.refuse("ann", [(ids[0], 1)], "no"),
    ):
        with pytest.raises(UserGone):
            call()
    assert ratings.get("ann", ids[0]).state == "queued" and ratings.get("ann", ids[1]) is None


def test_a_rating_costs_one_round_trip(redis, ratings, ids):
    ratings.put("ann", ids[0], "up")  # loads the script
    with redis.monitor() as monitor:
        ratings.put("ann", ids[1], "down", idempotency_key="k")
        redis.echo("end")
        seen = []
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                break
            if command["client_type"] != "lua":
                seen.append(command["command"].split()[0])
    assert [name for name in seen if name not in ("WAITAOF", "CLIENT")] == ["EVALSHA"]
