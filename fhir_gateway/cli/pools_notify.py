"""`fhir-gateway pools notify`: tells a hospital of the bookings of its slots, by SIU over MLLP."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.cli.send import address_of, tls_of
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Unavailable
from fhir_gateway.hl7v2.mllp_client import MllpClient
from fhir_gateway.mapping.v2_ack import read_header
from fhir_gateway.scheduling.siu_sender import (
    Outcome,
    Sender,
    Stopped,
    hospital_of,
    is_answer_to,
    state_of,
)

#: Seconds between two looks for what is new, and the longest wait for a hospital that is away.
_LOOK, _LONGEST = 1.0, 60.0


class _Options(NamedTuple):
    host: str
    port: int
    tls: ssl.SSLContext | None
    seconds: float
    attempts: int
    once: bool
    again: bool


@click.command("notify", short_help="Tell a hospital of its bookings (SIU).")
@click.option("--institution", "hospital", required=True, metavar="ID", help="Whose slots.")
@click.option("--to", metavar="HOST:PORT", help="Where its MLLP door listens.")
@click.option("--tls/--no-tls", default=False, help="Speak TLS.")
@click.option("--ca", type=click.Path(exists=True), help="Trust these certificates (PEM) only.")
@click.option("--certificate", type=click.Path(exists=True), help="Client certificate (PEM).")
@click.option("--key", type=click.Path(exists=True), help="Its private key (PEM).")
@click.option("--seconds", type=click.FloatRange(0.1, 20.0), default=10.0, show_default=True,
              help="Patience for each answer.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1, 20), default=5, show_default=True,
              help="How often a message is sent that the hospital calls wrong (AE).")  # fmt: skip
@click.option("--from-start", is_flag=True, help="A hospital that was never told anything is told "
              "all bookings since the beginning, and not those from now on.")  # fmt: skip
@click.option("--again", is_flag=True, help="First send those that were given up once more.")
@click.option("--once", is_flag=True, help="End when everything is told.")
@click.option("--list", "listed", is_flag=True, help="Show how far it was told and what was given "
              "up; nothing is sent.")  # fmt: skip
@with_gateway
async def notify(
    gateway: Gateway, *, hospital: str, to: str | None, from_start: bool, listed: bool,
    **chosen: Any,
) -> None:  # fmt: skip
    """Tell a hospital of each booking, change, cancellation and missed appointment of its slots,
    as SIU^S12, S13, S14, S15, S17 and S26, until a signal.

    The messages of a booking keep their order. Each is sent until the hospital accepts it (AA); one
    that it calls wrong (AE) again and again is given up and listed, and the next one goes out.
    While it does not answer, or asks for patience (AR), everything waits. After a kill the last
    messages may be sent again, under the same control ids (MSH-10).

    \b
    Examples:
      fhir-gateway pools notify --institution h-1 --to his.example:2575 --tls
      fhir-gateway pools notify --institution h-1 --list
      fhir-gateway pools notify --institution h-1 --to 127.0.0.1:2575 --again --once

    Exit code: 0 at the end; 1 when another process tells this hospital, when it did not answer
    (--once), or when too many messages were given up; 2 for wrong options.
    """
    if listed:
        await _list(gateway, hospital)
        return
    if not to:
        raise click.UsageError("--to HOST:PORT says where the hospital listens")
    try:
        options = _options(to, **chosen)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    found = await hospital_of(gateway, hospital)
    stop = asyncio.Event()
    sender = Sender(gateway, found, attempts=options.attempts, stopping=stop.is_set)
    await sender.begin(since=0 if from_start else -1)
    try:
        await _tell(sender, options, stop)
    finally:
        await sender.end()


def _options(to: str, **chosen: Any) -> _Options:
    tls = tls_of(*(chosen.pop(name) for name in ("tls", "ca", "certificate", "key")))
    return _Options(*address_of(to), tls, **chosen)


async def _list(gateway: Gateway, hospital: str) -> None:
    await hospital_of(gateway, hospital)
    job, cursor = await state_of(gateway, hospital)
    if job is None or cursor is None:
        click.echo(f"{hospital} was never told anything: start with --to")
        return
    state = "being told now" if job.state == "running" else "nobody tells it now"
    click.echo(f"{hospital}: {cursor.sent} sent, {len(cursor.dead)} given up, told up to commit "
               f"{cursor.place[0] - 1}; {state}")  # fmt: skip
    if cursor.dead:
        table([
            ("control id", "event", "appointment", "version", "answer", "given up", "why"),
            *((one.control_id, one.event, one.appointment, str(one.version), one.code or "-",
               one.at, one.text) for one in cursor.dead),
        ])  # fmt: skip


async def _tell(sender: Sender, options: _Options, stop: asyncio.Event) -> None:
    """Rounds until a signal, or until everything is told."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    again, failures = options.again, 0
    async with _Wire(options) as wire:
        while not stop.is_set():
            try:
                if again:
                    left = await sender.again(wire.send, _told)
                    again = False
                    click.echo(f"{left} are still given up", err=True)
                await sender.round(wire.send, _told)
                if options.once:
                    break
                failures = 0
                await _pause(sender, stop, _LOOK)
            except Stopped:
                break
            except Unavailable as error:
                await wire.close()
                if options.once:
                    raise
                wait = min(_LONGEST, 2.0**failures)
                failures = min(failures + 1, 6)
                click.echo(f"{error.issues[0].diagnostics}; tried again in {wait:.0f} s", err=True)
                await _pause(sender, stop, wait)
    cursor = sender.cursor
    click.echo(f"{cursor.sent} sent, {len(cursor.dead)} given up", err=True)


async def _pause(sender: Sender, stop: asyncio.Event, seconds: float) -> None:
    """Waits, and says meanwhile that this sender lives."""
    end = asyncio.get_running_loop().time() + seconds
    while not stop.is_set() and (left := end - asyncio.get_running_loop().time()) > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(left, 5.0))
        await sender.keep_alive()


def _told(outcome: Outcome) -> None:
    """One line for each message: no patient stands in it."""
    told = outcome.letter.told
    line = (outcome.letter.control_id, outcome.letter.event, told.id, str(told.version),
            outcome.code or "-", outcome.text)  # fmt: skip
    click.echo("\t".join(line).rstrip(), file=sys.stderr if outcome.is_dead else None)


class _Wire:
    """The connection to the hospital, opened when there is something to send."""

    def __init__(self, options: _Options) -> None:
        self._make: Callable[[], MllpClient] = lambda: MllpClient(
            options.host, options.port, tls=options.tls, seconds=options.seconds
        )
        self._client: MllpClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, message: bytes) -> bytes:
        """The answer to a message. Raises Unavailable."""
        if self._client is None:
            self._client = await self._make().__aenter__()
        control_id = read_header(message).control_id
        found = await self._client.send(message, fits=lambda raw: is_answer_to(raw, control_id))
        return found[0]

    async def close(self) -> None:
        """Closes the connection; the next message opens another."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.__aexit__(None, None, None)
