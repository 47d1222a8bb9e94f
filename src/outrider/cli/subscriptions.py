"""`outrider subscriptions`: what people have said about whose mail they want (AMDP-19)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import address_or_fail, opened, prepared
from outrider.holding.subscriptions.store import BATCH, SubscriptionStore, open_subscription_store
from outrider.holding.subscriptions.wishes import Rule, RuleError, Standing, parse_subject
from outrider.model.address import AddressError, Domain, parse_domain
from outrider.runtime.assembly import Assembly
from outrider.runtime.commands import moment

_COLUMNS = tuple((key, key) for key in ("address", "wish", "sender", "class", "since", "how"))
_BY_OPERATOR = "by the operator"
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.group()
def subscriptions() -> None:
    """What people have said about whose mail they want; whose lists want to know it."""


@subscriptions.command("list")
@click.argument("address", required=False, default="")
@config_option
@json_option
def list_(config_path: Path, address: str, as_json: bool) -> None:
    """Print the wishes of ADDRESS, or of all."""
    person = address_or_fail(address) if address else None
    with opened(prepared(config_path), open_subscription_store) as store:
        rules = _all_rules(store) if person is None else store.rules_of(person)
        print_rows((_row(one) for one in rules), _COLUMNS, as_json=as_json)


@subscriptions.command("set")
@click.argument("address")
@click.argument("wish", type=click.Choice(["accept", "deny", "leave"]))
@click.argument("sender")
@click.argument("mail_class", metavar="[CLASS-PATTERN]", required=False, default="*")
@dry_run_option
@config_option
@json_option
def set_(
    config_path: Path, address: str, wish: str, sender: str, mail_class: str, dry_run: bool, as_json: bool
) -> None:
    """Say on your word what ADDRESS wants of SENDER (an address, a domain, `*`); nobody is asked.

    Exit code 1 when that was its wish already.
    """
    person = address_or_fail(address)
    standing = Standing.LEFT if wish == "leave" else Standing(wish)
    try:
        subject = parse_subject(sender, mail_class)
    except RuleError as error:
        fail(str(error), 2)
    with opened(prepared(config_path), open_subscription_store) as store:
        before = next((one for one in store.rules_of(person) if one.subject == subject), None)
        old = Standing.LEFT if before is None else before.standing
        changes = old is not standing
        if changes and not dry_run:
            changes = store.set(person, subject, standing, _BY_OPERATOR, time.time())
    row = {"address": str(person), "wish": wish, "sender": subject.sender, "class": subject.pattern}
    result = ("would be set" if dry_run else "set") if changes else "is so already"
    columns = (*_COLUMNS[:4], ("result", "result"))
    print_rows([{**row, "changed": changes, "result": result}], columns, as_json=as_json)
    if not changes:
        raise SystemExit(1)


@subscriptions.command()
@click.argument("domain")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--sender", required=True, help="Our address or domain that the mail is from.")
@click.option("--class", "mail_class", required=True, help="The class of the mail, like Agent::Bulk::letter.")
@click.option("--server", default="", help="https://HOST[:PORT]; default: what DOMAIN's policy says.")
@config_option
@json_option
def synchronise(
    config_path: Path, domain: str, file: Any, sender: str, mail_class: str, server: str, as_json: bool
) -> None:
    """Ask the receiving DOMAIN which of the addresses in FILE (one a line, - for standard input) accept our
    mail.

    Prints those, with the links that end each. Exit code 1 when too few have subscribed to be told.
    """
    assembly = prepared(config_path)
    addresses = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    try:
        name = parse_domain(domain)
        told, rows = asyncio.run(_synchronise(assembly, name, server, sender, mail_class, addresses))
    except AddressError as error:
        fail(f"{domain!r}: {error}", 2)
    except ValueError as error:
        fail(str(error))
    if not told:
        fail(f"too few of these {len(addresses)} addresses have subscribed: nothing is told of any")
    print_rows(rows, (("address", "address"), ("leave", "leave")), as_json=as_json)


async def _synchronise(
    assembly: Assembly, domain: Domain, server: str, sender: str, mail_class: str, addresses: list[str]
) -> tuple[bool, list[dict[str, str]]]:
    from outrider.holding.policies.directory import PolicyDirectory
    from outrider.holding.policies.peers import parse_peer
    from outrider.holding.subscriptions.client import Submission
    from outrider.holding.subscriptions.client import synchronise as submit
    from outrider.holding.web import CallFailed
    from outrider.runtime.amdp_trial import calling
    from outrider.runtime.subscription_names import host_key, speaking_names

    subject = parse_subject(sender, "*")
    key = host_key(assembly.config, speaking_names(Domain(subject.sender.rpartition("@")[2])))
    if key is None:
        raise ValueError(f"no certificate in [tls] is for a host that speaks for {sender}")
    try:
        async with calling(assembly) as (caller, _):
            if not server:
                port = assembly.config.net.amdp_port
                found = await PolicyDirectory(caller, time.time, lambda: 0.0, port=port).fetch(domain)
                host = "" if found is None else found[0].subscribe_synch
                server = f"https://{host or f'amdp-mis.{domain}:{port}'}"
            one = Submission(subject.sender, mail_class, addresses)
            answer = await submit(caller, key, parse_peer(server), one, time.time(), secrets.token_hex(16))
    except CallFailed as error:
        raise ValueError(str(error)) from error
    return answer.told, [{"address": each.address, "leave": each.leave} for each in answer.accepting]


def _all_rules(store: SubscriptionStore) -> Iterator[Rule]:
    after = 0
    while page := store.rules(after, BATCH):
        yield from page
        after = page[-1].id


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "address": str(rule.address),
        "wish": rule.standing.value,
        "sender": rule.subject.sender,
        "class": rule.subject.pattern,
        "since": moment(rule.changed_at),
        "how": rule.how,
    }
