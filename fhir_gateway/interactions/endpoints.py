"""The checks of Endpoints: which there are, asking them, and keeping what came of it.

A result of imaging can be fetched when an active Endpoint of it passed its last check. The outcome
is a VerificationResult of the Endpoint (endpoint_rows.py); it is stored when it is another one than
before, when the address is, and once a day, so that an Endpoint that never changes does not fill
the store with versions. Each write names the check that it follows: of several checks at once one
is stored, and those that came to the same are no news any more. A worker asks all of them every
FHIR_GATEWAY_ENDPOINT_CHECK_MINUTES; `fhir-gateway endpoints check` asks now.
docs/facts.md, docs/adr/0028
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

from fhir_gateway.audit.events import create_event, update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.endpoint_probe import Result, probe
from fhir_gateway.interactions.endpoint_rows import (
    check_id,
    checked_address,
    verification_result,
)
from fhir_gateway.interactions.outbound import Outbound, Resolve
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.security.outbound import Policy, read_policy
from fhir_gateway.store.changes import ChangeSet, VersionIs
from fhir_gateway.store.store import Reader, Stored

#: Endpoints read at a time, and asked at a time.
_PAGE, _AT_ONCE = 200, 8

#: How often a check that others overtake is tried.
ATTEMPTS = 16

#: A check that came to the same is stored again after so long (µs).
AGAIN = 24 * 3600 * 1_000_000

#: Who checks, as it stands on record.
BY_GATEWAY = "FHIR gateway"


class Endpoint(NamedTuple):
    """An Endpoint as it is stored, and its last check. `passed` is None before the first one."""

    id: str
    status: str
    connection: str
    address: str
    manager: str  # "Organization/x" or ""
    over: bool  # its period has ended
    passed: bool | None = None
    checked: str = ""  # FHIR instant
    by: str = ""
    process: str = ""
    current: bool = True  # the check was of the address that it has now
    version: int = 0  # of the last check as it is stored; 0 when there was none

    @property
    def retrievable(self) -> bool | None:
        """Whether what it serves can be fetched; None when it was not checked as it stands now."""
        if self.status != "active" or self.over:
            return False
        return self.passed if self.current else None


async def endpoints(gateway: Gateway) -> list[Endpoint]:
    """Every Endpoint that stands, in the order in which they came, with its last check."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return [await _with_check(reader, one) async for one in _stored(gateway, reader)]


async def _stored(gateway: Gateway, reader: Reader) -> AsyncIterator[Endpoint]:
    after, now = 0, gateway.clock.now()
    while True:
        page = await reader.scan("Endpoint", until_t=reader.t, after_rid=after, limit=_PAGE)
        for stored in page:
            yield _endpoint(parse(stored.whole()), now)
        if len(page) < _PAGE:
            return
        after = page[-1].rid


def _endpoint(resource: dict[str, Any], now: int) -> Endpoint:
    return Endpoint(
        resource["id"],
        resource.get("status", ""),
        resource.get("connectionType", {}).get("code", ""),
        resource.get("address", ""),
        resource.get("managingOrganization", {}).get("reference", ""),
        _is_over(resource.get("period", {}).get("end"), now),
    )


def _is_over(end: str | None, now: int) -> bool:
    try:
        return end is not None and date_range(end)[1] < now
    except Invalid:
        return False


async def _with_check(reader: Reader, one: Endpoint) -> Endpoint:
    """The Endpoint with the last check that this snapshot has of it."""
    stored = await reader.read("VerificationResult", check_id(one.id))
    if stored is None or stored.deleted:
        version = stored.version if stored is not None else 0
        return one._replace(passed=None, checked="", by="", process="", version=version)
    check = parse(stored.whole())
    return one._replace(
        version=stored.version,
        passed=check.get("status") == "validated",
        checked=check.get("lastPerformed", ""),
        by=check["validator"][0]["organization"].get("display", ""),
        process=check["validationProcess"][0].get("text", ""),
        current=checked_address(check) == one.address,
    )


# -- checking ------------------------------------------------------------------------------------


class Checked(NamedTuple):
    """One Endpoint, what came of asking it, and whether that was stored."""

    endpoint: Endpoint
    result: Result
    stored: bool


async def check(
    gateway: Gateway, ids: Iterable[str] = (), *, resolver: Resolve | None = None
) -> list[Checked]:
    """Asks these Endpoints, or all, and keeps what came of it.

    What cannot be asked (no address on the operator's list, a connection that is not HTTP, no study
    that names it) is told and leaves the last check as it is. Raises Invalid for an id of nobody's.
    """
    known = await endpoints(gateway)
    wanted = set(ids)
    if unknown := wanted - {one.id for one in known}:
        raise Invalid(f"There is no Endpoint {', '.join(sorted(unknown))}", rule="endpoint")
    chosen = [one for one in known if not wanted or one.id in wanted]
    room = asyncio.Semaphore(_AT_ONCE)
    ca = gateway.settings.outbound_ca
    async with Outbound(policy_of(gateway), ca=ca, resolver=resolver) as outbound:

        async def ask(one: Endpoint) -> Checked:
            async with room:
                result = await _ask(gateway, outbound, one)
                return Checked(one, result, await _keep(gateway, one, result))

        return list(await asyncio.gather(*map(ask, chosen)))


def policy_of(gateway: Gateway) -> Policy:
    """Which addresses may be called. Raises Invalid for settings that cannot be meant."""
    settings = gateway.settings
    return read_policy(settings.outbound_origins, settings.outbound_networks)


async def _ask(gateway: Gateway, outbound: Outbound, one: Endpoint) -> Result:
    if one.status != "active":
        return Result(None, "not-active")
    if one.over:
        return Result(False, "period-over")
    return await probe(outbound, one.connection, one.address, await _study(gateway, one))


async def _study(gateway: Gateway, one: Endpoint) -> str:
    """The StudyInstanceUID of a study that names the Endpoint; "" when none is found."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        plan = plan_search(
            "ImagingStudy",
            [("endpoint", f"Endpoint/{one.id}"), ("_count", "1")],
            secret=gateway.store.index_key,
            base_url="",
            zone=gateway.settings.zone,
            lenient=False,
            page_limit=1,
            naming=gateway.extractor.naming,
        )
        try:
            found: Sequence[Stored] = (await reader.search(plan)).matches
        except GatewayError:  # too costly in a large store, or the index is of an older version
            return ""
    for stored in found:
        for identifier in parse(stored.whole()).get("identifier", ()):
            if identifier.get("system") == "urn:dicom:uid":
                return str(identifier.get("value", "")).removeprefix("urn:oid:")
    return ""


async def _keep(gateway: Gateway, one: Endpoint, result: Result) -> bool:
    """Stores what is news; says whether it was. Who was overtaken looks again whether it is."""
    if result.passed is None:
        return False
    said = f"{result.asked or 'no question'}: {result.why}"
    for _ in range(ATTEMPTS):
        if not _is_news(gateway, one, result.passed):
            return False
        if await _stored_after(gateway, one, passed=result.passed, process=said, by=BY_GATEWAY):
            return True
        one = await _anew(gateway, one)
    return False


def _is_news(gateway: Gateway, one: Endpoint, passed: bool) -> bool:
    if one.passed is not passed or not one.current or not one.checked:
        return True
    return gateway.clock.now() - date_range(one.checked)[0] >= AGAIN


async def record(gateway: Gateway, one: Endpoint, *, passed: bool, process: str, by: str) -> None:
    """Stores the outcome of a check of the address that the Endpoint has, audited.

    Raises Conflict when others check the same Endpoint again and again.
    """
    for _ in range(ATTEMPTS):
        if await _stored_after(gateway, one, passed=passed, process=process, by=by):
            return
        one = await _anew(gateway, one)
    raise Conflict("Others record checks of this Endpoint; try again", rule="overtaken")


async def _anew(gateway: Gateway, one: Endpoint) -> Endpoint:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await _with_check(reader, one)


async def _stored_after(
    gateway: Gateway, one: Endpoint, *, passed: bool, process: str, by: str
) -> bool:
    """Stores a check as the next one after the check that was read; False when another came."""
    at = instant(gateway.clock.now())
    resource = verification_result(
        one.id, one.address, passed=passed, at=at, process=process, by=by
    )
    put = prepare(gateway, resource, op="update" if one.version else "create", institution=None)
    call, type = call_of(gateway, GATEWAY), "VerificationResult"
    if one.version:
        event = update_event(call, type=type, id=put.id, version=one.version + 1)
    else:
        event = create_event(call, type=type, id=put.id)
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=[VersionIs(type, put.id, one.version)],
        puts=[put],
        journal=[entry(gateway, event)],
    )
    try:
        await gateway.store.commit(change_set)
    except GatewayError as error:
        if getattr(error, "guard", -1) < 0:
            raise
        return False
    return True
