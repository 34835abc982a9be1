"""The versions that If-Match names, in a header or in an entry of a Bundle (RFC 9110, 13.1.1;
hl7.org/fhir/R4/http.html#concurrency)."""

from __future__ import annotations

import re
from datetime import datetime

from fhir_gateway.errors import Invalid

#: What If-Match may insist on beside a version: one that cannot be, any that is there.
NO_VERSION, ANY_VERSION = 0, -1

_OURS = re.compile(r'(?:W/)?(?:"(\d{1,9})"|(\d{1,9}))', re.ASCII)
_ANY_TAG = re.compile(r'(?:W/)?"[^"]*"')


def version_in(if_match: str | None) -> int | None:
    """The version that If-Match insists on: W/"3", "3" or 3.

    ANY_VERSION for *, NO_VERSION for an ETag that the gateway never gave. Raises Invalid for what
    is no ETag, and for several at once.
    """
    if if_match is None:
        return None
    text = if_match.strip()
    if text == "*":
        return ANY_VERSION
    ours = _OURS.fullmatch(text)
    if ours is not None:
        return int(ours[1] or ours[2])
    if _ANY_TAG.fullmatch(text):
        return NO_VERSION
    raise Invalid('If-Match names one version: W/"3"', rule="if-match")


def is_known(
    version: int, updated: int, *, if_none_match: str | None, if_modified_since: str | None
) -> bool:
    """True when the caller of an entry with GET has this version. If-None-Match goes first.

    `updated` is in microseconds, `if_modified_since` an instant that is sound.
    """
    if if_none_match is not None:
        tags = (tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(","))
        return any(tag in (str(version), "*") for tag in tags)
    if if_modified_since is None:
        return False
    try:
        return updated // 1_000_000 <= datetime.fromisoformat(if_modified_since).timestamp()
    except (ValueError, OverflowError):
        return False
