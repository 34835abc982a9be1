"""Organization/[id]/$messages, $message-trace, and $origin of a resource: told to the sender alone.

The table of rights lets an institution's systems in; whose message it is is judged here. Each look
is on record as a disclosure of the Patients that the message names before it is answered.
docs/trace.md
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, Forbidden, GatewayError, Invalid, NotFound
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import disclose_read, disclose_search
from fhir_gateway.interactions.conversion import Conversion, bundle_of
from fhir_gateway.interactions.message_definitions import MESSAGES, ORIGIN, TRACE
from fhir_gateway.interactions.message_trace import (
    Trace,
    explained,
    origin,
    sender_of,
    trace,
)
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.mapping.origins import Origin
from fhir_gateway.mapping.origins_asked import is_element
from fhir_gateway.mapping.tables import Table, table
from fhir_gateway.mapping.v2 import Message as Tree
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.messages import Asked, Message, messages
from fhir_gateway.store.store import Stored

__all__ = ["MESSAGES", "ORIGIN", "TRACE", "list_messages", "origin_of", "trace_message"]

_COUNT, _MOST = 50, 500

#: Texts beyond this are told as bytes alone: an embedded file is no text to read.
_MOST_TEXT = 200_000


async def list_messages(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """A page of the register. Raises Forbidden for another institution's, Invalid."""
    own = _own(actor, call)
    given = call.value("_count")
    count = _COUNT if given is None else given
    if not 0 < count <= _MOST:
        raise Invalid(f"_count is 1 to {_MOST}", expression="_count", rule="limit")
    asked = Asked(
        name=call.value("name"), door=call.value("door"), outcome=call.value("outcome"),
        rule=call.value("rule"), since=_time(gateway, call, "since"),
        until=_time(gateway, call, "until"),
    )  # fmt: skip
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = await messages(
            reader, own, asked, after=_place(call.value("after")), newest=True, limit=count
        )
    await disclose_search(
        gateway, actor, asked=f"Organization/{own}/$messages", matches=(), interaction="operation"
    )
    told = [_part("message", message_parts(one)) for one in found]
    if len(found) == count:
        received, id = found[-1].place
        told.append({"name": "next", "valueString": f"{received}-{id}"})
    return _parameters(told)


async def trace_message(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """A message with all that became of it. Raises NotFound for another institution's."""
    found = await trace(gateway, _own(actor, call), call.value("id"))
    await disclose_trace(gateway, actor, found)
    told = trace_parts(found, table(f"{gateway.settings.mappings}/v2", "field-names"))
    if call.value("explain"):
        for one, _ in found.conversions:
            told += [_origin(row) for row in await _origins(gateway, one, found)]
    return _parameters(told)


async def origin_of(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """The message that a version was made from. Raises NotFound, Deleted, Forbidden."""
    number = call.value("version")
    async with gateway.store.snapshot(actor.access) as reader:
        if number is None:
            stored = await reader.read(call.type, call.id)
        else:
            stored = await reader.vread(call.type, call.id, number)
    if stored is None:
        raise NotFound("There is no such resource or version", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    found = await origin(gateway, stored, await _teller(gateway, actor, stored))
    if found.trace is not None:
        await disclose_trace(gateway, actor, found.trace)
    else:
        await disclose_read(gateway, actor, stored, interaction="operation")
    reference = f"{stored.type}/{stored.id}/_history/{stored.version}"
    told: list[dict[str, Any]] = [{"name": "version", "valueReference": {"reference": reference}}]
    if found.hash:
        told.append({"name": "hash", "valueString": found.hash.hex()})
    if found.trace is not None:
        told.append(_part("message", message_parts(found.trace.message)))
        element = call.value("element") or ""
        if element or call.value("explain"):
            rows = await origins_of(gateway, found.trace, stored, element)
            told += [_origin(row) for row in rows]
    return _parameters(told)


async def origins_of(gateway: Gateway, found: Trace, stored: Stored, element: str) -> list[Origin]:
    """The origins of the values of one resource, or of one element of it."""
    name = f"{stored.type}/{stored.id}"
    told: list[Origin] = []
    for one, resources in found.conversions:
        if any(f"{each['resourceType']}/{each['id']}" == name for each in resources):
            rows = await _origins(gateway, one, found)
            told += [row for row in rows if row.resource == name]
    return [row for row in told if not element or is_element(row, element)]


async def _origins(gateway: Gateway, one: Conversion, found: Trace) -> list[Origin]:
    return (await explained(gateway, one, found.message.institution)).origins


async def disclose_trace(gateway: Gateway, actor: Actor, found: Trace) -> None:
    """Puts a look at a message on record: a disclosure of each Patient that it names."""
    await disclose_search(
        gateway, actor, asked=_query(found), bound=found.patients,
        matches=(), interaction="operation",
    )  # fmt: skip


def _query(found: Trace) -> str:
    return f"Organization/{found.message.institution}/$message-trace?id={found.message.id}"


def _own(actor: Actor, call: Call) -> str:
    """Whose messages are asked for. Raises Forbidden for another's than the caller's."""
    if actor.bound and actor.institution != call.id:
        raise Forbidden("An institution sees the messages that it has sent itself",
                        expression="Organization", rule="owner")  # fmt: skip
    return call.id


async def _teller(gateway: Gateway, actor: Actor, stored: Stored) -> str:
    """Who asks as the sender: the caller's institution, or for the gateway itself the owner."""
    if actor.bound:
        return actor.institution or ""
    return await sender_of(gateway, stored.owner)


def _time(gateway: Gateway, call: Call, name: str) -> int | None:
    text = call.value(name)
    return date_range(text, gateway.settings.zone)[0] if text else None


def _place(after: str | None) -> tuple[int, str] | None:
    """Where a page goes on. Raises Invalid for what no page gave."""
    if after is None:
        return None
    received, _, id = after.partition("-")
    if not (received.isascii() and received.isdigit() and len(received) < 19 and id.isalnum()):
        raise Invalid("after is what `next` of the page before says", expression="after",
                      rule="cursor")  # fmt: skip
    return int(received), id


# -- as Parameters ---------------------------------------------------------------------------------


def message_parts(one: Message) -> list[dict[str, Any]]:
    """A row of the register."""
    parts: list[dict[str, Any]] = [
        {"name": "id", "valueId": one.id},
        {"name": "institution", "valueReference": {"reference": f"Organization/{one.institution}"}},
        {"name": "door", "valueCode": one.door},
        {"name": "outcome", "valueCode": one.outcome},
        {"name": "received", "valueInstant": instant(one.received)},
        {"name": "last", "valueInstant": instant(one.last)},
        {"name": "attempts", "valueInteger": one.attempts},
        {"name": "size", "valueInteger": one.size},
        {"name": "hash", "valueString": one.hash.hex()},
    ]
    texts = (("kind", one.kind), ("name", one.name))
    parts += [{"name": name, "valueString": text} for name, text in texts if text.strip()]
    codes = (("code", one.code), ("rule", one.rule), ("state", one.state))
    return parts + [{"name": name, "valueCode": code} for name, code in codes if code]


def trace_parts(found: Trace, names: Table) -> list[dict[str, Any]]:
    """A trace, without origins."""
    told = [_part("message", message_parts(found.message))]
    if found.raw is not None:
        data = b64encode(found.raw).decode("ascii")
        told.append({"name": "bytes", "valueAttachment": {
            "contentType": found.media, "data": data, "size": len(found.raw)}})  # fmt: skip
        text = text_of(found)
        if text and len(text) <= _MOST_TEXT:
            told.append({"name": "text", "valueString": text})
    for one, resources in found.conversions:
        if one.message is not None:
            told += [_part("segment", parts) for parts in _segments(one.message, names)]
        told.append({"name": "bundle", "resource": bundle_of(resources)})
    for written in found.written:
        reference = {"reference": written.reference}
        told.append(_part("stored", [{"name": "version", "valueReference": reference},
                                     {"name": "done", "valueCode": written.op}]))  # fmt: skip
    if found.issues:
        told.append({"name": "issue", "resource": _outcome(found.issues)})
    if found.refusal is not None:
        told.append({"name": "refusal", "resource": _outcome(issues_of(found.refusal))})
    if found.answer:
        told.append({"name": "answer", "valueString": answer_of(found)})
    return told


def text_of(found: Trace) -> str:
    """The bytes as text, by the character set that they were read in; "" for what is none."""
    if found.raw is None:
        return ""
    trees = [one.message for one, _ in found.conversions if one.message is not None]
    codecs = [tree.decoded.codec for tree in trees] or ["utf-8", "gb18030"]
    for codec in codecs:
        try:
            text = found.raw.decode(codec)
        except UnicodeDecodeError:
            continue
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text if all(c >= " " or c in "\n\t" for c in text) else ""
    return ""


def answer_of(found: Trace) -> str:
    """The acknowledgement as text."""
    return found.answer.decode("utf-8", "replace").replace("\r", "\n").strip()


def issues_of(error: GatewayError) -> list[dict[str, Any]]:
    """Issues of a refusal as the register keeps them."""
    return [
        {
            "severity": issue.severity,
            "code": issue.code,
            "rule": issue.rule,
            "diagnostics": issue.diagnostics,
            "expression": issue.expression,
        }
        for issue in error.issues
    ]


def _outcome(issues: Sequence[dict[str, Any]]) -> dict[str, Any]:
    told = []
    for one in issues:
        issue: dict[str, Any] = {"severity": one["severity"], "code": one.get("code", "processing")}
        if rule := one.get("rule"):
            issue["details"] = {"text": rule}
        if text := one.get("diagnostics"):
            issue["diagnostics"] = text
        if place := one.get("expression"):
            issue["expression"] = [place]
        told.append(issue)
    return {"resourceType": "OperationOutcome", "issue": told}


def segments_of(tree: Tree, names: Table) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The parsed tree: each segment with (place, name of the standard, content) of its fields."""
    found = []
    for segment in tree.segments:
        fields = []
        for n in range(1, len(segment.fields)):
            content = segment.fields[n]
            if content:
                row = names.get(f"{segment.name}-{n}")
                fields.append((segment.where(n), row.display if row else "", content))
        found.append((f"{segment.name}[{segment.number}]", fields))
    return found


def _segments(tree: Tree, names: Table) -> list[list[dict[str, Any]]]:
    return [
        [
            {"name": "name", "valueString": name},
            *(
                _part("field", [
                    {"name": "place", "valueString": place},
                    *([{"name": "name", "valueString": said}] if said else []),
                    {"name": "content", "valueString": content if content.strip() else "(blank)"},
                ])
                for place, said, content in fields
            ),
        ]
        for name, fields in segments_of(tree, names)
    ]  # fmt: skip


def _origin(row: Origin) -> dict[str, Any]:
    told: list[dict[str, Any]] = [
        {"name": "resource", "valueReference": {"reference": row.resource}},
        {"name": "element", "valueString": row.element},
        {"name": "value", "valueString": row.value if row.value.strip() else json.dumps(row.value)},
        {"name": "how", "valueCode": row.how},
    ]
    if row.detail:
        told.append({"name": "detail", "valueString": row.detail})
    for atom in row.sources:
        parts = [{"name": "place", "valueString": atom.place}]
        if atom.text.strip():
            parts.append({"name": "content", "valueString": atom.text})
        told.append(_part("from", parts))
    told += [{"name": "also", "valueString": atom.place} for atom in row.also]
    return _part("origin", told)


def _parameters(members: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Parameters"} | ({"parameter": members} if members else {})


def _part(name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "part": parts}
