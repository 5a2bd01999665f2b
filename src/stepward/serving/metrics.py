"""Meters: what /metrics tells, in Prometheus' text format. Each server has its own registry."""

from __future__ import annotations

from collections.abc import Iterable

from stepward.core import ABSTAINED, MissingExtra, StepScores, Usage

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
except ImportError as error:
    raise MissingExtra("prometheus-client", "serve") from error

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_SIZES = tuple(float(1 << power) for power in range(13))


class Meters:
    """Counters of one server. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        ProcessCollector(registry=registry)
        self._requests = Counter("stepward_requests", "HTTP requests that were answered", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "stepward_request_seconds", "Seconds from a request's first byte to its answer", ["route"], buckets=_SECONDS, registry=registry
        )
        self.queue = Gauge("stepward_queue_items", "Solutions that were accepted and not yet answered", registry=registry)
        self.ready = Gauge("stepward_ready", "1 when the model is loaded and requests are taken, else 0", registry=registry)
        self._batches = Histogram("stepward_batch_items", "Requests that a batch of the model held", buckets=_SIZES, registry=registry)
        self._items = Counter("stepward_items", "Solutions that were scored", registry=registry)
        self._steps = Counter("stepward_steps", "Steps of the solutions that were scored", registry=registry)
        self._unscored = Counter("stepward_unscored_steps", "Steps without a score: abstained or failed", ["kind"], registry=registry)
        self._failed = Counter("stepward_failed_items", "Solutions of which no step could be scored, by error", ["error"], registry=registry)
        self._tokens = Counter("stepward_tokens", "Tokens of reward models: computed, cached (spared) or written", ["kind"], registry=registry)
        for kind in ("computed", "cached", "written"):
            self._tokens.labels(kind)
        for kind in (ABSTAINED, "failed"):
            self._unscored.labels(kind)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the path's template, so that clients cannot make up series."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batches(self, sizes: Iterable[float]) -> None:
        """Batches of these sizes ran."""
        for size in sizes:
            self._batches.observe(size)

    def scored(self, scores: StepScores, paid: Usage) -> None:
        """A solution was scored, at this cost."""
        self._items.inc()
        self._steps.inc(len(scores))
        self._unscored.labels(ABSTAINED).inc(scores.n_unscored - scores.n_failed)
        self._unscored.labels("failed").inc(scores.n_failed)
        for kind, count in (("computed", paid.reward_tokens), ("cached", paid.reward_cached), ("written", paid.reward_written)):
            self._tokens.labels(kind).inc(count)

    def failed(self, error: Exception) -> None:
        """A solution could not be scored at all."""
        self._failed.labels(type(error).__name__).inc()

    def page(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)
