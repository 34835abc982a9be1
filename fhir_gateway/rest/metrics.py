"""Figures for operators in Prometheus' text format; no label ever carries patient data."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from fhir_gateway.rest.metrics_messages import message_families
from fhir_gateway.store.jobs import OPEN_STATES, Figure
from fhir_gateway.store.message_figures import Waiting
from fhir_gateway.store.messages import Count
from fhir_gateway.transparency.watermark import Watermark

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class _Timed:
    """How often a route was asked and how long it took, by upper bound."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BUCKETS) + 1)
        self.total = 0.0


class Metrics:
    """The figures of one process. With several workers each answers for itself.

    Counting is adding to plain numbers, because it is done for every request; the families of
    prometheus-client are made when somebody asks for the page.
    """

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, _Timed] = {}
        self._events = dict.fromkeys(_EVENTS, 0)
        self._jobs: tuple[Figure, ...] = ()
        self._now = 0
        self._counts: tuple[Count, ...] = ()
        self._waiting: tuple[Waiting, ...] = ()
        self._log: Watermark | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one request."""
        key = (method if method in _METHODS else "OTHER", route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        timed = self._seconds.get(route)
        if timed is None:
            timed = self._seconds[route] = _Timed()
        timed.buckets[bisect_left(_BUCKETS, seconds)] += 1
        timed.total += seconds

    def count(self, event: str, by: int) -> None:
        """Counts an event of the interactions (context.Counter)."""
        self._events[event] = self._events.get(event, 0) + by

    def jobs(self, figures: Sequence[Figure], *, now: int) -> None:
        """Takes note of the long work as it stands at this moment (µs)."""
        self._jobs, self._now = tuple(figures), now

    def messages(self, counts: Sequence[Count], waiting: Sequence[Waiting]) -> None:
        """Takes note of the register of messages as it stands."""
        self._counts, self._waiting = tuple(counts), tuple(waiting)

    def audit_log(self, mark: Watermark) -> None:
        """Takes note of how far the audit log is signed."""
        self._log = mark

    def collect(self) -> Iterator[Metric]:
        """The families, as prometheus-client's registry asks for them."""
        requests = CounterMetricFamily(
            "fhir_gateway_requests",
            "Requests by method, route template and status",
            labels=("method", "route", "status"),
        )
        for (method, route, status), number in self._requests.items():
            requests.add_metric((method, route, str(status)), number)
        yield requests
        seconds = HistogramMetricFamily(
            "fhir_gateway_request_seconds",
            "Time from the first byte of a request to the last of its answer, by route template",
            labels=("route",),
        )
        for route, timed in self._seconds.items():
            below = zip((*map(str, _BUCKETS), "+Inf"), accumulate(timed.buckets), strict=True)
            seconds.add_metric((route,), list(below), timed.total)
        yield seconds
        events = CounterMetricFamily(
            "fhir_gateway_events",
            "What the interactions count: commits, disclosures, unmapped codes …",
            labels=("event",),
        )
        for event, number in self._events.items():
            if "|" not in event:
                events.add_metric((event,), number)
        yield events
        yield from self._recognition()
        yield from self._long_work()
        yield from self._audit_log()
        yield from message_families(self._counts, self._waiting)

    def _recognition(self) -> Iterator[Metric]:
        """What institutions were reminded of and answered (recognition.answer_figures): events
        whose name has labels behind it, as in `answers|INSTITUTION|repeated|N1`."""
        reminders = CounterMetricFamily(
            "fhir_gateway_reminders",
            "Order lines for which an earlier result was shown, by institution",
            labels=("institution",),
        )
        answers = CounterMetricFamily(
            "fhir_gateway_answers",
            "Doctors' answers by institution, answer, and ground of a repeat",
            labels=("institution", "answer", "ground"),
        )
        for event, number in self._events.items():
            name, *labels = event.split("|")
            if name == "reminders" and len(labels) == 1:
                reminders.add_metric(labels, number)
            elif name == "answers" and len(labels) == 3:
                answers.add_metric(labels, number)
        yield reminders
        yield answers

    def _long_work(self) -> Iterator[Metric]:
        """How much there is, and how old the oldest that waits and the oldest that runs are."""
        jobs = GaugeMetricFamily(
            "fhir_gateway_jobs", "Long work by kind and state", labels=("kind", "state")
        )
        for one in self._jobs:
            jobs.add_metric((one.kind, one.state), one.number)
        yield jobs
        ages = GaugeMetricFamily(
            "fhir_gateway_oldest_job_seconds",
            "Age of the oldest job that waits and of the oldest that runs; 0 when there is none",
            labels=("state",),
        )
        for state in OPEN_STATES:
            since = min((one.since for one in self._jobs if one.state == state), default=self._now)
            ages.add_metric((state,), max(0, self._now - since) / 1_000_000)
        yield ages

    def _audit_log(self) -> Iterator[Metric]:
        """How far the log of the audit is signed, and what waits for it: the alarm is `late`."""
        if self._log is None:
            return
        for name, help, value in (
            ("size", "Entries under the newest signed head", self._log.size),
            ("waiting", "Entries that are not numbered yet", self._log.waiting),
            ("behind_seconds", "How long the first of them has waited", self._log.behind),
            ("silent_seconds", "Time since a head was signed", self._log.silent),
            ("late", "1 when nothing is signed, or not in time: look at once", self._log.late),
        ):
            yield GaugeMetricFamily(f"fhir_gateway_audit_log_{name}", help, value=float(value))

    def page(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self._registry)


#: Shown from the start, so that a rate can be taken before the first of them.
_EVENTS = ("commits", "disclosures", "marks_unregistered", "profile_issues", "quota_alarms",
           "quota_refusals", "shed", "unmapped")  # fmt: skip

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
