"""What the machine must offer before anything is served: names, accounts, folders, files that can be read."""

from __future__ import annotations

import os
import pwd
from functools import partial
from ipaddress import ip_address

from outrider.config.source_map import Path as KeyPath
from outrider.maillog.emitter import check_writable
from outrider.model.address import AddressError, parse_domain
from outrider.runtime.findings import Findings
from outrider.runtime.private_files import readable_by


def check_host(findings: Findings) -> None:
    """All that can be said without reading what the settings name."""
    _check_names(findings)
    _check_accounts(findings)
    _check_folders(findings)


def _check_names(findings: Findings) -> None:
    """Ours, and the addresses that we call from."""
    config = findings.config
    try:
        name = parse_domain(config.hostname)
        if "." not in name and not name.startswith("["):
            findings.warnings.append(
                f"hostname {config.hostname!r} is not a full name: many hosts refuse such"
            )
    except AddressError as error:
        findings.fault(("hostname",), f"{config.hostname!r}: {error}", "give the host's full DNS name")
    for key, text in (
        ("source_address", config.net.source_address),
        ("source_address6", config.net.source_address6),
    ):
        if text:
            findings.part(("net", key), partial(ip_address, text))


def _check_accounts(findings: Findings) -> None:
    config = findings.config
    for key, name in ((("user",), config.user), (("delivery", "pipe_user"), config.delivery.pipe_user)):
        if name and not _account_exists(name):
            findings.fault(key, f"there is no account {name!r}", "create it (adduser --system)")


def _check_folders(findings: Findings) -> None:
    config = findings.config
    if config.log.file and (why := check_writable(config.log.file)):
        findings.fault(("log", "file"), why, "create it, or give another file")
    data_dir = findings.loaded.resolve(config.data_dir)
    ancestor = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    if not ancestor.is_dir():
        findings.fault(("data_dir",), f"{ancestor} is not a folder", "give a folder")
    elif not os.access(ancestor, os.W_OK):
        remedy = "change its owner, or give another folder"
        findings.fault(("data_dir",), f"{ancestor} is not writable", remedy)
    if config.spool.backend == "postgresql" and not config.spool.dsn:
        findings.fault(("spool",), "`dsn` is missing", 'add `dsn = "postgresql://..."`')


def check_secrets(findings: Findings) -> None:
    """Secrets are read again while the server runs, by the account that it has become: found out at the
    start, and not when the first certificate is renewed."""
    user = findings.config.user
    if not user or os.geteuid() != 0 or not _account_exists(user):
        return
    account = pwd.getpwnam(user)
    for part in findings.loaded.parts:
        if not readable_by(part.path, account):
            findings.fault(part.key, f"the account {user} cannot read this file", f"chown {user}, mode 0600")
    for key, name in _secret_files(findings):
        path = findings.loaded.resolve(name)
        if path.exists() and not readable_by(path, account):
            findings.fault(key, f"{name} cannot be read by the account {user}", f"chown {user}, mode 0600")


def _secret_files(findings: Findings) -> list[tuple[KeyPath, str]]:
    config = findings.config
    named: list[tuple[KeyPath, str | None]] = [
        (("tls", "key"), config.tls.key),
        (("auth", "users_file"), config.auth.users_file),
    ]
    named += [(("tls", "sni", number, "key"), one.key) for number, one in enumerate(config.tls.sni)]
    for name, route in config.routes.items():
        if not isinstance(route, str):
            named += [
                (("routes", name, "key"), route.key),
                (("routes", name, "password_file"), route.password_file),
            ]
    return [(key, name) for key, name in named if name]


def _account_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
