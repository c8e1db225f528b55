"""Forgetting with real rounds: what was made with a rating that is withdrawn or changed goes, and the rest is learnt
again, by itself; by lineage, and bit by bit."""

import dataclasses
import itertools
import threading
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import torch

from adapters.store import AdapterStore, Base
from feedback import keys
from feedback.claims import Rules
from feedback.gate import GateConfig
from feedback.messages import MessageLog
from feedback.ppo import PPOConfig
from feedback.round import RoundConfig
from feedback.trainer import run_round
from service import learning
from service.attempt import Records, example
from service.trainer import learning as learning_on
from service.worker import Habits, Worker
from tests.candidates import HELD, PASSED, UID, states
from tests.decoders import loaded, write
from tests.probes import FEW
from tests.records import Clock, add_user, message

CONFIG = RoundConfig(
    rank=4, iterations=2, rollouts=8, rows=8, answer_tokens=16,
    gate=GateConfig(prompts=4), ppo=PPOConfig(lam=0.95, epochs=1, minibatch_rows=4),
)  # fmt: skip
RULES = Rules(enough=8, few=3, quiet=60.0, settle=2.0)


class School:
    """One user, and a trainer that learns for real; the gate's verdict on what it makes is given."""

    def __init__(self, redis, folder, model):
        self.redis, self.model, self.root = redis, model, folder / "adapters"
        self.clock = Clock(1_800_000_000.0)
        self.records = Records.of(redis, self.clock)
        self.store = AdapterStore(self.root, Base(model.name, model.digest))
        self.store.create(add_user(redis, UID))
        self.verdict = PASSED
        self.learn = learning_on(model, self.store, CONFIG, FEW)

    def rate(self, *thumbs):
        """Ids of new answers of the active version, each with its thumb."""
        log, ids = MessageLog(self.redis), []
        for thumb in thumbs:
            number = log.count(UID)
            ids.append(f"msg_{number:04}")
            asked = [{"role": "user", "content": f"Question {number}?"}]
            active = self.store.head(UID).active
            log.begin(UID, message(ids[-1], messages=asked, adapter_version=active, max_tokens=16))
            log.finish(UID, ids[-1], "Yes! Go on!" if thumb == "up" else "Well, it depends.", "stop")
            self.records.ratings.put(UID, ids[-1], thumb)
        return ids

    def withdraw(self, id):
        """As the API does it."""
        parts = SimpleNamespace(
            store=self.store, ratings=self.records.ratings, rounds=self.records.rounds, half_withdrawn=set(),
            unwatched=set(),
        )  # fmt: skip
        learning.withdraw(parts, UID, id)  # type: ignore[arg-type]  # as much of the parts as it needs

    def work(self, seconds=3.0):
        """What is due so many seconds from now is learnt; the version that answers then."""
        self.clock.now += seconds

        def learn(*given):
            return dataclasses.replace(self.learn(*given), gate=self.verdict)

        Worker(self.records, self.store, learn, threading.Event(), Habits(rules=RULES)).run(burst=True)
        return self.store.head(UID).active

    def rounds(self):
        """(state, version), oldest first."""
        return [(each.state, each.version) for each in reversed(self.records.rounds.list(UID, 20))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def model(folder):
    return loaded(folder, "float32")


@pytest.fixture
def school(redis, tmp_path, model):
    return School(redis, tmp_path, model)


@pytest.fixture
def taught(school):
    """Version 2, made from version 1 and more ratings."""
    school.first = school.rate(*["up", "down"] * 4)
    assert school.work() == 1
    school.second = school.rate(*["up", "down"] * 4)
    assert school.work() == 2
    return school


def lineage(school, number):
    """The version and its ancestors, down to the base model."""
    while number:
        version = school.store.version(UID, number)
        yield version
        number = version.parent


def assert_made_without(school, number, revision):
    """Nothing in use was made with this (message id, revision): neither the version's adapter, reward model, scaling,
    critic and optimiser, nor its ancestors', nor any file that is left; nor will a round replay it."""
    for version in lineage(school, number):
        assert version.state in ("active", "kept")
        assert revision not in {(each.message_id, each.revision) for each in version.trained_on}
        assert revision not in {(each["message_id"], each["revision"]) for each in version.recipe["examples"]}
        held = {f"{name}.safetensors" for name in ("adapter_model", "learner")}
        assert held <= set(version.files), "what a round goes on with is all in these"
    folders = {path.parent for path in (school.root / UID).rglob("*.safetensors")}
    left = {int(path.name) for path in folders if path.parent.name == "versions"}
    assert len(left) == len(folders), "nothing lies elsewhere"
    for version in school.store.versions(UID):
        made_with = {(each.message_id, each.revision) for each in version.trained_on}
        assert version.version not in left or revision not in made_with
    standing = school.records.ratings.standing(UID)
    assert revision not in {(each.message_id, each.revision) for each in standing}
    assert not school.redis.sismember(keys.round_uses(UID), f"{revision[0]}:{revision[1]}")


def test_a_withdrawn_rating_goes_out_of_the_newest_version_and_the_rest_is_learnt_again_by_itself(taught):
    gone = taught.second[0]
    taught.withdraw(gone)
    assert taught.store.head(UID).active == 1  # at once
    assert taught.rounds()[-1] == ("waiting", None)
    assert taught.work(0.0) == 3  # no new rating came
    assert taught.rounds() == [("published", version) for version in (1, 2, 3)]
    assert states(taught.store) == {3: "active", 2: "retired", 1: "kept"}
    made = taught.store.version(UID, 3)
    assert made.parent == 1 and len(made.recipe["examples"]) == 15
    assert_made_without(taught, 3, (gone, 1))


def test_one_that_shaped_everything_takes_everything_with_it(taught):
    gone = taught.first[0]
    taught.withdraw(gone)
    assert taught.store.head(UID).active == 0
    assert taught.work(0.0) == 3
    assert states(taught.store) == {3: "active", 2: "retired", 1: "retired"}
    assert taught.store.version(UID, 3).parent == 0
    assert_made_without(taught, 3, (gone, 1))


def test_answers_given_meanwhile_and_their_ratings_remain_and_teach(taught):
    later = taught.rate("up")  # an answer of version 2, which is about to go
    taught.withdraw(taught.first[0])
    assert taught.records.messages.get(UID, later[0]).adapter_version == 2
    assert taught.work(0.0) == 3
    used = {each["message_id"] for each in taught.store.version(UID, 3).recipe["examples"]}
    assert used == {*taught.first[1:], *taught.second, *later}


def test_a_changed_rating_is_learnt_anew_by_itself_and_the_old_version_answers_until_then(taught):
    changed = taught.second[0]
    taught.records.ratings.put(UID, changed, "down")
    assert taught.store.head(UID).active == 2
    assert taught.rounds()[-1] == ("waiting", None)
    assert taught.work(1.0) == 2  # more changes may follow
    taught.records.ratings.put(UID, taught.second[1], "up")
    assert taught.work(1.5) == 2
    assert taught.work(0.5) == 3  # both in one round
    assert taught.rounds() == [("published", version) for version in (1, 2, 3)]
    assert states(taught.store) == {3: "active", 2: "retired", 1: "kept"}
    made = taught.store.version(UID, 3)
    assert made.parent == 1 and {each["revision"] for each in made.recipe["examples"]} == {1, 2}
    for id in (changed, taught.second[1]):
        assert_made_without(taught, 3, (id, 1))


def test_a_changed_rating_whose_replacement_the_gate_holds_is_out_of_what_answers_all_the_same(taught):
    changed = taught.second[0]
    taught.records.ratings.put(UID, changed, "down")
    taught.verdict = HELD
    assert taught.work() == 1  # the version that the round began from
    assert states(taught.store) == {3: "held", 2: "retired", 1: "active"}
    assert_made_without(taught, 1, (changed, 1))


def test_what_a_changed_rating_shaped_is_gone_too_where_it_does_not_answer(taught):
    """A version that was held, and one that was rolled back from, while the gate holds what is learnt anew."""
    taught.verdict = HELD
    third = taught.rate(*["up", "down"] * 4)
    assert taught.work() == 2
    taught.store.rollback(UID, 1)
    for id in (taught.second[0], third[0]):
        taught.records.ratings.put(UID, id, "down")
    assert taught.work() == 1
    assert states(taught.store) == {4: "held", 3: "retired", 2: "retired", 1: "active"}
    for id in (taught.second[0], third[0]):
        assert_made_without(taught, 1, (id, 1))


def test_a_changed_rating_whose_round_fails_for_good_is_out_of_what_answers_all_the_same(taught):
    def fail(*_):
        raise ZeroDivisionError

    taught.records.ratings.put(UID, taught.second[0], "down")
    taught.learn = fail
    for _ in range(3):
        active = taught.work(700.0)
    assert active == 1 and states(taught.store) == {2: "retired", 1: "active"}


def test_a_change_that_ends_the_round_which_learns_anew_is_followed_by_another(taught):
    ratings = taught.records.ratings
    ratings.put(UID, taught.second[0], "down")
    learn, changes = taught.learn, iter([lambda: ratings.put(UID, taught.second[1], "up")])

    def interrupted(task, report, stop):
        next(changes, lambda: None)()
        return learn(task, report, stop)

    taught.learn = interrupted
    taught.work()
    assert taught.work() == 3
    assert taught.rounds() == [("published", 1), ("published", 2), ("failed", None), ("published", 3)]
    assert taught.store.version(UID, 3).parent == 1


def test_asking_for_the_round_starts_it_now(taught):
    taught.records.ratings.put(UID, taught.second[0], "down")
    round, new = taught.records.rounds.request(UID)
    assert not new and round.state == "waiting"
    assert taught.work(0.0) == 3


def test_a_rating_that_was_changed_since_it_was_learnt_from_asks_for_a_round_when_it_is_withdrawn(taught):
    """In the same step: whoever withdraws may die right after it."""
    id = taught.second[0]
    taught.records.ratings.put(UID, id, "down")
    taught.redis.delete(keys.current_round(UID))  # as a round that fails ends
    taught.records.ratings.withdraw(UID, id)
    assert taught.records.rounds.current(UID).state == "waiting"
    assert taught.work(0.0) == 3
    assert_made_without(taught, 3, (id, 1))


def again(kind, record):
    """A configuration from its JSON."""
    hints = get_type_hints(kind)
    parts = {
        name: again(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in record.items()
    }
    return kind(**parts)


def made_again(school, number):
    """From what its manifest says, and the answers and thumbs that it names; by nothing else."""
    version = school.store.version(UID, number)
    ratings = school.records.ratings.of(UID, [each["message_id"] for each in version.recipe["examples"]])
    examples = [
        example(school.records.messages.get(UID, each["message_id"]), ratings[each["message_id"]])
        for each in version.recipe["examples"]
    ]
    named = [{"message_id": e.message_id, "revision": e.revision, "held_out": e.held_out} for e in examples]
    assert named == version.recipe["examples"]
    config = again(RoundConfig, version.recipe["config"])
    assert version.recipe["toxicity"] == FEW.name
    assert version.recipe["torch"] == torch.__version__
    assert version.recipe["threads"] == torch.get_num_threads()
    return run_round(
        school.model, school.store, UID, examples, start=version.parent, seed=version.seed, config=config, harm=FEW,
        report=lambda _: None, stop=lambda: None,
    )  # fmt: skip


def same_bits(made, school, number):
    """Whether adapter and learner are the version's own."""
    weights = school.store.load(UID, number).weights
    tensors, meta = school.store.learner(UID, number)
    if made.adapter.weights.keys() != weights.keys() or made.learner_tensors.keys() != tensors.keys():
        return False  # a candidate that stepped all the way back has no moments of its factors
    factors = [
        pair for path in weights for pair in zip(made.adapter.weights[path], weights[path], strict=True)
    ]
    learners = [(made.learner_tensors[name], tensor) for name, tensor in tensors.items()]
    return all(torch.equal(x, y) for x, y in factors + learners) and made.learner_meta == meta


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_learnt_again_is_what_its_start_seed_and_remaining_ratings_give_bit_by_bit(
    redis, tmp_path, folder, dtype
):
    school = School(redis, tmp_path, loaded(folder, dtype))
    school.rate(*["up", "down"] * 4)
    assert school.work() == 1
    second = school.rate(*["up", "down"] * 4)
    assert school.work() == 2
    native = school.model.native
    assert (native is not None) == (dtype == "bfloat16")
    if native is not None:  # a chat came and went while it learnt: the kernels had one thread or two
        native.threads = itertools.cycle([1, 2]).__next__
    school.withdraw(second[0])
    assert school.work(0.0) == 3
    if native is not None:
        native.threads = lambda: 1
    assert same_bits(made_again(school, 3), school, 3)
    first = made_again(school, 1)
    assert same_bits(first, school, 1)
    assert not same_bits(first, school, 3), "or the comparison shows nothing"
