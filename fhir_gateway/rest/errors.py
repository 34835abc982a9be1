"""Every refusal as an HTTP answer: an OperationOutcome, always (http.html#Status-Codes)."""

from __future__ import annotations

from fhir_gateway.errors import GatewayError, Internal, Issue
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.interactions.audit import ORIGIN
from fhir_gateway.rest.exchange import Answer

#: What a client needs beside the status line.
_HEADERS: dict[int, tuple[tuple[bytes, bytes], ...]] = {
    401: ((b"www-authenticate", b'Bearer realm="fhir-gateway"'),),
    413: ((b"connection", b"close"),),
    429: ((b"retry-after", b"1"),),
    503: ((b"retry-after", b"1"),),
}


def refusal(error: GatewayError, *, allow: str = "") -> Answer:
    """The answer to a refused request; of a fault of ours it says the request id and no more."""
    issues = error.issues
    if isinstance(error, Internal):
        issues = (fault(),)
    headers = _HEADERS.get(error.status, ())
    if allow:
        headers = (*headers, (b"allow", allow.encode()))
    return Answer(error.status, operation_outcome(issues), headers)


def fault() -> Issue:
    """The issue of an unexpected exception."""
    return Issue("exception", f"Internal error. Request id: {ORIGIN.get().request_id}")
