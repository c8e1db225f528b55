"""What the operator sees: health, readiness, metrics, the page of all calls, and logs without anybody's words."""

import dataclasses
import threading
from contextlib import suppress

import pytest

from adapters.store import Version
from feedback.connection import StoreUnavailable, connect
from service import examples
from service.shown import METRICS
from tests.servers import server
from tests.serving import alone, ask, events, problem, running

OPEN = ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"]
CALLS = {
    ("post", "/v1/users"), ("get", "/v1/users"), ("delete", "/v1/users/{id}"), ("post", "/v1/users/{id}/keys"),
    ("get", "/v1/me"), ("delete", "/v1/me"), ("get", "/v1/me/data"),
    ("post", "/v1/chat/completions"), ("get", "/v1/models"), ("get", "/v1/messages"), ("get", "/v1/messages/{id}"),
    ("put", "/v1/messages/{id}/feedback"), ("get", "/v1/messages/{id}/feedback"),
    ("delete", "/v1/messages/{id}/feedback"), ("post", "/v1/feedback"),
    ("get", "/v1/adapter"), ("get", "/v1/adapter/versions"), ("post", "/v1/adapter/rounds"),
    ("get", "/v1/adapter/rounds"), ("get", "/v1/adapter/rounds/{id}"), ("post", "/v1/adapter/rollback"),
    ("post", "/v1/adapter/reset"), ("get", "/v1/adapter/export"), ("post", "/v1/adapter/import"),
    ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
}  # fmt: skip


@pytest.mark.parametrize("path", OPEN)
def test_the_operators_machines_need_no_key(api, path):
    assert api.call("GET", path).status_code == 200


def test_ready_says_what_a_rating_is_worth(tmp_path):
    with alone(tmp_path / "a") as api:
        ready = api.call("GET", "/readyz").json()
        assert (ready["status"], ready["durability"], ready["reasons"]) == ("ready", "strong", [])
    (tmp_path / "b").mkdir()
    with server(tmp_path / "weak", appendonly="no") as url, running(tmp_path / "b" / "data", url) as api:
        ready = api.call("GET", "/readyz").json()
        assert ready["durability"] == "weak" and "appendonly" in ready["durability_reasons"][0]
        assert "DURABILITY IS WEAK" in api.log.read_text()


def test_not_ready_says_why_and_not_where(tmp_path):
    with server(tmp_path / "redis", appendonly="yes") as url, running(tmp_path / "data", url) as api:
        with connect(url) as redis, suppress(StoreUnavailable):  # it goes without a word
            redis.shutdown(nosave=True)
        unready = api.call("GET", "/readyz")
        assert unready.status_code == 503 and unready.json()["reasons"] == [
            "Redis does not answer; the log says more"
        ]
        assert str(tmp_path) not in unready.text


def test_every_metric_is_ours_and_names_nobody(api, user):
    answer = ask(user, "words that nobody may see")
    user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "up"})
    user.get("/v1/messages/nobodys-id-in-a-path")
    text = api.call("GET", "/metrics").text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names and all(name.startswith("thumbtune_") for name in names)
    assert all(line.startswith(("#", "thumbtune_")) for line in text.splitlines())
    for told in (user.id, answer["id"], "words", "nobodys-id"):
        assert told not in text
    assert 'route="/v1/messages/{id}"' in text and 'thumbtune_ratings_total{rating="up"}' in text


def test_the_log_holds_nobodys_words_ids_or_key(api, user):
    answer = ask(user, "xyzzy-question")
    user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "up", "comment": "xyzzy-comment"})
    user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "xyzzy-wrong"})
    user.post("/v1/chat/completions", content=b'{"messages": "xyzzy-broken')
    user.get("/v1/messages/xyzzy-id?before=xyzzy-query")
    user.get("/xyzzy-path")
    log = api.log.read_text()
    for told in ("xyzzy", user.id, user.key, answer["id"]):
        assert told not in log
    assert "PUT /v1/messages/{id}/feedback 200" in log


def test_the_page_of_all_calls_is_whole_and_has_examples(api):
    page = api.call("GET", "/openapi.json").json()
    assert {(method, path) for path, calls in page["paths"].items() for method in calls} == CALLS
    schemas = page["components"]["schemas"]
    for name in ("ChatRequest", "Rating", "RatingOf", "NewUser", "Rollback", "Reset"):
        assert schemas[name]["examples"]
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    for calls in page["paths"].values():
        for call in calls.values():
            assert "422" not in call["responses"] and call["description"]
            assert "error" in call["responses"]["default"]["content"]["application/json"]["example"]


def test_the_examples_of_answers_have_the_fields_of_real_ones(api, user):
    page = api.call("GET", "/openapi.json").json()["paths"]
    shown = page["/v1/chat/completions"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert shown["usage"] == examples.CHAT["usage"]
    answer = ask(user)
    feedback = user.put(f"/v1/messages/{answer['id']}/feedback", json={"rating": "up"}).json()
    message = user.get(f"/v1/messages/{answer['id']}").json()
    round = user.post("/v1/adapter/rounds").json()
    for real, example in (
        (answer, examples.CHAT), (answer["choices"][0], examples.CHAT["choices"][0]),
        (feedback, examples.FEEDBACK), (message, examples.MESSAGE), (round, examples.ROUND),
        (user.get("/v1/adapter").json(), examples.ADAPTER),
    ):  # fmt: skip
        assert set(real) == set(example)
    assert set(examples.VERSION) == {each.name for each in dataclasses.fields(Version)}
    assert set(examples.VERSION["metrics"]) == set(METRICS)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("PATCH", "/v1/me", 405, "method_not_allowed"),
        ("BREW", "/v1/me", 405, "method_not_allowed"),
        ("GET", "/v1/messages/", 404, None),
        ("POST", "/%2e%2e/%2e%2e/etc/passwd", 404, "not_found"),
    ],
)
def test_what_the_framework_refuses_has_the_same_shape(api, user, method, path, status, code):
    problem(api.call(method, path, user.key), status, code)


def test_fifty_users_chat_at_once(api):
    """More than there are rows: all get their own answer."""
    users = [api.user() for _ in range(10)]
    asked = {"temperature": 0, "max_tokens": 30}
    alone_ = [
        ask(user, f"I am {number}", **asked)["choices"][0]["message"] for number, user in enumerate(users)
    ]
    together = {}

    def chat(number, user):
        body = {"messages": [{"role": "user", "content": f"I am {number}"}], **asked, "n": 5, "stream": True}
        texts = [""] * 5
        with user.stream("POST", "/v1/chat/completions", json=body) as response:
            for event in events(response):
                if event != "[DONE]":
                    choice = event["choices"][0]
                    texts[choice["index"]] += choice["delta"].get("content", "")
        together[number] = texts

    threads = [threading.Thread(target=chat, args=each) for each in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, user in enumerate(users):
        assert set(together[number]) == {alone_[number]["content"]}
        user.close()
