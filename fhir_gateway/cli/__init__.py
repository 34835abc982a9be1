"""The command line: `fhir-gateway COMMAND`, or `python -m fhir_gateway COMMAND`.

Commands are named in one table and imported when they are used, so that `--help` is quick and a
command pays only for what it needs.
"""

from __future__ import annotations

import getpass
from importlib import import_module
from importlib.util import find_spec

import click

from fhir_gateway import __version__
from fhir_gateway.audit.operator import OPERATOR

#: name -> what `--help` says; each is `command` in the module of its name.
COMMANDS: dict[str, str] = {
    "serve": "Serve the gateway over HTTP.",
    "worker": "Do long work: exports and other answers that come later.",
    "jobs": "List, show and cancel long work.",
    "mllp": "Take in HL7 v2 messages over MLLP.",
    "send": "Send HL7 v2 messages over MLLP, to try a connection out.",
    "convert": "Print the FHIR that a message becomes, and explain each value of it.",
    "load": "Take in files: FHIR bundles, HL7 v2 messages, DICOM objects.",
    "tabular": "Load tables of hospitals (CSV, NDJSON, a database view) by column maps.",
    "trace": "The message that a resource was made from, field by field.",
    "messages": "What came in and what became of it; what was refused and waits.",
    "institution": "Register institutions, check their entries, issue tokens.",
    "consortium": "Memberships of consortia (医联体): import, list, show, export.",
    "pools": "Shared pools of slots: check files of supply, plan, generate, compare.",
    "clients": "Register systems that ask for access tokens; end tokens.",
    "evaluations": "Import the register of quality evaluations.",
    "endpoints": "Check which Endpoints serve images.",
    "catalogue": "Import, compare and export lists of items, edition by edition.",
    "codes": "Local codes of an institution: work list, proposals, decisions, coverage.",
    "links": "Who is who: questions about two records, their answers, links.",
    "rules": "Lint, simulate, approve, activate and retire rule sets.",
    "profiles": "List and check the profiles, and publish them as a FHIR package.",
    "answers": "Doctors' answers, what they lack, and who relied on what was corrected.",
    "disclosures": "The ledger of what was passed on to whom.",
    "incident": "Gather all that the audit log knows of an incident, in one packet.",
    "retention": "How long what is kept, and remove what was kept long enough.",
    "policy": "Check the site's policy on consent and sensitive classes; follow its changes.",
    "break-glass": "Records opened in an emergency, and their review.",
    "replay": "Decide again what was decided, and compare.",
    "audit": "The audit log: signed heads, its check, keys, proofs, witnesses.",
    "backup": "Copy a SQLite store into a file while the gateway serves.",
    "copy": "Move a store to another database, SQLite or PostgreSQL.",
    "remap": "Let what is stored follow a map of local codes that has changed.",
    "reindex": "Bring search rows up to date after an upgrade, while the gateway serves.",
    "check": "Check the installation, the data folders and the store.",
}


def _module(command: str) -> str:
    return f"{__name__}.{command.replace('-', '_')}"


class _Commands(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if find_spec(_module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(_module(cmd_name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="fhir-gateway")
@click.option("--operator", default="", help="Who works here, for the audit log: login name.")
@click.pass_context
def main(context: click.Context, operator: str) -> None:
    """FHIR gateway for mutual recognition of laboratory and imaging results.

    Every setting also has an environment variable, FHIR_GATEWAY_…; see docs/settings.md. Options
    win over variables.
    """
    if context.invoked_subcommand not in _SERVING:
        named = OPERATOR.set(operator or _login_name())
        context.call_on_close(lambda: OPERATOR.reset(named))


#: What runs on without anybody: its work is the gateway's own.
_SERVING = frozenset({"serve", "worker"})


def _login_name() -> str:
    """The name of the account, "" where the machine knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
