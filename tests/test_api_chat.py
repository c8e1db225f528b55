"""Chat over HTTP: OpenAI's contract by its own client, the message log, stops, seeds, limits, and who leaves early."""

import json
import threading
import time

import httpx
import openai
import pytest

from tests.learnt import Trainer
from tests.serving import alone, ask, events, problem, running

HELLO = [{"role": "user", "content": "Hello"}]
LONG = {"messages": HELLO, "temperature": 0, "max_tokens": 450}  # greedy, the tiny model goes on to the limit


def official(api, key):
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0)


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def kept(user):
    """The user's messages, newest first."""
    return user.get("/v1/messages").json()["data"]


def gauge(api, name):
    with api.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"thumbtune_{name} "))


def test_the_official_client_chats(api, user):
    client = official(api, user.key)
    answer = client.chat.completions.create(model="personal", messages=HELLO, max_tokens=6, seed=1)
    assert answer.id.startswith("msg_") and answer.adapter_version == 0
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens <= 6
    assert [model.id for model in client.models.list()] == ["personal", "base"]


def test_the_official_client_streams_what_it_would_have_got_whole(api, user):
    client = official(api, user.key)
    asked = {"model": "personal", "messages": HELLO, "max_tokens": 40, "seed": 3}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert all(chunk.adapter_version == 0 and chunk.id == chunks[0].id for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert user.get(f"/v1/messages/{chunks[0].id}").json()["answer"] == text


def test_the_official_client_gets_its_own_errors(api, user):
    client = official(api, "wrong")
    with pytest.raises(openai.AuthenticationError) as error:
        client.chat.completions.create(model="personal", messages=HELLO)
    assert error.value.code == "invalid_api_key" and error.value.type == "authentication_error"
    client = official(api, user.key)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert refused.value.param == "model" and "'personal' or 'base'" in refused.value.message


def test_an_answer_is_in_the_log_with_all_that_made_it(user):
    answer = ask(user, "Hi", seed=7, temperature=0.5, top_p=0.8, model="base", max_tokens=5)
    logged = user.get(f"/v1/messages/{answer['id']}").json()
    assert logged["messages"] == [{"role": "user", "content": "Hi"}]
    assert logged["answer"] == answer["choices"][0]["message"]["content"]
    assert logged["finish_reason"] == answer["choices"][0]["finish_reason"]
    assert (logged["seed"], logged["temperature"], logged["top_p"], logged["model"]) == (7, 0.5, 0.8, "base")
    assert (logged["max_tokens"], logged["adapter_version"], logged["feedback"]) == (5, 0, None)


def test_defaults_are_those_of_the_contract(user):
    answer = ask(user, max_tokens=None)
    logged = user.get(f"/v1/messages/{answer['id']}").json()
    assert (logged["max_tokens"], logged["temperature"], logged["top_p"]) == (160, 0.7, 0.9)
    assert logged["model"] == "personal"
    again = ask(
        user, max_tokens=None, seed=logged["seed"]
    )  # a seed that was drawn is told, and repeats the answer
    assert again["choices"][0]["message"] == answer["choices"][0]["message"]


def test_every_choice_is_a_message_and_the_first_is_the_one_alone(user):
    three = ask(user, n=3, seed=5, max_tokens=12)
    ids = [choice["message_id"] for choice in three["choices"]]
    assert len(set(ids)) == 3 and three["id"] == ids[0]
    texts = [choice["message"]["content"] for choice in three["choices"]]
    assert len(set(texts)) > 1
    assert texts[0] == ask(user, seed=5, max_tokens=12)["choices"][0]["message"]["content"]
    assert texts == [
        choice["message"]["content"] for choice in ask(user, n=3, seed=5, max_tokens=12)["choices"]
    ]
    assert [user.get(f"/v1/messages/{id}").json()["answer"] for id in ids] == texts


def test_choices_stream_side_by_side(user):
    body = {"messages": HELLO, "max_tokens": 12, "seed": 5, "n": 3, "stream": True}
    texts, ended = ["", "", ""], set()
    with user.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *chunks, done = events(response)
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            ended.add(choice["message_id"])
    assert done == "[DONE]" and len(ended) == 3
    assert texts == [each["message"]["content"] for each in ask(user, n=3, seed=5, max_tokens=12)["choices"]]


def test_a_stop_string_ends_the_answer_and_is_not_in_it(user):
    whole = ask(user, temperature=0, max_tokens=60)["choices"][0]["message"]["content"]
    stop = whole[10:13]  # three characters, so at least three of the tiny model's tokens
    cut = ask(user, temperature=0, max_tokens=60, stop=[stop, "never said"])["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_content_may_come_in_parts_and_harmless_extras_are_ignored(user):
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}]
    extras = {
        "user": "x",
        "presence_penalty": 0,
        "tools": [],
        "response_format": {"type": "text"},
        "store": True,
    }
    whole = ask(user, seed=1)["choices"][0]["message"]
    assert ask(user, seed=1, messages=parts, **extras)["choices"][0]["message"] == whole


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "a\x00b"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"model": "gpt-4"}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": 2**70}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"stop": 5}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"type": "function"}]}, None),
        ({"response_format": {"type": "json_object"}}, None),
        ({"logprobs": True}, None),
        ({"presence_penalty": 0.5}, None),
    ],
)
def test_what_cannot_be_is_400_and_names_the_field(user, wrong, param):
    body = json.dumps({"messages": HELLO, **wrong})
    response = user.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    problem(response, 400)
    assert response.json()["error"]["param"] == param
    assert user.get("/v1/messages").json()["data"] == []


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"messages": NaN}', "[" * 100_000, '{"seed": ' + "9" * 5000 + "}"]
)
def test_what_is_no_request_at_all_is_400(user, body):
    headers = {"Content-Type": "application/json"}
    problem(user.post("/v1/chat/completions", content=body, headers=headers), 400)


def test_a_prompt_past_the_context_is_400_with_both_numbers(user):
    response = user.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x" * 600}]})
    message = problem(response, 400, "context_length_exceeded")
    assert "512" in message and "6" in message
    assert user.get("/v1/messages").json()["data"] == []


def test_an_answer_ends_where_the_context_does(user):
    answer = ask(user, "x" * 480, temperature=0, max_tokens=400)
    assert answer["usage"]["total_tokens"] == 512 and answer["choices"][0]["finish_reason"] == "length"


def test_an_answer_finishes_on_the_version_that_it_began_with(api, user):
    asked = {**LONG, "max_tokens": 300}
    with Trainer(api, user) as trainer:
        before = ask(user, **asked)["choices"][0]["message"]["content"]
        text, versions = "", set()
        with user.stream("POST", "/v1/chat/completions", json={**asked, "stream": True}) as response:
            for event in events(response):
                if not versions:
                    assert trainer.publish() == 1
                if event != "[DONE]":
                    versions.add(event["adapter_version"])
                    text += event["choices"][0]["delta"].get("content", "")
        assert (text, versions) == (before, {0})
        assert ask(user)["adapter_version"] == 1


def test_messages_are_listed_newest_first_page_by_page(user):
    ids = [ask(user, str(number), max_tokens=1)["id"] for number in range(5)]
    first = user.get("/v1/messages", params={"limit": 2}).json()
    second = user.get("/v1/messages", params={"limit": 2, "before": first["next"]}).json()
    third = user.get("/v1/messages", params={"limit": 2, "before": second["next"]}).json()
    assert [each["id"] for page in (first, second, third) for each in page["data"]] == ids[::-1]
    assert third["next"] is None
    problem(user.get("/v1/messages", params={"limit": 0}), 400)


def test_another_users_message_is_404(api, user):
    id = ask(user)["id"]
    with api.user() as other:
        problem(other.get(f"/v1/messages/{id}"), 404, "message_not_found")
        assert other.get("/v1/messages").json() == {"data": [], "next": None}


def test_a_stream_that_is_left_frees_its_place_and_is_kept_as_far_as_it_was_sent(api, user):
    received = ""
    with user.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as response:
        for event in events(response):
            received += event["choices"][0]["delta"].get("content", "")
            if len(received) > 20:
                break
    wait_until(lambda: gauge(api, "answers_running") == 0 and kept(user)[0]["finish_reason"])
    (message,) = kept(user)
    assert message["finish_reason"] == "cancelled"
    assert message["answer"].startswith(received) and len(message["answer"]) < 400


def test_a_whole_answer_that_nobody_waits_for_is_cancelled_and_empty(api, user):
    with pytest.raises(httpx.ReadTimeout):
        user.post("/v1/chat/completions", json={**LONG, "n": 8}, timeout=0.4)
    wait_until(
        lambda: gauge(api, "answers_running") == 0 and all(each["finish_reason"] for each in kept(user))
    )
    # On a busy machine the caller may be gone before the first token, and nothing is kept of what never began.
    assert {(each["finish_reason"], each["answer"]) for each in kept(user)} <= {("cancelled", "")}


def test_more_than_the_service_takes_on_is_429_and_passes(tmp_path):
    with alone(tmp_path, rows=2, max_waiting=2) as api, api.user() as user:
        body = {**LONG, "n": 4, "stream": True}
        too_many = user.post("/v1/chat/completions", json={**body, "n": 5})
        assert problem(too_many, 400, "invalid_value") == "n: at most 4 choices"  # however often it is sent
        with user.stream("POST", "/v1/chat/completions", json=body) as response:
            stream = events(response)
            next(stream)
            refused = user.post("/v1/chat/completions", json={"messages": HELLO})
            problem(refused, 429, "overloaded")
            assert int(refused.headers["Retry-After"]) >= 1
        wait_until(lambda: gauge(api, "answers_running") == 0)
        ask(user)


def test_one_users_many_answers_leave_places_for_another(tmp_path):
    with alone(tmp_path, rows=2, max_waiting=2) as api, api.user() as greedy, api.user() as other:
        body = {**LONG, "n": 2, "stream": True}
        with greedy.stream("POST", "/v1/chat/completions", json=body) as response:
            stream = events(response)
            next(stream)
            refused = greedy.post("/v1/chat/completions", json={"messages": HELLO})
            assert "2 of your answers" in problem(refused, 429, "overloaded")
            assert int(refused.headers["Retry-After"]) >= 1
            ask(other)


def test_a_stop_lets_answers_finish_within_the_grace_time(tmp_path):
    with alone(tmp_path, grace=20) as api, api.user() as user:
        with user.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as response:
            stream = events(response)
            next(stream)
            stopping = threading.Thread(target=api.stop)
            stopping.start()
            *_, last, done = stream
        stopping.join()
        assert last["choices"][0]["finish_reason"] == "length" and done == "[DONE]"
        assert api.process.returncode == 0


def test_what_does_not_finish_in_the_grace_time_is_cut_off_told_and_kept(tmp_path):
    with alone(tmp_path, grace=0.1) as api, api.user() as user:
        text = ""
        with user.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True, "n": 8}) as response:
            stream = events(response)
            next(stream)
            stopping = threading.Thread(target=api.stop)
            stopping.start()
            *chunks, done = stream
        stopping.join()
        assert done == "[DONE]" and chunks[-1]["choices"][0]["finish_reason"] == "cancelled"
        for chunk in chunks:
            if chunk["choices"][0]["index"] == 0:
                text += chunk["choices"][0]["delta"].get("content", "")
        with running(api.data, api.redis_url) as again, again.client(user.key) as client:
            assert {each["finish_reason"] for each in kept(client)} == {"cancelled"}
            assert kept(client)[-1]["answer"] == text


def test_a_killed_service_leaves_its_answers_cancelled(tmp_path):
    with alone(tmp_path) as api, api.user() as user:
        with user.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True, "n": 4}) as response:
            stream = events(response)
            next(stream)
            api.process.kill()
            api.process.wait()
        with running(api.data, api.redis_url) as again, again.client(user.key) as client:
            assert [each["finish_reason"] for each in kept(client)] == ["cancelled"] * 4
