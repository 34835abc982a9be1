"""The life of a rule set: draft, active, retired, never back. Pure.

A draft is edited at will. Once it is active nothing of it changes but its status, to retired, and
the end of its period, from today on: every decision names the version it was made by, and what
that version said must not move. docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import Issue
from fhir_gateway.recognition.situation import period

#: What may follow a status (None: the resource is new).
NEXT: Mapping[str | None, tuple[str, ...]] = {
    None: ("draft",),
    "draft": ("draft", "active"),
    "active": ("active", "retired"),
    "retired": ("retired",),
}

#: What may change in a step from one status to another; a draft changes at will.
_STATUS, _END = "PlanDefinition.status", "PlanDefinition.effectivePeriod.end"
MAY_CHANGE: Mapping[tuple[str, str], frozenset[str]] = {
    ("draft", "active"): frozenset({_STATUS}),
    ("active", "active"): frozenset({_END}),
    ("active", "retired"): frozenset({_STATUS, _END}),
    ("retired", "retired"): frozenset(),
}  # fmt: skip

_WHY = {
    None: "A rule set begins as a draft, so that it can be simulated and approved",
    "draft": "A draft that is not wanted is deleted",
    "active": "An active rule set is retired, never made a draft again: publish a new version",
    "retired": "A retired rule set stays as it was decided by: publish a new version",
}

#: Elements that say nothing of the rules: who stored it, and when.
_ASIDE = ("id", "meta")
_NOT_APPROVED = frozenset({*_ASIDE, "status", "approvalDate", "text"})
MOST_TOLD = 20

_sorted = msgspec.json.Encoder(order="deterministic", decimal_format="string", enc_hook=str)

Definition = Mapping[str, Any]


class Day(NamedTuple):
    """The moment of a change, in microseconds, and the zone whose days count."""

    now: int
    zone: str


def content_digest(definition: Definition) -> str:
    """What was simulated and approved: all of a draft but its status and approvalDate."""
    kept = {name: value for name, value in definition.items() if name not in _NOT_APPROVED}
    return hashlib.sha256(_sorted.encode(kept)).hexdigest()


def step_faults(before: Definition | None, after: Definition, day: Day) -> list[Issue]:
    """Why a rule set may not become this one; each with the element that is not to change."""
    was = str(before.get("status")) if before is not None else None
    becomes = str(after.get("status"))
    if becomes not in NEXT.get(was, ()):
        step = f"from {was} to {becomes}" if was else f"from nothing to {becomes}"
        text = f"The status cannot go {step}. {_WHY.get(was, '')}"
        return [_fault("PlanDefinition.status", text, "rule-set-status")]
    if before is None or (was, becomes) == ("draft", "draft"):
        return []
    assert was is not None
    allowed = MAY_CHANGE[was, becomes]
    faults = [
        _fault(path, f"This element of a rule set that is {_named(was, becomes)} stays as it is: "
               f"{_may(allowed)}", "rule-set-frozen")
        for path in changed_elements(before, after)
        if path not in allowed
    ]  # fmt: skip
    return faults[:MOST_TOLD] or _end_faults(before, after, day)


def _named(was: str, becomes: str) -> str:
    return "being activated" if (was, becomes) == ("draft", "active") else was


def _may(allowed: frozenset[str]) -> str:
    if not allowed:
        return "nothing of it changes any more; publish a new version"
    names = " and ".join(sorted(one.removeprefix("PlanDefinition.") for one in allowed))
    return f"only {names} may change; publish a new version for the rest"


def _end_faults(before: Definition, after: Definition, day: Day) -> list[Issue]:
    """The end may move from today on: the past is as it was decided."""
    had, has = _end(before, day), _end(after, day)
    path = _END
    if had == has:
        return []
    if had < day.now:
        return [_fault(path, "The period is over, and is not opened again", "rule-set-period")]
    if has < day.now:
        return [_fault(path, "The end may be moved to today or later", "rule-set-period")]
    return []


def _end(definition: Definition, day: Day) -> int:
    days = definition.get("effectivePeriod") or {}
    return period(days.get("start", ""), days.get("end", ""), day.zone)[1]


def deletion_faults(before: Definition) -> list[Issue]:
    """Why a rule set may not be deleted: only a draft may, nothing was decided by it."""
    if before.get("status") == "draft":
        return []
    text = "A rule set that was active is kept, so that what it decided can be decided again"
    return [_fault("PlanDefinition", text, "rule-set-kept")]


def _fault(path: str, text: str, rule: str) -> Issue:
    return Issue("conflict", text, path, rule)


def changed_elements(before: Definition, after: Definition) -> Iterator[str]:
    """The FHIRPaths of what differs, without what says nothing of the rules."""
    names = [name for name in {**before, **after} if name not in _ASIDE]
    for name in names:
        yield from _changed(before.get(name), after.get(name), f"PlanDefinition.{name}")


def _changed(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _changed(before.get(name), after.get(name), f"{path}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changed(one, other, f"{path}[{number}]")
    elif before in (None, {}) and isinstance(after, dict):
        for name in after:
            yield f"{path}.{name}"
    elif after in (None, {}) and isinstance(before, dict):
        for name in before:
            yield f"{path}.{name}"
    else:
        yield path
