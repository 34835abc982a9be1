"""Small resources that the tests of the REST door send. All persons are invented."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

SYSTEM = "http://hospital.example/number"


def patient(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "name": [{"text": "测试甲", "family": "测"}], **members}


def observation(subject: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
        "subject": {"reference": subject},
        "effectiveDateTime": "2026-11-01T08:00:00+08:00",
        **members,
    }


def identifier() -> dict[str, str]:
    return {"system": SYSTEM, "value": uuid4().hex}


def entry(method: str, url: str, resource: Any = None, **request: str) -> dict[str, Any]:
    one: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        one["resource"] = resource
    return one


def bundle(type: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type, "entry": list(entries)}
