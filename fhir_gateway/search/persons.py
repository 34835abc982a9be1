"""A search that names one record of a person, made one of all records of that person.

docs/adr/0027. What `patient`, `subject` and a Patient's compartment name is widened wherever the
plan names it: as the Patients that bind it to homes, and as the keys of its conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

import msgspec

from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.plan import AnyOf, Condition, Ids, Ref, SearchPlan

_T = TypeVar("_T")


def widened(plan: SearchPlan, records: Mapping[str, Sequence[str]]) -> SearchPlan:
    """The plan with every record of the persons that it means.

    `records` are all ids of a person, by the id that the plan names; what is not there stands for
    itself. Page links of the plan are bound to these records.
    """
    more = {id: ids for id, ids in records.items() if id in plan.people and tuple(ids) != (id,)}
    if not more:
        return plan
    keys = {_key(id): tuple(_key(one) for one in ids) for id, ids in more.items()}
    everybody = sorted({one for ids in more.values() for one in ids})
    bound = msgspec.msgpack.encode((plan.meant, everybody))
    return msgspec.structs.replace(
        plan,
        patients=_each(plan.patients, more),
        conditions=tuple(_condition(one, keys, more) for one in plan.conditions),
        meant=blake2b(bound, digest_size=16, person=b"search-people").digest(),
    )


def _key(id: str) -> int:
    return key64(f"Patient/{id}")


def _each(named: Sequence[_T], more: Mapping[_T, Sequence[_T]]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(one for name in named for one in more.get(name, (name,))))


def _condition(
    condition: Condition, keys: Mapping[int, Sequence[int]], ids: Mapping[str, Sequence[str]]
) -> Condition:
    """The condition with what it names of these persons. An `_id` stands by itself and stays what
    it is; one among alternatives is the owner of a compartment."""
    if isinstance(condition, Ref):
        return Ref(condition.parameter, _each(condition.keys, keys))
    if isinstance(condition, AnyOf):
        inner = tuple(
            Ids(_each(one.ids, ids)) if isinstance(one, Ids) else _condition(one, keys, ids)
            for one in condition.conditions
        )
        return AnyOf(inner)
    return condition
