"""`outrider send`: hand a message to a server, as a mail client or the `sendmail` command would."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import click

from outrider.cli.options import bundle, json_option
from outrider.cli.output import fail, print_rows
from outrider.delivery.interface import ConnectFailed, Dialler, Hop, Job, RequirementUnmet, ServerTerms
from outrider.message.dates import format_date
from outrider.message.header_fields import find_field
from outrider.message.mailboxes import mailboxes
from outrider.model.address import Address, AddressError, parse_address
from outrider.model.content import Content, inline_content
from outrider.model.envelope import BodyType, Envelope, Recipient
from outrider.model.message import MessageId, StoredMessage
from outrider.model.mpc import Mpc, MpcError, parse_mpc
from outrider.model.result import DeliveryResult
from outrider.routing.tls_policy import TlsRequirement
from outrider.routing.ways import DEFAULT_PORTS

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who we are to the server."""

    hello: str = ""
    certificate: Path | None = None
    key: Path | None = None
    encrypt_for: tuple[Path, ...] = ()

    def check(self, protocol: str) -> None:
        """Fail unless the protocol can be spoken so."""
        if bool(self.certificate) != bool(self.key) or (
            protocol in ("amtp", "mt2") and self.certificate is None
        ):
            fail("AMTP and MT2 need --certificate and --key; they go together", 2)
        if self.encrypt_for and protocol != "mt2":
            fail("--encrypt-for is for --protocol mt2", 2)


@dataclass(slots=True)
class _Submission:
    """What is to be sent, and where to."""

    hop: Hop
    envelope: Envelope
    content: Content
    ca_files: tuple[Path, ...] = ()
    identity: _Identity = _Identity()


@click.command()
@click.option("--server", default="127.0.0.1:25", show_default=True, help="HOST or HOST:PORT.")
@click.option(
    "--protocol",
    type=click.Choice(["smtp", "submission", "smtps", "lmtp", "qmtp", "amtp", "mt2"]),
    default="smtp",
    show_default=True,
)
@click.option("--from", "sender", default="", help="Envelope sender; default the From field. <> for none.")
@click.option(
    "--to", "recipients", multiple=True, help="Envelope recipient, repeatable; default To, Cc, Bcc."
)
@click.option(
    "--tls",
    type=click.Choice(["none", "opportunistic", "encrypt", "verify"]),
    default="opportunistic",
    show_default=True,
)
@click.option("--ca", "ca_files", multiple=True, type=_PATH, help="PEM file of CAs.")
@click.option("--name", default="", help="Name to find in the server's certificate; default its HOST.")
@click.option("--mpc", default="", help="Mail Policy Code, such as com/individual; AMTP needs one.")
@bundle(
    "identity",
    _Identity,
    {
        "hello": click.option(
            "--hello", default="", help="Name that we give at EHLO; for AMTP and MT2 the certificate's."
        ),
        "certificate": click.option(
            "--certificate", type=_PATH, help="Our certificate (PEM); AMTP and MT2 need one."
        ),
        "key": click.option("--key", type=_PATH, help="Its key."),
        "encrypt_for": click.option(
            "--encrypt-for",
            "encrypt_for",
            multiple=True,
            type=_PATH,
            help="mt2: a recipient's certificate (PEM); for the addresses in it the headers are encrypted.",
        ),
    },
)
@click.option("--user", default="", help="Log in as; the password is asked for, or $OUTRIDER_PASSWORD.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent where.")
@click.argument("message", type=_PATH, default=Path("-"))
@json_option
def send(
    server: str,
    protocol: str,
    sender: str,
    recipients: tuple[str, ...],
    tls: str,
    ca_files: tuple[Path, ...],
    name: str,
    mpc: str,
    identity: _Identity,
    user: str,
    dry_run: bool,
    message: Path,
    as_json: bool,
) -> None:
    """Send MESSAGE (a file, - for standard input): header section, empty line, body.

    Exit code 1 when any recipient is not accepted.
    """
    content = inline_content(_octets(message))
    envelope = replace(_envelope(content, sender, recipients), mpc=_code(mpc, protocol))
    identity.check(protocol)
    hop = _hop(server, protocol, _requirement(tls, name, identity), user)
    if dry_run:
        rows = [
            {"recipient": str(one.address), "result": "would be sent", "text": f"by {protocol} to {server}"}
            for one in envelope.recipients
        ]
    else:
        results = _send(_Submission(hop, envelope, content, ca_files, identity), user)
        rows = [
            {
                "recipient": str(recipient.address),
                "result": results[index].kind.value,
                "status": results[index].status,
                "text": results[index].text,
                "tls": results[index].tls,
            }
            for index, recipient in enumerate(envelope.recipients)
        ]
    columns = (("recipient", "recipient"), ("result", "result"), ("status", "status"), ("text", "text"))
    print_rows(rows, columns, as_json=as_json)
    sys.exit(0 if all(row["result"] in ("delivered", "relayed", "would be sent") for row in rows) else 1)


def _code(text: str, protocol: str) -> Mpc | None:
    if not text and protocol != "amtp":
        return None
    try:
        return parse_mpc(text)
    except MpcError as error:
        fail(f"--mpc {text!r}: {error}", 2)


def _requirement(level: str, name: str, identity: _Identity) -> TlsRequirement:
    files = [str(path) if path is not None else "" for path in (identity.certificate, identity.key)]
    return TlsRequirement(level, name, (), *files)  # type: ignore[arg-type]


def _octets(message: Path) -> bytes:
    try:
        octets = sys.stdin.buffer.read() if str(message) == "-" else message.read_bytes()
    except OSError as error:
        fail(f"{message}: {error.strerror}")
    if b"\r\n" not in octets:
        octets = octets.replace(b"\n", b"\r\n")
    return _completed(octets)


def _completed(octets: bytes) -> bytes:
    """Date and Message-ID where they are missing, as a mail client adds them (RFC 6409 section 8)."""
    headers = inline_content(octets).headers
    added = b""
    if find_field(headers, b"date") is None:
        added += f"Date: {format_date(time.time(), time.localtime().tm_gmtoff // 60)}\r\n".encode()
    if find_field(headers, b"message-id") is None:
        added += f"Message-ID: <{secrets.token_hex(12)}@{socket.getfqdn()}>\r\n".encode()
    return added + octets


def _envelope(content: Content, sender: str, recipients: tuple[str, ...]) -> Envelope:
    headers = content.headers
    found = list(recipients) or [
        address for name in (b"to", b"cc", b"bcc") for address in _addresses(headers, name)
    ]
    if not found:
        fail("no recipient: give --to, or a To field in the message", 2)
    origin = sender or next(iter(_addresses(headers, b"from")), "")
    if not origin:
        fail("no sender: give --from, or a From field in the message", 2)
    parsed = [_parse(text) for text in found]
    from_address = None if origin == "<>" else _parse(origin)
    wide = not all(one.is_ascii for one in (*parsed, *([from_address] if from_address else [])))
    return Envelope(
        sender=from_address,
        recipients=tuple(Recipient(address) for address in dict.fromkeys(parsed)),
        body_type=BodyType.SEVEN_BIT if content.is_ascii else BodyType.EIGHT_BIT,
        smtputf8=wide or not headers.isascii(),
    )


def _addresses(headers: bytes, name: bytes) -> list[str]:
    found = find_field(headers, name)
    return [str(one) for one in mailboxes(found.value)] if found else []


def _parse(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        fail(f"{text}: {error}", 2)


def _hop(server: str, protocol: str, tls: TlsRequirement, user: str) -> Hop:
    host, _, port = server.rpartition(":") if server.count(":") == 1 else (server, "", "")
    number = int(port) if port.isdigit() else DEFAULT_PORTS[protocol]
    try:
        found = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM)
    except OSError as error:
        fail(f"{host}: {error.strerror}")
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    terms = ServerTerms("", named=True, must_prove=True) if protocol in ("amtp", "mt2") else None
    found_at = tuple(ip_address(one) for one in addresses)
    return Hop(protocol, host, found_at, number, tls, username=user, terms=terms)


def _send(submission: _Submission, user: str) -> dict[int, DeliveryResult]:
    with tempfile.TemporaryDirectory(prefix="outrider-send-") as folder:
        hop = submission.hop
        if user:
            path = Path(folder) / "password"
            path.touch(mode=0o600)
            path.write_text(f"{_password()}\n", "utf-8")
            hop = replace(hop, password_file=str(path))
        return asyncio.run(_deliver(submission, hop))


def _password() -> str:
    entered = os.environ.get("OUTRIDER_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
    return str(entered)


def _dialler(protocol: str, submission: _Submission) -> Dialler:
    from outrider.runtime.sending import dialler_for, mt2_dialler

    identity = submission.identity
    if protocol != "mt2":
        return dialler_for(protocol, submission.ca_files, identity.hello)
    assert identity.certificate is not None
    assert identity.key is not None
    files = (identity.certificate, identity.key)
    return mt2_dialler(submission.ca_files, *files, identity.hello, identity.encrypt_for)


async def _deliver(submission: _Submission, hop: Hop) -> dict[int, DeliveryResult]:
    envelope, content = submission.envelope, submission.content
    name = MessageId(f"send-{secrets.token_hex(8)}")
    message = StoredMessage(name, time.time(), envelope, b"", content, content.size, ())
    everyone = tuple(range(len(envelope.recipients)))
    try:
        dialler = _dialler(hop.protocol, submission)
    except (OSError, ValueError) as error:
        fail(str(error), 2)
    last: DeliveryResult | None = None
    for address in hop.addresses:
        try:
            connection = await dialler.connect(hop, address)
        except (ConnectFailed, RequirementUnmet) as error:
            last = error.result
            continue
        results = dict(await connection.send(Job(message, everyone)))
        await connection.close()
        return results
    assert last is not None, "a host has at least one address"
    return dict.fromkeys(everyone, last)
