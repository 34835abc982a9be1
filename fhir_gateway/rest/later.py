"""The work of requests that are answered later: the GET is carried out as if it came now.

It runs under the caller's Access in a worker process, is audited as any other before its answer is
written, and its answer becomes the one entry of a batch-response
(hl7.org/fhir/R5/async-bundle.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from fhir_gateway.errors import GatewayError, NotFound, Unavailable
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.identity import review_job
from fhir_gateway.interactions import endpoints_job, export_job, remap
from fhir_gateway.interactions.asynchronous import EXPORT, REQUEST, acting, asked_of, wanted_of
from fhir_gateway.interactions.export_files import File, Writer, keep_only, make_folder
from fhir_gateway.interactions.export_job import OUTPUT, State
from fhir_gateway.interactions.jobs import Done, Held, Work
from fhir_gateway.recognition import booked_job, relied_job
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.handlers_async import Wanted, below
from fhir_gateway.rest.routes import check_rights, route
from fhir_gateway.scheduling import pool_job
from fhir_gateway.security.origin import FHIR_PATH


async def work(held: Held) -> Done:
    """Carries out a GET and keeps its answer. Raises Lost and Stopped as `Held.step` does."""
    asked, wanted = asked_of(held.job), wanted_of(held.job, Wanted)
    actor = await acting(held.gateway, asked)
    exchange = _exchange(wanted)
    exchange.base, exchange.actor = asked.base, actor
    exchange.pairs, exchange.content_type = list(wanted.pairs), wanted.accept
    try:
        entry = _entry(await _carry_out(held, exchange))
    except Unavailable:
        raise
    except GatewayError as error:
        status = f"{error.status} {HTTPStatus(error.status).phrase}"
        entry = bundle.Answer(status, outcome=operation_outcome(error.issues))
    await held.step("answered", "")  # whoever was replaced meanwhile writes nothing
    folder = make_folder(held.gateway.settings, held.job.id)
    writer = Writer(folder, File(f"answer-{held.job.fence}.json", OUTPUT, "Bundle"))
    writer.add([bundle.response("batch-response", [entry])])
    file = writer.finish()
    keep_only(folder, [file.name], fence=held.job.fence)
    return Done("answered", msgspec.json.encode(State(files=[file], count=1)).decode())


def _exchange(wanted: Wanted) -> Exchange:
    headers = {"prefer": wanted.prefer} if wanted.prefer else {}
    scope = {"type": "http", "method": "GET", "path": f"{FHIR_PATH}/{wanted.path}", "headers": []}
    return Exchange(scope, None, "GET", headers)


async def _carry_out(held: Held, exchange: Exchange) -> Answer:
    handler = (route(exchange, below(exchange)) or {}).get("GET")
    if handler is None:
        raise NotFound("There is no such address below the FHIR base", rule="unknown-address")
    await check_rights(held.gateway, exchange)
    return await handler(held.gateway, exchange)


def _entry(answer: Answer) -> bundle.Answer:
    return bundle.Answer(
        f"{answer.status} {HTTPStatus(answer.status).phrase}", resource=answer.body or None
    )


#: What a worker process does, by kind of job.
WORKS: Mapping[str, Work] = {
    EXPORT: export_job.work,
    REQUEST: work,
    remap.KIND: remap.work,
    endpoints_job.KIND: endpoints_job.work,
    review_job.KIND: review_job.work,
    relied_job.KIND: relied_job.work,
    booked_job.KIND: booked_job.work,
    pool_job.KIND: pool_job.work,
}
