"""Catalogue codings, added at ingest beside the hospital's own; nothing is ever removed.

What the catalogue already codes is left alone. Else the institution's own map decides, then a code
of an imported list that is joined to the catalogue, or a LOINC code that says exactly one item.
What nobody knows is stored, flagged by a tag and told to the caller, who counts it. docs/adr/0009
says why in this order. An added coding carries the map that it was made by; one that comes back is
dropped and made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fhir_gateway.fhir.wire import render
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import LOINC, SYSTEMS, Catalogue, item_code
from fhir_gateway.terminology.catalogue_join import NO_LISTS, ListCodes
from fhir_gateway.terminology.local_map import (
    USES,
    LocalMap,
    Meaning,
    Stated,
    Use,
    day_of,
    is_standard,
)
from fhir_gateway.terminology.mapped_by import SERVICES, drop_ours, ours, services_of
from fhir_gateway.terminology.specimen import compare_specimens, specimen_of

DATA_QUALITY = f"{CANONICAL}/CodeSystem/data-quality"
UNMAPPED_ITEM, UNMAPPED_ORDER = "unmapped-item", "unmapped-order"

#: Categories of Observations that the catalogue has nothing to say about.
_NOT_MEASURED_HERE = frozenset(
    {"social-history", "vital-signs", "survey", "exam", "therapy", "activity"}
)
#: Categories (SNOMED CT) of ServiceRequests that order neither laboratory nor imaging.
_NOT_ORDERED_HERE = frozenset({"409063005", "409073007", "387713003", "3457005", "306206005"})

#: Results whose coding is remembered by one Coder, and the longest code of one (bytes).
_MOST, _LONGEST = 8_192, 1_000

_Changes = tuple[list[str], list[str]]


class Coder:
    """A catalogue and the maps of all institutions. `add` is the context's Coder."""

    __slots__ = ("_by_loinc", "_catalogue", "_kept", "_lists", "_maps", "_work")

    def __init__(
        self, catalogue: Catalogue, maps: Mapping[str, LocalMap], lists: ListCodes = NO_LISTS
    ) -> None:
        """`maps` by the institutions' logical ids, `lists` what imported lists are joined to."""
        self._lists = lists
        self._catalogue = catalogue
        self._by_loinc = catalogue.by_loinc
        self._maps = maps
        self._kept: dict[tuple[Any, ...], dict[str, Any] | bool] = {}
        self._work: Mapping[str, Callable[[dict[str, Any], LocalMap | None], _Changes]] = {
            "Observation": self._observation,
            "DiagnosticReport": self._report,
            "ServiceRequest": self._order,
            "ImagingStudy": self._study,
            "Schedule": self._service,
            "Slot": self._service,
            "HealthcareService": self._service,
        }

    def add(self, resource: dict[str, Any], institution: str) -> _Changes:
        """Codes the resource in place; returns (elements coded, elements nobody knows)."""
        work = self._work.get(resource["resourceType"])
        if work is None:
            return [], []
        drop_ours(resource)
        coded, unmapped = work(resource, self._maps.get(institution))
        flag = UNMAPPED_ORDER if resource["resourceType"] == "ServiceRequest" else UNMAPPED_ITEM
        if unmapped:
            _flag(resource, flag)
        elif "meta" in resource:
            _unflag(resource, flag)
        return coded, unmapped

    def recode(
        self, resource: dict[str, Any], institution: str
    ) -> tuple[dict[str, Any], list[str], list[str]]:
        """A copy that is coded as it would be if it came in now; the resource stays as it is.

        Returns (copy, elements coded, elements nobody knows). Codings that the gateway added and
        its flags of unmapped codes are left out of the copy before it is coded.
        """
        again = dict(resource)
        for name in ("code", "orderDetail", "procedureCode", "meta"):
            if name in again:
                again[name] = _copied(again[name])
        coded, unmapped = self.add(again, institution)
        return again, coded, unmapped

    def _observation(self, resource: dict[str, Any], local: LocalMap | None) -> _Changes:
        concept = resource.get("code")
        if not concept:
            return [], []
        answer = self._of_result(concept, _stated(resource), local)
        if answer is True:
            return [], []
        if answer:
            concept["coding"] = [*concept.get("coding", ()), dict(answer)]
            return ["Observation.code"], []
        categories = _categories(resource)
        if categories and categories <= _NOT_MEASURED_HERE:
            return [], []
        return [], ["Observation.code"]

    def _of_result(
        self, concept: Mapping[str, Any], stated: tuple[str, str, str, str], local: LocalMap | None
    ) -> dict[str, Any] | bool:
        """The coding to be added to a result's code, True where the catalogue codes it already,
        False where nobody knows it.

        Remembered by all that the answer depends on; where catalogue, lists or maps change there
        is another Coder, which remembers nothing of this one.
        """
        key = (render(concept), stated, id(local))
        answer = self._kept.get(key)
        if answer is not None:
            return answer
        if self._is_coded(concept):
            answer = True
        else:
            meaning = self._find("result", concept, Stated(*stated), local)
            answer = _coding_of(meaning) if meaning and meaning.items else False
        if len(self._kept) >= _MOST:
            self._kept.clear()
        if len(key[0]) <= _LONGEST:
            self._kept[key] = answer
        return answer

    def _report(self, resource: dict[str, Any], local: LocalMap | None) -> _Changes:
        """A report with results is an envelope: its own code may stay unknown."""
        concept = resource.get("code")
        if not concept or self._is_coded(concept):
            return [], []
        stated = Stated(specimen=specimen_of(resource), day=day_of(resource))
        if meaning := self._examination(concept, stated, local):
            _append(concept, meaning)
            return ["DiagnosticReport.code"], []
        return [], [] if resource.get("result") else ["DiagnosticReport.code"]

    def _study(self, resource: dict[str, Any], local: LocalMap | None) -> _Changes:
        """A study without any procedure code is not flagged: its report says what it is."""
        concepts = resource.get("procedureCode", [])
        if not concepts or any(self._is_coded(concept) for concept in concepts):
            return [], []
        coded = []
        for number, concept in enumerate(concepts):
            if meaning := self._examination(concept, Stated(day=day_of(resource)), local):
                _append(concept, meaning)
                coded.append(f"ImagingStudy.procedureCode[{number}]")
        return coded, [] if coded else ["ImagingStudy.procedureCode"]

    def _service(self, resource: dict[str, Any], local: LocalMap | None) -> _Changes:
        """What bookable time is for, by the code of an order. Many services are visits, which the
        catalogue has nothing to say about: none is flagged."""
        type, coded = resource["resourceType"], []
        day = str(resource.get("start") or resource.get("planningHorizon", {}).get("start") or "")
        for number, concept in enumerate(services_of(resource)):
            if self._is_coded(concept):
                continue
            meaning = self._find("order", concept, Stated(day=day), local)
            if meaning and len(meaning.items) == 1:
                _append(concept, meaning)
                coded.append(f"{type}.{SERVICES[type]}[{number}]")
        return coded, []

    def _order(self, resource: dict[str, Any], local: LocalMap | None) -> _Changes:
        """A panel is not one of its items: they go to the order detail, one concept each.

        Where the code says nothing, the details may: charges are sent as such. One of them that
        nobody knows leaves the order in doubt, however many are known.
        """
        concept = resource.get("code")
        if concept and self._is_coded(concept):
            return [], []
        stated = Stated(specimen=specimen_of(resource), day=day_of(resource))
        meaning = self._find("order", concept, stated, local) if concept else None
        if meaning and len(meaning.items) == 1:
            assert concept is not None
            _append(concept, meaning)
            return ["ServiceRequest.code"], []
        if meaning and meaning.items:
            details = resource.setdefault("orderDetail", [])
            return _add_details(details, meaning), []
        coded, unmapped, known = self._details(resource, stated, local)
        if known:
            return coded, unmapped
        if _categories(resource) and _categories(resource) <= _NOT_ORDERED_HERE:
            return [], []
        return [], ["ServiceRequest.code"] if concept else unmapped

    def _details(
        self, resource: dict[str, Any], stated: Stated, local: LocalMap | None
    ) -> tuple[list[str], list[str], bool]:
        """Codes the order details: (coded, local codes that nobody knows, whether any is known)."""
        coded: list[str] = []
        unmapped: list[str] = []
        known = False
        details = resource.get("orderDetail", [])
        for number, detail in enumerate(tuple(details)):
            name = f"ServiceRequest.orderDetail[{number}]"
            if self._is_coded(detail):
                known = True
                continue
            meaning = self._find("order", detail, stated, local)
            if meaning is None:
                if any(one.get("code") and _is_own(one) for one in detail.get("coding", ())):
                    unmapped.append(name)
            elif len(meaning.items) == 1:
                _append(detail, meaning)
                coded.append(name)
            elif meaning.items:
                coded += _add_details(details, meaning)
        return coded, unmapped, known or bool(coded)

    def _examination(
        self, concept: Mapping[str, Any], stated: Stated, local: LocalMap | None
    ) -> Meaning | None:
        """The one item of a report's or study's code, which often is the code of its order."""
        for use in USES:
            meaning = self._find(use, concept, stated, local)
            if meaning and len(meaning.items) == 1:
                return meaning
        return None

    def _is_coded(self, concept: Mapping[str, Any]) -> bool:
        code = item_code(concept)
        return code is not None and any(
            self._catalogue.by_coding(coding.get("system"), coding.get("code"))
            for coding in concept["coding"]
            if coding.get("system") in SYSTEMS
        )

    def _find(
        self, use: Use, concept: Mapping[str, Any], stated: Stated, local: LocalMap | None
    ) -> Meaning | None:
        if local is not None:
            meaning = local.find(use, concept, stated)
            if meaning is not None:
                return meaning
        for coding in concept.get("coding", ()):
            if meaning := self._listed(use, coding, stated):
                return meaning
            if coding.get("system") == LOINC:
                item = self._by_loinc.get(coding.get("code", ""))
                if item and compare_specimens(stated.specimen, item.specimen) is not False:
                    return Meaning((item,), f"{item.system}|{item.edition}")
        return None

    def _listed(self, use: Use, coding: Mapping[str, Any], stated: Stated) -> Meaning | None:
        """What a code of an imported list is; a result is one item, in a specimen of that item."""
        entry = self._lists.get((coding.get("system", ""), coding.get("code", "")))
        if entry is None:
            return None
        first = entry.items[0]
        if use == "result" and (
            len(entry.items) > 1 or compare_specimens(stated.specimen, first.specimen) is False
        ):
            return None
        return Meaning(entry.items, entry.source)


def _stated(observation: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What goes into Stated; of the time its day, which is all that maps look at."""
    quantity, method = observation.get("valueQuantity"), observation.get("method")
    unit = (quantity.get("unit") or quantity.get("code") or "") if quantity else ""
    how = ""
    if method:
        codings = method.get("coding") or [{}]
        how = method.get("text") or codings[0].get("display") or ""
    return specimen_of(observation), unit, how, day_of(observation)[:10]


def _categories(resource: Mapping[str, Any]) -> set[str]:
    return {
        coding.get("code", "")
        for category in resource.get("category", ())
        for coding in category.get("coding", ())
    }


def _is_own(coding: Mapping[str, Any]) -> bool:
    return not is_standard(coding.get("system", ""))


def _add_details(details: list[dict[str, Any]], meaning: Meaning) -> list[str]:
    first = len(details)
    details += [{"coding": [ours(item, meaning.source)]} for item in meaning.items]
    return [f"ServiceRequest.orderDetail[{n}]" for n in range(first, len(details))]


def _append(concept: dict[str, Any], meaning: Meaning) -> None:
    concept["coding"] = [*concept.get("coding", ()), _coding_of(meaning)]


def _coding_of(meaning: Meaning) -> dict[str, Any]:
    return ours(meaning.items[0], meaning.source)


def _copied(value: Any) -> Any:
    """A JSON value whose lists and objects are others."""
    if isinstance(value, dict):
        return {name: _copied(member) for name, member in value.items()}
    return [_copied(member) for member in value] if isinstance(value, list) else value


def _flag(resource: dict[str, Any], code: str) -> None:
    tags = resource.setdefault("meta", {}).setdefault("tag", [])
    if not tags or not any(
        tag.get("system") == DATA_QUALITY and tag.get("code") == code for tag in tags
    ):
        tags.append({"system": DATA_QUALITY, "code": code})


def _unflag(resource: dict[str, Any], code: str) -> None:
    """A flag of ours that came back with the resource, and is no longer true."""
    tags = resource["meta"].get("tag")
    if not tags:
        return
    kept = [tag for tag in tags if tag.get("system") != DATA_QUALITY or tag.get("code") != code]
    if len(kept) == len(tags):
        return
    if kept:
        resource["meta"]["tag"] = kept
        return
    del resource["meta"]["tag"]
    if not resource["meta"]:
        del resource["meta"]
