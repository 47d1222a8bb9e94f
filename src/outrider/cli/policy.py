"""`outrider policy`: try the rules on a described or recorded message; list the facts they can ask for."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows, shown


@click.group()
def policy() -> None:
    """Test the policy without sending anything, and list what rules can ask."""


@policy.command()
@click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE", help='A fact; true, 12, ["a"] or text.')
@click.option("--describe", type=click.Path(path_type=Path), help="A TOML file of facts.")
@click.option("--message", type=click.Path(path_type=Path), help="A recorded message; - for stdin.")
@config_option
@json_option
def test(
    config_path: Path, facts: tuple[str, ...], describe: Path | None, message: Path | None, as_json: bool
) -> None:
    """Run every stage on a described message: which rules apply, because of what, and the verdict.

    Exit code 1 when the message would be refused or deferred.
    """
    from outrider.config.problems import ConfigError
    from outrider.policy.trial import DescriptionError, described_facts, try_policy
    from outrider.runtime.starting import prepare

    description = _description(facts, describe)
    octets = _octets(message) if message else b""
    try:
        _, assembly = prepare(config_path)
        trial = try_policy(assembly.policy, described_facts(description, octets))
    except ConfigError as error:
        fail(str(error))
    except DescriptionError as error:
        fail(str(error), 2)
    for stage in trial.stages:
        _print_stage(stage, as_json)
    sys.exit(0 if trial.verdict.admits else 1)


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
            "meaning": kind.meaning,
        }
        for kind in CATALOGUE.values()
    ]
    columns = tuple((key, key) for key in ("name", "type", "stage", "worth", "meaning"))
    print_rows(rows, columns, as_json=as_json)


def _print_stage(stage: Any, as_json: bool) -> None:
    verdict = stage.verdict
    if as_json:
        print_json(
            {
                "stage": stage.stage.value,
                "rules": list(stage.told),
                "action": verdict.action.value,
                "rule": verdict.rule,
                "reason": verdict.reason,
                "reply": str(verdict.reply) if verdict.reply else "",
            }
        )
        return
    reply = f": {verdict.reply}" if verdict.reply else ""
    click.echo(f"{stage.stage.value}: {verdict.action.value}{shown(reply)}")
    for told in stage.told:
        click.echo(f"  {shown(told)}")


def _description(facts: tuple[str, ...], describe: Path | None) -> dict[str, object]:
    description: dict[str, object] = {}
    if describe is not None:
        try:
            description.update(tomllib.loads(describe.read_text("utf-8")))
        except (OSError, ValueError) as error:
            fail(f"{describe}: {error}")
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


def _octets(message: Path) -> bytes:
    try:
        octets = sys.stdin.buffer.read() if str(message) == "-" else message.read_bytes()
    except OSError as error:
        fail(f"{message}: {error.strerror}")
    return octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
