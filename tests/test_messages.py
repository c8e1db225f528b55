"""The message log on a real server: begun, ended once, listed, and closed to users who are gone."""

import pytest

from feedback import keys
from feedback.events import UnknownMessage, UserGone
from feedback.messages import MessageLog
from tests.records import add_user, answered, message


@pytest.fixture
def log(redis):
    add_user(redis, "ann")
    return MessageLog(redis)


def test_a_message_is_there_from_its_beginning_and_whole_at_its_end(log):
    begun = message("msg_1", seed=2**53)
    log.begin("ann", begun)
    assert log.get("ann", "msg_1") == begun
    log.finish("ann", "msg_1", "Grüße\n🦊\x00", "length")
    assert log.get("ann", "msg_1") == message(
        "msg_1", seed=2**53, answer="Grüße\n🦊\x00", finish_reason="length"
    )
    assert log.count("ann") == 1


def test_the_first_end_stands_and_beginning_again_does_not_undo_it(log):
    log.begin("ann", message("msg_1"))
    log.finish("ann", "msg_1", "ganz", "stop")
    log.finish("ann", "msg_1", "", "cancelled")
    log.begin("ann", message("msg_1"))
    assert log.get("ann", "msg_1").answer == "ganz"
    assert log.cancel_unfinished() == 0


def test_messages_are_listed_newest_first_page_by_page(redis, log):
    ids = answered(redis, "ann", 5)[::-1]
    assert [each.id for each in log.list("ann", 2)] == ids[:2]
    assert [each.id for each in log.list("ann", 2, before=ids[1])] == ids[2:4]
    assert [each.id for each in log.list("ann", 2, before=ids[3])] == ids[4:]
    assert log.list("ann", 2, before=ids[4]) == []


def test_nobody_sees_another_users_messages(redis, log):
    add_user(redis, "bob")
    log.begin("ann", message("msg_1"))
    for id in ("msg_1", "msg_2", "", "msg_1:x"):
        with pytest.raises(UnknownMessage):
            log.get("bob", id)
    with pytest.raises(UnknownMessage):
        log.finish("bob", "msg_1", "mine", "stop")
    assert (log.count("bob"), log.list("bob", 10)) == (0, [])
    assert log.get("ann", "msg_1").finish_reason is None


def test_what_a_killed_process_left_unfinished_is_cancelled(redis, log):
    add_user(redis, "bob")
    for uid, id in (("ann", "msg_1"), ("ann", "msg_2"), ("bob", "msg_3")):
        log.begin(uid, message(id))
    log.finish("ann", "msg_1", "fertig", "stop")
    assert log.cancel_unfinished() == 2
    assert [log.get("ann", id).finish_reason for id in ("msg_1", "msg_2")] == ["stop", "cancelled"]
    assert log.get("bob", "msg_3").finish_reason == "cancelled"
    assert log.cancel_unfinished() == 0


@pytest.mark.parametrize("end", ["leaving", "left"])
def test_nothing_is_written_for_a_user_who_is_gone(redis, log, end):
    log.begin("ann", message("msg_1"))
    redis.sadd(keys.LEAVING, "ann") if end == "leaving" else redis.delete(keys.account("ann"))
    with pytest.raises(UserGone):
        log.begin("ann", message("msg_2"))
    with pytest.raises(UserGone):
        log.finish("ann", "msg_1", "late", "stop")
    assert log.count("ann") == 1 and log.get("ann", "msg_1").answer == ""
    log.cancel_unfinished()
    assert redis.smembers(keys.UNFINISHED) == set()
