"""`outrider trace`: which hosts an MT2 message went through, and whether it is as they have sealed it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from outrider.cli.asking import load_or_fail
from outrider.cli.options import bundle, config_option, json_option
from outrider.cli.output import fail, print_json, shown
from outrider.cli.trace_target import TraceTarget, find_target, is_encrypted
from outrider.identity.header_encryption import EncryptionError, decrypt_headers, look_at
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seal_paths import PeerPaths
from outrider.identity.seals import Core, Entry
from outrider.identity.trace import (
    Circumstances,
    ObjectCounter,
    SealedMessage,
    TraceHop,
    TraceReport,
    verify_trace,
)
from outrider.message.objects.envelope import LayeredEnvelope, Part, read_envelope
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import Field, read_headers
from outrider.runtime.ca_files import CertificateFileError, configured_stores

_PATH = click.Path(path_type=Path)


@click.group()
def trace() -> None:
    """Show and verify the sealed trace of a message that came by MT2.

    TARGET is the id of a message in the queue; a file with a mail that carries its MT2 objects, as mailboxes
    have it; or a file with an envelope object. Nothing is asked over the network: the message and the CA
    certificates of the configuration (or --ca) are enough.
    """


@dataclass(frozen=True, slots=True)
class _Target:
    """What is looked at, and what is known from elsewhere."""

    target: str
    headers: Path | None
    body: Path | None
    ca_files: tuple[Path, ...]
    peer: tuple[str, ...]
    receiver: tuple[str, ...]


_target = bundle(
    "named",
    _Target,
    {
        "target": click.argument("target"),
        "headers": click.option("--headers", type=_PATH, help="With an envelope object: the headers object."),
        "body": click.option("--body", type=_PATH, help="With an envelope object: the body object."),
        "ca_files": click.option(
            "--ca", "ca_files", multiple=True, type=_PATH, help="PEM file of further CAs."
        ),
        "peer": click.option(
            "--peer", multiple=True, help="Who brought the message, where that is not recorded."
        ),
        "receiver": click.option(
            "--receiver", multiple=True, help="The host that it was brought to; likewise."
        ),
    },
)


@trace.command()
@_target
@click.option("--key", type=_PATH, help="Private key (PEM): show headers that are encrypted for it.")
@click.option("--certificate", type=_PATH, help="Its certificate; default in the same file.")
@config_option
@json_option
def show(
    config_path: Path,
    named: _Target,
    key: Path | None,
    certificate: Path | None,
    as_json: bool,
) -> None:
    """Show hop by hop who had the message, when, how it came, and what was verified."""
    found = find_target(config_path, named.target, named.headers, named.body)
    report = _report(config_path, found, named)
    opened = _opened(found, key, certificate) if key is not None else None
    if as_json:
        print_json(_row(found, report) | ({"fields": opened} if opened is not None else {}))
        return
    for line in _message_lines(found, report):
        click.echo(line)
    for name, value in opened or ():
        click.echo(f"  {shown(name)}: {shown(value)}")
    for hop in report.hops:
        click.echo("")
        for line in _hop_lines(hop):
            click.echo(line)
    click.echo("")
    _print_verdict(report)


@trace.command()
@_target
@config_option
@json_option
def verify(
    config_path: Path,
    named: _Target,
    as_json: bool,
) -> None:
    """Say whether the message is as its sender and its hosts have sealed it, and where it is not.

    Exit code 1 if anything was changed, moved, removed or cut, or a sealer is not proven.
    """
    found = find_target(config_path, named.target, named.headers, named.body)
    report = _report(config_path, found, named)
    if as_json:
        print_json(_row(found, report))
    else:
        _print_verdict(report)
    if not report.is_good:
        raise SystemExit(1)


def _report(
    config_path: Path,
    found: TraceTarget,
    named: _Target,
) -> TraceReport:
    loaded = load_or_fail(config_path) if config_path.exists() else None
    try:
        stores = configured_stores(loaded, named.ca_files)
    except CertificateFileError as error:
        fail(str(error))
    headers = ObjectCounter(found.headers).digest() if found.headers is not None else None
    message = SealedMessage(found.envelope, headers=headers, body=found.body)
    names = tuple(map(str.lower, named.peer)) or found.peer
    around = Circumstances(
        time.time(), found.received, names, tuple(map(str.lower, named.receiver)) or found.receiver
    )
    return verify_trace(message, PeerPaths(Mt2Peers(stores)), around)


def _opened(found: TraceTarget, key: Path, certificate: Path | None) -> list[tuple[str, str]]:
    """The fields of the headers object, decrypted with a recipient's key."""
    if found.headers is None:
        fail("the headers object is not at hand")
    try:
        key_pem = key.read_bytes()
        certificate_pem = certificate.read_bytes() if certificate is not None else key_pem
        plain = read_headers(decrypt_headers(found.headers, certificate_pem, key_pem))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except (EncryptionError, ObjectError) as error:
        fail(str(error))
    return [(one.name, one.value) for one in plain.entities if isinstance(one, Field)]


# -- for people ------------------------------------------------------------------------------------------


def _message_lines(found: TraceTarget, report: TraceReport) -> Iterator[str]:
    core = report.core
    if core is None:
        yield "The sender's seal is missing or broken: nothing of the envelope can be believed."
    else:
        yield f"message {shown(core.id)}"
        yield f"from {shown(core.sender) or '<>'}, {_moment(core.date)}"
        yield f"to {', '.join(shown(one.address) for one in core.recipients)}"
        yield from (f"{one.part}: {shown(one.type)}, {one.length} octets" for one in core.objects)
        if core.report:
            yield "a control message: a report on another message"
    recipients = _encrypted_for(found)
    if recipients is not None:
        known = ", ".join(recipients) or "nobody that can be told"
        yield f"headers: encrypted for {known}"


def _encrypted_for(found: TraceTarget) -> list[str] | None:
    """Thumbprints of the certificates that can read the headers; None if they are not encrypted."""
    if found.headers is None or not is_encrypted(_headers_type(found)):
        return None
    try:
        return list(look_at(found.headers).recipients)
    except EncryptionError:
        return []


def _headers_type(found: TraceTarget) -> str:
    envelope = _envelope(found)
    entry = envelope.object(Part.HEADERS) if envelope is not None else None
    return entry.media_type if entry is not None else found.headers_type


def _envelope(found: TraceTarget) -> LayeredEnvelope | None:
    try:
        return read_envelope(found.envelope)
    except ObjectError:
        return None


def _hop_lines(hop: TraceHop) -> Iterator[str]:
    seal = hop.seal
    who = f"{shown(seal.by)} ({shown(hop.how)})" if hop.how else f"{shown(seal.by)} (NOT PROVEN)"
    yield f"{hop.number:>3}  {_moment(seal.time)}  {who}"
    if seal.peer or seal.protocol:
        warrant = "proven" if seal.peer_proven else "claimed"
        came = f"{shown(seal.peer)} ({warrant})" if seal.peer else "an unnamed client"
        by = f" by {shown(seal.protocol)}" if seal.protocol else ""
        how = f", {shown(seal.tls)}" if seal.tls else ", without TLS"
        yield f"     had it from {came}{by}{how}, {_moment(seal.received)}"
    if seal.verified:
        yield f"     verified: {', '.join(f'{key} {shown(value)}' for key, value in seal.verified.items())}"
    if isinstance(seal, Entry):
        yield from (f"     recipient removed: {shown(one)}" for one in seal.removed)
        yield from (f"     recipient added: {shown(one.address)}" for one in seal.added)
    yield f"     handed it to {shown(seal.to)}"


def _print_verdict(report: TraceReport) -> None:
    for one in report.findings:
        click.echo(f"BAD  {shown(one.place)}: {shown(one.text)}")
    if report.is_good:
        hops = len(report.hops) - 1
        click.echo(f"ok   sealed by the sender and {hops} hop{'s' if hops != 1 else ''}; nothing was changed")
    for name in report.unchecked:
        click.echo(f"note not checked, as it is not at hand: {name}")


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if 0 < seconds < 1 << 37 else "?"


# -- for programs ----------------------------------------------------------------------------------------


def _row(found: TraceTarget, report: TraceReport) -> dict[str, Any]:
    core = report.core
    return {
        "good": report.is_good,
        "id": core.id if isinstance(core, Core) else "",
        "findings": [
            {"place": one.place, "problem": one.problem.value, "text": one.text} for one in report.findings
        ],
        "unchecked": list(report.unchecked),
        "encrypted_for": _encrypted_for(found),
        "seals": [
            {"number": hop.number, "how": hop.how, **msgspec.to_builtins(hop.seal)} for hop in report.hops
        ],
    }
