"""`fhir-gateway mllp`: the door for HL7 v2 over MLLP, as a process of its own.

It may run beside `serve` on the same store, and several may run. Starts with one line of JSON when
it listens; SIGTERM and SIGINT stop it cleanly: what is being stored is still answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import click
import uvloop

from fhir_gateway.app import check_open_access, open_gateway
from fhir_gateway.cli.serve import log_to_stderr, settle
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.hl7v2.mllp import Limits, Mllp
from fhir_gateway.interactions.warm_up import warm_up
from fhir_gateway.security.mllp_senders import Senders, read_senders
from fhir_gateway.security.origin import is_loopback
from fhir_gateway.settings import Settings, load_settings


@click.command("mllp", short_help="Take in HL7 v2 messages over MLLP.")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--host", "mllp_host", help="Address to listen on (default 127.0.0.1).")
@click.option(
    "--port", "mllp_port", type=click.IntRange(0, 65535), help="Port (default 2575); 0: a free one."
)
@click.option("--senders", "mllp_senders", help="File (TOML) of who sends; docs/mllp.md.")
@click.option("--certificate", "mllp_certificate", help="Certificate (PEM): speak TLS.")
@click.option("--key", "mllp_key", help="Private key of the certificate (PEM).")
@click.option("--client-ca", "mllp_client_ca", help="CA of the senders' certificates (mutual TLS).")
@click.option(
    "--open-access/--no-open-access",
    default=None,
    help="Take messages from anybody on this machine, by MSH-4: for demonstrations only.",
)
def command(**chosen: Any) -> None:
    """Take in HL7 v2 messages over MLLP until a signal.

    The same messages as POST /hl7v2: ORU, OUL, OML, ADT, SIU and SRM (docs/v2.md).

    A message is acknowledged (AA, or CA in enhanced mode) when its commit is durable; sent again
    it gets the same answer and is stored once. Who sends is known by address or by client
    certificate, from the file of senders.

    \b
    Examples:
      fhir-gateway mllp --senders /etc/fhir-gateway/senders.toml
      fhir-gateway mllp --host 0.0.0.0 --certificate c.pem --key k.pem --client-ca ca.pem
      fhir-gateway mllp --open-access --port 0

    Exit code: 0 after a signal; 2 when it could not start.
    """
    log_to_stderr()
    try:
        settings = load_settings(**chosen)
        senders, tls = who_sends(settings), context_of(settings)
        uvloop.run(_serve(settings, senders, tls))
    except GatewayError as error:
        print(f"fhir-gateway: cannot listen: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def who_sends(settings: Settings) -> Senders:
    """The senders in the settings' file. Raises Invalid where nobody could send, or anybody."""
    if settings.open_access:
        check_open_access(settings)
        if not is_loopback(settings.mllp_host):
            raise Invalid(
                f"--open-access serves loopback addresses only, not {settings.mllp_host}",
                rule="open-access",
            )
        return Senders()
    if not settings.mllp_senders:
        raise Invalid(
            "FHIR_GATEWAY_MLLP_SENDERS must name the file of those who send (docs/mllp.md)",
            rule="mllp-senders",
        )
    try:
        return read_senders(Path(settings.mllp_senders).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise Invalid(
            "FHIR_GATEWAY_MLLP_SENDERS must be a file of TOML in UTF-8", rule="setting-value"
        ) from None


def context_of(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the settings' certificate; None without one. Raises Invalid."""
    if not settings.mllp_certificate:
        if settings.mllp_client_ca or settings.mllp_key:
            raise Invalid(
                "FHIR_GATEWAY_MLLP_CERTIFICATE is needed where a key or a client CA is given",
                rule="setting-value",
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.mllp_certificate, settings.mllp_key or None)
        if settings.mllp_client_ca:
            context.load_verify_locations(settings.mllp_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError):
        raise Invalid(
            "FHIR_GATEWAY_MLLP_CERTIFICATE, _KEY and _CLIENT_CA must be PEM files that belong"
            " together",
            rule="setting-value",
        ) from None
    return context


async def _serve(settings: Settings, senders: Senders, tls: ssl.SSLContext | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = await open_gateway(settings)
    limits = Limits(idle=settings.mllp_idle_seconds, connections=settings.mllp_connections)
    door = Mllp(gateway, senders, limits=limits)
    try:
        await warm_up(gateway)
        try:
            port = await door.begin(settings.mllp_host, settings.mllp_port, tls)
        except OSError as error:
            raise Invalid(f"cannot listen: {error.strerror}", rule="listen") from None
        settle()
        ready = {"event": "ready", "mllp": f"{settings.mllp_host}:{port}", "port": port,
                 "tls": tls is not None, "pid": os.getpid()}  # fmt: skip
        print(json.dumps(ready), flush=True)
        await stop.wait()
    finally:
        await door.end()
        await gateway.store.close()
