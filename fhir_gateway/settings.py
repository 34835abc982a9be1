"""All settings: one frozen value, read once from FHIR_GATEWAY_* variables, every default works."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fhir_gateway.errors import Invalid

#: Root of every URL that this project defines (docs/adr/0003). A reserved example domain until
#: an owner gives the gateway a real one; nothing else in the code may spell it.
CANONICAL = "http://fhir-gateway.example.org/fhir"

_HERE = Path(__file__).resolve().parent


def _setting(default: Any, help: str, *, least: int | None = None, folder: bool = False) -> Any:
    """A setting; `least` is the smallest number that it may be, `folder` says that it is one."""
    return field(default=default, metadata={"help": help, "least": least, "folder": folder})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """What an operator may choose. docs/settings.md is generated from this table."""

    def __repr__(self) -> str:
        """What was chosen, for a log or a traceback: no password of an address is in it."""
        chosen = (
            f"{item.name}={masked(value)!r}" if isinstance(value, str) else f"{item.name}={value!r}"
            for item in fields(self)
            if (value := getattr(self, item.name)) != item.default
        )
        return f"Settings({', '.join(chosen)})"

    database: str = _setting(
        "sqlite:///var/gateway.sqlite",
        "Where the data is: sqlite:///PATH (relative or absolute), or"
        " postgresql://USER:PASSWORD@HOST/NAME.",
    )
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8080, "Port to listen on; 0 takes a free one.", least=0)
    base_url: str = _setting(
        "", "FHIR base as clients see it, e.g. https://gw.example/fhir; empty: from the request."
    )
    trusted_proxies: str = _setting(
        "",
        "Proxies whose Forwarded and X-Forwarded-* headers are believed: addresses or networks, "
        "separated by commas.",
    )
    allowed_origins: str = _setting(
        "",
        "Origins whose pages may call the FHIR base and CDS Hooks (CORS), such as "
        "https://app.example, separated by commas; * for all. The CapabilityStatement and the "
        "list of hook services are open to all of them always.",
    )
    open_access: bool = _setting(
        False, "No authentication at all. Only for demonstrations; binds to loopback only."
    )
    outbound_origins: str = _setting(
        "",
        "Servers that the gateway may call by itself, e.g. https://pacs.example, separated by "
        "commas; http only for this machine. Servers of CDS clients stand in cds_clients.",
    )
    outbound_networks: str = _setting(
        "",
        "Networks that are not public and may be called all the same, e.g. 10.20.0.0/16, separated "
        "by commas.",
    )
    outbound_ca: str = _setting(
        "", "File of certificates (PEM) that are trusted for those servers beside the public ones."
    )
    endpoint_check_minutes: int = _setting(
        60,
        "Minutes between two checks of the Endpoints that images are fetched from, by the worker; "
        "0 for none. Only servers in outbound_origins are asked.",
        least=0,
    )
    cds_clients: str = _setting(
        "",
        "File (TOML) of the CDS clients that sign their calls and of the FHIR servers that may be "
        "asked for what a call did not send; docs/cds-hooks.md.",
    )
    issuers: str = _setting(
        "",
        "File (TOML) of the outside OpenID providers whose access tokens are believed, and of what "
        "their claims mean here; docs/auth.md.",
    )
    client_certificate_header: str = _setting(
        "",
        "Header in which a trusted proxy hands on the client's certificate (mTLS), such as "
        "client-cert; empty: certificates are not looked at.",
    )
    hook_deadline_ms: int = _setting(
        500,
        "Milliseconds after which a hook call is answered with a card that nothing was decided.",
        least=10,
    )
    hook_slots: int = _setting(
        3,
        "Slots that a card offers for an order that has to be carried out; 0 for none.",
        least=0,
    )
    hook_slots_ms: int = _setting(
        100,
        "Milliseconds that a card waits for its slots at most; then it goes out and says so.",
        least=1,
    )
    hook_slot_days: int = _setting(30, "Days ahead in which cards look for slots.", least=1)
    booking_page: str = _setting(
        "",
        "Address of the booking page that cards link to, with a sealed reference to the order; "
        "empty: cards have no such link; docs/cds-hooks.md.",
    )
    booking_page_smart: bool = _setting(
        False, "The booking page is a SMART app: the reference goes into its appContext."
    )
    booking_link_minutes: int = _setting(
        15, "Minutes for which a card's reference to an order can be opened.", least=1
    )
    mllp_host: str = _setting(
        "127.0.0.1", "Address that `fhir-gateway mllp` listens on for HL7 v2 messages."
    )
    mllp_port: int = _setting(2575, "Port for MLLP; 0 takes a free one.", least=0)
    mllp_senders: str = _setting(
        "",
        "File (TOML) of the institutions that send over MLLP, by address or client certificate;"
        " docs/mllp.md.",
    )
    mllp_certificate: str = _setting(
        "", "File of the certificate (PEM, with its chain) for MLLP over TLS; empty: no TLS."
    )
    mllp_key: str = _setting("", "File of that certificate's private key (PEM).")
    mllp_client_ca: str = _setting(
        "",
        "File of certificates (PEM) that clients' certificates for MLLP must descend from; with it"
        " every sender needs one (mutual TLS).",
    )
    mllp_connections: int = _setting(500, "Most MLLP connections at once.", least=1)
    mllp_idle_seconds: int = _setting(
        600, "Seconds after which a silent MLLP connection is closed.", least=1
    )
    zone: str = _setting("Asia/Shanghai", "Time zone of calendar days and of times without a zone.")
    area: str = _setting("110000", "Area code (GB/T 2260) that the gateway serves.")
    mappings: str = _setting(
        str(_HERE.parent / "mappings"),
        "Folder of the mapping tables (concepts, v2, dicom).",
        folder=True,
    )
    terminology: str = _setting(
        str(_HERE.parent / "terminology"), "Folder of the catalogue.", folder=True
    )
    profiles: str = _setting(
        str(_HERE.parent / "profiles"), "Folder of rule sets and profiles.", folder=True
    )
    policy: str = _setting(
        "",
        "File (TOML) of the site's policy: legal basis, treatment relation, break-glass; empty: "
        "the one that is shipped, profiles/access/policy.toml; docs/consent.md.",
    )
    body_limit: int = _setting(20_000_000, "Largest request body in bytes.", least=1)
    body_seconds: int = _setting(
        30,
        "Seconds in which a request's body must come, and one more for every 20 kB of it.",
        least=1,
    )
    head_seconds: int = _setting(
        15, "Seconds in which a request's line and headers must come.", least=1
    )
    head_limit: int = _setting(
        65_536, "Most bytes of a request's line and headers together.", least=1_024
    )
    connection_limit: int = _setting(
        4_000, "Most connections of one process; a further one is answered 503.", least=1
    )
    address_connections: int = _setting(
        1_000,
        "Most connections of one process from one address that is no trusted proxy; 0: any number.",
        least=0,
    )
    concurrency: int = _setting(
        256,
        "Most requests that one process works on at once; more wait for a moment, orders' first.",
        least=8,
    )
    quotas: str = _setting(
        "",
        "File (TOML) of what requests cost and how much each client may spend; empty: "
        "access/quotas.toml of the profiles.",
    )
    bundle_limit: int = _setting(5_000, "Most entries of one batch or transaction.", least=1)
    page_limit: int = _setting(500, "Largest _count that is honoured.", least=1)
    page_link_minutes: int = _setting(
        60, "Minutes for which the link to a next page is good; 0: without end.", least=0
    )
    pool_seconds: int = _setting(
        30,
        "Seconds between two looks of the worker at the pools: cut-offs, holds that are over, "
        "offers of waiting lists; 0 for none. Nothing that was promised waits for it.",
        least=0,
    )
    booking_if_match: bool = _setting(
        False,
        "Steps with a booking ($cancel, $rebook, $arrive …) need If-Match; without, it is heeded "
        "where it is sent.",
    )
    search_budget: int = _setting(
        20_000,
        "Rows that a search across patients may visit; above it is refused as too-costly.",
        least=1,
    )
    exports: str = _setting(
        "", "Folder for the files of asynchronous answers; empty: beside an SQLite file, else var."
    )
    export_hours: int = _setting(24, "Hours until an asynchronous answer expires.", least=1)
    refused_days: int = _setting(
        90, "Days for which the bytes of a refused message are kept; its row stays.",
        least=1,
    )  # fmt: skip
    refused_bytes: int = _setting(
        64_000_000,
        "Most bytes of refused messages kept for one institution, packed; the oldest go first.",
        least=0,
    )
    job_worker: bool = _setting(
        True, "Start a process for long work beside the server; false: `fhir-gateway worker` does."
    )
    log_key: str = _setting(
        "",
        "File of the private keys that sign the audit log (`fhir-gateway audit key new`); empty:"
        " beside an SQLite file, for development; docs/transparency.md.",
    )
    stale_after_days: int = _setting(
        3,
        "A source that sent nothing for so many days is listed as stale in every answer.",
        least=0,
    )


def load_settings(environment: Mapping[str, str] | None = None, **chosen: Any) -> Settings:
    """Settings from the environment, then from `chosen` (command line; None means not given).

    FHIR_GATEWAY_X_FILE names a file that holds the value of X, as Docker and Kubernetes hand over
    secrets. Raises Invalid for an unknown FHIR_GATEWAY_* variable, for a value that cannot be
    meant and for a file that cannot be read, so that a misspelt setting never becomes a weaker
    default.
    """
    environment = os.environ if environment is None else environment
    known = {f"FHIR_GATEWAY_{item.name.upper()}": item for item in fields(Settings)}
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith("FHIR_GATEWAY_"):
            continue
        if name not in known and name.removesuffix("_FILE") in known:
            name, text = _from_file(name, text, environment)  # noqa: PLW2901 - the value it means
        if name not in known:
            raise Invalid(f"{name} is not a setting; see docs/settings.md", rule="unknown-setting")
        values[known[name].name] = _convert(name, text, known[name].default)
    values.update({key: value for key, value in chosen.items() if value is not None})
    settings = Settings(**values)
    _check(settings)
    return settings


def _from_file(name: str, file: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The setting that a variable …_FILE gives, and its value: the file without its last newline.

    Raises Invalid when the value is given by both, or the file cannot be read. Never quotes it.
    """
    meant = name.removesuffix("_FILE")
    if meant in environment:
        raise Invalid(f"Give {meant} or {name}, not both", rule="setting-value")
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        raise Invalid(
            f"{name} must be a file of UTF-8 text that the gateway may read", rule="setting-value"
        ) from None
    return meant, text.removesuffix("\n").removesuffix("\r")


#: What stands between the user and the host of an address, and passwords among its parameters.
_PASSWORD = re.compile(
    r"(?<=://)([^\s/?#@:]*):[^\s]*@(?=[^\s@]*$)|([?&](?:password|sslpassword)=)[^&\s#]*",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """A text with *** for the password of an address in it, as it may be shown."""
    return _PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[2] is None else f"{match[2]}***",
                         text)  # fmt: skip


def _check(settings: Settings) -> None:
    """Raises Invalid for a number that is too small, a folder, zone or base that is none."""
    for item in fields(Settings):
        name, value = f"FHIR_GATEWAY_{item.name.upper()}", getattr(settings, item.name)
        least = item.metadata["least"]
        if least is not None and value < least:
            raise Invalid(f"{name} must be at least {least}", rule="setting-value")
        if item.metadata["folder"] and not Path(value).is_dir():
            raise Invalid(f"{name} must be a folder that is there", rule="setting-value")
    try:
        ZoneInfo(settings.zone)
    except (KeyError, ValueError, OSError):
        raise Invalid(
            "FHIR_GATEWAY_ZONE must be a name of the IANA database, as Asia/Shanghai",
            rule="setting-value",
        ) from None
    if settings.base_url and not _BASE_URL.fullmatch(settings.base_url):
        raise Invalid(
            "FHIR_GATEWAY_BASE_URL must be an address such as https://gw.example/fhir",
            rule="setting-value",
        )


_BASE_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables from which another process reads the same settings."""
    return {
        f"FHIR_GATEWAY_{item.name.upper()}": _spelled(getattr(settings, item.name))
        for item in fields(Settings)
    }


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise Invalid(f"{name} must be true or false", rule="setting-type")
        return text.lower() == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise Invalid(f"{name} must be a whole number", rule="setting-type") from None
    return text
