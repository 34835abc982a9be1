"""The v2 door in the log, in the figures and in the audit trail."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

V2 = {"content-type": "application/hl7-v2"}
ORU = "\r".join([
    "MSH|^~\\&|LIS|demo|GW|CITY|20261120103000||ORU^R01^ORU_R01|{control}|P|2.5.1|||||CHN|UTF-8",
    "PID|1||{patient}^^^demo^MR||{name}||19900307|M",
    "OBR|1||{report}|K^钾|||20261120080000|||||||||||||||20261120100000|||F",
    "OBX|1|NM|K^钾||4.1|mmol/L|3.5-5.3|N|||F|||20261120080000",
    "",
])  # fmt: skip


def message(**given: str) -> bytes:
    fields = {"control": "M1", "patient": "P1", "name": "试^甲", "report": "R1", **given}
    return ORU.format(**fields).encode()


def send(running: Any, body: bytes, headers: dict[str, str]) -> Any:
    return running.request("POST", "/hl7v2", content=body, headers={**V2, **headers})


def refusals(running: Any, headers: dict[str, str]) -> int:
    found = running.get("/fhir/AuditEvent?outcome=4,8,12&_count=100", headers=headers)
    return len(found.json().get("entry", ()))


def test_the_log_and_the_figures_name_route_and_actor(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    running = start()
    headers = running.institution("demo", "示范医院")
    with caplog.at_level(logging.INFO, logger="fhir_gateway.requests"):
        assert send(running, message(), headers).status_code == 200
        assert send(running, message(), {}).status_code == 401
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["route"], line["actor"]) for line in lines] == [
        ("/hl7v2", "示范医院"),
        ("/hl7v2", ""),
    ]
    assert "{unknown}" not in running.metrics()


@pytest.mark.parametrize(
    "second",
    [
        message(name="试^乙"),  # the same control id, other content
        message(control="M2", name="试^乙", report="R2").replace(b"19900307", b"19610101"),
        b"not a message",
    ],
)
def test_every_refused_message_is_audited_once(start: Callable[..., Any], second: bytes) -> None:
    running = start()
    headers = running.institution("demo")
    assert send(running, message(), headers).status_code == 200
    assert send(running, second, headers).status_code >= 400
    assert refusals(running, headers) == 1
