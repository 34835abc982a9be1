"""capabilities: the CapabilityStatement, computed from what really answers.

Interactions come from the table of the routes and of the types, search parameters from the
registry of the planner, operations from the table of the operations: nothing is declared that is
not there. hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from fhir_gateway import __version__
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.wire import instant, render
from fhir_gateway.interactions.patch import JSON_PATCH
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.search.registry import Searchable, searchables
from fhir_gateway.settings import CANONICAL, Settings

OPEN_ACCESS = (
    "OPEN ACCESS: this gateway runs without authentication. It is a demonstration on the loopback "
    "interface and must never hold data of real persons."
)
_AUTHENTICATION = (
    "Every request but this one, the SMART configuration and the health pages needs an access "
    "token: Authorization: Bearer …. Systems get theirs here by SMART Backend Services, people "
    "with the providers that the operator trusts; see .well-known/smart-configuration."
)
_OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SERVICES = "http://terminology.hl7.org/CodeSystem/restful-security-service"


#: The formats of every resource, in and out.
FORMATS = ("application/fhir+json", "application/fhir+xml")

_COMPARTMENT = "http://hl7.org/fhir/CompartmentDefinition/"

#: Rows of the table that are two interactions.
_TWO_IN_ONE = {"transaction": ("transaction", "batch")}

#: Statements of others, by the operation that one cannot claim them without.
_CLAIMS = {
    "export": "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data",
    "expand": "http://hl7.org/fhir/CapabilityStatement/terminology-server",
}


class Offered(NamedTuple):
    """An operation as the CapabilityStatement names it, on these types; "" is the base."""

    name: str
    definition: str
    types: tuple[str, ...]


def capability_statement(
    settings: Settings, *, operations: Sequence[Offered], base: str, root: str = "", started_us: int
) -> bytes:
    """The CapabilityStatement of this gateway as JSON. `root` is the address of the server, where
    its token endpoint stands; the definition of a gateway anywhere names none."""
    return render(
        {
            "resourceType": "CapabilityStatement",
            "url": f"{CANONICAL}/CapabilityStatement/gateway",
            "version": __version__,
            "name": "FhirGateway",
            "title": "FHIR gateway for mutual recognition of laboratory and imaging results",
            "status": "active",
            "date": instant(started_us),
            "kind": "instance",
            **_instantiates(operations),
            "software": {"name": "fhir-gateway", "version": __version__},
            "implementation": {"description": _description(settings), "url": base},
            "fhirVersion": "4.0.1",
            "format": ["json", "xml", *FORMATS],
            **_patch_formats(),
            "rest": [
                {
                    "mode": "server",
                    "documentation": _DOCUMENTATION,
                    "security": _security(settings, root),
                    **_rest(tuple(operations)),
                }
            ],
        }
    )


def _instantiates(operations: Sequence[Offered]) -> dict[str, list[str]]:
    """Statements of others that are met; a claim stands here only where its operations do."""
    names = {one.name for one in operations}
    met = [url for name, url in _CLAIMS.items() if name in names]
    return {"instantiates": met} if met else {}


def _patch_formats() -> dict[str, list[str]]:
    """Media types of patches: FHIRPath Patch is Parameters, in the format of every resource."""
    if not any(row.code == "patch" for row in INTERACTIONS):
        return {}
    return {"patchFormat": [*FORMATS, JSON_PATCH]}


def _description(settings: Settings) -> str:
    limits = (
        f"Bodies up to {settings.body_limit} bytes, Bundles up to {settings.bundle_limit} "
        f"entries, pages up to {settings.page_limit} matches."
    )
    return f"{OPEN_ACCESS} {limits}" if settings.open_access else limits


_DOCUMENTATION = (
    "Unknown search parameters are refused unless the request says Prefer: handling=lenient; "
    "Bundle.link[self] tells what was applied. Coded values are searched by value sets and "
    "hierarchies too (:in, :not-in, :below, :above). Literal references to this server must name "
    "stored resources."
)


def _security(settings: Settings, root: str) -> dict[str, Any]:
    """How callers are told apart (SMART App Launch 2.2, "Declaring support for OAuth2 endpoints").

    Endpoints are the token server's: there is no place of ours where people sign in.
    """
    if settings.open_access:
        return {"cors": True, "description": OPEN_ACCESS}
    addresses = [
        {"url": name, "valueUri": f"{root}/oauth/{name}"}
        for name in ("token", "introspect", "revoke")
    ]
    service = {"coding": [{"system": _SERVICES, "code": "SMART-on-FHIR"}]}
    return {
        **({"extension": [{"url": _OAUTH_URIS, "extension": addresses}]} if root else {}),
        "cors": True,
        "service": [service],
        "description": _AUTHENTICATION,
    }


@lru_cache(maxsize=2)
def _rest(operations: tuple[Offered, ...]) -> dict[str, msgspec.Raw]:
    """The part that is the same for every caller; it names some thousand search parameters."""
    rest: dict[str, Any] = {
        "resource": [
            _resource(type, operations)
            for type in definitions().resource_types
            if interactions_of(type)
        ],
        "interaction": [{"code": code} for code in _system_codes()],
        "searchParam": _common_parameters() if "search-system" in _system_codes() else [],
        "operation": [_operation(one) for one in operations if "" in one.types],
        "compartment": _compartments(),
    }
    return {name: msgspec.Raw(render(value)) for name, value in rest.items() if value != []}


def _system_codes() -> list[str]:
    """The interactions of the whole system. A transaction's row is the one of a batch too."""
    codes = dict.fromkeys(row.code for row in INTERACTIONS if row.level == "system")
    return [code for one in codes for code in (_TWO_IN_ONE.get(one) or (one,))]


def _common_parameters() -> list[dict[str, str]]:
    """The parameters of a search across types: those that every type has."""
    common = definitions().parameters["Resource"]
    types = [type for type in definitions().resource_types if interactions_of(type)]
    offered = {code for code, one in searchables(types[0]).items() if not one.refused}
    return [
        {"name": code, "definition": parameter.url, "type": parameter.type}
        for code, parameter in common.items()
        if code in offered
    ]


def _compartments() -> list[str]:
    """The compartments that are addresses: [base]/Patient/123/Observation."""
    if not _has_row("GET", "{type}/{id}/{member}"):
        return []
    return [_COMPARTMENT + code[0].lower() + code[1:] for code in definitions().compartments]


def _has_row(method: str, path: str) -> bool:
    return any((row.method, row.path) == (method, path) for row in INTERACTIONS)


def _resource(type: str, operations: Sequence[Offered]) -> dict[str, Any]:
    offered = interactions_of(type)
    codes = dict.fromkeys(row.code for row in INTERACTIONS if row.code in offered)
    parameters = [one for one in searchables(type).values() if not one.refused]
    references = [one.code for one in parameters if _is_followed(one)]
    single = "delete" in codes and _has_row("DELETE", "{type}")
    resource: dict[str, Any] = {
        "type": type,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update" if "update" in codes else "versioned",
        "readHistory": "vread" in codes,
        "updateCreate": "update" in codes,
        "conditionalCreate": "create" in codes,
        "conditionalRead": "full-support",
        "conditionalUpdate": "update" in codes and _has_row("PUT", "{type}"),
        "conditionalDelete": "single" if single else "not-supported",
        "referencePolicy": ["literal", "local", "enforced"],
        "searchInclude": [
            *(["*", f"{type}:*"] if references else []),
            *(f"{type}:{code}" for code in references),
        ],
        "searchRevInclude": _reverse_includes(type),
        "searchParam": [_parameter(type, one) for one in parameters],
    }
    here = [_operation(one) for one in operations if type in one.types]
    if here:
        resource["operation"] = here
    return {name: value for name, value in resource.items() if value != []}


def _reverse_includes(type: str) -> list[str]:
    """What points at a type: all of one source, and each by its name."""
    names = _pointing_at().get(type, [])
    sources = dict.fromkeys(name.partition(":")[0] for name in names)
    return [*(f"{source}:*" for source in sources), *names]


@lru_cache(maxsize=1)
def _pointing_at() -> Mapping[str, list[str]]:
    """For each type the search parameters of others that may point at it."""
    found: dict[str, list[str]] = {}
    for source in definitions().resource_types:
        for one in searchables(source).values() if interactions_of(source) else ():
            if _is_followed(one):
                for target in one.targets:
                    found.setdefault(target, []).append(f"{source}:{one.code}")
    return found


def _is_followed(one: Searchable) -> bool:
    """True for what _include and _revinclude follow: references, not canonical urls."""
    return one.kind == "reference" and not one.refused and "Reference" in one.datatypes


def _parameter(type: str, one: Searchable) -> dict[str, str]:
    definition = definitions().search_parameters[type][one.code]
    return {"name": one.code, "definition": definition.url, "type": one.kind}


def _operation(offered: Offered) -> dict[str, str]:
    return {"name": offered.name, "definition": offered.definition}
