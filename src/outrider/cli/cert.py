"""`outrider cert`: a small authority of one's own, and questions about certificates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from outrider.cli.cert_look import check, inspect
from outrider.cli.options import bundle
from outrider.cli.output import fail
from outrider.identity.certificate_authority import (
    CertificateAuthority,
    Issued,
    KeyType,
    NameConstraints,
    PrivateKey,
    Purpose,
    Revocation,
)
from outrider.runtime.private_files import write_private

_PATH = click.Path(path_type=Path)
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9@._-]")
_CLOCK_SKEW = timedelta(minutes=10)
_REASONS = {flag.value: flag for flag in x509.ReasonFlags if flag is not x509.ReasonFlags.remove_from_crl}

_key_type = click.option("--key-type", type=click.Choice(["ec", "rsa"]), default="ec", show_default=True)
_issuer_domain = click.option(
    "--issuer-domain",
    default="",
    metavar="DOMAIN",
    help="The domain that publishes this CA, for MT2 peers that do not know it.",
)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    content: bytes
    secret: bool = False


@dataclass(frozen=True, slots=True)
class _Issuer:
    """The authority that a command works with."""

    ca_file: Path
    ca_key: Path | None

    def authority(self) -> CertificateAuthority:
        return _authority(self.ca_file, self.ca_key)


@dataclass(frozen=True, slots=True)
class _Writing:
    """Where files go, and whether they go there."""

    folder: Path
    force: bool
    dry_run: bool

    def write(self, *files: _File) -> None:
        _write(files, force=self.force, dry_run=self.dry_run)


_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be written.")
_issuer = bundle(
    "issuer",
    _Issuer,
    {
        "ca_file": click.option(
            "--ca", "ca_file", type=_PATH, default=Path("ca.pem"), show_default=True, help="The CA."
        ),
        "ca_key": click.option("--ca-key", "ca_key", type=_PATH, help="Its key; default beside it, .key."),
    },
)
_writing = bundle(
    "writing",
    _Writing,
    {
        "folder": click.option(
            "--folder", type=_PATH, default=Path(), help="Where the files go; default here."
        ),
        "force": click.option("--force", is_flag=True, help="Replace files that exist."),
        "dry_run": _dry_run,
    },
)


@click.group()
def cert() -> None:
    """Make certificates, look at them, and see whether others would accept this host."""


cert.add_command(inspect)
cert.add_command(check)


@cert.command()
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 36_500), default=3650, show_default=True)
@click.option("--permit", "permitted", multiple=True, help="Only names in this domain; repeatable.")
@click.option("--exclude", "excluded", multiple=True, help="No names in this domain; repeatable.")
@click.option("--under", "under", type=_PATH, help="PEM file of the CA to be below; default none: a root.")
@click.option("--under-key", "under_key", type=_PATH, help="Its key; default beside it, .key.")
@_key_type
@_writing
def ca(
    name: str,
    days: int,
    permitted: tuple[str, ...],
    excluded: tuple[str, ...],
    under: Path | None,
    under_key: Path | None,
    key_type: KeyType,
    writing: _Writing,
) -> None:
    """Make an authority called NAME: ca.pem, to give to others, and ca.key, to keep."""
    limits = NameConstraints(permitted, excluded) if permitted or excluded else None
    try:
        if under is None:
            made = CertificateAuthority.create(name, _begin(), days, key=key_type, constraints=limits)
        else:
            above = _authority(under, under_key)
            made = above.issue_authority(name, _begin(), days, key=key_type, constraints=limits)
    except ValueError as error:
        fail(str(error), 2)
    folder = writing.folder
    writing.write(
        _File(folder / "ca.pem", made.bundle_pem), _File(folder / "ca.key", made.key_pem, secret=True)
    )
    _say(
        writing.dry_run,
        "Hosts that shall believe it name it under [tls] private_ca:",
        f'  private_ca = ["{folder / "ca.pem"}"]',
    )


@cert.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--serves", "domains", multiple=True, help="Mail domain that it may serve (SRVName); repeatable."
)
@click.option("--address", "addresses", multiple=True, help="IP address to name as well; repeatable.")
@click.option("--server-only", is_flag=True, help="Without the client purpose, as public CAs issue.")
@_issuer_domain
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True)
@_key_type
@_issuer
@_writing
def host(
    names: tuple[str, ...],
    domains: tuple[str, ...],
    addresses: tuple[str, ...],
    server_only: bool,
    issuer_domain: str,
    days: int,
    key_type: KeyType,
    issuer: _Issuer,
    writing: _Writing,
) -> None:
    """Issue for a host: NAME.pem with its chain, and NAME.key. The first of NAMES is what it says at EHLO."""
    authority = replace(issuer.authority(), issuer_domain=issuer_domain)
    purposes = (Purpose.SERVER,) if server_only else (Purpose.SERVER, Purpose.CLIENT)
    try:
        issued = authority.issue_host(
            names,
            _begin(),
            days,
            purposes=purposes,
            addresses=addresses,
            services=[(service, domain) for domain in domains for service in ("amtp", "mt2")],
            key=key_type,
        )
    except ValueError as error:
        fail(str(error), 2)
    stem = _stem(names[0])
    folder = writing.folder
    writing.write(*_pair(folder, stem, issued))
    _say(
        writing.dry_run,
        "In the host's configuration:",
        "  [tls]",
        f'  certificate = "{folder / f"{stem}.pem"}"',
        f'  key = "{folder / f"{stem}.key"}"',
    )


@cert.command()
@click.argument("address")
@click.option("--host", "hosts", multiple=True, help="What the machine says at EHLO (AMTP); repeatable.")
@_issuer_domain
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True)
@_key_type
@_issuer
@_writing
def user(
    address: str,
    hosts: tuple[str, ...],
    issuer_domain: str,
    days: int,
    key_type: KeyType,
    issuer: _Issuer,
    writing: _Writing,
) -> None:
    """Issue for the user with this mail ADDRESS: ADDRESS.pem and ADDRESS.key."""
    authority = replace(issuer.authority(), issuer_domain=issuer_domain)
    try:
        issued = authority.issue_user(address, _begin(), days, hosts=hosts, key=key_type)
    except ValueError as error:
        fail(str(error), 2)
    writing.write(*_pair(writing.folder, _stem(address), issued))
    _say(
        writing.dry_run,
        "To let it log in by itself (EXTERNAL):",
        f"  outrider user add NAME --certificate {address} --no-password",
    )


@cert.command()
@click.argument("file", type=_PATH)
@click.option("--key", "key_file", type=_PATH, help="Its key; default beside it, .key.")
@click.option("--new-key", is_flag=True, help="With a new key: whoever has pinned the old one must be told.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True)
@_issuer
@_dry_run
def renew(
    file: Path,
    key_file: Path | None,
    new_key: bool,
    days: int,
    issuer: _Issuer,
    dry_run: bool,
) -> None:
    """Issue again for the names and purposes in FILE, which stays as FILE.previous."""
    authority = issuer.authority()
    key_path = key_file or file.with_suffix(".key")
    old = Issued(_certificates(file)[0], _key(key_path))
    try:
        issued = authority.renew(old, _begin(), days, new_key=new_key)
    except ValueError as error:
        fail(f"{file}: {error}")
    files = [_File(file, issued.certificate_pem)]
    if new_key:
        files.insert(0, _File(key_path, issued.key_pem, secret=True))
    if not dry_run:
        for one in files:
            _keep_previous(one)
    _write(files, force=True, dry_run=dry_run)
    _say(dry_run, "A running server takes it up by itself, or at once by `outrider reload`.")


@cert.command()
@click.argument("revoked", nargs=-1)
@click.option("-o", "--output", type=_PATH, default=Path("ca.crl"), show_default=True)
@click.option("--reason", type=click.Choice(sorted(_REASONS)), default="unspecified", show_default=True)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="Until the next one."
)
@_issuer
@_dry_run
def crl(
    revoked: tuple[str, ...],
    output: Path,
    reason: str,
    days: int,
    issuer: _Issuer,
    dry_run: bool,
) -> None:
    """Write the authority's list of revocations, with those REVOKED added: certificate files, or serials in
    hexadecimal. Without any the list is only made anew, which must happen before it runs out."""
    authority = issuer.authority()
    now = datetime.now(UTC)
    why = None if reason == "unspecified" else _REASONS[reason]
    more = [Revocation(_serial(text, authority), now, why) for text in revoked]
    try:
        made = authority.extended_list(_old_list(output), more, now, days)
    except ValueError as error:
        fail(f"{output}: {error}")
    _write([_File(output, made.public_bytes(Encoding.PEM))], force=True, dry_run=dry_run)
    _say(
        dry_run,
        f"{len(list(made))} revoked; the next list is due by {made.next_update_utc:%Y-%m-%d}.",
        "Hosts that shall heed it:  [tls] crl = " + f'["{output}"]',
    )


# -- files ------------------------------------------------------------------------------------------------


def _begin() -> datetime:
    """From a little ago: others' clocks differ."""
    return datetime.now(UTC) - _CLOCK_SKEW


def _stem(name: str) -> str:
    return _NOT_IN_FILE_NAMES.sub("_", name).lstrip(".") or "certificate"


def _pair(folder: Path, stem: str, issued: Issued) -> list[_File]:
    key = _File(folder / f"{stem}.key", issued.key_pem, secret=True)
    return [key, _File(folder / f"{stem}.pem", issued.certificate_pem)]


def _write(files: Sequence[_File], *, force: bool, dry_run: bool) -> None:
    """All or nothing as far as can be foreseen; secrets 0600, and before what needs them."""
    present = [str(one.path) for one in files if one.path.exists()]
    if present and not force:
        fail(f"{', '.join(present)}: exists; nothing was written (--force replaces)")
    for one in files:
        click.echo(
            f"{'would write' if dry_run else 'writing'} {one.path}{' (secret, 0600)' if one.secret else ''}"
        )
        if dry_run:
            continue
        try:
            write_private(one.path, one.content)
            if not one.secret:
                one.path.chmod(0o644)
        except OSError as error:
            fail(f"{one.path}: {error.strerror}")


def _keep_previous(file: _File) -> None:
    try:
        write_private(file.path.with_name(f"{file.path.name}.previous"), file.path.read_bytes())
    except OSError as error:
        fail(f"{file.path}.previous: {error.strerror}")


def _say(dry_run: bool, *lines: str) -> None:
    """What to do next, unless nothing has been done; for people, so not on standard output."""
    if not dry_run:
        for line in lines:
            click.echo(line, err=True)


def _authority(file: Path, key_file: Path | None) -> CertificateAuthority:
    key_path = key_file or file.with_suffix(".key")
    try:
        return CertificateAuthority.from_pem(file.read_bytes(), key_path.read_bytes())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; `outrider cert ca NAME` makes an authority")
    except (ValueError, TypeError) as error:
        fail(f"{file} with {key_path}: {error}")


def _certificates(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except ValueError:
        fail(f"{file}: holds no PEM certificate")


def _key(file: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except (ValueError, TypeError):
        fail(f"{file}: holds no PEM key, or an encrypted one")
    if not isinstance(key, PrivateKey):
        fail(f"{file}: the key is neither elliptic-curve nor RSA")
    return key


def _serial(text: str, authority: CertificateAuthority) -> int:
    """Of a certificate file, or as written in hexadecimal."""
    if Path(text).is_file():
        certificate = _certificates(Path(text))[0]
        if certificate.issuer != authority.certificate.subject:
            fail(f"{text}: another authority issued it")
        return certificate.serial_number
    digits = text.replace(":", "")
    if not re.fullmatch(r"[0-9a-fA-F]{1,40}", digits):
        fail(f"{text}: neither a file nor a serial number in hexadecimal", 2)
    return int(digits, 16)


def _old_list(file: Path) -> x509.CertificateRevocationList | None:
    if not file.exists():
        return None
    try:
        return x509.load_pem_x509_crl(file.read_bytes())
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except ValueError:
        fail(f"{file}: is there, and is no list of revocations (PEM)")
