"""A second opinion: evaluates a query over whole resources, one by one, without any index.

Written from the text of hl7.org/fhir/R4/search.html with the standard library alone; knows the
parameters of the table below and nothing else.
"""

from __future__ import annotations

import calendar
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

Resource = dict[str, Any]
Range = tuple[datetime, datetime]  # [first instant, first instant after)

CHINA = timezone(timedelta(hours=8))
FIRST, LAST = datetime.min.replace(tzinfo=CHINA), datetime.max.replace(tzinfo=UTC)


def range_of(text: str) -> Range:
    """What a date of any precision covers."""
    if len(text) == 4:
        year = int(text)
        return _day(year, 1, 1), _day(year + 1, 1, 1)
    if len(text) == 7:
        year, month = int(text[:4]), int(text[5:])
        start = _day(year, month, 1)
        return start, start + timedelta(days=calendar.monthrange(year, month)[1])
    if len(text) == 10:
        start = _day(*map(int, text.split("-")))
        return start, start + timedelta(days=1)
    start = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return start, start + timedelta(seconds=1)


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=CHINA)


def period_of(period: dict[str, str]) -> Range:
    """What a Period covers; an open end lasts for ever."""
    start, end = period.get("start"), period.get("end")
    return (range_of(start)[0] if start else FIRST, range_of(end)[1] if end else LAST)


def compare(prefix: str, target: Range, query: Range) -> bool:
    """The sentences of 3.1.1.4.5."""
    contains = query[0] <= target[0] and target[1] <= query[1]
    above = target[1] > query[1]  # the range above the query overlaps the target
    below = target[0] < query[0]
    return {
        "eq": contains,
        "ne": not contains,
        "gt": above,
        "lt": below,
        "ge": above or contains,
        "le": below or contains,
        "sa": target[0] >= query[1],
        "eb": target[1] <= query[0],
    }[prefix]


def plain(text: str) -> str:
    """Without case and combining marks."""
    spread = unicodedata.normalize("NFD", text.casefold())
    return "".join(sign for sign in spread if not unicodedata.combining(sign))


def codings(concept: Any) -> Iterator[tuple[str, str]]:
    """(system, code) of a CodeableConcept, or of several."""
    for one in concept if isinstance(concept, list) else [concept] if concept else []:
        for coding in one.get("coding", []):
            yield coding.get("system", ""), coding.get("code", "")


def identifiers(resource: Resource) -> Iterator[tuple[str, str]]:
    for identifier in resource.get("identifier", []):
        yield identifier.get("system", ""), identifier.get("value", "")


def dates(resource: Resource) -> Iterator[Range]:
    if "effectiveDateTime" in resource:
        yield range_of(resource["effectiveDateTime"])
    if "effectivePeriod" in resource:
        yield period_of(resource["effectivePeriod"])


def names(resource: Resource, *members: str) -> Iterator[str]:
    for name in resource.get("name", []):
        for member in members:
            value = name.get(member, [])
            yield from [value] if isinstance(value, str) else value
        if "text" in members and "family" in name and "given" in name:
            whole = name["family"] + "".join(name["given"])
            if any("CJK" in unicodedata.name(sign, "") for sign in whole):
                yield whole


def _token(values: Iterator[tuple[str, str]], text: str) -> bool:
    pieces = text.split("|")
    for system, code in values:
        if len(pieces) == 1 and pieces[0] == code:
            return True
        if len(pieces) == 2 and pieces[0] == system and pieces[1] in ("", code):
            return True
    return False


def _date(values: Iterator[Range], text: str) -> bool:
    prefix = text[:2] if text[0].isalpha() else "eq"
    query = range_of(text.removeprefix(prefix) if text[0].isalpha() else text)
    return any(compare(prefix, target, query) for target in values)


def _number(value: float | None, text: str) -> bool:
    return (
        value is not None
        and {
            "gt": value > float(text[2:]),
            "le": value <= float(text[2:]),
        }[text[:2]]
    )


Test = Callable[[Resource, str], bool]

TESTS: dict[str, Test] = {
    "code": lambda r, v: _token(codings(r.get("code")), v),
    "category": lambda r, v: _token(codings(r.get("category")), v),
    "status": lambda r, v: r.get("status") == v,
    "gender": lambda r, v: r.get("gender") == v,
    "identifier": lambda r, v: _token(identifiers(r), v),
    "patient": lambda r, v: r.get("subject", {}).get("reference") == f"Patient/{v}",
    "encounter": lambda r, v: r.get("encounter", {}).get("reference") == v,
    "date": lambda r, v: _date(dates(r), v),
    "birthdate": lambda r, v: _date(
        iter([range_of(r["birthDate"])] if "birthDate" in r else []), v
    ),
    "value-quantity": lambda r, v: _number(r.get("valueQuantity", {}).get("value"), v),
    "name": lambda r, v: any(
        plain(text).startswith(plain(v)) for text in names(r, "text", "family", "given")
    ),
    "name:contains": lambda r, v: any(
        plain(v) in plain(text) for text in names(r, "text", "family", "given")
    ),
    "name:exact": lambda r, v: v in set(names(r, "text", "family", "given")),
    "family": lambda r, v: any(plain(t).startswith(plain(v)) for t in names(r, "family")),
}

#: The element whose absence `:missing` asks for.
ELEMENTS = {
    "code": "code",
    "category": "category",
    "identifier": "identifier",
    "encounter": "encounter",
    "value-quantity": "valueQuantity",
    "birthdate": "birthDate",
    "name": "name",
}


#: What lies directly above a code, by system: what :above and :below of a code mean.
ABOVE: dict[str, dict[str, str]] = {}

#: The (system, code) that a value set holds, by url: what :in and :not-in mean.
HOLDS: dict[str, set[tuple[str, str]]] = {}


def meant(modifier: str, text: str) -> str:
    """The tokens that a value set or a code stands for, parted by commas."""
    if modifier in ("in", "not-in"):
        return ",".join(f"{system}|{code}" for system, code in sorted(HOLDS[text]))
    system, _, code = text.partition("|")
    every = {*ABOVE[system], *ABOVE[system].values()} - {""}
    if modifier == "above":
        return ",".join(f"{system}|{one}" for one in line(system, code))
    return ",".join(f"{system}|{one}" for one in sorted(every) if code in line(system, one))


def line(system: str, code: str) -> list[str]:
    """A code and all above it."""
    return [code, *line(system, ABOVE[system][code])] if code else []


def holds(resource: Resource, name: str, value: str) -> bool:
    """One parameter: commas are OR."""
    base, _, modifier = name.partition(":")
    if modifier in ("in", "not-in", "above", "below"):
        tokens = [token for one in value.split(",") for token in meant(modifier, one).split(",")]
        found = any(TESTS[base](resource, one) for one in tokens if one)
        return found != (modifier == "not-in")
    if modifier == "missing":
        return (ELEMENTS[base] not in resource) is (value == "true")
    if modifier == "not":
        return not any(TESTS[base](resource, one) for one in value.split(","))
    return any(TESTS[name](resource, one) for one in value.split(","))


def matching(resources: list[Resource], query: list[tuple[str, str]]) -> list[str]:
    """Ids of the resources that meet every parameter, in the order given."""
    return [r["id"] for r in resources if all(holds(r, name, value) for name, value in query)]


# -- chains and _has ---------------------------------------------------------------------------

#: The literal references of a resource, by the parameters that name them.
LINKS: dict[str, Callable[[Resource], list[Any]]] = {
    "subject": lambda r: [r.get("subject")],
    "patient": lambda r: [r.get("subject"), r.get("patient")],
    "encounter": lambda r: [r.get("encounter")],
    "performer": lambda r: r.get("performer", []),
    "has-member": lambda r: r.get("hasMember", []),
    "organization": lambda r: [r.get("managingOrganization"), r.get("organization")],
    "practitioner": lambda r: [r.get("practitioner")],
    "partof": lambda r: [r.get("partOf")],
    "target": lambda r: r.get("target", []),
    "general-practitioner": lambda r: r.get("generalPractitioner", []),
}


class World:
    """All resources that a caller sees; a chain leads over nothing else."""

    def __init__(self, resources: list[Resource]) -> None:
        self.by_name = {f"{r['resourceType']}/{r['id']}": r for r in resources}

    def matching(self, type: str, query: list[tuple[str, str]]) -> list[str]:
        """Ids of the resources of a type that meet every parameter, in the order given."""
        return [
            r["id"]
            for r in self.by_name.values()
            if r["resourceType"] == type and all(self.holds(r, *one) for one in query)
        ]

    def holds(self, resource: Resource, name: str, value: str) -> bool:
        """One parameter, which may be a chain or a _has with others inside."""
        if name.startswith("_has:"):
            _, type, code, rest = name.split(":", 3)
            me = f"{resource['resourceType']}/{resource['id']}"
            return any(
                one["resourceType"] == type
                and me in self._named(one, code)
                and self.is_near(one, resource, code)
                and self.holds(one, rest, value)
                for one in self.by_name.values()
            )
        link, dot, rest = name.partition(".")
        if not dot:
            return holds(resource, name, value)
        code, _, type = link.partition(":")
        return any(
            text in self.by_name
            and (self.by_name[text]["resourceType"] == type if type else True)
            and self._knows(text, rest)
            and self.holds(self.by_name[text], rest, value)
            for text in self._named(resource, code)
        )

    def is_near(self, source: Resource, target: Resource, code: str) -> bool:
        """Whether _has looks where the source lives, when it points to the target."""
        return True

    def _knows(self, text: str, rest: str) -> bool:
        """Whether the type of a resource has the parameter at all."""
        return self.by_name[text]["resourceType"] in KNOWING.get(rest.partition(":")[0], {
            self.by_name[text]["resourceType"]
        })  # fmt: skip

    def _named(self, resource: Resource, code: str) -> list[str]:
        references = [one.get("reference") for one in LINKS[code](resource) if one]
        if code == "patient":
            return [text for text in references if text.startswith("Patient/")]
        return references


#: Types of the tests that have a parameter; others a chain does not lead to.
KNOWING: dict[str, frozenset[str]] = {
    "family": frozenset({"Patient", "Practitioner"}),
    "code": frozenset({"Observation", "Group"}),
}
