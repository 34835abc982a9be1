"""Where each value of a CDA document came from, and `fhir-gateway convert` of one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cda_cases import MAPPINGS, SECOND, item, lab
from click.testing import CliRunner

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import main
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.conversion import cda_conversion
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake_cda import receive_cda
from fhir_gateway.mapping.cda import map_cda, read_cda
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.mapping.origins import Atom, Explained, Origin, explain
from fhir_gateway.mapping.origins_asked import fields_at
from fhir_gateway.mapping.origins_diff import leaves
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import Settings

RAW = lab(item(), item("CREA", "肌酐", unit="μmol/L", flag="↑"))


@pytest.fixture(scope="module")
def found() -> Explained:
    source = cda_conversion(RAW, SECOND, mappings=MAPPINGS).source
    explained = explain(source)
    assert source.map(None, "") == explained.resources  # the document is as it was
    return explained


def the(found: Explained, element: str, n: int = 0) -> Origin:
    return [one for one in found.origins if one.element == element][n]


def paths(origin: Origin) -> list[str]:
    return [atom.place.partition(": ")[2].rpartition("/")[2] for atom in origin.sources]


def test_every_value_of_a_document_has_an_origin(found: Explained) -> None:
    mapped = map_cda(read_cda(parse_document(RAW), mappings=MAPPINGS), SECOND, mappings=MAPPINGS)
    *stated, document = found.resources
    assert stated == [*mapped.mapped.resources, *mapped.studies]
    assert document["resourceType"] == "DocumentReference"
    expected = [(n, path) for n, one in enumerate(found.resources) for path, _ in leaves(one)]
    assert [(one.number, one.path) for one in found.origins] == expected


@pytest.mark.parametrize(("element", "n", "how", "at"), [
    ("Observation.valueQuantity.value", 0, "copied", "value@value"),
    ("Observation.effectiveDateTime", 0, "time", "low@value"),
    ("Patient.birthDate", 0, "time", "birthTime@value"),
    ("Specimen.type.text", 0, "equal", "value"),
    ("Observation.performer[0].display", 0, "institution", None),
])  # fmt: skip
def test_named_facts_come_from_their_elements(
    found: Explained, element: str, n: int, how: str, at: str | None
) -> None:
    origin = the(found, element, n)
    assert origin.how == how
    assert paths(origin)[:1] == ([at] if at else [])


def test_a_document_is_converted_at_the_command_line() -> None:
    result = CliRunner().invoke(main, ["convert", "-"], input=RAW)
    assert result.exit_code == 0, result.output
    resources = [one["resource"] for one in json.loads(result.stdout)["entry"]]
    assert [one["resourceType"] for one in resources].count("Observation") == 2
    wrong = CliRunner().invoke(main, ["convert", "-"], input=b"<a/>")
    assert wrong.exit_code == 2
    assert "ClinicalDocument" in wrong.stderr


def test_a_document_that_came_in_is_traced_and_replayed(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/gateway.sqlite"

    async def receive() -> str:
        gateway = await open_gateway(Settings(database=database))
        try:
            await register(gateway, SECOND)
            actor = Actor("institution", "feed", institution=SECOND.id)
            return (await receive_cda(gateway, actor, lab(item()))).reports[0]
        finally:
            await gateway.store.close()

    report = asyncio.run(receive())
    arguments = ["trace", report, "--element", "DiagnosticReport.issued", "--database", database]
    told = CliRunner().invoke(main, arguments).stdout
    assert "author/time@value 202611181130" in told
    again = ["messages", "replay", "--from", database, "--to", f"sqlite:///{tmp_path}/again.sqlite"]
    result = CliRunner().invoke(main, again)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "identical")


def test_fields_of_a_document_are_asked_for_by_the_names_of_elements():
    source = Atom("line 3: a/effectiveTime/low@value", "", ())
    atoms = [source, Atom("line 9: a/b[2]/setId@root", "", ())]
    assert fields_at(atoms, "effectiveTime") == [source]
    assert fields_at(atoms, "line 3") == [source]
    assert fields_at(atoms, "b/setId@root") == atoms[1:]
    with pytest.raises(Invalid, match="no efectiveTime; it has low, setId"):
        fields_at(atoms, "efectiveTime")
