"""`outrider extension`: which MT2 extensions are installed, on, and for whom (MT2-20)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from outrider.cli.asking import ask
from outrider.cli.extension_store import extension_or_fail, registry_or_fail, user_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.cli.tables import address_or_fail, opened, prepared
from outrider.extension_state.choices import open_extension_store
from outrider.extensions.base import SETTING_KEPT_S, setting_key
from outrider.extensions.choices import Chosen
from outrider.extensions.interface import MAX_DATA
from outrider.extensions.registry import Available
from outrider.identity.certificates import normal_host
from outrider.model.address import parse_address

_COLUMNS = tuple((key, key) for key in ("name", "kind", "enabled", "users", "rights", "from", "summary"))


@click.group()
def extension() -> None:
    """List MT2 extensions, switch them on and off, and say who may use them.

    What is changed here holds within five seconds, without a reload, and goes before the configuration.
    """


@extension.command("list")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """List what is installed, and what has been chosen."""
    assembly = prepared(config_path)
    from_start = frozenset(assembly.config.mt2.extensions.enabled)
    if assembly.data_dir.exists():
        with opened(assembly, open_extension_store) as store:
            chosen = store.chosen(from_start)
    else:
        chosen = Chosen(allowed_from_start=from_start)
    print_rows([_row(one, chosen) for one in registry_or_fail()], _COLUMNS, as_json=as_json)


def _row(one: Available, chosen: Chosen) -> dict[str, Any]:
    extension = one.extension
    users = [who for (name, who), enabled in chosen.users.items() if name == extension.name and enabled]
    granted = sorted(chosen.grants.get(extension.name, ()))
    return {
        "name": extension.name,
        "oid": extension.oid,
        "kind": one.kind,
        "enabled": chosen.is_enabled(extension),
        "users": sorted(users),
        "rights": granted or extension.rights.value,
        "from": one.origin,
        "summary": extension.summary,
    }


@extension.command()
@click.argument("name")
@click.option("--user", metavar="USER@DOMAIN", help="For one user's mailbox, instead of for the site.")
@click.option("--errors/--no-errors", default=None, help="With --user: tell the user of errors.")
@config_option
@json_option
def enable(config_path: Path, name: str, user: str | None, errors: bool | None, as_json: bool) -> None:
    """Switch an extension on: for the site, which is the operator's choice, or for a user, which is that
    user's.

    A recipient extension works for a user when both have it on.
    """
    _switch(config_path, name, user, enabled=True, errors=errors, as_json=as_json)


@extension.command()
@click.argument("name")
@click.option("--user", metavar="USER@DOMAIN", help="For one user's mailbox, instead of for the site.")
@config_option
@json_option
def disable(config_path: Path, name: str, user: str | None, as_json: bool) -> None:
    """Switch an extension off."""
    _switch(config_path, name, user, enabled=False, errors=None, as_json=as_json)


def _switch(
    config_path: Path, name: str, user: str | None, *, enabled: bool, errors: bool | None, as_json: bool
) -> None:
    assembly = prepared(config_path)
    one = extension_or_fail(name)
    if user is not None and one.kind != "recipient":
        fail(f"{name} is a {one.kind} extension: it is on for the site or not at all")
    if errors is not None and user is None:
        fail("--errors is a user's choice: name the user", 2)
    who = "" if user is None else user_or_fail(assembly, user)
    with opened(assembly, open_extension_store) as store:
        store.set_enabled(name, who, enabled=enabled)
        if errors is not None:
            store.set_errors(name, who, wanted=errors)
    row = {"name": name, "for": who or "the site", "result": "enabled" if enabled else "disabled"}
    print_rows([row], tuple((key, key) for key in row), as_json=as_json)


@extension.command()
@click.argument("name")
@click.argument("identities", nargs=-1, required=True)
@config_option
@json_option
def grant(config_path: Path, name: str, identities: tuple[str, ...], as_json: bool) -> None:
    """Let identities use an extension, and from then on nobody else but those named here.

    A host (mx.example), a user (ann@example), or everything at or below a domain (.example).
    """
    _grant(config_path, name, identities, granted=True, as_json=as_json)


@extension.command()
@click.argument("name")
@click.argument("identities", nargs=-1, required=True)
@config_option
@json_option
def revoke(config_path: Path, name: str, identities: tuple[str, ...], as_json: bool) -> None:
    """Take grants back. Exit code 1 when one was never given."""
    _grant(config_path, name, identities, granted=False, as_json=as_json)


def _grant(
    config_path: Path, name: str, identities: tuple[str, ...], *, granted: bool, as_json: bool
) -> None:
    assembly = prepared(config_path)
    extension_or_fail(name)
    found = [_identity(text) for text in identities]
    rows = []
    with opened(assembly, open_extension_store) as store:
        for identity in found:
            changed = store.grant(name, identity) if granted else store.revoke(name, identity)
            done, not_done = ("granted", "had it already") if granted else ("revoked", "never had it")
            rows.append({"name": name, "identity": identity, "result": done if changed else not_done})
    print_rows(rows, tuple((key, key) for key in ("name", "identity", "result")), as_json=as_json)
    if not granted and any(row["result"] == "never had it" for row in rows):
        raise SystemExit(1)


def _identity(text: str) -> str:
    if "@" in text:
        address = address_or_fail(text)
        local, domain = address.key
        return f"{local}@{domain}"
    name = normal_host(text.removeprefix("."))
    if not name:
        fail(f"{text!r} is no host, no user and no .domain", 2)
    return f".{name}" if text.startswith(".") else name


@extension.command("set")
@click.argument("name")
@click.argument("user", metavar="USER@DOMAIN")
@click.argument("setting")
@click.argument("value")
@config_option
def set_(config_path: Path, name: str, user: str, setting: str, value: str) -> None:
    """Tell an extension something about a user, such as `vcard USER card -`; `-` is standard input, ``
    forgets."""
    assembly = prepared(config_path)
    one = extension_or_fail(name)
    text = sys.stdin.read(MAX_DATA + 1) if value == "-" else value
    if len(text) > MAX_DATA:
        fail(f"a setting has at most {MAX_DATA} characters", 2)
    key = setting_key(parse_address(user_or_fail(assembly, user)), setting)
    now = time.time()
    with opened(assembly, open_extension_store) as store:
        if text:
            store.remember(one.extension.oid, key, text, now + SETTING_KEPT_S, now)
        else:
            store.forget(one.extension.oid, key)


@extension.command()
@click.argument("name")
@click.argument("recipient", metavar="TO")
@click.option("--from", "sender", required=True, metavar="USER@DOMAIN", help="A user of this site.")
@click.option("--data", default="", help="What it carries; `-` is standard input.")
@click.option("--critical", is_flag=True, help="Who does not know the extension is to refuse the message.")
@config_option
@json_option
def send(
    config_path: Path, name: str, recipient: str, sender: str, data: str, critical: bool, as_json: bool
) -> None:
    """Send a message that is nothing but an extension: a trace probe, a request for a vCard, a list
    command."""
    arguments = {
        "extension": name,
        "to": recipient,
        "sender": sender,
        "data": sys.stdin.read(MAX_DATA + 1) if data == "-" else data,
        "critical": critical,
    }
    rows = ask(config_path.absolute(), "extension.send", arguments)
    print_rows(rows, (("id", "id"),), as_json=as_json)
