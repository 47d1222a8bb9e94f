"""`outrider vacation`: what is answered for users who are away."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import address_or_fail, opened, prepared
from outrider.lists.store import Away, open_list_store
from outrider.lists.vacation import vacation_settings
from outrider.model.address import Address
from outrider.routing.local_users import Deliverable
from outrider.runtime.assembly import Assembly
from outrider.runtime.commands import moment

MAX_TEXT = 65_536
"""Octets of an answer."""
_COLUMNS = tuple((key, key) for key in ("user", "now", "from", "until", "subject"))


@click.group()
def vacation() -> None:
    """Set, show and end the answers for users who are away."""


@vacation.command("set")
@click.argument("user", metavar="USER@DOMAIN")
@click.option("--subject", default="", help="Default: Auto: and the subject of the mail answered.")
@click.option("--from", "begins", default="", metavar="TIME", help="2026-12-24 or 2026-12-24T12:00; UTC.")
@click.option("--until", "ends", default="", metavar="TIME", help="The same; default: until `off`.")
@click.option("--dry-run", is_flag=True, help="Check, and change nothing.")
@config_option
@json_option
def set_(
    config_path: Path, user: str, subject: str, begins: str, ends: str, dry_run: bool, as_json: bool
) -> None:
    """Answer for a user; the text is standard input. It holds within five seconds, without a reload."""
    text = sys.stdin.buffer.read(MAX_TEXT + 1)
    if len(text) > MAX_TEXT:
        fail(f"an answer has at most {MAX_TEXT} octets", 2)
    if not text.strip():
        fail("no text on standard input", 2)
    away = Away(" ".join(subject.split()), text.decode("utf-8", "replace"), _time(begins), _time(ends))
    if away.ends and away.ends <= max(away.begins, time.time()):
        fail("it would be over before it begins", 2)
    assembly = prepared(config_path)
    who = _user(assembly, user)
    if not dry_run:
        with opened(assembly, open_list_store) as store:
            store.set_away(who, away)
    print_rows([_row(who, away)], _COLUMNS, as_json=as_json)


@vacation.command()
@click.argument("user", metavar="[USER@DOMAIN]", required=False)
@config_option
@json_option
def show(config_path: Path, user: str | None, as_json: bool) -> None:
    """Show who is away, or what is answered for one user (with --json the text too)."""
    assembly = prepared(config_path)
    who = None if user is None else _user(assembly, user)
    with opened(assembly, open_list_store) as store:
        found = store.away()
    print_rows(
        [_row(name, away) for name, away in found.items() if who in (None, name)], _COLUMNS, as_json=as_json
    )


@vacation.command()
@click.argument("user", metavar="USER@DOMAIN")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@config_option
@json_option
def off(config_path: Path, user: str, dry_run: bool, as_json: bool) -> None:
    """Answer no more. Exit code 1 when the user was not away."""
    assembly = prepared(config_path)
    who = _user(assembly, user)
    with opened(assembly, open_list_store) as store:
        was_away = who in store.away() if dry_run else store.end_away(who)
    if not was_away:
        fail(f"nothing is answered for {who}")
    row = {"user": who, "result": "would be answered for no more" if dry_run else "is answered for no more"}
    print_rows([row], (("user", "user"), ("result", "result")), as_json=as_json)


def _user(assembly: Assembly, text: str) -> str:
    """The user as the store names him: he has a mailbox here, in a domain whose users may be away."""
    address = address_or_fail(text)
    found = assembly.recipients.resolve(address)
    mailbox = None
    if isinstance(found, Deliverable) and len(found.recipients) == 1 and found.recipients[0].is_local:
        mailbox = assembly.recipients.mailbox_of(found.recipients[0].address)
    if mailbox is None:
        fail(f"{text} is no single user's mailbox here")
    if mailbox.domain not in vacation_settings(assembly.config).by_domain:
        fail(f'[domains."{mailbox.domain}".vacation] is not set: its users may not be away')
    return str(Address(mailbox.user, mailbox.domain))


def _time(text: str) -> float:
    if not text:
        return 0.0
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is no time; write 2026-12-24 or 2026-12-24T12:00", 2)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _row(who: str, away: Away) -> dict[str, Any]:
    return {
        "user": who,
        "now": away.is_current(time.time()),
        "from": moment(away.begins),
        "until": moment(away.ends),
        "subject": away.subject,
        "text": away.text,
    }
