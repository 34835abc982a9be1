"""What the terminology service knows, by canonical url and version (FHIR R4 references.html).

Which version is meant when none is named: one that holds on the day that is asked about, is not
retired, and is the newest of these. Versions are compared as people write them: 1.10 is after 1.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from fhir_gateway.terminology.system import System

Resource = Mapping[str, Any]
T = TypeVar("T")

_PARTS = re.compile(r"([0-9]+)")
_EFFECTIVE = "http://hl7.org/fhir/StructureDefinition/resource-effectivePeriod"


class Canonical(NamedTuple):
    """A canonical url and the version that it names, "" for none."""

    url: str
    version: str = ""


def canonical(text: str) -> Canonical:
    """url|version taken apart."""
    url, _, version = text.partition("|")
    return Canonical(url, version)


class Library:
    """Systems, value sets and concept maps; of two of one url and version the later one counts."""

    def __init__(
        self,
        systems: Iterable[System] = (),
        value_sets: Iterable[Resource] = (),
        concept_maps: Iterable[Resource] = (),
        *,
        today: str = "",
        brought: Iterable[Any] = (),
    ) -> None:
        """`today` is the date on which a version must hold that nobody names; "" for any.
        `brought` are those of all these that go before the others where nobody names a version."""
        self.today = today
        self._brought = frozenset(map(id, brought))
        #: Codes by their names, for each system that somebody gave a wrong name in.
        self.named: dict[int, dict[str, str]] = {}
        self._systems = _by_url((one.url, one.version, one) for one in systems)
        self._value_sets = _by_url(_named(one) for one in value_sets)
        self._concept_maps = _by_url(_named(one) for one in concept_maps)
        self._implicit = _implicit(self._systems)

    def system(self, url: str, version: str = "", *, date: str = "") -> System | None:
        """The code system, in that version or in the one that holds."""
        return self._one(self._systems.get(url), version, date, _system_rank)

    def value_set(self, url: str, version: str = "", *, date: str = "") -> Resource | None:
        """The value set; all codes of a system where the url is the one it names for that."""
        found = self._one(self._value_sets.get(url), version, date, _resource_rank)
        if found is None and (system := self._implicit.get(url)) is not None:
            if version and version not in self._systems[system]:
                return None
            include = {"system": system} | ({"version": version} if version else {})
            head = {"resourceType": "ValueSet", "url": url, "status": "active"}
            return (
                head
                | ({"version": version} if version else {})
                | {"compose": {"include": [include]}}
            )
        return found

    def concept_map(self, url: str, version: str = "", *, date: str = "") -> Resource | None:
        """The concept map, in that version or in the one that holds."""
        return self._one(self._concept_maps.get(url), version, date, _resource_rank)

    def concept_maps(self) -> list[Resource]:
        """Of each concept map the version that holds, the retired ones left out."""
        found = [self.concept_map(url) for url in self._concept_maps]
        return [one for one in found if one is not None and one.get("status") != "retired"]

    def systems(self) -> Mapping[str, Sequence[System]]:
        """Every system in all of its versions, the newest last."""
        return {
            url: sorted(versions.values(), key=_system_rank)
            for url, versions in sorted(self._systems.items())
        }

    def versions(self, url: str) -> list[str]:
        """The versions of a system, the newest last; none for an unknown system."""
        found = sorted(self._systems.get(url, {}).values(), key=_system_rank)
        return [one.version for one in found]

    def has_value_set(self, url: str) -> bool:
        """Whether some version of a value set is here."""
        return url in self._value_sets or url in self._implicit

    def value_set_urls(self) -> list[str]:
        """The urls of all value sets that are here as such."""
        return sorted(self._value_sets)

    def _one(
        self, versions: Mapping[str, T] | None, version: str, date: str, rank: Any
    ) -> T | None:
        if not versions:
            return None
        if version:
            return versions.get(version) or _by_prefix(versions, version, rank)
        found = list(versions.values())
        if self._brought:
            found = [one for one in found if id(one) in self._brought] or found
        if len(found) == 1:
            return found[0]
        day = (date or self.today)[:10]
        holding = [one for one in found if _holds(one, day)]
        return max(holding or found, key=rank)


def _by_prefix(versions: Mapping[str, T], version: str, rank: Any) -> T | None:
    """The newest of 4.0.* for 4.0 or for 4.0.x, as HL7's own references are written."""
    stem = version.removesuffix(".x")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", stem):
        return None
    found = [one for name, one in versions.items() if name.startswith(f"{stem}.")]
    return max(found, key=rank) if found else None


def _by_url(named: Iterable[tuple[str, str, T]]) -> dict[str, dict[str, T]]:
    found: dict[str, dict[str, T]] = {}
    for url, version, one in named:
        if url:
            found.setdefault(url, {})[version] = one
    return found


def _named(resource: Resource) -> tuple[str, str, Resource]:
    return resource.get("url", ""), resource.get("version", ""), resource


def _implicit(systems: Mapping[str, Mapping[str, System]]) -> dict[str, str]:
    """The urls that stand for all codes of a system: the one it names, and [system]/vs."""
    found = {f"{url}/vs": url for url in systems}
    for url, versions in systems.items():
        for one in versions.values():
            named = getattr(one, "value_set", "")
            if named:
                found[named] = url
    return found


def _period(one: Any) -> tuple[str, str]:
    if isinstance(one, Mapping):
        for extension in one.get("extension", ()):
            if extension.get("url") == _EFFECTIVE:
                period = extension.get("valuePeriod", {})
                return period.get("start", "")[:10], period.get("end", "")[:10]
        return "", ""
    period = getattr(one, "effective", ("", ""))
    return period[0], period[1]


def _holds(one: Any, day: str) -> bool:
    """Whether a version holds on a day; what does not say when holds always."""
    start, end = _period(one)
    return not day or (start[:10] <= day[: len(start)] and (not end or day[: len(end)] <= end))


def version_key(version: str) -> list[tuple[int, int, str]]:
    """A version as it is ordered: numbers as numbers."""
    parts = _PARTS.split(version)
    return [(1, int(part[:18]), "") if part.isdecimal() else (0, 0, part) for part in parts if part]


def _system_rank(system: System) -> tuple[Any, ...]:
    retired = getattr(system, "status", "") == "retired"
    return not retired, version_key(system.version)


def _resource_rank(resource: Resource) -> tuple[Any, ...]:
    return resource.get("status") != "retired", version_key(resource.get("version", ""))
