"""`outrider fetch`: exchange envelopes for the messages that they announce (AMDP-14, AMDP-15)."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import IO, Any

import click

from outrider.cli.fetch_maildir import MailFolder, mailbox_lines, name_for, read_regular, write_all
from outrider.cli.options import bundle, json_option
from outrider.cli.output import fail, print_rows
from outrider.holding.incoming.mailbox_envelopes import (
    MAX_ENVELOPE,
    Announced,
    HolderAwayError,
    NotHeldError,
    confirm,
    read_announced,
    replacing_headers,
    retrieve,
)
from outrider.holding.pages.attachment_list import attachments_of
from outrider.holding.web import WebCaller
from outrider.message.dates import format_date
from outrider.message.summary import displayable
from outrider.model.content import split_content
from outrider.protocols.amdp.attachments import differences
from outrider.protocols.amdp.values import EnvelopeError
from outrider.runtime.fetching import IPAddress, IPNetwork, caller_for

TEMPORARY = 75
"""EX_TEMPFAIL: what runs us (a pipe of a mail server, cron) tries again."""
_PATH = click.Path(path_type=Path)
_COLUMNS = (
    ("sender", "sender"),
    ("subject", "subject"),
    ("size", "size"),
    ("result", "result"),
    ("text", "text"),
)
ORDINARY = "this is no envelope"
_PIECE = 262_144


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is fetched, and what follows."""

    unproven: bool = False
    receipt: bool = True
    dry_run: bool = False
    max_size: int = 0
    """Octets; 0 = any."""


Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """How holders are found, and by whom they are proven."""

    ca_files: tuple[Path, ...]
    private: list[IPNetwork]
    addresses: dict[str, IPAddress]


def _reach(ca_files: tuple[Path, ...], private: tuple[str, ...], address: tuple[str, ...]) -> Reach:
    try:
        return Reach(ca_files, [ip_network(one) for one in private], dict(_given(one) for one in address))
    except ValueError as error:
        fail(str(error), 2)


def _given(text: str) -> tuple[str, IPAddress]:
    host, _, where = text.partition("=")
    return host.lower(), ip_address(where)


@click.command()
@click.argument("source", type=_PATH, default=Path("-"))
@click.option(
    "--into", type=_PATH, help="Maildir for the message; mail that is no envelope goes there as it is."
)
@click.option("--output", type=_PATH, help="File for the message; default standard output.")
@click.option("--unproven", is_flag=True, help="Envelopes too whose holder no server has called back.")
@click.option(
    "--no-receipt", is_flag=True, help="Do not tell the holder: it keeps the message until it expires."
)
@click.option(
    "--max-size", type=click.IntRange(min=0), default=0, help="Leave what is larger (octets); 0 = no limit."
)
@bundle(
    "reach",
    _reach,
    {
        "ca_files": click.option(
            "--ca", "ca_files", multiple=True, type=_PATH, help="PEM file of CAs; default the system's."
        ),
        "private": click.option(
            "--private", multiple=True, metavar="NETWORK", help="Private network that holders may be in."
        ),
        "address": click.option(
            "--address",
            multiple=True,
            metavar="HOST=ADDRESS",
            help="Where a holder is, instead of asking DNS.",
        ),
    },
)
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@json_option
def fetch(
    source: Path,
    into: Path | None,
    output: Path | None,
    unproven: bool,
    no_receipt: bool,
    max_size: int,
    reach: Reach,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch what the envelope SOURCE announces (a file, - for standard input), or what all envelopes in the
    Maildir SOURCE announce: then each is replaced by its message.

    The message is checked against the digest in its envelope before it is put anywhere; then its holder is
    told. As a hook at delivery: `pipe:` with `outrider fetch --into MAILDIR`. Exit code 75 when a holder is
    away: try again.
    """
    wishes = Wishes(unproven, not no_receipt, dry_run, max_size)
    if into is not None and output is not None:
        fail("--into and --output exclude each other", 2)
    if MailFolder.is_one(source):
        work = _replace_all(MailFolder(source), wishes)
    elif into is not None:
        work = _deliver_one(_octets(source), MailFolder(into), wishes)
    else:
        work = _fetch_one(_octets(source), output, wishes)
    rows = asyncio.run(_with_caller(work, reach))
    # Beside a message on standard output there is no place for words.
    silent = into is None and output is None and not dry_run and not MailFolder.is_one(source)
    _say(rows, as_json=as_json, silent=silent)


def _say(rows: list[Row], *, as_json: bool, silent: bool) -> None:
    bad = [row for row in rows if row["result"] in ("waits", "failed")]
    if silent:
        for row in bad:
            click.echo(f"outrider: {row['text']}", err=True)
    else:
        print_rows(rows, _COLUMNS, as_json=as_json)
    waits = any(row["result"] == "waits" for row in rows)
    sys.exit(TEMPORARY if waits else int(bool(bad)))


def _octets(source: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(source) == "-" else source.read_bytes()
    except OSError as error:
        fail(f"{source}: {error.strerror}")


def _as_sent(octets: bytes) -> bytes:
    """With the line ends of mail, which many mailboxes keep otherwise."""
    return octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")


Work = Callable[[WebCaller], Awaitable[list[Row]]]


async def _with_caller(work: Work, reach: Reach) -> list[Row]:
    try:
        caller = caller_for(reach.ca_files, reach.private, reach.addresses)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 2)
    except ValueError as error:
        fail(str(error), 2)
    async with aclosing(caller):
        return await work(caller)


# -- one message ---------------------------------------------------------------------------------------------


def _fetch_one(octets: bytes, output: Path | None, wishes: Wishes) -> Work:
    async def work(caller: WebCaller) -> list[Row]:
        announced, row = _read(octets, wishes)
        if announced is None or row["result"] != "fetched":
            return [{**row, "result": "failed"} if row["result"] == "left" else row]
        return [await _to_file(caller, announced, output, row, wishes)]

    return work


def _deliver_one(octets: bytes, folder: MailFolder, wishes: Wishes) -> Work:
    """As a hook at delivery: whatever cannot be fetched now or ever is kept as it came, so that nothing is
    lost, or is tried again (AMDP-23)."""

    async def work(caller: WebCaller) -> list[Row]:
        announced, row = _read(octets, wishes)
        if wishes.dry_run:
            return [row]
        folder.make()
        with folder.locked():
            if announced is not None and row["result"] == "fetched":
                row = await _into(caller, folder, octets, announced, row, wishes)
            if row["result"] not in ("fetched", "waits"):
                name = name_for(secrets.token_hex(16), int(time.time()))
                folder.store(name, lambda descriptor: write_all(descriptor, octets))
                row = {**row, "result": "kept", "text": row["text"]}
        return [row]

    return work


async def _to_file(
    caller: WebCaller, announced: Announced, output: Path | None, row: Row, wishes: Wishes
) -> Row:
    with tempfile.TemporaryFile(prefix="outrider-fetch-") as file:
        failed = await _pulled(caller, announced, file.write, row)
        if failed is not None:
            return failed
        row = {**row, "text": _compared(announced, file)}
        file.seek(0)
        if output is None:
            _copy(file, sys.stdout.buffer)
        else:
            with output.open("wb") as target:
                _copy(file, target)
    return await _told(caller, announced, row, wishes)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while octets := source.read(_PIECE):
        target.write(octets)
    target.flush()


# -- a Maildir -----------------------------------------------------------------------------------------------


def _replace_all(folder: MailFolder, wishes: Wishes) -> Work:
    async def work(caller: WebCaller) -> list[Row]:
        rows = []
        with folder.locked():
            for path in list(folder.messages()):
                row = await _replaced(caller, folder, path, wishes)
                if row is not None:
                    rows.append(row)
        return rows

    return work


async def _replaced(caller: WebCaller, folder: MailFolder, path: Path, wishes: Wishes) -> Row | None:
    """None for what is no envelope."""
    try:
        octets = read_regular(path, MAX_ENVELOPE + 1)
    except OSError:  # somebody has moved it meanwhile, or it is no file
        return None
    announced, row = _read(octets, wishes)
    if announced is None and row["text"] == ORDINARY:
        return None
    if announced is None or row["result"] != "fetched":
        return row
    row = await _into(caller, folder, octets, announced, row, wishes)
    if row["result"] == "fetched":
        folder.remove(path)
    return row


async def _into(
    caller: WebCaller,
    folder: MailFolder,
    envelope: bytes,
    announced: Announced,
    row: Row,
    wishes: Wishes,
) -> Row:
    """The message into a Maildir, unless it is there from a time before; then the receipt."""
    name = name_for(announced.envelope.id, announced.envelope.timestamp)
    if folder.find(name) is None:
        with tempfile.TemporaryFile(prefix="outrider-fetch-", dir=folder.path / "tmp") as file:
            failed = await _pulled(caller, announced, file.write, row)
            if failed is not None:
                return failed
            row = {**row, "text": _compared(announced, file)}
            host, date = socket.getfqdn(), format_date(time.time())
            top = replacing_headers(split_content(_as_sent(envelope))[0], announced, host, date)
            folder.store(name, lambda descriptor: _write(descriptor, top, file))
    return await _told(caller, announced, row, wishes)


def _write(descriptor: int, top: bytes, file: IO[bytes]) -> None:
    for octets in mailbox_lines(top, file):
        write_all(descriptor, octets)


# -- steps ---------------------------------------------------------------------------------------------------


def _read(octets: bytes, wishes: Wishes) -> tuple[Announced | None, Row]:
    """What a message announces, and a row whose result is `fetched` if it is to be fetched now."""
    row: Row = {"sender": "", "subject": "", "size": "", "thread": "", "result": "left", "text": ORDINARY}
    try:
        announced = read_announced(_as_sent(octets))
    except EnvelopeError as error:
        return None, {**row, "result": "failed", "text": f"the envelope cannot be used: {error}"}
    if announced is None:
        return None, row
    envelope = announced.envelope
    row = {
        "sender": str(envelope.sender),
        "subject": displayable(envelope.subject, 80),
        "size": envelope.size,
        "thread": announced.thread[0] if announced.thread else "",
        "result": "fetched",
        "text": "",
    }
    if not announced.proven and not wishes.unproven:
        text = f"nobody has called {envelope.holder} back; --unproven fetches it all the same"
        return None, {**row, "result": "left", "text": text}
    if wishes.max_size and envelope.size > wishes.max_size:
        return announced, {**row, "result": "too large", "text": f"larger than {wishes.max_size} octets"}
    if wishes.dry_run:
        return announced, {**row, "result": "would be fetched", "text": f"from {envelope.holder}"}
    return announced, row


async def _pulled(
    caller: WebCaller, announced: Announced, write: Callable[[bytes], object], row: Row
) -> Row | None:
    """Why it could not be fetched."""
    try:
        await retrieve(caller, announced, write)
    except HolderAwayError as error:
        over = announced.envelope.expires <= time.time()
        return {**row, "result": "failed" if over else "waits", "text": str(error)}
    except NotHeldError as error:
        return {**row, "result": "failed", "text": str(error)}
    return None


def _compared(announced: Announced, file: IO[bytes]) -> str:
    """What came otherwise than it was announced (AMDP-4b)."""

    def chunks() -> Iterator[bytes]:
        file.seek(0)
        return iter(lambda: file.read(_PIECE), b"")

    found = differences(announced.envelope.attachments, attachments_of(chunks))
    return f"not as announced: {'; '.join(found)}" if found else ""


async def _told(caller: WebCaller, announced: Announced, row: Row, wishes: Wishes) -> Row:
    """The receipt; a holder that knows nothing any more needs none."""
    if not wishes.receipt:
        return row
    try:
        await confirm(caller, announced)
    except HolderAwayError as error:
        return {**row, "result": "waits", "text": f"fetched, but the receipt waits: {error}"}
    except NotHeldError:
        pass
    return row
