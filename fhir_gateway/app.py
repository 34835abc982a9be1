"""The composition root: settings in, a running application out. Everything is wired here, in the
open, and nowhere else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router

from fhir_gateway import __version__
from fhir_gateway.cda.routes import routes as cda_routes
from fhir_gateway.cds_hooks.routes import UNDECIDED
from fhir_gateway.cds_hooks.routes import check_door as check_hooks
from fhir_gateway.cds_hooks.routes import routes as hook_routes
from fhir_gateway.context import (
    Clock,
    Counter,
    Deriver,
    Gateway,
    Governor,
    PooledRandom,
    SystemClock,
)
from fhir_gateway.errors import GatewayError, Invalid, MethodNotAllowed, NotFound
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import parse
from fhir_gateway.hl7v2.routes import routes as v2_routes
from fhir_gateway.identity import cross_reference, link, link_govern
from fhir_gateway.interactions import endpoint_rows
from fhir_gateway.interactions.access_task import derive_access, govern_access
from fhir_gateway.interactions.consents import derive_consents, govern_consents
from fhir_gateway.interactions.issuers import check_issuers
from fhir_gateway.interactions.lists import with_former
from fhir_gateway.interactions.seed import seed
from fhir_gateway.interactions.wrong_patient import alarm
from fhir_gateway.mapping.tables import Row, table
from fhir_gateway.oauth.routes import routes as oauth_routes
from fhir_gateway.oauth.smart import PATH as SMART_PATH
from fhir_gateway.oauth.smart import smart_door
from fhir_gateway.recognition import answer_govern, answer_rows, facts, register
from fhir_gateway.recognition.facts_imaging import body_parts
from fhir_gateway.recognition.publish import unpublished
from fhir_gateway.recognition.relied_watch import watch
from fhir_gateway.recognition.rules_govern import govern
from fhir_gateway.rest.audit_log import audit_log_routes
from fhir_gateway.rest.errors import fault, refusal
from fhir_gateway.rest.health import health_routes
from fhir_gateway.rest.metrics import Metrics
from fhir_gateway.rest.operations import operation_resources
from fhir_gateway.rest.routes import fhir_door
from fhir_gateway.rest.shedding import Gate, Shedding
from fhir_gateway.rest.strangers import Strangers
from fhir_gateway.rest.trace import Trace
from fhir_gateway.scheduling import rows as slot_rows
from fhir_gateway.scheduling.governor import govern_bookings
from fhir_gateway.scheduling.notice import derive_notices
from fhir_gateway.scheduling.srm import carry_out_request
from fhir_gateway.scheduling.waitlist_entry import derive_waiting
from fhir_gateway.search.index import Extractor, IndexRows
from fhir_gateway.search.recurring import Recurring
from fhir_gateway.search.version import version_of
from fhir_gateway.security.origin import check_origins, is_loopback
from fhir_gateway.security.policy import Policy, policy_of
from fhir_gateway.security.quotas import Quotas, load_quotas
from fhir_gateway.security.rights import rights_of
from fhir_gateway.settings import CANONICAL, Settings
from fhir_gateway.store.opening import AnyStore, open_store
from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.code_system import Vocabulary
from fhir_gateway.terminology.concept_map import load_concept_maps
from fhir_gateway.terminology.local_codes import LocalCodes
from fhir_gateway.terminology.local_map import LocalMap
from fhir_gateway.terminology.local_map_resource import concept_maps_of
from fhir_gateway.terminology.naming import Naming
from fhir_gateway.terminology.naming_files import load_naming
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

LOG = logging.getLogger("fhir_gateway")
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Application:
    """A gateway with its doors. `asgi` is what an ASGI server serves, `routes` are those of its
    doors beside FHIR and the hooks."""

    asgi: Asgi
    gateway: Gateway
    routes: Sequence[BaseRoute] = ()

    async def close(self) -> None:
        """Finishes what was accepted and closes the store."""
        await self.gateway.store.close()


async def build(
    settings: Settings, *, clock: Clock | None = None, audit: bool = True, processes: int = 1
) -> Application:
    """The whole gateway. `audit=False` is for the benchmark alone; of `processes` that share a
    port each keeps its part of the quotas.

    Raises Invalid for settings that contradict each other, Unavailable when the store cannot be
    opened, Unprocessable for faults in the data folders.
    """
    if settings.open_access:
        LOG.warning('{"event":"open-access","warning":"NO AUTHENTICATION: demonstration only"}')
    check_origins(settings)
    check_issuers(settings)
    check_hooks(settings)
    metrics = Metrics()
    quotas = Quotas(load_quotas(_quotas_file(settings)), processes)
    gateway = await open_gateway(
        settings, clock=clock, audit=audit, count=metrics.count, quotas=quotas
    )
    try:
        asgi, routes = _doors(settings, gateway, metrics, quotas)
    except BaseException:
        await gateway.store.close()
        raise
    return Application(asgi=asgi, gateway=gateway, routes=routes)


def _doors(
    settings: Settings, gateway: Gateway, metrics: Metrics, quotas: Quotas
) -> tuple[Asgi, Sequence[BaseRoute]]:
    """All doors behind one another, and the routes of those that are FastAPI's."""
    from fastapi import FastAPI  # noqa: PLC0415 - a quarter of the start of verbs without doors

    web = FastAPI(
        title="FHIR gateway",
        version=__version__,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        exception_handlers={
            GatewayError: _refused,
            HTTPException: _http_refused,
            Exception: _failed,
        },
    )
    web.router.routes.extend(v2_routes(gateway))
    web.router.routes.extend(cda_routes(gateway))
    web.router.routes.extend(oauth_routes(gateway))
    web.router.routes.extend(health_routes(gateway, metrics))
    web.router.routes.extend(audit_log_routes(gateway))
    hot: dict[str, Asgi] = {
        "fhir": fhir_door(gateway),
        "cds-services": Router(hook_routes(gateway), redirect_slashes=False, default=web),
    }
    gate = Gate(settings.concurrency)
    doors = Shedding(
        Doors(hot, web, exact={SMART_PATH: smart_door(gateway)}),
        gate,
        instead=UNDECIDED,
        count=metrics.count,
    )
    strangers = Strangers(quotas, gateway.clock.now, metrics.count, settings.trusted_proxies)
    asgi = Trace(doors, metrics=metrics, settings=settings, strangers=strangers)
    return asgi, web.router.routes


def _quotas_file(settings: Settings) -> Path:
    return Path(settings.quotas or Path(settings.profiles, "access", "quotas.toml"))


class Doors:
    """The hot doors before the rest: FastAPI's own stack costs more than a read (docs/adr/0007)."""

    def __init__(
        self, hot: Mapping[str, Asgi], others: Asgi, *, exact: Mapping[str, Asgi] | None = None
    ) -> None:
        self._hot, self._others, self._exact = hot, others, exact or {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, by its whole path, else by the first segment of it."""
        path = scope.get("path", "")
        door = self._exact.get(path) or self._hot.get(path[1:].partition("/")[0], self._others)
        await door(scope, receive, send)


#: FastAPI's own telemetry would record messages and tracebacks, which may quote patients.
_NO_TELEMETRY: Any = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False,
    "auto_configure": False,
}  # fmt: skip


async def open_gateway(
    settings: Settings,
    *,
    clock: Clock | None = None,
    audit: bool = True,
    count: Counter = lambda name, by: None,
    begin: bool = True,
    quotas: Quotas | None = None,
) -> Gateway:
    """The gateway without doors, as commands and jobs use it; its store wants to be closed.

    Without `begin` an address that holds no store yet is refused.
    """
    check_open_access(settings)
    policy = policy_of(settings.policy)
    rights_of(settings.profiles)
    clock = clock or SystemClock()
    vocabulary = load_vocabulary(settings.terminology)
    maps = load_concept_maps(Path(settings.mappings) / "concepts", vocabulary.catalogue)
    naming = load_naming(settings.profiles)
    store, extractor = await _open_store(settings, clock, naming, begin=begin)
    gateway = Gateway(
        settings=settings,
        store=store,
        extractor=extractor,
        clock=clock,
        derivers=_derivers(settings, naming, vocabulary.catalogue, policy),
        governors=_GOVERNORS,
        requests=carry_out_request,
        local_codes=LocalCodes(vocabulary.catalogue, maps),
        random=PooledRandom(),
        policy=policy,
        audit=audit,
        count=count,
        quotas=quotas,
        started=clock.now(),
    )
    resources = _resources(settings, vocabulary, maps)
    try:
        resources = await with_former(gateway, resources, vocabulary.catalogue)
        await seed(gateway, await unpublished(gateway, resources))
    except BaseException:
        await store.close()
        raise
    return gateway


#: What is judged beside a write, in this order.
_GOVERNORS: tuple[Governor, ...] = (
    govern, link_govern.govern, answer_govern.govern, govern_consents, govern_access, alarm,
    watch, govern_bookings,
)  # fmt: skip


def _resources(
    settings: Settings, vocabulary: Vocabulary, maps: Mapping[str, LocalMap]
) -> list[dict[str, Any]]:
    """What the data folders bring into the store."""
    return [
        *terminology_resources(vocabulary),
        *(
            resource
            for name, local_map in maps.items()
            for resource in concept_maps_of(local_map, name, vocabulary.catalogue)
        ),
        *profile_resources(settings.profiles),
        *operation_resources(),
    ]


def _derivers(
    settings: Settings, naming: Naming, catalogue: Catalogue, policy: Policy
) -> tuple[Deriver, ...]:
    """What must happen at ingest but belongs to a higher floor."""
    return (
        partial(
            facts.derive,
            zone=settings.zone,
            catalogue=catalogue,
            parts=body_parts(catalogue, _received(settings)),
        ),
        register.derive,
        answer_rows.derive,
        endpoint_rows.derive,
        partial(cross_reference.derive, naming=naming),
        link.derive,
        partial(derive_consents, policy=policy, zone=settings.zone),
        derive_access,
        partial(slot_rows.derive, zone=settings.zone, catalogue=catalogue),
        partial(derive_waiting, zone=settings.zone),
        derive_notices,
    )


def _received(settings: Settings) -> Mapping[str, Row]:
    """What DICOM headers call parts of the body; a site may have no such table."""
    folder = f"{settings.mappings}/dicom"
    return table(folder, "body-parts") if Path(folder, "body-parts.csv").is_file() else {}


async def _open_store(
    settings: Settings, clock: Clock, naming: Naming, *, begin: bool
) -> tuple[AnyStore, Extractor]:
    """The store and the extractor that is keyed by the store's own secret.

    The store calls for rows of its journal when it has been idle for a moment, which is after
    the extractor was made.
    """
    made: list[Recurring] = []

    def rows(type: str, resource: dict[str, Any]) -> IndexRows:
        return made[0].rows(type, resource)

    store = await open_store(
        settings.database,
        clock=clock,
        random=os.urandom,
        rows=rows,
        search_budget=settings.search_budget,
        index=version_of(naming.digest),
        begin=begin,
    )
    extractor = Extractor(store.index_key, settings.zone, naming)
    made.append(Recurring(extractor))
    return store, extractor


def profile_resources(folder: str) -> Iterator[dict[str, Any]]:
    """The definitions in the profiles folder, our canonical root filled in."""
    for path in sorted(Path(folder).glob("[A-Z]*/*.json")):
        yield parse(path.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode()))


def check_open_access(settings: Settings) -> None:
    """Raises Invalid when a gateway without authentication would listen beyond this machine."""
    if settings.open_access and not is_loopback(settings.host):
        raise Invalid(
            f"--open-access serves loopback addresses only, not {settings.host}", rule="open-access"
        )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    answer = refusal(error)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, "application/fhir+json; charset=utf-8")


async def _http_refused(request: Request, error: Exception) -> Response:
    """What Starlette's router says of unknown paths and methods, as an OperationOutcome."""
    if getattr(error, "status_code", 404) == 405:
        return await _refused(request, MethodNotAllowed("Not offered here", rule="method"))
    return await _refused(request, NotFound("There is no such address", rule="unknown-address"))


async def _failed(request: Request, error: Exception) -> Response:
    body = operation_outcome((fault(),))
    return Response(body, 500, media_type="application/fhir+json; charset=utf-8")
