"""Is it learning? What `GET /v1/adapter` says over HTTP, beside the reward model's own numbers; its words by hand."""

import math

import pytest
import torch

from feedback.style import FEATURES, measure
from service.progress import gained
from tests.learnt import Trainer
from tests.serving import ask

CAPITALS = [feature.name for feature in FEATURES].index("capitals")


@pytest.fixture
def trainer(api, user):
    with Trainer(api, user) as trainer:
        yield trainer


def taught(user, count):
    """Ids of so many rated messages, by somebody who likes capitals; half of the thumbs are up."""
    answers = [ask(user, f"Question {number}?", max_tokens=24, seed=number) for number in range(count)]
    values = [measure(each["choices"][0]["message"]["content"], True)[CAPITALS] for each in answers]
    for answer, value in zip(answers, values, strict=True):
        rating = "up" if value > sorted(values)[count // 2] else "down"
        assert user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": rating}).status_code == 200
    return [answer["id"] for answer in answers]


def test_too_few_thumbs_are_too_early_to_tell(user, trainer):
    taught(user, 5)
    trainer.learn()
    status = user.get("/v1/adapter").json()
    assert status["reward_model"] == {
        "thumbs": 5, "auroc": None, "says": "too early to tell: 5 thumbs", "likes": []
    }  # fmt: skip
    assert status["learning"][0]["says"] == "too early to tell: 5 thumbs"


def test_what_it_takes_a_person_to_like_is_what_its_reward_model_weighs(user, trainer):
    taught(user, 40)
    version = trainer.learn()
    shown = user.get("/v1/adapter").json()
    kept, _ = trainer.store.learner(trainer.uid, version)
    share, means, variances = (kept[f"reward.{name}"] for name in ("share", "mean", "covariance"))
    people, leans = kept["reward.people"], kept["reward.leans"].float()
    assert float(share.sum() + people.sum()) == pytest.approx(1) and len(people) > 100
    mean = share @ means + people @ leans
    above = share @ torch.special.ndtr(means / variances.diagonal(dim1=1, dim2=2).sqrt())
    above += people @ ((leans > 0).float() + (leans == 0).float() / 2)
    aimless = kept["reward.aimless"]  # the probability that the thumbs follow nothing
    above = (1 - aimless) * above + aimless / 2
    sure = {
        feature.name: float(p if weight > 0 else 1 - p)
        for feature, weight, p in zip(FEATURES, mean, above, strict=False)
    }
    weights = {feature.name: float(weight) for feature, weight in zip(FEATURES, mean, strict=False)}
    likes = shown["reward_model"]["likes"]
    told = (name for name in sure if sure[name] >= 0.8 and abs(weights[name]) >= math.log(1.1))
    expected = sorted(told, key=lambda name: -abs(weights[name]))[:5]
    assert [each["feature"] for each in likes] == expected
    for each in likes:
        feature = next(feature for feature in FEATURES if feature.name == each["feature"])
        assert each["certainty"] == pytest.approx(sure[feature.name], abs=1e-6)
        assert each["weight"] == pytest.approx(weights[feature.name])
        assert each["likes"] == (feature.more if each["weight"] > 0 else feature.less)
        assert each["says"] in shown["reward_model"]["says"]
    capitals = next(each for each in likes if each["feature"] == "capitals")
    assert capitals["likes"] == "more capitals", "which is what the thumbs were given for"


def test_each_version_tells_what_it_gained_as_its_round_measured_it(user, trainer):
    taught(user, 36)  # of which three of each kind are kept, and there is an AUROC
    version = trainer.learn()
    metrics = user.get("/v1/adapter/versions").json()["data"][0]["metrics"]
    status = user.get("/v1/adapter").json()
    (told,) = status["learning"]
    assert told["version"] == version
    for name in ("thumbs", "reward_before", "reward_after", "reward_change_low", "reward_change_high", "kl"):
        assert told[name] == metrics[name] and told[name] is not None
    change = told["reward_after"] - told["reward_before"]
    assert told["reward_change_low"] - 1e-6 <= change <= told["reward_change_high"] + 1e-6
    assert told["says"] == gained(metrics)
    assert status["reward_model"]["auroc"] == told["reward_model_auroc"] == metrics["reward_model_auroc"]
    assert metrics["reward_model_auroc"] is not None


def test_a_withdrawn_ratings_reward_model_is_not_told_any_more(user, trainer):
    ids = taught(user, 36)
    trainer.learn()
    assert user.get("/v1/adapter").json()["reward_model"]["auroc"] is not None
    user.delete(f"/v1/messages/{ids[0]}/feedback")
    told = user.get("/v1/adapter").json()["reward_model"]
    assert (told["thumbs"], told["auroc"], told["likes"]) == (35, None, [])


def test_the_share_of_thumbs_up_is_told_by_version(user, trainer):
    assert user.get("/v1/adapter").json()["thumbs"] == []
    first = ask(user, seed=1)["id"]
    second = ask(user, seed=2)["id"]
    base = ask(user, model="base")["id"]
    for id, rating in ((first, "up"), (second, "up"), (base, "down")):
        user.put(f"/v1/messages/{id}/feedback", json={"rating": rating})
    trainer.publish(first)
    new = ask(user, seed=3)
    assert new["adapter_version"] == 1
    user.put(f"/v1/messages/{new['id']}/feedback", json={"rating": "down"})
    user.put(f"/v1/messages/{first}/feedback", json={"rating": "down"})
    user.put(f"/v1/messages/{new['id']}/feedback", json={"rating": "up"})
    assert user.get("/v1/adapter").json()["thumbs"] == [
        {"version": 0, "up": 1, "down": 2, "share_up": pytest.approx(1 / 3)},
        {"version": 1, "up": 1, "down": 0, "share_up": 1.0},
    ]
    user.delete(f"/v1/messages/{second}/feedback")
    assert user.get("/v1/adapter").json()["thumbs"][0] == {"version": 0, "up": 0, "down": 2, "share_up": 0.0}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (
            {"thumbs": 8, "reward_change_low": 0.4, "reward_change_high": 1.3},
            "better: its held-out reward changed by +0.40 to +1.30 (95 % interval)",
        ),
        (
            {"thumbs": 48, "reward_change_low": 0.4, "reward_change_high": 1.3, "stepped_back": True},
            "better: its held-out reward changed by +0.40 to +1.30 (95 % interval);"
            " you would have liked the base model's answers better by then, so it began again there",
        ),
        ({"thumbs": 8, "reward_change_low": -1.3, "reward_change_high": -0.4}, "worse: "),
        ({"thumbs": 90, "reward_change_low": -0.1, "reward_change_high": 1.3}, "too early to tell: its"),
        ({"thumbs": 90, "reward_change_low": 0.0, "reward_change_high": 0.0}, "too early to tell: its"),
        ({"thumbs": 7, "reward_change_low": 0.4, "reward_change_high": 1.3}, "too early to tell: 7 thumbs"),
        ({"thumbs": 90}, "its gain was not measured"),
        ({}, "too early to tell: 0 thumbs"),
    ],
)
def test_a_gain_in_words(metrics, words):
    assert gained(metrics).startswith(words)
