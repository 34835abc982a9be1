"""The operations on the register of messages, as data: $messages, $message-trace, $origin."""

from __future__ import annotations

from fhir_gateway.interactions.operation_definitions import MANY, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P

_MESSAGE = (
    P("id", "id", "Its id in the register", 1),
    P("institution", "Reference", "Who sent it", 1),
    P("door", "code", "hl7v2, table, cda, fhir or dicom", 1),
    P("kind", "string", "What it is, such as ORU^R01"),
    P("name", "string", "Its own id: MSH-10, the id of a document"),
    P("outcome", "code", "stored, flagged or refused", 1),
    P("code", "code", "The code of its answer"),
    P("rule", "code", "The rule that it broke"),
    P("received", "instant", "When it came first", 1),
    P("last", "instant", "When it came last", 1),
    P("attempts", "integer", "How often it came", 1),
    P("size", "integer", "Its bytes", 1),
    P("hash", "string", "Their SHA-256, in hexadecimal", 1),
    P("state", "code", "Of a refused one: open, retried, overtaken, aside"),
)

_FIELD = (
    P("place", "string", "Where it stands, such as OBX[1]-5.1", 1),
    P("content", "string", "What it says"),
)

_ORIGIN = P("origin", "", "Where a value came from", 0, MANY, parts=(
    P("resource", "Reference", "The resource", 1),
    P("element", "string", "The element, such as Observation.valueQuantity.value", 1),
    P("value", "string", "Its value", 1),
    P("how", "code", "copied, table, time, number, unit, part, joined, added, key, computed, "
      "equal, institution, rule, unseen", 1),
    P("detail", "string", "The table with its row, the part of the institution's entry"),
    P("from", "", "A field that says it", 0, MANY, parts=_FIELD),
    P("also", "string", "A field that has a say in it", 0, MANY),
))  # fmt: skip

_EXPLAIN = P("explain", "boolean", "Tell for each value the field that says it, and how")

MESSAGES = Definition(
    code="messages",
    title="The messages that an institution has sent",
    says=(
        "The register of what came in by every door and what became of it, the newest first. An "
        "institution sees its own."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("name", "string", "Only with this id of its own, such as MSH-10"),
        P("door", "code", "Only by this door"),
        P("outcome", "code", "Only stored, flagged or refused"),
        P("rule", "code", "Only those that broke this rule"),
        P("since", "dateTime", "Only what came at or after it"),
        P("until", "dateTime", "Only what came before it"),
        P("_count", "integer", "Messages on a page; 50 when left out, 500 at most"),
        P("after", "string", "The place of the last one of the page before, from next"),
    ),
    gives=(
        P("message", "", "A message", 0, MANY, parts=_MESSAGE),
        P("next", "string", "What `after` is for the next page; absent on the last one"),
    ),
)

TRACE = Definition(
    code="message-trace",
    title="A message from its received bytes to what is stored",
    says=(
        "What was received, its tree, the Bundle that it becomes by the tables of today, what its "
        "commit stored, what was told and answered. For the institution that sent it alone; each "
        "look is recorded as a disclosure of the patient."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(P("id", "id", "Its id in the register", 1), _EXPLAIN),
    gives=(
        P("message", "", "The message", 1, 1, parts=_MESSAGE),
        P("bytes", "Attachment", "As it was received"),
        P("text", "string", "The same as text, where it is text"),
        P("segment", "", "A segment of a v2 message", 0, MANY, parts=(
            P("name", "string", "Its name and number, such as OBX[2]", 1),
            P("field", "", "A field that holds something", 0, MANY, parts=(
                P("place", "string", "OBX[2]-5", 1),
                P("name", "string", "What the standard calls it"),
                P("content", "string", "As it was sent", 1),
            )),
        )),
        P("bundle", "Bundle", "What it becomes by the tables of today", 0, MANY),
        P("stored", "", "A version that its commit stored", 0, MANY, parts=(
            P("version", "Reference", "The version", 1),
            P("done", "code", "create, update or delete", 1),
        )),
        P("issue", "OperationOutcome", "What was told of it when it came"),
        P("refusal", "OperationOutcome", "Why it is not read by the tables of today"),
        P("answer", "string", "What was answered"),
        _ORIGIN,
    ),
)  # fmt: skip

ORIGIN = Definition(
    code="origin",
    title="The message that a resource was made from",
    says=(
        "From a version to the received bytes it was made from, by hash, door and time, and to the "
        "field of each value. For the institution that sent it alone."
    ),
    types=("Resource",),
    levels=("instance",),
    takes=(
        P("version", "integer", "This version; the current one when left out"),
        P("element", "string", "Only this element, such as Observation.value"),
        _EXPLAIN,
    ),
    gives=(
        P("version", "Reference", "The version that is told of", 1),
        P("hash", "string", "SHA-256 of the bytes it was made from, in hexadecimal"),
        P("message", "", "The message that it was made from", parts=_MESSAGE),
        _ORIGIN,
    ),
)
