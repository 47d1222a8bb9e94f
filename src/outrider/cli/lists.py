"""`outrider list`: mailing lists, their members, and posts that wait for a moderator."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import ask
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import address_or_fail, opened, prepared
from outrider.config.problems import ConfigError
from outrider.lists.settings import MailList, load_lists
from outrider.lists.store import BATCH, ListStore, Member, open_list_store
from outrider.model.address import Address
from outrider.runtime.assembly import Assembly
from outrider.runtime.commands import moment
from outrider.runtime.private_files import write_private
from outrider.runtime.starting import prepare

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_BY_OPERATOR = "outrider list"


@click.group("list")
def list_() -> None:
    """Make mailing lists, look after their members, approve posts that wait."""


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@click.option("--owner", "owners", multiple=True, required=True, help="Address of an owner; may be repeated.")
@click.option("--description", default="", help="One line about it.")
@click.option("--mpc", default="ngo/confirmed", show_default=True, help="Mail Policy Code that it sends as.")
@click.option("--posting", type=click.Choice(["members", "anyone", "moderators"]), default="members")
@click.option("--moderator", "moderators", multiple=True, help="Address of a moderator; may be repeated.")
@click.option("--moderated", is_flag=True, help="Posts wait for a moderator.")
@click.option("--closed", is_flag=True, help="Only the operator subscribes addresses.")
@dry_run_option
@config_option
@json_option
def create(config_path: Path, name: str, dry_run: bool, as_json: bool, **wanted: Any) -> None:
    """Add a list to the configuration, if it is without faults then; `outrider reload` begins with it."""
    config_path = config_path.absolute()  # the working directory becomes the configuration's
    address = address_or_fail(name)
    assembly = prepared(config_path)
    if f"{address.local}@{address.domain}" in load_lists(assembly.config):
        fail(f"there is a list {name} already")
    section = _section(address, _domain_key(assembly, address), **wanted)
    if dry_run:
        click.echo(section, nl=False)
        return
    _append(config_path, section)
    row = {"list": name, "result": "added to the configuration; `outrider reload` begins with it"}
    print_rows([row], (("list", "list"), ("result", "result")), as_json=as_json)


def _domain_key(assembly: Assembly, address: Address) -> str:
    """The domain as the file writes it."""
    key = next((key for key in assembly.config.domains if key.lower() == address.domain), None)
    if key is None:
        fail(f'{address.domain} is not in the configuration; add [domains."{address.domain}"] first')
    return key


def _section(
    address: Address,
    domain: str,
    *,
    owners: tuple[str, ...],
    description: str,
    mpc: str,
    posting: str,
    moderators: tuple[str, ...],
    moderated: bool,
    closed: bool,
) -> str:
    settings: dict[str, object] = {"owners": list(owners), "mpc": mpc, "posting": posting}
    if description:
        settings["description"] = description
    if moderators:
        settings["moderators"] = list(moderators)
    if moderated:
        settings["moderated"] = True
    if closed:
        settings["subscription"] = "closed"
    # JSON's strings, lists and true are TOML's too.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    header = f"[domains.{json.dumps(domain)}.lists.{json.dumps(address.local)}]"
    return "\n".join(("", header, *lines, ""))


def _append(config_path: Path, section: str) -> None:
    """Put the section at the file's end, when the whole is good with it; the file keeps owner and mode."""
    path = config_path.resolve()
    trial = path.with_name(f".{path.name}.new")
    text = path.read_text("utf-8")
    joined = text + ("" if text.endswith("\n") else "\n") + section
    try:
        write_private(trial, joined.encode())
        prepare(trial)
        old = path.stat()
        os.chown(trial, old.st_uid, old.st_gid)
        trial.chmod(old.st_mode & 0o7777)
        trial.replace(path)
    except ConfigError as error:
        fail(str(error).replace(str(trial), str(path)))
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    finally:
        trial.unlink(missing_ok=True)


@list_.command()
@click.argument("name", metavar="[NAME@DOMAIN]", required=False)
@config_option
@json_option
def show(config_path: Path, name: str | None, as_json: bool) -> None:
    """Show the lists, or one: what it sends as, who may post, how many members it has."""
    assembly = prepared(config_path)
    lists = load_lists(assembly.config)
    wanted = lists.values() if name is None else [_list(assembly, name)]
    with opened(assembly, open_list_store) as store:
        rows = [_list_row(one, store) for one in wanted]
    columns = ("list", "mpc", "posting", "moderated", "subscription", "members", "suspended", "owners")
    print_rows(rows, tuple((key, key) for key in columns), as_json=as_json)


def _list_row(one: MailList, store: ListStore) -> dict[str, Any]:
    active, suspended = store.counts(one.name)
    return {
        "list": one.name,
        "description": one.settings.description,
        "mpc": str(one.mpc),
        "posting": one.settings.posting,
        "moderated": one.settings.moderated,
        "moderators": [str(address) for address in one.moderator_addresses],
        "subscription": one.settings.subscription,
        "members": active,
        "suspended": suspended,
        "owners": [str(address) for address in one.owners],
        "max_size": one.settings.max_size,
    }


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@click.option("--state", type=click.Choice(["active", "suspended"]), help="Only these.")
@config_option
@json_option
def members(config_path: Path, name: str, state: str | None, as_json: bool) -> None:
    """List the members."""
    assembly = prepared(config_path)
    mail_list = _list(assembly, name)
    with opened(assembly, open_list_store) as store:
        rows = (_member_row(one) for one in _all_members(store, mail_list))
        columns = tuple((key, key) for key in ("address", "state", "since", "how"))
        print_rows((row for row in rows if state in (None, row["state"])), columns, as_json=as_json)


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@config_option
def export(config_path: Path, name: str) -> None:
    """Print the members' addresses, one a line, as `import` reads them."""
    assembly = prepared(config_path)
    mail_list = _list(assembly, name)
    with opened(assembly, open_list_store) as store:
        for one in _all_members(store, mail_list):
            click.echo(str(one.address))


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@click.argument("addresses", nargs=-1, required=True)
@dry_run_option
@config_option
@json_option
def subscribe(config_path: Path, name: str, addresses: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Make addresses members on your word: nobody is asked, and suspended ones get mail again."""
    found = [address_or_fail(text) for text in addresses]
    _subscribe(config_path, name, found, dry_run=dry_run, as_json=as_json)


@list_.command("import")
@click.argument("name", metavar="NAME@DOMAIN")
@click.argument("file", type=click.File(encoding="utf-8"))
@dry_run_option
@config_option
@json_option
def import_(config_path: Path, name: str, file: Any, dry_run: bool, as_json: bool) -> None:
    """Subscribe the addresses of a file (- for standard input), one a line; `#` begins a comment.

    Nothing is done when one of them is no address.
    """
    found: list[Address] = []
    for line in file:
        text = line.partition("#")[0].strip()
        if text:
            found.append(address_or_fail(text))
    _subscribe(config_path, name, found, dry_run=dry_run, as_json=as_json)


def _subscribe(config_path: Path, name: str, found: list[Address], *, dry_run: bool, as_json: bool) -> None:
    assembly = prepared(config_path)
    mail_list = _list(assembly, name)
    with opened(assembly, open_list_store) as store:
        rows = (_joined(store, mail_list, one, dry_run=dry_run) for one in found)
        print_rows(rows, (("address", "address"), ("result", "result")), as_json=as_json)


def _joined(store: ListStore, mail_list: MailList, address: Address, *, dry_run: bool) -> dict[str, Any]:
    if dry_run:
        member = store.member(mail_list.name, address)
        joins = member is None or not member.active
    else:
        joins = store.join(mail_list.name, address, _BY_OPERATOR, time.time())
    result = ("would be subscribed" if dry_run else "subscribed") if joins else "is a member already"
    return {"address": str(address), "changed": joins, "result": result}


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@click.argument("addresses", nargs=-1, required=True)
@dry_run_option
@config_option
@json_option
def unsubscribe(
    config_path: Path, name: str, addresses: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """End subscriptions. Exit code 1 when an address is no member."""
    found = [address_or_fail(text) for text in addresses]
    assembly = prepared(config_path)
    mail_list = _list(assembly, name)
    with opened(assembly, open_list_store) as store:
        rows = [_left(store, mail_list, one, dry_run=dry_run) for one in found]
    print_rows(rows, (("address", "address"), ("result", "result")), as_json=as_json)
    if not all(row["changed"] for row in rows):
        raise SystemExit(1)


def _left(store: ListStore, mail_list: MailList, address: Address, *, dry_run: bool) -> dict[str, Any]:
    name = mail_list.name
    leaves = store.member(name, address) is not None if dry_run else store.leave(name, address)
    result = ("would leave" if dry_run else "has left") if leaves else "is no member"
    return {"address": str(address), "changed": leaves, "result": result}


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@config_option
@json_option
def held(config_path: Path, name: str, as_json: bool) -> None:
    """List the posts that wait for a moderator."""
    config_path = config_path.absolute()  # the working directory becomes the configuration's
    mail_list = _list(prepared(config_path), name)
    rows = ask(config_path, "queue.list", {"states": ["held"], "reason": f"list {mail_list.name}: "})
    columns = tuple((key, key) for key in ("id", "received", "size", "sender"))
    print_rows(rows, columns, as_json=as_json)


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@click.argument("ids", nargs=-1, required=True)
@dry_run_option
@config_option
@json_option
def approve(config_path: Path, name: str, ids: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Let posts that wait go out."""
    _moderate(config_path, name, ids, "release", dry_run=dry_run, as_json=as_json)


@list_.command()
@click.argument("name", metavar="NAME@DOMAIN")
@click.argument("ids", nargs=-1, required=True)
@dry_run_option
@config_option
@json_option
def reject(config_path: Path, name: str, ids: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Drop posts that wait; their senders are not told."""
    _moderate(config_path, name, ids, "drop", dry_run=dry_run, as_json=as_json)


def _moderate(
    config_path: Path, name: str, ids: tuple[str, ...], change: str, *, dry_run: bool, as_json: bool
) -> None:
    config_path = config_path.absolute()  # the working directory becomes the configuration's
    mail_list = _list(prepared(config_path), name)
    arguments = {
        "ids": list(ids),
        "states": ["held"],
        "reason": f"list {mail_list.name}: ",
        "change": change,
        "by": _BY_OPERATOR,
        "dry_run": dry_run,
    }
    rows = list(ask(config_path, "queue.change", arguments))
    print_rows(rows, (("id", "id"), ("result", "result")), as_json=as_json)
    missing = [one for one in ids if one not in {row["id"] for row in rows}]
    if missing:
        fail(f"no post to {mail_list.name} waits as {', '.join(missing)}")


def _list(assembly: Assembly, name: str) -> MailList:
    address = address_or_fail(name)
    found = load_lists(assembly.config).get(f"{address.local.casefold()}@{address.domain}")
    if found is None:
        fail(f"there is no list {name}; `outrider list show` names them all")
    return found


def _all_members(store: ListStore, mail_list: MailList) -> Iterator[Member]:
    after = 0
    while page := store.members(mail_list.name, after, BATCH):
        yield from page
        after = page[-1].id


def _member_row(member: Member) -> dict[str, Any]:
    return {
        "address": str(member.address),
        "state": "active" if member.active else "suspended",
        "since": moment(member.joined_at),
        "how": member.how,
    }
