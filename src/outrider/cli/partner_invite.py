"""`outrider partner invite`: what we say of ourselves to a site that is to become a partner."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.cli.asking import load_or_fail
from outrider.cli.options import config_option
from outrider.cli.output import fail
from outrider.config.loader import Loaded
from outrider.config.schema import Config
from outrider.identity.authorities import CaStores
from outrider.identity.host_identity import HostRefusal, ServerIdentity
from outrider.identity.invitation import (
    DAY_S,
    LIFETIME_S,
    Invitation,
    read_invitation,
    vouched,
    write_invitation,
)
from outrider.identity.signed_document import DocumentError
from outrider.model.mpc import Mpc, MpcError, parse_mpc
from outrider.runtime.ca_files import CertificateFileError, configured_stores
from outrider.runtime.partner_files import PartnerFileError, read_bounded

_PATH = click.Path(path_type=Path)


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("-"), help="File; - for stdout."
)
@click.option("--name", default="", help="What we call ourselves; default our first sender domain.")
@click.option("--host", "hosts", multiple=True, help="A further host of ours, as in its certificate.")
@click.option("--sender-domain", "domains", multiple=True, help="Instead of those of [domains].")
@click.option("--mpc", "codes", multiple=True, help="A Mail Policy Code that we send; default all of [mpc].")
@click.option("--ca", "ca_files", multiple=True, type=_PATH, help="PEM of our CAs.")
@click.option("--contact", default="", help="Whom to tell when it does not work; default postmaster.")
@click.option("--days", type=click.IntRange(1, 365), default=LIFETIME_S // DAY_S, show_default=True)
@config_option
def invite(
    config_path: Path,
    output: Path,
    name: str,
    hosts: tuple[str, ...],
    domains: tuple[str, ...],
    codes: tuple[str, ...],
    ca_files: tuple[Path, ...],
    contact: str,
    days: int,
) -> None:
    """Write what a partner needs to know of this site, signed with its certificate's key."""
    loaded = load_or_fail(config_path)
    config = loaded.config
    certificate, key = _own_certificate(loaded)
    sender_domains = domains or tuple(config.domains)
    if not sender_domains:
        fail("no sender domain: there are no [domains]; give --sender-domain", 2)
    now = int(time.time())
    invitation = Invitation(
        name=name or sender_domains[0].removeprefix(".").lower(),
        hosts=tuple(dict.fromkeys((config.hostname, *hosts))),
        sender_domains=sender_domains,
        authorities=_own_authorities(loaded, certificate, ca_files, now),
        codes=own_codes(config, codes),
        amtp_port=_port(config, "amtp", config.amtp.port),
        mt2_port=_port(config, "mt2", config.mt2.port),
        contact=contact or config.delivery.postmaster or f"postmaster@{sender_domains[0].removeprefix('.')}",
        issued=now,
        expires=now + days * DAY_S,
    )
    try:
        octets = write_invitation(invitation, certificate, key)
        words = read_invitation(octets).document.words
    except DocumentError as error:
        fail(str(error))
    _write_out(output, octets)
    click.echo(f"Give this file to the partner, and read it these words:\n  {words}", err=True)


def _own_certificate(loaded: Loaded) -> tuple[bytes, bytes]:
    tls = loaded.config.tls
    if tls.certificate is None or tls.key is None:
        fail(str(loaded.problem(("tls",), "no certificate and key", "make one with `outrider cert host`")))
    try:
        return (read_bounded(loaded.resolve(tls.certificate)), read_bounded(loaded.resolve(tls.key)))
    except PartnerFileError as error:
        fail(str(error))


def _own_authorities(
    loaded: Loaded, certificate: bytes, ca_files: Sequence[Path], now: float
) -> tuple[x509.Certificate, ...]:
    """The CAs to send along: those named; or the private ones that vouch for our certificate; or none where a
    public one does, as the partner has that."""
    if ca_files:
        return tuple(_certificates(ca_files))
    stores = our_stores(loaded)
    chain = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(certificate)]

    def verdict(by: CaStores) -> ServerIdentity | HostRefusal:
        return vouched(chain, loaded.config.hostname.lower(), by, now)

    private = _certificates([loaded.resolve(name) for name in loaded.config.tls.private_ca])
    vouching = [one for one in private if isinstance(verdict(CaStores.of((), [one])), ServerIdentity)]
    by_all = verdict(stores)
    if not vouching and isinstance(by_all, HostRefusal):
        fail(f"our own certificate would not do: {by_all.reason}; give its CA with --ca, or renew it")
    return tuple(vouching)


def _certificates(files: Iterable[Path]) -> list[x509.Certificate]:
    found: list[x509.Certificate] = []
    for path in files:
        try:
            found += x509.load_pem_x509_certificates(read_bounded(path))
        except (PartnerFileError, ValueError) as error:
            fail(f"{path}: {error}")
    return found


def own_codes(config: Config, given: Sequence[str]) -> tuple[Mpc, ...]:
    """The codes given, or all that [mpc] binds and assigns; a faulty one ends the program."""
    texts = given or (*config.mpc.accounts.values(), *(one.value for one in config.mpc.assigned))
    try:
        return tuple(dict.fromkeys(map(parse_mpc, texts)))
    except MpcError as error:
        fail(f"Mail Policy Codes: {error}", 2)


def _port(config: Config, protocol: str, usual: int) -> int:
    """The port of our listener of that protocol; 0 if there is none."""
    return next((one.port or usual for one in config.listeners if one.protocol == protocol), 0)


def _write_out(output: Path, octets: bytes) -> None:
    if str(output) == "-":
        sys.stdout.buffer.write(octets)
        sys.stdout.flush()
        return
    try:
        with output.open("xb") as file:
            file.write(octets)
    except OSError as error:
        fail(f"{output}: {error.strerror}")


def our_stores(loaded: Loaded) -> CaStores:
    """The configured CA sets; files that cannot be used end the program."""
    try:
        return configured_stores(loaded)
    except CertificateFileError as error:
        fail(str(error))
