"""`fhir-gateway audit witness`: keep another gateway's heads, so that it cannot go back."""

from __future__ import annotations

import asyncio
import json
import time
from ipaddress import ip_network
from pathlib import Path

import click

from fhir_gateway.cli.audit_common import moment, sentences
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.outbound import Fetched, Outbound
from fhir_gateway.security.outbound import Policy, check_listed
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.transparency.keys import read_keys
from fhir_gateway.transparency.note import Malformed, Signer, Verifier, read_verifier
from fhir_gateway.transparency.witness import Witnessed
from fhir_gateway.transparency.witness import witness as keep

_MOST_BYTES, _SECONDS = 4_000_000, 20.0

#: The operator names the one address that is called: its network is his business.
_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@click.group("witness")
def witness() -> None:
    """For the regulator or another institution: be a witness of a gateway's audit log."""


@witness.command("fetch")
@click.argument("url")
@click.option("--file", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Where the heads are kept; it only grows.")  # fmt: skip
@click.option("--key-file", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="The witness's own key (`audit key new FILE --name …`).")  # fmt: skip
@click.option("--log-key", "key", help="The public key that the log began with.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with the bearer token that the gateway asks for.")  # fmt: skip
@click.option("--every", type=click.IntRange(1), help="Go on, once in so many seconds.")
@click.option("--accept-recovery", is_flag=True, help="The operator has said why it was recovered.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each look.")
def fetch(
    url: str, file: Path, key_file: Path, key: str | None, token_file: Path | None,
    every: int | None, accept_recovery: bool, as_json: bool,
) -> None:  # fmt: skip
    """Fetch the newest head from URL (such as https://gw.example/audit-log), have it proved that it
    contains the last one in the file, sign it, and keep it.

    A log that went back or shows two trees is refused and nothing is signed. Hold the file against
    the gateway's database with `fhir-gateway audit verify --witness FILE`. Let it run each minute.

    \b
    Example:
      fhir-gateway audit witness fetch https://gw.example/audit-log --file city.heads \\
          --key-file regulator.key --log-key "gw.example/audit-log+ab12cd34+AQ…" --every 60

    Exit code: 0 when the head follows; 1 when it was refused; 3 when it follows and was signed
    more than five minutes ago: the log is late, or somebody keeps its heads back.
    """
    with sentences():
        settings = load_settings()
        signer, trusted = read_keys(key_file)[-1], _trusted(key)
        token = token_file.read_text("utf-8").strip() if token_file else ""
        looking = _Looking(url.rstrip("/"), file, signer, trusted, token, settings)
        while True:
            seen = asyncio.run(looking.look(accept_recovery))
            _tell(seen, as_json)
            if not every:
                break
            time.sleep(every)
    if seen.late:
        raise SystemExit(3)


class _Looking:
    """A log that is looked at, and how."""

    def __init__(
        self,
        url: str,
        file: Path,
        signer: Signer,
        key: Verifier | None,
        token: str,
        settings: Settings,
    ) -> None:
        self._url, self._file, self._signer, self._key = url, file, signer, key
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._ca = settings.outbound_ca
        origin = "/".join(url.split("/")[:3])
        check_listed(origin)
        self._policy = Policy(networks=_ANYWHERE).allowing([origin])

    async def look(self, accept_recovery: bool) -> Witnessed:
        """One look. Raises as `transparency.witness.witness` does."""
        async with Outbound(self._policy, ca=self._ca) as outbound:

            async def ask(path: str) -> Fetched:
                return await outbound.fetch(
                    self._url + path,
                    headers=self._headers,
                    most_bytes=_MOST_BYTES,
                    seconds=_SECONDS,
                )

            return await keep(
                ask, self._file, self._signer, now=int(time.time()), key=self._key,
                accept_recovery=accept_recovery,
            )  # fmt: skip


def _trusted(key: str | None) -> Verifier | None:
    try:
        return read_verifier(key) if key else None
    except Malformed as error:
        raise Invalid(f"--log-key: {error}", rule="log-key") from None


def _tell(seen: Witnessed, as_json: bool) -> None:
    if as_json:
        told = {"size": seen.said.size, "new": seen.new, "age": seen.age, "late": seen.late}
        click.echo(json.dumps({**told, "note": seen.note}, ensure_ascii=False))
        return
    kept = "kept" if seen.new else "nothing new"
    click.echo(f"{seen.said.origin}: size {seen.said.size:,}, signed {seen.age} s ago; {kept}")
    if seen.late:
        click.echo(f"LATE: no newer head at {moment(int(time.time()))}")
