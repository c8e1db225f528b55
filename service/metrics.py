"""What the service counts of itself, for Prometheus. Every name begins `thumbtune_`.

Knows names, labels and buckets. Labels hold routes, status codes and the like: never a user's id, a key or a text.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # a second series for each counter, of no use here

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One set of counters, in a registry of its own: two services in one process do not share them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="thumbtune", registry=self._registry)
        self.requests = self._counter("requests", "HTTP requests answered", "route", "method", "status")
        self.request_seconds = self._histogram("request_seconds", "time until the last byte left", "route")
        self.answers = self._counter("answers", "answers that ended", "model", "finish_reason")
        self.tokens = self._counter("tokens", "tokens read and written", "kind")
        self.first_token_seconds = self._histogram(
            "first_token_seconds", "time until an answer's first token"
        )
        self.running = self._gauge("answers_running", "answers that are being decoded")
        self.waiting = self._gauge("answers_waiting", "answers that wait for a row")
        self.ratings = self._counter(
            "ratings", "ratings taken in, changes and withdrawals included", "rating"
        )
        self.redis_up = self._gauge("redis_up", "1 when Redis answered the last check, else 0")
        self.durability_strong = self._gauge(
            "durability_strong", "1 when a rating is on disk before the answer"
        )
        self.due_users = self._gauge("due_users", "users with ratings that no round has learnt from yet")

    def text(self) -> bytes:
        """The exposition that `GET /metrics` answers with."""
        return generate_latest(self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"thumbtune_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"thumbtune_{name}", meaning, registry=self._registry)

    def _histogram(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(f"thumbtune_{name}", meaning, labels, registry=self._registry, buckets=SECONDS)
