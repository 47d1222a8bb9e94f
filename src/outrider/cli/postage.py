"""`outrider postage`: the ledger of what mail to us pays (AMDP-20)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import opened, prepared
from outrider.holding.postage.books import BookError, PostageBooks, shown
from outrider.holding.postage.forms import key_of
from outrider.holding.postage.tables import Account, KnownReceipt
from outrider.model.address import AddressError, parse_domain
from outrider.protocols.amdp.prices import PriceError, parse_price
from outrider.runtime.commands import moment
from outrider.runtime.postage_parts import new_secret, open_ledger
from outrider.runtime.private_files import write_private

_ACCOUNT = tuple((key, key) for key in ("account", "state", "balance", "payers", "used"))
_CREDIT = tuple((key, key) for key in ("account", "amount", "reference", "result", "balance"))
_RECEIPT = tuple((key, key) for key in ("serial", "state", "amount", "payer", "domain", "expires", "cause"))
_TOTALS = ("credited", "closed_out", "balance", "open", "reserved", "spent")

dry_run_option = click.option("--dry-run", is_flag=True, help="Check, and change nothing.")


@click.group()
def postage() -> None:
    """Accounts that senders have here, what is credited to them, and the receipts bought from them.

    Amounts are exact, with at most three decimals, in [amdp.postage] currency.
    """


@postage.group()
def account() -> None:
    """Open, close and list the accounts of senders."""


@account.command("open")
@click.argument("name")
@click.argument("payers", nargs=-1, required=True, metavar="SENDER-DOMAIN...")
@click.option("--key-file", type=click.Path(path_type=Path), help="Write the secret there, 0600.")
@click.option("--replace", is_flag=True, help="Give an open account these domains and a new secret.")
@dry_run_option
@config_option
@json_option
def open_(
    config_path: Path,
    name: str,
    payers: tuple[str, ...],
    key_file: Path | None,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Open an account. Its secret is shown once: the sender's site puts it into a file and names both in its
    [amdp.postage] accounts."""
    secret, domains = new_secret(), tuple(_domain(one) for one in payers)
    with _books(config_path) as books:
        if dry_run:
            click.echo(f"{name} would be opened for {', '.join(domains)}")
            return
        books.open_account(name, domains, key_of(secret), time.time(), replace=replace)
    row = {"account": name, "payers": " ".join(domains), "secret": secret}
    if key_file is not None:
        try:
            write_private(key_file, f"{secret}\n".encode())
        except OSError as error:
            fail(f"{key_file}: {error}; open the account again with --replace")
        row["secret"] = f"in {key_file}"
    print_rows([row], tuple((key, key) for key in row), as_json=as_json)


@account.command("close")
@click.argument("name")
@dry_run_option
@config_option
@json_option
def close_(config_path: Path, name: str, dry_run: bool, as_json: bool) -> None:
    """Sell no more from an account, and take its balance off, to be paid out. Receipts that are out stay
    good."""
    with _books(config_path) as books:
        balance = _account(books, name).balance if dry_run else books.close_account(name, time.time())
    row = {"account": name, "paid out": shown(balance)}
    print_rows([row], tuple((key, key) for key in row), as_json=as_json)


@account.command("list")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """Show all accounts."""
    with _books(config_path) as books:
        rows = [_account_row(one) for one in books.accounts()]
    print_rows(rows, _ACCOUNT, as_json=as_json)


@postage.command()
@click.argument("name", metavar="ACCOUNT")
@click.argument("amount")
@click.option("--reference", required=True, help="Names the payment: it is credited once, however often.")
@dry_run_option
@config_option
@json_option
def credit(config_path: Path, name: str, amount: str, reference: str, dry_run: bool, as_json: bool) -> None:
    """Credit an account with what its owner has paid."""
    try:
        thousandths = parse_price(amount)
    except PriceError as error:
        fail(f"{amount!r}: {error}", 2)
    with _books(config_path) as books:
        if dry_run:
            result = "would be credited, unless it was before"
        else:
            is_new = books.credit(name, thousandths, reference, time.time())
            result = "credited" if is_new else "was credited before"
        balance = _account(books, name).balance
    row = {
        "account": name,
        "amount": shown(thousandths),
        "reference": reference,
        "result": result,
        "balance": shown(balance),
    }
    print_rows([row], _CREDIT, as_json=as_json)


@postage.command()
@click.argument("name", metavar="[ACCOUNT]", required=False)
@click.option("--receipts", is_flag=True, help="The account's latest receipts, and what became of each.")
@config_option
@json_option
def ledger(config_path: Path, name: str | None, receipts: bool, as_json: bool) -> None:
    """Show the sums of one account or of all. Exit code 1 when they do not add up."""
    if receipts and name is None:
        fail("--receipts needs an account", 2)
    with _books(config_path) as books:
        if name is not None:
            _account(books, name)
        totals = books.audit(name or "")
        rows = [_receipt_row(one) for one in books.receipts(name)] if receipts and name else []
    if receipts:
        print_rows(rows, _RECEIPT, as_json=as_json)
    else:
        sums = {key: shown(getattr(totals, key)) for key in _TOTALS}
        print_rows([sums], tuple((key, key.replace("_", " ")) for key in _TOTALS), as_json=as_json)
    if not totals.is_balanced:
        fail("the sums do not add up: credited is not what was closed out, is held, and is in receipts")


@postage.command()
@click.argument("serial")
@dry_run_option
@config_option
@json_option
def refund(config_path: Path, serial: str, dry_run: bool, as_json: bool) -> None:
    """Pay the amount of a receipt back into its account, redeemed or not; the receipt is good for nothing
    then."""
    with _books(config_path) as books:
        known = books.receipt(serial)
        if known is None:
            fail(f"there is no receipt {serial}")
        returned = None if dry_run else books.refund(serial, time.time())
    result = "would be paid back" if dry_run else "paid back"
    if returned is not None and returned.again:
        result = "was paid back before"
    row = {"account": known.account, "amount": shown(known.amount), "result": result}
    print_rows([row], tuple((key, key) for key in row), as_json=as_json)


@postage.command()
@dry_run_option
@config_option
@json_option
def renew(config_path: Path, dry_run: bool, as_json: bool) -> None:
    """Begin a new epoch: receipts sold so far are taken no more, and those not redeemed are paid back.

    Always after the ledger was restored from a backup, in which receipts look unspent that have been spent
    since; and when somebody may have read the ledger's key.
    """
    with _books(config_path) as books:
        if dry_run:
            totals = books.audit()
            click.echo(f"{shown(totals.open)} in open receipts would be paid back")
            return
        epoch, returned = books.renew(time.time())
    row = {
        "epoch": epoch,
        "paid back": len(returned),
        "amount": shown(sum(one.amount for one in returned)),
    }
    print_rows([row], tuple((key, key) for key in row), as_json=as_json)


@contextmanager
def _books(config_path: Path) -> Iterator[PostageBooks]:
    assembly = prepared(config_path)
    with opened(assembly, lambda config, data_dir: open_ledger(config, data_dir, time.time())) as found:
        try:
            yield found.books
        except BookError as error:
            fail(str(error))


def _account(books: PostageBooks, name: str) -> Account:
    found = next((one for one in books.accounts() if one.name == name), None)
    if found is None:
        fail(f"there is no account {name}")
    return found


def _domain(text: str) -> str:
    try:
        return parse_domain(text)
    except AddressError as error:
        fail(f"{text!r} is no domain: {error}", 2)


def _account_row(one: Account) -> dict[str, Any]:
    return {
        "account": one.name,
        "state": "open" if one.is_open else "closed",
        "balance": shown(one.balance),
        "payers": " ".join(one.payers),
        "used": moment(one.used_at),
    }


def _receipt_row(one: KnownReceipt) -> dict[str, Any]:
    return {
        "serial": one.serial,
        "state": one.state.value,
        "amount": shown(one.amount),
        "payer": one.payer,
        "domain": one.domain,
        "expires": moment(one.expires),
        "cause": one.cause,
    }
