"""`fhir-gateway send FILE… --to HOST:PORT`: sends v2 messages over MLLP and shows each answer."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.hl7v2.mllp_client import MllpClient
from fhir_gateway.mapping.v2 import split_messages
from fhir_gateway.mapping.v2_ack import by_mode, read_header

_GOOD = ("AA", "CA")


class _Target(NamedTuple):
    host: str
    port: int
    tls: ssl.SSLContext | None
    seconds: float


@click.command("send", short_help="Send HL7 v2 messages over MLLP.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...",
                type=click.Path(path_type=Path, exists=True, dir_okay=False))  # fmt: skip
@click.option("--to", required=True, metavar="HOST:PORT", help="Where the MLLP door listens.")
@click.option("--tls/--no-tls", default=False, help="Speak TLS.")
@click.option("--ca", type=click.Path(exists=True), help="Trust these certificates (PEM) only.")
@click.option("--certificate", type=click.Path(exists=True), help="Client certificate (PEM).")
@click.option("--key", type=click.Path(exists=True), help="Its private key (PEM).")
@click.option("--seconds", default=30.0, show_default=True, help="Patience for each answer.")
@click.option("--show", is_flag=True, help="Show the whole answer, not its code alone.")
def command(
    files: tuple[Path, ...], to: str, tls: bool, ca: str | None,
    certificate: str | None, key: str | None, seconds: float, show: bool,
) -> None:  # fmt: skip
    """Send the messages of files, one after the other over one connection, and say what became of
    each. A file may hold several messages, with or without MLLP framing.

    Sending a file again is safe: what was stored is answered as before and stored once.

    \b
    Examples:
      fhir-gateway send oru.hl7 --to 127.0.0.1:2575
      fhir-gateway send day/*.hl7 --to gw.example:2575 --tls --certificate c.pem --key k.pem

    Exit code: 0 when every message was accepted; 1 when one was refused or not answered; 2 for
    wrong options.
    """
    try:
        host, port = address_of(to)
        target = _Target(host, port, tls_of(tls, ca, certificate, key), seconds)
        refused = asyncio.run(_send(list(_messages(files)), target, show=show))
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    except GatewayError as error:
        print(f"fhir-gateway: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(1 if refused else 0)


def address_of(to: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises Invalid."""
    host, _, port = to.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise Invalid("--to must be HOST:PORT, such as 127.0.0.1:2575")
    return host.strip("[]"), int(port)


def tls_of(
    tls: bool, ca: str | None, certificate: str | None, key: str | None
) -> ssl.SSLContext | None:
    """What the options about TLS ask for, None for none. Raises Invalid."""
    if not tls:
        if ca or certificate or key:
            raise Invalid("--ca, --certificate and --key go with --tls")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError):
        raise Invalid("--ca, --certificate and --key must be PEM files") from None
    return context


def _messages(files: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    """What is sent, with a name to tell of it by."""
    for path in files:
        for number, message in enumerate(split_messages(path.read_bytes()), 1):
            yield f"{path.name}#{number}", message


async def _send(messages: list[tuple[str, bytes]], target: _Target, *, show: bool) -> int:
    """Sends them in order; how many were refused."""
    refused = 0
    client = MllpClient(target.host, target.port, tls=target.tls, seconds=target.seconds)
    async with client:
        for name, message in messages:
            header = read_header(message)
            due = len(by_mode(header, b"MSH|^~\\&|||||||ACK|0|P|2\rMSA|AA|0\r", stored=True))
            for answer in await client.send(message, answers=due):
                code, text = _read(answer)
                refused += code not in _GOOD
                print(f"{name}\t{header.control_id}\t{code}\t{text}", flush=True)
                if show:
                    codec = read_header(answer).codec
                    print("  " + answer.decode(codec).strip("\r").replace("\r", "\n  "))
    accepted = len(messages) - refused
    print(f"{accepted} accepted, {refused} refused", file=sys.stderr)
    return refused


def _read(answer: bytes) -> tuple[str, str]:
    """The code of an answer, and what it says first."""
    header = read_header(answer)
    lines = answer.decode(header.codec, "replace").split("\r")
    fields = {line[:3]: line.split(header.separator) for line in reversed(lines)}
    said = fields.get("MSA", ["MSA", "?"])
    told = fields.get("ERR", [])
    text = told[8] if len(told) > 8 else (said[3] if len(said) > 3 else "")
    return said[1], text
