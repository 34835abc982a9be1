"""`fhir-gateway messages`: what came in, message by message, and what waits. docs/messages.md"""

from __future__ import annotations

import click

from fhir_gateway.cli.messages_dead import dead_group


@click.group("messages")
def command() -> None:
    """What came in by each door and what became of it; what was refused and waits."""


command.add_command(dead_group)
