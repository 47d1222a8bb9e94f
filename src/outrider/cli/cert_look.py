"""`outrider cert inspect` and `outrider cert check`: what a certificate says, and who would accept it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import load_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows, shown
from outrider.config.loader import Loaded
from outrider.config.schema import Amtp
from outrider.dns.answers import DnsError, IPAddress, Resolver
from outrider.dns.resolver import DnsResolver, ResolverSettings
from outrider.identity.acceptance import acceptance
from outrider.identity.authorities import CaStores
from outrider.identity.certificate_report import certificate_report, verdicts
from outrider.identity.host_identity import HostSettings
from outrider.net.presented_chain import NoPresentationError, presented_chain
from outrider.runtime.ca_files import CertificateFileError, configured_stores, read_pem_chain
from outrider.runtime.host_view import see_host

_PATH = click.Path(path_type=Path)
_LABELS = {"ok": "ok  ", "bad": "BAD ", "note": "note"}
_SHOWN = (
    "subject",
    "issuer",
    "serial",
    "not_before",
    "not_after",
    "hosts",
    "services",
    "mailboxes",
    "common_name",
)
_AFTER = ("oddities", "purposes", "key", "signature", "sha256", "key_sha256")

_ca_files = click.option("--ca", "ca_files", multiple=True, type=_PATH, help="PEM file of further CAs.")


@click.command()
@click.argument("target")
@click.option("--starttls", is_flag=True, help="Speak SMTP first (a mail port).")
@_ca_files
@config_option
@json_option
def inspect(
    config_path: Path, target: str, starttls: bool, ca_files: tuple[Path, ...], as_json: bool
) -> None:
    """Show the certificates in TARGET, a PEM file or HOST:PORT, and what Outrider would do with them."""
    loaded = _loaded(config_path)
    host = "" if Path(target).exists() else target.rpartition(":")[0]
    if host:
        chain = _presented(_resolver(loaded), host, _port(target.rpartition(":")[2]), starttls)
    elif Path(target).exists():
        chain = _read(Path(target))
    else:
        fail("TARGET is neither a file nor HOST:PORT", 2)
    stores, settings = _stores(loaded, ca_files), _settings(loaded)
    reports = [certificate_report(der) for der in chain]
    found = list(verdicts(chain, host, stores, settings, time.time()))
    if as_json:
        print_json({"chain": reports, "verdicts": dict(found)})
        return
    for number, report in enumerate(reports, 1):
        click.echo(
            f"certificate {number} of {len(reports)}{' (an authority)' if report.get('authority') else ''}"
        )
        _print_report(report)
    click.echo("what Outrider would do")
    for who, verdict in found:
        click.echo(f"  {shown(who)}: {shown(verdict)}")


@click.command()
@click.argument("target", required=False)
@click.option("--own", is_flag=True, help="This host, by its configuration.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default the port of AMTP.")
@click.option("--starttls", is_flag=True, help="Speak SMTP first (a mail port).")
@click.option("--domain", "domains", multiple=True, help="Mail domain that it should serve; repeatable.")
@click.option("--address", "addresses", multiple=True, help="Address it connects from; default those in DNS.")
@_ca_files
@config_option
@json_option
def check(
    config_path: Path,
    target: str | None,
    own: bool,
    port: int | None,
    starttls: bool,
    domains: tuple[str, ...],
    addresses: tuple[str, ...],
    ca_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Would an AMTP peer accept the host TARGET, or this one (--own)? Exit code 1 if not.

    Looks at what a peer would: certificate, names, dates, CA, PTR records and back, SRV records. Believed are
    the CAs of the configuration; those that a peer believes may be others.
    """
    if own == (target is not None):
        fail("give a host, or --own", 2)
    loaded = load_or_fail(config_path) if own else _loaded(config_path)
    amtp = loaded.config.amtp if loaded is not None else Amtp()
    resolver = _resolver(loaded)
    sources = _addresses(addresses)
    if own and loaded is not None:
        name = loaded.config.hostname
        tls = loaded.config.tls
        chain = _read(loaded.resolve(tls.certificate)) if tls.certificate else ()
        domains = domains or tuple(loaded.config.domains)
    else:
        name = target or ""
        chain = _presented(resolver, name, port or amtp.port, starttls)
    view = asyncio.run(see_host(resolver, name, chain, domains, sources))
    lines = list(acceptance(view, _stores(loaded, ca_files), _settings(loaded), amtp.port, time.time()))
    rows: list[dict[str, Any]] = [
        {"result": line.result, "subject": line.subject, "text": line.text, "remedy": line.remedy}
        for line in lines
    ]
    if as_json:
        print_rows(rows, (), as_json=True)
    else:
        _print_lines(rows)
    if any(line.result == "bad" for line in lines):
        raise SystemExit(1)


def _print_report(report: dict[str, Any]) -> None:
    for key in (*_SHOWN, *_AFTER):
        if report.get(key):
            click.echo(f"  {key.replace('_', ' ')}: {shown(report[key])}")
    if report.get("malformed"):
        click.echo("  malformed")


def _print_lines(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(f"{_LABELS[row['result']]} {shown(row['subject'])}: {shown(row['text'])}")
        if row["remedy"]:
            click.echo(f"       {shown(row['remedy'])}")


def _loaded(config_path: Path) -> Loaded | None:
    """The configuration, if there is one: these questions can be asked on any machine."""
    return load_or_fail(config_path) if config_path.exists() else None


def _settings(loaded: Loaded | None) -> HostSettings:
    try:
        return HostSettings.of(loaded.config.amtp) if loaded is not None else HostSettings()
    except ValueError as error:
        fail(str(error))


def _stores(loaded: Loaded | None, ca_files: Sequence[Path]) -> CaStores:
    try:
        return configured_stores(loaded, ca_files)
    except CertificateFileError as error:
        fail(str(error))


def _resolver(loaded: Loaded | None) -> Resolver:
    try:
        if loaded is None:
            return DnsResolver(ResolverSettings.from_config(None))
        dns = loaded.config.dns
        return DnsResolver(ResolverSettings.from_config(dns.servers, dns.validating, dns.timeout))
    except ValueError as error:
        fail(str(error))


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        return read_pem_chain(path)
    except CertificateFileError as error:
        fail(str(error))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        fail("TARGET is neither a file nor HOST:PORT", 2)
    return int(text)


def _addresses(texts: Sequence[str]) -> tuple[IPAddress, ...]:
    try:
        return tuple(map(ip_address, texts))
    except ValueError as error:
        fail(str(error), 2)


def _presented(resolver: Resolver, host: str, port: int, starttls: bool) -> tuple[bytes, ...]:
    try:
        return asyncio.run(_fetch(resolver, host, port, starttls))
    except (NoPresentationError, DnsError) as error:
        fail(str(error))


async def _fetch(resolver: Resolver, host: str, port: int, starttls: bool) -> tuple[bytes, ...]:
    """What the host presents at the first of its addresses that answers."""
    problems: list[str] = []
    for address in await _reachable(resolver, host):
        try:
            return await asyncio.to_thread(presented_chain, (address, port), host, starttls=starttls)
        except NoPresentationError as error:
            problems.append(f"{address} port {port}: {error}")
    raise NoPresentationError("\n".join(problems) or f"{host}: no address")


async def _reachable(resolver: Resolver, host: str) -> tuple[str, ...]:
    literal = host.removeprefix("[").removesuffix("]")
    try:
        return (str(ip_address(literal)),)
    except ValueError:
        pass
    return tuple(map(str, (await resolver.addresses(host)).addresses))
