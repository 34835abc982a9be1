"""Which answers are meant: the filters that the commands of `fhir-gateway answers` share."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition.answer_figures import ground_of
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answer_rows import moment

_EVER = 1 << 62
_STATES = ("accepted", "repeated", "cited", "viewed", "revoked")


def filters(function: Any) -> Any:
    """The options of a command that lists answers."""
    for option in (
        click.option("--until", default="", help="Given on or before this day."),
        click.option("--since", default="", help="Given on or after this day, as 2026-11-01."),
        click.option("--reason", default="", help="Code of the ground, or reason-missing."),
        click.option("--answer", default="", type=click.Choice(["", *_STATES]), show_choices=True,
                     help="accepted, repeated, cited, viewed or revoked."),
        click.option("--item", default="", help="Code of an item."),
        click.option("--doctor", default="", help="Who answered, as the workstation names them."),
        click.option("--patient", default="", help="Logical id of a Patient."),
        click.option("--institution", default="", help="Id of an institution."),
    ):  # fmt: skip
        function = option(function)
    return function


def period(
    gateway: Gateway, since: str, until: str, options: tuple[str, str] = ("--since", "--until")
) -> tuple[int, int]:
    """A period in µs, its end excluded. Raises Invalid for what is no day, and for an end before
    the beginning: an empty answer to it would be taken for one that says that nothing was there.
    """
    zone = gateway.settings.zone
    start = _day(since, zone, options[0])[0] if since else 0
    end = _day(until, zone, options[1])[1] + 1 if until else _EVER
    check_order(start, end, options)
    return start, end


def check_order(start: int, end: int, options: tuple[str, str] = ("--since", "--until")) -> None:
    """Raises Invalid for a time that ends before it begins."""
    if end <= start:
        raise Invalid(f"{options[1]} lies before {options[0]}", rule="day")


def _day(text: str, zone: str, option: str) -> tuple[int, int]:
    try:
        return date_range(text, zone)
    except Invalid:
        text = f"{option}: {text} is no day, write it as 2026-11-01"
        raise Invalid(text, rule="day") from None


class Filter(NamedTuple):
    """What an answer must be; "" leaves it open."""

    start: int
    end: int
    institution: str
    patient: str
    doctor: str
    item: str
    answer: str
    reason: str

    @classmethod
    def of(cls, gateway: Gateway, *, since: str, until: str, **chosen: str) -> Filter:
        """The filter that the options of a command say. Raises Invalid."""
        start, end = period(gateway, since, until)
        return cls(start=start, end=end, **chosen)

    def has(self, answer: DoctorAnswer) -> bool:
        """Whether an answer is one of them."""
        return (
            self.institution in ("", answer.institution)
            and self.patient in ("", answer.patient)
            and self.doctor in ("", answer.user)
            and self.item in ("", *answer.items)
            and self.answer in ("", answer.state)
            and self.reason in ("", ground_of(answer), *answer.flags)
            and self.start <= moment(answer.authored) < self.end
        )
