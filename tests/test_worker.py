"""A trainer's work on a real server and a real store, with a learner that takes no time: every way a round can end."""

import threading
import time

import pytest

from adapters.errors import StoreFull
from adapters.store import AdapterStore, Candidate, Revision
from feedback import keys
from feedback.claims import Rules
from feedback.connection import StoreUnavailable, connect
from feedback.rounds import Rounds
from feedback.trainer import Progress
from service.attempt import Records, Stopped, reasons, seed_of
from service.valkey import Valkey
from service.worker import Habits, Worker
from tests.candidates import BASE, HELD, PASSED, UID, adapter, states
from tests.records import Clock, add_user, answered, message

SOON = Habits(rules=Rules(enough=8, few=3, quiet=60.0), poll=0.05, pause=0.05, disk_pause=0.05)


class Setting:
    """One user with some finished messages, and trainers that learn by `self.learn`."""

    def __init__(self, redis, folder, messages=8):
        self.redis = redis
        self.clock = Clock(time.time())
        self.records = Records.of(redis, self.clock)
        self.store = AdapterStore(folder / "adapters", BASE)
        self.store.create(add_user(redis, UID))
        self.messages = answered(redis, UID, messages)
        self.tasks = []
        self.gate = PASSED
        self.during = lambda: None  # what else happens while a round runs
        self.stop = threading.Event()

    def learn(self, task, report, stop):
        self.tasks.append(task)
        report(Progress(1, 4, "practising", {"kl": float("nan"), "thumbs": len(task.examples)}))
        self.during()
        stop()
        trained_on = [Revision(each.message_id, each.revision) for each in task.examples]
        metrics = {"reward_after": 0.5}
        return Candidate(
            adapter(len(self.tasks)), {}, {}, task.start, trained_on, metrics, self.gate, task.seed
        )

    def rate(self, count, rating="up", first=0):
        for id in self.messages[first : first + count]:
            self.records.ratings.put(UID, id, rating)

    def trainer(self, habits=SOON, stop=None):
        return Worker(self.records, self.store, self.learn, stop or self.stop, habits)

    def burst(self, habits=SOON):
        self.trainer(habits).run(burst=True)

    def ratings(self):
        return [self.records.ratings.get(UID, id) for id in self.messages]

    def rating_states(self):
        return [each.state for each in self.ratings() if each]

    def rounds(self):
        return self.records.rounds.list(UID, 10)


@pytest.fixture
def setting(redis, tmp_path):
    return Setting(redis, tmp_path)


def test_whoever_was_not_marked_while_redis_was_away_is_found_when_it_answers_again(setting, monkeypatch):
    """What became of the stream's entries meanwhile does not matter: they may have been set aside."""
    real, tries = setting.records.queue.mark_due, []

    def away_once(entries):
        tries.append(entries)
        if len(tries) == 1:
            setting.rate(8)  # after the trainer's start, which would have found them in the records
            setting.redis.delete(keys.EVENTS)
            raise StoreUnavailable("away")
        real(entries)

    monkeypatch.setattr(setting.records.queue, "mark_due", away_once)
    setting.burst()
    assert len(setting.tasks) == 1


def test_eight_thumbs_become_a_version(setting):
    setting.rate(8)
    setting.burst()
    (task,) = setting.tasks
    assert (task.uid, task.start, len(task.examples)) == (UID, 0, 8)
    assert [each.held_out for each in task.examples] == [*[False] * 3, True, *[False] * 4]
    assert setting.store.head(UID).active == 1
    assert setting.rating_states() == ["used"] * 8
    assert [each.used_in for each in setting.ratings()] == [[1]] * 8
    (round,) = setting.rounds()
    assert (round.state, round.version, round.progress, round.reason) == ("published", 1, 1.0, None)
    assert round.metrics == {"reward_after": 0.5}
    setting.burst()
    assert len(setting.tasks) == 1 and setting.redis.zcard(keys.DUE) == 0
    assert setting.redis.xinfo_consumers(keys.EVENTS, keys.TRAINERS) == []


def test_where_the_only_one_held_out_is_withdrawn_the_fourth_of_the_rest_takes_its_place(setting):
    """Five up and three down; a round over the seven that are left is not held for want of somebody to ask."""
    setting.rate(5)
    setting.rate(3, rating="down", first=5)
    setting.burst()
    withdrawn = setting.messages[3]
    setting.records.ratings.withdraw(UID, withdrawn)
    setting.store.retire(UID, setting.records.ratings.not_withdrawn(UID))
    setting.burst()
    first, again = setting.tasks
    assert [each.message_id for each in first.examples if each.held_out] == [withdrawn]
    assert again.start == 0 and len(again.examples) == 7
    assert [each.message_id for each in again.examples if each.held_out] == [setting.messages[4]]
    kept = [each.message_id for each in setting.records.ratings.standing(UID) if each.held_out]
    assert kept == [setting.messages[4]], "and it stays so"


def test_where_what_is_held_out_alone_is_liked_one_more_is_held_out(setting):
    """Eight up, the fourth is held out; then the others are changed. A round learns from what alone is liked, and so
    would have nobody to ask."""
    setting.rate(8)
    liked = setting.messages[3]
    for id in setting.messages[:8]:
        if id != liked:
            setting.records.ratings.put(UID, id, "down")
    setting.burst()
    (task,) = setting.tasks
    held_out = {each.message_id: each.rating for each in task.examples if each.held_out}
    assert held_out == {liked: 1, setting.messages[4]: -1}
    kept = {each.message_id for each in setting.records.ratings.standing(UID) if each.held_out}
    assert kept == set(held_out), "and it stays so"


def test_none_is_held_out_that_the_version_to_begin_from_has_learnt(setting):
    """Four stand as up, the fourth of them as a first thumb down; but three of them version 1 has learnt."""
    setting.rate(3)
    setting.records.rounds.request(UID)
    setting.burst()
    setting.rate(1, rating="down", first=3)
    setting.rate(1, first=3)
    setting.records.rounds.request(UID)
    setting.burst()
    assert [(task.start, len(task.examples)) for task in setting.tasks] == [(0, 3), (1, 4)]
    assert not any(each.held_out for each in setting.tasks[-1].examples)


def test_where_nothing_is_left_to_learn_from_what_was_learnt_goes_too(setting):
    """Answers without a word, of which it was said what should have been there; then that is taken back."""
    silent = [f"msg_silent_{number}" for number in range(8)]
    for id in silent:
        setting.records.messages.begin(UID, message(id))
        setting.records.messages.finish(UID, id, "", "stop")
        setting.records.ratings.put(UID, id, "down", correction="Grüß dich.")
    setting.burst()
    assert setting.store.head(UID).active == 1
    for id in silent:
        assert setting.records.ratings.put(UID, id, "down").state == "refused"
    setting.clock.now += 10
    queue = setting.records.queue
    queue.mark_due(queue.claim("another", wait=0))
    assert setting.redis.zscore(keys.DUE, UID) is not None, "by itself, not when a trainer begins"
    setting.burst()
    assert setting.rounds()[0].reason == "no rating stands" and len(setting.tasks) == 1
    assert setting.store.head(UID).active == 0 and states(setting.store) == {1: "retired"}


def test_an_example_is_what_was_said_and_what_was_answered(setting):
    setting.records.ratings.put(UID, setting.messages[0], "down", correction="Grüß dich.")
    setting.records.rounds.request(UID)
    setting.burst()
    (example,) = setting.tasks[0].examples
    assert (example.message_id, example.revision, example.rating) == (setting.messages[0], 1, -1)
    assert (example.answer, example.ended, example.correction) == ("Hallo.", True, "Grüß dich.")
    assert example.messages == [{"role": "user", "content": "Grüße an 🦊?"}] and example.max_tokens == 160


def test_three_thumbs_wait_for_a_quiet_minute_and_two_for_a_wish(setting):
    setting.rate(2)
    setting.clock.now += 3600
    setting.burst()
    assert setting.tasks == []
    setting.rate(1, first=2)
    setting.burst()
    assert setting.tasks == []
    setting.clock.now += 61
    setting.burst()
    assert len(setting.tasks) == 1


def test_a_held_version_keeps_its_reasons_and_answers_nobody(setting):
    setting.gate = HELD
    setting.rate(8)
    setting.burst()
    (round,) = setting.rounds()
    assert (round.state, round.version, round.reason) == ("held", 1, "kl: 30, limit 20")
    assert setting.store.head(UID).active == 0 and states(setting.store) == {1: "held"}
    assert setting.rating_states() == ["used"] * 8


def test_reasons_are_short_and_say_what_was_no_number():
    checks = [
        {"name": "reward", "value": -0.43236273527145386, "limit": 0.0, "passed": False},
        {"name": "kl", "value": None, "limit": 20.0, "passed": False},
        {"name": "empty", "value": 0.1, "limit": 0.2, "passed": True},
    ]
    assert reasons({"checks": checks}) == "reward: -0.432, limit 0; kl: no number, limit 20"


def test_progress_is_in_the_record_while_the_round_runs(setting):
    seen = []
    setting.during = lambda: seen.append(setting.records.rounds.current(UID))
    setting.rate(8)
    setting.burst()
    assert [(each.state, each.progress, each.step, each.steps) for each in seen] == [("running", 0.25, 1, 4)]
    assert seen[0].metrics == {"kl": None, "thumbs": 8, "stage": "practising"}


def once(action):
    """`action` at the first call, nothing later."""
    calls = iter([action])
    return lambda: next(calls, lambda: None)()


def test_a_changed_rating_overtakes_the_round_and_the_next_one_learns_the_change(setting):
    setting.during = once(lambda: setting.rate(1, "down"))
    setting.rate(8)
    setting.burst()
    first, second = reversed(setting.rounds())
    assert (first.state, first.reason, first.version) == ("failed", "overtaken", None)
    assert (second.state, second.version) == ("published", 1)
    assert [task.examples[0].revision for task in setting.tasks] == [1, 2]
    assert setting.rating_states() == ["used"] * 8


@pytest.mark.parametrize("change", ["rollback", "reset", "overtake"])
def test_what_raises_the_epoch_overtakes_the_round(setting, change):
    changes = {
        "rollback": lambda: setting.store.rollback(UID, 0),
        "reset": lambda: setting.store.reset(UID),
        "overtake": lambda: setting.store.overtake(UID),
    }
    setting.during = once(changes[change])
    setting.rate(8)
    setting.burst()
    assert [each.reason for each in reversed(setting.rounds())] == ["overtaken", None]
    assert states(setting.store) == {1: "active"}


def learnt(setting):
    """All thumbs are in version 1, so none asks for a round; then the first one is withdrawn, in Redis alone."""
    setting.rate(8)
    setting.burst()
    setting.records.ratings.withdraw(UID, setting.messages[0])


def retired(setting):
    """What the API does after the withdrawal in Redis."""
    setting.store.retire(UID, setting.records.ratings.not_withdrawn(UID))
    setting.rounds_asked.append(setting.records.rounds.request(UID))


def test_a_change_between_the_trainers_look_and_its_start_does_not_lose_the_round(setting):
    """The API sees that the round waits, and is content; the trainer ends it, for it began before the change."""
    learnt(setting)
    start_of_round, change = setting.store.start_of_round, once(lambda: retired(setting))
    asked = setting.rounds_asked = []

    def late(uid, stands):
        found = start_of_round(uid, stands)
        change()
        return found

    setting.store.start_of_round = late
    setting.burst()
    ((waiting, made),) = asked
    assert waiting.state == "waiting" and not made
    assert [each.reason for each in reversed(setting.rounds())] == [None, "overtaken", None]
    assert states(setting.store) == {2: "active", 1: "retired"}
    assert len(setting.store.version(UID, 2).trained_on) == 7


@pytest.mark.parametrize(
    "restarted",
    [
        lambda store, ratings: store.check(UID, ratings.not_withdrawn(UID)),  # the API's next start
        lambda store, ratings: store.rollback(UID, 0),  # killed between a rollback in the store and in Redis
    ],
)
def test_an_api_that_was_killed_on_the_way_does_not_lose_the_round(setting, restarted):
    learnt(setting)
    trainer = setting.trainer()
    trainer._begin = lambda: None  # it has been running for long
    setting.store.rollback(UID, 1)
    setting.during = once(lambda: restarted(setting.store, setting.records.ratings))
    trainer.run(burst=True)
    assert [each.reason for each in reversed(setting.rounds())] == [None, "overtaken", None]
    assert setting.rounds()[0].version == setting.store.head(UID).active == 2


def test_a_rating_withdrawn_in_the_last_instant_publishes_nothing(setting):
    """Even if whoever withdrew it died before telling the store."""
    publish = setting.store.publish

    def late(*args, **more):
        setting.store.publish = publish
        setting.records.ratings.withdraw(UID, setting.messages[0])
        return publish(*args, **more)

    setting.store.publish = late
    setting.rate(8)
    setting.burst()
    assert [each.state for each in reversed(setting.rounds())] == ["failed", "published"]
    assert [len(task.examples) for task in setting.tasks] == [8, 7]
    assert len(setting.store.version(UID, 1).trained_on) == 7


def test_after_a_deletion_nothing_is_written(setting):
    def delete():
        setting.redis.sadd(keys.LEAVING, UID)
        setting.store.remove(UID)
        for key in setting.redis.scan_iter(f"{keys.of_user(UID)}*"):
            setting.redis.delete(key)
        setting.redis.srem(keys.LEAVING, UID)

    setting.during = delete
    setting.rate(8)
    setting.burst()
    assert list(setting.redis.scan_iter(f"{keys.of_user(UID)}*")) == []
    assert setting.store.users() == [] and len(setting.tasks) == 1


def test_a_failing_round_is_tried_again_after_a_pause_and_then_given_up(setting):
    def fail():
        raise ZeroDivisionError("a user's words")

    setting.during = fail
    setting.rate(8)
    for tries in (1, 2, 3):
        setting.burst()
        setting.burst()  # too early: the pause is not over
        assert len(setting.tasks) == tries
        assert setting.rating_states() == (["queued"] if tries < 3 else ["refused"]) * 8
        setting.clock.now += 700
    assert len({task.seed for task in setting.tasks}) == 1  # one round, repeated
    reason = "3 times in a row, learning failed: ZeroDivisionError"
    assert {each.reason for each in setting.ratings()} == {reason}
    assert [(each.state, each.reason) for each in setting.rounds()] == [("failed", reason)]
    assert [(letter["uid"], letter["reason"]) for letter in setting.records.queue.dead()] == [(UID, reason)]


def test_after_being_given_up_the_next_thumbs_get_a_round_of_their_own(redis, tmp_path):
    setting = Setting(redis, tmp_path, messages=16)

    def fail():
        raise ZeroDivisionError

    setting.during = fail
    setting.rate(8)
    setting.burst(Habits(attempts=1))
    setting.during = lambda: None
    setting.rate(8, first=8)
    setting.burst()
    assert setting.rating_states() == ["refused"] * 8 + ["used"] * 8
    assert setting.store.head(UID).active == 1


def test_a_dead_trainers_round_is_repeated_by_another(setting):
    setting.rate(8)
    setting.trainer()._begin()
    claim = setting.records.claims.take("dead", SOON.rules, lease=0.2)
    begun = Rounds(setting.redis).start(claim, [(id, 1) for id in setting.messages])
    setting.burst()
    assert setting.tasks == []  # the lock still holds
    time.sleep(0.25)
    setting.burst()
    (round,) = setting.rounds()
    assert (round.id, round.state, setting.tasks[0].seed) == (begun.id, "published", seed_of(begun))


def test_a_few_outages_cost_no_rating(setting):
    setting.rate(8)
    setting.trainer()._begin()
    for _ in range(5):
        claim = setting.records.claims.take("dies", SOON.rules, lease=60)
        Rounds(setting.redis).start(claim, [(id, 1) for id in setting.messages])
        setting.redis.delete(keys.lock(UID))
    setting.burst()
    assert setting.rating_states() == ["used"] * 8


def test_ratings_whose_trainers_keep_dying_are_given_up(setting):
    setting.rate(8)
    setting.trainer()._begin()
    for deaths in range(11):
        claim = setting.records.claims.take("dies", SOON.rules, lease=60)
        assert claim.deaths == deaths
        Rounds(setting.redis).start(claim, [(id, 1) for id in setting.messages])
        setting.redis.delete(keys.lock(UID))  # as it runs out
    setting.burst()
    assert setting.tasks == [] and setting.rating_states() == ["refused"] * 8
    assert "the trainer died" in setting.rounds()[0].reason


def publish_and_die(setting):
    """A trainer's round over eight thumbs publishes version 1, of which no record is made; and its lock has run out."""
    setting.rate(8)
    setting.trainer()._begin()
    claim = setting.records.claims.take("dead", SOON.rules, lease=60)
    begun = Rounds(setting.redis).start(claim, [(id, 1) for id in setting.messages])
    trained_on = [Revision(id, 1) for id in setting.messages]
    made = Candidate(adapter(7), {}, {}, 0, trained_on, {"kl": 1.5}, PASSED, seed_of(begun))
    setting.store.publish(UID, made, setting.store.head(UID).epoch)
    setting.redis.delete(keys.lock(UID))


def test_a_trainer_that_died_just_after_publishing_is_not_learnt_after(setting):
    publish_and_die(setting)
    setting.burst()
    (round,) = setting.rounds()
    assert setting.tasks == [] and states(setting.store) == {1: "active"}
    assert (round.state, round.version, round.metrics) == ("published", 1, {"kl": 1.5})
    assert setting.rating_states() == ["used"] * 8


def test_a_dead_trainers_version_that_was_retired_since_is_learnt_anew(setting):
    publish_and_die(setting)
    setting.store.retire(UID, lambda *_: False)
    setting.burst()
    assert len(setting.tasks) == 1 and states(setting.store) == {1: "retired", 2: "active"}
    assert setting.rounds()[0].version == 2


def test_a_dead_trainers_version_that_a_rating_shaped_which_changed_since_is_learnt_anew(setting):
    publish_and_die(setting)
    standing, change = setting.records.ratings.standing, once(lambda: setting.rate(1, "down"))

    def late(uid):  # the next trainer has the claim, and the round waits
        change()
        return standing(uid)

    setting.records.ratings.standing = late
    setting.burst()
    assert setting.rounds()[0].version == setting.store.head(UID).active == 2
    assert states(setting.store) == {2: "active", 1: "retired"}
    assert setting.rating_states() == ["used"] * 8


def test_a_good_round_whose_answer_was_lost_makes_earlier_failures_forgotten(redis, tmp_path, monkeypatch):
    setting = Setting(redis, tmp_path, messages=16)
    monkeypatch.setattr("service.attempt.AGAIN_SECONDS", 0.01)
    failing = iter([MemoryError("none")] * 2)

    def fail():
        for error in failing:
            raise error

    setting.during = fail
    setting.rate(8)
    for _ in range(2):
        setting.burst()
        setting.clock.now += 700
    end, lost = setting.records.rounds.end, iter([StoreUnavailable("no word that it is on disk")])

    def unheard(*args, **more):
        end(*args, **more)
        for error in lost:
            raise error

    monkeypatch.setattr(setting.records.rounds, "end", unheard)
    setting.burst()
    assert setting.rounds()[0].state == "published" and not redis.exists(keys.trouble(UID))
    failing = iter([MemoryError("none")])
    setting.rate(8, first=8)
    setting.burst()
    assert setting.rating_states()[8:] == ["queued"] * 8, "one failure does not use them up"


def test_a_stop_puts_the_round_back_for_another_trainer(setting):
    first = threading.Event()
    setting.during = once(first.set)
    setting.rate(8)
    setting.trainer(stop=first).run()
    (round,) = setting.rounds()
    assert round.state == "waiting" and setting.rating_states() == ["queued"] * 8
    setting.burst()
    assert [each.id for each in setting.rounds()] == [round.id] and setting.rating_states() == ["used"] * 8
    assert len({task.seed for task in setting.tasks}) == 1 and len(setting.tasks) == 2


def test_the_claim_is_renewed_while_a_round_runs_longer_than_its_lease(setting):
    habits = Habits(rules=SOON.rules, lease=0.2)
    others = []

    def slow():
        time.sleep(0.6)
        others.append(setting.records.claims.take("other", SOON.rules, lease=1.0))

    setting.during = slow
    setting.rate(8)
    setting.burst(habits)
    assert others == [None] and setting.rating_states() == ["used"] * 8


def test_a_lost_claim_ends_the_round(setting):
    def lose():
        setting.redis.set(keys.lock(UID), "another trainer", px=300)
        time.sleep(0.2)  # the keeper notices

    setting.during = once(lose)
    setting.rate(8)
    setting.burst(Habits(rules=SOON.rules, lease=0.2))
    assert states(setting.store) == {} and setting.rating_states() == ["queued"] * 8
    time.sleep(0.2)
    setting.burst()
    assert setting.rating_states() == ["used"] * 8


def test_a_full_disk_loses_nothing_and_is_waited_for(setting):
    publish, tries = setting.store.publish, []

    def full(*args, **more):
        tries.append(setting.rounds()[0].state)
        if len(tries) < 6:  # more often than a round may fail
            raise StoreFull("the disk takes no more")
        return publish(*args, **more)

    setting.store.publish = full
    setting.rate(8)
    setting.burst()
    assert tries == ["running"] * 6 and setting.rating_states() == ["used"] * 8
    assert len(setting.rounds()) == 1


def test_at_its_start_a_trainer_retires_what_a_withdrawn_rating_shaped(setting):
    """Whoever withdrew it died before telling the store."""
    setting.rate(8)
    setting.burst()
    setting.records.ratings.withdraw(UID, setting.messages[0])
    setting.gate = HELD  # so that no new version replaces the old one
    setting.burst()
    assert states(setting.store) == {1: "retired", 2: "held"} and setting.store.head(UID).active == 0
    assert len(setting.store.version(UID, 2).trained_on) == 7 and setting.tasks[1].start == 0


def test_a_change_keeps_the_old_version_until_its_replacement_and_begins_before_it(redis, tmp_path):
    setting = Setting(redis, tmp_path, messages=24)
    setting.rate(8)
    setting.burst()
    setting.rate(8, first=8)
    setting.burst()
    assert states(setting.store) == {1: "kept", 2: "active"}
    setting.rate(1, "down", first=8)  # shaped version 2, not version 1
    assert setting.store.head(UID).active == 2
    setting.burst()  # by itself: nobody has asked, and one new rating alone is not due
    assert [task.start for task in setting.tasks] == [0, 1, 1]
    assert states(setting.store) == {1: "kept", 2: "retired", 3: "active"}


def test_the_longest_waiting_user_goes_first(setting):
    loud = "b2c3d4"
    setting.store.create(add_user(setting.redis, loud))
    setting.rate(8)
    setting.clock.now += 1
    for id in answered(setting.redis, loud, 40):
        setting.records.ratings.put(loud, id, "up")
    setting.burst()
    assert [(task.uid, len(task.examples)) for task in setting.tasks] == [(UID, 8), (loud, 40)]


def test_thumbs_that_come_while_a_round_runs_wait_for_the_next(redis, tmp_path):
    setting = Setting(redis, tmp_path, messages=16)
    setting.during = once(lambda: setting.rate(8, first=8))
    setting.rate(8)
    setting.burst()
    assert [len(task.examples) for task in setting.tasks] == [8, 16]
    assert [task.start for task in setting.tasks] == [0, 1]
    assert [each.used_in for each in setting.ratings()] == [[1, 2]] * 8 + [[2]] * 8


def test_redis_gone_in_the_middle_of_a_round_is_waited_for(tmp_path):
    """Killed, and started again a second later: the round's result is not lost."""
    valkey = Valkey(tmp_path)
    valkey.start()
    valkey.wait_ready()
    try:
        with connect(valkey.url) as redis:
            setting = Setting(redis, tmp_path)
            back = threading.Event()

            def kill():
                assert valkey.child is not None
                valkey.child.wait(0.0)
                threading.Timer(1.0, back.set).start()

            setting.during = kill
            setting.rate(8)
            trainer = threading.Thread(target=setting.burst, daemon=True)
            trainer.start()
            assert back.wait(10)
            valkey.start()  # in the main thread: it dies with the thread that started it
            trainer.join(20)
            assert not trainer.is_alive() and len(setting.tasks) == 1
            assert setting.rating_states() == ["used"] * 8 and setting.rounds()[0].state == "published"
    finally:
        valkey.stop()


def test_a_trainer_without_redis_waits_and_then_works(tmp_path):
    valkey = Valkey(tmp_path)
    valkey.start()
    valkey.wait_ready()
    try:
        with connect(valkey.url) as redis:
            setting = Setting(redis, tmp_path)
            setting.rate(8)
            valkey.stop()
            trainer = threading.Thread(target=setting.burst, daemon=True)
            trainer.start()
            time.sleep(0.5)
            assert trainer.is_alive()
            valkey.start()
            trainer.join(30)
            assert not trainer.is_alive() and setting.rating_states() == ["used"] * 8
    finally:
        valkey.stop()


def test_stopped_is_no_failure(setting):
    def stop():
        raise Stopped

    setting.during = once(stop)
    setting.rate(8)
    setting.burst()
    assert setting.rounds()[0].state == "published" and setting.redis.hgetall(keys.trouble(UID)) == {}
