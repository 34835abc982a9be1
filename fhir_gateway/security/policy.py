"""The site's policy: by which legal basis outside results are seen, and how far an emergency goes.

One TOML file that a privacy committee keeps (profiles/access/policy.toml, docs/consent.md); the
tables of sensitive classes and of purposes lie beside it. A fault of the file stops the start, and
every fault is named. Only reading files at the start is done here; clock and registry are the
caller's. Personal Information Protection Law of China, articles 13, 15, 29, 31; FHIR R4 Consent.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import Sight
from fhir_gateway.security.classes import Classes, load_classes
from fhir_gateway.security.policy_file import Faults, check_document
from fhir_gateway.security.purposes import Purposes, load_purposes

T = TypeVar("T")


class Basis(NamedTuple):
    """What a legal basis asks for: a treatment relation or not, what holds where no Consent says
    anything, whether a denial of ordinary rows is heeded, and which permits of Consents count:
    none, those bound to an `encounter` or to a bounded period, or all."""

    name: str
    relation: bool
    permit: bool
    denials: bool
    permits: str


class Override(NamedTuple):
    """Another basis for one institution or for an area with all that lies in it, for a time.

    `since` and `until` are calendar days, both inclusive, "" for no end.
    """

    basis: str
    institution: str = ""
    area: str = ""
    since: str = ""
    until: str = ""


class Reason(NamedTuple):
    """A ground of break-glass, as a code with a name in both languages."""

    code: str
    zh: str
    en: str


class BreakGlass(NamedTuple):
    """What holds for a break-glass. Limits alarm and never refuse."""

    minutes: int = 240  # the most that may be asked for
    usual_minutes: int = 60  # what is given when nothing is asked for
    sensitive: bool = True  # whether it opens the sensitive classes too
    roles: frozenset[str] = frozenset({"clinician", "institution"})
    alarm_user_hour: int = 5  # break-glasses of one user in an hour, from which on it is an alarm
    alarm_institution_hour: int = 50
    privacy_office: tuple[str, ...] = ()  # logical ids of Organizations that review
    reasons: tuple[Reason, ...] = ()

    @property
    def grade(self) -> int:
        """The grade of its opening: 1 over consent for ordinary rows, 2 for all classes."""
        return 2 if self.sensitive else 1


class Relation(NamedTuple):
    """How long what shows that somebody treats a patient opens the patient's record."""

    encounter_hours_after: int = 72  # after the end of an encounter
    encounter_days: int = 180  # an encounter that nobody ends
    episode_days: int = 730  # an episode of care, from its start
    request_days: int = 30  # an active order or referral, from when it was authored
    appointment_days_before: int = 7
    appointment_days_after: int = 7
    decision_hours: int = 72  # after a call of order-select, order-sign or $recognize


class Case(NamedTuple):
    """The regulator's access to one person's record: the most and the usual duration."""

    minutes: int = 1_440
    usual_minutes: int = 240
    sensitive: bool = False  # whether it opens the sensitive classes too


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of the site. The value without arguments is legal duty with nothing asked for."""

    version: str = ""
    basis: str = "legal-duty"
    bases: Mapping[str, Basis] = field(
        default_factory=lambda: {"legal-duty": Basis("legal-duty", False, True, False, "none")}
    )
    overrides: tuple[Override, ...] = ()
    guardian_age: int = 14
    consent_days: int = 30  # the longest that a consent to one encounter holds
    relation: Relation = field(default_factory=Relation)
    break_glass: BreakGlass = field(default_factory=BreakGlass)
    case: Case = field(default_factory=Case)
    classes: Classes = field(default_factory=Classes)
    purposes: Purposes = field(default_factory=Purposes)

    def rule(self, institution: str = "", areas: Sequence[str] = (), day: str = "") -> Basis:
        """The basis that holds for an institution on a day (YYYY-MM-DD; "": on any day).

        `areas` are the areas that it lies in, the smallest first. The most particular override
        wins: one of the institution itself, then of the smallest area; of several the latest one.
        """
        best: tuple[int, str] | None = None
        basis = self.basis
        for one in self.overrides:
            near = _nearness(one, institution, areas)
            if near is None or (day and not (one.since <= day <= (one.until or day))):
                continue
            if best is None or (near, one.since) >= best:
                best, basis = (near, one.since), one.basis
        return self.bases[basis]

    def sight(self, institution: str, areas: Sequence[str] = (), day: str = "") -> Sight | None:
        """How outside rows open to an institution; None where nothing is asked for at all, so that
        the access is the plain one of the ordinary class."""
        basis = self.rule(institution, areas, day)
        if basis.permit and not basis.relation and not basis.denials and not self.classes.rows:
            return None
        party = key64(f"Organization/{institution}") if institution else 0
        return Sight(party, basis.relation, basis.permit, basis.denials)

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked for of anybody: no relation, no consent, no class."""
        plain = all(one.permit and not one.relation and not one.denials for one in self._used())
        return plain and not self.classes.rows

    def _used(self) -> list[Basis]:
        return [self.bases[name] for name in {self.basis, *(one.basis for one in self.overrides)}]


def _nearness(one: Override, institution: str, areas: Sequence[str]) -> int | None:
    """How particular an override is for an institution; None when it is not about it."""
    if one.institution:
        return 1_000 if one.institution == institution else None
    return 999 - areas.index(one.area) if one.area in areas else None


def default_path() -> Path:
    """The policy that is shipped with the project."""
    return Path(__file__).resolve().parents[2] / "profiles" / "access" / "policy.toml"


def policy_of(setting: str) -> Policy:
    """The policy that the setting names, "" for the shipped one. Raises Invalid as load_policy."""
    return load_policy(Path(setting) if setting else default_path())


def load_policy(path: Path) -> Policy:
    """The policy in a file and the tables beside it that it names.

    Raises Invalid with every fault of the file and of its tables.
    """
    faults = Faults(path.name)
    document = _document(path)
    check_document(document, faults)
    classes = _beside(path, document.get("classes"), load_classes, faults) or Classes()
    purposes = _beside(path, document.get("purposes"), load_purposes, faults) or Purposes()
    faults.stop()
    return _policy(document, classes, purposes)


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise Invalid(
            f"The policy file {path.name} cannot be read; FHIR_GATEWAY_POLICY names it",
            rule="policy",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The policy file {path.name} is not TOML: {error}", rule="policy") from None


def _beside(path: Path, name: Any, load: Callable[[Path], T], faults: Faults) -> T | None:
    """A table that the policy names, None when it names none or the table has faults."""
    if not isinstance(name, str) or not name:
        return None
    try:
        return load(path.parent / name)
    except Invalid as error:
        faults.issues += error.issues
        return None


def _policy(document: Mapping[str, Any], classes: Classes, purposes: Purposes) -> Policy:
    """A checked document as a value."""
    glass = dict(document.get("break_glass", {}))
    glass["roles"] = frozenset(glass.get("roles", BreakGlass().roles))
    glass["privacy_office"] = tuple(glass.get("privacy_office", ()))
    glass["reasons"] = tuple(Reason(**row) for row in glass.get("reasons", ()))
    plain = ("version", "basis", "guardian_age", "consent_days")
    return Policy(
        **{name: document[name] for name in plain if name in document},
        bases={name: Basis(name, **row) for name, row in document.get("bases", {}).items()},
        overrides=tuple(Override(**one) for one in document.get("override", ())),
        relation=Relation(**document.get("relation", {})),
        break_glass=BreakGlass(**glass),
        case=Case(**document.get("case", {})),
        classes=classes,
        purposes=purposes,
    )
