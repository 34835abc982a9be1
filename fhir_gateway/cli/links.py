"""`fhir-gateway links`: questions about who is who, their answers, and links that were made.

The reviewers' work at the command line, and the way in and out for batch tools; docs/identity.md.
"""

from __future__ import annotations

import click

from fhir_gateway.cli.links_compare import compare
from fhir_gateway.cli.links_decide import assign, confirm, reject, unlink
from fhir_gateway.cli.links_list import list_, show
from fhir_gateway.cli.links_table import export, import_


@click.group("links")
def command() -> None:
    """Records of one person at several institutions: questions, answers, links."""


for one in (list_, show, confirm, reject, unlink, assign, compare, export, import_):
    command.add_command(one)
