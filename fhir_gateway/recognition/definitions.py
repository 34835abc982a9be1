"""The definitions of $recognize and $replay: what they take and give.

docs/api/recognize.md shows them; their OperationDefinitions are made from these rows.
"""

from __future__ import annotations

from fhir_gateway.interactions.operation_definitions import MANY, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P

_RESULT = (
    P("reference", "Reference", "The result, with its version", 1),
    P("report", "Reference", "The report that carries it"),
    P("value", "string", "Value and unit as spelled"),
    P("issuer", "Reference", "The institution that issued it"),
    P("time", "dateTime", "Collection or examination, as exactly as it is known"),
    P("issued", "instant", "When the report was issued"),
    P("status", "code", "Status of the report, or of the result without one", 1),
)
_LINE = (
    P("rule", "code", "Criterion and version", 1),
    P("verdict", "code", "pass, fail, unknown or not-applicable", 1),
    P("text", "string", "The line as a sentence", 1),
    P("reason", "code", "Why it is not met"),
    P("evidence", "Reference", "The version that was looked at"),
    P("clause", "string", "What the rule rests on"),
)
_NEWER = (
    *_RESULT,
    P("outcome", "code", "Its own outcome", 1),
    P("pending", "boolean", "Whether it is still to come", 1),
)
_OTHER = (
    P("reference", "Reference", "The result, with its version", 1),
    P("outcome", "code", "Its own outcome", 1),
    P("line", "", "What decided it", 1, parts=_LINE),
)
_ITEM = (
    P("key", "string", "The order line", 1),
    P("item", "Coding", "The catalogue item; absent when the order is not mapped"),
    P("outcome", "code", "recognize, view-only, not-recognizable or cannot-decide", 1),
    P("reason", "code", "The deciding reason", 1),
    P("text", "string", "The outcome as a sentence", 1),
    P("result", "", "The earlier result that was chosen", parts=_RESULT),
    P("window-days", "integer", "Length of the item's window in calendar days"),
    P("window-source", "string", "Where the window comes from"),
    P("window-end", "date", "Last day on which the result may be used"),
    P("suggest", "boolean", "The workstation may offer to use the result in place of the order"),
    P("ground", "code", "The lawful ground that the patient's situation points to"),
    P("line", "", "What one rule says of the chosen result", 0, MANY, parts=_LINE),
    P("newer", "", "A result that is, or may be, newer", 0, MANY, parts=_NEWER),
    P("other", "", "A result that was not chosen", 0, MANY, parts=_OTHER),
)
_PANEL = (
    P("key", "string", "The order line", 1),
    P("outcome", "code", "The outcome of its worst member", 1),
    P("reason", "code", "Why that member has it", 1),
    P("members", "integer", "How many items the line means", 1),
    P("suggest", "boolean", "Every member may stand in for the order"),
)
_SOURCE = (
    P("institution", "Reference", "The institution", 1),
    P("last-received", "instant", "When it last sent anything"),
    P("stale", "boolean", "Whether that is too long ago", 1),
)

_SEAT = (
    P("key", "string", "The order line", 1),
    P("slot", "Reference", "The Slot, for Appointment/$hold and $book", 1),
    P("start", "instant", "Begin", 1),
    P("end", "instant", "End", 1),
    P("organization", "Reference", "The hospital", 1),
    P("channel", "code", "Through which channel", 1),
    P("free", "integer", "Seats that are left", 1),
)

RECOGNIZE = Definition(
    code="recognize",
    title="May an earlier result stand in for what is ordered?",
    says=(
        "For each ordered item: recognize, view-only, not-recognizable or cannot-decide, with one "
        "line for each rule. The answer is recorded as a GuidanceResponse and audited before it is "
        "given. The receiving doctor decides."
    ),
    types=("ServiceRequest",),
    levels=("type", "instance"),
    affects=True,
    takes=(
        P(
            "patient",
            "Reference Identifier",
            "The patient: a reference, or an identifier known here. Required at type level",
        ),
        P("order", "Resource", "A draft ServiceRequest; type level only", 0, MANY),
        P(
            "item",
            "code Coding",
            "An item of the catalogue, as a code or a Coding; type level only",
            0,
            MANY,
        ),
        P(
            "receiver",
            "Reference",
            "The institution that the patient is at; the caller's own when left out",
        ),
        P(
            "context",
            "code",
            "What is known of the patient's situation, such as emergency or pre-transfusion",
            0,
            MANY,
        ),
        P(
            "contextKnown",
            "boolean",
            "Whether the contexts are all there is to the patient's situation: true with none, "
            "nothing particular. Left out: true when a context is given. Where it is false nothing "
            "is offered in place of an order",
        ),
        P(
            "consentObtained",
            "boolean",
            "Whether the institution answers for the patient's consent in this encounter; counts "
            "where the site's legal basis asks for consent",
        ),
        P(
            "asOf",
            "dateTime",
            "A moment of the past: what would have been said then, from what was stored then and "
            "by the rules of then. Audited, and not recorded as a reminder",
        ),
        P(
            "slots",
            "boolean",
            "Whether to tell where that can be booked for which no earlier result can stand in. "
            "Nothing is held; not with asOf",
        ),
    ),
    gives=(
        P("decision", "Reference", "The recorded decision; none is recorded with asOf"),
        P("as-of", "instant", "With asOf: the moment that the answer is about"),
        P("commit", "integer", "With asOf: the number of the last commit that the answer knows"),
        P("recorded", "boolean", "With asOf: false, this reminded nobody and is not on record"),
        P("note", "string", "With asOf: what is of today all the same"),
        P("rule-set", "canonical", "The rule set in force"),
        P("layer", "canonical", "The rule sets of all levels, where there are several", 0, MANY),
        P("item", "", "The answer for one ordered item", 1, MANY, parts=_ITEM),
        P("panel", "", "An order line of several items as a whole", 0, MANY, parts=_PANEL),
        P("source", "", "An institution that the answer could have come from", 0, MANY, _SOURCE),
        P("bookable", "", "With slots: a seat that the caller may take now, in order of what is "
          "near and then of time", 0, MANY, parts=_SEAT),
        P("slots-not-looked-up", "string", "With slots: key of an order line for which it is not "
          "known whether anything can be booked", 0, MANY),
    ),
)  # fmt: skip

_REPLAYED = (
    P("agrees", "boolean", "Whether every byte agrees", 1),
    P("verdict", "code", "agrees, differs, or erased: evidence is no longer in the store", 1),
    P("decision", "Reference", "The decision", 1),
    P("rule-set", "canonical", "The rule set it was decided by"),
    P("difference", "string", "What differs", 0, MANY),
    P("erased", "string", "Evidence that is no longer in the store", 0, MANY),
)
_BY_RULE_SET = (
    P("rule-set", "canonical", "The rule set; absent where none was in force"),
    P("decisions", "integer", "How many were decided by it", 1),
    P("differ", "integer", "How many differ", 1),
    P("erased", "integer", "How many agree as far as their evidence is there", 1),
)
_BY_DIFFERENCE = (
    P("text", "string", "What differs", 1),
    P("count", "integer", "In how many decisions", 1),
    P("decision", "Reference", "Some of them", 0, MANY),
)

REPLAY = Definition(
    code="replay",
    title="Decide again and compare",
    says=(
        "Decides again from the recorded inputs, at the recorded commit and by the recorded "
        "version of the rules. Must agree to the byte; every difference is named, and evidence "
        "that was erased is no difference. Of one decision, or of a page of them: those named, or "
        "those of a time, newest first."
    ),
    types=("GuidanceResponse",),
    levels=("type", "instance"),
    takes=(
        P("id", "id", "A decision; type level only", 0, MANY),
        P("since", "dateTime", "Recorded then or later; type level only"),
        P("until", "dateTime", "Recorded before then; type level only"),
        P("institution", "id", "Asked for by it; type level only"),
        P("count", "integer", "Most decisions of the page, at most 500; type level only"),
        P("after", "string", "What `next` of the page before says; type level only"),
    ),
    gives=(
        *(one._replace(low=0) for one in _REPLAYED),
        P("decisions", "integer", "Type level: how many were decided again"),
        P("agree", "integer", "Type level: how many agree"),
        P("differ", "integer", "Type level: how many differ"),
        P("erased-evidence", "integer", "Type level: how many lack evidence by now"),
        P("by-rule-set", "", "Type level: counts of one rule set", 0, MANY, parts=_BY_RULE_SET),
        P("by-difference", "", "Type level: one difference", 0, MANY, parts=_BY_DIFFERENCE),
        P("result", "", "Type level: one that does not agree", 0, MANY, parts=_REPLAYED),
        P("next", "string", "Type level: `after` of the next page, absent on the last"),
    ),
)
