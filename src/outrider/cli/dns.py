"""`outrider dns`: the records that this site has to publish, and whether DNS has them."""

from __future__ import annotations

import asyncio
import sys
from ipaddress import ip_address
from pathlib import Path

import click

from outrider.cli.asking import load_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows
from outrider.config.loader import Loaded
from outrider.dns.published import Checked, Publication, Status, check, publication, zone_text
from outrider.dns.resolver import DnsResolver, ResolverSettings

_ADDRESS = click.option(
    "--address",
    "addresses",
    multiple=True,
    help="An address of this host as the Internet sees it, where the settings do not tell (NAT, 0.0.0.0).",
)


@click.group(invoke_without_command=True)
@_ADDRESS
@click.option("--zone", default="", help="Only the records of that zone.")
@config_option
@json_option
@click.pass_context
def dns(
    context: click.Context, config_path: Path, addresses: tuple[str, ...], zone: str, as_json: bool
) -> None:
    """Print all records to publish for this configuration, as lines of a zone file.

    `outrider dns check` compares them with DNS.
    """
    if context.invoked_subcommand is not None:
        return
    published = _publication(load_or_fail(config_path), addresses)
    if as_json:
        for record in published.records:
            print_json({slot: getattr(record, slot) for slot in record.__slots__})
        return
    try:
        click.echo(zone_text(published, zone), nl=False)
    except ValueError as error:
        fail(f"--zone {zone}: {error}", 2)


@dns.command("check")
@_ADDRESS
@config_option
@json_option
def check_(config_path: Path, addresses: tuple[str, ...], as_json: bool) -> None:
    """Ask DNS for each record: ok, missing, differs or unknown, and what to do about it.

    Records beside ours are nobody's fault. Exit code 1 unless all are ok.
    """
    loaded = load_or_fail(config_path)
    published = _publication(loaded, addresses)
    rows = asyncio.run(_check(published, _resolver_settings(loaded)))
    print_rows(
        (
            {"status": one.status.value, "record": one.record, "found": one.found, "remedy": one.remedy}
            for one in rows
        ),
        tuple((key, key) for key in ("status", "record", "found", "remedy")),
        as_json=as_json,
    )
    if not rows:
        fail("nothing to check: no listener is reached by strangers; behind NAT give --address")
    sys.exit(0 if all(one.status is Status.OK for one in rows) else 1)


def _publication(loaded: Loaded, addresses: tuple[str, ...]) -> Publication:
    try:
        return publication(loaded.config, tuple(map(ip_address, addresses)))
    except ValueError as error:
        fail(str(error), 2)


def _resolver_settings(loaded: Loaded) -> ResolverSettings:
    settings = loaded.config.dns
    try:
        return ResolverSettings.from_config(settings.servers, settings.validating, settings.timeout)
    except ValueError as error:
        fail(str(error))


async def _check(published: Publication, settings: ResolverSettings) -> tuple[Checked, ...]:
    resolver = DnsResolver(settings)
    try:
        return await check(published, resolver)
    finally:
        await resolver.aclose()
