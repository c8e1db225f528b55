"""Records go through JSON and come out the same; ids sort by time."""

import json

import pytest

from feedback.events import Feedback, Message, Round, new_message_id, new_round_id
from tests.records import message


def test_records_survive_json():
    feedback = Feedback(
        "msg_1", "down", ["lang"], "zu lang 🦊", None, 2, "used", 3, [4, 5], None, True, 1, 2, 2
    )
    round = Round("round_1", "published", 1.0, 8, 8, {"kl": 3.5}, 4, None, 1, 2, 3)
    for record in (message("msg_1", answer="é\u0000", finish_reason="stop"), feedback, round):
        assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_message_has_the_fields_that_the_contract_names():
    named = {"id", "created", "model", "messages", "answer", "finish_reason", "adapter_version"}
    assert named <= set(message("msg_1").to_json())


def test_only_queued_and_used_ratings_stand():
    stand = {}
    for state in ("queued", "used", "superseded", "withdrawn", "refused"):
        stand[state] = Feedback("msg_1", "up", [], None, None, 1, state, 0, [], None, False, 1, 1, 1).stands
    assert stand == {"queued": True, "used": True, "superseded": False, "withdrawn": False, "refused": False}


def test_ids_sort_by_time_and_do_not_repeat():
    for new, begin in ((new_message_id, "msg_"), (new_round_id, "round_")):
        ids = [new() for _ in range(200)]
        assert ids == sorted(ids) and len(set(ids)) == 200
        assert all(id.startswith(begin) for id in ids)


def test_a_message_is_not_a_dictionary_with_more_in_it():
    with pytest.raises(TypeError):
        Message.from_json({"id": "msg_1", "stranger": 1})
