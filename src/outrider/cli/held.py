"""`outrider held`: mail that is kept here until its receivers ask for it (AMDP-6)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import ask
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import opened, prepared
from outrider.holding.facility.held_errands import REFUND
from outrider.holding.facility.held_records import HeldCopy, Listed
from outrider.holding.facility.held_store import HeldStore, open_held_store
from outrider.holding.facility.held_upkeep import add_errand, copies, extend, listed, one_listed
from outrider.holding.facility.held_upkeep import withdraw as withdraw_copies
from outrider.message.summary import displayable
from outrider.runtime.commands import moment

PAGE = 500
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group()
def held() -> None:
    """Look after mail that is kept here until its receivers ask for it."""


@held.command("list")
@click.option("--all", "past", is_flag=True, help="Also what nothing can be had of any more.")
@config_option
@json_option
def list_(config_path: Path, past: bool, as_json: bool) -> None:
    """List messages: what is held, how many copies are in which state, until when."""
    assembly = prepared(config_path)
    with opened(assembly, open_held_store) as store:
        rows = (_message_row(one) for one in _all(store, past=past))
        columns = ("id", "held", "expires", "size", "sender", "class", "copies", "subject")
        print_rows(rows, tuple((key, key) for key in columns), as_json=as_json)


@held.command()
@click.argument("message")
@config_option
@json_option
def show(config_path: Path, message: str, as_json: bool) -> None:
    """Show what became of each recipient's copy of a message."""
    assembly = prepared(config_path)
    with opened(assembly, open_held_store) as store:
        _found(store, message)
        rows = (_copy_row(one) for one in _copies(store, message))
        columns = ("copy", "recipient", "state", "since", "expires", "by", "envelope")
        print_rows(rows, tuple((key, key) for key in columns), as_json=as_json)


@held.command()
@click.argument("message")
@click.option("--to", "recipients", multiple=True, help="Only this recipient's copy; may be repeated.")
@dry_run_option
@config_option
@json_option
def withdraw(
    config_path: Path, message: str, recipients: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Take copies back that have not been retrieved. Exit code 1 when there is none.

    From that moment nobody gets them; an envelope that has arrived opens nothing, and one that waits in the
    queue is dropped.
    """
    config_path = config_path.absolute()  # the working directory becomes the configuration's
    assembly = prepared(config_path)
    with opened(assembly, open_held_store) as store:
        _found(store, message)
        wanted = _chosen(store, message, recipients)
        if dry_run:
            taken = [one for one in wanted if not one.state.is_final]
        else:
            taken = _withdrawn(store, message, [one.number for one in wanted])
    result = "would be withdrawn" if dry_run else "withdrawn"
    rows = [{"copy": one.number, "recipient": one.recipient, "result": result} for one in taken]
    print_rows(rows, tuple((key, key) for key in ("copy", "recipient", "result")), as_json=as_json)
    if not dry_run:
        _drop_envelopes(config_path, taken)
    if not taken:
        fail(f"nothing of {message} can be withdrawn")


@held.command("extend")
@click.argument("message")
@click.argument("until", metavar="TIME")
@dry_run_option
@config_option
@json_option
def extend_(config_path: Path, message: str, until: str, dry_run: bool, as_json: bool) -> None:
    """Let what can still be had be had for TIME (like 12h or 30d) from now, at most [amdp.holding] max_keep
    after it was held. Exit code 1 when nothing is extended.

    Envelopes that are out state the time that was; links work until the new one.
    """
    assembly = prepared(config_path)
    now = time.time()
    wanted = now + _seconds(until)
    with opened(assembly, open_held_store) as store:
        found = _found(store, message)
        latest = found.message.held_at + assembly.config.amdp.holding.max_keep
        if wanted > latest:
            fail(f"{message} may be kept until {moment(latest)} ([amdp.holding] max_keep)")
        if dry_run:
            able = (one for one in _copies(store, message) if not one.state.is_final)
            extended = [one for one in able if now < one.expires < wanted]
        else:
            with store.transaction():
                extended = extend(store, message, wanted, now)
    rows = [{"copy": one.number, "recipient": one.recipient, "expires": moment(wanted)} for one in extended]
    print_rows(rows, tuple((key, key) for key in ("copy", "recipient", "expires")), as_json=as_json)
    if not extended:
        fail(f"nothing of {message} can be extended to {moment(wanted)}")


def _seconds(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None:
        fail(f"{text!r} is no time: write a number and s, m, h or d, like 30d", 2)
    return int(found[1]) * _UNITS[found[2]]


def _found(store: HeldStore, message: str) -> Listed:
    found = one_listed(store, message)
    if found is None:
        fail(f"no message {message} is held here, or it was long ago; `outrider held list --all` names them")
    return found


def _all(store: HeldStore, *, past: bool) -> Iterator[Listed]:
    after = (0.0, "")
    while page := listed(store, after=after, limit=PAGE, past=past):
        yield from page
        after = (page[-1].message.held_at, page[-1].message.id)


def _copies(store: HeldStore, message: str) -> Iterator[HeldCopy]:
    after = -1
    while page := copies(store, message, after, PAGE):
        yield from page
        after = page[-1].number


def _chosen(store: HeldStore, message: str, recipients: Sequence[str]) -> list[HeldCopy]:
    everything = list(_copies(store, message))
    if not recipients:
        return everything
    known = {one.recipient.casefold() for one in everything}
    missing = [one for one in recipients if one.casefold() not in known]
    if missing:
        fail(f"{message} was not held for {', '.join(missing)}")
    wanted = {one.casefold() for one in recipients}
    return [one for one in everything if one.recipient.casefold() in wanted]


def _withdrawn(store: HeldStore, message: str, numbers: Sequence[int]) -> list[HeldCopy]:
    taken: list[HeldCopy] = []
    now = time.time()
    for start in range(0, len(numbers), PAGE):
        with store.transaction():
            some = withdraw_copies(store, message, numbers[start : start + PAGE], now)
            for one in some:
                if one.postage and not one.proven_at:
                    add_errand(store, one, REFUND, "", "", now)
        taken += some
    return taken


def _drop_envelopes(config_path: Path, taken: Sequence[HeldCopy]) -> None:
    """Envelopes that are still on their way would only be asked about in vain."""
    waiting = [one.envelope for one in taken if not one.notified_at and not one.proven_at]
    for start in range(0, len(waiting), PAGE):
        arguments = {
            "ids": waiting[start : start + PAGE],
            "change": "drop",
            "by": "outrider held withdraw",
        }
        for _ in ask(config_path, "queue.change", arguments):
            pass


def _message_row(one: Listed) -> dict[str, Any]:
    message = one.message
    return {
        "id": message.id,
        "held": moment(message.held_at),
        "expires": moment(one.expires) if one.expires else "",
        "size": message.size,
        "sender": message.sender,
        "class": message.mail_class,
        "copies": ", ".join(f"{count} {state}" for state, count in one.states),
        "subject": displayable(message.subject, 100),
        "thread": message.references[0] if message.references else message.message_id,
        "content": one.has_content,
    }


def _copy_row(one: HeldCopy) -> dict[str, Any]:
    return {
        "copy": one.number,
        "recipient": one.recipient,
        "state": one.state.value,
        "since": moment(max(one.notified_at, one.proven_at, one.opened_at, one.received_at, one.ended_at))
        if one.notified_at or one.proven_at or one.opened_at or one.ended_at
        else "",
        "expires": moment(one.expires),
        "by": "unauthenticated receiver" if one.by_link else one.proven_by,
        "opened": moment(one.opened_at) if one.opened_at else "",
        "confirmed": moment(one.received_at) if one.received_at else "",
        "envelope": one.envelope,
    }
