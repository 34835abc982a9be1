"""Criteria about the person, the times and the occasion, in their later versions.

`identity-certain@2` knows of open proposals that another record is this person's.
`times-plausible@2` knows the birth. `zone-known@1`: a stamp without a zone is local time of the
zone that its source is registered with; without one nobody knows the moment. `within-window@2`
counts days or hours. `always-repeat@2` and `context-known@1` know when nobody says what the patient
is here for. docs/adr/0029; the first versions stand in criteria.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.recognition.findings import PASSED, Finding
from fhir_gateway.recognition.model import Candidate
from fhir_gateway.recognition.parameters import (
    AlwaysRepeatUnlessKnown,
    ChangeLimits,
    CountedWindow,
    IdentityRule,
    NoParameters,
)
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.recognition.values import Values, repeat_values

#: Reasons of times-plausible that set a result aside: it is told, and is no evidence.
IMPLAUSIBLE = frozenset({"future-dated", "issued-before-exam", "before-birth"})

_CONFLICT: Mapping[str, Finding] = {
    "undecided": ("unknown", "identity-contested", None),
    "refused": ("fail", "identity-refused", None),
}


def identity_certain_2(s: Situation, c: Candidate, p: IdentityRule) -> Finding:
    """The result is this person's, and no open proposal says that another record is, too."""
    identity = s.query.identity
    if identity.contested:
        return _CONFLICT[p.conflict]
    if identity.doubtful:
        return ("unknown", "confirm-identity", None)
    if identity.documented:
        return PASSED
    if p.own_record and c.issuer and c.issuer == s.query.receiver and c.patient == s.query.patient:
        return PASSED
    return ("unknown", "identity-undocumented", None)


def times_plausible_2(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The examination is not in the future, not after its own report, not before the birth."""
    now = s.query.as_of_us
    if c.time > now or c.issued > now:
        return ("unknown", "future-dated", None)
    if c.issued and c.issued < c.time:
        return ("unknown", "issued-before-exam", None)
    if c.time_high < s.born:
        return ("unknown", "before-birth", None)
    return PASSED


def zone_known(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The time is a moment: its stamp has a zone, or its source has one registered."""
    return PASSED if c.zone_known else ("unknown", "zone-unknown", None)


def within_window_2(s: Situation, c: Candidate, p: CountedWindow) -> Finding:
    """The examination, or the report, lies inside the item's window of days or hours."""
    start = s.window_start
    if s.window.days is None:
        return ("unknown", "no-window", None)
    if p.start == "issued":
        if not c.issued:
            return ("unknown", "issue-time-unknown", None)
        return PASSED if c.issued >= start else ("fail", "too-old", None)
    if c.time_high < start:
        return ("fail", "too-old", None)
    if c.time >= start and c.time_of != "issued":
        return PASSED
    return ("unknown", "exam-day-unknown", None)


def always_repeat_2(s: Situation, c: Candidate, p: AlwaysRepeatUnlessKnown) -> Finding:
    """Some items are done anew before an operation or a transfusion, or when neither is known."""
    item = s.ordered.item
    for context in s.query.context:
        if item in p.repeat.get(context, ()):
            return ("fail", "always-repeat", None)
    if item in p.unless_known and not s.query.context_known:
        return ("fail", "repeat-unless-known", None)
    return PASSED


def repeat_values_2(s: Situation, c: Candidate, p: AlwaysRepeatUnlessKnown) -> Values:
    """The situation and its ground; the ground alone where nobody knows the situation."""
    if said := repeat_values(s, c, p):
        return said
    known = s.query.context_known or s.ordered.item not in p.unless_known
    return {} if known else {"ground": p.ground}


def context_known(s: Situation, c: Candidate, p: Any) -> Finding:
    """Somebody said what the patient is here for: without it no order is offered to be left out."""
    return PASSED if s.query.context_known else ("unknown", "context-not-known", None)


def newest_first(s: Situation, c: Candidate, p: ChangeLimits) -> Finding:
    """Of one result alone there is no newer one; recognition/newest.py looks at all of them."""
    return PASSED
