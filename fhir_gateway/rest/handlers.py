"""One handler for each row of the table of interactions: HTTP in, interaction, HTTP out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotSupported
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.envelope import BundleEnvelope, read_bundle
from fhir_gateway.interactions.audit import audited
from fhir_gateway.interactions.batch import batch
from fhir_gateway.interactions.capabilities import capability_statement
from fhir_gateway.interactions.create import create
from fhir_gateway.interactions.entries import answer_of
from fhir_gateway.interactions.etag import version_in
from fhir_gateway.interactions.letters import under_way
from fhir_gateway.interactions.read import read, vread
from fhir_gateway.interactions.terminology import terminology
from fhir_gateway.interactions.terminology_capabilities import terminology_capabilities
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.interactions.update import update, update_conditional
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.formats import resource_body
from fhir_gateway.rest.handlers_async import HANDLERS as ASYNC
from fhir_gateway.rest.handlers_history import HANDLERS as HISTORY
from fhir_gateway.rest.handlers_operations import operate
from fhir_gateway.rest.handlers_patch import HANDLERS as PATCHES
from fhir_gateway.rest.handlers_search import HANDLERS as SEARCHES
from fhir_gateway.rest.negotiation import (
    check_conditions,
    is_current,
    prefer,
)
from fhir_gateway.rest.operations import offered
from fhir_gateway.rest.written import etag, last_modified, written
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.origin import root_of
from fhir_gateway.store.store import Stored

Handler = Callable[[Gateway, Exchange], Awaitable[Answer]]


#: What metadata may be asked for; R4's normative part is told within the full one.
_MODES = ("full", "normative", "terminology")


async def capabilities(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET metadata, with mode=terminology the TerminologyCapabilities."""
    modes = [value for name, value in exchange.pairs if name == "mode"]
    if len(modes) != len(exchange.pairs) or any(mode not in _MODES for mode in modes):
        raise NotSupported(f"metadata takes mode={', '.join(_MODES)}", rule="parameter")
    if "terminology" in modes:
        known = await terminology(gateway)
        return Answer(
            200,
            terminology_capabilities(known, base=exchange.base, started_us=gateway.started),
        )
    body = capability_statement(
        gateway.settings,
        operations=offered(),
        base=exchange.base,
        root=root_of(exchange.scope, exchange.headers, gateway.settings),
        started_us=gateway.started,
    )
    return Answer(200, body)


async def read_one(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET Type/id"""
    stored = await read(
        gateway, exchange.actor, type=exchange.type, id=exchange.id, pairs=exchange.pairs
    )
    return _shown(exchange, stored)


async def read_version(gateway: Gateway, exchange: Exchange) -> Answer:
    """GET Type/id/_history/v"""
    stored = await vread(
        gateway,
        exchange.actor,
        type=exchange.type,
        id=exchange.id,
        version=exchange.version,
        pairs=exchange.pairs,
    )
    return _shown(exchange, stored)


def _shown(exchange: Exchange, stored: Stored) -> Answer:
    headers = (etag(stored.version), last_modified(stored.updated))
    if is_current(exchange.headers, stored.version, stored.updated):
        return Answer(304, b"", headers)
    return Answer(200, stored.whole(), headers)


async def create_one(gateway: Gateway, exchange: Exchange) -> Answer:
    """POST Type. A query is read as If-None-Exist, which it can only mean (fhirpy sends it so)."""
    check_conditions(exchange.headers, "POST")
    condition = exchange.headers.get("if-none-exist")
    if condition is None and exchange.pairs:
        condition = urlencode(exchange.pairs)
    elif condition is not None:
        exchange.refuse_parameters()
    outcome = await create(
        gateway,
        exchange.actor,
        type=exchange.type,
        body=await resource_body(gateway, exchange),
        if_none_exist=condition,
        base=exchange.base,
    )
    return written(exchange, outcome)


async def update_one(gateway: Gateway, exchange: Exchange) -> Answer:
    """PUT Type/id"""
    exchange.refuse_parameters()
    check_conditions(exchange.headers, "PUT")
    outcome = await update(
        gateway,
        exchange.actor,
        type=exchange.type,
        id=exchange.id,
        body=await resource_body(gateway, exchange),
        if_match=version_in(exchange.headers.get("if-match")),
        absent=_absent(exchange),
        base=exchange.base,
    )
    return written(exchange, outcome)


async def update_by_condition(gateway: Gateway, exchange: Exchange) -> Answer:
    """PUT Type?…"""
    check_conditions(exchange.headers, "PUT")
    outcome = await update_conditional(
        gateway,
        exchange.actor,
        type=exchange.type,
        pairs=exchange.pairs,
        body=await resource_body(gateway, exchange),
        if_match=version_in(exchange.headers.get("if-match")),
        absent=_absent(exchange),
        base=exchange.base,
    )
    return written(exchange, outcome)


def _absent(exchange: Exchange) -> bool:
    """True for If-None-Match: *. Raises Invalid for any other: it has no meaning for a write."""
    header = exchange.headers.get("if-none-match")
    if header is not None and header.strip() != "*":
        raise Invalid("If-None-Match of an update is * or absent", rule="if-none-match")
    return header is not None


async def take_bundle(gateway: Gateway, exchange: Exchange) -> Answer:
    """POST to the base: a transaction or a batch, as Bundle.type says."""
    exchange.refuse_parameters()
    body = await resource_body(gateway, exchange)
    wanted = prefer(exchange.headers.get("prefer"), default="minimal")
    envelope = await _envelope(gateway, exchange.actor, body=body)
    if (letter := under_way()) is not None:
        letter.kind, letter.part = envelope.type, envelope.type == "batch"
    if envelope.type == "batch":
        answers = await batch(
            gateway,
            exchange.actor,
            envelope.entries,
            base=exchange.base,
            returns=wanted.returns,
            lenient=wanted.lenient,
        )
        return Answer(200, bundle.response("batch-response", answers))
    result = await transaction(gateway, exchange.actor, envelope.entries, base=exchange.base)
    answers = [answer_of(one, returns=wanted.returns) for one in result.results]
    return Answer(200, bundle.response("transaction-response", answers))


@audited("batch")
async def _envelope(_: Gateway, __: Actor, /, *, body: bytes) -> BundleEnvelope:
    """The envelope of a batch or transaction. Raises what `read_bundle` raises, and Invalid."""
    envelope = read_bundle(body)
    if envelope.type not in ("batch", "transaction"):
        raise Invalid(
            "The base takes a Bundle of type transaction or batch",
            expression="Bundle.type",
            rule="bundle-type",
        )
    return envelope


#: By (method, path) of the table of interactions; {type}/$ and the like are operations.
HANDLERS: dict[tuple[str, str], Handler] = {
    **ASYNC,
    **HISTORY,
    **SEARCHES,
    **PATCHES,
    ("GET", "metadata"): capabilities,
    ("POST", ""): take_bundle,
    ("POST", "{type}"): create_one,
    ("PUT", "{type}"): update_by_condition,
    ("GET", "{type}/{id}"): read_one,
    ("PUT", "{type}/{id}"): update_one,
    ("GET", "{type}/{id}/_history/{version}"): read_version,
    ("GET", "{operation}"): operate,
    ("POST", "{operation}"): operate,
    ("GET", "{type}/{operation}"): operate,
    ("POST", "{type}/{operation}"): operate,
    ("GET", "{type}/{id}/{operation}"): operate,
    ("POST", "{type}/{id}/{operation}"): operate,
}
