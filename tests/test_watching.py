"""The watch over a published version on a real server and a real store: what it counts, and what comes in between."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.errors import StoreFull
from adapters.store import AdapterStore, Candidate, Revision
from feedback import keys, ratings
from feedback.claims import Rules
from feedback.connection import StoreUnavailable
from feedback.messages import MessageLog
from feedback.watch import Thumbs
from service import upkeep, watching
from service.attempt import Records
from service.learning import finish_withdrawals
from service.watching import watch
from service.worker import Habits, Worker
from tests.candidates import BASE, PASSED, UID, adapter, publish, states
from tests.records import add_user, message


class Service:
    """As much of the API's parts as the watch needs, one user, and answers that are rated as soon as they are made."""

    def __init__(self, redis, folder):
        self.redis = redis
        self.records = Records.of(redis)
        self.ratings, self.rounds = self.records.ratings, self.records.rounds
        self.store = AdapterStore(folder / "adapters", BASE)
        self.store.create(add_user(redis, UID))
        self.unwatched, self.half_withdrawn = set(), set()

    def rated(self, ups=0, downs=0, version=None, model="personal"):
        """Ids of so many answers, each with its thumb; the active version's where none is named."""
        given = self.store.head(UID).active if version is None else version
        ids = []
        for thumb in ["up"] * ups + ["down"] * downs:
            ids.append(f"msg_{self.redis.zcard(keys.message_ids(UID)):04}")
            log = MessageLog(self.redis)
            log.begin(UID, message(ids[-1], adapter_version=given, model=model))
            log.finish(UID, ids[-1], "Hallo.", "stop")
            self.put(ids[-1], thumb)
        return ids

    def put(self, id, thumb):
        self.ratings.put(UID, id, thumb)
        self.unwatched.add(UID)

    def withdraw(self, id):
        self.ratings.withdraw(UID, id)
        self.unwatched.add(UID)


def look(service):
    """The version that answers afterwards."""
    watch(service)
    return service.store.head(UID).active


@pytest.fixture
def service(redis, tmp_path):
    return Service(redis, tmp_path)


@pytest.fixture
def worse(service):
    """Version 2 answers, liked less than version 1: eight thumbs down against ten up."""
    publish(service.store, 1)
    service.rated(ups=10)
    publish(service.store, 2, parent=1)
    service.worse = service.rated(downs=8)
    return service


def test_a_version_that_is_liked_less_gives_way_to_the_one_before(worse):
    assert look(worse) == 1
    left = worse.store.version(UID, 2).rolled_back
    assert left.to == 1
    assert left.why == "thumbs down: 8 of 8, 0 of 10 for the version before; worse with probability 0.999"
    assert states(worse.store) == {2: "kept", 1: "active"}


def test_one_that_is_liked_as_well_stays(service):
    publish(service.store, 1)
    service.rated(ups=6, downs=4)
    publish(service.store, 2)
    service.rated(ups=12, downs=8)
    assert look(service) == 2


def test_seven_thumbs_are_too_few(service):
    publish(service.store, 1)
    service.rated(ups=20)
    publish(service.store, 2)
    service.rated(downs=7)
    assert look(service) == 2
    service.rated(downs=1)
    assert look(service) == 1


def test_it_never_goes_back_and_forth(worse):
    assert look(worse) == 1
    worse.rated(downs=30)  # the version that took over again is liked no better
    assert look(worse) == 1
    worse.rated(ups=30, version=2)  # old answers of the other one, rated late
    assert look(worse) == 1
    publish(worse.store, 3, parent=1)
    assert worse.store.head(UID).previous == 1


def test_its_thumbs_stay_queued_and_the_next_round_learns_from_them_from_the_version_before(worse):
    tasks = []

    def learn(task, report, stop):
        tasks.append(task)
        stop()
        trained_on = [Revision(each.message_id, each.revision) for each in task.examples]
        return Candidate(adapter(3), {}, {}, task.start, trained_on, {}, PASSED, task.seed)

    assert look(worse) == 1
    assert {worse.ratings.get(UID, id).state for id in worse.worse} == {"queued"}
    habits = Habits(rules=Rules(enough=8))
    Worker(worse.records, worse.store, learn, threading.Event(), habits).run(burst=True)
    (task,) = tasks
    assert task.start == 1 and {each.message_id for each in task.examples} >= set(worse.worse)
    assert worse.store.head(UID).active == 3


def test_what_a_held_round_had_learnt_from_teaches_again_without_a_new_thumb(worse):
    worse.ratings.mark_used(UID, [(id, 1) for id in worse.worse], 3)
    assert look(worse) == 1
    assert worse.rounds.current(UID).state == "waiting"


def test_after_a_turn_of_the_taste_the_old_ones_thumbs_say_nothing(service):
    publish(service.store, 1)
    service.rated(ups=10)
    publish(service.store, 2, parent=1, metrics={"stepped_back": True})
    service.rated(downs=8)
    assert look(service) == 2
    publish(service.store, 3, parent=2)
    service.rated(ups=1, downs=7)
    assert look(service) == 3, "compared with the one that followed the turn"


def test_a_running_round_is_overtaken(worse):
    worse.rounds.request(UID)
    claim = worse.records.claims.take("one", Rules(), lease=60)
    round = worse.rounds.start(claim, [])
    assert look(worse) == 1
    assert worse.rounds.get(UID, round.id).reason == "overtaken"


@pytest.mark.parametrize(
    ("change", "stands", "active"),
    [
        (lambda service, ids: [service.put(id, "up") for id in ids], Thumbs(8, 0), 2),
        (lambda service, ids: service.withdraw(ids[0]), Thumbs(0, 7), 2),
        (lambda service, ids: service.put(ids[0], "down"), Thumbs(0, 8), 1),
    ],
    ids=["changed", "withdrawn", "the same again"],
)
def test_ratings_count_as_they_now_stand(worse, change, stands, active):
    change(worse, worse.worse)
    assert worse.ratings.thumbs(UID, 2) == stands
    assert look(worse) == active


def test_a_thumb_up_that_is_withdrawn_counts_no_more(service):
    publish(service.store, 1)
    service.rated(ups=6, downs=4)
    publish(service.store, 2)
    service.rated(downs=8)
    liked = service.rated(ups=12)
    assert look(service) == 2
    for id in liked:
        service.withdraw(id)
    assert look(service) == 1


def test_answers_of_the_base_model_count_where_it_stood_in_for_a_version(service):
    service.rated(downs=10)
    service.rated(ups=30, model="base")  # asked for by name: nobody's version
    publish(service.store, 1)
    service.rated(downs=8)
    assert service.ratings.thumbs(UID, 0) == Thumbs(0, 10)
    assert look(service) == 1
    service.rated(ups=30, version=0)
    assert look(service) == 0


def test_messages_from_before_the_watch_say_in_their_record_what_was_asked_for(service):
    own, base = service.rated(ups=2), service.rated(ups=3, model="base")
    for id in own + base:
        service.redis.hdel(keys.message(UID, id), "model")
    assert service.ratings.thumbs(UID, 0) == Thumbs(2, 0)


def test_an_empty_answer_that_is_disliked_counts_though_nothing_can_be_learnt_from_it(service):
    log = MessageLog(service.redis)
    log.begin(UID, message("msg_empty", adapter_version=1))
    log.finish(UID, "msg_empty", "", "stop")
    service.put("msg_empty", "down")
    assert service.ratings.get(UID, "msg_empty").state == "refused"
    assert service.ratings.thumbs(UID, 1) == Thumbs(0, 1)


def test_thumbs_are_counted_page_by_page(service, monkeypatch):
    service.rated(ups=3, downs=4, version=1)
    service.rated(downs=2, version=2)
    for page in (1, 3, 9, 100):
        monkeypatch.setattr(ratings, "PAGE", page)
        assert service.ratings.thumbs(UID, 1) == Thumbs(3, 4)
        assert service.ratings.thumbs(UID, 2) == Thumbs(0, 2)


@pytest.mark.parametrize(
    ("between", "active", "then"),
    [
        (lambda service: publish(service.store, 3, parent=2), 3, 3),
        (lambda service: service.store.rollback(UID, 2), 2, 2),
        (lambda service: service.store.reset(UID), 0, 0),
        (lambda service: service.store.overtake(UID), 2, 1),
    ],
    ids=["published", "rolled back", "reset", "overtaken"],
)
def test_what_comes_between_counting_and_rolling_back_voids_it_and_it_is_decided_anew(
    worse, monkeypatch, between, active, then
):
    fall_back, things = worse.store.fall_back, iter([between])

    def late(*args):
        next(things, lambda _: None)(worse)
        return fall_back(*args)

    monkeypatch.setattr(worse.store, "fall_back", late)
    assert look(worse) == active and worse.unwatched == {UID}
    assert look(worse) == then and worse.unwatched == set()


def test_nobody_is_looked_at_who_has_not_rated(worse):
    worse.unwatched.clear()
    assert look(worse) == 2


@pytest.mark.parametrize("error", [OSError("no disk"), StoreFull("full"), StoreUnavailable("away")])
def test_what_a_store_could_not_do_is_done_later(worse, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        part = worse.ratings if isinstance(error, StoreUnavailable) else worse.store
        patch.setattr(part, "thumbs" if part is worse.ratings else "fall_back", fail)
        if isinstance(error, StoreUnavailable):
            with pytest.raises(StoreUnavailable):
                watch(worse)
        else:
            watch(worse)
    assert worse.store.head(UID).active == 2 and worse.unwatched == {UID}
    assert look(worse) == 1


def test_a_round_that_could_not_be_asked_for_is_asked_for_later(worse, monkeypatch):
    def fail(*_):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(worse.rounds, "request", fail)
        with pytest.raises(StoreUnavailable):
            watch(worse)
    assert worse.store.head(UID).active == 1 and worse.rounds.current(UID) is None
    finish_withdrawals(worse)
    assert worse.rounds.current(UID).state == "waiting" and worse.half_withdrawn == set()


class Killed(BaseException):
    """What no handler sees, as a kill -9."""


@pytest.mark.parametrize("running", [False, True])
def test_a_round_that_a_kill_left_unasked_for_is_asked_for_after_the_start(worse, monkeypatch, running):
    def killed(*_):
        raise Killed

    if running:  # one that began from the version that gave way; its trainer lives on
        monkeypatch.setattr(worse.rounds, "_clock", lambda: time.time() - 60)
        worse.rounds.request(UID)
        worse.rounds.start(worse.records.claims.take("one", Rules(), lease=60), [])
        monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(watching, "learn_again", killed)
        with pytest.raises(Killed):
            watch(worse)
    assert worse.store.head(UID).active == 1
    before = worse.rounds.current(UID)
    worse.half_withdrawn.clear()  # as a new process begins: it knows nothing, and looks at everybody
    worse.unwatched.add(UID)
    assert look(worse) == 1
    now = worse.rounds.current(UID)
    assert now.state == "waiting" and (before is None or now.id != before.id)
    assert not running or worse.rounds.get(UID, before.id).reason == "overtaken"


def test_once_that_round_has_begun_no_other_is_asked_for(worse):
    assert look(worse) == 1
    claim = worse.records.claims.take("one", Rules(), lease=60)
    round = worse.rounds.start(claim, [])
    worse.rounds.end(claim, round.id, "held")
    worse.unwatched.add(UID)
    assert look(worse) == 1
    assert worse.rounds.current(UID) is None


def test_a_deleted_user_is_forgotten_and_holds_nobody_up(worse):
    worse.unwatched.add("gone")
    assert look(worse) == 1 and worse.unwatched == set()


def test_a_user_whose_deletion_has_begun_holds_nobody_up(worse):
    worse.redis.sadd(keys.LEAVING, UID)
    watch(worse)
    assert worse.unwatched == set()


def test_upkeep_goes_on_after_what_nobody_foresaw(monkeypatch, caplog):
    """The first time it fails in a way that no part of it catches; it comes again, and does all of it."""
    came, words = [], " ".join(["somebody's", "words"])

    def once(parts):
        came.append(parts)
        if len(came) == 1:
            raise KeyError(words)

    async def kept_up():
        parts: Any = SimpleNamespace(generation=SimpleNamespace(alive=True))
        task = asyncio.create_task(upkeep.upkeep(parts))
        while len(came) < 3 and not task.done():
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    monkeypatch.setattr(upkeep, "_once", once)
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.01)
    asyncio.run(kept_up())
    assert caplog.text.count("failed with KeyError") == 1
    assert words not in caplog.text


def test_a_user_on_the_base_model_costs_no_look_at_the_ratings(service):
    service.rated(downs=8)
    service.ratings = SimpleNamespace()  # no attribute of it is there to be used
    assert look(service) == 0
