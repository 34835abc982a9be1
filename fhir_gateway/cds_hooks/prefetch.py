"""What a call did not bring is asked for at the client's own server, where that is listed.

CDS Hooks 2.0, "Prefetch Template" and "FHIR Resource Access". A key that came as null says that
there is no such data, one that is missing says nothing. What is asked for goes to `fhirServer`
with the token of the call, never anywhere else (security.outbound), and within a share of the
time that the whole answer may take; whatever cannot be had is missing, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.cds_hooks.request import HookCall
from fhir_gateway.cds_hooks.services import SITUATION
from fhir_gateway.cds_hooks.trust import clients_of
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.outbound import Outbound
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.outbound import read_policy

#: The share of a call's time that asking may take; the rest is for deciding.
SHARE = 0.6
#: Limits of one answer, and the pages of one search that are read.
MOST_BYTES, MOST_PAGES = 1_048_576, 3

_TOKEN = re.compile(r"\{\{context\.(patientId|encounterId)\}\}")
_ACCEPT = "application/fhir+json, application/json"

Resource = dict[str, Any]


class Had(NamedTuple):
    """What is known from the client's side. `patient` is None also when the client has none;
    `said` lists the keys that are known, be it that there is nothing, `missing` the others."""

    patient: Resource | None
    resources: tuple[Resource, ...]
    said: frozenset[str]
    missing: tuple[str, ...]

    @property
    def situation_known(self) -> bool:
        """Whether visit, diagnoses and plans are all known."""
        return self.said.issuperset(SITUATION)


async def complete(gateway: Gateway, actor: Actor, call: HookCall, *, ours: bool) -> Had:
    """What the call brought, and what could be had beside it. Never fails.

    `ours` says that patientId is one of this gateway: then the Patient is known without asking.
    """
    found: dict[str, list[Resource]] = {}
    more: dict[str, tuple[str, list[Resource]]] = {}
    for key, value in call.prefetch.given.items():
        resources, following = _resources(value)
        if following:
            more[key] = (following, resources)
        else:
            found[key] = resources
    if _may_ask(gateway, actor, call):
        absent = [key for key in call.service.prefetch if key not in call.prefetch.given]
        urls = {
            key: url
            for key in absent
            if key not in call.prefetch.failed
            and not (ours and key == "patient")
            and (url := _filled(call, call.service.prefetch[key]))
        }
        if urls or more:
            found |= await _ask(gateway, call, urls, more)
    missing = tuple(key for key in call.service.prefetch if key not in found)
    for key, (_, resources) in more.items():
        found.setdefault(key, resources)  # the first page counts for what is in it
    patient = next(iter(found.get("patient", ())), None)
    every = tuple(one for resources in found.values() for one in resources)
    return Had(patient, every, frozenset(call.service.prefetch).difference(missing), missing)


def _may_ask(gateway: Gateway, actor: Actor, call: HookCall) -> bool:
    if not call.token or not call.fhir_server:
        return False
    return clients_of(gateway.settings.cds_clients).may_ask(actor.institution, call.fhir_server)


def _filled(call: HookCall, template: str) -> str:
    """The template with the call's ids; "" when the call lacks one."""
    ids = {"patientId": call.patient_id, "encounterId": call.encounter_id}
    if not all(ids[name] for name in _TOKEN.findall(template)):
        return ""
    return _TOKEN.sub(lambda match: ids[match[1]], template)


async def _ask(
    gateway: Gateway,
    call: HookCall,
    urls: Mapping[str, str],
    more: Mapping[str, tuple[str, list[Resource]]],
) -> dict[str, list[Resource]]:
    """What came in time, by key."""
    settings, base = gateway.settings, call.fhir_server.rstrip("/")
    seconds = settings.hook_deadline_ms / 1000 * SHARE
    policy = read_policy("", settings.outbound_networks).allowing([base])
    found: dict[str, list[Resource]] = {}

    async def fill(key: str, url: str, before: list[Resource]) -> None:
        resources = await _pages(outbound, base, url, call.token, before)
        if resources is not None:
            found[key] = resources

    wanted: list[tuple[str, str, list[Resource]]]
    wanted = [(key, f"{base}/{url}", []) for key, url in urls.items()]
    wanted += [(key, url, list(before)) for key, (url, before) in more.items()]
    async with Outbound(policy, ca=settings.outbound_ca) as outbound:
        tasks = [asyncio.create_task(fill(*one)) for one in wanted]
        try:
            _, late = await asyncio.wait(tasks, timeout=seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if late or len(found) < len(wanted):
        gateway.count("hooks_incomplete", 1)
    return found


async def _pages(
    outbound: Outbound, base: str, url: str, token: str, before: list[Resource]
) -> list[Resource] | None:
    """All resources of a read or search; None when they could not be had whole."""
    headers = {"accept": _ACCEPT, "authorization": f"Bearer {token}"}
    resources = before
    for _ in range(MOST_PAGES):
        if not url.startswith(f"{base}/") and not url.startswith(f"{base}?"):
            return None
        try:
            answer = await outbound.fetch(url, headers=headers, most_bytes=MOST_BYTES, seconds=_FAR)
            found, url = _resources(parse(answer.body)) if answer.status == 200 else (None, "")
        except GatewayError:
            return None
        if found is None:
            return None
        resources = [*resources, *found]
        if not url:
            return resources
    return None


#: `_ask` has the limit, for all of them together.
_FAR = 60.0


def _resources(value: Resource | None) -> tuple[list[Resource], str]:
    """The resources in an answer to a read or search, and where the next page is."""
    if value is None:
        return [], ""
    if value.get("resourceType") != "Bundle":
        return [value], ""
    entries, links = value.get("entry"), value.get("link")
    found = [
        entry["resource"]
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("resource"), dict)
    ]
    following = next(
        (
            str(link.get("url", ""))
            for link in (links if isinstance(links, list) else ())
            if isinstance(link, dict) and link.get("relation") == "next"
        ),
        "",
    )
    return found, following
