"""The definitions of $answer and $acknowledge: what they take and give.

docs/answers.md shows them, and $document, which is defined in interactions.document_definitions;
their OperationDefinitions are made from these rows.
"""

from __future__ import annotations

from fhir_gateway.interactions.operation_definitions import Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P

ANSWER = Definition(
    code="answer",
    title="The doctor's answer to a decision",
    says=(
        "Stores what was done with one order line, once however often it is sent: the earlier "
        "result accepted, cited or viewed, or the examination repeated and on what ground; "
        "revokes an answer, or completes one that lacked its ground. A missing ground is flagged "
        "and never refused. The answer is a Task whose focus is the decision; with an accepted "
        "or cited result comes the document to file in the chart."
    ),
    types=("GuidanceResponse",),
    levels=("instance",),
    affects=True,
    takes=(
        P("line", "string", "Key of the order line; may be left out when there is only one"),
        P(
            "outcome",
            "code",
            "accepted, repeated, cited, viewed, completed or revoked",
            1,
            missing="outcome",
        ),
        P("result", "Reference", "The result that it is about; the chosen one when left out"),
        P(
            "reason",
            "Coding code",
            "Ground of a repeat, as a code or Coding of CodeSystem/repeat-reason",
        ),
        P("text", "string", "Explanation; expected with ground N6, and why one was revoked"),
        P("patientInformed", "boolean", "Whether the repeat was explained to the patient"),
        P("informedAt", "dateTime", "When it was explained"),
        P("practitioner", "Reference", "Who decided; the person who asked when left out"),
        P("encounter", "Reference", "The visit; that of the question when left out"),
        P("answered", "dateTime", "When; now when left out"),
        P("answer", "Reference", "The Task to revoke; the choice of the order line when left out"),
    ),
    gives=(
        P("answer", "Reference", "The Task that stands, with its version", 1),
        P("state", "code", "accepted, repeated, cited, viewed or revoked", 1),
        P("missing", "code", "reason-missing or text-missing: complete it later", 0, 2),
        P("document", "Bundle", "The document to file in the chart"),
        P("sha256", "string", "SHA-256 of the document as JSON, as $document gives it"),
        P("alert", "Reference", "A result that this answer relies on has changed since: its Task"),
    ),
)

ACKNOWLEDGE = Definition(
    code="acknowledge",
    title="Take note of an alert",
    says=(
        "Closes an alert about a result that the institution relied on, in the name of a person "
        "who took note of it. Sent again it changes nothing."
    ),
    types=("Task",),
    levels=("instance",),
    affects=True,
    takes=(
        P("practitioner", "Reference", "Who took note of it, with a reference or a display", 1),
        P("text", "string", "What was done about it"),
    ),
    gives=(P("alert", "Reference", "The Task, with its version", 1),),
)
