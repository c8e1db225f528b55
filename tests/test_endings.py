"""The end of an answer on its way into the message log, on a real server."""

import asyncio
import gc

from feedback import keys
from feedback.messages import MessageLog
from service.endings import Endings
from service.presence import Presence
from tests.records import add_user, message


def test_an_answer_left_while_its_user_is_being_deleted_ends_without_a_word(redis, caplog):
    """The user is locked out in Redis first, and in this process only then."""
    messages = MessageLog(redis)
    messages.begin(add_user(redis, "ann"), message("msg_1"))
    redis.sadd(keys.LEAVING, "ann")

    async def leave():
        endings = Endings(messages, Presence())
        endings.write("ann", "msg_1", "so far", "cancelled")
        await endings.settle(10)

    asyncio.run(leave())
    gc.collect()  # what nobody asked a task for is logged when it goes
    assert caplog.text == ""
