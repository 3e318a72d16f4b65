"""Counts and times of a server, in the text format of Prometheus."""

from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds; upper bounds of the buckets of the histogram."""
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

disable_created_metrics()  # type: ignore[no-untyped-call]  # else a second series each counter


class ServerMetrics:
    """What a server has done since it started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = Counter(
            "attnrec_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        seconds = Histogram(
            "attnrec_request_seconds", "From head to answer.", ["route"], buckets=BOUNDS,
            registry=self.registry,
        )  # fmt: skip
        reloads = Counter(
            "attnrec_reloads", "Attempts to load the file again.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self.reloaded, self.not_reloaded = reloads.labels("success"), reloads.labels("failure")

        @cache  # `labels` takes as long as both counts
        def of(route: str, status: int) -> tuple[Counter, Histogram]:
            return requests.labels(route, status), seconds.labels(route)

        self._of = of

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request. route: one of few, never a path that a client sent."""
        count, histogram = self._of(route, status)
        count.inc()
        histogram.observe(seconds)

    def render(self) -> bytes:
        """Everything as text."""
        return generate_latest(self.registry)
