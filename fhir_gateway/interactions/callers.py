"""From what a credential says of a caller to the Actor: its Organization, its person, its Access.

A credential names an institution or a Patient; whether they are there is looked up here, and what
the caller sees follows from the table of rights and the site's policy (security.rights).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Login
from fhir_gateway.interactions.evaluations import areas_of, bodies_at
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.security.actor import Access, Actor, Role, Sight
from fhir_gateway.store.store import Reader

#: The smallest area first, as the policy wants them.
_KINDS = ("district", "city", "province", "region", "nation")
#: Roles that act for an institution of the registry.
_TREATING = ("institution", "clinician")


class Caller(NamedTuple):
    """What a credential says. Without a role its Organization says which it has."""

    role: str
    institution: str = ""
    name: str = ""
    user: str = ""
    client: str = ""
    purpose: str = ""
    patient: str = ""
    token: str = ""
    scopes: tuple[str, ...] | None = None
    until: int = 0
    asserts_consent: bool = False


class _Closed:
    """A policy under which others' rows are not open as they are."""

    def sight(self, institution: str, areas: tuple[str, ...] = (), day: str = "") -> Sight:
        """A sight, which is for nobody."""
        return Sight(0)


async def actor_of(gateway: Gateway, reader: Reader, caller: Caller) -> Actor:
    """The Actor. Raises Login with what the operator has to set, where something is missing."""
    role, name, area = await _organization(gateway, reader, caller)
    homes = await _homes(reader, caller.patient) if role == "patient" else None
    access = access_of(gateway, role, caller.institution, homes=homes, area=area)
    purpose = _purpose(gateway, role, caller.purpose)
    return Actor(
        role=role,
        name=name or caller.name or caller.client or role,
        institution=caller.institution or None,
        access=_for_purpose(
            gateway, role, caller.institution, access, purpose, asserts=caller.asserts_consent
        ),
        user=caller.user,
        client=caller.client,
        purpose=purpose,
        patient=caller.patient,
        token=caller.token,
        scopes=caller.scopes,
        until=caller.until,
        basis=_basis(gateway, role, caller.institution, area) if access.sight else "",
        asserts_consent=caller.asserts_consent,
    )


def _purpose(gateway: Gateway, role: str, stated: str) -> str:
    """The purpose of use: as stated, else the usual one of the role.

    Raises Login for one that the site's table lets this role not state.
    """
    purposes = gateway.policy.purposes
    if stated and not purposes.allows(role, stated):
        raise Login(
            f"The role {role} may not state the purpose {stated}; profiles/access/purposes.csv "
            "says which (docs/consent.md)",
            rule="purpose",
        )
    return stated or purposes.usual_of(role)


def _for_purpose(
    gateway: Gateway, role: Role, institution: str, access: Access, purpose: str, *, asserts: bool
) -> Access:
    """The Access of a caller for a purpose: what others hold is closed but for purposes that open
    it; a client that answers for the patient's consent needs no Consent on file."""
    if not gateway.policy.purposes.opens(purpose):
        if access.owners is None and role in _TREATING:  # of a policy that asks for nothing
            access = gateway.rights.access_for(role, institution=institution, policy=_Closed())
        return replace(access, sight=None)
    sight = access.sight
    if sight is None:
        return access
    if asserts and not sight.permit:
        return replace(access, sight=replace(sight, permit=True))
    return access


def _basis(gateway: Gateway, role: str, institution: str, area: str) -> str:
    """The legal basis that is told in audit events."""
    if role not in _TREATING:
        return ""
    return gateway.policy.rule(institution, *_where_and_when(gateway, area)).name


def access_of(
    gateway: Gateway,
    role: Role,
    institution: str = "",
    *,
    homes: frozenset[int] | None = None,
    area: str = "",
) -> Access:
    """What a role of an institution sees, by the table of rights and the policy as of today."""
    areas, day = _where_and_when(gateway, area)
    return gateway.rights.access_for(
        role,
        institution=institution or None,
        homes=homes,
        policy=gateway.policy,
        areas=areas,
        day=day,
    )


def _where_and_when(gateway: Gateway, area: str) -> tuple[tuple[str, ...], str]:
    """The areas that an area lies in, the smallest first, and today; nothing where the policy has
    no overrides that ask for it."""
    if not gateway.policy.overrides:
        return (), ""
    known = areas_of(gateway)
    within = [known.areas[code] for code in known.within(area) if code in known.areas]
    within.sort(key=lambda one: _KINDS.index(one.kind))
    moment = datetime.fromtimestamp(gateway.clock.now() / 1_000_000, UTC)
    day = moment.astimezone(ZoneInfo(gateway.settings.zone)).date().isoformat()
    return tuple(one.code for one in within), day


async def _organization(gateway: Gateway, reader: Reader, caller: Caller) -> tuple[Role, str, str]:
    """Role, name and area of the Organization that a caller speaks for."""
    id, role = caller.institution, caller.role
    if role in ("", "evaluator"):
        body = (await bodies_at(gateway, reader)).get(id)
        if body is not None and body.active:
            return "evaluator", body.name, body.area
        if role:
            raise _unknown("evaluating body", id)
    if role in ("", *_TREATING):
        known = (await institutions_at(gateway, reader)).get(id)
        if known is None:
            raise _unknown("institution", id)
        return cast(Role, role or "institution"), known.name, known.area
    if id:
        stored = await reader.read("Organization", id)
        if stored is None or stored.deleted:
            raise _unknown("Organization", id)
    return cast(Role, role), "", ""


def _unknown(what: str, id: str) -> Login:
    if not id:
        return Login(
            f"The credential names no {what}: set one for it (docs/auth.md)", rule="credential-role"
        )
    return Login(
        f"The {what} of this credential is not in the registry, or has left it: register it with "
        "fhir-gateway institution add, or correct what the credential stands for (docs/auth.md)",
        rule="credential-role",
    )


async def _homes(reader: Reader, patient: str) -> frozenset[int]:
    """All homes of the person that the token's Patient belongs to.

    Raises Login for nobody's, Forbidden where it is in doubt who that person is.
    """
    person = await reader.person(patient) if patient else None
    if person is None:
        raise Login(
            "The token names no Patient of this gateway: its provider must send the logical id in "
            "the claim patient, or fhirUser (docs/auth.md)",
            rule="credential-role",
        )
    if person.contested:  # rows of two people may lie side by side: neither sees the other's
        raise Forbidden(
            "Whose record this is, is in doubt: its document is borne under another name, or a "
            "record came apart from it. An institution has to settle that first (docs/identity.md)",
            rule="identity-contested",
        )
    return frozenset(person.homes or (person.home,))
