"""What can be wrong with an institution's entry in the registry, and what to do about it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from fhir_gateway.errors import Issue
from fhir_gateway.security.institution import LEVELS, NUMBER_KINDS, Institution, level_of
from fhir_gateway.terminology.area import Areas
from fhir_gateway.terminology.identifier import valid_credit_code, valid_institution_code

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_URI = re.compile(r"[a-z][a-z0-9+.\-]*:\S+", re.IGNORECASE)


def problems(institution: Institution, areas: Areas) -> list[Issue]:
    """Everything that is wrong with the entry, each with what to do; empty when all is well."""
    return [
        Issue("invalid", sentence, rule=rule) for rule, sentence in _problems(institution, areas)
    ]


def _problems(institution: Institution, areas: Areas) -> Iterator[tuple[str, str]]:
    if not _FHIR_ID.fullmatch(institution.id):
        yield "institution-id", "The id must be 1 to 64 letters, digits, - and ."
    if not institution.name.strip():
        yield "institution-name", "Give the institution a name"
    if level_of(institution.level) is None:
        names = ", ".join(level.name_zh for level in LEVELS)
        yield "institution-level", f"The level must be one of {names}"
    if not areas.known(institution.area):
        yield "institution-area", "Give its area as a code of GB/T 2260 that lies in areas.csv"
    yield from _code_problems(institution)
    yield from _intake_problems(institution)


def _code_problems(institution: Institution) -> Iterator[tuple[str, str]]:
    if institution.credit_code and not valid_credit_code(institution.credit_code):
        yield (
            "credit-code",
            "The 统一社会信用代码 has 18 characters and a check character; check it",
        )
    if institution.institution_code and not valid_institution_code(institution.institution_code):
        yield "institution-code", "The 医疗机构代码 has 22 characters, or 12 in its old form"


def _intake_problems(institution: Institution) -> Iterator[tuple[str, str]]:
    try:
        ZoneInfo(institution.zone)
    except (KeyError, ValueError, OSError):  # not found is a KeyError, a folder an OSError
        yield "zone", "The time zone must be a name of the IANA database, as Asia/Shanghai"
    try:
        codecs.lookup(institution.charset)
    except LookupError:
        yield "charset", "The charset must be one like GB18030 or UTF-8"
    for kind, uri in institution.identifier_systems.items():
        if kind not in NUMBER_KINDS:
            yield "number-kind", f"Numbers are of a kind in {', '.join(NUMBER_KINDS)}"
        if not _URI.fullmatch(uri):
            yield "number-system", f"The system of its {kind} numbers must be a URI"
