"""Memberships of consortia (医联体): who may book at which hospital as whose partner, and when.

An OrganizationAffiliation of ours says that an institution (`participatingOrganization`) belongs to
the consortium (`network`) of a hospital (`organization`), of which kind (`code`) and for which days
(`period`, both ends included). The operator keeps them (`fhir-gateway consortium`); what anybody
else stores under that type opens no channel. Read once an epoch.
hl7.org/fhir/R4/organizationaffiliation.html, IHE mCSD ITI-90, docs/scheduling-fhir.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.interactions.shared_reader import shared_reader
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.scheduling.extensions import AREA, Json, coded, value_of
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.store import Reader, Store, Stored

TYPE = "OrganizationAffiliation"
PROFILE = f"{CANONICAL}/StructureDefinition/consortium-membership"
CONSORTIUM_SYSTEM = f"{CANONICAL}/consortium"
KIND_SYSTEM = f"{CANONICAL}/CodeSystem/consortium-kind"
KINDS: Mapping[str, str] = {
    "city-group": "城市医疗集团", "county-community": "县域医共体",
    "specialist-alliance": "专科联盟", "remote-network": "远程医疗协作网",
}  # fmt: skip

_PAGE = 500


class Membership(NamedTuple):
    """One membership. `core` and `member` are logical ids of Organizations; days are inclusive,
    `end` "" where it is not known. `district` is an area (GB/T 2260), "" for none; `specialty` is
    in words. One that is not `active` was withdrawn before it held."""

    consortium: str
    name: str
    kind: str
    core: str
    member: str
    start: str
    end: str = ""
    district: str = ""
    specialty: str = ""
    active: bool = True

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same one: consortium, hospital, member, first day."""
        return self.consortium, self.core, self.member, self.start

    @property
    def id(self) -> str:
        """The logical id of its resource."""
        return f"member-{business_id(*self.key)}"

    def holds(self, day: str) -> bool:
        """Whether it holds on a day (2026-12-07)."""
        return self.active and self.start <= day and (not self.end or day <= self.end)


@dataclass(frozen=True, slots=True)
class Memberships:
    """All memberships, by the two institutions that each joins."""

    all: tuple[Membership, ...] = ()
    _pairs: Mapping[tuple[str, str], tuple[Membership, ...]] = field(default_factory=dict)
    _members: Mapping[str, tuple[Membership, ...]] = field(default_factory=dict)

    def between(self, institution: str, hospital: str, day: str) -> list[Membership]:
        """By which memberships an institution is a partner of a hospital on a day."""
        return [one for one in self._pairs.get((institution, hospital), ()) if one.holds(day)]

    def of(self, institution: str, day: str) -> list[Membership]:
        """All memberships that an institution has on a day, whichever the hospital."""
        return [one for one in self._members.get(institution, ()) if one.holds(day)]


def memberships_of(found: Iterable[Membership]) -> Memberships:
    """The memberships, ready to be asked."""
    every = tuple(sorted(found))
    pairs: dict[tuple[str, str], list[Membership]] = {}
    members: dict[str, list[Membership]] = {}
    for one in every:
        pairs.setdefault((one.member, one.core), []).append(one)
        members.setdefault(one.member, []).append(one)
    return Memberships(
        every,
        {key: tuple(several) for key, several in pairs.items()},
        {key: tuple(several) for key, several in members.items()},
    )


def affiliation_of(membership: Membership) -> dict[str, Any]:
    """The OrganizationAffiliation of a membership: always the same for the same one."""
    period = {"start": membership.start} | ({"end": membership.end} if membership.end else {})
    resource: dict[str, Any] = {
        "resourceType": TYPE,
        "id": membership.id,
        "meta": {"profile": [PROFILE]},
    }
    if membership.district:
        coding = {"system": f"{CANONICAL}/CodeSystem/area", "code": membership.district}
        resource["extension"] = [{"url": AREA, "valueCoding": coding}]
    network = {"system": CONSORTIUM_SYSTEM, "value": membership.consortium}
    kind = {"system": KIND_SYSTEM, "code": membership.kind, "display": KINDS[membership.kind]}
    resource |= {
        "active": membership.active,
        "period": period,
        "organization": {"reference": f"Organization/{membership.core}"},
        "participatingOrganization": {"reference": f"Organization/{membership.member}"},
        "network": [{"identifier": network, "display": membership.name}],
        "code": [{"coding": [kind]}],
    }
    if membership.specialty:
        resource["specialty"] = [{"text": membership.specialty}]
    return resource


def membership_of(affiliation: Json) -> Membership | None:
    """The membership that an OrganizationAffiliation states; None for what is none of ours."""
    core = _organization(affiliation.get("organization"))
    member = _organization(affiliation.get("participatingOrganization"))
    network = next(_networks(affiliation), None)
    period = affiliation.get("period") or {}
    kind = coded(affiliation.get("code"), KIND_SYSTEM)
    if network is None or not (core and member and period.get("start")) or kind not in KINDS:
        return None
    district = value_of(affiliation, AREA) or {}
    return Membership(
        consortium=network[0],
        name=network[1],
        kind=kind,
        core=core,
        member=member,
        start=str(period["start"])[:10],
        end=str(period.get("end", ""))[:10],
        district=str(district.get("code", "")),
        specialty=_words(affiliation.get("specialty")),
        active=affiliation.get("active") is not False,
    )


def is_membership(affiliation: Json) -> bool:
    """Whether an OrganizationAffiliation speaks of a consortium."""
    return next(_networks(affiliation), None) is not None or bool(
        coded(affiliation.get("code"), KIND_SYSTEM)
    )


def _networks(affiliation: Json) -> Iterator[tuple[str, str]]:
    """(number, name) of each consortium that is named."""
    for one in affiliation.get("network") or ():
        identifier = one.get("identifier") or {}
        if identifier.get("system") == CONSORTIUM_SYSTEM and identifier.get("value"):
            yield str(identifier["value"]), str(one.get("display", ""))


def _organization(reference: Json | None) -> str:
    found = parse_reference(str((reference or {}).get("reference") or ""))
    return found.id if isinstance(found, Reference) and found.type == "Organization" else ""


def _words(concepts: Any) -> str:
    return next((str(one["text"]) for one in concepts or () if one.get("text")), "")


# -- what is stored ------------------------------------------------------------------------------


class _Known(NamedTuple):
    epoch: int
    memberships: Memberships


_NOTHING = _Known(-1, Memberships())
_known: WeakKeyDictionary[Store, _Known] = WeakKeyDictionary()


async def memberships_at(gateway: Gateway, reader: Reader) -> Memberships:
    """All memberships that the operator keeps, as this snapshot sees them."""
    known = _known.get(gateway.store, _NOTHING)
    if known.epoch != reader.epoch:
        async with shared_reader(gateway, reader) as whole:
            found = [one for _, one in await stored_memberships(whole)]
        known = _known[gateway.store] = _Known(reader.epoch, memberships_of(found))
    return known.memberships


async def stored_memberships(reader: Reader) -> list[tuple[Stored, Membership]]:
    """Each membership with its resource. What an institution itself stored is none."""
    found: list[tuple[Stored, Membership]] = []
    after = 0
    while page := await reader.scan(TYPE, until_t=reader.t, after_rid=after, limit=_PAGE):
        for stored in page:
            one = membership_of(msgspec.json.decode(stored.whole()))
            if one is not None and stored.owner == 0:
                found.append((stored, one))
        after = page[-1].rid
    return found
