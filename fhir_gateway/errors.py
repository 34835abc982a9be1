"""Every refusal of the gateway: one class per FHIR issue type that we raise.

    GatewayError
    ├── Structure          400  structure      the body cannot be read at all
    ├── Invalid            400  invalid        a parameter, header or URL says something impossible
    ├── NotSupported       400  not-supported  understood, but not offered
    ├── TooCostly          400  too-costly     refused before it runs
    ├── Login              401  login          no or unknown credential
    ├── Forbidden          403  forbidden      known caller, not allowed
    ├── NotFound           404  not-found      no such resource, type or version
    ├── MethodNotAllowed   405  not-supported  no such interaction here
    ├── NotAcceptable      406  not-supported  no such media type to answer in
    ├── TooSlow            408  timeout        the request did not come in the time it has
    ├── Conflict           409  conflict       the request contradicts another one
    ├── Duplicate          409  duplicate      the same key was used for something else
    ├── Deleted            410  deleted        it was there
    ├── Expired            410  expired        a page link that is too old
    ├── PreconditionFailed 412  conflict       If-Match, If-None-Exist
    ├── MultipleMatches    412  multiple-matches
    ├── TooLong            413  too-long       more than the stated limit
    ├── AddressTooLong     414  too-long       a longer address than any that means something
    ├── UnsupportedMedia   415  not-supported  no such media type to read
    ├── Unprocessable      422  (per issue)    a rule of FHIR or of ours is broken
    ├── Throttled          429  throttled
    ├── HeadersTooLong     431  too-long       more headers, or larger ones, than any client needs
    ├── Unavailable        503  transient      try again later
    └── Internal           500  exception      a fault of ours; the text never leaves the process

An error already *is* an OperationOutcome: a tuple of issues. Each door renders it once
(rest: OperationOutcome, hl7v2: MSA/ERR, dicomweb: failure reason). FHIR R4 issue-type value set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One line of an OperationOutcome.

    `expression` is the FHIRPath of the element, `rule` a short stable name of the broken rule
    (it becomes details.text); `diagnostics` says what to do and never quotes patient data.
    """

    code: str
    diagnostics: str
    expression: str | None = None
    rule: str | None = None
    severity: Severity = "error"


class GatewayError(Exception):
    """The root. Raised with a sentence, or with several issues at once."""

    code: str = "exception"
    status: int = 500
    acknowledgement: str = "AE"  # HL7 v2 table 0008
    condition: str = "207"  # HL7 v2 table 0357, application internal error
    #: Seconds after which it is worth to come again, where the answer says so (429, 503).
    after: int = 1

    def __init__(
        self,
        diagnostics: str = "",
        *,
        expression: str | None = None,
        rule: str | None = None,
        issues: tuple[Issue, ...] = (),
    ) -> None:
        self.issues = issues or (Issue(self.code, diagnostics, expression, rule),)
        super().__init__("; ".join(issue.diagnostics for issue in self.issues))


class Structure(GatewayError):
    """The body cannot be read at all: not JSON, too deep, wrong encoding, duplicate keys."""

    code, status, acknowledgement, condition = "structure", 400, "AR", "100"


class Invalid(GatewayError):
    """A parameter, header or URL that says something impossible."""

    code, status, condition = "invalid", 400, "102"


class NotSupported(GatewayError):
    """Understood, but not offered here."""

    code, status, acknowledgement, condition = "not-supported", 400, "AR", "200"


class TooCostly(GatewayError):
    """Refused before it runs, because its estimate is over the budget."""

    code, status = "too-costly", 400


class Login(GatewayError):
    """No credential, or one that nobody issued."""

    code, status, acknowledgement = "login", 401, "AR"


class Forbidden(GatewayError):
    """The caller is known and may not do this."""

    code, status, acknowledgement = "forbidden", 403, "AR"


class NotFound(GatewayError):
    """No such resource, type or version."""

    code, status, condition = "not-found", 404, "204"


class MethodNotAllowed(GatewayError):
    """The address exists, this interaction does not."""

    code, status = "not-supported", 405


class NotAcceptable(GatewayError):
    """No answer can be given in the media type asked for."""

    code, status = "not-supported", 406


class TooSlow(GatewayError):
    """The request did not come in the time that it has. Safe to send again."""

    code, status, acknowledgement = "timeout", 408, "AR"


class Conflict(GatewayError):
    """The request contradicts what another one has done."""

    code, status, condition = "conflict", 409, "206"


class Duplicate(GatewayError):
    """The same key was used for something else."""

    code, status, condition = "duplicate", 409, "205"


class Deleted(GatewayError):
    """The resource was there and is deleted."""

    code, status, condition = "deleted", 410, "204"


class Expired(GatewayError):
    """A page link that was good once; the question can be asked anew."""

    code, status = "expired", 410


class PreconditionFailed(GatewayError):
    """If-Match, If-None-Match or If-None-Exist was not met."""

    code, status, condition = "conflict", 412, "206"


class MultipleMatches(GatewayError):
    """A condition that must name one resource names several."""

    code, status = "multiple-matches", 412


class TooLong(GatewayError):
    """More than the stated limit."""

    code, status, acknowledgement = "too-long", 413, "AR"


class AddressTooLong(GatewayError):
    """A longer address than any that means something; a search goes by POST then."""

    code, status = "too-long", 414


class UnsupportedMedia(GatewayError):
    """A body in a media type that is not read here."""

    code, status, acknowledgement = "not-supported", 415, "AR"


class Unprocessable(GatewayError):
    """A rule of FHIR, or one of ours, is broken. Carries all issues at once."""

    code, status, condition = "invalid", 422, "102"


class Throttled(GatewayError):
    """Too many requests; the answer says when to come back."""

    code, status, acknowledgement = "throttled", 429, "AR"


class HeadersTooLong(GatewayError):
    """More headers, or larger ones, than any client needs."""

    code, status = "too-long", 431


class Unavailable(GatewayError):
    """Not now: shutting down, store locked, disk full. Safe to send again."""

    code, status, acknowledgement = "transient", 503, "AR"


class Internal(GatewayError):
    """A fault of ours. The answer carries the request id and nothing else."""

    code, status = "exception", 500
