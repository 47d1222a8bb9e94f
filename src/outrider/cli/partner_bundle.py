"""`outrider partner bundle`: CA sets that somebody keeps for a group, followed by number and date."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from outrider.cli.asking import load_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, shown
from outrider.cli.partner_asking import confirm, reload_server, show_findings
from outrider.config.loader import Loaded
from outrider.identity.authority_sets import authority_name, parse_authorities
from outrider.identity.findings import day, is_acceptable
from outrider.identity.invitation import DAY_S
from outrider.identity.signed_document import DocumentError
from outrider.identity.trust_bundle import (
    AuthoritySet,
    ReceivedBundle,
    TrustBundle,
    changes,
    examine_bundle,
    read_bundle,
    write_bundle,
)
from outrider.runtime.partner_files import PartnerFileError, PartnerFolder, read_bounded

_PATH = click.Path(path_type=Path)


@click.group()
def bundle() -> None:
    """Keep the CA sets of a group of sites: make a signed bundle, or follow another's."""


@bundle.command()
@click.argument("name")
@click.argument("sets", nargs=-1, required=True, metavar="SET=PEMFILE...")
@click.option("--serial", type=click.IntRange(1), required=True, help="Greater than the last edition's.")
@click.option("--days", type=click.IntRange(1, 3660), default=365, show_default=True, help="It is valid for.")
@click.option("--url", default="", help="Where newer editions will be found (https).")
@click.option("--certificate", type=_PATH, required=True, help="PEM of the signer's certificate.")
@click.option("--key", type=_PATH, required=True, help="PEM of its key.")
@click.option("-o", "--output", type=_PATH, default=Path("-"), help="File to write; - for stdout.")
def make(
    name: str,
    sets: tuple[str, ...],
    serial: int,
    days: int,
    url: str,
    certificate: Path,
    key: Path,
    output: Path,
) -> None:
    """Sign an edition of the bundle NAME. Followers know its signer by the key: keep it over renewals."""
    now = int(time.time())
    try:
        members = tuple(_set(text) for text in sets)
        edition = TrustBundle(name, serial, now, now + days * DAY_S, url, members)
        octets = write_bundle(edition, read_bounded(certificate), read_bounded(key))
        words = read_bundle(octets).document.words
        if str(output) == "-":
            sys.stdout.buffer.write(octets)
            sys.stdout.flush()
        else:
            output.write_bytes(octets)
    except (PartnerFileError, DocumentError, UnicodeDecodeError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{output}: {error.strerror}")
    click.echo(f"Those who do not know the key yet compare these words:\n  {words}", err=True)


def _set(text: str) -> AuthoritySet:
    name, equals, file = text.partition("=")
    if not equals:
        fail(f"{text}: write SET=PEMFILE", 2)
    return AuthoritySet(name, parse_authorities([read_bounded(Path(file)).decode("ascii")]))


@bundle.command()
@click.argument("name_or_file")
@config_option
@json_option
def show(config_path: Path, name_or_file: str, as_json: bool) -> None:
    """Show the edition of a bundle that is in use, or the one in a FILE."""
    loaded = load_or_fail(config_path)
    folder = PartnerFolder.of(loaded)
    if name_or_file in folder.bundle_names():
        received = _known(folder, name_or_file)
        assert received is not None, "it is among the names"
    else:
        _, received = _read(loaded, name_or_file, None)
    described = _described(received)
    if as_json:
        print_json(described)
        return
    for key, value in described.items():
        if key != "sets":
            click.echo(f"  {key}: {shown(value)}")
    for one in received.bundle.sets:
        click.echo(f"  {folder.set_path(received.bundle.name, one.name)}")
        for ca in one.authorities:
            click.echo(f"    {shown(authority_name(ca))}, until {day(ca.not_valid_after_utc.timestamp())}")


def _described(received: ReceivedBundle) -> dict[str, object]:
    edition = received.bundle
    return {
        "name": edition.name,
        "serial": edition.serial,
        "issued": day(edition.issued),
        "expires": day(edition.expires),
        "expired": edition.expires <= time.time(),
        "url": edition.url,
        "key": received.document.key_fingerprint,
        "words": received.document.words,
        "sets": {one.name: [authority_name(ca) for ca in one.authorities] for one in edition.sets},
    }


@bundle.command()
@click.argument("source")
@click.option("--ca", type=_PATH, help="PEM of the CA of the https server.")
@config_option
def diff(config_path: Path, source: str, ca: Path | None) -> None:
    """Show what the edition at SOURCE (a file, an https URL, or the name of a bundle in use) would change.

    Exit code 1 when it is not acceptable.
    """
    loaded = load_or_fail(config_path)
    folder = PartnerFolder.of(loaded)
    _, received = _fetch(loaded, folder, source, ca)
    sys.exit(0 if _show_difference(folder, received) else 1)


@bundle.command()
@click.argument("source")
@click.option("--ca", type=_PATH, help="PEM of the CA of the https server.")
@click.option("--words", default="", help="The ten words, for an edition of an unknown key.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def refresh(config_path: Path, source: str, ca: Path | None, words: str, dry_run: bool, yes: bool) -> None:
    """Take over the edition at SOURCE: a file, an https URL, or a bundle's name for where it says it is.

    An older edition than the one in use, or one of another key, is never taken over. With --yes it suits a
    timer; an unchanged bundle is no fault.
    """
    loaded = load_or_fail(config_path)
    folder = PartnerFolder.of(loaded)
    octets, received = _fetch(loaded, folder, source, ca)
    known = _known(folder, received.bundle.name)
    if not _show_difference(folder, received):
        fail(f"{source}: not acceptable, see above; nothing was changed")
    if known is not None and known.document.digest == received.document.digest:
        click.echo("Nothing has changed.")
        return
    confirm(received.document, words, dry_run=dry_run, yes=yes)
    try:
        folder.apply_bundle(received, octets)
    except PartnerFileError as error:
        fail(str(error))
    for one in received.bundle.sets:
        click.echo(f"written: {folder.set_path(received.bundle.name, one.name)}")
    reload_server(loaded)


@bundle.command()
@click.argument("name")
@config_option
def remove(config_path: Path, name: str) -> None:
    """Follow a bundle no longer and forget its signer's key; its CA files stay."""
    folder = PartnerFolder.of(load_or_fail(config_path))
    if name not in folder.bundle_names():
        fail(f"no bundle {name} is followed")
    try:
        folder.remove_bundle(name)
    except PartnerFileError as error:
        fail(str(error))


def _fetch(
    loaded: Loaded, folder: PartnerFolder, source: str, ca: Path | None
) -> tuple[bytes, ReceivedBundle]:
    if source in folder.bundle_names():
        known = _known(folder, source)
        if known is None or not known.bundle.url:
            fail(f"the bundle {source} does not say where newer editions are; give a file or a URL")
        source = known.bundle.url
    return _read(loaded, source, ca)


def _read(loaded: Loaded, source: str, ca: Path | None) -> tuple[bytes, ReceivedBundle]:
    try:
        octets = _download(loaded, source, ca) if "://" in source else read_bounded(Path(source))
        return octets, read_bundle(octets)
    except (PartnerFileError, DocumentError) as error:
        text = str(error)
        fail(text if text.startswith(source) else f"{source}: {text}")


def _download(loaded: Loaded, url: str, ca: Path | None) -> bytes:
    from outrider.dns.resolver import ResolverSettings
    from outrider.routing.private_addresses import address_guard
    from outrider.runtime.bundle_fetch import FetchFailed, fetch

    config = loaded.config
    files = [ca] if ca else [loaded.resolve(name) for name in config.tls.public_ca or ()]
    try:
        dns = ResolverSettings.from_config(config.dns.servers, config.dns.validating, config.dns.timeout)
        return fetch(url, dns, address_guard(config.net.private_destinations), files)
    except (FetchFailed, ValueError) as error:
        fail(str(error))


def _known(folder: PartnerFolder, name: str) -> ReceivedBundle | None:
    try:
        return folder.bundle(name)
    except PartnerFileError as error:
        fail(str(error))


def _show_difference(folder: PartnerFolder, received: ReceivedBundle) -> bool:
    """Print findings and changes; whether it is acceptable."""
    known = _known(folder, received.bundle.name)
    findings = examine_bundle(received, known, time.time())
    click.echo(f"  words: {received.document.words}")
    show_findings(findings)
    for change in changes(known.bundle if known else None, received.bundle):
        click.echo(f"  {shown(str(change))}")
    return is_acceptable(findings)
