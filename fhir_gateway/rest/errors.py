"""Every refusal as an HTTP answer: an OperationOutcome, always (http.html#Status-Codes)."""

from __future__ import annotations

from fhir_gateway.errors import GatewayError, Internal, Issue
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.audit import ORIGIN
from fhir_gateway.rest.exchange import Answer
from fhir_gateway.security.tokens import challenge

#: What a client needs beside the status line.
_HEADERS: dict[int, tuple[tuple[bytes, bytes], ...]] = {
    408: ((b"connection", b"close"),),
    413: ((b"connection", b"close"),),
    414: ((b"connection", b"close"),),
    431: ((b"connection", b"close"),),
}
#: Statuses that say when to come again.
_LATER = frozenset({429, 503})


def refusal(error: GatewayError, *, allow: str = "") -> Answer:
    """The answer to a refused request; of a fault of ours it says the request id and no more."""
    issues = error.issues
    if isinstance(error, Internal):
        issues = (fault(),)
    headers = _HEADERS.get(error.status, ())
    if error.status in _LATER:
        headers = (*headers, (b"retry-after", b"%d" % error.after))
    scope = getattr(error, "scope", "")
    if scope:  # RFC 6750, 3.1
        told = f'Bearer error="insufficient_scope", scope="{scope}"'
        headers = (*headers, (b"www-authenticate", told.encode("latin-1")))
    if error.status == 401:
        headers = (*headers, (b"www-authenticate", challenge(error)))
    if allow:
        headers = (*headers, (b"allow", allow.encode()))
    return Answer(error.status, operation_outcome(issues), headers)


def fault() -> Issue:
    """The issue of an unexpected exception."""
    return Issue("exception", f"Internal error. Request id: {ORIGIN.get().request_id}")
