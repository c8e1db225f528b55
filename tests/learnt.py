"""Versions and rounds as a trainer makes them, for tests of an API beside which no trainer runs."""

import torch

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from adapters.store import AdapterStore, Base, Candidate, Revision
from feedback.claims import Claims, Rules
from feedback.connection import connect
from feedback.gate import GateConfig
from feedback.messages import MessageLog
from feedback.queue import Queue
from feedback.ratings import Ratings
from feedback.round import Example, RoundConfig
from feedback.rounds import Rounds
from feedback.trainer import run_round
from tests.probes import FEW
from tests.tiny import tiny_model

SHORT = RoundConfig(iterations=1, rollouts=4, rows=8, answer_tokens=16, gate=GateConfig(prompts=4))
PASSED = {"passed": True, "checks": [{"name": "reward", "value": 1.0, "limit": 0.0, "passed": True}]}
HELD = {"passed": False, "checks": [{"name": "reward", "value": -1.0, "limit": 0.0, "passed": False}]}


class Trainer:
    """What one trainer would do for one user of a running API."""

    def __init__(self, api, user):
        model = load(ModelConfig(str(tiny_model(api.data.parent / "tiny"))), api.data, lambda _: None)
        self.model, self.shape = model, model.lora_shape(8, 16.0)
        self.redis = connect(api.redis_url)
        self.uid = str(self.redis.hget("thumbtune:ids", user.id))
        self.store = AdapterStore(api.data / "adapters", Base(model.name, model.digest))
        self.ratings, self.rounds = Ratings(self.redis), Rounds(self.redis)
        self.messages = MessageLog(self.redis)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.redis.close()

    def adapter(self, seed, size=0.05):
        """A random one that changes what the tiny model says."""
        draw = torch.Generator().manual_seed(seed)
        fresh = Adapter.fresh(self.shape, draw)
        weights = {
            path: (a, torch.randn(b.shape, generator=draw) * size) for path, (a, b) in fresh.weights.items()
        }
        return Adapter(self.shape, weights)

    def publish(self, *messages, gate=PASSED, epoch=None, size=0.05, adapter=None):
        """A version trained on the standing ratings of these messages, marked as a round marks it; its number."""
        head = self.store.head(self.uid)
        standing = self.ratings.of(self.uid, messages)
        revisions = [Revision(each.message_id, each.revision) for each in standing.values()]
        candidate = Candidate(
            adapter=adapter or self.adapter(head.next, size), learner_tensors={}, learner_meta={}, parent=head.active,
            trained_on=revisions, metrics={"thumbs": len(revisions), "kl": 1.5}, gate=gate, seed=head.next,
        )  # fmt: skip
        stands = self.ratings.stands(self.uid)
        version = self.store.publish(self.uid, candidate, epoch or head.epoch, retire=stands)
        self.ratings.mark_used(self.uid, [(each.message_id, each.revision) for each in revisions], version)
        return version

    def learn(self):
        """A whole round over all standing ratings, as a trainer runs it but short; its version's number."""
        head = self.store.head(self.uid)
        candidate = run_round(
            self.model, self.store, self.uid, [self._example(each) for each in self.ratings.standing(self.uid)],
            start=head.active, seed=head.next, config=SHORT, harm=FEW, report=lambda _: None, stop=lambda: None,
        )  # fmt: skip
        version = self.store.publish(self.uid, candidate, head.epoch)
        self.ratings.mark_used(
            self.uid, [(each.message_id, each.revision) for each in candidate.trained_on], version
        )
        return version

    def _example(self, feedback):
        message = self.messages.get(self.uid, feedback.message_id)
        return Example(
            message_id=message.id, revision=feedback.revision, messages=message.messages, answer=message.answer,
            ended=message.finish_reason == "stop", rating=1 if feedback.rating == "up" else -1,
            correction=feedback.correction, held_out=feedback.held_out, max_tokens=message.max_tokens,
        )  # fmt: skip

    def begin_round(self):
        """The user's round is running, on all standing ratings."""
        self.rounds.request(self.uid)
        queue, claims = Queue(self.redis), Claims(self.redis)
        queue.mark_due(queue.claim("test"))
        claim = claims.take("test", Rules(enough=1), 60)
        while claim and claim.uid != self.uid:
            claim = claims.take("test", Rules(enough=1), 60)  # other tests' users stay locked
        assert claim
        standing = self.ratings.standing(self.uid)
        return claim, self.rounds.start(claim, [(each.message_id, each.revision) for each in standing])
