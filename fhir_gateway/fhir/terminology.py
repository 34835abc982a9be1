"""The code systems and value sets that come with FHIR R4 (hl7.org/fhir/R4/terminologies.html).

They are HL7's own (package hl7.fhir.r4.core 4.0.1), cut at set-up by `fhir.cut_terminology` to
`r4/terminology.json`. Read once per process, when terminology is first asked for; the concepts of
a system stay bytes until somebody asks for one of them.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.definitions import FOLDER


class ConceptRow(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A concept of a system. `status` is "", deprecated or retired; `parents` are codes.

    `names` are other names by language, `replaced_by` the code to use in place of this one.
    """

    code: str
    display: str
    definition: str = ""
    parents: tuple[str, ...] = ()
    status: str = ""
    abstract: bool = False
    names: dict[str, str] = {}
    replaced_by: str = ""


class SystemRow(msgspec.Struct, frozen=True, array_like=True):
    """A code system. `content` is complete or fragment; `notice` has to go with its codes.

    `value_set` is the url that stands for all of its codes, `identifiers` are its other names.
    """

    url: str
    version: str
    title: str
    content: str
    case_sensitive: bool
    notice: str
    value_set: str
    identifiers: tuple[str, ...]
    concepts: msgspec.Raw


class R4Terminology(msgspec.Struct, frozen=True):
    """All of it. The value sets are FHIR resources as JSON, in the order of their urls."""

    systems: tuple[SystemRow, ...]
    value_sets: tuple[msgspec.Raw, ...]


@lru_cache(maxsize=1)
def r4_terminology() -> R4Terminology:
    """What R4 comes with. Raises Internal when set-up has not cut it, or not like this."""
    try:
        return msgspec.json.decode((FOLDER / "terminology.json").read_bytes(), type=R4Terminology)
    except FileNotFoundError:
        raise Internal("FHIR terminology is missing: run `make setup` first") from None
    except msgspec.DecodeError:
        raise Internal("FHIR terminology is of another version: run `make setup`") from None
