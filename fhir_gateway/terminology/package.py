"""FHIR packages: resources as one .tgz that validators and servers load.

Follows the FHIR NPM package specification (hl7.org/fhir/packages.html, "FHIR Package
Specification"): a gzipped tar with package/package.json, package/.index.json and one file for each
resource. The same input gives the same bytes: files sorted, no clock, no names of a machine.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import render

FHIR_VERSION = "4.0.1"
NOTHING: Mapping[str, Any] = MappingProxyType({})
CORE: Mapping[str, str] = MappingProxyType({"hl7.fhir.r4.core": FHIR_VERSION})

_NAME = re.compile(r"[a-z][a-z0-9\-]*(?:\.[a-z0-9\-]+)+")
_VERSION = re.compile(
    r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*)?"
)
_FILE_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

#: Elements of a resource that the index repeats, so that a reader need not open every file.
_INDEXED = (
    "resourceType", "id", "url", "version", "kind", "type", "supplements", "content", "valueSet",
    "derivation",
)  # fmt: skip


def fhir_package(
    name: str,
    version: str,
    title: str,
    resources: Iterable[Mapping[str, Any]],
    *,
    about: Mapping[str, Any] = NOTHING,
    examples: Iterable[Mapping[str, Any]] = (),
    notices: Sequence[str] = (),
) -> bytes:
    """The package as a .tgz; `examples` stand in package/example, `notices` in other/NOTICE.txt.

    `about` is what package.json says besides: description, canonical, author, license, and
    dependencies when there are others than FHIR R4 itself.

    Raises Invalid for a name that is no package name (small letters, with a dot), a version that
    is no semantic version, and for resources without an id or with the same one.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name} is no package name: small letters, digits and -, in parts joined by dots",
            rule="package-name",
        )
    if not _VERSION.fullmatch(version):
        raise Invalid(
            f"{version} is no package version: three numbers joined by dots, as 2026.11.1",
            rule="package-version",
        )
    described = {
        "name": name,
        "version": version,
        "title": title,
        "description": title,
        "type": "Conformance",
        "fhirVersions": [FHIR_VERSION],
        "dependencies": dict(CORE),
        "directories": {"lib": "package", "example": "example"},
        **about,
    }
    files = _folder("package", resources)
    shown = _folder("package/example", examples)
    files |= shown if len(shown) > 1 else {}
    files["package/package.json"] = _json(described)
    if notices:
        files["package/other/NOTICE.txt"] = ("\n\n".join(notices) + "\n").encode()
    return _tgz(files)


def _folder(folder: str, resources: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """The resources as files of one folder, with its index."""
    named: dict[str, Mapping[str, Any]] = {}
    for resource in resources:
        type, id = str(resource.get("resourceType", "")), str(resource.get("id", ""))
        file = f"{type}-{id}.json"
        if not type.isalpha() or not _FILE_ID.fullmatch(id):
            raise Invalid(
                f"A resource of a package needs a type and an id, not {file}", rule="package-id"
            )
        if file in named:
            raise Invalid(f"{type}/{id} stands twice in the package", rule="package-twice")
        named[file] = resource
    index = [
        {"filename": file} | {key: named[file][key] for key in _INDEXED if key in named[file]}
        for file in sorted(named)
    ]
    files = {f"{folder}/{file}": render(resource) for file, resource in named.items()}
    files[f"{folder}/.index.json"] = _json({"index-version": 2, "files": index})
    return files


def _json(value: Any) -> bytes:
    return msgspec.json.format(render(value), indent=2) + b"\n"


def _tgz(files: Mapping[str, bytes]) -> bytes:
    """package.json first, as readers of a stream want it, then the files by name."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as zipped,
        tarfile.open(mode="w", fileobj=zipped, format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(files, key=lambda path: (path != "package/package.json", path)):
            entry = tarfile.TarInfo(
                path
            )  # owner 0 and 1970-01-01, which is what TarInfo begins with
            entry.size, entry.mode = len(files[path]), 0o644
            tar.addfile(entry, io.BytesIO(files[path]))
    return packed.getvalue()
