"""The answer to a write: status, ETag, Location, and what Prefer asks for
(hl7.org/fhir/R4/http.html#create, #update, #patch, #return)."""

from __future__ import annotations

from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.negotiation import http_date, prefer

_STATUS = {"created": 201, "updated": 200, "unchanged": 200, "existing": 200}


def written(exchange: Exchange, outcome: Outcome) -> Answer:
    """The answer to a create, update or patch, as Prefer asks."""
    place = f"{exchange.base}/{outcome.type}/{outcome.id}/_history/{outcome.version}"
    headers = (
        etag(outcome.version),
        last_modified(outcome.updated),
        (b"location", place.encode("latin-1")),
    )
    returns = prefer(exchange.headers.get("prefer")).returns
    body = b""
    if returns == "representation":
        body = outcome.body()
    elif returns == "OperationOutcome":
        body = operation_outcome(outcome.issues)
    return Answer(_STATUS[outcome.kind], body, headers)


def etag(version: int) -> tuple[bytes, bytes]:
    """The ETag of a version."""
    return b"etag", b'W/"%d"' % version


def last_modified(updated: int) -> tuple[bytes, bytes]:
    """Last-Modified of a version; `updated` is in microseconds."""
    return b"last-modified", http_date(updated // 1_000_000).encode()
