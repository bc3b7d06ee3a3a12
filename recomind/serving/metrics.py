"""Counts and times of a service in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from recomind.serving.scored import Counts

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class ServiceMetrics:
    """What `GET /metrics` tells.

    Args:
        num_waiting: asked for at every scrape.
        num_ready: likewise, replicas that answer.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, num_waiting: Callable[[], int], num_ready: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "recomind_requests", "Bodies by path and status", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "recomind_request_seconds",
            "From the head of a request to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._counts = Counter(
            "recomind_rows",
            "Requests scored: all, by a fall-back to the ranker, for it was late, control, ...",
            ["kind"],
            registry=registry,
        )
        self._shadow = Counter(
            "recomind_shadow", "Decisions of a scorer that is tried", ["kind"], registry=registry
        )
        self._best = Summary(
            "recomind_best_score", "Best score of each request, to see a drift", registry=registry
        )
        self._loads = Counter(
            "recomind_loads", "Scorers loaded while serving", ["outcome"], registry=registry
        )
        waiting = Gauge("recomind_waiting", "Bodies that wait for a replica", registry=registry)
        waiting.set_function(num_waiting)
        ready = Gauge("recomind_replicas_ready", "Replicas that answer", registry=registry)
        ready.set_function(num_ready)

    @contextmanager
    def timed(self, path: str) -> Iterator[None]:
        """Observe how long the body takes."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(path).observe(time.perf_counter() - begin)

    def add(self, counts: Counts) -> None:
        """Add what a replica counted over one batch."""
        for kind in ("scored", "fallen_back", "late", "control", "explored", "unlogged"):
            self._counts.labels(kind).inc(getattr(counts, kind))
        if counts.shadow is not None:
            for kind, num in asdict(counts.shadow).items():
                self._shadow.labels(kind).inc(num)
        for score in counts.best_scores:
            self._best.observe(score)

    def loaded(self, *, accepted: bool) -> None:
        """Count a `POST /admin/load`."""
        self._loads.labels("accepted" if accepted else "refused").inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
