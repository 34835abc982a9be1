"""What the first message would have to wait for, made before a door listens.

Decoders of the types of a report, profiles as they are compiled, patterns and tables are built when
they are first asked for: half a second of work, during which whoever sends at once and all who send
after it would wait. An artificial report goes all the way but for the store: nothing is written,
counted or told.
"""

from __future__ import annotations

from contextlib import suppress

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.entries import request_of, root, step_of
from fhir_gateway.interactions.intake import entries_of, planned
from fhir_gateway.interactions.prepare import add_codings, put_of
from fhir_gateway.interactions.profiles import profiles
from fhir_gateway.interactions.references import slots
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution

#: Nobody's: a number, a text and a titre of one report, whose codes no map knows.
_MESSAGE = """\
MSH|^~\\&|LIS|warm-up|GW||20260101080000||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8
PID|1||0^^^warm-up^PI||示例||19700101|F
PV1|1|O|warm-up
OBR|1|1|1|0^示例^L|||20260101070000|||||||||||||||20260101075900||CH|F
OBX|1|NM|1^示例^^^1||5.1|mmol/L|3.9--6.1|N|||F|||20260101073000
OBX|2|ST|2^示例^^^2||阴性（-）||阴性||||F
OBX|3|SN|3^示例^^^3||^1^:^80||<1:100||||F
""".replace("\n", "\r").encode()

_NOBODY = Institution(id="warm-up", name="warm-up", facilities=("warm-up",))


async def warm_up(gateway: Gateway) -> None:
    """Returns when messages can be taken in without delay. It refuses nothing: what is wrong with
    the mappings of this gateway is told to whoever sends."""
    with suppress(GatewayError):
        await _report(gateway)


async def _report(gateway: Gateway) -> None:
    judging = await profiles(gateway)
    folder = f"{gateway.settings.mappings}/v2"
    actor = Actor("institution", _NOBODY.id, institution=_NOBODY.id)
    message = parse(_MESSAGE, default_charset=_NOBODY.charset, folder=folder)
    mapped = map_message(message, _NOBODY, folder=folder)
    async with gateway.store.snapshot(actor.access) as reader:
        plan = await planned(gateway, reader, mapped, _NOBODY, folder)
    for number, entry in enumerate(entries_of(plan, "v2")):
        where = root(number)
        resource = step_of(actor, gateway, request_of(entry, where), where).resource
        if resource is not None:
            add_codings(gateway, resource, _NOBODY.id)
            slots(resource, entry.resource_raw or b"")
            judging.issues(resource, now=gateway.clock.now(), hints=False)
            put_of(gateway, resource, op="create", owner=0)
