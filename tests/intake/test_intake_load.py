"""`fhir-gateway load`: what it finds, stores, counts and refuses; a second time changes nothing."""

from __future__ import annotations

import bz2
import gzip
import json
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from intake_cases import opened, report

from fhir_gateway.cli.load import command
from fhir_gateway.cli.load_files import find, kind_of, read_document
from fhir_gateway.errors import GatewayError

SYNTHEA = Path(__file__).resolve().parents[3] / "shared" / "data" / "samples" / "synthea"


def load(folder: Path, *arguments: object) -> Result:
    """Runs the command on the store in a folder."""
    database = f"sqlite:///{folder}/gateway.sqlite"
    return CliRunner().invoke(command, ["--database", database, *map(str, arguments)])


def tally(folder: Path, *arguments: object) -> dict[str, Any]:
    """Runs the command with --report; what it counted."""
    path = folder / "report.json"
    result = load(folder, *arguments, "--report", path)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert result.exit_code == (1 if found["refused"] else 0)
    return found


def counts(found: dict[str, Any], kind: str) -> dict[str, int]:
    return {type: row[kind] for type, row in found["resources"].items() if row[kind]}


def patient(id: str = "", **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **({"id": id} if id else {}), **elements}


def entry(resource: dict[str, Any], full_url: str, **request: str) -> dict[str, Any]:
    asked = {"method": "POST", "url": resource["resourceType"]} | request
    return {"fullUrl": full_url, "resource": resource, "request": asked}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_transaction_loaded_twice_is_stored_once(tmp_path: Path) -> None:
    observation = {
        "resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "urn:uuid:1"}, "valueQuantity": {"value": 5.10},
    }  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
        entry(patient(gender="male"), "urn:uuid:1"), entry(observation, "urn:uuid:2"),
    ]}  # fmt: skip
    path = write(tmp_path / "a.json", bundle)
    first, second = tally(tmp_path, path), tally(tmp_path, path)
    assert counts(first, "created") == {"Observation": 1, "Patient": 1}
    assert counts(second, "unchanged") == {"Observation": 1, "Patient": 1}
    assert first["unmapped"] == {"": [{"code": "", "name": "x", "count": 1}]}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gz", "bz2"])
def test_packed_files_are_unpacked(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / f"p.json.{'gz' if pack is gzip.compress else 'bz2'}"
    path.write_bytes(pack(json.dumps(patient("p1")).encode()))
    assert counts(tally(tmp_path, path), "created") == {"Patient": 1}


def test_good_lines_of_ndjson_are_stored_and_bad_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "p.ndjson"
    lines = [patient("a"), patient("b", gender="both"), patient("c"), {"x": 1}]
    path.write_text("\n\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = tally(tmp_path, path)
    assert counts(found, "created") == {"Patient": 2}
    assert [(line["place"], line["element"]) for line in found["refused"]] == [
        ("line 7", "resourceType"), ("line 3", "Bundle.entry[1].resource.gender"),
    ]  # fmt: skip


def test_a_resource_without_an_id_gets_one_from_its_content(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", patient(gender="male"))
    assert counts(tally(tmp_path, path), "created") == {"Patient": 1}
    assert counts(tally(tmp_path, path), "unchanged") == {"Patient": 1}


def test_entries_of_a_searchset_keep_their_ids_and_references(tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [
        {"fullUrl": "https://a.example.org/fhir/Observation/o", "resource": {
            "resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"},
            "subject": {"reference": "Patient/p"}}},
        {"fullUrl": "https://a.example.org/fhir/Patient/p", "resource": patient("p")},
    ]}  # fmt: skip
    tally(tmp_path, write(tmp_path / "s.json", bundle))
    with opened(tmp_path) as one:
        assert one.read("Observation", "o")["subject"] == {"reference": "Patient/p"}


def test_a_refused_transaction_stores_nothing_and_says_why(tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
        entry(patient(), "urn:uuid:1"), entry(patient(gender="both"), "urn:uuid:2"),
    ]}  # fmt: skip
    path = write(tmp_path / "a.json", bundle)
    found = tally(tmp_path, path)
    assert found["resources"] == {}
    assert [(line["file"], line["element"]) for line in found["refused"]] == [
        (str(path), "Bundle.entry[1].resource.gender")
    ]


def test_a_file_that_refers_to_a_later_one_is_tried_again(tmp_path: Path) -> None:
    first = {
        "resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
    }  # fmt: skip
    write(tmp_path / "1.json", first)
    write(tmp_path / "2.json", patient("p"))
    found = tally(tmp_path, tmp_path)
    assert (found["files"], found["refused"]) == (2, [])


def test_files_that_refer_to_each_other_backwards_are_all_stored(tmp_path: Path) -> None:
    for number in range(5):
        observation = {
            "resourceType": "Observation", "id": f"o{number}", "status": "final",
            "code": {"text": "x"}, "hasMember": [{"reference": f"Observation/o{number + 1}"}],
            "subject": {"reference": "Patient/p"},
        }  # fmt: skip
        if number == 4:
            del observation["hasMember"]
        write(tmp_path / f"{number}.json", observation)
    write(tmp_path / "p.json", patient("p"))
    assert tally(tmp_path, tmp_path)["refused"] == []


def test_a_reference_to_nothing_is_refused_with_its_element(tmp_path: Path) -> None:
    first = {
        "resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/nobody"},
    }  # fmt: skip
    (line,) = tally(tmp_path, write(tmp_path / "1.json", first))["refused"]
    assert (line["rule"], line["element"]) == (
        "reference-unknown", "Bundle.entry[0].resource.subject.reference",
    )  # fmt: skip


def messages(folder: Path) -> Path:
    path = folder / "day.hl7"
    bad = report("3").replace(b"PID|", b"ZID|")
    path.write_bytes(b"\r\n".join([report("1"), report("2", value="33", status="C"), bad]))
    return path


def test_messages_of_a_file_are_stored_in_their_order(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    path = messages(tmp_path)
    first, second = tally(tmp_path, path), tally(tmp_path, path)
    assert (first["messages"], first["repeated"], second["repeated"]) == (3, 0, 2)
    assert [(line["place"], line["rule"]) for line in first["refused"]] == [
        ("message 3", "v2-sequence")
    ]
    assert {item["code"] for item in first["unmapped"]["second"]} == {"ALT", "CREA", "SHQT"}
    with opened(tmp_path) as one:
        (alt, _) = one.ids(report(), "Observation")
        assert str(one.read("Observation", alt)["valueQuantity"]["value"]) == "33"


def test_a_message_of_nobody_is_refused(tmp_path: Path) -> None:
    found = tally(tmp_path, messages(tmp_path))
    assert {line["rule"] for line in found["refused"]} == {"sender"}


def images(folder: Path) -> Path:
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    folder.mkdir()
    for number in range(1, 4):
        data = dcmread(get_testdata_file("CT_small.dcm"))
        data.SOPInstanceUID = f"1.2.3.{number}"
        data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        data.InstanceNumber = number
        out = BytesIO()
        data.save_as(out, enforce_file_format=True)
        (folder / f"IM{number}").write_bytes(out.getvalue())
    (folder / "notes").write_text("not an image", encoding="utf-8")
    return folder


def test_images_of_a_folder_become_one_version_of_one_study(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    folder = images(tmp_path / "ct")
    first = tally(tmp_path, folder, "--institution", "second")
    second = tally(tmp_path, folder, "--institution", "second")
    assert counts(first, "created") == {"ImagingStudy": 1, "Patient": 1}
    assert counts(second, "unchanged") == {"ImagingStudy": 1, "Patient": 1}
    assert (first["files"], first["refused"]) == (3, [])


def test_images_of_nobody_are_refused(tmp_path: Path) -> None:
    found = tally(tmp_path, images(tmp_path / "ct"))
    assert {line["rule"] for line in found["refused"]} == {"institution"}


def test_a_dry_run_counts_and_stores_nothing(tmp_path: Path) -> None:
    write(tmp_path / "1.json", patient("p", gender="male"))
    write(tmp_path / "2.json", patient("q", gender="both"))
    result = load(tmp_path, "--dry-run", tmp_path)
    assert result.exit_code == 1
    assert "Patient          1          0          0\n" in result.output
    assert not (tmp_path / "gateway.sqlite").exists()


def test_fail_fast_stops_at_the_first_refusal(tmp_path: Path) -> None:
    write(tmp_path / "1.json", patient("p", gender="both"))
    write(tmp_path / "2.json", patient("q"))
    found = tally(tmp_path, tmp_path, "--fail-fast")
    assert (found["files"], len(found["refused"])) == (1, 1)


def test_a_load_that_cannot_start_says_so(tmp_path: Path) -> None:
    write(tmp_path / "1.json", patient("p"))
    result = load(tmp_path, "--institution", "nobody", tmp_path)
    assert (result.exit_code, "No institution nobody is registered" in result.output) == (2, True)
    assert load(tmp_path).exit_code == 2


def test_quiet_prints_refusals_to_no_one(tmp_path: Path) -> None:
    path = write(tmp_path / "1.json", patient("p", gender="both"))
    result = load(tmp_path, "--quiet", path)
    assert (result.exit_code, result.output) == (1, "")


def test_workers_share_the_work_and_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        write(folder / f"{number}.json", patient(f"p{number}"))
    found = tally(tmp_path, folder, "--workers", 2)
    assert (counts(found, "created"), found["refused"]) == ({"Patient": 6}, [])


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", b"{}", "json"), ("a.ndjson", b"{}", "ndjson"), ("a.txt", b"MSH|^~\\&|", "v2"),
        ("a", b"\0" * 128 + b"DICM", "dicom"), ("a.hl7", b"\x0bMSH|", "v2"),
        ("a.json", b"MSH|^~\\&|", "v2"),
    ],
)  # fmt: skip
def test_a_file_is_what_its_first_bytes_say(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize("content", [b"", b"hello", b"<xml/>"])
def test_a_file_of_another_kind_is_refused_when_it_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (line,) = tally(tmp_path, tmp_path / "a.txt")["refused"]
    assert line["rule"] == "file"


def test_a_folder_is_searched_for_what_is_ours_without_following_links(tmp_path: Path) -> None:
    for name in ("b.json", "a/practitioners.json", ".git/x.json", "readme.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
    (tmp_path / "c.json").symlink_to(tmp_path / "b.json")
    (tmp_path / "loop").symlink_to(tmp_path)
    files, missing = find([tmp_path, tmp_path / "gone"])
    assert [file.path.name for file in files] == ["practitioners.json", "b.json"]
    assert [path.name for path, _ in missing] == ["gone"]


def test_a_bomb_and_a_damaged_archive_are_refused(tmp_path: Path) -> None:
    bomb, cut = tmp_path / "bomb.json.gz", tmp_path / "cut.json.gz"
    bomb.write_bytes(gzip.compress(b"{" + b" " * 2_000_000))
    cut.write_bytes(gzip.compress(b'{"resourceType":"Patient"}')[:-9])
    rules = []
    for path in (bomb, cut):
        with pytest.raises(GatewayError) as caught:
            read_document(path, limit=1_000_000)
        rules.append(caught.value.issues[0].rule)
    assert rules == ["file-limit", "file"]


@pytest.mark.skipif(not SYNTHEA.is_dir(), reason="the folder of Synthea samples is not here")
def test_synthea_bundles_are_loaded_whole_in_any_order(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    chosen = sorted(SYNTHEA.glob("0-*.bz2")) + sorted(SYNTHEA.glob("2ad*.bz2"))
    for number, path in enumerate(reversed(chosen)):
        (folder / f"{number}.json.bz2").write_bytes(path.read_bytes())
    found = tally(tmp_path, folder)
    assert (found["files"], found["refused"]) == (3, [])
    assert sum(counts(found, "created").values()) > 900


@pytest.mark.torture
def test_a_load_that_is_killed_can_be_done_again(tmp_path: Path) -> None:
    """Whatever was stored when the process died is whole, and a second load stores the rest."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(40):
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
            entry(patient(gender="male"), f"urn:uuid:{number}"),
            *(entry({"resourceType": "Observation", "status": "final", "code": {"text": "x"},
                     "subject": {"reference": f"urn:uuid:{number}"}}, f"urn:uuid:{number}-{n}")
              for n in range(20)),
        ]}  # fmt: skip
        write(folder / f"{number:02}.json", bundle)
    database = f"sqlite:///{tmp_path}/gateway.sqlite"
    arguments = [sys.executable, "-m", "fhir_gateway", "load", "--database", database, str(folder)]
    for tenth in range(4, 24):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(tenth / 10)
        process.kill()
        process.wait()
        with opened(tmp_path) as one:
            stored = one.stored("Patient", "Observation")
        assert stored["Observation"] == stored["Patient"] * 20
    assert tally(tmp_path, folder)["refused"] == []
    with opened(tmp_path) as one:
        assert one.stored("Patient", "Observation") == {"Patient": 40, "Observation": 800}


@pytest.mark.torture
@pytest.mark.skipif(not SYNTHEA.is_dir(), reason="the folder of Synthea samples is not here")
def test_all_synthea_bundles_are_loaded_and_loaded_again(tmp_path: Path) -> None:
    first, second = tally(tmp_path, SYNTHEA), tally(tmp_path, SYNTHEA, "--workers", 2)
    assert (first["refused"], second["refused"]) == ([], [])
    assert counts(first, "created") == counts(second, "unchanged")
