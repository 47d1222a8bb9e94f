"""`outrider explain`: what happened to a message, and why, in the words of reply and log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import ask
from outrider.cli.options import config_option, json_option
from outrider.cli.output import print_json, shown


@click.command()
@click.argument("message_id", metavar="ID")
@config_option
@json_option
def explain(config_path: Path, message_id: str, as_json: bool) -> None:
    """Tell what is known of a message (the id of the 250 reply): facts, rules, and every event."""
    for row in ask(config_path, "explain", {"id": message_id}):
        if as_json:
            print_json(row)
        else:
            _print(row)


def _print(row: dict[str, Any]) -> None:
    click.echo(
        f"{row['id']} from {shown(row['sender'])} to {shown(row['recipients'])}: {shown(row['verdict'])}"
    )
    click.echo("\nfacts")
    for fact in row["facts"]:
        how = f", {fact['how']}" if fact.get("how") else ""
        click.echo(f"  {fact['name']} = {shown(fact['value'])} ({fact['provenance']}{shown(how)})")
    click.echo("\nevents")
    for event in row["events"]:
        whom = f" [{shown(event['recipients'])}]" if event.get("recipients") else ""
        click.echo(f"  {event['time']} {event['kind']}: {shown(event['text'])}{whom}")
