"""What a caller may not see neither matches a condition nor is told of by a refusal."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import count

import pytest

from fhir_gateway.errors import Conflict, Forbidden, GatewayError, NotFound, PreconditionFailed
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.create import create
from fhir_gateway.interactions.delete import delete
from fhir_gateway.interactions.patch import json_patch, patch, patch_conditional
from fhir_gateway.interactions.read import read
from fhir_gateway.interactions.update import update, update_conditional
from fhir_gateway.security.actor import Access, Actor, Sight

SYSTEM = "http://example.org/hidden"
_numbers = count(1)


def party(name, **sight):
    """An institution that sees its own rows and what a relation opens."""
    key = key64(f"Organization/{name}")
    access = Access(
        owners=frozenset({key}), sight=Sight(key, **sight), closed=frozenset({"AuditEvent"})
    )
    return Actor("institution", name, name, access)


MINE, THEIRS = party("mine"), party("theirs")
_FREELY = Sight(key64("Organization/mine"), relation=False, permit=True)
SEEING = replace(MINE, access=replace(MINE.access, sight=_FREELY))


def body(type="Patient", **members):
    return json.dumps({"resourceType": type, **members}).encode()


def number():
    """An identifier that nobody else has."""
    return f"{next(_numbers)}"


def numbered(value, **members):
    return body(identifier=[{"system": SYSTEM, "value": value}], **members)


def condition(value):
    return f"identifier={SYSTEM}|{value}"


def pairs(value):
    return [("identifier", f"{SYSTEM}|{value}")]


@pytest.fixture
def run(client):
    """Runs an interaction in the gateway's loop."""
    return client.run


@pytest.fixture
def hidden(gateway, run):
    """(id, number) of a Patient of the other institution that the caller may not see."""
    value = number()
    stored = run(create(gateway, THEIRS, type="Patient", body=numbered(value)))
    return stored.id, value


def refusal(run, coroutine, kind=GatewayError):
    with pytest.raises(kind) as caught:
        run(coroutine)
    return type(caught.value), [replace(one) for one in caught.value.issues]


def test_if_none_exist_that_meets_only_hidden_rows_creates(gateway, run, hidden):
    _, value = hidden
    first = run(create(gateway, MINE, type="Patient", body=numbered(value),
                       if_none_exist=condition(value)))  # fmt: skip
    again = run(create(gateway, MINE, type="Patient", body=numbered(value),
                       if_none_exist=condition(value)))  # fmt: skip
    assert (first.kind, again.kind, again.id) == ("created", "existing", first.id)


def test_what_is_seen_of_others_meets_a_condition(gateway, run, hidden):
    id, value = hidden
    found = run(create(gateway, SEEING, type="Patient", body=numbered(value),
                       if_none_exist=condition(value)))  # fmt: skip
    assert (found.kind, found.id) == ("existing", id)


def test_requests_of_one_institution_at_once_make_one(gateway, run, hidden):
    _, value = hidden

    async def storm():
        return await asyncio.gather(*(
            create(gateway, MINE, type="Patient", body=numbered(value),
                   if_none_exist=condition(value))
            for _ in range(8)
        ))  # fmt: skip

    kinds = sorted(one.kind for one in run(storm()))
    assert kinds == ["created", *["existing"] * 7]


def test_if_none_exist_under_another_condition_creates(gateway, run):
    value = number()
    run(create(gateway, THEIRS, type="Patient", body=body(name=[{"family": f"Hidden{value}"}])))
    made = run(create(gateway, MINE, type="Patient", body=body(name=[{"family": f"Hidden{value}"}]),
                      if_none_exist=f"family:exact=Hidden{value}"))  # fmt: skip
    assert made.kind == "created"


def test_a_conditional_update_does_not_touch_hidden_rows(gateway, run, hidden):
    id, value = hidden
    made = run(update_conditional(gateway, MINE, type="Patient", pairs=pairs(value),
                                  body=numbered(value)))  # fmt: skip
    assert (made.kind, made.id != id) == ("created", True)


def test_051_what_is_hidden_is_answered_as_what_is_not_there(gateway, run, hidden):
    id, value = hidden
    some = json.dumps([{"op": "add", "path": "/active", "value": True}]).encode()
    to = {"body": some, "format": json_patch}
    acts = [
        lambda one, _: read(gateway, MINE, type="Patient", id=one),
        lambda one, _: update(gateway, MINE, type="Patient", id=one, body=body(id=one), if_match=1),
        lambda one, _: patch(gateway, MINE, type="Patient", id=one, **to),
        lambda _, two: patch_conditional(gateway, MINE, type="Patient", pairs=pairs(two), **to),
    ]
    for act in acts:
        assert refusal(run, act(id, value)) == refusal(run, act("no-such-one", "nowhere"))
    told = run(delete(gateway, MINE, type="Patient", id=id))
    none = run(delete(gateway, MINE, type="Patient", id="no-such-one"))
    assert (told.kind, told.version) == (none.kind, none.version)
    assert run(read(gateway, THEIRS, type="Patient", id=id)).version == 1


def test_an_id_that_a_hidden_row_bears_cannot_be_given(gateway, run, hidden):
    id, _ = hidden
    kind, (issue,) = refusal(run, update(gateway, MINE, type="Patient", id=id, body=body(id=id)))
    assert (kind, issue.rule, issue.expression) == (Conflict, "id-taken", "Patient.id")
    assert "mine" not in issue.diagnostics and "theirs" not in issue.diagnostics


def test_an_id_stays_with_its_owner_when_it_is_deleted(gateway, run, hidden):
    id, _ = hidden
    run(delete(gateway, THEIRS, type="Patient", id=id))
    told = refusal(run, update(gateway, MINE, type="Patient", id=id, body=body(id=id)))
    assert told[1][0].rule == "id-taken"
    assert run(update(gateway, THEIRS, type="Patient", id=id, body=body(id=id))).version == 3


def test_what_is_seen_of_others_is_forbidden_to_change(gateway, run, hidden):
    id, value = hidden
    for act in (
        update(gateway, SEEING, type="Patient", id=id, body=body(id=id)),
        delete(gateway, SEEING, type="Patient", id=id),
        update_conditional(gateway, SEEING, type="Patient", pairs=pairs(value),
                           body=numbered(value)),
    ):  # fmt: skip
        kind, (issue,) = refusal(run, act)
        assert (kind, issue.rule) == (Forbidden, "owner")


def test_a_hidden_reference_is_refused_as_one_to_nothing(gateway, run, hidden):
    id, _ = hidden

    def observation(patient):
        return body(
            "Observation", status="final", code={"text": "glucose"},
            subject={"reference": f"Patient/{patient}"},
        )  # fmt: skip

    told = [refusal(run, create(gateway, MINE, type="Observation", body=observation(one)))
            for one in (id, "no-such-one")]  # fmt: skip
    assert told[0] == told[1]
    assert told[0][1][0].rule == "reference-unknown"


def test_a_conditional_reference_to_a_hidden_row_finds_nothing(gateway, run, hidden):
    _, value = hidden

    def observation(query):
        return body(
            "Observation", status="final", code={"text": "glucose"},
            subject={"reference": f"Patient?identifier={SYSTEM}|{query}"},
        )  # fmt: skip

    told = [refusal(run, create(gateway, MINE, type="Observation", body=observation(one)))
            for one in (value, "nowhere")]  # fmt: skip
    assert told[0] == told[1]


def test_an_if_match_on_a_hidden_row_is_a_failed_condition(gateway, run, hidden):
    id, _ = hidden
    kind, _ = refusal(run, update(gateway, MINE, type="Patient", id=id, body=body(id=id),
                                  if_match=1))  # fmt: skip
    assert kind is PreconditionFailed
    assert refusal(run, read(gateway, MINE, type="Patient", id=id))[0] is NotFound
