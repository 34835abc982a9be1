"""The files that bookings are judged by, read once for each process (profiles/scheduling)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Unavailable
from fhir_gateway.scheduling.channel import ChannelRules, load_channel_rules
from fhir_gateway.scheduling.limits import BookingLimits, claim_limits, load_limits
from fhir_gateway.scheduling.site_files import FOLDER
from fhir_gateway.store.claim_rows import Limits


class BookingRules(NamedTuple):
    """Limits, who comes through which channel, the zone, and what a claim is judged by."""

    limits: BookingLimits
    channels: ChannelRules
    zone: ZoneInfo
    claims: Limits


def booking_rules(gateway: Gateway) -> BookingRules:
    """The rules of this gateway. Raises Unavailable where their files cannot be used."""
    return _rules(gateway.settings.profiles, gateway.settings.zone)


@lru_cache(maxsize=8)
def _rules(profiles: str, zone_name: str) -> BookingRules:
    folder, zone = Path(profiles) / FOLDER, ZoneInfo(zone_name)
    try:
        limits = load_limits(folder / "limits.toml")
        channels = load_channel_rules(folder / "channels.toml")
    except Invalid as error:
        raise Unavailable(
            f"The rules of booking cannot be used: {error.issues[0].diagnostics}; the operator "
            "finds all faults with fhir-gateway pools check",
            rule="booking-files",
        ) from None
    return BookingRules(limits, channels, zone, claim_limits(limits, zone))
