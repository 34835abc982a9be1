"""What the subcommands of `fhir-gateway tabular` share: options, maps, errors, progress."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fhir_gateway.cli.load_progress import Progress
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions.intake_tabular_marks import Figures
from fhir_gateway.settings import Settings, load_settings


class CannotStart(click.ClickException):
    """A load that could not start or go on."""

    exit_code = 2


def options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of the store and the folders, as Settings."""

    @click.option("--database", help="Where the data goes: sqlite:///PATH or postgresql://…")
    @click.option("--mappings", help="Folder of the mapping tables.")
    @click.option("--terminology", help="Folder of the catalogue.")
    @click.option("--profiles", help="Folder of rule sets and profiles.")
    @wraps(function)
    def run(**given: Any) -> None:
        names = ("database", "mappings", "terminology", "profiles")
        try:
            settings = load_settings(**{name: given.pop(name) for name in names})
            function(settings, **given)
        except GatewayError as error:
            raise CannotStart("\n  ".join(one.diagnostics for one in error.issues)) from None

    return run


def folder(settings: Settings) -> Path:
    """Where the maps of this site are."""
    return Path(settings.mappings) / "tabular"


def map_paths(settings: Settings, names: tuple[str, ...]) -> list[Path]:
    """The files of maps, of all where none are named. Raises Invalid where there is none."""
    return [map_path(settings, name) for name in names] or sorted(folder(settings).glob("*.toml"))


def map_path(settings: Settings, name: str) -> Path:
    """The file of a map. Raises Invalid where there is none."""
    for file in (Path(name), folder(settings) / f"{name}.toml"):
        if file.is_file():
            return file
    raise Invalid(f"There is no map {name}: name one of {folder(settings)}, or a file",
                  rule="table-map")  # fmt: skip


class Told:
    """Tells the progress of a load in groups instead of bytes."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._resources = progress, 0

    def piece(self, seen: int, total: int, figures: Figures) -> None:
        """So many groups are done."""
        resources = sum(figures.resources.values())
        self._progress.reach(seen, total, max(resources - self._resources, 0))
        self._resources = resources
