"""The services that a workstation may call: one table, from which discovery is answered.

CDS Hooks 2.0, "Discovery" and "Prefetch Template". Two hooks, one question: may an earlier result
stand in for what is being ordered? The prefetch asks for no more than is needed to know who the
patient is and whether this is an emergency; everything else is in the gateway's own store.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fhir_gateway.terminology.reason import REASON_SYSTEM


class Service(NamedTuple):
    """One row of the discovery answer. `selections`: the hook names what was just chosen."""

    id: str
    hook: str
    title: str
    description: str
    selections: bool


SERVICES: tuple[Service, ...] = (
    Service(
        id="recognition-order-select",
        hook="order-select",
        title="检查检验结果互认提醒（选择项目时）",
        description="选择检验检查项目时，提示该患者在其他机构已有的、可供互认的结果。"
        "只提醒、说明并记录，由接诊医师决定。",
        selections=True,
    ),
    Service(
        id="recognition-order-sign",
        hook="order-sign",
        title="检查检验结果互认提醒（签署医嘱时）",
        description="签署检验检查医嘱前，逐条提示可供互认的既往结果、依据的规则和条款。"
        "只提醒、说明并记录，由接诊医师决定，绝不阻断医嘱。",
        selections=False,
    ),
)
BY_ID = {service.id: service for service in SERVICES}

#: Reads only: the simplest templates of the standard, which every client can fill.
PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "encounter": "Encounter/{{context.encounterId}}",
}

_USAGE = (
    "patientId is a logical id of this gateway, or prefetch.patient carries an identifier that is "
    "known here. fhirServer and fhirAuthorization are never used to fetch anything. "
    f"Override reasons: {REASON_SYSTEM}."
)

#: The discovery answer, ready to send.
DISCOVERY = msgspec.json.encode(
    {
        "services": [
            {
                "hook": service.hook,
                "id": service.id,
                "title": service.title,
                "description": service.description,
                "prefetch": PREFETCH,
                "usageRequirements": _USAGE,
            }
            for service in SERVICES
        ]
    }
)
