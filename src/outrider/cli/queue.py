"""`outrider queue`: look at what waits, and act on it."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from outrider.cli.asking import ask
from outrider.cli.options import config_option, json_option
from outrider.cli.output import age, fail, print_json, print_rows, shown

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIST_COLUMNS = (
    ("id", "id"),
    ("state", "state"),
    ("age", "age"),
    ("size", "size"),
    ("sender", "sender"),
    ("recipients", "recipients"),
    ("destination", "destination"),
    ("attempts", "tries"),
    ("reason", "reason"),
)


class Span(click.ParamType[float]):
    """A time span such as 90s, 15m, 4h or 2d."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a time span; write 90s, 15m, 4h or 2d", param, ctx)
        return int(match[1]) * _UNITS[match[2] or "s"]


@click.group()
def queue() -> None:
    """List, show, hold, release, retry, fail, drop and reroute messages in the queue."""


def filters(function: F) -> F:
    """Which messages are meant."""
    options = [
        click.argument("ids", nargs=-1),
        click.option("--state", multiple=True, type=click.Choice(["ready", "active", "held"])),
        click.option("--sender", default="", help="Address, @domain, or <> for bounces."),
        click.option("--recipient", default="", help="Address or @domain."),
        click.option("--destination", default="", help="Where it is going: domain or route."),
        click.option(
            "--older", type=Span(), default=0.0, help="Received longer ago than this: 90s, 15m, 4h, 2d."
        ),
        click.option("--reason", default="", help="Part of the hold reason or of the last result."),
        click.option("--limit", type=click.IntRange(0), default=0, help="At most so many, oldest first."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _wanted(
    ids: tuple[str, ...], state: tuple[str, ...], limit: int, older: float, **text: str
) -> dict[str, Any]:
    return {"ids": list(ids), "states": list(state), "limit": limit, "older_s": older, **text}


@queue.command("list")
@filters
@click.option("--done", is_flag=True, help="Also messages that have left, while they are remembered.")
@config_option
@json_option
def list_(config_path: Path, as_json: bool, done: bool, **wanted: Any) -> None:
    """List what waits, oldest first."""
    rows = ask(config_path, "queue.list", {**_wanted(**wanted), "include_done": done})
    shown_rows = rows if as_json else ({**row, "age": age(row["age_s"])} for row in rows)
    count = print_rows(shown_rows, _LIST_COLUMNS, as_json=as_json)
    if not as_json and sys.stderr.isatty():
        click.echo(f"{count} item{'s' if count != 1 else ''}", err=True)


@queue.command("count")
@config_option
@json_option
def count_(config_path: Path, as_json: bool) -> None:
    """How many items wait, are being delivered, and are held."""
    columns = (("ready", "ready"), ("active", "active"), ("held", "held"), ("oldest_s", "oldest"))
    print_rows(ask(config_path, "queue.count", {}), columns, as_json=as_json)


@queue.command()
@click.argument("message_id", metavar="ID")
@click.option(
    "--object",
    "part",
    type=click.Choice(["envelope", "headers", "body", "content"]),
    help="Only this, octet for octet. Mail that came by MT2 has the three objects that were sent; of other "
    "mail there are header section, body, and an envelope that is printed as JSON. `content` is the mail as "
    "SMTP has it.",
)
@config_option
@json_option
def show(config_path: Path, message_id: str, part: str | None, as_json: bool) -> None:
    """Show one message: envelope, state of each recipient, attempts, headers."""
    if part in ("headers", "body", "content"):
        _write_octets(config_path, message_id, part)
        return
    for row in ask(config_path, "queue.show", {"id": message_id}):
        if part and "objects" in row:
            _write_octets(config_path, message_id, part)
        elif as_json or part:
            print_json(row["envelope"] if part else row)
        else:
            _print_message(row)


def _write_octets(config_path: Path, message_id: str, part: str) -> None:
    out = sys.stdout.buffer
    for row in ask(config_path, "queue.content", {"id": message_id, "part": part}):
        out.write(base64.b64decode(row["octets"]))
    out.flush()


def _print_message(row: dict[str, Any]) -> None:
    for name in ("id", "received", "size", "priority", "finished"):
        if row.get(name) not in (None, "", 0):
            click.echo(f"{name}: {shown(row[name])}")
    for name, value in row["envelope"].items():
        if name != "recipients" and value not in ("", None, 0, False):
            click.echo(f"{name}: {shown(value)}")
    for item in row["items"]:
        line = f"\nto {shown(item['destination'])}: {item['state']}, {item['attempts']} attempts"
        click.echo(line + (f", next {item['next_attempt']}" if item.get("next_attempt") else ""))
        if item.get("reason"):
            click.echo(f"  held: {shown(item['reason'])}")
        for recipient in item["recipients"]:
            last = recipient.get("last")
            click.echo(f"  {shown(recipient['address'])}: {recipient['state']}")
            if last:
                click.echo(f"    {last['status']} {shown(last['text'])}")
    _print_section("objects (MT2)", {name: f"{size} octets" for name, size in row.get("objects", {}).items()})
    _print_section("", row.get("summary") or {})


def _print_section(title: str, values: dict[str, Any]) -> None:
    if values:
        click.echo(f"\n{title}" if title else "")
    for name, value in values.items():
        click.echo(f"{'  ' if title else ''}{name}: {shown(value)}")


def _act(
    config_path: Path, change: str, dry_run: bool, everything: bool, as_json: bool, **wanted: Any
) -> None:
    argument = wanted.pop("argument", "")
    selection = _wanted(**wanted)
    if not everything and not any(selection.values()):
        fail("say which: message ids, filters such as --recipient @example.org, or --all", 2)
    request = {**selection, "change": change, "argument": argument, "dry_run": dry_run}
    columns = (("id", "id"), ("destination", "destination"), ("result", "result"))
    refused = 0
    rows = []
    for row in ask(config_path, "queue.change", request):
        refused += not row["changed"]
        rows.append(row)
    print_rows(rows, columns, as_json=as_json)
    if not rows:
        fail("nothing in the queue matches")
    if refused:
        fail(f"{refused} of {len(rows)} not changed")


def _action(name: str, text: str, argument: str = "", argument_help: str = "") -> click.Command:
    def run(config_path: Path, dry_run: bool, everything: bool, as_json: bool, **wanted: Any) -> None:
        _act(config_path, name, dry_run, everything, as_json, **wanted)

    run.__doc__ = text
    command: Callable[..., Any] = json_option(config_option(filters(run)))
    command = click.option("--dry-run", is_flag=True, help="Only say what would be changed.")(command)
    command = click.option("--all", "everything", is_flag=True, help="Everything that waits.")(command)
    if argument:
        required = name == "reroute"
        command = click.option(
            f"--{argument}", "argument", default="", required=required, help=argument_help
        )(command)
    return queue.command(name)(command)


_action("hold", "Keep messages back until they are released.", "because", "Why; shown by list and explain.")
_action("release", "Let held messages go on.")
_action("retry", "Try messages now instead of at their next attempt.")
_action("fail", "Return messages to their senders now.", "because", "Why; the sender reads it.")
_action("drop", "Remove messages. Nobody is told.")
_action(
    "reroute", "Send messages another way.", "to", "A way as in [routes]: smtp:host:port, mx, discard: ..."
)


@queue.command()
@click.argument("destination")
@config_option
def pause(config_path: Path, destination: str) -> None:
    """Stop deliveries to a destination until it is resumed."""
    for row in ask(config_path, "queue.pause", {"destination": destination}):
        click.echo(row["result"])


@queue.command()
@click.argument("destination")
@config_option
def resume(config_path: Path, destination: str) -> None:
    """Let deliveries to a paused destination go on."""
    for row in ask(config_path, "queue.resume", {"destination": destination}):
        click.echo(row["result"])


@queue.command()
@config_option
@json_option
def destinations(config_path: Path, as_json: bool) -> None:
    """Destinations with deliveries, back-off or pause: what limits each of them now."""
    columns = (
        ("destination", "destination"),
        ("active", "active"),
        ("waiting", "waiting"),
        ("concurrency", "limit"),
        ("paused", "paused"),
        ("backoff_s", "back-off"),
        ("last_error", "last error"),
    )
    print_rows(ask(config_path, "queue.destinations", {}), columns, as_json=as_json)
