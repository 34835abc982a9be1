"""Every type of R4, and all that is declared of it: the walk of the CapabilityStatement.

Nothing here knows what the gateway offers: what must answer is read from /fhir/metadata, what it
takes from the definitions (tests/minimal.py). What is declared works, and what is not declared
does not answer (hl7.org/fhir/R4/capabilitystatement.html).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from minimal import minimal
from rest_samples import bundle, entry

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.wire import tail
from fhir_gateway.interactions.operation_definitions import canonicals, stands_on
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.search.registry import searchables
from fhir_gateway.store.changes import ChangeSet, Entry

TYPES = definitions().resource_types

#: What an address means by the standard, without what this gateway says (http.html#summary).
MEANINGS = {
    ("GET", "{type}"): "search-type",
    ("POST", "{type}"): "create",
    ("PUT", "{type}"): "update",
    ("PATCH", "{type}"): "patch",
    ("DELETE", "{type}"): "delete",
    ("POST", "{type}/_search"): "search-type",
    ("GET", "{type}/_history"): "history-type",
    ("GET", "{type}/nobody"): "read",
    ("PUT", "{type}/nobody"): "update",
    ("PATCH", "{type}/nobody"): "patch",
    ("DELETE", "{type}/nobody"): "delete",
    ("GET", "{type}/nobody/_history"): "history-instance",
    ("GET", "{type}/nobody/_history/1"): "vread",
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NOT_HERE = ("unknown-address", "unknown-operation", "unknown-type")


class Declared(NamedTuple):
    """The statement: what the system offers, and each type."""

    system: dict[str, Any]
    types: dict[str, dict[str, Any]]

    def codes(self, type: str) -> list[str]:
        return [one["code"] for one in self.types.get(type, {}).get("interaction", ())]


@pytest.fixture(scope="module")
def declared(client):
    rest = client.get("/fhir/metadata").json()["rest"][0]
    return Declared(rest, {one["type"]: one for one in rest["resource"]})


@pytest.fixture(scope="module", autouse=True)
def decision(client):
    """A decision in the journal, which no create can put there."""
    raw = tail(minimal("GuidanceResponse"))
    record = Entry("GuidanceResponse", "decision-1", home=0, enc=0, body=raw)
    client.run(client.gateway.store.commit(ChangeSet(b"d" * 16, journal=[record])))


#: What open access, where nobody is known by name, may not do at all (docs/rights.md).
NOT_OPEN = {"$break-glass", "$open-case", "$review"}


def _answers(answer):
    """Whether the address and method are there at all, whatever the request was worth."""
    if answer.status_code == 405:
        return False
    if answer.status_code != 404:
        return True
    return answer.json()["issue"][0]["details"]["text"] not in NOT_HERE


def _patch(client, path):
    """A patch that changes something in any resource."""
    body = [{"op": "add", "path": "/language", "value": "zh"}]
    return client.request(
        "PATCH",
        path,
        content=json.dumps(body),
        headers={"content-type": "application/json-patch+json"},
    )


@pytest.mark.parametrize("type", TYPES)
def test_every_declared_interaction_of_a_type_works(client, declared, type):
    """The life of one resource, in the interactions that are declared."""
    codes, path = declared.codes(type), f"/fhir/{type}"
    done = set()
    if "create" in codes:
        created = client.post(path, minimal(type, language="en"))
        assert created.status_code == 201, created.text
        id = created.json()["id"]
        one = f"{path}/{id}"
        assert client.get(one).json() == created.json()
        assert client.get(f"{one}/_history/1").json() == created.json()
        sent = {**created.json(), "language": "fr"}
        updated = client.put(one, sent)
        assert (updated.status_code, updated.json()["language"]) == (200, "fr")
        done |= {"create", "read", "vread", "update"}
        if "patch" in codes:
            patched = _patch(client, one)
            assert (patched.status_code, patched.json()["language"]) == (200, "zh")
            done.add("patch")
        done |= _read_back(client, codes, type, id, versions=len({"update", "patch"} & done) + 1)
        assert client.delete(one).status_code == 204
        assert client.get(one).status_code == 410
        done.add("delete")
    else:
        done |= _read_back(client, codes, type, None, versions=0)
    assert done == set(codes)


def _read_back(client, codes, type, id, *, versions):
    """Searches and histories; without an id those that are about a type."""
    done = set()
    if "search-type" in codes:
        query = f"?_id={id}" if id else ""
        page = client.get(f"/fhir/{type}{query}").json()
        assert page["type"] == "searchset"
        form = {"content-type": "application/x-www-form-urlencoded"}
        posted = client.request("POST", f"/fhir/{type}/_search", content=query[1:], headers=form)
        assert posted.json()["type"] == "searchset"
        if id:
            assert [one["resource"]["id"] for one in page["entry"]] == [id]
            assert posted.json()["entry"] == page["entry"]
        done.add("search-type")
    if "history-type" in codes:
        page = client.get(f"/fhir/{type}/_history?_count=5").json()
        assert page["type"] == "history"
        done.add("history-type")
    if id is None:
        some = client.get(f"/fhir/{type}?_count=1").json().get("entry", ()) if codes else ()
        for entry in some:
            id = entry["resource"]["id"]
            assert client.get(f"/fhir/{type}/{id}").status_code == 200
            assert client.get(f"/fhir/{type}/{id}/_history/1").status_code == 200
            done |= {"read", "vread"}
    if id is not None and "history-instance" in codes:
        page = client.get(f"/fhir/{type}/{id}/_history").json()
        assert len(page["entry"]) == versions or not versions
        done.add("history-instance")
    return done


def _alike(declared):
    """One type of each kind of offer: an address is judged by nothing else."""
    kinds = {tuple(declared.codes(type)): type for type in TYPES}
    return list(kinds.values())


def test_what_is_not_declared_of_a_type_does_not_answer(client, declared):
    assert len(_alike(declared)) > 2
    for type in (*_alike(declared), "Observation", "Nothing"):
        assert _wrong_answers(client, declared, type) == []


def _wrong_answers(client, declared, type):
    """Addresses of a type that answer and are not declared, or the other way about."""
    codes = declared.codes(type)
    conditional = {
        ("PUT", "{type}"): declared.types.get(type, {}).get("conditionalUpdate", False),
        ("DELETE", "{type}"): declared.types.get(type, {}).get("conditionalDelete") == "single",
    }
    wrong = []
    for (method, path), code in MEANINGS.items():
        answer = _ask(client, method, f"/fhir/{path.replace('{type}', type)}")
        assert answer.status_code < 500, (method, path, answer.text)
        expected = code in codes and conditional.get((method, path), True)
        if _answers(answer) != expected:
            wrong.append((method, path, answer.status_code, expected))
    return wrong


def _ask(client, method, path):
    """A request that changes nothing: its body is an empty object where it has one."""
    if method in ("POST", "PUT", "PATCH") and not path.endswith("_search"):
        return client.request(method, path, json={})
    return client.request(method, path)


VALUES = {
    "token": "x",
    "string": "x",
    "date": "2026-11-01",
    "number": "1",
    "quantity": "1",
    "uri": "http://x.example",
}
_KINDS = {
    parameter.url: parameter.type
    for parameters in definitions().parameters.values()
    for parameter in parameters.values()
}


def _value(type, one):
    """A value that a search parameter takes."""
    parameter = definitions().search_parameters[type][one["name"]]
    if one["type"] == "reference":
        targets = searchables(type)[one["name"]].targets
        return f"{(targets or ('Patient',))[0]}/x"
    if one["type"] == "composite":
        return "$".join(VALUES.get(_KINDS[url], "Patient/x") for url, _ in parameter.components)
    return VALUES[one["type"]]


@pytest.mark.parametrize("type", TYPES)
def test_every_declared_search_parameter_of_a_type_is_understood(client, declared, type):
    parameters = declared.types.get(type, {}).get("searchParam", [])
    urls = [f"{type}?{urlencode({one['name']: _value(type, one)})}&_count=1" for one in parameters]
    assert _refused(client, urls) == {}
    undeclared = set(definitions().search_parameters[type]) - {one["name"] for one in parameters}
    refused = _refused(client, [f"{type}?{code}=x" for code in sorted(undeclared)])
    assert len(refused) == len(undeclared)


def _refused(client, urls):
    """Which of these searches is refused, and how; too costly a search is understood."""
    if not urls:
        return {}
    batch = bundle("batch", *(entry("GET", url) for url in urls))
    answers = client.post("/fhir", batch).json()["entry"]
    found = {}
    for url, answer in zip(urls, answers, strict=True):
        issue = answer["response"].get("outcome", {}).get("issue", [{}])[0]
        if answer["response"]["status"] != "200 OK" and issue.get("code") != "too-costly":
            found[url] = issue or answer["response"]
    return found


@pytest.mark.parametrize("type", TYPES)
def test_every_declared_include_of_a_type_works(client, declared, type):
    resource = declared.types.get(type, {})
    queries = [f"_include={name}" for name in resource.get("searchInclude", ())]
    reverse = resource.get("searchRevInclude", ())
    queries += [f"_revinclude={name}" for name in reverse[::15]]
    assert _refused(client, [f"{type}?_id=x&{query}" for query in queries]) == {}


def test_every_declared_interaction_of_the_system_works(client, declared):
    codes = {one["code"] for one in declared.system["interaction"]}
    read = entry("GET", "Patient?_count=1")
    works = {
        "batch": client.post("/fhir", bundle("batch", read)),
        "transaction": client.post("/fhir", bundle("transaction", read)),
        "history-system": client.get("/fhir/_history?_count=1"),
        "search-system": client.get("/fhir?_type=Patient,Observation&_id=x"),
    }
    assert {code for code, answer in works.items() if answer.status_code == 200} == codes
    assert client.post("/fhir", bundle("message", read)).status_code == 400


def test_the_search_of_the_system_takes_what_is_declared(client, declared):
    parameters = declared.system["searchParam"]
    urls = [f"?_type=Patient,Basic&{urlencode({one['name']: _value('Basic', one)})}"
            for one in parameters]  # fmt: skip
    for url in urls:
        assert client.get(f"/fhir{url}").status_code == 200, url


def test_declared_compartments_are_addresses_and_no_others(client, declared):
    named = {url.rpartition("/")[2].lower() for url in declared.system["compartment"]}
    for type in TYPES:
        answer = client.get(f"/fhir/{type}/x/Observation?_count=1")
        refusal = answer.json().get("issue", [{}])[0].get("details", {}).get("text")
        assert (answer.status_code in (200, 400)) == (type.lower() in named), (type, answer.text)
        assert answer.status_code == 200 or refusal


def test_nothing_else_answers_at_the_base(client):
    for method in METHODS:
        for path in ("/fhir/_other", "/fhir/metadata/x", "/fhir/Patient/x/y/z", "/fhir/Nothing"):
            assert not _answers(_ask(client, method, path)), (method, path)
    for method in ("PUT", "PATCH", "DELETE"):
        for path in ("/fhir", "/fhir/metadata", "/fhir/_history"):
            assert _ask(client, method, path).status_code == 405


def test_declared_formats_are_served_and_no_others(client, declared):
    statement = client.get("/fhir/metadata").json()
    for format in statement["format"]:
        answer = client.get("/fhir/metadata", params={"_format": format})
        assert answer.status_code == 200
    for format in ("xml", "ttl", "application/fhir+xml", "text/turtle", "html"):
        assert (format in statement["format"]) == (
            client.get("/fhir/metadata", params={"_format": format}).status_code == 200
        )


def _declared_operations(declared):
    """(level, type) of each operation that is declared, by name."""
    places = {f"${one['name']}": {""} for one in declared.system.get("operation", ())}
    for type, resource in declared.types.items():
        for one in resource.get("operation", ()):
            places.setdefault(f"${one['name']}", set()).add(type)
    return places


def test_operations_stand_where_they_are_declared_and_nowhere_else(client, declared):
    places = _declared_operations(declared)
    assert set(places) == set(OPERATIONS)
    for name, row in OPERATIONS.items():
        assert {type for type in ("", *TYPES) if _stands(row.definition, type)} == places[name]


def _stands(definition, type):
    return stands_on(definition, type) or bool(type and stands_on(definition, type, "x"))


def test_every_declared_operation_answers_by_its_methods_alone(client, declared):
    """Each level and method of each operation, on a type that has it and on one that has not."""
    for name, types in _declared_operations(declared).items():
        definition = OPERATIONS[name].definition
        for type in (*sorted(types - {""})[:2], "Parameters", "Linkage"):
            for path in (name, f"{type}/{name}", f"{type}/nobody/{name}"):
                kind, _, rest = path.rpartition("/")[0].partition("/")
                here = stands_on(definition, kind, rest)
                for method in METHODS:
                    answer = _ask(client, method, f"/fhir/{path}")
                    if here and name in NOT_OPEN:
                        assert answer.status_code in (403, 405), (method, path, answer.text)
                        continue
                    expected = here and method in definition.methods
                    assert _answers(answer) == expected, (method, path, answer.text)


def test_operation_definitions_are_served_under_the_names_that_they_have(client, declared):
    for name, row in OPERATIONS.items():
        found = client.get(f"/fhir/OperationDefinition/{name[1:]}").json()
        assert (f"${found['code']}", found["url"]) == (name, row.definition.url)
        named = {
            one["definition"]
            for holder in (declared.system, *declared.types.values())
            for one in holder.get("operation", ())
            if f"${one['name']}" == name
        }
        assert named == set(canonicals(row.definition))
        assert row.definition.guide or named == {found.get("base", found["url"])}
