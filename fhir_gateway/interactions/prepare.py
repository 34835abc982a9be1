"""From a valid resource to the row the store keeps: codings, home, index rows, tail, bytes.

Runs for every resource that comes in, so every step is a pure function of the resource (about
100 µs for an Observation). Architecture sections 4.1, 5.1, 5.4, 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.context import Coder, Gateway
from fhir_gateway.fhir.home import home_of, institution_home
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import tail_and_members
from fhir_gateway.interactions.relations import derive_relations
from fhir_gateway.interactions.types import EPOCH_TYPES
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.terminology.coder import DATA_QUALITY
from fhir_gateway.terminology.unmapped import unmapped_rows


class Coding(NamedTuple):
    """What the coders did to a resource: FHIRPath expressions of its elements. `by` are those
    coders: others have taken their place when maps of local codes were stored since."""

    coded: list[str]
    unmapped: list[str]
    by: tuple[Coder, ...] = ()


def add_codings(gateway: Gateway, resource: dict[str, Any], institution: str | None) -> Coding:
    """Adds catalogue codings beside the institution's own, in place, and flags what has none."""
    _drop_our_tags(resource)
    result = Coding([], [], gateway.coders)
    for coder in result.by:
        coded, unmapped = coder(resource, institution or "")
        result.coded.extend(coded)
        result.unmapped.extend(unmapped)
    return result


def _drop_our_tags(resource: dict[str, Any]) -> None:
    """Data-quality tags say what the gateway found; a client cannot set them."""
    meta = resource.get("meta")
    if not meta or "tag" not in meta:
        return
    tags = [tag for tag in meta["tag"] if tag.get("system") != DATA_QUALITY]
    if tags:
        meta["tag"] = tags
    else:
        del meta["tag"]


def derived_of(
    gateway: Gateway,
    resource: dict[str, Any],
    owner: int,
    spelled: Mapping[str, bytes] | None = None,
) -> Derived:
    """Everything that a resource gives rise to beside itself; `owner` is its institution's key.

    `spelled` are its members as JSON, where they are at hand.
    """
    rows = gateway.extractor.rows(resource["resourceType"], resource, spelled)
    derived = Derived(rows.ints, rows.texts, rows.global_ints, rows.global_texts, [], [], [], [])
    for derive in gateway.derivers:
        derive(resource, derived)
    derived.global_ints += unmapped_rows(resource, owner, spelled)
    zone = gateway.settings.zone
    derive_relations(resource, derived, owner=owner, policy=gateway.policy, zone=zone)
    return derived


def put_of(
    gateway: Gateway,
    resource: dict[str, Any],
    *,
    op: str,
    owner: int,
    only_if_changed: bool = False,
    source: bytes | None = None,
) -> Put:
    """The Put of a resource whose id and references are final."""
    type = resource["resourceType"]
    place = home_of(resource)
    tail, spelled = tail_and_members(resource)
    enc, body = pack(tail)
    return Put(
        type=type,
        id=resource["id"],
        op=op,
        enc=enc,
        body=body,
        patient=place.patient,
        follow=place.follow if place.patient is None else None,
        home=institution_home(place.institution) if place.institution else 0,
        owner=owner,
        sensitivity=gateway.policy.classes.of(resource, spelled),
        derived=derived_of(gateway, resource, owner, spelled),
        source=source,
        only_if_changed=only_if_changed,
        raises_epoch=type in EPOCH_TYPES,
    )


def prepare(
    gateway: Gateway,
    resource: dict[str, Any],
    *,
    op: str,
    institution: str | None,
    only_if_changed: bool = False,
) -> Put:
    """Codings and row of a resource with an id, on behalf of an institution (None: nobody's)."""
    add_codings(gateway, resource, institution)
    owner = key64(f"Organization/{institution}") if institution else 0
    return put_of(gateway, resource, op=op, owner=owner, only_if_changed=only_if_changed)
