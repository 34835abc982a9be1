"""Which item of the catalogue an entry of an imported list is: the ConceptMap that joins them.

A join is certain when the list itself names the item, when name and specimen (or kind and region of
an examination) are equal, or when LOINC code and specimen are. Everything less is a proposal for a
person: it goes to a table for review and never into the map. hl7.org/fhir/R4/conceptmap.html
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from fhir_gateway.errors import Unprocessable
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEM_OF, SYSTEMS, Catalogue, Item, Kind
from fhir_gateway.terminology.catalogue_meaning import folded
from fhir_gateway.terminology.edition import SYSTEM_ROOT, Edition
from fhir_gateway.terminology.local_map import PART_OF_PANEL
from fhir_gateway.terminology.resource import head
from fhir_gateway.terminology.sheet import Sheet
from fhir_gateway.terminology.sheet_text import guarded
from fhir_gateway.terminology.specimen import compare_specimens
from fhir_gateway.terminology.unit import compare_units

#: Entry code -> items of the catalogue that it is.
Joins = Mapping[str, tuple[str, ...]]

REVIEW_COLUMNS = ("code", "name", "item", "item_name", "reason", "accept")


class Proposal(NamedTuple):
    """An item that an entry may be, and why that is not certain. `item` None: nothing was found."""

    entry: Item
    item: Item | None
    reason: str


class Joined(NamedTuple):
    """What is certain, and what a person has to look at."""

    joins: Joins
    proposals: tuple[Proposal, ...]


def propose(entries: Sequence[Item], catalogue: Catalogue, given: Joins) -> Joined:
    """Joins the entries of a list to the catalogue; `given` are the joins that a person named."""
    index = _Index(catalogue, entries)
    joins: dict[str, tuple[str, ...]] = {}
    proposals: list[Proposal] = []
    for entry in entries:
        if entry.code in given:
            joins[entry.code] = given[entry.code]
            continue
        item, reason = index.find(entry)
        if item is not None and not reason:
            joins[entry.code] = (item.code,)
        else:
            proposals.append(Proposal(entry, item, reason or "nothing like it was found"))
    return Joined(MappingProxyType(joins), tuple(proposals))


class _Index:
    """The catalogue by what entries can be compared by."""

    def __init__(self, catalogue: Catalogue, entries: Sequence[Item]) -> None:
        self.by_name: dict[tuple[str, str], list[Item]] = {}
        self.by_loinc: dict[tuple[str, str], list[Item]] = {}
        self.entries_by_name: dict[str, int] = {}
        for item in catalogue.items.values():
            names = {folded(item.name_zh), folded(item.name_en)} - {""}
            for name in names:
                self.by_name.setdefault((item.kind, name), []).append(item)
            if item.loinc:
                self.by_loinc.setdefault((item.kind, item.loinc), []).append(item)
        for entry in entries:
            name = folded(entry.name_zh)
            self.entries_by_name[name] = self.entries_by_name.get(name, 0) + 1

    def find(self, entry: Item) -> tuple[Item | None, str]:
        """The item that an entry is, and why it is not certain ("" when it is)."""
        named = self.by_name.get((entry.kind, folded(entry.name_zh)), [])
        coded = self.by_loinc.get((entry.kind, entry.loinc), []) if entry.loinc else []
        fitting = [item for item in named if not _contradiction(entry, item)]
        if len(fitting) == 1:
            return fitting[0], self._doubt_of_name(entry, fitting[0], coded)
        fitting = [item for item in coded if not _contradiction(entry, item)]
        if len(fitting) == 1:
            return fitting[0], _doubt_of_loinc(entry, fitting[0])
        for item in (*named, *coded):
            return item, _contradiction(entry, item) or "several items are like it"
        return None, ""

    def _doubt_of_name(self, entry: Item, item: Item, coded: Sequence[Item]) -> str:
        if self.entries_by_name[folded(entry.name_zh)] > 1:
            return "the list has several entries of this name"
        if coded and item not in coded:
            return f"the name is that of {item.code}, the LOINC code that of {coded[0].code}"
        if entry.kind == "lab" and not entry.specimen:
            return "the name is equal, but the list does not say the specimen"
        if entry.kind == "lab" and compare_specimens(entry.specimen, item.specimen) is not True:
            return f"the name is equal, but {entry.specimen} may not be {item.specimen}"
        return ""


def _doubt_of_loinc(entry: Item, item: Item) -> str:
    if item.loinc_relation != "exact" or entry.loinc_relation == "broader":
        return "the LOINC code is equal, but wider than the item"
    if entry.kind == "lab" and compare_specimens(entry.specimen, item.specimen) is not True:
        return "the LOINC code is equal, but the specimen is not stated so"
    return ""


def _contradiction(entry: Item, item: Item) -> str:
    """What the entry says that the item is not; "" when nothing does."""
    if entry.specimen and compare_specimens(entry.specimen, item.specimen) is False:
        return f"{entry.specimen} is not {item.specimen}"
    if entry.ucum_unit and compare_units(entry.ucum_unit, item.ucum_unit) is False:
        return f"{entry.ucum_unit} cannot be set beside {item.ucum_unit}"
    for name in ("modality", "body_part_zh", "contrast", "laterality"):
        said, means = getattr(entry, name), getattr(item, name)
        if said and means and folded(said) != folded(means):
            return f"{said} is not {means}"
    return ""


# -- for a person to look at -----------------------------------------------------------------------


def review_table(proposals: Iterable[Proposal]) -> str:
    """The proposals as CSV. A person writes yes into `accept`, or another item, and joins it."""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(REVIEW_COLUMNS)
    for one in proposals:
        item = one.item
        named = (item.code, item.name_zh) if item is not None else ("", "")
        row = (one.entry.code, one.entry.name_zh, *named, one.reason, "")
        table.writerow([guarded(text) for text in row])
    return written.getvalue()


_ACCEPTED = frozenset({"yes", "y", "true", "1", "是", "√", "对", "x"})


def read_joins(sheet: Sheet, edition: Edition, catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """The joins that a person accepted in a review table: code, item, and accept where it is there.

    An accepted row without an item says that the entry is none of the catalogue's. Raises
    Unprocessable with every fault by row and column.
    """
    columns: dict[str, int] = {}
    if sheet.rows:
        for number, cell in enumerate(sheet.rows[0].cells):
            columns.setdefault(cell.text.casefold(), number)
    issues = [
        sheet.issue("join-column", f"there is no column {name}", 1)
        for name in ("code", "item")
        if name not in columns
    ]
    joins: dict[str, tuple[str, ...]] = {}
    for row in sheet.rows[1:] if not issues else ():
        code = row.cell(columns["code"]).text
        accepted = "accept" not in columns or row.cell(columns["accept"]).text.casefold()
        if accepted is not True and accepted not in _ACCEPTED:
            continue
        items = tuple(part.strip() for part in row.cell(columns["item"]).text.split(";"))
        items = tuple(item for item in items if item)
        if code not in edition.items:
            sentence = f"{code or 'nothing'} is no entry of {edition.name} {edition.edition}"
            issues.append(sheet.issue("join-code", sentence, row.number, columns["code"]))
        elif code in joins:
            sentence = f"{code} is joined in another row already"
            issues.append(sheet.issue("join-code", sentence, row.number, columns["code"]))
        issues += [
            sheet.issue("join-item", sentence, row.number, columns["item"])
            for sentence in wrong_items(items, edition.kind, catalogue)
        ]
        joins[code] = items
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return joins


def wrong_items(items: Iterable[str], kind: Kind, catalogue: Catalogue) -> list[str]:
    """What is wrong with the items that an entry of a list is said to be."""
    return [
        f"{item} is no {kind} item of the catalogue"
        for item in items
        if item not in catalogue.items or catalogue.items[item].kind != kind
    ]


# -- as FHIR ---------------------------------------------------------------------------------------


def join_map(edition: Edition, joins: Joins, catalogue: Catalogue) -> dict[str, Any]:
    """The ConceptMap from an edition to the catalogue; what is not joined is unmatched."""
    url = f"{CANONICAL}/ConceptMap/{edition.name}"
    target = SYSTEM_OF[edition.kind]
    described = head(
        type="ConceptMap",
        url=url,
        id=edition.id,
        version=edition.edition,
        title=f"{edition.title or edition.name} → {target.rpartition('/')[2]}",
        status=edition.status,
        experimental=edition.experimental,
        date=edition.effective,
        publisher="Operator of the gateway",
        description=(
            "Which items of the catalogue the entries of an imported list are. It is the "
            "operator's own statement, not the publisher's."
        ),
        sourceUri=_value_set_of(edition.url),
        targetUri=_value_set_of(target),
        copyright=edition.notice,
    )
    elements = [
        {"code": code, "display": entry.name_zh, "target": _targets(joins.get(code, ()), catalogue)}
        for code, entry in edition.items.items()
    ]
    group = {
        "source": edition.url,
        "sourceVersion": edition.edition,
        "target": target,
        "targetVersion": catalogue.edition,
        "element": elements,
    }
    return described | ({"group": [group]} if elements else {})


def _value_set_of(system: str) -> str:
    return system.replace("/CodeSystem/", "/ValueSet/")


def _targets(codes: Sequence[str], catalogue: Catalogue) -> list[dict[str, Any]]:
    """One item is what the entry is; several are parts of it, and each is narrower."""
    kind = {"equivalence": "equivalent"}
    if len(codes) > 1:
        kind = {"equivalence": "narrower", "comment": PART_OF_PANEL}
    targets = [
        {"code": code, "display": catalogue.items[code].name_zh} | kind
        for code in codes
        if code in catalogue.items
    ]
    return targets or [{"equivalence": "unmatched"}]


def joins_of(concept_map: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The joins that such a ConceptMap holds, by the code of the entry."""
    found: dict[str, tuple[str, ...]] = {}
    for group in concept_map.get("group", ()):
        if group.get("target") not in SYSTEMS:
            continue
        for element in group.get("element", ()):
            codes = (target.get("code") for target in element.get("target", ()))
            items = tuple(code for code in codes if code)
            if items and element.get("code"):
                found[element["code"]] = items
    return found


def list_of(concept_map: Mapping[str, Any]) -> str:
    """The url of the list that a ConceptMap joins to the catalogue; "" for every other map."""
    groups = concept_map.get("group", ())
    source = groups[0].get("source", "") if groups else ""
    joined = all(group.get("target") in SYSTEMS for group in groups)
    is_ours = str(concept_map.get("url", "")).startswith(f"{CANONICAL}/ConceptMap/")
    named = "useContext" not in concept_map and source.startswith(SYSTEM_ROOT)
    return str(source) if groups and joined and is_ours and named else ""


# -- for whoever codes -----------------------------------------------------------------------------


class ListEntry(NamedTuple):
    """What a code of a list is: items of the catalogue, and the map that says so."""

    items: tuple[Item, ...]
    source: str


#: (system, code) of an entry of a list -> what it is.
ListCodes = Mapping[tuple[str, str], ListEntry]

NO_LISTS: ListCodes = MappingProxyType({})


def list_codes(concept_maps: Iterable[Mapping[str, Any]], catalogue: Catalogue) -> ListCodes:
    """What the codes of all imported lists mean, of all their editions: the latest goes first.

    A code means the same in every edition; a later edition can only have been joined better.
    """
    found: dict[tuple[str, str], ListEntry] = {}
    for one in sorted(concept_maps, key=lambda one: (one.get("date", ""), one.get("id", ""))):
        system, source = list_of(one), "|".join(filter(None, (one.get("url"), one.get("version"))))
        for code, items in joins_of(one).items() if system else ():
            known = tuple(catalogue.items[item] for item in items if item in catalogue.items)
            if known:
                found[system, code] = ListEntry(known, source)
    return MappingProxyType(found)


def items_of_list_coding(
    codes: ListCodes, system: str | None, code: str | None
) -> tuple[Item, ...]:
    """The items of the catalogue that a coding of an imported list is; empty when it is none."""
    entry = codes.get((system or "", code or ""))
    return entry.items if entry is not None else ()
