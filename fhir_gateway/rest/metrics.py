"""Figures for operators in Prometheus' text format; no label ever carries patient data."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metrics:
    """The figures of one process. With several workers each answers for itself."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "fhir_gateway_requests",
            "Requests by method, route template and status",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "fhir_gateway_request_seconds",
            "Time from the first byte of a request to the last of its answer, by route template",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._events = Counter(
            "fhir_gateway_events",
            "What the interactions count: commits, disclosures, unmapped codes …",
            ("event",),
            registry=self._registry,
        )
        # looking labels up costs more than counting
        self._of_request: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._of_event = {event: self._events.labels(event).inc for event in _EVENTS}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one request."""
        key = (method, route, status)
        observe = self._of_request.get(key)
        if observe is None:
            observe = self._of_request[key] = self._meter(*key)
        observe(seconds)

    def _meter(self, method: str, route: str, status: int) -> Callable[[float], None]:
        known = method if method in _METHODS else "OTHER"
        count = self._requests.labels(known, route, str(status)).inc
        time = self._seconds.labels(route).observe

        def observe(seconds: float) -> None:
            count()
            time(seconds)

        return observe

    def count(self, event: str, by: int) -> None:
        """Counts an event of the interactions (context.Counter)."""
        increase = self._of_event.get(event)
        if increase is None:
            increase = self._of_event[event] = self._events.labels(event).inc
        increase(by)

    def page(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self._registry)


#: Shown from the start, so that a rate can be taken before the first of them.
_EVENTS = ("commits", "disclosures", "unmapped")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
