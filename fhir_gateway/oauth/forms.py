"""A form that came in, and what goes out: OAuth's own JSON, also for refusals (RFC 6749 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fhir_gateway.errors import GatewayError, Invalid, Login, UnsupportedMedia
from fhir_gateway.interactions.body import read_bounded
from fhir_gateway.security.tokens import challenge

#: Bytes of a form: an assertion, a token, a list of scopes. Fields of it.
MOST_BYTES, MOST_FIELDS = 65_536, 32

#: Codes that a refusal may carry as its rule (RFC 6749 5.2, RFC 7009 2.2.1, RFC 6749 4.1.2.1).
CODES = frozenset({
    "invalid_request", "invalid_client", "invalid_scope", "unauthorized_client",
    "unsupported_grant_type", "unsupported_token_type",
})  # fmt: skip

#: Nobody on the way may keep a token (RFC 6749 5.1).
_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff"}


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form. Raises UnsupportedMedia, TooLong, and Invalid for one that says
    something twice."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UnsupportedMedia("Send application/x-www-form-urlencoded", rule="invalid_request")
    try:
        body = await read_bounded(request.receive, MOST_BYTES, "A form", rule="invalid_request")
        text = body.decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=MOST_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError:
        raise Invalid("The body is no form in UTF-8", rule="invalid_request") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise Invalid("A parameter may stand there once", rule="invalid_request")
    return form


def wanted(form: Mapping[str, str], name: str) -> str:
    """A field that must be there. Raises Invalid."""
    value = form.get(name, "")
    if not value:
        raise Invalid(f"{name} is missing", rule="invalid_request")
    return value


def answer(value: Mapping[str, Any], status: int = 200) -> Response:
    """An answer that nobody may keep."""
    body = msgspec.json.encode(value)
    return Response(body, status, _HEADERS, "application/json")


def refusal(error: GatewayError) -> Response:
    """A refusal in OAuth's words; what is wrong with a client's proof is `invalid_client`."""
    issue = error.issues[0]
    if isinstance(error, Login):
        code = "invalid_client"
    elif error.status in (429, 503):
        code = "temporarily_unavailable"
    elif error.status >= 500:
        code = "server_error"
    else:
        code = issue.rule if issue.rule in CODES else "invalid_request"
    plain = "".join(one for one in issue.diagnostics if " " <= one <= "~" and one not in '"\\')
    response = answer({"error": code, "error_description": plain}, error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = challenge(error).decode("ascii")
    if error.status in (429, 503):
        response.headers["Retry-After"] = str(getattr(error, "after", 1) or 1)
    return response
