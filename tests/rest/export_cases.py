"""Exports in the tests: kicked off over HTTP, worked on in the test's own process, read back."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import httpx
from running import BASE, Running

from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS

Json = dict[str, Any]
ASYNC = {"prefer": "respond-async"}


class Bulk:
    """A client of bulk exports."""

    def __init__(self, running: Running, headers: Mapping[str, str] | None = None) -> None:
        self.running, self.headers = running, dict(headers or {})

    def kick(self, path: str, body: Json | None = None, **headers: str) -> httpx.Response:
        """Asks for an export."""
        sent = {**self.headers, **ASYNC, **headers}
        if body is None:
            return self.running.get(f"/fhir/{path}", headers=sent)
        return self.running.post(f"/fhir/{path}", body, headers=sent)

    def accepted(self, path: str, body: Json | None = None) -> str:
        """Asks for an export that is accepted; its path."""
        answer = self.kick(path, body)
        assert answer.status_code == 202, answer.text
        return answer.headers["content-location"].removeprefix(BASE)

    def work(self) -> int:
        """Does what there is to do; says how many jobs."""
        done = 0
        while self.running.run(work_once(self.running.gateway, WORKS)):
            done += 1
        return done

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.running.get(path, headers={**self.headers, **headers})

    def delete(self, path: str) -> httpx.Response:
        return self.running.delete(path, headers=self.headers)

    def manifest(self, path: str) -> Json:
        """The manifest of an export that is done."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def lines(self, manifest: Json, kind: str = "output") -> list[Json]:
        """All lines of the files of a list; their counts are checked."""
        found: list[Json] = []
        for file in manifest[kind]:
            answer = self.get(file["url"].removeprefix(BASE))
            assert answer.status_code == 200, answer.text
            lines = [json.loads(line) for line in answer.text.splitlines()]
            assert len(lines) == file["count"]
            assert {line["resourceType"] for line in lines} == {file["type"]}
            found += lines
        return found

    def export(self, path: str, body: Json | None = None) -> tuple[Json, list[Json]]:
        """A whole export: its manifest and what is in its output."""
        place = self.accepted(path, body)
        self.work()
        manifest = self.manifest(place)
        return manifest, self.lines(manifest)


def names(resources: list[Json]) -> list[str]:
    """The resources as "Type/id", in order."""
    return sorted(f"{one['resourceType']}/{one['id']}" for one in resources)


def patient(id: str, **elements: Any) -> Json:
    return {"resourceType": "Patient", "id": id, **elements}


def observation(id: str, patient: str, **elements: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"},
        **elements,
    }


def put(running: Running, *resources: Json, headers: Mapping[str, str] | None = None) -> None:
    """Stores resources, each in a commit of its own."""
    for resource in resources:
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        answer = running.put(path, resource, headers=dict(headers or {}))
        assert answer.status_code in (200, 201), answer.text


def plain(packed: bytes) -> bytes:
    """A gzip file as a reader sees it that knows of one member only."""
    import zlib

    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = reader.decompress(packed)
    assert reader.eof and not reader.unused_data
    assert data == gzip.decompress(packed)
    return data


def parameters(*given: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": list(given)}
