"""`outrider user`: the users file, without a password ever in it, in the arguments or in a log."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from outrider.cli.asking import load_or_fail
from outrider.cli.options import config_option, json_option
from outrider.cli.output import fail, print_rows
from outrider.identity.credentials import User, UsersFileError, UserTable, format_user, make_user, parse_users
from outrider.runtime.private_files import write_private


@click.group()
def user() -> None:
    """Add, change, list and remove logins."""


@user.command()
@click.argument("name")
@click.option("--sender", "senders", multiple=True, help="Address, @domain or * that this login may send as.")
@click.option("--certificate", "certificates", multiple=True, help="Host name or sha256:... for EXTERNAL.")
@click.option("--no-password", is_flag=True, help="Only certificates may log in.")
@config_option
def add(
    config_path: Path, name: str, senders: tuple[str, ...], certificates: tuple[str, ...], no_password: bool
) -> None:
    """Add a login. The password is asked for, or is the first line of standard input."""
    if no_password:
        new = _certificate_only(name, senders, certificates)
    else:
        new = _make(name, _read_password(), senders, certificates)

    def change(table: UserTable) -> list[User]:
        if table.find(name) is not None:
            fail(f"{name} exists; `outrider user password {name}` changes the password")
        return [*table.users, new]

    _rewrite(config_path, change)


@user.command()
@click.argument("name")
@config_option
def password(config_path: Path, name: str) -> None:
    """Change a password."""
    new = _make(name, _read_password(), (), ())

    def change(table: UserTable) -> list[User]:
        old = table.find(name)
        if old is None:
            fail(f"no login {name}")
        changed = replace(old, password_hash=new.password_hash, scram=new.scram)
        return [changed if one.name == old.name else one for one in table.users]

    _rewrite(config_path, change)


@user.command()
@click.argument("name")
@config_option
def remove(config_path: Path, name: str) -> None:
    """Remove a login."""

    def change(table: UserTable) -> list[User]:
        old = table.find(name)
        if old is None:
            fail(f"no login {name}")
        return [one for one in table.users if one.name != old.name]

    _rewrite(config_path, change)


@user.command("list")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """List the logins and what each may use."""
    columns = tuple((key, key) for key in ("name", "password", "senders", "certificates"))
    rows = [
        {
            "name": one.name,
            "password": "yes" if one.password_hash or one.scram else "no",
            "senders": list(one.senders),
            "certificates": [*one.certificate_names, *(f"sha256:{print_}" for print_ in one.fingerprints)],
        }
        for one in _read(_users_file(config_path)).users
    ]
    print_rows(rows, columns, as_json=as_json)


def _make(name: str, secret: str, senders: tuple[str, ...], certificates: tuple[str, ...]) -> User:
    salt, scram_salt = secrets.token_bytes(16), secrets.token_bytes(16)
    try:
        return make_user(
            name, secret, salt=salt, scram_salt=scram_salt, senders=senders, certificates=certificates
        )
    except ValueError as error:
        fail(str(error))


def _certificate_only(name: str, senders: tuple[str, ...], certificates: tuple[str, ...]) -> User:
    if not certificates:
        fail("with --no-password give at least one --certificate", 2)
    words = [name, f"certificates={','.join(certificates)}"]
    words += [f"senders={','.join(senders)}"] if senders else []
    try:
        return parse_users(" ".join(words), "new login").users[0]
    except UsersFileError as error:
        fail(str(error))


def _read_password() -> str:
    if sys.stdin.isatty():
        entered: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        return entered
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        fail("no password on standard input")
    return line


def _users_file(config_path: Path) -> Path:
    loaded = load_or_fail(config_path)
    if not loaded.config.auth.users_file:
        fail(str(loaded.problem(("auth",), "`users_file` is not set", 'add `users_file = "users"`')))
    return loaded.resolve(loaded.config.auth.users_file)


def _read(path: Path) -> UserTable:
    try:
        return parse_users(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return parse_users("", str(path))
    except (UsersFileError, OSError) as error:
        fail(str(error))


def _rewrite(config_path: Path, change: Callable[[UserTable], list[User]]) -> None:
    """Replace the file as a whole, 0600, so that no reader ever sees half of it."""
    path = _users_file(config_path)
    users = change(_read(path))
    text = "".join(f"{format_user(one)}\n" for one in users)
    owner = path.stat() if path.exists() else None
    write_private(path, text.encode())
    if owner is not None:
        os.chown(path, owner.st_uid, owner.st_gid)
