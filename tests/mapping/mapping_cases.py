"""What the tests of this room share: an institution, the tables, messages built from lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_oru import Mapped, map_oru
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings

DATA = Path(__file__).parent / "data"
MAPPINGS = Settings().mappings
TABLES = f"{MAPPINGS}/v2"
SECOND = Institution(id="second", name="示范市第二医院", facilities=("S2",))

HEADER = "MSH|^~\\&|LIS|S2|GW|CITY|20261118113100||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8"
PERSON = "PID|1||700123^^^S2^PI||张示一||19580312|M"
ORDER = "OBR|1|O1|R1|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F"


def message(*lines: str, codec: str = "utf-8") -> bytes:
    return "\r".join(lines).encode(codec)


def mapped(*lines: str) -> Mapped:
    raw = message(*lines)
    return map_oru(parse(raw, default_charset="GB18030", folder=TABLES), SECOND, folder=TABLES)


def results(*lines: str) -> list[dict[str, Any]]:
    """The Observations of OBX lines under a usual header, person and order."""
    found = mapped(HEADER, PERSON, ORDER, *lines).resources
    return [resource for resource in found if resource["resourceType"] == "Observation"]


def only(resources: list[dict[str, Any]], type: str) -> dict[str, Any]:
    (resource,) = [one for one in resources if one["resourceType"] == type]
    return resource
