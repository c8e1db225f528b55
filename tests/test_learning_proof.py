"""The proof that it learns: its plan, its records, what it makes of them, and a trial on a real service."""

import dataclasses
import json
import random
import re

import pytest

from benchmarks import experiments, findings, learning, learning_report, outcomes, trials
from benchmarks.baselines import Missing, _newest, _told, _turns
from benchmarks.capability import QUESTIONS, right
from benchmarks.findings import Found
from benchmarks.offline import Rated
from benchmarks.targets import LEARNING
from benchmarks.tastes import REPORT, USERS
from benchmarks.teacher import EXAM_SEEDS, SEEDS, Teacher, slips
from benchmarks.trials import FULL, QUICK, TUNING, Form, Trial, held_out_prompts, plan, rated_prompts
from benchmarks.workload import ROOT
from service.operator import ADMIN_KEY_FILE, Operator
from service.person import Person
from tests.supervised import served

NAMES = ("second-person", "quick-start")
FORM = Form("test", 8, NAMES, (1,), 4, {"gain": 32, "streak": 16, "long": 48, "turned": 32, "random": 16})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "FOLDER", tmp_path)
    return tmp_path


def exam(*scores):
    return [
        {
            "prompt": "P",
            "answer": f"answer {score}",
            "ended": True,
            "version": 0,
            "score": score,
            "accepted": score > 0.8,
        }
        for score in scores
    ]


def chatted(accepted, answer="This is an answer in plain words."):
    return [{"accepted": letter == "y", "answer": answer} for letter in accepted]


def ended(state, kl=3.0, path=((0.0, 0.0), (1.0, 3.0))):
    return {
        "state": state,
        "metrics": {"kl": kl, "thumbs": 16},
        "path": [list(each) for each in path],
        "seconds": 9.0,
        "reason": None if state == "published" else f"why it {state}",
    }


def taught(sixteen, thirty_two, rounds, before):
    """A record of `gain`: scores of two held-out prompts before, after 16 and after 32 thumbs."""
    exams = {"0": exam(*before), "16": exam(*sixteen), "32": exam(*thirty_two)}
    return {"seed": 1, "commit": "c1", "exams": exams, "thumbs": [], "rounds": rounds}


GAIN = {
    "second-person": [taught((0.4, 0.7), (0.7, 1.0), [ended("published"), ended("held")], before=(0.4, 0.4))],
    "quick-start": [
        taught((0.2, 0.2), (0.2, 0.2), [ended("held"), ended("failed", path=())], before=(0.2, 0.2))
    ],
}


def test_the_full_form_is_large_enough():
    assert len(FULL.tastes) >= 12 and len(FULL.seeds) >= 3 and FULL.thumbs["gain"] == 48
    assert {user.taste.name for user in REPORT} == set(FULL.tastes)
    found = plan(FULL)
    assert sum(trial.experiment == "gain" for trial in found) == len(FULL.tastes) * 3
    assert sum(trial.experiment == "long" for trial in found) == 12
    assert {trial.experiment for trial in found} == set(trials.EXPERIMENTS)


def test_tuning_and_the_short_form_never_see_a_taste_of_the_report():
    report = {user.taste.name for user in REPORT}
    for form in (TUNING, QUICK):
        assert not {trial.taste for trial in plan(form)} & report


def test_those_over_http_come_first_and_seed_by_seed():
    found = plan(FULL)
    over = [trial.experiment in trials.OVER_HTTP for trial in found]
    assert over == sorted(over, reverse=True)
    seeds = [trial.seed for trial in found if trial.experiment == "gain"]
    assert seeds == sorted(seeds)


def test_a_chosen_experiment_is_all_that_is_planned():
    assert {trial.experiment for trial in plan(FULL, ["kto"])} == {"kto"}
    assert plan(FULL, ["report"]) == []


def test_no_held_out_prompt_is_ever_rated():
    rated, held_out = rated_prompts(), held_out_prompts(FULL)
    assert len(set(rated)) == len(rated) >= max(FULL.thumbs.values())
    assert len(held_out) == FULL.held_out and not set(rated) & set(held_out)


def test_of_ten_thumbs_just_one_is_a_slip():
    drawn = slips(random.Random(3), 1)
    assert [sum(next(drawn) for _ in range(10)) for _ in range(20)] == [1] * 20
    coin = slips(random.Random(3), 5)
    assert sum(next(coin) for _ in range(40)) == 20


def test_a_trial_that_has_ended_is_not_run_again_and_one_that_failed_is(folder, capsys):
    todo = plan(FORM, ["gain"])
    clock = learning.Clock(FORM, todo)
    clock.run(todo[0], lambda _: {"exams": {}})

    def fails(_):
        raise Missing("no thumbs")

    clock.run(todo[1], fails)
    assert [trial.record(FORM) is None for trial in todo] == [False, True]
    assert clock.failures == {"gain": "no thumbs"}
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("[1 of 2] gain, second-person, seed 1: ") and "FAILED, no thumbs" in said[1]
    kept = json.loads(todo[0].file(FORM).read_text())
    assert kept["exams"] == {} and kept["date"] and kept["commit"]


def test_what_a_long_trial_began_with_is_a_trial_of_gain(folder):
    long, gain = Trial("long", "quick-start", 1), Trial("gain", "quick-start", 1)
    exams = {str(given): exam(given / 100) for given in (0, 16, 32, 48)}
    rounds = [ended("published") | {"metrics": {"thumbs": given}} for given in (16, 32, 48)]
    long.file(FORM).parent.mkdir(parents=True)
    long.file(FORM).write_text(
        json.dumps({"exams": exams, "thumbs": chatted("n" * 48), "rounds": rounds, "seconds": 9.0})
    )
    began = gain.record(FORM)
    assert began is not None
    assert began["exams"].keys() == {"0", "16", "32"} and len(began["thumbs"]) == 32
    assert [each["metrics"]["thumbs"] for each in began["rounds"]] == [16, 32]
    assert Trial("gain", "second-person", 1).record(FORM) is None
    clock = learning.Clock(FORM, [gain])
    clock.run(gain, lambda _: pytest.fail("it is there already"))


def test_what_is_left_is_foretold_from_what_others_took(folder):
    todo = plan(FORM, ["gain", "random"])
    trials_file = todo[0].file(FORM)
    trials_file.parent.mkdir(parents=True)
    trials_file.write_text(json.dumps({"seconds": 5400.0}))
    # one gain as long as the other, and one random of which only the mean of the others is known
    assert learning.Clock(FORM, todo[1:]).left() == "about 3 h 0 min left"


def test_gains_by_hand():
    result = findings.gain(Found(FORM, {"gain": GAIN}))
    # (0.85 - 0.4 and 0 - 0) over (0.6 + 0.8)
    assert result.figures["32 thumbs"] == pytest.approx(0.45 / 1.4)
    assert result.figures["16 thumbs"] == pytest.approx(0.15 / 1.4)
    assert result.figures["tastes above the base, %"] == 50
    assert result.raw["tastes"]["second-person"]["gains"]["32"]["mean"] == pytest.approx(0.75)
    assert result.raw["tastes"]["second-person"]["accepted"]["32"] == 0.5
    assert set(result.raw["tastes"]["second-person"]["declined"].values()) == {0}
    assert result.raw["rounds"] == {"published": 1, "held": 2, "failed": 1}


def test_answers_that_decline_are_counted():
    said = [
        "I’m sorry, I CAN'T help.",
        "With this, you can't go wrong, and I can't wait to hear of it; stars cannot be sorrowful.",
        "As an assistant, I WON’T do that.",
        "I'm unable to say.",
    ]
    exams = {"0": exam(0.5, 0.5, 0.5, 0.5), "32": exam(0.5, 0.5, 0.5, 0.5)}
    for answer, text in zip(exams["32"], said, strict=True):
        answer["answer"] = text
    table = {"second-person": [GAIN["second-person"][0] | {"exams": exams}]}
    result = findings.gain(Found(FORM, {"gain": table}))
    assert result.raw["tastes"]["second-person"]["declined"] == {"0": 0, "32": 0.75}


def test_a_run_without_three_in_a_row_counts_as_one_more_than_its_most():
    table = {
        name: [{"accepted": [letter == "y" for letter in ours], "base accepted": [False] * 16}]
        for name, ours in (("a", "nnyyy"), ("b", "nnnnyyy"), ("c", "n" * 16))
    }
    result = findings.streak(Found(FORM, {"streak": table}))
    assert result.figures == {"thumbs": 7, "the base": 17, "never": 1}


def test_a_run_that_forgets_or_falls_silent_has_collapsed():
    table = {
        "kept": [{"seed": 1, "thumbs": chatted("nnny" + "yyyy" + "yyyn")}],
        "fell": [{"seed": 1, "thumbs": chatted("nnny" + "yyyy" + "nnny")}],
        "silent": [{"seed": 2, "thumbs": chatted("nnny" + "yyyy") + chatted("yyyy", answer="")}],
    }
    result = findings.long(Found(FORM, {"long": table}))
    assert result.figures["collapsed"] == 2 and result.raw["collapsed"] == "fell, seed 1, silent, seed 2"
    assert result.figures["last third, %"] == pytest.approx(100 * (3 / 4 + 1 / 4 + 1) / 3)
    again = {"kept-1": table["kept"][0], "fell-1": table["fell"][0]}
    result = findings.long(Found(FORM, {"long": {"kept": table["kept"]}}, again))
    assert result.figures["collapsed"] == 1 and result.raw["collapsed"] == "fell-1, which was run again"


def test_a_baseline_is_compared_on_the_trials_that_both_have():
    tables = {"gain": GAIN, "prompted": {"second-person": [
        {"seed": 1, "exams": {"all": exam(0.4, 0.4), "few": exam(0.4, 0.7)}}]}}  # fmt: skip
    result = findings.baseline("prompted")(Found(FORM, tables))
    # its better variant gains (0.55 - 0.4) / 0.6, ours (0.85 - 0.4) / 0.6
    assert result.figures["its gain"] == pytest.approx(0.25) and result.raw["counted"] == "few"
    assert result.figures["ahead"] == pytest.approx(0.5)
    assert result.figures["ahead, low end"] == pytest.approx(0.5)


def test_a_baselines_tastes_are_compared_with_the_same_tastes_whichever_came_first():
    """Each is a tenth ahead, of six that could be gained: no interval, unless one taste is set against the other."""
    tables = {
        "gain": {
            name: [{"seed": 1, "exams": {"0": exam(0.4, 0.4), "32": exam(after, after)}}]
            for name, after in (("lists", 0.9), ("calm", 0.5))
        },
        "prompted": {
            name: [{"seed": 1, "exams": {"all": exam(after, after)}}]
            for name, after in (("calm", 0.4), ("lists", 0.8))
        },
    }
    figures = findings.baseline("prompted")(Found(FORM, tables)).figures
    assert figures["ahead"] == pytest.approx(1 / 6)
    assert figures["ahead, low end"] == pytest.approx(1 / 6)


def test_the_turn_and_random_thumbs_by_hand():
    turn = {"a": [{"exams": {"0": exam(0.2), "16": exam(0.1), "32": exam(0.6)}}]}
    assert findings.turned(Found(FORM, {"turned": turn})).figures == {
        "gain": pytest.approx(0.5), "gain at the turn": pytest.approx(-0.125),
    }  # fmt: skip
    before = {"right": [True, True], "exam": exam(1.0, 1.0)}
    after = before | {"right": [True, False]}
    sides = {"before": before, "after": after}
    table = {"nobody": [sides | {"rounds": [ended("held", 50.0), ended("published", 12.0)]}]}
    result = findings.random(Found(FORM, {"random": table}))
    assert result.figures == {
        "questions, points": -100.0, "questions, mean": -50.0, "language, points": 0.0, "language, mean": 0.0,
        "KL": 12.0,
    }  # fmt: skip


def test_auroc_is_the_mean_over_tastes():
    table = {
        "a": [{"oracle": 0.9, "thumbs": {"10": {"noise-free": 0.8, "noisy": 0.7}}}],
        "b": [{"oracle": 0.7, "thumbs": {"10": {"noise-free": 0.6, "noisy": 0.5}}}],
    }
    result = findings.auroc(Found(FORM, {"auroc": table}))
    assert result.figures["10 thumbs, noise-free"] == pytest.approx(0.7)
    assert result.figures["oracle"] == pytest.approx(0.8)


def test_the_page_shows_targets_misses_and_what_went_wrong():
    found = Found(FORM, {"gain": GAIN})
    results = findings.results(found, {"kto": "TRL cannot be installed here: no network"})
    page = learning_report.page(found, results)
    line = r"\| gain after 32 thumbs \| the base model \| ≥ 0\.60 \| 0\.32 \(0(\.00)? to 0\.8\d\) \| \*\*MISS\*\* \|"
    assert re.search(line, page)
    assert "**not clear of 0**" in page
    assert "| `gain` | 1 | 2 | 1 |  |  |  |  | 1 |  | – | – | – |\n" in page
    assert "| `gain` | 2 | 2 |  |  |  |  |  | 1 | 1 | – | – | – |\n" in page
    assert "- `gain`, second-person, seed 1, round 2: held, why it held\n" in page
    assert "- `gain`, quick-start, seed 1, round 2: failed, why it failed\n" in page
    assert page.count("round 1:") == 1
    assert "TRL cannot be installed here: no network | not measured |" in page
    assert "The least gain at 32 thumbs was that of `quick-start`" in page
    assert "it still answered as the base model does, word by word." in page
    assert "commits: `c1`." in page and "{" not in page


def test_how_rounds_ended_by_hand():
    def round(state, reason=None, held_whole=(), **metrics):
        told = {"held_whole": list(held_whole)} if held_whole else {}
        return {"state": state, "reason": reason, "metrics": metrics | told}

    first = [
        round("published", certainty=0.9, kl=12.0),
        round("published", held_whole=["KL to the base model, nats an answer"], certainty=0.7, kl=6.0),
        round("published", held_whole=["KL to the parent, nats an answer", "refusals on probes, points"]),
        round("published", held_whole=["empty answers, share"]),
        round("held", "KL to the base model: 30, limit 29; reward difference, lower bound: -0.1, limit 0"),
        round("held", "kindness on probes: -6, limit -5"),
        round("failed", "overtaken"),
    ]
    later = [round("published")] * 2
    table = {"calm": [{"seed": n, "rounds": [each, *later * (n == 1)]} for n, each in enumerate(first)]}
    ended = outcomes.outcomes(table)
    assert outcomes.rows("gain", ended) == [
        "| `gain` | 1 | 7 | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 0.80 | 18 | 9 |",
        "| `gain` | 2 | 1 | 1 |  |  |  |  |  |  | – | – | – |",
        "| `gain` | 3 | 1 | 1 |  |  |  |  |  |  | – | – | – |",
    ]
    assert outcomes.lost("gain", ended)[-1] == "- `gain`, calm, seed 6, round 1: failed, overtaken"
    assert len(outcomes.lost("gain", ended)) == 3


def test_the_page_names_the_tastes_that_are_least_understood():
    areas = {"thumbs": {"40": {"noise-free": 0.6, "noisy": 0.5}}, "oracle": 0.9}
    better = {"thumbs": {"40": {"noise-free": 0.9, "noisy": 0.5}}, "oracle": 0.9}
    found = Found(FORM, {"auroc": {name: [{"seed": 1, "commit": "c1"} | each] for name, each in
                                   zip(NAMES, (better, areas), strict=True)}})  # fmt: skip
    told = "least understood first: quick-start 0.60, second-person 0.90."
    assert told in learning_report.page(found, findings.results(found, {}))


def test_the_page_tells_gains_by_how_well_a_taste_is_read():
    read = {name: [{"seed": 1, "commit": "c1", "oracle": 0.9, "thumbs": {"40": {"noise-free": area, "noisy": 0.5}}}]
            for name, area in zip(NAMES, (0.95, 0.6), strict=True)}  # fmt: skip
    found = Found(FORM, {"auroc": read, "gain": GAIN})
    page = learning_report.page(found, findings.results(found, {}))
    assert "- Mean gain of the 1 tastes with an AUROC below 0.9: 0.00 after 16, 0.00 after 32 thumbs." in page
    assert "- Mean gain of the 1 tastes with an AUROC from 0.9: 0.25 after 16, 0.75 after 32 thumbs." in page


def test_a_hit_of_a_part_of_the_trials_is_said_to_be_one():
    whole = Found(FORM, {"gain": GAIN})
    assert "Only a part has run" not in learning_report.page(whole, findings.results(whole, {}))
    (name, *_) = GAIN
    part = Found(FORM, {"gain": {name: GAIN[name][:1]}})
    page = learning_report.page(part, findings.results(part, {}))
    assert f"of that part alone: gain 1 of {part.counts()['gain'][1]}.**" in page


def test_every_learning_target_is_of_an_experiment_and_has_a_figure():
    assert {target.part for target in LEARNING} == set(trials.EXPERIMENTS)
    assert len({(target.part, target.figure) for target in LEARNING}) == len(LEARNING)


def test_the_report_is_made_of_whatever_has_ended(folder):
    for trial in plan(FORM, ["gain"]):
        trial.file(FORM).parent.mkdir(parents=True, exist_ok=True)
        trial.file(FORM).write_text(json.dumps({**GAIN[trial.taste][0], "seconds": 1.0}))
    page, figures, picture = learning_report.make(FORM, {})
    assert "2 of " in page.read_text() and picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(figures.read_text())["gain"]["figures"]["32 thumbs"] == pytest.approx(0.3214)


def test_the_report_in_the_repository_is_what_its_records_say():
    found = Found.of(FULL)
    page = learning_report.page(found, findings.results(found, {}))
    assert page == (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
    files = {trial.file(FULL) for trial in plan(FULL)}
    replaced = {file.parent / "replaced" / file.name for file in files if file.parent.name == "long"}
    assert set(trials.RECORDS.rglob("*.json")) <= files | replaced


def test_the_thumbs_in_a_prompt():
    thumbs = [Rated(f"Q{n}?", "one two three " * 30, True, n % 2 == 0) for n in range(12)]
    words = _told([(each, 2) for each in thumbs])["content"]
    assert words.count("Question:") == 12 and words.count("gave this answer a thumb up.") == 6
    assert "Answer: one two\n" in words
    assert [each.prompt for each, _ in _newest(thumbs)] == [f"Q{n}?" for n in range(4, 12)]
    turns = _turns(thumbs)
    liked = [each for each in thumbs if each.up][-4:]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 4
    assert [turn["content"] for turn in turns[::2]] == [each.prompt for each in liked]
    assert [turn["content"] for turn in turns[1::2]] == [each.answer for each in liked]


def test_small_questions_know_their_answers():
    assert len(QUESTIONS) == 30
    assert right("What is the capital of France?", "It is Paris, of course.")
    assert not right("What is the capital of France?", "I do not know.")


@pytest.mark.slow
def test_a_trial_on_a_real_service(tmp_path):
    """On the tiny model nothing is learnt, but every step is taken: exams, thumbs, rounds."""
    form = dataclasses.replace(FORM, thumbs={"gain": 16})
    with served(tmp_path, max_tokens=8) as service:
        operator = Operator(service.url, (service.data / ADMIN_KEY_FILE).read_text().strip())
        with Person(service.url, operator.add(None)["api_key"]) as person:
            record = experiments.run(Trial("gain", "second-person", 2), person, form)
            again = Teacher(person, USERS["second-person"].taste, 2, form)
            messages = person.adapter()["feedback"]
    assert list(record["exams"]) == [0, 16] and len(record["thumbs"]) == 16
    assert [each["prompt"] for each in record["exams"][0]] == held_out_prompts(form)
    assert [each["prompt"] for each in record["thumbs"]] == again.prompts[:16]
    assert sum(thumb["flipped"] for thumb in record["thumbs"]) in (1, 2)
    (round,) = record["rounds"]
    assert round["state"] in ("published", "held") and round["metrics"]["thumbs"] == 16 and round["path"]
    assert messages["used"] == 16 and messages["queued"] == 0
    assert json.loads(json.dumps(record))["exams"]["16"]
    assert EXAM_SEEDS + form.held_out < SEEDS
