"""`fhir-gateway rules`: rule sets, from a draft to one that is in force, and who did what."""

from __future__ import annotations

import json

import click

from fhir_gateway.cli.rules_common import linted, on_file, severity_sign, with_gateway
from fhir_gateway.cli.rules_simulate import simulate
from fhir_gateway.context import Gateway
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.recognition.rules_diff import differences
from fhir_gateway.recognition.rules_lifecycle import content_digest
from fhir_gateway.recognition.rules_proofs import missing

_WHAT = "VERSION|ID"


@click.group("rules")
def command() -> None:
    """Rule sets of recognition: draft, simulate, approve, activate, retire.

    A rule set is a PlanDefinition in the store. The newest active one whose period has begun is in
    force; without one every question is answered "cannot decide". Rules of an area or of an
    institution narrow those of the nation. docs/rules.md
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, as_json: bool) -> None:
    """Lists the rule sets: version, status, period, level, number of rules; * is in force."""
    found = await publish.rule_sets(gateway)
    in_force = await publish.in_force(gateway)
    now, zone = gateway.clock.now(), gateway.settings.zone
    rows = [
        {
            "version": one.version,
            "id": one.stored.id,
            "status": one.status,
            "in_force": one.rule_set is not None and one.rule_set.in_force(now, zone),
            "period": _period(one.rule_set),
            "level": one.rule_set.scope.said() if one.rule_set else "",
            "rules": len(one.rule_set.rules) if one.rule_set else 0,
            "experimental": bool(one.definition.get("experimental")),
            "title": one.definition.get("title", ""),
        }
        for one in found
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        sign = "*" if row["in_force"] else " "
        click.echo(
            f"{sign} {row['version']:10} {row['status']:8} {row['period']:24} "
            f"{row['rules']:3} rules  {row['level']}  {row['id']}  {row['title']}"
        )
    if in_force is None:
        click.echo('None is in force: every question is answered "cannot decide".')


def _period(rule_set: RuleSet | None) -> str:
    if rule_set is None:
        return "cannot be read"
    return f"{rule_set.start or '…'} – {rule_set.end or '…'}"


@command.command("show")
@click.argument("what", metavar=_WHAT)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@with_gateway
async def show(gateway: Gateway, *, what: str, as_json: bool) -> None:
    """Shows a rule set: each rule, what it does when it is not met, and the clause it rests on.

    For a draft also who simulated and approved it, and what is missing before it can be activated.
    """
    one = publish.named(await publish.rule_sets(gateway), what)
    rule_set = one.rule_set or load_rule_set(one.definition)
    digest = content_digest(one.definition)
    proofs = await publish.proofs(gateway, one)
    lacks = missing(proofs, digest) if one.status == "draft" and not rule_set.experimental else ""
    if as_json:
        rules = [
            {"rule": rule.name, "severity": rule.severity, "title": rule.title.zh,
             "title_en": rule.title.en, "clause": rule.clause}
            for rule in rule_set.rules
        ]  # fmt: skip
        steps = [
            {"step": proof.step, "by": proof.person.name, "recorded": proof.recorded,
             "counts": proof.digest == digest, "says": proof.says}
            for proof in proofs
        ]  # fmt: skip
        row = {"rule_set": rule_set.canonical, "status": one.status, "digest": rule_set.digest,
               "level": rule_set.scope.said(), "rules": rules, "steps": steps,
               "missing": lacks}  # fmt: skip
        click.echo(json.dumps(row, ensure_ascii=False))
        return
    click.echo(f"{rule_set.canonical} {rule_set.status}, rules {rule_set.digest[:16]}")
    for rule in rule_set.rules:
        click.echo(f"  {rule.name:26} {rule.severity:8} {rule.criterion.effect:18} {rule.clause}")
    for proof in proofs:
        stale = "" if proof.digest == digest else ", edited since: does not count"
        click.echo(f"{proof.step} by {proof.person.name}, {proof.recorded}: {proof.says}{stale}")
    if lacks:
        click.echo(f"Missing: {lacks}")


@command.command("diff")
@click.argument("before", metavar=f"{_WHAT}|FILE")
@click.argument("after", metavar=f"{_WHAT}|FILE")
@with_gateway
async def diff(gateway: Gateway, *, before: str, after: str) -> None:
    """Says what another version changes: rules, parameters, windows, severities, citations.

    Exit code 1 when there is a difference.
    """
    sides = []
    for what in (before, after):
        definition = on_file(what)
        if definition is None:
            definition = publish.named(await publish.rule_sets(gateway), what).definition
        sides.append(load_rule_set(definition))
    found = list(differences(sides[0], sides[1]))
    for line in found:
        click.echo(line)
    if found:
        raise SystemExit(1)
    click.echo("The same rules")


@command.command("lint")
@click.argument("what", metavar=f"FILE|{_WHAT}")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def lint(gateway: Gateway, *, what: str, strict: bool, as_json: bool) -> None:
    """Looks for what is wrong or odd in a rule set: contradictions, gaps, unreachable rules.

    Exit code 1 when there is an error, which stops activation; with --strict also for warnings.
    """
    issues = await linted(gateway, what)
    if as_json:
        rows = [
            {"severity": one.severity, "element": one.expression or "", "rule": one.rule,
             "text": one.diagnostics}
            for one in issues
        ]  # fmt: skip
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        for one in issues:
            click.echo(f"{severity_sign(one)} {one.expression}: {one.diagnostics} [{one.rule}]")
        counted = {name: 0 for name in ("error", "warning", "information")}
        for one in issues:
            counted[one.severity] += 1
        told = ", ".join(f"{number} {name}" for name, number in counted.items())
        click.echo(told if issues else "Nothing to say")
    failing = ("error", "warning") if strict else ("error",)
    if any(one.severity in failing for one in issues):
        raise SystemExit(1)


@command.command("check")
@click.argument("what", metavar=f"{_WHAT}|FILE")
@with_gateway
async def check(gateway: Gateway, *, what: str) -> None:
    """Checks that a rule set can be loaded, and says every fault; `lint` looks further."""
    definition = on_file(what)
    if definition is None:
        definition = publish.named(await publish.rule_sets(gateway), what).definition
    rule_set = load_rule_set(definition)
    click.echo(f"{rule_set.canonical}: {len(rule_set.rules)} rules, nothing wrong")


@command.command("add")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@with_gateway
async def add(gateway: Gateway, *, path: str) -> None:
    """Stores a draft from a file, or the next state of one, under the id that it has."""
    definition = on_file(path)
    assert definition is not None
    outcome = await publish.add(gateway, definition)
    click.echo(f"{definition.get('version', '')} {outcome}")


@command.command("approve")
@click.argument("what", metavar=_WHAT)
@click.option("--by", required=True, help="Who approves: NAME or 'NAME (Practitioner/ID)'.")
@with_gateway
async def approve(gateway: Gateway, *, what: str, by: str) -> None:
    """Records that a person approves a draft that another person has simulated.

    An edit afterwards voids both.
    """
    errors = [one for one in await linted(gateway, what) if one.severity == "error"]
    if errors:
        raise click.ClickException(
            f"{what} has {len(errors)} errors and is not approved; see fhir-gateway rules lint"
        )
    one = await publish.approve(gateway, what, by)
    click.echo(f"{one.version} approved by {by}")


@command.command("activate")
@click.argument("what", metavar=_WHAT)
@click.option(
    "--demonstration",
    is_flag=True,
    help="Activate an experimental rule set, which is not for use with patients.",
)
@with_gateway
async def activate(gateway: Gateway, *, what: str, demonstration: bool) -> None:
    """Puts a rule set in force and retires the one that it replaces, in one commit.

    It must be simulated and approved by two persons; one that is experimental becomes active in a
    demonstration alone.
    """
    _say(await publish.activate(gateway, what, demonstration=demonstration), what)


@command.command("retire")
@click.argument("what", metavar=_WHAT)
@with_gateway
async def retire(gateway: Gateway, *, what: str) -> None:
    """Takes a rule set out of force, for good: its version is never used again."""
    _say(await publish.retire(gateway, what), what)
    if await publish.in_force(gateway) is None:
        click.echo('None is in force now: every question is answered "cannot decide".')


def _say(changes: list[str], what: str) -> None:
    for change in changes:
        click.echo(change)
    if not changes:
        click.echo(f"{what} unchanged")


command.add_command(simulate)
