"""The services that a workstation may call: one table, from which discovery is answered.

CDS Hooks 2.0, "Discovery" and "Prefetch Template". Three hooks ask whether an earlier result may
stand in for what is being ordered or booked, one how many there are. The prefetch asks for no more
than is needed to know who the patient is and in what situation; everything else is in the
gateway's own store. The templates keep to what the standard asks every client to be able to do:
reads, and searches by reference and token with equality and `_count`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from fhir_gateway.terminology.reason import REASON_SYSTEM

_PATIENT = {"patient": "Patient/{{context.patientId}}"}

#: What says in which situation the patient is; without any of it the context is not known.
SITUATION = {
    "encounter": "Encounter/{{context.encounterId}}",
    "conditions": "Condition?patient={{context.patientId}}&clinical-status=active&_count=100",
    "requests": "ServiceRequest?patient={{context.patientId}}&status=active&_count=100",
    "procedures": "Procedure?patient={{context.patientId}}&status=preparation&_count=100",
}
PREFETCH = {**_PATIENT, **SITUATION}


class Service(NamedTuple):
    """One row of the discovery answer. `decides` says on what of the context."""

    id: str
    hook: str
    title: str
    description: str
    decides: Literal["selections", "draftOrders", "appointments", "patient"]
    prefetch: Mapping[str, str] = PREFETCH


SERVICES: tuple[Service, ...] = (
    Service(
        id="recognition-order-select",
        hook="order-select",
        title="检查检验结果互认提醒（选择项目时）",
        description="选择检验检查项目时，提示该患者在其他机构已有的、可供互认的结果。"
        "只提醒、说明并记录，由接诊医师决定。",
        decides="selections",
    ),
    Service(
        id="recognition-order-sign",
        hook="order-sign",
        title="检查检验结果互认提醒（签署医嘱时）",
        description="签署检验检查医嘱前，逐条提示可供互认的既往结果、依据的规则和条款。"
        "只提醒、说明并记录，由接诊医师决定，绝不阻断医嘱。",
        decides="draftOrders",
    ),
    Service(
        id="recognition-patient-view",
        hook="patient-view",
        title="检查检验结果互认概览（打开病历时）",
        description="打开病历时，用一张卡片说明该患者有多少项既往结果可互认、可查阅。没有则不提示。",
        decides="patient",
        prefetch=_PATIENT,
    ),
    Service(
        id="recognition-appointment-book",
        hook="appointment-book",
        title="检查检验结果互认提醒（预约检查时）",
        description="预约检验检查时，逐条提示可供互认的既往结果。只提醒，由接诊医师决定，不影响预约。",
        decides="appointments",
    ),
)
BY_ID = {service.id: service for service in SERVICES}

_USAGE = (
    "patientId is a logical id of this gateway, or prefetch.patient carries an identifier that is "
    "known here. What is not sent is asked for at fhirServer where the operator has listed it for "
    "the caller; without the patient's situation nothing is offered in place of an order. "
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
                "prefetch": service.prefetch,
                "usageRequirements": _USAGE,
            }
            for service in SERVICES
        ]
    }
)
