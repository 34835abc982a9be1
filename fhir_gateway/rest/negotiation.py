"""What a client sends and wants back: media types, Prefer, ETags, conditional headers.

hl7.org/fhir/R4/http.html#mime-type, #return, RFC 9110 (Accept, If-None-Match, If-Modified-Since).
`_format` wins over Accept. What cannot be served is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import Invalid, NotAcceptable, UnsupportedMedia

FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"

#: Media types as clients spell them; the value is how the answer calls itself.
_FORMATS = {
    "application/fhir+json": FHIR_JSON,
    "application/fhir json": FHIR_JSON,  # a plus sign that was not escaped in a query
    "application/json": "application/json",
    "application/json+fhir": FHIR_JSON,  # DSTU2, still sent by browsers' CDS Hooks clients
    "application/*": FHIR_JSON,
    "text/json": "text/json",
    "*/*": FHIR_JSON,
    "json": FHIR_JSON,
    "application/fhir+xml": FHIR_XML,
    "application/fhir xml": FHIR_XML,
    "application/xml": "application/xml",
    "application/xml+fhir": FHIR_XML,
    "text/xml": "text/xml",
    "xml": FHIR_XML,
}
_SERVED = (FHIR_JSON, "application/json", FHIR_XML, "application/xml")
_READABLE = frozenset(name for name in _FORMATS if name.count("/") == 1 and "*" not in name)
#: Content-Types of answers in XML.
XML_ANSWERS = frozenset(
    f"{served}; charset=utf-8" for served in _FORMATS.values() if served.endswith("xml")
)
#: XML that need not be FHIR's: browsers ask for it beside HTML.
_PLAIN_XML = frozenset({"application/xml", "text/xml"})
_JSON_OR_ANY = frozenset(
    name for name, served in _FORMATS.items() if "/" in name and not served.endswith("xml")
)
_FORM = "application/x-www-form-urlencoded"
_VERSIONS = ("4.0", "4.0.1")


@lru_cache(maxsize=512)
def answer_type(accept: str | None, format: str | None = None) -> str:
    """The Content-Type of the answer: the spelling of JSON or XML that the client likes best.

    Of those it likes alike the first holds. A browser, which names text/html, means pages where it
    says XML: it gets JSON, unless it names FHIR's own XML. Raises NotAcceptable when it wants
    neither.
    """
    if format is not None:
        wanted = [format]
    elif accept and accept.strip():
        wanted = accept.split(",")
    else:
        wanted = ["*/*"]
    weights: dict[str, float] = {}
    for choice in wanted:
        name, parameters = _media_type(choice)
        if parameters.get("fhirversion", "4.0") in _VERSIONS:
            weights.setdefault(name, _weight(parameters))
    if weights.get("text/html") and any(weights.get(name) for name in _JSON_OR_ANY):
        weights = {name: weight for name, weight in weights.items() if name not in _PLAIN_XML}
    chosen, best = "", 0.0
    for name, weight in weights.items():
        served = _FORMATS.get(name)
        if served and "*" in name:  # what is excluded by name is not meant by a wildcard
            served = next((one for one in _SERVED if weights.get(one, 1.0)), None)
        if served and weight > best:
            chosen, best = served, weight
    if not chosen:
        raise NotAcceptable(
            f"Answers are {FHIR_JSON} or {FHIR_XML}, FHIR version 4.0", rule="accept"
        )
    return f"{chosen}; charset=utf-8"


@lru_cache(maxsize=512)
def check_body_type(content_type: str | None) -> bool:
    """True for FHIR XML, False for FHIR JSON. Raises UnsupportedMedia for any other body, and for
    one that is not UTF-8."""
    name, parameters = _media_type(content_type or "")
    if (
        name not in _READABLE
        or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8")
        or parameters.get("fhirversion", "4.0") not in _VERSIONS
    ):
        raise UnsupportedMedia(
            f"Send {FHIR_JSON} or {FHIR_XML} in UTF-8, FHIR version 4.0", rule="content-type"
        )
    return "xml" in name


def is_json_patch(content_type: str | None) -> bool:
    """True for a JSON Patch. Raises UnsupportedMedia for one that is not UTF-8."""
    name, parameters = _media_type(content_type or "")
    if name != "application/json-patch+json":
        return False
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMedia("A JSON Patch is UTF-8", rule="content-type")
    return True


def is_xml_patch(content_type: str | None) -> bool:
    """True for XML that is no resource, such as XML Patch."""
    name = _media_type(content_type or "")[0]
    return "xml" in name and name not in _READABLE


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


def _weight(parameters: Mapping[str, str]) -> float:
    """The quality of a choice, 0 for what is not wanted; a weight that is none counts as 1."""
    text = parameters.get("q", "1")
    return float(text) if _QUALITY.fullmatch(text) else 1.0


_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class Prefer(NamedTuple):
    """The Prefer header (RFC 7240): what to return of a write, how strict to be with parameters,
    whether the client will come back for the answer."""

    returns: str = "representation"
    lenient: bool = False
    asynchronous: bool = False


@lru_cache(maxsize=512)
def prefer(header: str | None, default: str = "representation") -> Prefer:
    """Reads Prefer. What is not known is ignored, as the RFC says, and of a preference that is
    given twice the first holds."""
    if not header:
        return Prefer(default)
    chosen: dict[str, str] = {}
    for match in _PREFERENCE.finditer(header):
        chosen.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    returns = chosen.get("return", default)
    if returns not in ("minimal", "representation", "OperationOutcome"):
        returns = default
    return Prefer(returns, chosen.get("handling") == "lenient", "respond-async" in chosen)


#: A preference: a token, and a value that is a token or a quoted text; parameters (after a
#: semicolon) look alike and say nothing that is known here.
_PREFERENCE = re.compile(r"""([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s*=\s*("[^"]*"|[^\s,;"]+))?""")


def check_conditions(headers: Mapping[str, str], method: str) -> None:
    """Raises Invalid for a conditional header that a write of this method does not honour."""
    for name, shown in _CONDITIONS.items():
        if name in headers and name not in _HONOURED[method]:
            honoured = " and ".join(_CONDITIONS[one] for one in _HONOURED[method])
            raise Invalid(f"{shown} says nothing to {method}, which takes {honoured}", rule=name)


_CONDITIONS = {
    "if-match": "If-Match",
    "if-none-match": "If-None-Match",
    "if-none-exist": "If-None-Exist",
    "if-unmodified-since": "If-Unmodified-Since",
}
_HONOURED = {
    "POST": ("if-none-exist",),
    "PUT": ("if-match", "if-none-match"),
    "PATCH": ("if-match",),
    "DELETE": ("if-match",),
}


def is_current(headers: Mapping[str, str], version: int, updated: int) -> bool:
    """True when the client has this version already (answer 304). If-None-Match goes first.

    A date has whole seconds only (RFC 9110, 8.8.2.2): a later version than the first may share its
    second with the one before, so for it the client must have come after that second.
    """
    known = headers.get("if-none-match")
    if known is not None:
        tags = (tag.strip().removeprefix("W/").strip('"') for tag in known.split(","))
        return any(tag in (str(version), "*") for tag in tags)
    since = headers.get("if-modified-since")
    if since is None:
        return False
    try:
        second = updated // 1_000_000
        return second + (version > 1) <= parsedate_to_datetime(since).timestamp()
    except (TypeError, ValueError, OverflowError):
        return False


@lru_cache(maxsize=8_192)
def http_date(second: int) -> str:
    """A second since 1970 as Last-Modified shows it."""
    return formatdate(second, usegmt=True)
