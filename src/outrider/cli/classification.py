"""`outrider classification`: whose word there is on the class of a sender, and what was reported
(AMDP-18)."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import opened, prepared
from outrider.holding.classification.store import KeptReport, open_classification_store
from outrider.holding.subscriptions.wishes import canonical_pattern
from outrider.message.summary import displayable
from outrider.model.address import AddressError, Domain, parse_domain
from outrider.protocols.amdp.mail_class import ClassError
from outrider.runtime.assembly import Assembly
from outrider.runtime.commands import moment

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group()
def classification() -> None:
    """Classes of senders: ask the services that this site has chosen, look after our own."""


@classification.command()
@click.argument("domain")
@config_option
@json_option
def show(config_path: Path, domain: str, as_json: bool) -> None:
    """Ask the services in [amdp.classification] what DOMAIN is vouched for. Exit code 1 when for nothing."""
    assembly, name = prepared(config_path), _domain(domain)
    if not assembly.config.amdp.classification.services:
        fail("no services are chosen; name some in [amdp.classification] services")
    row = asyncio.run(_ask(assembly, name))
    print_rows(
        [row], tuple((key, key) for key in ("domain", "classes", "service", "result")), as_json=as_json
    )
    if not row["classes"]:
        raise SystemExit(1)


class _OnTerminal:
    """Implements `DirectoryObserver`: why a service had no answer is said beside the row."""

    def class_looked_up(self, domain: str, service: str, patterns: int, *, answered: bool) -> None:
        """The row says it."""

    def subscriptions_failed(self, doing: str, error: BaseException) -> None:
        """See `DirectoryObserver`."""
        click.echo(f"outrider: {doing}: {displayable(str(error), 300)}", err=True)


async def _ask(assembly: Assembly, domain: Domain) -> dict[str, Any]:
    from outrider.holding.classification.directory import ClassDirectory, DirectoryParts
    from outrider.holding.policies.peers import parse_peer
    from outrider.runtime.amdp_trial import calling
    from outrider.runtime.subscription_parts import StoresCheck

    services = tuple(parse_peer(one) for one in assembly.config.amdp.classification.services)
    check = StoresCheck(assembly.amdp_stores)
    async with calling(assembly) as (caller, _):
        parts = DirectoryParts(services, caller, check, _OnTerminal(), time.time, secrets.token_bytes)
        found = await ClassDirectory(parts).vouched(domain)
    result = (
        "vouched for" if found.patterns else "unknown" if found.answered else "not every service answered"
    )
    classes = sorted(str(one) for one in found.patterns)
    return {"domain": str(domain), "classes": classes, "service": found.service, "result": result}


@classification.command()
@click.argument("domain", required=False, default="")
@click.option("--full", is_flag=True, help="Print each report whole.")
@config_option
@json_option
def reports(config_path: Path, domain: str, full: bool, as_json: bool) -> None:
    """List what our service was told of lies (of DOMAIN, or all), and which classes were withdrawn for it."""
    name = str(_domain(domain)) if domain else ""
    with opened(prepared(config_path), open_classification_store) as store:
        kept = store.reports(name)
        withdrawn = {one: store.withdrawn(one) for one in {each.domain for each in kept}}
    rows = [_row(one, one.pattern in withdrawn[one.domain], full=full) for one in kept]
    columns = ("domain", "pattern", "class", "reporter", "at", "withdrawn") + (("report",) if full else ())
    print_rows(rows, tuple((key, key) for key in columns), as_json=as_json)


def _row(one: KeptReport, withdrawn: bool, *, full: bool) -> dict[str, Any]:
    row = {
        "domain": one.domain,
        "pattern": one.pattern,
        "class": one.mail_class,
        "reporter": one.reporter,
        "at": moment(one.made_at),
        "withdrawn": withdrawn,
    }
    return {**row, "report": one.report.decode("utf-8", "replace")} if full else row


@classification.command()
@click.argument("domain")
@click.argument("pattern")
@dry_run_option
@config_option
@json_option
def restore(config_path: Path, domain: str, pattern: str, dry_run: bool, as_json: bool) -> None:
    """Vouch again for a class of DOMAIN that was withdrawn, and forget the reports on it.

    Exit code 1 when it was not withdrawn.
    """
    name = str(_domain(domain))
    try:
        canonical = canonical_pattern(pattern)
    except ClassError as error:
        fail(str(error), 2)
    with opened(prepared(config_path), open_classification_store) as store:
        was = canonical in store.withdrawn(name)
        if was and not dry_run:
            store.restore(name, canonical)
    result = ("would be restored" if dry_run else "restored") if was else "was not withdrawn"
    row = {"domain": name, "pattern": canonical, "changed": was, "result": result}
    print_rows([row], tuple((key, key) for key in ("domain", "pattern", "result")), as_json=as_json)
    if not was:
        raise SystemExit(1)


def _domain(text: str) -> Domain:
    try:
        return parse_domain(text)
    except AddressError as error:
        fail(f"{text!r}: {error}", 2)
