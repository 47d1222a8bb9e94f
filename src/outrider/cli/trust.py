"""`outrider trust`: ask the lists of `[trust]` about somebody, and see whether they are alive."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_json, print_rows

if TYPE_CHECKING:
    from outrider.reception.trust_lookups import TrustSource
    from outrider.runtime.assembly import Assembly
    from outrider.trust.subjects import Subject

T = TypeVar("T")


@click.group()
def trust() -> None:
    """Ask block and vouch lists, as the server would, and see whether they are alive."""


@trust.command()
@click.argument("subject", metavar="ADDRESS|DOMAIN|MAILBOX")
@click.option("--claimed", is_flag=True, help="As if nothing proved that the client speaks for the name.")
@config_option
@json_option
def check(config_path: Path, subject: str, claimed: bool, as_json: bool) -> None:
    """What every list says of an IP address, a domain, or a sender, and the score that follows.

    Exit code 1 when the score is above 0.
    """
    subjects = _subjects(subject, is_proven=not claimed)
    assembly = _assembly(config_path)

    async def ask(source: TrustSource) -> tuple[list[dict[str, Any]], int]:
        assessment = await source.assess(subjects)
        rows = [
            {
                "list": one.list.name,
                "kind": one.list.kind,
                "subject": str(one.subject),
                "said": one.answer.said.value,
                "detail": one.answer.detail,
                "weight": (-one.list.weight if one.list.vouches else one.list.weight) if one.counts else 0,
            }
            for one in assessment.findings
        ]
        return rows, assessment.score

    rows, score = _with_source(assembly, ask)
    columns = tuple((key, key) for key in ("list", "kind", "subject", "said", "weight", "detail"))
    print_rows(rows, columns, as_json=as_json)
    if as_json:
        print_json({"score": score})
    else:
        click.echo(f"score {score}")
    sys.exit(1 if score > 0 else 0)


@trust.command("lists")
@config_option
@json_option
def lists_(config_path: Path, as_json: bool) -> None:
    """Every list, and whether it is alive: those in DNS are asked for their test entries (RFC 5782).

    Exit code 1 when one is not.
    """
    assembly = _assembly(config_path)

    async def probe(source: TrustSource) -> list[dict[str, Any]]:
        states = await asyncio.gather(*(source.probe(one) for one in assembly.trust.lists))
        files = assembly.trust.files or {}
        return [
            {
                "list": one.name,
                "kind": one.kind,
                "source": one.source,
                "weight": one.weight,
                "state": f"{files[one.name].entries.count} entries" if one.is_file else state or "alive",
                "ok": not state,
            }
            for one, state in zip(assembly.trust.lists, states, strict=True)
        ]

    rows = _with_source(assembly, probe)
    columns = tuple((key, key) for key in ("list", "kind", "source", "weight", "state"))
    print_rows(rows, columns, as_json=as_json)
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


def _subjects(text: str, *, is_proven: bool) -> tuple[Subject, ...]:
    """An address is a client's; a domain is asked about as a sender's and as a host's."""
    from ipaddress import ip_address

    from outrider.model.address import AddressError, parse_address, parse_domain
    from outrider.trust.subjects import Role, Subject

    try:
        return (Subject(Role.CLIENT, str(ip_address(text)), True),)
    except ValueError:
        pass
    try:
        if "@" in text:
            mailbox = parse_address(text)
            return (
                Subject(Role.DOMAIN, mailbox.domain, is_proven),
                Subject(Role.SENDER, str(mailbox), is_proven),
            )
        domain = parse_domain(text)
    except AddressError as error:
        fail(f"{text!r} is neither an address nor a domain: {error}", 2)
    subjects = (Subject(Role.DOMAIN, domain, is_proven), Subject(Role.ISSUER, domain, True))
    return (*subjects, Subject(Role.HOST, domain, True)) if is_proven else subjects


def _assembly(config_path: Path) -> Assembly:
    from outrider.config.problems import ConfigError
    from outrider.runtime.starting import prepare

    try:
        _, assembly = prepare(config_path)
    except ConfigError as error:
        fail(str(error))
    if not assembly.trust.lists:
        fail("there are no lists; name some in [trust.lists]")
    return assembly


def _with_source(assembly: Assembly, question: Callable[[TrustSource], Awaitable[T]]) -> T:
    from outrider.dns.resolver import DnsResolver
    from outrider.runtime.lookup import DnsLookup
    from outrider.runtime.trust_parts import trust_source
    from outrider.trust.observer import NullTrustObserver

    async def ask() -> T:
        resolver = DnsResolver(assembly.resolver, time.monotonic)
        try:
            partners = assembly.amtp.partners
            source = trust_source(
                assembly.trust, assembly.config, partners, DnsLookup(resolver), NullTrustObserver()
            )
            return await question(source)
        finally:
            await resolver.aclose()

    return asyncio.run(ask())
