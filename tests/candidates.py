"""Small adapters that say which they are, and candidates made of them, for the tests of the store."""

import torch

from adapters.adapter import Adapter, LoraShape
from adapters.store import Base, Candidate, Revision

UID = "a1b2c3"
BASE = Base("tiny/model", "d1" * 32)
SHAPE = LoraShape(rank=2, alpha=4.0, modules={"model.layers.0.self_attn.q_proj": (6, 4)})
PASSED = {"passed": True, "checks": [{"name": "kl", "value": 1.0, "limit": 20.0, "passed": True}]}
HELD = {"passed": False, "checks": [{"name": "kl", "value": 30.0, "limit": 20.0, "passed": False}]}


def adapter(number):
    """Every weight is `number` / 1024, which float32 holds exactly."""
    (path,) = SHAPE.modules
    return Adapter(SHAPE, {path: (torch.full((2, 4), number / 1024), torch.full((6, 2), number / 1024))})


def number_in(adapter):
    (pair,) = adapter.weights.values()
    return pair[0][0, 0].item() * 1024


def candidate(number=1, *, ratings=(), parent=0, gate=PASSED, learner=None, metrics=None):
    """`ratings`: (message id, revision) pairs; `learner`: (tensors, JSON)."""
    tensors, meta = learner or ({}, {})
    trained_on = [Revision(message, revision) for message, revision in ratings]
    return Candidate(adapter(number), tensors, meta, parent, trained_on, metrics or {}, gate, seed=5)


def publish(store, number=1, **more):
    """At the epoch of this instant."""
    return store.publish(UID, candidate(number, **more), store.head(UID).epoch)


def states(store):
    return {version.version: version.state for version in store.versions(UID)}


def all_stand(message_id, revision):
    return True


def all_but(*fallen):
    return lambda message_id, revision: (message_id, revision) not in fallen
