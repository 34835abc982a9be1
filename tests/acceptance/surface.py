"""Requests to any route, by any method, with any parameter: drawn from the tables that answer."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote

from hypothesis import strategies as st

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.interactions.operation_definitions import resource_types, stands_on
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.search.registry import Searchable, searchables
from fhir_gateway.search.results import NOT_OFFERED, RESULTS

#: What stands in stored resources and in values of requests, and may not come back in a refusal.
CANARY = "金丝雀330102199003077777"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FHIR, FORM = "application/fhir+json", "application/x-www-form-urlencoded"

TYPES = sorted(definitions().resource_types)
#: The types that records are made of come more often than the rest.
USUAL = [
    "Patient",
    "Observation",
    "DiagnosticReport",
    "ServiceRequest",
    "Practitioner",
    "AuditEvent",
]
types = st.sampled_from(USUAL) | st.sampled_from(USUAL) | st.sampled_from([*TYPES, "Nonsense", "*"])
ids = st.sampled_from(["p", "o", "d", "gone", "nobody", "x" * 64, "no_id", "1", CANARY])

_SEGMENTS = {
    "{type}": types,
    "{id}": ids,
    "{version}": st.sampled_from(["1", "2", "0", "-1", "x", "9" * 30, "1.0", "٣"]),
    "{member}": types,
    "{job}": st.sampled_from(["nope", "x" * 64, CANARY]),
    "{file}": st.sampled_from(["a.ndjson", "..", "%2e%2e%2fx"]),
}


class Request(NamedTuple):
    """One request, and whether what it holds may be told back to its sender."""

    method: str
    path: str
    pairs: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    body: Any


@st.composite
def _filled(draw: st.DrawFn, path: str) -> str:
    """A path with something in each place of its template."""
    segments = path.split("/") if path else []
    return "/".join(draw(_SEGMENTS.get(one, st.just(one))) for one in segments)


def _places(name: str) -> list[str]:
    """The addresses of an operation: where it stands, and where it does not."""
    definition = OPERATIONS[name].definition
    named = sorted(set(resource_types(definition)) & {*USUAL, "Group"}) or ["Patient"]
    places = [name] if stands_on(definition, "") else []
    places += [f"{type}/{name}" for type in named if stands_on(definition, type)]
    places += [f"{type}/{id}/{name}" for type in named for id in ("p", "o", "gone", "nobody")]
    return [*places, f"Medication/{name}"]


interactions = st.sampled_from(INTERACTIONS).flatmap(
    lambda row: st.tuples(st.just(row.method) | st.sampled_from(METHODS), _filled(row.path))
)
operations = st.sampled_from(sorted(OPERATIONS)).flatmap(
    lambda name: st.tuples(
        st.sampled_from(OPERATIONS[name].definition.methods) | st.sampled_from(METHODS),
        st.sampled_from(_places(name)),
    )
)

_BY_KIND = {
    "token": ["a", "|a", "a|", "a|b", "true", "http://loinc.org|2951-2", "a|b|c", r"a\|b"],
    "reference": ["Patient/p", "p", "Practitioner/d", "http://x.example/Patient/p", "Nope/1", "#a",
                  "Patient/p/_history/1", "Patient/" + CANARY],
    "date": ["2026", "ge2026-11", "lt2026-11-01T08:00:00+08:00", "ap2026-01-01", "sa2026-13",
             "eb9999", "0001", "2026-02-30", "xx2026", "2026-11-01T25:00"],
    "string": ["a", "zw", "金丝雀", "%", "_", "a" * 300, "\u202e", "ａ"],
    "uri": ["http://example.org", "urn:oid:1.2.3", "a", "http://x|1.0"],
    "number": ["1", "1.00", "gt1e3", "ap0", "1e400", "NaN", "-0", "1" * 40],
    "quantity": ["5.4", "5.4|http://unitsofmeasure.org|mg", "lt1||mg", "1|a", "1|http://x|",
                 "ge1e99||mg/dL", "1||not-a-unit", "1|||"],
    "composite": ["a$b", "a|b$gt1", "a", "a$b$c", "$", "http://loinc.org|2951-2$5.4||mmol/L"],
}  # fmt: skip
_ODD = ["", ",", "$", "|", "\\", CANARY, "a,b,c", "%00", "null", "' OR 1=1 --", "٣"]
MODIFIERS = ["", "", "", ":missing", ":not", ":exact", ":contains", ":text", ":of-type", ":above",
             ":below", ":in", ":not-in", ":identifier", ":Patient", ":Practitioner.name",
             ".name", ".identifier", ":nonsense"]  # fmt: skip
_RESULT_VALUES = ["0", "1", "3", "true", "false", "count", "text", "data", "none", "estimate",
                  "accurate", "_id", "-date", "_lastUpdated,-_id", "code", "*", "Patient:*",
                  "Observation:subject", "Observation:subject:Patient", "Provenance:target", "x",
                  "json", "xml", "name,id"]  # fmt: skip


def _values(searchable: Searchable | None) -> st.SearchStrategy[str]:
    known = _BY_KIND.get(searchable.kind, ["a"]) if searchable else _RESULT_VALUES
    return st.sampled_from(known) | st.sampled_from([*known, *_ODD])


@st.composite
def _search_pair(draw: st.DrawFn, type: str) -> tuple[str, str]:
    """A parameter of the type, one that shapes results, _has, or one that nobody knows."""
    known = searchables(type) if type in TYPES else searchables("Patient")
    code = draw(st.sampled_from(sorted(known)))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return f"_has:Observation:{draw(st.sampled_from(['patient', 'subject', 'x']))}:code", "a"
    if kind <= 2:
        name = draw(st.sampled_from([*RESULTS, *NOT_OFFERED, "_type", "_since", "_at", "_list"]))
        return name, draw(_values(None))
    if kind == 3:
        return draw(st.sampled_from(["patinet", "名", code.upper(), code + "x", ""])), "x"
    return code + draw(st.sampled_from(MODIFIERS)), draw(_values(known[code]))


@st.composite
def _operation_pair(draw: st.DrawFn, name: str) -> tuple[str, str]:
    known = [one.name for one in OPERATIONS[name].definition.takes]
    values = ["1", "0", "true", "2026-01-01", "2026-01-01T00:00:00Z", "Observation", "Patient/p",
              "create", "Observation?status=final", CANARY]  # fmt: skip
    return draw(st.sampled_from([*known, "_count", "patinet"])), draw(st.sampled_from(values))


RESOURCES: list[Any] = [
    {"resourceType": "Patient", "name": [{"text": CANARY}], "birthDate": "1990-03-07"},
    {"resourceType": "Patient", "id": "p", "name": [{"text": CANARY}], "gender": CANARY},
    {"resourceType": "Observation", "status": "final", "code": {"text": CANARY},
     "subject": {"reference": "Patient/p"}},
    {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
     "subject": {"reference": "Patient/" + CANARY}},
    {"resourceType": "Practitioner", "id": "d", CANARY: 1},
    {"resourceType": "Nonsense"},
    {"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": {"resourceType": "Patient", "birthDate": CANARY}}]},
    {"resourceType": "Parameters", "parameter": [
        {"name": "meta", "valueMeta": {"tag": [{"system": "http://a.example", "code": "b"}]}}]},
    {"resourceType": "Parameters", "parameter": [
        {"name": "operation", "part": [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "Patient.gender"},
            {"name": "value", "valueCode": CANARY}]}]},
    {"resourceType": "Parameters", "parameter": [{"name": CANARY, "valueString": CANARY}]},
    {"resourceType": "Parameters", "parameter": [
        {"name": "patient", "valueReference": {"reference": "Patient/p"}},
        {"name": "item", "valueCode": CANARY}]},
    [{"op": "test", "path": "/gender", "value": CANARY}],
    [{"op": "add", "path": "/" + CANARY, "value": 1}],
    {"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": "Patient?name=" + CANARY}},
        {"request": {"method": "PUT", "url": "Patient/" + CANARY}, "resource": {}},
        {"request": {"method": "DELETE", "url": "Patient?identifier=" + CANARY}}]},
    {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": CANARY, "request": {"method": "POST", "url": "Patient",
                                        "ifNoneExist": "identifier=" + CANARY},
         "resource": {"resourceType": "Patient", "birthDate": CANARY}}]},
    {}, [], CANARY, None,
]  # fmt: skip

bodies = st.sampled_from(RESOURCES).map(lambda one: json.dumps(one, ensure_ascii=False).encode())
forms = st.sampled_from(["_id=p", "name=" + CANARY, "patient=p&code=" + CANARY, "&&", "%ff=1"])
headers = st.fixed_dictionaries(
    {},
    optional={
        "prefer": st.sampled_from(["handling=lenient", "return=minimal", "return=OperationOutcome",
                                   "respond-async", "respond-async, handling=lenient"]),
        "if-match": st.sampled_from(['W/"1"', 'W/"9"', "*", '"x"']),
        "if-none-match": st.sampled_from(['W/"1"', "*"]),
        "if-none-exist": st.sampled_from(["identifier=a|b", "name=" + quote(CANARY), "x=1", ""]),
        "if-modified-since": st.sampled_from(["Sat, 01 Jan 2028 00:00:00 GMT", "x"]),
        "accept": st.sampled_from([FHIR, "application/fhir+xml", "*/*", "text/html"]),
    },
)  # fmt: skip


def _media(path: str, method: str) -> st.SearchStrategy[str]:
    usual = FORM if path.endswith("_search") else FHIR
    if method == "PATCH":
        usual = "application/json-patch+json"
    others = [FHIR, FORM, "application/fhir+xml", "application/json-patch+json", "text/x"]
    return st.just(usual) | st.sampled_from(others)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request of the surface."""
    method, path = draw(interactions | operations)
    segments = path.split("/")
    if segments[-1] in OPERATIONS:
        pair = _operation_pair(segments[-1]) | _search_pair(segments[0])
    else:
        inside = len(segments) == 3 and segments[2] in TYPES
        pair = _search_pair(segments[2] if inside else segments[0])
    pairs = tuple(draw(st.lists(pair, max_size=3)))
    chosen = dict(draw(headers))
    body = b""
    if method in ("POST", "PUT", "PATCH"):
        chosen["content-type"] = draw(_media(path, method))
        form = chosen["content-type"] == FORM
        body = draw(forms).encode() if form else draw(bodies)
    return Request(method, path, pairs, chosen, body)
