"""The Composition of a report: its sections, and what the document does not hold. Pure.

hl7.org/fhir/R4/composition.html. The report stays as it is and stands in the document beside it;
the sections point to it and say the same for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_gateway.interactions import document_text as text

Json = Mapping[str, Any]

_LOINC = "http://loinc.org"
_LABORATORY = ("11502-2", "Laboratory report")
_IMAGING = ("18748-4", "Diagnostic imaging study")
_RESULTS = ("30954-2", "Relevant diagnostic tests/laboratory data note")
_CONCLUSION = ("55110-1", "Conclusions [Interpretation] Document")

#: status of a report -> status of its document (composition-status).
_STATUS = {
    "final": "final", "amended": "amended", "corrected": "amended", "appended": "amended",
    "cancelled": "entered-in-error", "entered-in-error": "entered-in-error",
}  # fmt: skip

_HEADER = ("项目", "结果", "参考范围", "提示", "状态", "时间")
_AUTHORS = ("resultsInterpreter", "performer")


def composition(
    report: Json, held: Mapping[str, Json], missing: Sequence[str], *, id: str, now: str
) -> dict[str, Any]:
    """The Composition of a report.

    `held` are the resources of the document by "Type/id", `missing` the references that led
    nowhere, `now` the time where the report has none.
    """
    imaging = bool(report.get("imagingStudy"))
    made: dict[str, Any] = {
        "resourceType": "Composition",
        "id": id,
        "language": "zh-CN",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{id}"},
        "status": _STATUS.get(report["status"], "preliminary"),
        "type": _coded(_IMAGING if imaging else _LABORATORY),
        "subject": _held(report.get("subject"), held),
        "encounter": _held(report.get("encounter"), held),
        "date": report.get("issued") or _date(report) or now,
        "author": _authors(report, held),
        "title": text.concept(report.get("code")) or ("检查报告" if imaging else "检验报告"),
        "custodian": _custodian(report, held),
        "event": [{"detail": [_reference(report)]}],
        "section": list(_sections(report, held, missing)),
    }
    return {name: value for name, value in made.items() if value is not None}


def _coded(code: tuple[str, str]) -> dict[str, Any]:
    return {"coding": [{"system": _LOINC, "code": code[0], "display": code[1]}]}


def _date(report: Json) -> str | None:
    whole: Json = report.get("effectivePeriod", {})
    return report.get("effectiveDateTime") or whole.get("end") or whole.get("start")


def _reference(resource: Json) -> dict[str, str]:
    return {"reference": f"{resource['resourceType']}/{resource['id']}"}


def _name(reference: Json | None) -> str:
    return str((reference or {}).get("reference", "")).partition("/_history/")[0]


def _held(reference: Json | None, held: Mapping[str, Json]) -> dict[str, Any] | None:
    """A reference, when what it means is in the document."""
    name = _name(reference)
    return {"reference": name} if name in held else None


def _authors(report: Json, held: Mapping[str, Json]) -> list[dict[str, Any]]:
    """Those who answer for the report; by name alone where no resource of them is here."""
    for field in _AUTHORS:
        said = report.get(field, ())
        found = [known for one in said if (known := _held(one, held)) is not None]
        if found:
            return found
        if names := [one["display"] for one in said if one.get("display")]:
            return [{"display": name} for name in names]
    return [{"display": "未说明"}]


def _custodian(report: Json, held: Mapping[str, Json]) -> dict[str, Any] | None:
    names = (_name(one) for one in report.get("performer", ()))
    found = (name for name in names if name.startswith("Organization/") and name in held)
    name = next(found, "")
    return {"reference": name} if name else None


# -- sections --------------------------------------------------------------------------------------


def _sections(report: Json, held: Mapping[str, Json], missing: Sequence[str]) -> Iterator[Any]:
    yield {"title": "报告", "text": _about(report), "entry": [_reference(report)]}
    if results := _of(report.get("result", ()), held):
        yield {"title": "结果", "code": _coded(_RESULTS), "text": _results(results),
               "entry": [_reference(one) for one in results]}  # fmt: skip
    if studies := _of(report.get("imagingStudy", ()), held):
        yield {"title": "影像检查", "code": _coded(_IMAGING), "text": _studies(studies),
               "entry": [_reference(one) for one in studies]}  # fmt: skip
    said = [report.get("conclusion", ""), *map(text.concept, report.get("conclusionCode", ()))]
    if any(said):
        yield {"title": "结论", "code": _coded(_CONCLUSION),
               "text": text.narrative(text.paragraphs(dict.fromkeys(said)))}  # fmt: skip
    if files := [one for one in held.values() if one["resourceType"] == "Binary"]:
        shown = text.listed(f"{one.get('contentType', '')} Binary/{one['id']}" for one in files)
        yield {"title": "报告文件", "text": text.narrative(shown),
               "entry": [_reference(one) for one in files]}  # fmt: skip
    if missing:
        yield _not_included(missing)


def _of(references: Sequence[Json], held: Mapping[str, Json]) -> list[Json]:
    names = dict.fromkeys(map(_name, references))
    return [held[name] for name in names if name in held]


def _about(report: Json) -> dict[str, str]:
    rows = [
        ("报告", text.concept(report.get("code"))),
        ("编号", text.identifiers(report)),
        ("状态", report["status"]),
        ("检查时间", text.when(report)),
        ("报告时间", report.get("issued", "")),
    ]
    return text.narrative(text.listed(f"{name}：{said}" for name, said in rows if said))


def _results(results: Sequence[Json]) -> dict[str, str]:
    return text.narrative(text.table(_HEADER, map(_row, results)))


def _row(result: Json) -> tuple[str, ...]:
    ranges = "；".join(filter(None, map(text.range_of, result.get("referenceRange", ()))))
    flags = "、".join(filter(None, map(text.concept, result.get("interpretation", ()))))
    return (text.concept(result.get("code")), text.value_of(result), ranges, flags,
            result["status"], text.when(result))  # fmt: skip


def _studies(studies: Sequence[Json]) -> dict[str, str]:
    said = []
    for study in studies:
        kinds = dict.fromkeys(one["modality"].get("code", "") for one in study.get("series", ()))
        parts = [study.get("description", ""), "、".join(kinds), study.get("started", ""),
                 text.identifiers(study)]  # fmt: skip
        said.append("，".join(filter(None, parts)))
    return text.narrative(text.listed(said))


def _not_included(missing: Sequence[str]) -> dict[str, Any]:
    """What the report refers to and the document does not hold. Why is not told: what is hidden
    from the caller must look like what is not there."""
    said = "报告引用了以下内容，但未包含在本文档中：不存在，或您无权查看。"
    return {
        "title": "未包含的内容",
        "text": text.narrative(text.paragraphs([said]), text.listed(missing)),
        "emptyReason": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/list-empty-reason",
            "code": "unavailable",
            "display": "Unavailable",
        }]},
    }  # fmt: skip
