"""TerminologyCapabilities: what the terminology service knows and can do, as it answers.

hl7.org/fhir/R4/terminologycapabilities.html. Every system that is here stands in it with every
version; parameters come from the definitions of the operations, filters from the compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_gateway import __version__
from fhir_gateway.fhir.wire import instant, render
from fhir_gateway.interactions.terminology_definitions import EXPAND
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.compose_filters import BASIC, OPERATORS
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.service_names import LANGUAGES
from fhir_gateway.terminology.system import System

Json = dict[str, Any]

#: Not parameters of the expansion, but of the call.
_OF_THE_CALL = frozenset({"url", "valueSet", "tx-resource"})


def terminology_capabilities(known: Terminology, *, base: str, started_us: int) -> bytes:
    """The TerminologyCapabilities of this gateway as JSON."""
    return render(
        {
            "resourceType": "TerminologyCapabilities",
            "url": f"{CANONICAL}/TerminologyCapabilities/gateway",
            "version": __version__,
            "name": "FhirGatewayTerminology",
            "title": "Terminology service of the FHIR gateway",
            "status": "active",
            "date": instant(started_us),
            "description": (
                "Code systems, value sets and concept maps of mutual recognition. Languages: "
                f"{', '.join(LANGUAGES)}. A code system that is not listed here is not known: what "
                "rests on it is not decided."
            ),
            "kind": "instance",
            "software": {"name": "fhir-gateway", "version": __version__},
            "implementation": {"description": "Terminology service", "url": base},
            "lockedDate": True,
            "codeSystem": [
                _system(known, url, versions) for url, versions in known.library.systems().items()
            ],
            "expansion": {
                "hierarchical": True,
                "paging": True,
                "incomplete": False,
                "parameter": [
                    {"name": one.name, "documentation": one.says}
                    for one in EXPAND.takes
                    if one.name not in _OF_THE_CALL
                ],
                "textFilter": (
                    "Every word must be found in the code, in a Chinese or English name, in the "
                    "pinyin of a Chinese name or in its initials; what fits best comes first."
                ),
            },
            "codeSearch": "explicit",
            "validateCode": {"translations": True},
            "translation": {"needsMap": True},
        }
    )


def _system(known: Terminology, url: str, versions: Sequence[System]) -> Json:
    holding = known.library.system(url)
    return {
        "uri": url,
        "version": [_version(one, is_default=one is holding) for one in versions],
        "subsumption": True,
    }


def _version(system: System, *, is_default: bool) -> Json:
    declared: frozenset[str] = getattr(system, "property_codes", frozenset())
    told: Json = {"code": system.version} if system.version else {}
    told["isDefault"] = is_default
    if system.language:
        told["language"] = [system.language]
    told["filter"] = [{"code": "concept", "op": list(OPERATORS)}]
    if declared:
        told["property"] = sorted(declared - BASIC)
        told["filter"] += [
            {"code": code, "op": ["=", "in", "not-in", "exists", "regex"]}
            for code in sorted(declared - BASIC)
        ]
    return {name: value for name, value in told.items() if value != []}
