"""A whole round on the tiny model: what it measures, keeps, refuses, and that it is the same every time."""

import dataclasses
import math

import pytest
import torch

from adapters.adapter import Adapter
from adapters.model import ModelConfig, load
from adapters.policy import Sequences, score_base
from adapters.sampling import Sampling
from adapters.store import AdapterStore, Base
from benchmarks.poison import taught
from feedback import trainer
from feedback.credit import credit, critic_inputs
from feedback.gate import SURELY, Conduct, GateConfig, stake
from feedback.harm import Harm
from feedback.learner import Learner
from feedback.ppo import KLController, PPOConfig
from feedback.practice import measure
from feedback.rollouts import Prompt, Sampler, features, rated
from feedback.round import Example, Round, RoundConfig, split_prompts
from feedback.taste import read_taste
from feedback.trainer import Rivals, begin_learner, change, outgrown, run_round, trust
from tests.probes import FEW
from tests.tiny import tiny_model

UID = "u1"
CONFIG = RoundConfig(
    rank=4, iterations=2, rollouts=8, rows=8, answer_tokens=24,
    gate=GateConfig(prompts=4), ppo=PPOConfig(lam=0.95, epochs=1, minibatch_rows=4),
)  # fmt: skip
# As CONFIG, with a way that shows in few answers, and a gate that asks neither liking nor budget.
BRISK = dataclasses.replace(
    CONFIG,
    gate=GateConfig(prompts=4, margin=-1e9, lifetime_kl=1e9),
    ppo=dataclasses.replace(CONFIG.ppo, learning_rate=3e-3),
)
METRICS = {
    "thumbs", "reward_before", "reward_after", "reward_model_auroc", "kl", "kl_per_token", "entropy", "seconds",
    "approx_kl", "clipfrac", "policy_loss", "value_loss", "explained_variance",
    "reward_change_low", "reward_change_high", "likes",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return load(ModelConfig(str(folder), "cpu", "float32"), folder, lambda _: None)


@pytest.fixture
def store(model, tmp_path):
    made = AdapterStore(tmp_path / "adapters", Base(model.name, model.digest))
    made.create(UID)
    return made


def examples(n=12):
    """Somebody who likes exclamation marks."""
    return [
        Example(
            message_id=f"m{i}", revision=1, messages=[{"role": "user", "content": f"Question {i}?"}],
            answer="Yes! Go on!" if i % 2 else "Well, it depends on this.", ended=True, rating=1 if i % 2 else -1,
            correction=None, held_out=i % 3 == 2, max_tokens=24,
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def welcome(model):
    """An adapter that answers as this person likes it, whatever the prompt: noise that has practised for two updates
    may well be liked less than the base model's."""
    prompts = [each.messages[0]["content"] for side in split_prompts(examples(), CONFIG) for each in side]
    said = [(line, "Yes! Go on!") for line in prompts]
    return taught(model, model.lora_shape(CONFIG.rank, CONFIG.alpha), said, steps=40, rate=0.02, rows=8)


def learn(
    model,
    store,
    start=0,
    config=CONFIG,
    seed=7,
    given=None,
    harm=FEW,
    report=lambda _: None,
    stop=lambda: None,
):
    return run_round(
        model,
        store,
        UID,
        given or examples(),
        start=start,
        seed=seed,
        config=config,
        harm=harm,
        report=report,
        stop=stop,
    )


def test_a_round_measures_what_the_contract_names(model, store):
    seen = []
    candidate = learn(model, store, report=seen.append)
    assert candidate.metrics.keys() >= METRICS
    assert candidate.metrics["thumbs"] == 12
    assert candidate.metrics["first_ratio_error"] < 1e-4, "old log-probabilities are the trainer's own"
    assert candidate.metrics["engine_gap"] < 1e-4, "in float32 engine and trainer agree"
    assert candidate.metrics["kl"] > 0, "the policy has moved"
    assert [(p.message_id, p.revision) for p in candidate.trained_on] == [(f"m{i}", 1) for i in range(12)]
    assert [p.step for p in seen] == list(range(len(seen)))
    assert all(p.steps == len(seen) for p in seen), "progress ends at its end"
    assert len(candidate.gate["checks"]) == 14, "nine of the taste and its soundness, five of harm"


def test_the_same_round_gives_the_same_bits_and_another_seed_gives_others(model, store):
    one, two, other = learn(model, store), learn(model, store), learn(model, store, seed=8)
    assert all(torch.equal(x, y) for x, y in zip(matrices(one), matrices(two), strict=True))
    assert one.learner_tensors.keys() == two.learner_tensors.keys()
    assert all(torch.equal(t, two.learner_tensors[name]) for name, t in one.learner_tensors.items())
    assert not all(torch.equal(x, y) for x, y in zip(matrices(one), matrices(other), strict=True))


def matrices(candidate):
    return [matrix for pair in candidate.adapter.weights.values() for matrix in pair]


def test_a_second_round_goes_on_with_the_learners_state(model, store, welcome):
    published = publish(store, learn(model, store), welcome)
    tensors, meta = store.learner(UID, published)
    assert meta["kl"]["coef"] > 0
    steps = {float(t) for name, t in tensors.items() if name.endswith(".step")}
    wide = GateConfig(prompts=4, lifetime_kl=1e9, version_kl=1e9, token_kl=1e9)  # else it would set out anew
    second = learn(model, store, start=published, config=dataclasses.replace(CONFIG, gate=wide))
    assert second.parent == published and not second.metrics["stepped_back"]
    later = {float(t) for name, t in second.learner_tensors.items() if name.endswith(".step")}
    assert min(later) > min(steps), "the optimiser's moments go on where they were"
    assert second.metrics["kl_parent"] != second.metrics["kl"], (
        "one is told from the version, one from the base"
    )


def publish(store, candidate, adapter=None):
    """As if the gate had passed it; with another adapter in its place."""
    passed = dataclasses.replace(
        candidate, gate={"passed": True, "checks": []}, adapter=adapter or candidate.adapter
    )
    return store.publish(UID, passed, store.head(UID).epoch)


def went_on(made):
    """Whether it kept its updates, each of two minibatches, beside those of the version that it began from."""
    return float(made.learner_tensors["optimiser.0.step"]) > 4


def test_after_a_rollback_optimiser_critic_and_kl_state_are_that_versions_own(model, store):
    first = publish(store, learn(model, store))
    tries = (learn(model, store, start=first, seed=seed) for seed in range(20))
    second = next(made for made in tries if not made.metrics["stepped_back"] and went_on(made))
    assert publish(store, second) == 2
    store.rollback(UID, first)
    again = learn(model, store, start=store.head(UID).active, seed=second.seed)
    assert all(map(torch.equal, matrices(again), matrices(second)))
    assert again.learner_tensors.keys() == second.learner_tensors.keys()
    assert all(torch.equal(t, second.learner_tensors[name]) for name, t in again.learner_tensors.items())
    assert again.learner_meta == second.learner_meta
    kept, meta = store.learner(UID, first)
    later, later_meta = store.learner(UID, 2)
    assert meta != later_meta, "the KL coefficient has moved on in version 2"
    for name in ("critic.inner.weight", "optimiser.0.step", "optimiser.1.exp_avg"):
        assert not torch.equal(kept[name], later[name]), "and so has the rest, or the test shows nothing"


def test_the_held_out_rewards_change_has_an_interval():
    after, before = torch.tensor([2.0, 3.0, 5.0, 1.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])
    told = change(after, before, seed=5)
    draws = torch.randint(4, (2000, 4), generator=torch.Generator().manual_seed(5))
    means = torch.stack([(after - before)[draw].mean() for draw in draws])
    assert told == {
        "reward_before": 1.0,
        "reward_after": 2.75,
        "reward_change_low": pytest.approx(float(means.quantile(0.025))),
        "reward_change_high": pytest.approx(float(means.quantile(0.975)), abs=1e-5),
    }
    assert told["reward_change_low"] < 1.75 < told["reward_change_high"]


def test_a_round_can_be_abandoned_at_any_point(model, store):
    class Enough(Exception):
        pass

    for limit in (0, 20, 80):
        calls = iter(range(limit))

        def stop(calls=calls):
            if next(calls, None) is None:
                raise Enough

        with pytest.raises(Enough):
            learn(model, store, stop=stop)
    assert store.versions(UID) == []


def test_the_candidate_never_lies_beyond_the_kl_budget(model, store):
    tight = dataclasses.replace(
        CONFIG, iterations=3, gate=GateConfig(prompts=4, lifetime_kl=0.02, version_kl=0.02)
    )
    hot = dataclasses.replace(tight, ppo=dataclasses.replace(tight.ppo, learning_rate=0.02))
    candidate = learn(model, store, config=hot)
    assert candidate.metrics["taken_back_kl"] > 0.02, "a step left the budget, or the test shows nothing"
    assert candidate.metrics["kl"] <= 0.02, "and was taken back"


def test_an_update_that_left_the_budget_is_tried_again_half_as_long(model, store):
    """Else the round would be lost: its first update leaves the budget, and nothing would have been learnt."""
    narrow = dataclasses.replace(
        CONFIG, iterations=3, gate=GateConfig(prompts=4, lifetime_kl=0.12, version_kl=0.12),
        ppo=dataclasses.replace(CONFIG.ppo, learning_rate=0.003),
    )  # fmt: skip
    path = []
    candidate = learn(model, store, config=narrow, report=path.append)
    stages = [p.stage for p in path if "practising" in p.stage]
    assert stages == [f"practising, {n} of 4" for n in range(1, 5)], "the round goes on"
    after_the_first = next(p for p in path if p.stage == "practising, 3 of 4")
    assert after_the_first.metrics["taken_back_kl"] > 0.12, "or the test shows nothing"
    assert after_the_first.metrics["kl"] == 0
    assert 0 < candidate.metrics["kl"] <= 0.12


def test_a_round_that_goes_on_from_a_version_takes_ever_shorter_steps(model, store, welcome, monkeypatch):
    """What constant steps do near the end of the way is chance; the first round has the way before it."""
    taken = []
    pace = Learner.pace

    def told(learner, share):
        taken.append(share)
        pace(learner, share)
        assert learner.optimiser.param_groups[0]["lr"] == share * CONFIG.ppo.learning_rate

    monkeypatch.setattr(Learner, "pace", told)
    config = dataclasses.replace(CONFIG, iterations=4)
    published = publish(store, learn(model, store, config=config), welcome)
    assert taken == [1, 1, 1, 1]
    learn(model, store, start=published, config=config)
    assert taken[4:] == [1, 0.75, 0.5, 0.25]


def test_the_surer_a_version_is_liked_the_less_a_nat_costs(model, store, welcome):
    first = learn(model, store)
    assert first.metrics["kl_price"] == CONFIG.kl_coef * (1 - 0.2 * 8 / CONFIG.kl_horizon), "moved on once"
    published = publish(store, first, welcome)
    doubting, sure = (
        learn(model, store, start=published, config=dataclasses.replace(CONFIG, kl_doubt=doubt))
        for doubt in (1e-9, 1.0)
    )
    certainty = 1 - sure.metrics["kl_price"] / doubting.metrics["kl_price"]
    assert 0.5 < certainty < 1, "the price follows what is known of the version"


@pytest.mark.parametrize(
    ("certainty", "doubt", "target"), [(0.4, 1, 12), (0.7, 1, 12), (0.75, 1, 15), (0.95, 0.2, 27), (1, 0, 30)]
)
def test_what_a_nat_costs_follows_the_doubt(model, certainty, doubt, target):
    round = Round(model, CONFIG, FEW, 7, examples(), lambda _: None, lambda: None)
    learner = begin_learner(round)
    trust(learner, certainty, CONFIG)
    assert learner.price == pytest.approx(doubt * CONFIG.kl_coef)
    assert learner.kl.target == pytest.approx(target)


def test_practising_ends_with_the_third_update_that_left_the_budget(model, store):
    none = dataclasses.replace(
        CONFIG, iterations=6, gate=GateConfig(prompts=4, lifetime_kl=1e-9, version_kl=1e-9)
    )
    path = []
    candidate = learn(model, store, config=none, report=path.append)
    assert [p.stage for p in path if "practising" in p.stage] == [
        f"practising, {n} of 7" for n in range(1, 5)
    ]
    assert candidate.metrics["kl"] == 0, "and nothing of them is left"
    assert (path[-1].step, path[-1].steps) == (9, 10), "progress ends at its end all the same"


def test_a_round_sets_out_from_where_it_has_room_in_the_budget(model, store, welcome):
    """From the version if that leaves it; else nearer to the base, however far new prompts may show it to lie."""
    publish(store, learn(model, store), welcome)

    def first(budget, room):
        path = []
        gate = GateConfig(prompts=4, lifetime_kl=budget, token_kl=1e6)
        config = dataclasses.replace(CONFIG, iterations=1, room=room, gate=gate)
        made = learn(model, store, start=1, config=config, report=path.append)
        assert made.parent == 1 and made.metrics["kl"] <= budget
        return next(p.metrics for p in path if "kl" in p.metrics)

    there = first(budget=1e6, room=0.5)
    assert there["kl_parent"] == 0 and there["kl"] > 0.01, "or the test shows nothing"
    back = first(budget=there["kl"] / 10, room=0.5)
    assert 0 < back["kl"] <= there["kl"] / 20 and back["kl_parent"] == 0, (
        "from here on it moves away from there"
    )


def turned():
    """The same answers as in `examples`, then twice as many thumbs that say the opposite of theirs."""
    return examples() + [
        dataclasses.replace(each, message_id=f"t{n}{each.message_id}", rating=-each.rating)
        for n in range(2)
        for each in examples()
    ]


@pytest.mark.parametrize(("given", "so"), [(examples(), False), (turned(), True)])
def test_a_version_is_outgrown_where_the_bases_answers_would_surely_be_liked_better(model, given, so):
    def read(answer):
        return features(model, [rated(model, e.messages, answer, True) for e in examples(8)])

    now, base = read("Yes! Go on!"), read("Well, it depends on this.")
    thumbs = features(model, [rated(model, e.messages, e.answer, e.ended) for e in given])
    judging = read_taste(model, given, thumbs, base, CONFIG, lambda: None).judge
    assert outgrown(judging, Rivals([], base, now), CONFIG.gate, seed=1) is so
    assert not outgrown(judging, Rivals([], base, base), CONFIG.gate, seed=1)


def test_after_a_turn_of_the_taste_a_round_steps_back_to_the_base_model(model, store, welcome):
    """With its critic and KL coefficient, and the version that answers for its rival."""
    publish(store, learn(model, store), welcome)
    for given, back in ((examples(), False), (turned(), True)):
        path = []
        made = learn(model, store, start=1, seed=8, given=given, report=path.append)
        kl = [p.metrics["kl"] for p in path if "kl" in p.metrics]
        assert made.metrics["stepped_back"] is back
        assert (kl[0] < 1e-6) is back
        assert max(kl[1:]) > 1e-6, "and learns from there, however much of that the gate leaves"
        assert made.parent == 1
        assert (made.metrics["reward_before"] < -0.5) is back, "the rival is the version, not the base"


def test_what_was_outgrown_does_not_answer_on_whatever_comes_of_the_way_from_there(
    model, store, welcome, monkeypatch
):
    """A candidate as little liked as the version was: then the base model's answers, which would be liked better."""
    publish(store, learn(model, store), welcome)

    def learns_nothing_new(round, learner, parent, climbed, base_read, first):
        learner.policy.load(store.load(UID, 1))
        for factor in learner.policy.parameters():
            factor.grad = torch.ones_like(factor)
        learner.optimiser.step()
        moved.extend(range(len(list(learner.policy.parameters()))))
        candidate = store.load(UID, 1)
        measure(round, learner, candidate, parent, climbed, base_read)
        return candidate

    moved: list[int] = []
    monkeypatch.setattr(trainer, "practise", learns_nothing_new)
    made = learn(model, store, start=1, seed=8, given=turned())
    assert made.metrics["stepped_back"] and made.metrics["kl"] < 1e-6
    assert made.metrics["held_whole"][0].startswith("reward"), (
        "the version is told as what is left of a candidate"
    )
    assert made.gate["passed"], [check for check in made.gate["checks"] if not check["passed"]]
    assert made.adapter.is_silent
    kept = {int(name.split(".")[1]) for name in made.learner_tensors if name.startswith("optimiser.")}
    assert moved and not kept & set(moved), "nor what drove the candidate where it went"


def test_prompts_of_gate_and_practice_are_apart_and_the_persons_own_come_first():
    own = examples(40)
    practise, gate = split_prompts(own, RoundConfig())
    words = [{p.messages[0]["content"] for p in side} for side in (practise, gate)]
    assert not words[0] & words[1]
    mine = {e.messages[0]["content"] for e in own}
    assert len(words[1] & mine) >= 5, "some of the person's own prompts are kept for the gate"
    assert len(practise) == RoundConfig().rollouts
    of_more = split_prompts(examples(60), RoundConfig())
    assert [len(side) for side in of_more] == [RoundConfig().rollouts, RoundConfig().gate.prompts]
    first = [p.messages[0]["content"] in mine for p in practise]
    assert first == sorted(first, reverse=True), "neutral prompts only fill up"
    again, _ = split_prompts(own[:5], RoundConfig())
    sides = {p.messages[0]["content"] for p in again} & mine
    assert sides <= words[0], "a prompt never changes sides"


def test_rollouts_are_as_long_as_the_persons_own_answers():
    short = [dataclasses.replace(e, max_tokens=9) for e in examples(4)]
    practise, gate = split_prompts(short, CONFIG)
    assert {p.max_tokens for p in [*practise, *gate]} == {9}
    practise, _ = split_prompts([dataclasses.replace(short[0], max_tokens=4000)], CONFIG)
    assert max(p.max_tokens for p in practise) == CONFIG.answer_tokens


def begin(model, config=CONFIG):
    round = Round(model, config, FEW, 7, examples(), lambda _: None, lambda: None)
    seen = critic_inputs(config.reward)
    adapter = Adapter.fresh(round.shape, round.generator)
    controller = KLController(0.03, 12.0, 128.0)
    learner = Learner(model, adapter, seen, config.ppo, controller, round.generator)
    return round, learner


def test_an_answers_credits_add_up_to_its_reward_less_what_its_toxicity_costs(model):
    round, _ = begin(model)
    prompts = [Prompt([{"role": "user", "content": f"Say {i}"}], 200) for i in range(6)]
    answers = round.sampler.sample(prompts, None, Sampling(seed=3))
    assert any(a.ended for a in answers) and any(not a.ended for a in answers), "both kinds of endings"
    base = features(model, round.sampler.sample(prompts, None, Sampling(seed=50)))
    taste = read_taste(model, examples(6), features(model, answers), base, CONFIG, lambda: None)
    sequences = Sequences.of([(a.prompt, a.answer) for a in answers], model.device)
    gains = credit(model, taste.climbed, answers, score_base(model, sequences), base, FEW)
    whole = taste.climbed.reward(features(model, answers), base) - FEW.penalty([a.text for a in answers])
    assert torch.allclose(gains.sum(1), whole, atol=1e-4)
    assert (gains != 0).sum(1).min() > 1, "in more than one piece"
    assert not gains[~sequences.mask].any()


def test_the_critic_sends_no_gradient_into_the_adapter(model):
    _, learner = begin(model)
    sequences = Sequences.of([([1, 2, 3], [4, 5, 6])], model.device)
    scores = learner.policy.score(sequences)
    assert not scores.states.requires_grad, "what a critic could be shown of the policy is a constant"
    learner.critic(scores.states[..., : critic_inputs(CONFIG.reward)]).sum().backward()
    assert all(factor.grad is None for factor in learner.policy.parameters())
    assert all(weight.grad is not None for weight in learner.critic.parameters())
    scores.logprobs.sum().backward()
    assert any(factor.grad is not None and factor.grad.any() for factor in learner.policy.parameters())


def test_a_fresh_adapter_is_the_base_model_and_an_update_changes_it(model):
    _, learner = begin(model)
    sequences = Sequences.of([([1, 2, 3], [4, 5, 6]), ([7], [8, 9])], model.device)
    assert torch.equal(learner.policy.score(sequences).logprobs, score_base(model, sequences).logprobs)
    learner.policy.score(sequences).logprobs.sum().backward()
    learner.optimiser.step()
    assert not torch.allclose(learner.policy.score(sequences).logprobs, score_base(model, sequences).logprobs)


@pytest.mark.parametrize("thumbs", [[1] * 8, [-1] * 8, [1, -1], [1]])
def test_thumbs_that_say_little_are_learnt_from_without_a_crash(model, store, thumbs):
    given = [
        dataclasses.replace(e, rating=r, held_out=False) for e, r in zip(examples(8), thumbs, strict=False)
    ]
    candidate = learn(model, store, given=given)
    assert not candidate.gate["passed"], "nobody kept a thumb to judge by: nothing is published on a guess"
    assert candidate.metrics["reward_model_auroc"] is None
    assert all(math.isfinite(belief["weight"]) for belief in candidate.metrics["beliefs"])


def test_thumbs_up_alone_say_little_though_one_is_kept_to_judge_by(model, store):
    """Whoever likes all twelve may like whatever comes: no taste is known by that, and nothing is published; half up
    and half down, by what they hang on, are one."""
    alike = learn(model, store, given=[dataclasses.replace(e, rating=1) for e in examples()])
    told = learn(model, store)
    assert alike.metrics["reward_model_auroc"] is None and alike.metrics["thumbs_held_out"] == 4
    assert "say little" in alike.metrics["reward_model_says"]
    assert alike.metrics["certainty"] < 0.55 < told.metrics["certainty"]
    failed = {check["name"] for check in alike.gate["checks"] if not check["passed"]}
    assert "KL to the base model, nats an answer" in failed, "what is not known may spend nothing"


def test_a_correction_counts_as_an_answer_that_was_wanted(model):
    bad = [dataclasses.replace(e, rating=-1, answer="Well, it depends.", held_out=False) for e in examples(6)]
    shown = [dataclasses.replace(e, correction="Yes! Go! Now!") for e in bad]

    def liking(given):
        read = features(model, [rated(model, e.messages, e.answer, e.ended) for e in given])
        climbed = read_taste(model, given, read, read, CONFIG, lambda: None).climbed
        texts = ("Yes! Run! Here!", "Well, it varies.")
        new = features(model, [rated(model, given[0].messages, text, True) for text in texts])
        return float(climbed.liking(new.rows([0]), new.rows([1])))

    assert liking(shown) > liking(bad) + 0.5, "what is like the correction is liked more"


@pytest.mark.parametrize("wish", [{"correction": "Yes! Go! Now!"}, {"rating": 1}])
def test_the_one_thing_that_was_wanted_is_known_to_both_models(model, wish):
    """Else the climbed one would explore, as after thumbs down alone, and the judge go by what was wanted."""
    bad = [dataclasses.replace(e, rating=-1) for e in examples()]
    last = max(n for n, e in enumerate(bad) if e.held_out)
    read = features(model, [rated(model, e.messages, e.answer, e.ended) for e in bad])
    for given, explores in (
        (bad, True),
        ([*bad[:last], dataclasses.replace(bad[last], **wish), *bad[last + 1 :]], False),
    ):
        taste = read_taste(model, given, read, read, CONFIG, lambda: None)
        assert (taste.climbed.caution < 0, taste.judge.caution < 0) == (explores, explores)


def test_of_a_silent_answer_only_what_was_wanted_in_its_place_is_learnt(model, store):
    corrected = [
        dataclasses.replace(e, rating=-1, answer=" ", correction="Yes! Go! Now!", held_out=n % 3 == 2)
        for n, e in enumerate(examples(6))
    ]
    candidate = learn(model, store, given=corrected)
    assert (candidate.metrics["corrections"], candidate.metrics["thumbs_down"]) == (6, 6)
    assert candidate.metrics["correction_logprob_after"] > candidate.metrics["correction_logprob_before"]
    spoken = examples(6)
    read = features(model, [rated(model, e.messages, e.answer, e.ended) for e in spoken])
    believed = [
        read_taste(model, [*spoken, *silent], read, read, CONFIG, lambda: None).climbed.believed.whole.mean
        for silent in ([], corrected, [dataclasses.replace(e, rating=1) for e in corrected])
    ]
    assert torch.equal(believed[1], believed[2]), "the thumb for silence teaches nothing"
    assert not torch.allclose(believed[0], believed[1], atol=0.01), "what was wanted does"


def test_what_was_wanted_instead_is_no_thumb_that_could_have_been_foretold(model):
    """Thumbs down alone, half of them held out with what was wanted: of one kind only, and so no AUROC."""
    down = [
        dataclasses.replace(e, rating=-1, correction="Yes! Go! Now!", held_out=n % 2 == 1)
        for n, e in enumerate(examples(12))
    ]
    read = features(model, [rated(model, e.messages, e.answer, e.ended) for e in down])
    assert read_taste(model, down, read, read, CONFIG, lambda: None).metrics["reward_model_auroc"] is None
    mixed = [dataclasses.replace(e, rating=1 if n % 4 > 1 else -1) for n, e in enumerate(down)]
    assert (
        read_taste(model, mixed, read, read, CONFIG, lambda: None).metrics["reward_model_auroc"] is not None
    )


class Alarmed(Harm):
    """Finds the first adapter that it looks at full of harm, and no other."""

    looks = 0

    def conduct(self, sampler, adapter, chat):
        self.looks += adapter is not None
        alarm = adapter is not None and self.looks == 1
        return Conduct(torch.full((100,), 0.9 if alarm else 0.1), {})


def test_after_thumbs_down_alone_what_is_different_is_tried(model, store):
    """By the judge's mean every candidate would be held, and no other thumb could ever come."""
    down = [dataclasses.replace(each, rating=-1) for each in examples()]
    candidate = learn(model, store, given=down)
    bound = candidate.gate["checks"][0]
    assert bound["name"].startswith("reward") and bound["passed"] and bound["value"] > 0.1
    assert candidate.metrics["reward_change_low"] < 0.1, "but nobody is told that it was liked"
    assert "until one is up" in candidate.metrics["reward_model_says"]


def test_a_candidate_that_goes_too_far_is_judged_once_more_with_less_of_it(model, store):
    tries = (learn(model, store, config=BRISK, seed=seed) for seed in range(20))
    whole = next(made for made in tries if made.gate["passed"] and "held_whole" not in made.metrics)
    less = learn(model, store, config=BRISK, harm=Alarmed(), seed=whole.seed)
    assert less.gate["passed"] and less.metrics["held_whole"] == ["toxic answers to probes, share"]
    for path, (_, b) in whole.adapter.weights.items():
        assert torch.allclose(less.adapter.weights[path][1], b * 0.7), "B begins at 0"
    assert less.metrics["kl"] < whole.metrics["kl"]


def half_sure(made):
    """Whether it passed as a whole, by a judge that is neither sure nor at a loss."""
    return 0.55 < made.metrics["certainty"] < 0.8 and made.gate["passed"] and "held_whole" not in made.metrics


def test_a_taste_that_is_not_certain_is_followed_a_part_of_the_way(model, store):
    whole = next(
        made for seed in range(20) if half_sure(made := learn(model, store, config=BRISK, seed=seed))
    )
    kl, certainty = whole.metrics["kl"], whole.metrics["certainty"]
    narrow = dataclasses.replace(BRISK.gate, lifetime_kl=0.5 * kl / stake(certainty))
    part = learn(model, store, config=dataclasses.replace(BRISK, gate=narrow), seed=whole.seed)
    assert part.metrics["held_whole"] == ["KL to the base model, nats an answer"]
    assert part.metrics["kl"] == pytest.approx(0.5 * kl, rel=0.3)


def test_a_later_version_that_went_too_far_goes_back_on_the_way_from_the_base(model, store):
    """From the version that answers it would keep more than the limit leaves: that one has spent some of it already."""
    publish(store, learn(model, store, config=BRISK))
    tries = (learn(model, store, start=1, config=BRISK, seed=seed) for seed in range(20))
    whole = next(made for made in tries if half_sure(made) and not made.metrics["stepped_back"])
    share = 0.8
    narrow = dataclasses.replace(
        BRISK.gate, lifetime_kl=share * whole.metrics["kl"] / stake(whole.metrics["certainty"])
    )
    part = learn(model, store, start=1, config=dataclasses.replace(BRISK, gate=narrow), seed=whole.seed)
    assert part.metrics["held_whole"] == ["KL to the base model, nats an answer"]
    assert part.metrics["kl"] <= share * whole.metrics["kl"]
    path, (_, b) = next(iter(whole.adapter.weights.items()))
    left = float(part.adapter.weights[path][1].norm() / b.norm())
    assert 0.5 * share**0.5 < left <= 1.0001 * SURELY * share**0.5, "less where so much was still too far"
    for path, (a, b) in whole.adapter.weights.items():
        assert torch.equal(part.adapter.weights[path][0], a)
        assert torch.allclose(part.adapter.weights[path][1], b * left, atol=1e-6)


def test_what_the_person_would_not_like_is_not_tried_again(model, store):
    harm = Alarmed()
    hard = dataclasses.replace(CONFIG, gate=GateConfig(prompts=4, margin=1e9))
    assert not learn(model, store, config=hard, harm=harm).gate["passed"] and harm.looks == 1


def test_the_sampler_leaves_nothing_behind_when_it_is_stopped(model):
    def stop():
        raise KeyboardInterrupt

    sampler = Sampler(model, model.lora_shape(4, 16.0), 4, stop)
    with pytest.raises(KeyboardInterrupt):
        sampler.sample([Prompt([{"role": "user", "content": "Hi"}], 8)], None, Sampling())
    assert not sampler.engine.busy
