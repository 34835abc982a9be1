"""Every route, operation and door × role × state, held against the table of rights (fault 47).

The whole product is asked of the choke point; a part of it, the same in every run, of a running
gateway. The table is read here a second time, in the plainest way, so that a mistake in how it is
compiled shows.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from rights_world import ACCESS, CALLERS, SAMPLES, World

from fhir_gateway.cds_hooks.services import SERVICES
from fhir_gateway.interactions.operation_definitions import stands_on
from fhir_gateway.interactions.permits import Asked, why_not
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.rest.exchange import Exchange
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.rest.routes import TABLE, asked_of, route
from fhir_gateway.security.rights import rights_of
from fhir_gateway.security.rights_file import ROLES

RIGHTS = rights_of(str(ACCESS.parent))
SETS = {
    "reads": {"read", "vread", "history-instance", "history-type", "search-type"},
    "writes": {"create", "update", "patch", "delete"},
}


@cache
def _files() -> tuple[dict[str, str], list[dict[str, str]]]:
    """type -> group, and the rows of the table."""
    with (ACCESS / "groups.csv").open(encoding="utf-8") as file:
        groups = {t: row["group"] for row in csv.DictReader(file) for t in row["types"].split()}
    with (ACCESS / "rights.csv").open(encoding="utf-8") as file:
        return groups, list(csv.DictReader(file))


def reach(role: str, type: str, act: str) -> str | None:
    """What the table says."""
    row = _row(type, act)
    return None if row is None else row[role]


@cache
def _row(type: str, act: str) -> dict[str, str] | None:
    """The row of the type, else of its group, else of everything."""
    groups, rows = _files()
    for what in (type or "system", groups.get(type, "-"), "*"):
        for row in rows:
            acts = {a for name in row["interaction"].split() for a in SETS.get(name, {name})}
            if what in row["what"].split() and act in acts:
                return row
    return None


def _asked(method: str, path: str) -> Asked | None:
    """What the router makes of a request."""
    exchange = Exchange({"path": f"/fhir/{path}"}, None, method, {})
    methods = route(exchange, path)
    assert methods is not None and method in methods, path
    return asked_of(exchange)


def _paths(type: str) -> Iterator[tuple[str, str]]:
    """Every row of the router's table for a type: the method and an address."""
    values = {"type": type, "id": "x", "version": "1", "member": type, "job": "x", "file": "x"}
    for path, methods in TABLE.items():
        for method in methods:
            if "{operation}" not in path:
                yield method, re.sub(r"{(\w+)}", lambda name: values[name[1]], path)
    for name, row in OPERATIONS.items():
        for method in row.definition.methods:
            for at in (name, f"{type}/{name}", f"{type}/x/{name}"):
                yield method, at


# -- the whole product ----------------------------------------------------------------------------


@cache
def _product() -> list[tuple[str, str, Asked]]:
    """Every request that is judged: method, address, and what it asks for."""
    found = [(m, path, _asked(m, path)) for type in _files()[0] for m, path in _paths(type)]
    return [(method, path, asked) for method, path, asked in found if asked is not None]


@pytest.mark.parametrize("role", ROLES)
def test_047_every_route_and_operation_answers_each_role_as_the_table_says(role: str) -> None:
    assert len(_product()) > 4_000
    for method, path, asked in _product():
        act = asked.operation or asked.interaction
        offered = asked.operation or not asked.type or act in interactions_of(asked.type)
        is_none = offered and reach(role, asked.type, act) in (None, "none")
        assert (why_not(RIGHTS, role, asked) is not None) == is_none, (role, method, path)


def test_047_no_route_is_judged_by_nobody() -> None:
    """What the router knows and the choke point does not judge is listed here, each with why."""
    unjudged = {
        (method, path)
        for method, path in _paths("Observation")
        if _asked(method, path) is None and "$" not in path
    }
    assert unjudged == {
        ("GET", "metadata"),  # asked without a credential
        ("GET", "_async/x"), ("DELETE", "_async/x"), ("GET", "_async/x/x"),  # the door `jobs`
    }  # fmt: skip
    assert {path for row in INTERACTIONS for path in [row.path]} <= TABLE.keys()


def test_047_an_operation_without_a_row_fails_the_build() -> None:
    _, rows = _files()
    named = {name for row in rows for name in row["interaction"].split() if name[0] == "$"}
    assert named == OPERATIONS.keys()  # a row without an operation is a mistake too


def test_047_an_operation_is_judged_wherever_it_stands() -> None:
    for name, row in OPERATIONS.items():
        places = [
            (type, id)
            for type in ("", *_files()[0])
            for id in (("", "x") if type else ("",))
            if stands_on(row.definition, type, id)
        ]
        assert places
        for type, id in places:
            path = "/".join(part for part in (type, id, name) if part)
            asked = _asked(row.definition.methods[-1], path)
            assert asked is not None and (asked.type, asked.operation) == (type, name)
            assert all(reach(role, type, name) is not None for role in ROLES)


# -- a running gateway -----------------------------------------------------------------------------

#: Doors that are no FHIR: how each is asked, and the row of the table.
DOORS = {
    "metrics": ("GET", "/metrics"),
    "health": ("GET", "/healthz"),
    "metadata": ("GET", "/fhir/metadata"),
    "discovery": ("GET", "/cds-services"),
    "jobs": ("GET", "/fhir/_async/none"),
    "hl7v2": ("POST", "/hl7v2"),
    "cda": ("POST", "/cda"),
    "hooks": ("POST", f"/cds-services/{SERVICES[0].id}"),
    "feedback": ("POST", f"/cds-services/{SERVICES[0].id}/feedback"),
    "audit-heads": ("GET", "/audit-log"),
    "audit-proofs": ("GET", "/audit-log/proof/consistency"),
    "audit-entries": ("GET", "/audit-log/entry"),
    "token": ("POST", "/oauth/token"),
    "introspect": ("POST", "/oauth/introspect"),
    "revoke": ("POST", "/oauth/revoke"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("rights"))
    yield made
    made.server.close()


def _expected(role: str, type: str, act: str, state: str) -> set[int]:
    """The statuses that the table allows for a read of an object in a state."""
    found = reach(role, type, act)
    if found == "none":
        return {403}
    mine = role in ("institution", "clinician") or (role == "patient" and found == "self")
    public = found == "all"
    seen = {"own": mine or public, "deleted": mine or public, "other": public, "missing": False}
    if not seen[state]:
        return {404}
    return {410} if state == "deleted" else {200}


@pytest.mark.parametrize("role", CALLERS)
def test_047_a_read_is_answered_by_reach_and_state(world: World, role: str) -> None:
    for type, states in world.ids.items():
        for state, id in states.items():
            answer = world.ask(role, "GET", f"/fhir/{type}/{id}")
            assert answer.status_code in _expected(role, type, "read", state), (type, state)
            if answer.status_code == 403:
                (issue,) = answer.json()["issue"]
                assert (issue["details"]["text"], role in issue["diagnostics"]) == ("rights", True)


@pytest.mark.parametrize("role", CALLERS)
def test_047_a_write_is_refused_to_whom_the_table_refuses_it(world: World, role: str) -> None:
    pa = world.patients[0]
    for type, states in world.ids.items():
        resource = SAMPLES[type](pa, "here")
        barred = reach(role, type, "create") == "none"
        created = world.ask(role, "POST", f"/fhir/{type}", json=resource)
        assert created.status_code == (403 if barred else 201), (type, created.text)
        for state, id in states.items():
            answer = world.ask(role, "PUT", f"/fhir/{type}/{id}", json={**resource, "id": id})
            if barred or (state == "other" and role in ("institution", "clinician")):
                assert answer.status_code in ((403,) if barred else (403, 404, 409)), (type, state)
        for method, path in (("PATCH", f"{type}/x"), ("DELETE", f"{type}/x")):
            body = [{"op": "add", "path": "/language", "value": "zh"}]
            options = {"json": body} if method == "PATCH" else {}
            answer = world.ask(
                role, method, f"/fhir/{path}", **options,
                headers={"content-type": "application/json-patch+json"} if options else {},
            )  # fmt: skip
            assert (answer.status_code == 403) == barred, (type, method, answer.text)


def test_047_what_was_refused_was_not_done(world: World) -> None:
    here = world.tokens["institution"]
    for type, states in world.ids.items():
        if reach("administrator", type, "update") != "none":
            continue
        there = world.server.institution("there")
        first = world.server.get(f"/fhir/{type}/{states['other']}", headers=there)
        assert (first.status_code, first.json()["meta"]["versionId"]) == (200, "1"), type
        assert world.server.get(f"/fhir/{type}/{states['own']}", headers=here).status_code == 200


@pytest.mark.parametrize("role", CALLERS)
def test_050_a_door_is_open_to_whom_the_table_opens_it(world: World, role: str) -> None:
    rows = {d: r for r in _files()[1] if r["what"] == "door" for d in r["interaction"].split()}
    for door, (method, path) in DOORS.items():
        options: dict[str, Any] = {"content": b""} if method == "POST" else {}
        status = world.ask(role, method, path, **options).status_code
        assert (status == 403) == (rows[door][role] == "none"), (door, status)


def test_050_every_door_of_the_table_is_tried() -> None:
    doors = {d for r in _files()[1] if r["what"] == "door" for d in r["interaction"].split()}
    assert doors == DOORS.keys()


def _mounted(routes: Any) -> Iterator[tuple[str, str]]:
    for one in routes:
        if hasattr(one, "original_router"):
            yield from _mounted(one.original_router.routes)
        for method in sorted(getattr(one, "methods", None) or ()):
            yield method, one.path


def test_047_a_new_route_outside_of_fhir_needs_a_row(world: World) -> None:
    """All that the application mounts beside the FHIR base and the hooks, by its address."""
    known = {path for _, path in DOORS.values()} | {"/readyz", "/cda/soap"}
    mounted = {path.partition("/{")[0] for _, path in _mounted(world.server.application.routes)}
    assert {path for path in mounted if not path.startswith("/audit-log")} <= known
    assert {"/hl7v2", "/metrics", "/audit-log/entry", "/oauth/token"} <= mounted
