"""The operations of the terminology service: what they take and give.

FHIR R4 codesystem-operations.html, valueset-operations.html and conceptmap-operations.html; what
goes beyond R4 (tx-resource, lenient-display-validation, issues …) has the names that HL7's
terminology servers share. docs/terminology.md shows them.
"""

from __future__ import annotations

from fhir_gateway.interactions.operation_definitions import MANY, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P

_STANDARD = "http://hl7.org/fhir/OperationDefinition/"
_CS, _VS = ("CodeSystem",), ("ValueSet",)

_DATE = P("date", "dateTime", "The day whose editions count; today when left out")
_LANGUAGE = P("displayLanguage", "code", "The language of names and sentences: zh-CN or en")
_RESOURCES = P(
    "tx-resource", "Resource", "A CodeSystem, ValueSet or ConceptMap for this call", 0, MANY
)
_PINS = (
    P("system-version", "canonical", "system|version where the value set names none", 0, MANY),
    P("check-system-version", "canonical", "system|version: another one is an error", 0, MANY),
    P("force-system-version", "canonical", "system|version whatever the value set says", 0, MANY),
)
_DESIGNATION = (
    P("language", "code", "Its language"),
    P("use", "Coding", "What it is used for"),
    P("value", "string", "The name", 1),
)
_PROPERTY = (
    P("code", "code", "The property", 1),
    P("value", "code Coding string integer boolean dateTime decimal", "Its value"),
    P("description", "string", "The name of a code that is the value"),
)

LOOKUP = Definition(
    code="lookup",
    title="What a code means",
    says=(
        "Name, designations and properties of a code; its place in the hierarchy as the properties "
        "parent and child."
    ),
    types=_CS,
    levels=("type",),
    takes=(
        P("code", "code", "The code, with its system"),
        P("system", "uri", "The code system"),
        P("version", "string", "Its version"),
        P("coding", "Coding", "The code in one piece, in place of code and system"),
        _DATE,
        _LANGUAGE,
        P("property", "code", "What to tell; everything when left out", 0, MANY),
        _RESOURCES,
    ),
    gives=(
        P("name", "string", "The name of the code system", 1),
        P("version", "string", "The version that was looked at"),
        P("display", "string", "The name of the code, in the language asked for", 1),
        P("abstract", "boolean", "Whether it only groups other codes"),
        P("inactive", "boolean", "Whether it is retired"),
        P("definition", "string", "What it means"),
        P("designation", "", "Another name", 0, MANY, parts=_DESIGNATION),
        P("property", "", "A property", 0, MANY, parts=_PROPERTY),
    ),
    standard="CodeSystem-lookup",
)

VALIDATE_CODE = Definition(
    code="validate-code",
    title="Whether a code is right",
    says=(
        "Whether a code exists, has this display and, on ValueSet, is in the value set. What "
        "cannot be decided, because a code system is not here, is result false with the issue "
        "not-found. Parameters that name a type stand on that type alone."
    ),
    types=("CodeSystem", "ValueSet"),
    levels=("type", "instance"),
    takes=(
        P("url", "uri", "The CodeSystem or ValueSet; type level only"),
        P("codeSystem", "CodeSystem", "CodeSystem: the resource itself", on=_CS),
        P("valueSet", "ValueSet", "ValueSet: the resource itself", on=_VS),
        P("valueSetVersion", "string", "ValueSet: its version", on=_VS),
        P("code", "code", "The code"),
        P("system", "uri", "ValueSet: the system of the code", on=_VS),
        P("version", "string", "CodeSystem: its version", on=_CS),
        P("systemVersion", "string", "ValueSet: the version of the system", on=_VS),
        P("display", "string", "The name that is to be checked"),
        P("coding", "Coding", "The code in one piece"),
        P("codeableConcept", "CodeableConcept", "Several codings, of which one must be right"),
        _DATE,
        P("abstract", "boolean", "false: a code that only groups others is not right"),
        _LANGUAGE,
        P("activeOnly", "boolean", "ValueSet: a retired code is not right", on=_VS),
        P("inferSystem", "boolean", "ValueSet: find the system of a code without one", on=_VS),
        P("lenient-display-validation", "boolean", "A wrong display is a warning"),
        *(one._replace(on=_VS, says=f"ValueSet: {one.says}") for one in _PINS),
        _RESOURCES,
    ),
    gives=(
        P("result", "boolean", "Whether the code is right", 1),
        P("message", "string", "Why not, or what to know"),
        P("display", "string", "The right name"),
        P("code", "code", "The code that was judged, as its system spells it"),
        P("system", "uri", "Its system"),
        P("version", "string", "The version of the system"),
        P("inactive", "boolean", "Whether the code is retired"),
        P("issues", "OperationOutcome", "Everything that was found"),
    ),
    standard="ValueSet-validate-code",
    guide=tuple(
        (type, level, f"{_STANDARD}{type}-validate-code")
        for type in ("CodeSystem", "ValueSet")
        for level in ("type", "instance")
    ),
)

BATCH_VALIDATE_CODE = Definition(
    code="batch-validate-code",
    title="Whether codes are right, many at once",
    says="Several calls of $validate-code in one; each has its own answer, in the same order.",
    types=("CodeSystem", "ValueSet"),
    levels=("type",),
    takes=(
        P("validation", "Parameters", "The parameters of one $validate-code", 1, MANY),
        _RESOURCES,
    ),
    gives=(
        P("validation", "Parameters OperationOutcome", "The answer, or why there is none", 1, MANY),
    ),
)

EXPAND = Definition(
    code="expand",
    title="The codes of a value set",
    says=(
        "The value set with its codes. A filter finds Chinese and English names, codes, pinyin and "
        "its initials. Over 10,000 codes in one answer, and value sets of systems that cannot be "
        "listed, are too-costly."
    ),
    types=_VS,
    levels=("type", "instance"),
    takes=(
        P("url", "uri", "The value set; type level only"),
        P("valueSet", "ValueSet", "The value set itself; type level only"),
        P("valueSetVersion", "string", "Its version"),
        P("filter", "string", "Words that all have to be found in a code or its names"),
        _DATE,
        P("offset", "integer", "Where the page begins, 0 the first code"),
        P("count", "integer", "How many codes are answered; 0 asks for the total alone"),
        P("includeDesignations", "boolean", "Tell all names"),
        P("designation", "string", "Tell the names of this language or use: system|code", 0, MANY),
        P("includeDefinition", "boolean", "Repeat what the value set is made of"),
        P("activeOnly", "boolean", "Leave retired codes out"),
        P("excludeNested", "boolean", "Tell codes in a flat list"),
        P("excludeNotForUI", "boolean", "Leave codes out that only group others"),
        P("excludePostCoordinated", "boolean", "There are none in an expansion here"),
        _LANGUAGE,
        P("exclude-system", "canonical", "A system whose codes are left out", 0, MANY),
        *_PINS,
        P("property", "code", "A property to tell of each code", 0, MANY),
        _RESOURCES,
    ),
    gives=(P("return", "ValueSet", "The value set with its expansion", 1),),
    standard="ValueSet-expand",
    body="valueSet",
)

SUBSUMES = Definition(
    code="subsumes",
    title="Whether one code includes another",
    says="equivalent, subsumes, subsumed-by or not-subsumed, by the hierarchy of the code system.",
    types=_CS,
    levels=("type", "instance"),
    takes=(
        P("codeA", "code", "The first code, with system"),
        P("codeB", "code", "The second code"),
        P("system", "uri", "The code system; type level only"),
        P("version", "string", "Its version"),
        P("codingA", "Coding", "The first code in one piece"),
        P("codingB", "Coding", "The second code in one piece"),
        _RESOURCES,
    ),
    gives=(P("outcome", "code", "How A stands to B", 1),),
    standard="CodeSystem-subsumes",
)

_PRODUCT = (
    P("element", "uri", "The other element"),
    P("concept", "Coding", "Its value"),
)
_MATCH = (
    P("equivalence", "code", "How the target stands to the source"),
    P("concept", "Coding", "The code in the target system"),
    P("product", "", "What another element becomes", 0, MANY, parts=_PRODUCT),
    P("source", "uri", "The map that says so"),
)
_DEPENDENCY = (
    P("element", "uri", "The element, as the map's dependsOn names it", 1),
    P("concept", "CodeableConcept", "Its value: codings, or a text", 1),
)

TRANSLATE = Definition(
    code="translate",
    title="What a code is in another system",
    says=(
        "The matches of one concept map, or of all that fit. A mapping that depends on other "
        "elements matches when these are sent as dependency and meet it."
    ),
    types=("ConceptMap",),
    levels=("type", "instance"),
    takes=(
        P("url", "uri", "The concept map; type level only"),
        P("conceptMap", "ConceptMap", "The concept map itself; type level only"),
        P("conceptMapVersion", "string", "Its version"),
        P("code", "code", "The code, with its system"),
        P("system", "uri", "Its system"),
        P("version", "string", "The version of the system"),
        P("source", "uri", "The value set that the code is from"),
        P("coding", "Coding", "The code in one piece"),
        P("codeableConcept", "CodeableConcept", "Several codings; each is translated"),
        P("target", "uri", "The value set that is translated to"),
        P("targetsystem", "uri", "The system that is translated to"),
        P("dependency", "", "Something known beside the code", 0, MANY, parts=_DEPENDENCY),
        P("reverse", "boolean", "From the targets of the map to its sources"),
        _LANGUAGE,
        _RESOURCES,
    ),
    gives=(
        P("result", "boolean", "Whether there is a match that is one", 1),
        P("message", "string", "Why not, or what is missing for more"),
        P("match", "", "One translation", 0, MANY, parts=_MATCH),
    ),
    standard="ConceptMap-translate",
    body="conceptMap",
)
