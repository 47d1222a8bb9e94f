"""`outrider policy`: try the rules on a described or recorded message, look for mistakes, list facts."""

from __future__ import annotations

import base64
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from outrider.cli.asking import ask
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows, shown

if TYPE_CHECKING:
    from outrider.model.facts import Fact, Facts
    from outrider.policy.trial import StageTrial, Trial


@click.group()
def policy() -> None:
    """Test the policy without sending anything, look for mistakes in it, and list what rules can ask."""


@policy.command()
@click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE", help='A fact; true, 12, ["a"] or text.')
@click.option("--describe", type=click.Path(path_type=Path), help="A TOML or JSON file of facts.")
@click.option(
    "--message",
    metavar="FILE|ID",
    help="A recorded message: a file, - for stdin, or the id of one that the server has or remembers.",
)
@config_option
@json_option
def test(
    config_path: Path, facts: tuple[str, ...], describe: Path | None, message: str | None, as_json: bool
) -> None:
    """Run every stage on a described or recorded message: facts, rules, what EHLO announces, the verdict.

    Exit code 1 when the message would be refused or deferred, or every recipient of it.
    """
    from outrider.config.problems import ConfigError
    from outrider.policy.trial import DescriptionError, try_policy
    from outrider.runtime.starting import prepare

    description = _description(facts, describe)
    try:
        known, recipients = _known(config_path, description, message)
        _, assembly = prepare(config_path)
        trial = try_policy(assembly.policy, known, recipients)
    except ConfigError as error:
        fail(str(error))
    except DescriptionError as error:
        fail(str(error), 2)
    _print_trial(trial, known, as_json)
    last = trial.stages[-1].stage
    sys.exit(0 if any(one.verdict.admits for one in trial.stages if one.stage is last) else 1)


def _known(
    config_path: Path, description: dict[str, object], message: str | None
) -> tuple[Facts, tuple[str, ...]]:
    """The facts to try, and the recipients where they are recorded. What is described goes first."""
    from outrider.model.facts import Facts
    from outrider.policy.trial import described_facts, recorded_facts

    if message is None or message == "-" or Path(message).exists():
        return described_facts(description, _octets(message) if message else b""), ()
    row = next(ask(config_path, "explain", {"id": message}))
    content = _recorded_content(config_path, message)
    recorded, recipients = recorded_facts(row, content)
    described = described_facts(description)
    replaced = {fact.name for fact in described}
    facts = Facts((*(fact for fact in recorded if fact.name not in replaced), *described))
    return facts, () if "recipient" in description else recipients


def _recorded_content(config_path: Path, message_id: str) -> bytes:
    """The content as the server keeps it, its own trace on top; b"" when it is gone."""
    for row in ask(config_path, "queue.show", {"id": message_id}):
        if "summary" not in row:
            return b""
    rows = ask(config_path, "queue.content", {"id": message_id, "part": "content"})
    return b"".join(base64.b64decode(row["octets"]) for row in rows)


@policy.command("lint")
@config_option
@json_option
def lint_(config_path: Path, as_json: bool) -> None:
    """Look for rules that are in vain or dangerous: never reached, contradictory, admitting on claims.

    Exit code 1 when something was found.
    """
    from outrider.config.problems import ConfigError
    from outrider.config.rule_files import read_rules
    from outrider.policy.lint import Surroundings, lint
    from outrider.runtime.starting import prepare

    try:
        loaded, assembly = prepare(config_path)
        places = read_rules(loaded).places
    except ConfigError as error:
        fail(str(error))
    findings = lint(assembly.policy, Surroundings.of(assembly.config))
    for finding in findings:
        problem = places[finding.rule.number].problem(finding.text, *finding.key)
        if as_json:
            print_json(
                {
                    "kind": finding.kind,
                    "rule": finding.rule.name,
                    "file": problem.file,
                    "line": problem.line,
                    "key": problem.key,
                    "text": finding.text,
                }
            )
        else:
            click.echo(f"{problem.file}:{problem.line}: {shown(finding)}")
    if not findings and not as_json:
        click.echo(f"{len(assembly.policy.rules)} rules: nothing to say against them")
    sys.exit(1 if findings else 0)


@policy.command("facts")
@json_option
def facts_(as_json: bool) -> None:
    """List every fact that a rule can ask for: its type, when it is known, what it is worth."""
    from outrider.policy.fact_names import CATALOGUE

    rows = [
        {
            "name": kind.name,
            "type": kind.type.value,
            "stage": kind.stage.value,
            "worth": kind.worth.name.lower(),
            "looked_up": kind.looked_up,
            "meaning": kind.meaning,
        }
        for kind in CATALOGUE.values()
    ]
    columns = tuple((key, key) for key in ("name", "type", "stage", "worth", "meaning"))
    print_rows(rows, columns, as_json=as_json)


# -- printing --------------------------------------------------------------------------------------------


def _print_trial(trial: Trial, facts: Facts, as_json: bool) -> None:
    if as_json:
        print_json({"facts": [_fact_row(fact) for fact in facts]})
        print_json({"announced": list(trial.announced)})
        for stage in trial.stages:
            print_json(_stage_row(stage))
        return
    click.echo("facts")
    for fact in facts:
        click.echo(f"  {shown(fact)}")
    declared = "; ".join(trial.announced) or "nothing, all codes are taken"
    click.echo(f"announced at EHLO over AMTP: {declared}")
    for line in _stage_lines(trial):
        click.echo(shown(line))


def _stage_lines(trial: Trial) -> Iterator[str]:
    for stage in trial.stages:
        verdict = stage.verdict
        about = f" {stage.about}" if stage.about else ""
        reply = f": {verdict.reply}" if verdict.reply else ""
        yield f"{stage.stage.value}{about}: {verdict.action.value}{reply}"
        for told in stage.told:
            yield f"  {told}"


def _stage_row(stage: StageTrial) -> dict[str, Any]:
    verdict = stage.verdict
    return {
        "stage": stage.stage.value,
        "about": stage.about,
        "rules": list(stage.told),
        "action": verdict.action.value,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "reply": str(verdict.reply) if verdict.reply else "",
    }


def _fact_row(fact: Fact) -> dict[str, Any]:
    value = list(fact.value) if isinstance(fact.value, tuple) else fact.value
    return {
        "name": fact.name,
        "value": value,
        "provenance": fact.provenance.name.lower(),
        "how": fact.how,
    }


# -- reading ---------------------------------------------------------------------------------------------


def _description(facts: tuple[str, ...], describe: Path | None) -> dict[str, object]:
    description: dict[str, object] = {}
    if describe is not None:
        try:
            text = describe.read_text("utf-8")
            found = json.loads(text) if describe.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            fail(f"{describe}: {error}")
        if not isinstance(found, dict):
            fail(f"{describe}: holds no table of facts")
        description.update(found)
    for text in facts:
        name, equals, value = text.partition("=")
        if not equals:
            fail(f"--fact {text!r}: write NAME=VALUE", 2)
        description[name.strip()] = _value(value)
    return description


def _value(text: str) -> object:
    """true, 12 and ["a"] as such; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _octets(message: str) -> bytes:
    try:
        octets = sys.stdin.buffer.read() if message == "-" else Path(message).read_bytes()
    except OSError as error:
        fail(f"{message}: {error.strerror}")
    return octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
