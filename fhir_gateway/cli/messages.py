"""`fhir-gateway messages`: what came in, message by message, and what waits. docs/messages.md"""

from __future__ import annotations

import click

from fhir_gateway.cli.messages_dead import dead_group
from fhir_gateway.cli.messages_list import bytes_command, list_command, show
from fhir_gateway.cli.messages_remap import remap_command
from fhir_gateway.cli.messages_replay import replay_command


@click.group("messages")
def command() -> None:
    """What came in by each door and what became of it; what was refused and waits."""


for _one in (list_command, show, bytes_command, replay_command, remap_command, dead_group):
    command.add_command(_one)
