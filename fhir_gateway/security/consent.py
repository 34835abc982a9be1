"""A FHIR Consent as flat sentences: who may see whose rows of which class, and for how long.

What a Consent says in nested provisions becomes rows with a rank: the store takes, of the rows that
meet a reader and a row of the record, the one with the highest rank. What cannot be said in such
rows is told as an issue that names the element and is never left out silently. Pure.
hl7.org/fhir/R4/consent.html, docs/consent.md, docs/adr/0037

1. A denial that names a source or a sensitive class holds until its Consent ends; only exceptions
   inside the same Consent lift it.
2. Otherwise the later word holds, among denials and permits that name a recipient.
3. A permit for everybody fills only what no denial speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.policy import Policy
from fhir_gateway.security.provision import Faulty, Scope, narrowed

Json = Mapping[str, Any]

#: An end that never comes (µs), far inside what a database's integer holds.
NEVER = 1 << 60
#: Every recipient and every source.
ANYBODY = 0
ALL_CLASSES = -1

_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_ROOTS = {"OPTIN": "permit", "OPTINR": "permit", "OPTOUT": "deny", "OPTOUTE": "deny"}
_DAY_US = 86_400_000_000
_MOST_ROWS, _DEEPEST = 200, 12


class Said(NamedTuple):
    """One row. `recipient` and `source` are logical ids of Organizations, "" for everybody's;
    `at` is the FHIRPath of the provision that says it."""

    party: int
    owner: int
    number: int
    rank: int
    permit: bool
    since: int
    until: int
    recipient: str = ""
    source: str = ""
    at: str = ""


class Flat(NamedTuple):
    """What a Consent comes to. `uncounted` are permits that the site's basis does not count."""

    rows: tuple[Said, ...] = ()
    issues: tuple[Issue, ...] = ()
    uncounted: tuple[Said, ...] = ()


def is_about_privacy(consent: Json) -> bool:
    """Whether it is one of those that decide who sees a record."""
    codings = consent.get("scope", {}).get("coding", ())
    return any(
        one.get("system") == _SCOPE and one.get("code") == "patient-privacy" for one in codings
    )


def flatten(consent: Json, policy: Policy, zone: str) -> Flat:
    """The rows of a Consent under a policy, and what of it cannot be said.

    One that is not active, or is about something else than privacy, has none of either.
    """
    if consent.get("status") != "active" or not is_about_privacy(consent):
        return Flat()
    reading = _Reading(consent, policy, zone)
    reading.read()
    return Flat(tuple(reading.rows), tuple(reading.issues), tuple(reading.uncounted))


def closed(consent: Json, zone: str) -> tuple[Said, ...]:
    """What stands for an active Consent that cannot be said in rows, for one that was stored by
    rules of its time: nobody sees anything until it is ended or corrected."""
    when = _when(consent, zone) or 0
    return (Said(ANYBODY, ANYBODY, ALL_CLASSES, _rank(1, when, 0), False, 0, NEVER),)


def encounters_of(consent: Json) -> list[tuple[str, str]]:
    """The encounters that a Consent is bound to: (FHIRPath, reference)."""
    found: list[tuple[str, str]] = []
    stack = [(consent.get("provision", {}), "Consent.provision")]
    while stack:
        provision, at = stack.pop()
        for number, one in enumerate(provision.get("data", ())):
            where = f"{at}.data[{number}].reference"
            found.append((where, one.get("reference", {}).get("reference", "")))
        inner = enumerate(provision.get("provision", ()))
        stack += [(one, f"{at}.provision[{number}]") for number, one in inner]
    return found


class _Reading:
    """One Consent being read."""

    def __init__(self, consent: Json, policy: Policy, zone: str) -> None:
        self.consent, self.policy, self.zone = consent, policy, zone
        self.rows: list[Said] = []
        self.uncounted: list[Said] = []
        self.issues: list[Issue] = []
        self.when = 0

    def read(self) -> None:
        """Fills rows and issues."""
        when = _when(self.consent, self.zone)
        if when is None:
            text = "A consent needs dateTime: of two that contradict, the later one holds"
            self._fault("Consent.dateTime", text, "required")
        self.when = when or 0
        if "modifierExtension" in self.consent:
            self._fault("Consent.modifierExtension", "No modifier extension is known here")
        provision: Json = self.consent.get("provision", {})
        kind = provision.get("type") or self._by_policy_rule()
        if kind is None:
            text = "Say permit or deny here, or OPTIN or OPTOUT in policyRule"
            self._fault("Consent.provision.type", text, "required")
            return
        self._provision(provision, kind, Scope(), "Consent.provision", 0, 0)
        if len(self.rows) + len(self.uncounted) > _MOST_ROWS:
            text = f"This comes to more than {_MOST_ROWS} sentences; name fewer actors or classes"
            self._fault("Consent.provision", text, "too-costly")

    def _by_policy_rule(self) -> str | None:
        codings: Sequence[Json] = self.consent.get("policyRule", {}).get("coding", ())
        kinds = [_ROOTS.get(c.get("code", "")) for c in codings if c.get("system") == _ACT_CODE]
        return next((kind for kind in kinds if kind), None)

    def _provision(
        self, provision: Json, kind: str, parent: Scope, at: str, depth: int, tier: int
    ) -> None:
        """The rows of one provision and of the exceptions to it."""
        if depth > _DEEPEST:
            self._fault(at, f"Provisions may be nested {_DEEPEST} deep", "too-costly")
            return
        faulty = Faulty()
        scope = narrowed(provision, parent, self.consent, self.policy, self.zone, at, faulty)
        if kind == "deny" and "data" in provision:
            faulty.add(
                f"{at}.data", "A denial is about institutions and classes, not one encounter"
            )
        self.issues += faulty.issues
        tier = max(tier, _tier(scope, kind == "permit"))
        if not faulty.issues:
            self._say(scope, kind == "permit", at, _rank(tier, self.when, depth))
        for number, inner in enumerate(provision.get("provision", ())):
            where = f"{at}.provision[{number}]"
            if inner.get("type") not in ("permit", "deny"):
                text = "A nested provision says permit or deny"
                self._fault(f"{where}.type", text, "required")
                continue
            self._provision(inner, inner["type"], scope, where, depth + 1, tier)

    def _say(self, scope: Scope, permit: bool, at: str, rank: int) -> None:
        classes = scope.classes
        if classes is None:
            classes = frozenset({0 if permit else ALL_CLASSES})
        for recipient in scope.recipients or ("",):
            until = scope.until
            if permit and scope.encounter and until == NEVER:
                until = max(scope.since, self.when) + self.policy.consent_days * _DAY_US
            for source in scope.sources or ("",):
                for number in sorted(classes):
                    said = Said(
                        _key(recipient), _key(source), number, rank, permit, scope.since, until,
                        recipient, source, at,
                    )  # fmt: skip
                    counts = not permit or self._counts(recipient, scope, until)
                    (self.rows if counts else self.uncounted).append(said)

    def _counts(self, recipient: str, scope: Scope, until: int) -> bool:
        """Whether the basis of a recipient lets this permit count."""
        permits = self.policy.rule(recipient).permits
        if permits != "encounter":
            return permits == "all"
        since = scope.since or self.when
        return bool(scope.encounter) or until - since <= self.policy.consent_days * _DAY_US

    def _fault(self, at: str, text: str, code: str = "not-supported") -> None:
        self.issues.append(Issue(code, text, at, "consent"))


def _tier(scope: Scope, permit: bool) -> int:
    """How far up a sentence stands before its time is looked at: see the top of this file."""
    if permit:
        return 1 if scope.recipients else 0
    return 2 if scope.sources or scope.classes else 1


def _rank(tier: int, when: int, depth: int) -> int:
    seconds = min(max(when // 1_000_000, 0), (1 << 34) - 1)
    return tier << 40 | seconds << 4 | depth


def _key(institution: str) -> int:
    return key64(f"Organization/{institution}") if institution else ANYBODY


def _when(consent: Json, zone: str) -> int | None:
    text = consent.get("dateTime")
    if not isinstance(text, str):
        return None
    try:
        return date_range(text, zone)[0]
    except Invalid:
        return None


def permitted(rows: Sequence[Said], party: int, owner: int, number: int, now: int) -> bool | None:
    """What rows say of one recipient, source and class at a moment; None when they say nothing.

    The store asks the same in SQL; this is for whoever explains a decision, and for tests.
    """
    met = [one for one in rows if _meets(one, party, owner, number, now)]
    if not met:
        return None
    highest = max(one.rank for one in met)
    return all(one.permit for one in met if one.rank == highest)


def _meets(one: Said, party: int, owner: int, number: int, now: int) -> bool:
    return (
        one.party in (ANYBODY, party)
        and one.owner in (ANYBODY, owner)
        and one.number in (ALL_CLASSES, number)
        and one.since <= now < one.until
    )


def issues_of_uncounted(flat: Flat, policy: Policy) -> Iterator[Issue]:
    """Why permits do not count, one issue for each provision."""
    for at, recipient in {(one.at, one.recipient): None for one in flat.uncounted}:
        basis = policy.rule(recipient)
        if basis.permits == "encounter":
            text = (
                "Here consent is given for one encounter: name it in provision.data, or a "
                f"provision.period of at most {policy.consent_days} days"
            )
        else:
            text = f"The legal basis here is {basis.name}: no permission is asked for or counted"
        yield Issue("business-rule", text, at, "consent-basis")
