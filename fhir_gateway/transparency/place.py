"""Where the log's keys are, and the key that signs now.

The setting log_key names the file. Without it a store in a file has one beside itself, made at the
first start with a warning, for development; a database that several machines may share has none,
and nothing is signed until an operator has made one: two machines with keys of their own would be
two logs.
"""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from fhir_gateway.errors import Invalid
from fhir_gateway.settings import Settings
from fhir_gateway.store.opening import SQLITE
from fhir_gateway.transparency.keys import new_signer, read_keys, write_new
from fhir_gateway.transparency.note import Signer, Verifier

LOG = logging.getLogger("fhir_gateway.audit_log")


def key_file(settings: Settings) -> Path:
    """The file of the log's keys. Raises Invalid when the setting is needed and not there."""
    if settings.log_key:
        return Path(settings.log_key)
    if settings.database.startswith(SQLITE):
        return Path(settings.database.removeprefix(SQLITE) + ".log-key")
    raise Invalid(
        "Set FHIR_GATEWAY_LOG_KEY to the file that `fhir-gateway audit key new` made: without a key"
        " the heads of the audit log are not signed",
        rule="log-key-missing",
    )


def signers(settings: Settings, *, begun: bool) -> list[Signer]:
    """The keys, oldest first; one is made for development where the log has not begun.

    Raises Invalid when there is none, or the file cannot be used.
    """
    path = key_file(settings)
    if not path.exists() and not begun and not settings.log_key:
        try:
            write_new(path, new_signer(default_name(settings)))
        except Invalid as error:  # another process was quicker
            if error.issues[0].rule != "log-key-exists":
                raise
        LOG.warning(
            json.dumps({
                "event": "audit-log-key-made",
                "file": path.name,
                "warning": "The key lies beside the data: set FHIR_GATEWAY_LOG_KEY for production",
            })
        )  # fmt: skip
    return read_keys(path)


def default_name(settings: Settings) -> str:
    """A name for a new log: the public host, or this machine, and something by chance."""
    host = urlsplit(settings.base_url).netloc or "localhost"
    return f"{host}/audit-log-{secrets.token_hex(4)}"


def signer_of(keys: list[Signer], key: Verifier) -> Signer:
    """The private key of a public one. Raises Invalid when the file does not hold it."""
    for signer in keys:
        if signer.verifier == key:
            return signer
    raise Invalid(
        f"The key file does not hold the key that the log is signed with ({key}); name the right"
        " file in FHIR_GATEWAY_LOG_KEY",
        rule="log-key-other",
    )
