"""The people of the small Internet: who logs in where, and with what."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from outrider.identity.credentials import format_user, make_user
from outrider.playground.internet import Internet, lay_down
from outrider.runtime.postage_parts import new_secret
from outrider.runtime.private_files import write_private

PASSWORD = "the playground's only secret"  # noqa: S105 - printed for the visitor, good for loopback alone

LOGINS: dict[str, dict[str, tuple[str, ...]]] = {
    "alpha": {
        "ann": ("@alpha.example",),
        "bob": ("bob@alpha.example",),
        "offers": ("offers@shop.example",),
        "party": ("party@alpha.example",),
        "olga": ("olga@alpha.example",),
        "news": ("news@alpha.example",),
    },
    "isp": {
        "rosa@isp.example": ("rosa@isp.example",),
        "sam@isp.example": ("sam@isp.example",),
    },
}
"""Site to login to the addresses that it may send as."""


@dataclass(frozen=True, slots=True)
class Laptop:
    """Somebody's own computer, somewhere on the Internet, with a certificate of their provider (AMTP-19)."""

    owner: str
    """Mail address and login; the certificate names it, and the host."""
    address: str
    network: str

    @property
    def hostname(self) -> str:
        """What it calls itself."""
        return f"laptop-of-{self.owner.replace('@', '.')}"

    def files(self, internet: Internet) -> tuple[Path, Path]:
        """Its certificate and key."""
        return internet.folder / f"{self.hostname}.pem", internet.folder / f"{self.hostname}.key"


VERA = "vera@south.example"
"""North knows her certificate, and hides the headers of mail to her from everybody else."""

LAB, LAB_ADDRESS = "lab.north.example", "127.0.10.77"
"""A host of north's that talks MT2 by hand."""

POSTAGE = "beta.postage"
"""Alpha's file with the secret of its account at beta."""
VOUCHED = """\
alpha.example *::Personal::* *::Bulk::*
mallory.example *::Personal::*
"""
"""Whom the bank vouches for, and for what: it knows mallory as a private person."""

ROSA = Laptop("rosa@isp.example", "127.0.6.77", "isp")
SAM = Laptop("sam@isp.example", "127.0.6.78", "isp")


def settle_in(internet: Internet) -> None:
    """Make the files of logins, the laptops' certificates, the certificate of Vera's mail, and what AMDP's
    sites know of each other."""
    for site, logins in LOGINS.items():
        lines = [f"{_user(name, senders)}\n" for name, senders in logins.items()]
        write_private(internet.sites[site].folder / "users", "".join(lines).encode())
    north = internet.sites["north"].folder
    lay_down(north, VERA.partition("@")[0], internet.issue_user(VERA))
    lay_down(internet.folder, LAB, internet.issue([LAB]))
    write_private(internet.sites["alpha"].folder / POSTAGE, f"{new_secret()}\n".encode())
    (internet.sites["bank"].folder / "vouched").write_text(VOUCHED, "utf-8")
    for laptop in (ROSA, SAM):
        issued = internet.issue([laptop.hostname], laptop.network, mailboxes=[laptop.owner])
        lay_down(internet.folder, laptop.hostname, issued)


def _user(name: str, senders: tuple[str, ...]) -> str:
    salt, scram_salt = secrets.token_bytes(16), secrets.token_bytes(16)
    return format_user(make_user(name, PASSWORD, salt=salt, scram_salt=scram_salt, senders=senders))
