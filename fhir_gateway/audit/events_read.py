"""What an AuditEvent says, as a value: read back for ledgers, packets and people who ask.

The counterpart of events.py. It reads any valid AuditEvent, also one that a registered source sent
(IHE ITI-20); what an event does not say stays empty.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from typing import Any, NamedTuple

from fhir_gateway.audit.events_parts import LEGAL_BASIS, PURPOSES

#: Kinds of acts, as ledgers name them: by (system-free) codes of type and subtype, first match.
_KINDS = (
    ("110127", "break-glass"),
    ("ITI-71", "login"),
    ("110137", "credential"),
    ("110129", "administration"),
    ("110106", "disclosure"),
    ("110107", "received"),
)


class Act(NamedTuple):
    """One AuditEvent. `kind` is a word of ours, `name` the interaction or operation; `who` the
    person or, without one, the system that acted, `client` the registered client, `institution`
    the logical id of its Organization. `patients` and `resources` are references, `file` what was
    handed out, `details` what is said of it; `said` are counts and codes."""

    id: str
    recorded: str
    kind: str
    name: str
    action: str
    outcome: str
    who: str = ""
    institution: str = ""
    institution_name: str = ""
    client: str = ""
    token: str = ""
    address: str = ""
    request: str = ""
    purpose: str = ""
    basis: str = ""
    patients: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    query: str = ""
    file: str = ""
    details: tuple[tuple[str, str], ...] = ()
    said: str = ""

    @property
    def discloses(self) -> bool:
        """Whether data of persons went to somebody by this act."""
        return self.outcome == "0" and self.kind in ("read", "search", "disclosure", "decision")

    def types(self) -> dict[str, int]:
        """How many resources of which type the event names, the patient apart."""
        counted: dict[str, int] = {}
        for reference in self.resources:
            type = reference.partition("/")[0]
            counted[type] = counted.get(type, 0) + 1
        return counted


def act_of(event: dict[str, Any]) -> Act:
    """What an AuditEvent says."""
    client, person = _agents(event.get("agent", []))
    entities = [one for one in event.get("entity", []) if isinstance(one, dict)]
    reasons = [
        coding for reason in event.get("purposeOfEvent", []) for coding in reason.get("coding", [])
    ]
    kind, name = _kind(event)
    reference = client.get("who", {}).get("reference", "")
    whom = person or client
    return Act(
        id=event.get("id", ""),
        recorded=event.get("recorded", ""),
        kind=kind,
        name=name,
        action=event.get("action", ""),
        outcome=event.get("outcome", ""),
        who=_shown(whom.get("who", {})),
        institution=reference.removeprefix("Organization/"),
        institution_name=client.get("who", {}).get("display", "") if reference else "",
        client=client.get("altId", ""),
        token=next(iter(whom.get("policy", ())), ""),
        address=client.get("network", {}).get("address", ""),
        request=_request(entities),
        purpose=_code(reasons, PURPOSES),
        basis=_code(reasons, LEGAL_BASIS),
        patients=_references(entities, "1"),
        resources=_references(entities, "4"),
        query=_query(entities),
        said=event.get("outcomeDesc", ""),
        **_named(entities),
    )


def _agents(agents: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The client, and the person behind it ({} for none): the one who asked is one of them."""
    clients = [one for one in agents if not _is_server(one)]
    person = next((one for one in clients[1:] if one.get("requestor")), {})
    return (clients[0] if clients else {}), person


def _is_server(agent: dict[str, Any]) -> bool:
    """BALP names the gateway by its machine name, the client by its network address."""
    return bool(agent.get("network", {}).get("type") == "1" and not agent.get("requestor"))


def _shown(who: dict[str, Any]) -> str:
    return str(who.get("display") or who.get("reference") or "")


def _kind(event: dict[str, Any]) -> tuple[str, str]:
    """The word for the act, and the interaction or operation by its own name."""
    subtypes = event.get("subtype", [])
    codes = [event.get("type", {}).get("code", ""), *(one.get("code", "") for one in subtypes)]
    named = next((one["display"] for one in subtypes if "code" not in one and "display" in one), "")
    name = named or next((code for code in codes[1:] if code), codes[0])
    if event.get("outcome", "0") != "0":
        return "refusal", name
    for code, kind in _KINDS:
        if code in codes:
            return kind, name
    return _REST.get(name) or _BY_ACTION.get(event.get("action", ""), "operation"), name


_REST = {
    "read": "read", "vread": "read", "history-instance": "read", "search-type": "search",
    "search-system": "search", "history-type": "search", "history-system": "search",
    "operation": "search", "create": "create", "update": "update", "patch": "update",
    "delete": "delete", "transaction": "update", "batch": "update",
    "$recognize": "decision", "order-sign": "decision", "order-select": "decision",
    "order-dispatch": "decision", "$answer": "answer", "$acknowledge": "answer",
    "feedback": "answer",
}  # fmt: skip
_BY_ACTION = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "operation"}


def _references(entities: list[dict[str, Any]], role: str) -> tuple[str, ...]:
    found = [
        one["what"]["reference"]
        for one in entities
        if one.get("role", {}).get("code") == role and "reference" in one.get("what", {})
    ]
    return tuple(dict.fromkeys(found))


def _query(entities: list[dict[str, Any]]) -> str:
    packed = next((one["query"] for one in entities if "query" in one), "")
    try:
        return b64decode(packed, validate=True).decode("utf-8", "replace")
    except (NotBase64, ValueError):
        return ""


def _request(entities: list[dict[str, Any]]) -> str:
    for one in entities:
        if one.get("type", {}).get("code") == "XrequestId":
            return str(one.get("what", {}).get("identifier", {}).get("value", ""))
    return ""


def _named(entities: list[dict[str, Any]]) -> dict[str, Any]:
    """What has a name and no address: a file, with what is said of it."""
    for one in entities:
        named = one.get("what", {}).get("identifier", {}).get("value", "")
        if named and one.get("role", {}).get("code") == "4":
            details = tuple(
                (detail.get("type", ""), detail.get("valueString", ""))
                for detail in one.get("detail", ())
            )
            return {"file": named, "details": details}
    return {}


def _code(codings: list[dict[str, Any]], system: str) -> str:
    return next((one.get("code", "") for one in codings if one.get("system") == system), "")
