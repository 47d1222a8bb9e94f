"""`outrider partner test`: the link with a partner, step by step."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, shown
from outrider.cli.partner_invite import own_codes
from outrider.config.loader import Loaded
from outrider.identity.acceptance import AcceptanceLine
from outrider.model.address import Address, AddressError, parse_address
from outrider.routing.partners import PartnerError, PartnerTable
from outrider.runtime.partner_files import PartnerFileError, PartnerFolder


@click.command()
@click.argument("name")
@click.option("--to", "recipient", default="", help="Who gets the message; default its postmaster.")
@click.option("--from", "sender", default="", help="Who sends it; default our postmaster.")
@click.option("--no-message", is_flag=True, help="Stop before the message.")
@config_option
@json_option
def test(config_path: Path, name: str, recipient: str, sender: str, no_message: bool, as_json: bool) -> None:
    """Try the link: way, certificates, PTR, codes, and a message; each line ok, note or bad with a remedy.

    Exit code 1 when anything is bad.
    """
    from outrider.config.problems import ConfigError
    from outrider.runtime.partner_trial import TrialSettings, try_partner
    from outrider.runtime.starting import prepare

    try:
        loaded, assembly = prepare(config_path)
        entries = {entry.name: entry for entry in PartnerTable(loaded.config).entries}
    except (ConfigError, PartnerError) as error:
        fail(str(error))
    if name not in entries:
        fail(f"no partner {name}; `outrider partner list` names them")
    config = loaded.config
    domain = config.partners[name].sender_domains[0].removeprefix(".")
    settings = TrialSettings(
        entry=entries[name],
        recipient=_mailbox(recipient or f"postmaster@{domain}"),
        sender=_mailbox(sender or f"postmaster@{next(iter(config.domains), config.hostname)}"),
        codes=own_codes(config, ()),
        send=not no_message,
        mt2_at=_mt2_at(loaded, name),
    )
    well = try_partner(assembly, settings, lambda line: _tell(line, as_json))
    sys.exit(0 if well else 1)


def _mt2_at(loaded: Loaded, name: str) -> tuple[str, int] | None:
    """Host and port of its invitation; None for none, and for an entry written by hand."""
    folder = PartnerFolder.of(loaded)
    try:
        received = folder.invitation(name) if folder.has(name) else None
    except PartnerFileError as error:
        fail(str(error))
    if received is None or not received.invitation.mt2_port:
        return None
    return received.invitation.hosts[0], received.invitation.mt2_port


def _mailbox(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        fail(f"{text}: {error}", 2)


def _tell(line: AcceptanceLine, as_json: bool) -> None:
    if as_json:
        print_json({slot: getattr(line, slot) for slot in line.__slots__})
        return
    click.echo(f"{line.result:5}{shown(line.subject)}: {shown(line.text)}")
    if line.remedy:
        click.echo(f"     {shown(line.remedy)}")
