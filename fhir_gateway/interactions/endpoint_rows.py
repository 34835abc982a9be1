"""What the register says of Endpoints: their state, and the last check of their address.

The rows stand beside the quality evaluations, with the same validity, so that a decision reads
whether images could be fetched as it was at its own commit: (Endpoint/x, endpoint-status) from the
Endpoint itself, (Endpoint/x, endpoint-check) from the VerificationResult of its check. `round` is
a digest of the address, so that a check of another address counts for nothing. Pure.
hl7.org/fhir/R4/endpoint.html, verificationresult.html, docs/adr/0028
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Evaluation

#: What the rows stand under, in the place of an item.
STATE, CHECK = "endpoint-status", "endpoint-check"

ADDRESS_URL = f"{CANONICAL}/StructureDefinition/checked-address"

_OUTCOMES = {"validated": True, "val-fail": False}
_PRIMARY = {
    "system": "http://terminology.hl7.org/CodeSystem/validation-type",
    "code": "primary",
}


def derive(resource: dict[str, Any], derived: Derived) -> None:
    """Adds the row of an Endpoint, or of the check of one. Other resources add nothing."""
    if resource.get("resourceType") == "Endpoint" and resource.get("id"):
        derived.evaluations.append(
            _row(
                f"Endpoint/{resource['id']}",
                STATE,
                passed=resource.get("status") == "active",
                address=str(resource.get("address", "")),
            )
        )
    elif resource.get("resourceType") == "VerificationResult":
        passed = _OUTCOMES.get(resource.get("status", ""))
        address = checked_address(resource)
        if passed is not None and address:
            start = str(resource.get("lastPerformed", ""))
            for endpoint in endpoints_of(resource):
                derived.evaluations.append(
                    _row(endpoint, CHECK, passed=passed, address=address, start=start)
                )


def _row(endpoint: str, item: str, *, passed: bool, address: str, start: str = "") -> Evaluation:
    return Evaluation(endpoint, item, "", start, "", passed, "", digest(address))


def digest(address: str) -> str:
    """A short name of an address."""
    return blake2b(address.encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()


def endpoints_of(check: Mapping[str, Any]) -> list[str]:
    """The Endpoints that a VerificationResult is about, as Endpoint/x."""
    parsed = (parse_reference(one.get("reference", "")) for one in check.get("target", ()))
    return [one.key for one in parsed if isinstance(one, Reference) and one.type == "Endpoint"]


def checked_address(check: Mapping[str, Any]) -> str:
    """The address that a check was made of; "" for a VerificationResult that is none."""
    for extension in check.get("extension", ()):
        if extension.get("url") == ADDRESS_URL:
            return str(extension.get("valueUrl", ""))
    return ""


def check_id(endpoint: str) -> str:
    """The id of the VerificationResult that holds the last check of an Endpoint."""
    return f"endpoint-check-{blake2b(endpoint.encode(), digest_size=10).hexdigest()}"


def verification_result(
    endpoint: str, address: str, *, passed: bool, at: str, process: str, by: str
) -> dict[str, Any]:
    """The VerificationResult of one check of the Endpoint with this logical id.

    `at` is a FHIR dateTime, `process` says in a sentence what was done and what came of it, `by`
    who did it.
    """
    return {
        "resourceType": "VerificationResult",
        "id": check_id(endpoint),
        "extension": [{"url": ADDRESS_URL, "valueUrl": address}],
        "target": [{"reference": f"Endpoint/{endpoint}"}],
        "targetLocation": ["Endpoint.address"],
        "status": "validated" if passed else "val-fail",
        "statusDate": at,
        "validationType": {"coding": [_PRIMARY]},
        "validationProcess": [{"text": process}],
        "lastPerformed": at,
        "validator": [{"organization": {"display": by}}],
    }


def serves(endpoint: str, register: Mapping[tuple[str, str], Sequence[Evaluation]]) -> bool | None:
    """Whether an Endpoint (its logical id) is active and the last check of the address that it has
    now passed; None when it is not known, or was not checked since its address changed."""
    state = _last(register.get((f"Endpoint/{endpoint}", STATE), ()))
    if state is None or not state.passed:
        return None if state is None else False
    checks = register.get((f"Endpoint/{endpoint}", CHECK), ())
    last = _last(one for one in checks if one.round == state.round)
    return last.passed if last is not None else None


def _last(rows: Iterable[Evaluation]) -> Evaluation | None:
    return max(rows, key=lambda one: (one.start, one.passed), default=None)
