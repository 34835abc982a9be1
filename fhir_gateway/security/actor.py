"""The actor of a request, and the Access value that every read of the store takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

#: Who somebody is to the gateway; what each may do stands in profiles/access/rights.csv.
#: `evaluator` is a body that evaluates quality, `system` the gateway itself, `open` everybody
#: where there is no authentication.
Role = Literal[
    "institution", "clinician", "patient", "regulator", "administrator", "evaluator",
    "system", "open",
]  # fmt: skip

#: Sensitivity classes of the `sensitivity` column: 0 is ordinary, each further number a class of
#: the site's table (profiles/access/classes.csv); RESTRICTED is above them all.
ORDINARY, RESTRICTED = 0, 1_000


@dataclass(frozen=True, slots=True)
class Sight:
    """How what other institutions hold about a person opens to one party, row by row.

    `party` is the key of the Organization that looks. Such a row is seen when the person's home has
    an opening of this party in force (a treatment relation; not asked for when `relation` is
    false), and when the person's consents, the most particular first, permit its owner and its
    class; where none says anything, an ordinary row follows `permit` and one of a sensitive class
    stays closed. `denials` false: the site's legal basis leaves no room for a denial, except of a
    sensitive class. An opening of an emergency opens what its grade says, whatever else is said.

    `at` is the moment (µs) by which openings and consents hold, 0 the store's clock: a question
    that is asked again about the past names it, and the store then reads them as they stood at the
    commit that is asked about (`Reader.facts`). A person of several homes has the openings and the
    consents of all of them.
    """

    party: int
    relation: bool = True
    permit: bool = False
    denials: bool = True
    at: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """Rows that meet all of these conditions (search.plan); of persons' rows only those of the
    token's Patient when it is `bound`."""

    conditions: tuple[Any, ...] = ()
    bound: bool = False


#: A row passes when it meets one way of every member; all rows pass when there is no member.
Ways = tuple[tuple[Way, ...], ...]


@dataclass(frozen=True, slots=True)
class Narrow:
    """What the scopes of a token leave of what an Access shows, type by type.

    `types` are the types that scopes name, each with its ways; every other type goes by `others`,
    and is not seen at all where that is None. `homes` are those of the token's Patient.
    """

    types: tuple[tuple[str, Ways], ...] = ()
    others: Ways | None = None
    homes: frozenset[int] = frozenset()

    def ways(self, type: str) -> Ways | None:
        """The ways of a type; None when no row of it is seen."""
        return next((ways for name, ways in self.types if name == type), self.others)


@dataclass(frozen=True, slots=True)
class Access:
    """What a Reader may see.

    `owners` None means every institution's rows; otherwise only rows of these owner keys and rows
    without owner (0), and beside them what `sight` opens. `max_class` is the highest sensitivity
    class that is visible of other owners' rows without a sight; an institution's own rows are
    seen whatever their class. `homes`, where not None, leaves of persons' rows only those of these
    homes (a patient's own). `whole` are types of which every row is seen, whoever owns it and
    whatever its class; `closed` types of which no row is seen but the institution's own. `narrow`,
    where not None, takes away what the scopes of the caller's token do not grant, whatever of the
    above shows it. `acts`, where not None, leaves of AuditEvents only those of these owners: what
    stays closed where a site's policy opens everything.
    """

    max_class: int = ORDINARY
    owners: frozenset[int] | None = None
    sight: Sight | None = None
    homes: frozenset[int] | None = None
    whole: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    narrow: Narrow | None = None
    acts: frozenset[int] | None = None


#: For the gateway's own work (jobs, registers, definitions); never handed to a door's caller.
SYSTEM_ACCESS = Access(max_class=RESTRICTED)


_BOUND = frozenset({"institution", "clinician", "evaluator", "patient"})


@dataclass(frozen=True, slots=True)
class Actor:
    """The authenticated caller.

    `institution` is the logical id of the caller's Organization; None for the gateway itself and
    for the open-access mode. `name` stands in audit records. `user` is the person behind the
    call ("Practitioner/id", "Patient/id", or the subject of an outside provider), `client` the id
    of the registered client, `purpose` a code of v3 PurposeOfUse, `patient` the logical id of the
    Patient that the token is bound to, `token` what names the token in the audit log and is no
    secret, `scopes` the SMART scopes as granted (None: the credential has none, and the rights of
    its role alone hold), `until` when the credential ends (µs, 0: not by itself), `basis` the legal
    basis by which outside results are seen where the site's policy asks for one, `asserts_consent`
    that the institution answers for having the patient's consent at each encounter.
    """

    role: Role
    name: str
    institution: str | None = None
    access: Access = Access()
    user: str = ""
    client: str = ""
    purpose: str = ""
    patient: str = ""
    token: str = ""
    scopes: tuple[str, ...] | None = None
    until: int = 0
    basis: str = ""
    asserts_consent: bool = False

    @property
    def bound(self) -> bool:
        """Whether it speaks for one institution or person alone and changes only what is theirs:
        everybody but the gateway, its operator, the regulator and open access."""
        return self.role in _BOUND


GATEWAY = Actor(role="system", name="gateway", access=SYSTEM_ACCESS)
OPEN = Actor(role="open", name="open-access")
