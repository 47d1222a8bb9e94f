"""`outrider consent`: what senders ask of users by MT2 extensions, and what the users say (MT2-20)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import ask
from outrider.cli.extension_store import extension_or_fail, user_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import address_or_fail, opened, prepared
from outrider.extension_state.choices import open_extension_store
from outrider.extension_state.store import ExtensionStore
from outrider.extensions.choices import ANYBODY, Waiting, user_key
from outrider.extensions.interface import Consent
from outrider.runtime.assembly import Assembly
from outrider.runtime.commands import moment

_COLUMNS = tuple(
    (key, key) for key in ("number", "user", "extension", "sender", "proven", "word", "since", "text")
)


@click.group()
def consent() -> None:
    """Show what waits for a user's word, and give it. Without that word nothing is done and nothing
    answered."""


@consent.command("list")
@click.argument("user", metavar="[USER@DOMAIN]", required=False)
@config_option
@json_option
def list_(config_path: Path, user: str | None, as_json: bool) -> None:
    """Show what waits, and what has been said once for all."""
    assembly = prepared(config_path)
    who = "" if user is None else user_or_fail(assembly, user)
    with opened(assembly, open_extension_store) as store:
        rows = [_waiting_row(one) for one in store.waiting(time.time(), who)]
        for name, one, sender, word in store.consents(who):
            rows.append({"user": one, "extension": name, "sender": sender, "word": word.value})
    print_rows(rows, _COLUMNS, as_json=as_json)


def _waiting_row(one: Waiting) -> dict[str, Any]:
    return {
        "number": one.number,
        "user": one.user,
        "extension": one.extension,
        "sender": one.sender,
        "proven": one.proven,
        "word": "waits",
        "since": moment(one.at),
        "text": one.text,
    }


@consent.command()
@click.argument("what", nargs=-1, required=True, metavar="NUMBER... | USER EXTENSION SENDER")
@config_option
@json_option
def allow(config_path: Path, what: tuple[str, ...], as_json: bool) -> None:
    """Say yes: to requests that wait, by their numbers; or once for all, for a user, an extension and a
    sender (`*` = anybody whose address is proven)."""
    if not _are_numbers(what):
        _say(config_path, what, Consent.ALLOWED, as_json=as_json)
        return
    rows = []
    for number in what:
        done = list(ask(config_path.absolute(), "extension.allow", {"number": int(number)}))
        rows += [{"number": number, **row} for row in done]
    print_rows(rows, (("number", "number"), ("result", "result")), as_json=as_json)


@consent.command()
@click.argument("what", nargs=-1, required=True, metavar="NUMBER... | USER EXTENSION SENDER")
@config_option
@json_option
def deny(config_path: Path, what: tuple[str, ...], as_json: bool) -> None:
    """Say no: the sender is told nothing. By numbers, or once for all as with `allow`."""
    if not _are_numbers(what):
        _say(config_path, what, Consent.DENIED, as_json=as_json)
        return
    with opened(prepared(config_path), open_extension_store) as store:
        rows = [_denied(store, int(number)) for number in what]
    print_rows(rows, (("number", "number"), ("result", "result")), as_json=as_json)
    if not all(row["changed"] for row in rows):
        raise SystemExit(1)


def _denied(store: ExtensionStore, number: int) -> dict[str, Any]:
    changed = store.answered(number, Consent.DENIED)
    return {"number": number, "changed": changed, "result": "denied" if changed else "waits no more"}


@consent.command()
@click.argument("what", nargs=3, metavar="USER EXTENSION SENDER")
@config_option
@json_option
def forget(config_path: Path, what: tuple[str, ...], as_json: bool) -> None:
    """Take back what was said once for all: the user is asked again."""
    _say(config_path, what, Consent.ASK, as_json=as_json)


def _are_numbers(what: tuple[str, ...]) -> bool:
    return all(one.isascii() and one.isdigit() and len(one) <= 15 for one in what)


def _say(config_path: Path, what: tuple[str, ...], word: Consent, *, as_json: bool) -> None:
    if len(what) != 3:
        fail("name requests by their numbers, or a user, an extension and a sender", 2)
    assembly: Assembly = prepared(config_path)
    who, name = user_or_fail(assembly, what[0]), extension_or_fail(what[1]).extension.name
    sender = ANYBODY if what[2] == ANYBODY else user_key(address_or_fail(what[2]))
    with opened(assembly, open_extension_store) as store:
        store.set_consent(name, who, sender, word)
    row = {"user": who, "extension": name, "sender": sender, "word": word.value}
    print_rows([row], tuple((key, key) for key in row), as_json=as_json)
