"""`outrider partner`: terms with another site, from one file each way to refusing what forges it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import click
import msgspec

from outrider.cli.asking import load_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows, shown
from outrider.cli.partner_asking import confirm, reload_server, show_findings
from outrider.cli.partner_bundle import bundle
from outrider.cli.partner_invite import invite, our_stores
from outrider.cli.partner_try import test
from outrider.config.loader import Loaded
from outrider.config.schema import InboundChannel, OutboundChannel, Partner
from outrider.identity.authority_sets import authority_name, parse_authorities
from outrider.identity.findings import Finding, Level, day, is_acceptable
from outrider.identity.invitation import (
    Invitation,
    OurSide,
    Received,
    examine,
    is_partner_name,
    read_invitation,
)
from outrider.identity.signed_document import DocumentError
from outrider.routing.partners import PartnerError, PartnerTable
from outrider.runtime.partner_breaches import breaches_in
from outrider.runtime.partner_files import PartnerFileError, PartnerFolder, entry_text, read_bounded

_INBOUND, _OUTBOUND = click.Choice(get_args(InboundChannel)), click.Choice(get_args(OutboundChannel))


@click.group()
def partner() -> None:
    """Agree on terms with another site: invite, accept, test, then enforce.

    Each site writes one file (invite) and accepts the other's. Read the ten words of a file to each other
    over the telephone: they stand for every octet of it.
    """


partner.add_command(invite)
partner.add_command(test)
partner.add_command(bundle)


# -- accept ----------------------------------------------------------------------------------------------


@partner.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Name of the entry; default what the partner calls itself.")
@click.option("--inbound", type=_INBOUND, help="The least that its mail comes by.")
@click.option("--outbound", type=_OUTBOUND, help="The least that mail to it goes by.")
@click.option("--words", default="", help="The ten words, as the partner read them.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def accept(
    config_path: Path,
    file: Path,
    name: str,
    inbound: InboundChannel | None,
    outbound: OutboundChannel | None,
    words: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Show what a partner's FILE says and what speaks for it, and make it an entry.

    Its mail that comes by less than --inbound is reported at first; see `outrider partner enforce`.
    """
    loaded = load_or_fail(config_path)
    folder = PartnerFolder.of(loaded)
    octets, received = _received(file)
    name = name or received.invitation.name
    _check_name(loaded, folder, name)
    try:
        known, old = folder.invitation(name), folder.entry(name)
    except PartnerFileError as error:
        fail(str(error))
    findings = examine(received, _our_side(loaded, name), known, time.time())
    base = old or _first_terms(loaded, received.invitation)
    entry = _entry(received, base, folder, name, inbound, outbound)
    _show_received(received, findings)
    click.echo(f"\n{folder.entry_path(name)} would say:\n{_indented(entry_text(name, entry))}")
    if not is_acceptable(findings):
        fail(f"{file}: not acceptable, see above; nothing was changed")
    _check_table(loaded, name, entry)
    confirm(received.document, words, dry_run=dry_run, yes=yes)
    try:
        folder.accept(name, entry, received, octets)
    except PartnerFileError as error:
        fail(str(error))
    reload_server(loaded)
    click.echo(f"Accepted. Now: outrider partner test {name}")


def _received(file: Path) -> tuple[bytes, Received]:
    try:
        octets = sys.stdin.buffer.read(1 << 21) if str(file) == "-" else read_bounded(file)
        return octets, read_invitation(octets)
    except (PartnerFileError, DocumentError) as error:
        text = str(error)
        fail(text if text.startswith(str(file)) else f"{file}: {text}")


def _check_name(loaded: Loaded, folder: PartnerFolder, name: str) -> None:
    if not is_partner_name(name):
        fail(f"{name!r} is no name for a partner: small letters, digits, - and . are, up to 64", 2)
    if name in loaded.config.partners and not folder.has(name):
        line = loaded.source.line(("partners", name))
        fail(f"{loaded.path}:{line}: partner {name} is written there by hand; change or remove it there")


def _our_side(loaded: Loaded, name: str) -> OurSide:
    config = loaded.config
    names = [config.hostname, *(one.hostname for one in config.listeners if one.hostname)]
    taken = {
        domain.lower(): other
        for other, entry in config.partners.items()
        if other != name
        for domain in entry.sender_domains
    }
    own = frozenset(domain.lower() for domain in config.domains)
    return OurSide(frozenset(one.lower() for one in names), own, taken, our_stores(loaded))


def _first_terms(loaded: Loaded, invitation: Invitation) -> Partner:
    """What is agreed with a new partner: the first of AMTP and MT2 that both sites take, so that both come to
    the same; else mutual TLS, and what mail to it can go by at best."""
    ours = {one.protocol for one in loaded.config.listeners}
    ports: dict[Literal["amtp", "mt2"], int] = {"amtp": invitation.amtp_port, "mt2": invitation.mt2_port}
    theirs = [protocol for protocol, port in ports.items() if port]
    common = next((one for one in theirs if one in ours), None)
    return Partner(inbound=common or "tls-mutual", outbound=common or (theirs[0] if theirs else "mutual"))


def _entry(
    received: Received,
    base: Partner,
    folder: PartnerFolder,
    name: str,
    inbound: InboundChannel | None,
    outbound: OutboundChannel | None,
) -> Partner:
    """The entry to be: names and CA set from the invitation; what the operator has decided before stays."""
    invitation = received.invitation
    return msgspec.structs.replace(
        base,
        sender_domains=invitation.sender_domains,
        hosts=invitation.hosts,
        ca=(folder.authorities_path(name).name,) if invitation.authorities else (),
        contact=invitation.contact,
        inbound=inbound or base.inbound,
        outbound=outbound or base.outbound,
    )


def _check_table(loaded: Loaded, name: str, entry: Partner) -> None:
    """Whether the entry fits with all others."""
    partners = {**loaded.config.partners, name: entry}
    try:
        PartnerTable(msgspec.structs.replace(loaded.config, partners=partners))
    except PartnerError as error:
        fail(str(error))


# -- list, show, remove, enforce -------------------------------------------------------------------------


@partner.command("list")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """List the partners and their terms."""
    loaded = load_or_fail(config_path)
    rows = [
        {
            "name": name,
            "sender_domains": list(entry.sender_domains),
            "hosts": list(entry.hosts),
            "inbound": f"{entry.inbound} ({entry.inbound_mode})",
            "outbound": entry.outbound,
            "ca_until": _first_end(loaded, entry),
            "contact": entry.contact,
        }
        for name, entry in loaded.config.partners.items()
    ]
    columns = ("name", "sender_domains", "hosts", "inbound", "outbound", "ca_until", "contact")
    print_rows(rows, tuple((one, one.replace("_", " ")) for one in columns), as_json=as_json)


def _first_end(loaded: Loaded, entry: Partner) -> str:
    """The day on which the first of its CAs ends; "" without CAs of its own, or for files that are none."""
    try:
        texts = [read_bounded(loaded.resolve(name)).decode("ascii") for name in entry.ca]
        ends = [one.not_valid_after_utc.timestamp() for one in parse_authorities(texts)]
    except (PartnerFileError, DocumentError, UnicodeDecodeError):
        return ""  # check-config says why
    return day(min(ends)) if ends else ""


@partner.command()
@click.argument("name_or_file")
@config_option
@json_option
def show(config_path: Path, name_or_file: str, as_json: bool) -> None:
    """Show a partner's entry and what was accepted, or what a FILE says."""
    loaded = load_or_fail(config_path)
    folder = PartnerFolder.of(loaded)
    if name_or_file in loaded.config.partners:
        _show_partner(loaded, folder, name_or_file, as_json)
        return
    _, received = _received(Path(name_or_file))
    findings = examine(received, _our_side(loaded, received.invitation.name), None, time.time())
    if as_json:
        print_json({**_described(received), "findings": [_finding_row(one) for one in findings]})
    else:
        _show_received(received, findings)


def _show_partner(loaded: Loaded, folder: PartnerFolder, name: str, as_json: bool) -> None:
    entry = loaded.config.partners[name]
    try:
        received = folder.invitation(name) if folder.has(name) else None
    except PartnerFileError as error:
        fail(str(error))
    if as_json:
        accepted = _described(received) if received else None
        print_json({"name": name, **msgspec.to_builtins(entry), "invitation": accepted})
        return
    where = folder.entry_path(name) if folder.has(name) else loaded.path
    click.echo(f"{where}:\n{_indented(entry_text(name, entry))}")
    if received is not None:
        click.echo(f"from the invitation of {day(received.invitation.issued)}:")
        _show_terms(received)


@partner.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@config_option
def remove(config_path: Path, name: str, dry_run: bool) -> None:
    """Remove a partner's entry, its CA set and the invitation that was accepted."""
    loaded, folder = _folder_with(config_path, name)
    if dry_run:
        click.echo(f"would remove {folder.entry_path(name)} and what belongs to it")
        return
    try:
        folder.remove(name)
    except PartnerFileError as error:
        fail(str(error))
    reload_server(loaded)


def _folder_with(config_path: Path, name: str) -> tuple[Loaded, PartnerFolder]:
    """The folder, which has that partner."""
    loaded = load_or_fail(config_path)
    folder = PartnerFolder.of(loaded)
    _check_name(loaded, folder, name)
    if not folder.has(name):
        fail(f"no partner {name}; `outrider partner list` names them")
    return loaded, folder


@partner.command()
@click.argument("name")
@click.option("--mode", type=click.Choice(["refuse", "hold", "report"]), default="refuse", show_default=True)
@click.option("--log", "log", type=click.Path(path_type=Path), help="The log to look in; default [log] file.")
@click.option("--dry-run", is_flag=True, help="Only show what the report says.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def enforce(
    config_path: Path,
    name: str,
    mode: Literal["refuse", "hold", "report"],
    log: Path | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Turn from reporting to refusing what breaks the terms; show first what that would have been."""
    loaded, folder = _folder_with(config_path, name)
    entry = folder.entry(name)
    assert entry is not None, "the folder has it"
    click.echo(f"{name}: inbound = {entry.inbound}, now {entry.inbound_mode}, to be {mode}")
    _show_breaches(loaded, name, log)
    if dry_run:
        return
    if not yes and not (sys.stdin.isatty() and click.confirm("Shall it be done?")):
        fail("nothing was changed; add --yes")
    try:
        folder.write_entry(name, msgspec.structs.replace(entry, inbound_mode=mode))
    except PartnerFileError as error:
        fail(str(error))
    reload_server(loaded)


def _show_breaches(loaded: Loaded, name: str, log: Path | None) -> None:
    path = log or (loaded.resolve(loaded.config.log.file) if loaded.config.log.file else None)
    if path is None:
        click.echo("The log is not a file of ours: look there for `partner_terms_broken`, or give --log.")
        return
    try:
        found = breaches_in(path, name)
    except PartnerFileError as error:
        fail(str(error))
    if not found:
        click.echo(f"No mail that breaks the terms is in {path}.")
    for breach in found:
        click.echo(
            f"  {breach.count} x {shown(breach.reason)}, from {shown(breach.client)}, last {breach.last}"
        )


# -- words for people ------------------------------------------------------------------------------------


def _show_received(received: Received, findings: Sequence[Finding]) -> None:
    _show_terms(received)
    click.echo("")
    show_findings(findings)
    if any(finding.level is Level.ASK for finding in findings):
        click.echo("  (what is to be asked, the partner answers; the words prove that the file is theirs)")


def _show_terms(received: Received) -> None:
    for key, value in _described(received).items():
        click.echo(f"  {key.replace('_', ' ')}: {shown(value)}")


def _described(received: Received) -> dict[str, object]:
    invitation = received.invitation
    return {
        "name": invitation.name,
        "hosts": list(invitation.hosts),
        "sender_domains": list(invitation.sender_domains),
        "ca_set": [authority_name(one) for one in invitation.authorities],
        "mail_policy_codes": [str(code) for code in invitation.codes],
        "amtp_port": invitation.amtp_port,
        "mt2_port": invitation.mt2_port,
        "contact": invitation.contact,
        "issued": day(invitation.issued),
        "expires": day(invitation.expires),
        "key": received.document.key_fingerprint,
        "words": received.document.words,
    }


def _finding_row(finding: Finding) -> dict[str, str]:
    return {"level": finding.level.value, "subject": finding.subject, "text": finding.text}


def _indented(text: str) -> str:
    return "".join(f"  {shown(line)}\n" for line in text.splitlines())
