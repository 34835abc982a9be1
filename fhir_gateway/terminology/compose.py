"""What a value set is made of (FHIR R4 valueset.html#compositions).

A value set is compiled once: its parts with their systems found, its filters made, its imports
followed. What contradicts itself is refused here, before anything is asked of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fhir_gateway.errors import NotFound, TooCostly, Unprocessable
from fhir_gateway.terminology import compose_budget
from fhir_gateway.terminology.compose_budget import Purse
from fhir_gateway.terminology.compose_expansion import of_expansion
from fhir_gateway.terminology.compose_filters import Filter, Test, compile_filter, unrooted
from fhir_gateway.terminology.compose_parts import Composed, Part, listed_codes
from fhir_gateway.terminology.service_library import Canonical, Library, Resource, canonical
from fhir_gateway.terminology.system import System

#: Value sets that import one another: in a row, and all that one code may have to be asked of.
_DEEPEST, _HEAVIEST = 50, 2_000


class Pins(NamedTuple):
    """Versions of systems that a caller insists on (R4 $expand: system-version and its like).

    `default` holds where the value set names none, `check` refuses another, `force` overrides;
    `excluded` are systems that are left out.
    """

    default: tuple[Canonical, ...] = ()
    check: tuple[Canonical, ...] = ()
    force: tuple[Canonical, ...] = ()
    excluded: tuple[Canonical, ...] = ()


#: No pins at all.
NO_PINS = Pins()


def compile_value_set(resource: Resource, library: Library, pins: Pins = NO_PINS) -> Composed:
    """The value set, ready to be asked. Raises Unprocessable for one that contradicts itself:
    imports in a circle, a filter that means nothing, a version that the pins refuse; NotFound for a
    version that the pins insist on and that is not here."""
    return _Compiler(library, pins).compile(resource, ())


class _Compiler:
    def __init__(self, library: Library, pins: Pins) -> None:
        self._library = library
        self._pins = pins
        self._done: dict[str, Composed] = {}
        self._tests: dict[tuple[str, ...], Test] = {}
        self._related = Purse(compose_budget.MOST_RELATED)
        self._parts_and_filters = 0

    def compile(self, resource: Resource, trail: tuple[str, ...]) -> Composed:
        compose = resource.get("compose")
        if not compose:
            return Composed(resource, of_expansion(resource, self._library), (), True)
        locked = compose.get("lockedDate", "")
        includes = tuple(self._parts(resource, compose, "include", trail, locked))
        excludes = tuple(self._parts(resource, compose, "exclude", trail, locked))
        weight = sum(_weight(part) for part in (*includes, *excludes))
        if weight > _HEAVIEST:
            raise _heavy()
        return Composed(resource, includes, excludes, compose.get("inactive", True), weight)

    def _parts(
        self, resource: Resource, compose: Resource, kind: str, trail: tuple[str, ...], date: str
    ) -> Iterator[Part]:
        for number, raw in enumerate(compose.get(kind, ())):
            self._parts_and_filters += 1 + len(raw.get("filter", ()))
            if self._parts_and_filters > _HEAVIEST:
                raise _heavy()
            where = f"ValueSet.compose.{kind}[{number}]"
            if not self._is_excluded(raw):
                yield self._part(resource, raw, where, trail, date)

    def _is_excluded(self, raw: Resource) -> bool:
        return any(
            one.url == raw.get("system") and one.version in ("", raw.get("version", ""))
            for one in self._pins.excluded
        )

    def _part(
        self, resource: Resource, raw: Resource, where: str, trail: tuple[str, ...], date: str
    ) -> Part:
        url = raw.get("system", "")
        version = self._version(url, raw.get("version", ""), where) if url else ""
        found = self._library.system(url, version, date=date) if url else None
        if found is None and any(
            one.url == url for one in (*self._pins.force, *self._pins.default, *self._pins.check)
        ):
            raise NotFound(
                f"Version {version[:80]} of {url[:300]}, which the request insists on, is not here",
                expression=where,
                rule="cs-unknown",
            )
        filters = tuple(
            Filter(one.get("property", ""), one.get("op", ""), one.get("value", ""),
                   f"{where}.filter[{number}]")
            for number, one in enumerate(raw.get("filter", ()))
        )  # fmt: skip
        if not url and (filters or raw.get("concept") or not raw.get("valueSet")):
            raise Unprocessable("This needs a system", expression=where, rule="vs-invalid")
        if filters and raw.get("concept"):
            raise Unprocessable(
                "Codes are listed or filtered, not both", expression=where, rule="vs-invalid"
            )
        tests = tuple(self._test(one, found) for one in filters) if found else ()
        lacks = next(filter(None, (unrooted(one, found) for one in filters)), "") if found else ""
        imports = tuple(raw.get("valueSet", ()))
        within = tuple(self._imported(resource, one, where, trail) for one in imports)
        listed = listed_codes(raw["concept"], found) if raw.get("concept") else None
        shown = version or (found.version if found else "")
        return Part(url, shown, found, listed, filters, tests, within, imports, where, lacks)

    def _test(self, one: Filter, system: System) -> Test:
        """A filter as a question, made once however often the value set repeats it."""
        key = (system.url, system.version, one.property, one.op, one.value)
        found = self._tests.get(key)
        if found is None:
            found = self._tests[key] = compile_filter(one, system, self._related)
        return found

    def _version(self, url: str, version: str, where: str) -> str:
        for one in self._pins.force:
            if one.url == url:
                return one.version
        if not version:
            pinned = (one.version for one in (*self._pins.default, *self._pins.check)
                      if one.url == url)  # fmt: skip
            version = next(pinned, "")
        for one in self._pins.check:
            if one.url == url and not _agree(version, one.version):
                raise Unprocessable(
                    f"The value set takes version {version} of {url}, the request insists on "
                    f"{one.version}",
                    expression=where,
                    rule="version-error",
                )
        return version

    def _imported(
        self, resource: Resource, named: str, where: str, trail: tuple[str, ...]
    ) -> Composed | None:
        if named.startswith("#"):
            found = next(
                (one for one in resource.get("contained", ()) if f"#{one.get('id')}" == named), None
            )
            key = f"{resource.get('url', '')}{named}"
            if found is not None and "contained" not in found:
                found = {**found, "contained": resource["contained"]}
        else:
            one = canonical(named)
            found = self._library.value_set(one.url, one.version)
            key = f"{one.url}|{found.get('version', '')}" if found else named
        if found is None or found.get("resourceType", "ValueSet") != "ValueSet":
            return None
        here = (*trail, f"{resource.get('url', '')}|{resource.get('version', '')}")
        if key in here or len(here) > _DEEPEST:
            circle = " → ".join([*here, key])
            raise Unprocessable(
                f"These value sets import one another in a circle: {circle[:600]}",
                expression=where,
                rule="vs-circular",
            )
        if key not in self._done:
            self._done[key] = self.compile(found, here)
        return self._done[key]


def _heavy() -> TooCostly:
    return TooCostly(
        f"The value set consists of over {_HEAVIEST} parts and filters, imports included",
        expression="ValueSet.compose",
        rule="vs-size",
    )


def _weight(part: Part) -> int:
    return 1 + len(part.filters) + sum(one.weight for one in part.within if one is not None)


def _agree(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(f"{wanted.removesuffix('.x')}.")
