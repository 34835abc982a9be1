"""Figures of the register of messages for Prometheus: by institution and door, no patient data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from fhir_gateway.store.message_figures import Waiting
from fhir_gateway.store.messages import Count

_OUTCOMES = ("stored", "flagged", "refused", "repeated")


def message_families(counts: Sequence[Count], waiting: Sequence[Waiting]) -> Iterator[Metric]:
    """Messages by institution, door and outcome; when the last came; what waits, by rule."""
    messages = CounterMetricFamily(
        "fhir_gateway_messages",
        "Messages by institution, door and outcome, since the store was made",
        labels=("institution", "door", "outcome"),
    )
    newest = GaugeMetricFamily(
        "fhir_gateway_last_message_timestamp_seconds",
        "When the newest message of an institution came by a door",
        labels=("institution", "door"),
    )
    sums: dict[tuple[str, str], tuple[list[int], int]] = {}
    for row in counts:
        before, last = sums.get((row.institution, row.door), ([0] * len(_OUTCOMES), 0))
        added = [one + getattr(row, name) for one, name in zip(before, _OUTCOMES, strict=True)]
        sums[row.institution, row.door] = added, max(last, row.last)
    for (institution, door), (numbers, last) in sums.items():
        for outcome, number in zip(_OUTCOMES, numbers, strict=True):
            messages.add_metric((institution, door, outcome), number)
        newest.add_metric((institution, door), last / 1_000_000)
    yield messages
    yield newest
    dead = GaugeMetricFamily(
        "fhir_gateway_dead_letters",
        "Refused messages that wait, by institution and rule",
        labels=("institution", "rule"),
    )
    for one in waiting:
        dead.add_metric((one.institution, one.rule), one.letters)
    yield dead
