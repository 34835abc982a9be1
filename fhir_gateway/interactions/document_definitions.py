"""The definitions of $as-document and $document: what they take and give.

$document has one code and two definitions: HL7's on Composition
(hl7.org/fhir/R4/composition-operation-document.html), ours on Task. docs/documents.md shows them.
"""

from __future__ import annotations

from fhir_gateway.interactions.operation_definitions import Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.settings import CANONICAL

_PERSIST = "true: the Bundle is stored too, as the caller's own; in Parameters, by POST"

AS_DOCUMENT = Definition(
    code="as-document",
    title="A report as a document",
    says=(
        "A document Bundle of a report: a Composition with sections for the report, its results, "
        "studies and conclusion, and all that these refer to, each once. What the caller may not "
        "see, or is not there, is named in a section of its own. It is audited as a disclosure."
    ),
    types=("DiagnosticReport",),
    levels=("instance",),
    takes=(P("persist", "boolean", _PERSIST),),
    gives=(P("return", "Bundle", "The document", 1),),
)

DOCUMENT = Definition(
    code="document",
    title="A document",
    says=(
        "Of a Composition: the document Bundle of it and of what it refers to; refused where it "
        "would not be whole. Of a Task: the document that goes with an answer, the results that "
        "were accepted or cited, as they were when it was decided, the same bytes each time. It "
        "is audited as a disclosure."
    ),
    types=("Composition", "Task"),
    levels=("instance",),
    takes=(
        P("persist", "boolean", _PERSIST, on=("Composition",)),
        P("graph", "uri", "Not supported: what is referred to is followed", on=("Composition",)),
    ),
    gives=(P("return", "Bundle", "The document", 1),),
    guide=(
        ("Composition", "instance", "http://hl7.org/fhir/OperationDefinition/Composition-document"),
        ("Task", "instance", f"{CANONICAL}/OperationDefinition/document"),
    ),
)
