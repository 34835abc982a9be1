"""What the gateway serves of itself keeps the rules of R4 that it judges others by."""

from __future__ import annotations

from running import Running

from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.wire import parse
from fhir_gateway.security.actor import SYSTEM_ACCESS

TYPES = (
    "CodeSystem", "ValueSet", "ConceptMap", "NamingSystem", "OperationDefinition", "PlanDefinition",
    "StructureDefinition",
)  # fmt: skip


def test_what_a_gateway_begins_with_breaks_no_rule_of_r4(tmp_path):
    served = Running(tmp_path / "g.sqlite", open_access=True)

    async def stored(type):
        async with served.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.scan(type, until_t=reader.t, after_rid=0, limit=500)

    for type in TYPES:
        found = served.run(stored(type))
        assert found, type
        for one in found:
            errors = [
                (one.id, issue.expression, issue.rule)
                for issue in judge(parse(one.whole()), Context())
                if issue.severity in ("error", "fatal")
            ]
            assert errors == []
    served.close()
