"""Pages for operators: /healthz (the process lives), /readyz (the store answers and takes
commits), /metrics (figures). They carry no patient data.

/metrics wants a credential like any other page: behind a proxy every caller comes from loopback.
The table of rights (door metrics) gives it to the operator alone.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Unavailable
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.message_figures import counts_of_all
from fhir_gateway.interactions.permits import permit_door
from fhir_gateway.rest.metrics import CONTENT_TYPE_LATEST, Metrics
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.jobs import figures as figures_of
from fhir_gateway.transparency.watermark import watermark

#: A store that takes longer is not ready.
_PATIENCE = 5.0


def health_routes(gateway: Gateway, metrics: Metrics) -> list[BaseRoute]:
    """The operators' pages."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        try:
            t = await asyncio.wait_for(_ready(gateway), _PATIENCE)
        except (GatewayError, TimeoutError):
            return JSONResponse({"status": "not ready"}, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ready", "t": t})

    async def figures(request: Request) -> Response:
        actor = await authenticate(gateway, request.headers)
        await permit_door(gateway, actor, "metrics")
        metrics.jobs(await figures_of(gateway.store), now=gateway.clock.now())
        metrics.audit_log(await watermark(gateway.store, gateway.clock))
        metrics.messages(*await counts_of_all(gateway))
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", figures, methods=["GET"]),
    ]


async def _ready(gateway: Gateway) -> int:
    """Asks the reader and the writer. An empty change set is committed like any other."""
    committed = await gateway.store.commit(ChangeSet(id=gateway.random(16), urgent=True))
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if reader.t < committed.t:
            raise Unavailable("The reader does not see the writer's commit", rule="behind")
        return reader.t
