"""`fhir-gateway load` of NDJSON: order, what waits, going on, and a bulk export back in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases
from running import BASE, Running

from fhir_gateway.cli import load_pieces, load_progress
from fhir_gateway.cli.load import command
from fhir_gateway.cli.load_files import find
from fhir_gateway.cli.load_pieces import Todo, pieces, steps
from fhir_gateway.fhir.validate import BundleEntry
from fhir_gateway.interactions.intake_references import unstored
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS

Json = dict[str, Any]


def load(database: Path | str, *arguments: object) -> Json:
    """Runs the command; its report."""
    address = database if isinstance(database, str) else f"sqlite:///{database}"
    report = Path(str(arguments[0])).parent / "load.report"
    words = ["--database", address, "--report", str(report), "--quiet"]
    result = CliRunner().invoke(command, [*words, *map(str, arguments)])
    assert result.exit_code in (0, 1), result.output
    found: Json = json.loads(report.read_text(encoding="utf-8"))
    assert result.exit_code == bool(found["refused"])
    return found


def count(found: Json, kind: str) -> dict[str, int]:
    return {type: row[kind] for type, row in found["resources"].items() if row[kind]}


def observation(id: str, patient: str = "p", **elements: Any) -> Json:
    return {
        "resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"}, **elements,
    }  # fmt: skip


def patient(id: str = "p") -> Json:
    return {"resourceType": "Patient", "id": id}


def write(path: Path, *resources: Json) -> Path:
    text = "\n".join(json.dumps(one) for one in resources)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def report(id: str, *results: str) -> Json:
    return {
        "resourceType": "DiagnosticReport", "id": id, "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
        "result": [{"reference": f"Observation/{result}"} for result in results],
    }  # fmt: skip


def test_files_go_in_the_order_of_their_references_whatever_their_names(tmp_path: Path) -> None:
    write(tmp_path / "a.ndjson", report("r", "o"))
    write(tmp_path / "b.ndjson.gz", observation("o"))
    write(tmp_path / "c.ndjson", patient())
    write(tmp_path / "d.ndjson", {"resourceType": "Slot"})
    files, _ = find([tmp_path])
    order = [[one.file.path.name for one in step] for step in steps(files)]
    assert order == [["c.ndjson"], ["d.ndjson"], ["b.ndjson.gz"], ["a.ndjson"]]


def test_lines_that_refer_to_later_ones_wait_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_pieces, "LINES", 3)
    lines = [observation(f"o{n}", hasMember=[{"reference": f"Observation/o{n + 1}"}])
             for n in range(8)]  # fmt: skip
    write(tmp_path / "o.ndjson", *lines, observation("o8"), observation("o9", "nobody"))
    write(tmp_path / "p.ndjson", patient())
    found = load(tmp_path / "g.sqlite", tmp_path / "o.ndjson", tmp_path / "p.ndjson")
    assert count(found, "created") == {"Observation": 9, "Patient": 1}
    assert (found["files"], [(line["place"], line["rule"]) for line in found["refused"]]) == (
        2, [("line 10", "reference-unknown")],
    )  # fmt: skip


def test_all_that_refer_to_nothing_are_found_at_once(start: Callable[..., Running]) -> None:
    running = start(open_access=True)
    running.put("/fhir/Patient/p", patient())

    def entry(resource: Json) -> BundleEntry:
        url = f"{resource['resourceType']}/{resource['id']}"
        return BundleEntry(None, "PUT", url, json.dumps(resource).encode())

    given = [
        observation("o1"), observation("o2", "nobody"), report("r1", "o1"),
        report("r2", "o1", "o2"), report("r3", "gone"), patient("q"), observation("o3", "q"),
        {**observation("o4"), "contained": [patient("#")], "performer": [{"reference": "#"}]},
    ]  # fmt: skip
    found = running.run(unstored(running.gateway, [entry(one) for one in given]))
    assert {place: error.issues[0].expression for place, error in found.items()} == {
        1: "Bundle.entry[1].resource.subject.reference",
        3: "Bundle.entry[3].resource.result[1].reference",
        4: "Bundle.entry[4].resource.result[0].reference",
    }


def test_pieces_say_their_lines_and_their_part_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_pieces, "LINES", 2)
    path = tmp_path / "p.ndjson"
    path.write_text('{"a":1}\n\n{"a":2}\n  \n{"a":3}', encoding="utf-8")
    (file,), _ = find([path])
    given = list(pieces(Todo(file)))
    assert [one.numbers for one in given] == [(1, 3), (5,)]
    assert sum(one.size for one in given) == path.stat().st_size
    assert [one.numbers for one in pieces(Todo(file, {5}))] == [(5,)]


def test_what_was_stored_whole_is_passed_over_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_pieces, "LINES", 2)
    bad = {**patient("bad"), "gender": "both"}
    path = write(tmp_path / "p.ndjson", patient("a"), patient("b"), patient("c"), bad)
    first = load(tmp_path / "g.sqlite", path)
    again = load(tmp_path / "g.sqlite", path)
    rest = load(tmp_path / "g.sqlite", path, "--resume")
    told = [(found["repeated"], count(found, "created"), count(found, "unchanged"),
             len(found["refused"])) for found in (first, again, rest)]  # fmt: skip
    assert told == [(0, {"Patient": 3}, {}, 1), (0, {}, {"Patient": 3}, 1),
                    (2, {}, {"Patient": 1}, 1)]  # fmt: skip


def test_workers_share_the_lines_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_pieces, "LINES", 5)
    path = write(tmp_path / "o.ndjson.gz", *(observation(f"o{n}") for n in range(30)))
    write(tmp_path / "p.ndjson", patient())
    found = load(tmp_path / "g.sqlite", path, tmp_path / "p.ndjson", "--workers", 2)
    assert (count(found, "created"), found["refused"]) == ({"Observation": 30, "Patient": 1}, [])


def test_progress_says_rate_and_remaining_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([100.0, 110.0, 130.0, 130.0, 140.0])
    monkeypatch.setattr(load_progress.time, "monotonic", lambda: next(now))
    progress = load_progress.Progress(1_000, hidden=False)
    progress.add(100, 30)
    progress.add(400, 60)
    assert capsys.readouterr().err.rstrip() == " 50%  90 resources, 3/s, 0:00:30 left"
    assert progress.rate() == 90 / 40


def export(running: Running) -> list[Json]:
    """Everything, as a bulk client downloads it: the lines of each file."""
    answer = running.get("/fhir/$export", headers={"prefer": "respond-async"})
    place = answer.headers["content-location"].removeprefix(BASE)
    while running.run(work_once(running.gateway, WORKS)):
        pass
    found: list[Json] = running.get(place).json()["output"]
    return found


def stored(running: Running) -> dict[str, Json]:
    """Everything but versions and times, by name."""
    found: dict[str, Json] = {}
    for file in export(running):
        for line in running.get(file["url"].removeprefix(BASE)).text.splitlines():
            one = json.loads(line)
            one["meta"] = {k: v for k, v in one["meta"].items()
                           if k not in ("versionId", "lastUpdated")}  # fmt: skip
            found[f"{one['resourceType']}/{one['id']}"] = one
    return found


def test_an_export_loaded_into_an_empty_store_is_the_same(
    start: Callable[..., Running], database: Databases, tmp_path: Path
) -> None:
    one = start(name="one", open_access=True)
    result = {"value": 7.10, "unit": "mmol/L"}
    for resource in (
        patient("p"), observation("o1", valueQuantity=result),
        observation("o2", hasMember=[{"reference": "Observation/o1"}]), report("r", "o1", "o2"),
        {"resourceType": "Organization", "id": "h", "name": "甲医院"},
        {"resourceType": "Practitioner", "id": "d", "name": [{"text": "王"}]},
    ):  # fmt: skip
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        assert one.put(path, resource).status_code == 201
    folder = tmp_path / "files"
    folder.mkdir()
    for file in export(one):
        path = file["url"].removeprefix(BASE)
        (folder / path.rpartition("/")[2]).write_bytes(one.get(path).content)
    found = load(database.url("two"), folder)
    assert found["refused"] == []
    other = start(name="two", open_access=True)
    before, after = stored(one), stored(other)
    assert after == before
    assert count(found, "created")["Observation"] == 2
