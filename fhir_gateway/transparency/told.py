"""What happens to the audit log is told in the audit log: AuditEvents by the gateway itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.json import encode

from fhir_gateway.audit.events import administration_event
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.security.actor import GATEWAY

ACT = "audit-log"

#: The detail that holds a statement.
STATEMENT = "statement"


async def tell_gap(gateway: Gateway, since: int, until: int) -> None:
    """No head was signed between these two moments (seconds): whoever reads the log sees when."""
    await _tell(gateway, "late", [("from", _instant(since)), ("until", _instant(until))])


async def tell_statement(gateway: Gateway, kind: str, text: str) -> str:
    """What the log states of itself; returns the AuditEvent's id."""
    return await _tell(gateway, kind, [(STATEMENT, text)])


def encoded(text: str) -> bytes:
    """A statement as it stands in the JSON of its AuditEvent."""
    return encode(text)


async def _tell(gateway: Gateway, summary: str, details: Sequence[tuple[str, str]]) -> str:
    event = administration_event(
        call_of(gateway, GATEWAY), act=ACT, summary=summary, details=details
    )
    told = entry(gateway, event)
    await disclose(gateway, [told])
    return told.id


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
