"""Tables packed by gzip or ZIP: read as a stream, named, bounded, and refused with a sentence."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest
from click.testing import CliRunner
from intake_cases import opened
from tabular_cases import Ward, file, row

from fhir_gateway.cli import tabular_files
from fhir_gateway.cli.tabular import command
from fhir_gateway.cli.tabular_files import tables_of
from fhir_gateway.errors import Conflict, GatewayError, Invalid

CONTENT = file(row(), row(item="CREA", value="79.0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("packed")
    with opened(path) as hospital:
        Ward(hospital, "ward", path)
    yield path


def archive(path: Path, **members: bytes) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a load."""
    settings = ["--database", f"sqlite:///{folder}/gateway.sqlite"]
    found = CliRunner().invoke(command, ["load", f"{folder}/results.toml", *arguments, *settings])
    return found.exit_code, found.output


def test_what_is_packed_is_loaded_as_it_was(folder: Path) -> None:
    plain, packed = folder / "a.csv", folder / "a.csv.gz"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))
    zipped = archive(folder / "a.zip", **{"结果.csv": CONTENT, "__MACOSX/x": b"1", ".x": b"1"})
    for path in (packed, zipped, plain):
        for table in tables_of(path):
            with table.open() as one, table.open() as two:
                assert one.read() == two.read() == CONTENT
    code, output = run(folder, str(packed))
    assert (code, "1 stored" in output) == (0, True)
    code, output = run(folder, str(zipped))
    assert (code, "a.zip/结果.csv" in output, "0 stored, 1 unchanged" in output) == (0, True, True)


def test_of_several_tables_those_that_are_named_are_loaded(folder: Path) -> None:
    zipped = archive(folder / "b.zip", **{"a.csv": CONTENT, "b.csv": file(row(2, person=1))})
    code, output = run(folder, str(zipped))
    assert (code, "a.csv, b.csv" in output, "--member" in output) == (2, True, True)
    code, output = run(folder, str(zipped), "--member", "b.csv", "--member", "a.csv")
    assert (code, output.index("b.zip/b.csv") < output.index("b.zip/a.csv")) == (0, True)
    code, output = run(folder, str(zipped), "--member", "c.csv")
    assert (code, "has no c.csv" in output) == (2, True)
    code, output = run(folder, str(folder / "b.zip"), "--member", "a.csv", "--dry-run")
    assert (code, "dry run" in output) == (0, True)


def test_a_name_in_the_code_page_of_windows_is_read(folder: Path) -> None:
    path = archive(folder / "gbk.zip", **{"XXXX.csv": CONTENT})
    path.write_bytes(path.read_bytes().replace(b"XXXX", "结果".encode("gbk")))
    assert [one.name for one in tables_of(path)] == ["gbk.zip/结果.csv"]


def _encrypted(path: Path) -> Path:
    archive(path, **{"a.csv": CONTENT})
    raw = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(sign) + place] |= 1
    path.write_bytes(raw)
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(gzip.compress(CONTENT)[:-20])
    return path


def _changed(path: Path) -> Path:
    """A member whose bytes are not those that were packed."""
    archive(path, **{"a.csv": CONTENT})
    raw = bytearray(path.read_bytes())
    raw[60] ^= 0xFF
    path.write_bytes(raw)
    return path


def _torn(path: Path) -> Path:
    path.write_bytes(archive(path, **{"a.csv": CONTENT}).read_bytes()[:-30])
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_encrypted, "is encrypted"),
        (_cut, "is damaged"),
        (_changed, "is damaged"),
        (_torn, "is damaged"),
        (lambda path: archive(path, **{"a.zip": b"PK"}), "is packed twice"),
        (archive, "0 tables"),
    ],
    ids=["encrypted", "cut", "changed", "torn", "twice", "empty"],
)
def test_what_cannot_be_unpacked_is_refused(folder: Path, make, sentence: str) -> None:
    path = make(folder / "bad.packed")
    code, output = run(folder, str(path))
    assert (code, sentence in output) == (2, True), output


def test_a_bomb_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the archive says of itself, and by what comes out when it lies."""
    bomb = folder / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"0" * (8 << 20)))
    code, output = run(folder, str(bomb))
    assert (code, "over 200 times" in output) == (2, True)
    zipped = archive(folder / "bomb.zip", **{"a.csv": b"0" * (8 << 20)})
    with pytest.raises(GatewayError, match="over 200 times"):
        tables_of(zipped)
    monkeypatch.setattr(tabular_files, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(tabular_files, "_JUDGED", 16 << 20)
    code, output = run(folder, str(bomb))
    assert (code, "cut it" in output) == (2, True)


def test_an_archive_that_lies_about_its_size_is_bounded_all_the_same(folder: Path) -> None:
    """Its directory says ten bytes; what is packed are eight million."""
    packed = zlib.compressobj(wbits=-15)
    body = packed.compress(b"0" * (8 << 20)) + packed.flush()
    path = folder / "lie.zip"
    info = ZipInfo("a.csv")
    info.compress_type = ZIP_DEFLATED
    with ZipFile(path, "w") as made:
        made.writestr(info, b"0" * 10)
    raw = path.read_bytes()
    start, directory = raw.index(b"a.csv") + 5, raw.index(b"PK\x01\x02")
    moved = len(body) - (directory - start)
    entry = bytearray(raw[directory:])
    struct.pack_into("<I", entry, 20, len(body))
    end = entry.index(b"PK\x05\x06")
    struct.pack_into("<I", entry, end + 16, directory + moved)
    head = bytearray(raw[:start])
    struct.pack_into("<I", head, 18, len(body))
    path.write_bytes(bytes(head) + body + bytes(entry))
    (table,) = tables_of(path)
    with pytest.raises(GatewayError), table.open() as unpacked:
        assert len(unpacked.read()) <= 10
        raise GatewayError("no more than it says")


def test_a_file_that_changes_is_not_read_on(folder: Path) -> None:
    path = folder / "c.csv.gz"
    path.write_bytes(gzip.compress(CONTENT))
    (table,) = tables_of(path)
    path.write_bytes(gzip.compress(CONTENT + CONTENT))
    with pytest.raises(Conflict):
        table.open()


def test_a_plain_file_has_no_members(folder: Path) -> None:
    path = folder / "d.csv"
    path.write_bytes(CONTENT)
    with pytest.raises(Invalid, match="no ZIP archive"):
        tables_of(path, ["a"])
