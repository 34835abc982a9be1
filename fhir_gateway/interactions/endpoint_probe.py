"""One bounded question to an Endpoint's address: does it serve what results refer to?

By connection type (hl7.org/fhir/R4/valueset-endpoint-connection-type.html): of WADO-RS the metadata
of a study that names the Endpoint (PS3.18 10.4.1.1.2), of a FHIR server its CapabilityStatement, of
the rest whether it answers at all. Headers alone where the server knows HEAD; no credential is
sent, so a server that asks for a login has not passed. Which addresses may be called is the
operator's list (interactions.outbound). DICOM's own association (C-ECHO) is not spoken here: what
it says is recorded by `fhir-gateway endpoints record`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fhir_gateway.errors import Forbidden, Invalid, Unavailable
from fhir_gateway.interactions.outbound import Outbound

#: Longest wait, and most bytes of an answer to GET (metadata of a study of some 10,000 images).
SECONDS, MOST_BYTES = 10.0, 32_000_000

#: Of what does not answer a second time is asked, so that one lost packet lowers nothing.
TRIES = 2


class Probe(NamedTuple):
    """What is asked for behind the address, and the statuses beside 2xx that say it is there."""

    path: str = ""
    accept: str = "*/*"
    also: frozenset[int] = frozenset()


_METADATA = "application/dicom+json"
#: A service that wants parameters or a POST says so.
_WANTS_MORE = frozenset({400, 405})

PROBES: Mapping[str, Probe] = {
    "dicom-wado-rs": Probe("/studies/{study}/metadata", _METADATA),
    "dicom-wado-uri": Probe(also=_WANTS_MORE),
    "hl7-fhir-rest": Probe("/metadata", "application/fhir+json"),
    "ihe-iid": Probe(also=_WANTS_MORE),
    "ihe-xca": Probe(also=_WANTS_MORE),
    "ihe-xds": Probe(also=_WANTS_MORE),
}


class Result(NamedTuple):
    """What came of a check. `passed` None: nobody could ask. `why` is a short code, or status-404;
    `asked` is the method and the kind of question, for the record."""

    passed: bool | None
    why: str
    asked: str = ""


async def probe(outbound: Outbound, connection: str, address: str, study: str = "") -> Result:
    """Asks an address by its connection type; `study` is a StudyInstanceUID that is kept there.

    Never raises for what the other side does.
    """
    one = PROBES.get(connection)
    if one is None:
        return Result(None, "connection-type")
    if "{study}" in one.path and not study:
        return Result(None, "no-study")
    url = address.rstrip("/") + one.path.format(study=study) if one.path else address
    result = Result(None, "not-asked")
    for _ in range(TRIES):
        result = await _ask(outbound, url, one)
        if result.why not in ("outbound-time", "outbound-unreachable"):
            break
    return result


async def _ask(outbound: Outbound, url: str, one: Probe) -> Result:
    """HEAD, and GET where the server does not know it. An answer too long for us is none."""
    status, asked = 0, ""
    try:
        for method in ("HEAD", "GET"):
            asked = f"{method} {one.accept}"
            fetched = await outbound.fetch(
                url,
                method=method,
                headers={"accept": one.accept},
                most_bytes=MOST_BYTES,
                seconds=SECONDS,
            )
            status = fetched.status
            if status not in (405, 501):
                break
    except (Forbidden, Invalid) as error:
        return Result(None, error.issues[0].rule or "outbound", asked)
    except Unavailable as error:
        return Result(False, error.issues[0].rule or "outbound", asked)
    if 200 <= status < 300 or status in one.also:
        return Result(True, "answered", asked)
    return Result(False, f"status-{status}", asked)
