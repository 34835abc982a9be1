"""What a client sends and wants back: media types, Prefer, ETags, conditional headers.

hl7.org/fhir/R4/http.html#mime-type, #return, RFC 9110 (Accept, If-None-Match, If-Modified-Since).
`_format` wins over Accept. What cannot be served is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import Invalid, NotAcceptable, UnsupportedMedia

FHIR_JSON = "application/fhir+json"

#: Media types of JSON as clients spell them; the value is how the answer calls itself.
_JSON = {
    "application/fhir+json": FHIR_JSON,
    "application/fhir json": FHIR_JSON,  # a plus sign that was not escaped in a query
    "application/json": "application/json",
    "application/json+fhir": FHIR_JSON,  # DSTU2, still sent by browsers' CDS Hooks clients
    "application/*": FHIR_JSON,
    "text/json": "text/json",
    "*/*": FHIR_JSON,
    "json": FHIR_JSON,
}
_READABLE = frozenset(name for name in _JSON if name.count("/") == 1 and "*" not in name)
_FORM = "application/x-www-form-urlencoded"
_VERSIONS = ("4.0", "4.0.1")


@lru_cache(maxsize=512)
def answer_type(accept: str | None, format: str | None = None) -> str:
    """The Content-Type of the answer. Raises NotAcceptable when JSON is not wanted."""
    if format:
        wanted = [format]
    elif accept and accept.strip():
        wanted = accept.split(",")
    else:
        wanted = ["*/*"]
    for choice in wanted:
        name, parameters = _media_type(choice)
        served = _JSON.get(name)
        if served and parameters.get("fhirversion", "4.0") in _VERSIONS and _weight(parameters):
            return f"{served}; charset=utf-8"
    raise NotAcceptable("Answers are application/fhir+json, FHIR version 4.0", rule="accept")


@lru_cache(maxsize=512)
def check_body_type(content_type: str | None) -> None:
    """Raises UnsupportedMedia for a body that is not FHIR JSON in UTF-8."""
    name, parameters = _media_type(content_type or "")
    if (
        name not in _READABLE
        or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8")
        or parameters.get("fhirversion", "4.0") not in _VERSIONS
    ):
        raise UnsupportedMedia(
            "Send application/fhir+json in UTF-8, FHIR version 4.0", rule="content-type"
        )


def check_form(content_type: str | None) -> None:
    """Raises UnsupportedMedia for the body of a POST _search that is not a form."""
    if _media_type(content_type or _FORM)[0] != _FORM:
        raise UnsupportedMedia(f"Send {_FORM} to _search", rule="content-type")


def _media_type(text: str) -> tuple[str, Mapping[str, str]]:
    name, *parameters = text.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return name.strip().lower(), {
        key.strip().lower(): value.strip().strip('"') for key, _, value in pairs
    }


def _weight(parameters: Mapping[str, str]) -> bool:
    """False for q=0: not wanted."""
    return parameters.get("q", "1").rstrip("0") not in ("", "0.")


class Prefer(NamedTuple):
    """The Prefer header (RFC 7240): what to return of a write, how strict to be with a search."""

    returns: str = "representation"
    lenient: bool = False


@lru_cache(maxsize=512)
def prefer(header: str | None, default: str = "representation") -> Prefer:
    """Reads Prefer; what is not known is ignored, as the RFC says."""
    chosen: dict[str, str] = {}
    for part in (header or "").replace(";", ",").split(","):
        name, _, value = part.partition("=")
        chosen.setdefault(name.strip().lower(), value.strip().strip('"'))
    returns = chosen.get("return", default)
    if returns not in ("minimal", "representation", "OperationOutcome"):
        returns = default
    return Prefer(returns, chosen.get("handling") == "lenient")


def version_in(if_match: str | None) -> int | None:
    """The version that If-Match insists on. Raises Invalid when it is not one ETag of ours."""
    if if_match is None:
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid('If-Match names one version: W/"3"', rule="if-match")
    return int(text)


def is_current(headers: Mapping[str, str], version: int, updated: int) -> bool:
    """True when the client has this version already (answer 304). If-None-Match goes first."""
    known = headers.get("if-none-match")
    if known is not None:
        tags = (tag.strip().removeprefix("W/").strip('"') for tag in known.split(","))
        return any(tag in (str(version), "*") for tag in tags)
    since = headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return updated // 1_000_000 <= parsedate_to_datetime(since).timestamp()
    except (TypeError, ValueError, OverflowError):
        return False


@lru_cache(maxsize=8_192)
def http_date(second: int) -> str:
    """A second since 1970 as Last-Modified shows it."""
    return formatdate(second, usegmt=True)


def take(pairs: Sequence[tuple[str, str]], name: str) -> tuple[str | None, list[tuple[str, str]]]:
    """The last value of a parameter, and the other parameters."""
    value = None
    others = []
    for pair in pairs:
        if pair[0] == name:
            value = pair[1]
        else:
            others.append(pair)
    return value, others
