"""What the tests of intake share: a gateway with one hospital, messages, and what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fhir_gateway.app import open_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake import Acknowledged, receive_v2
from fhir_gateway.mapping.v2 import parse as parse_v2
from fhir_gateway.mapping.v2_oru import map_oru
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings

SECOND = Institution(id="second", name="示范市第二医院", facilities=("S2",))
OTHER = Institution(id="other", name="示范市第三医院", facilities=("S3",))
ACTOR = Actor("institution", SECOND.name, institution=SECOND.id)

HEADER = "MSH|^~\\&|LIS|S2|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1||||||GB 18030-2000"
PERSON = "PID|1||700123^^^S2^PI||张示一||19580312|M|||||||||||119900195803120010"
ORDER = "OBR|1|O1|R1|SHQT^生化全套^L|||202611180812|||||||||||||||{issued}||CH|{status}"
ALT, CREA = (
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||{value}|U/L|9--50||||{status}",
    "OBX|2|NM|CREA^肌酐^L||79.0|μmol/L|57--111||||F",
)


def report(
    id: str = "1",
    *,
    value: str = "32",
    status: str = "F",
    issued: str = "202611181130",
    lines: tuple[str, ...] = (ALT, CREA),
    person: str = PERSON,
) -> bytes:
    """A message of one report in GB 18030."""
    text = "\r".join([HEADER, person, ORDER, *lines])
    values = {"id": id, "value": value, "status": status, "issued": issued}
    for name, word in values.items():
        text = text.replace(f"{{{name}}}", word)
    return text.encode("gb18030")


class Opened:
    """An open gateway and the loop it runs on."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.settings = Settings(database=f"sqlite:///{folder}/gateway.sqlite")
        self.gateway: Gateway = self.runner.run(open_gateway(self.settings))
        for institution in (SECOND, OTHER):
            self.runner.run(register(self.gateway, institution))

    def send(self, raw: bytes, actor: Actor = ACTOR) -> Acknowledged:
        return self.runner.run(receive_v2(self.gateway, actor, raw))

    def stored(self, *types: str) -> dict[str, int]:
        """Current resources by type, journals left out."""

        async def counts() -> dict[str, int]:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await reader.counts()

        found = self.runner.run(counts())
        return {type: found.get(type, 0) for type in types}

    def find(self, type: str, id: str) -> dict[str, Any] | None:
        async def read() -> dict[str, Any] | None:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                found = await reader.read(type, id)
                return None if found is None or found.deleted else parse(found.whole())

        return self.runner.run(read())

    def read(self, type: str, id: str) -> dict[str, Any]:
        found = self.find(type, id)
        assert found is not None
        return found

    def received(self, digest: bytes) -> tuple[str, bytes] | None:
        async def received() -> tuple[str, bytes] | None:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await reader.received(digest)

        return self.runner.run(received())

    def ids(self, raw: bytes, type: str) -> list[str]:
        """The ids that a message gives its resources of a type."""
        folder = f"{self.settings.mappings}/v2"
        message = parse_v2(raw, default_charset=SECOND.charset, folder=folder)
        found = map_oru(message, SECOND, folder=folder).resources
        return [resource["id"] for resource in found if resource["resourceType"] == type]

    def close(self) -> None:
        self.runner.run(self.gateway.store.close())
        self.runner.close()


@contextmanager
def opened(folder: Path) -> Iterator[Opened]:
    """A gateway in a folder, closed at the end."""
    one = Opened(folder)
    try:
        yield one
    finally:
        one.close()
