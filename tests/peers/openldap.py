"""OpenLDAP as a peer: a domain's directory, as FIRS has it, for CA certificates (MT2-24b)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.images import PROJECT
from tests.peers.mailserver import lines
from tests.peers.rooms import Room
from tests.peers.tenant import Tenant

SCHEMA = PROJECT / "packaging" / "openldap" / "inetresources.schema"
_DATA = "var/lib/ldap"


def suffix_of(domain: str) -> str:
    """``dc=bank,dc=example``."""
    return ",".join(f"dc={label}" for label in domain.split("."))


def base_of(domain: str) -> str:
    """Where the domain's resources are."""
    return f"cn=inetResources,{suffix_of(domain)}"


def domain_entry(domain: str, certificates: Sequence[bytes], *, base: str = "") -> str:
    """The entry of a domain, with its CA certificates (DER)."""
    values = [f"cACertificate;binary:: {base64.b64encode(one).decode()}" for one in certificates]
    return lines(
        f"dn: cn={domain},{base or base_of(domain)}",
        "objectClass: inetDnsDomain",
        f"cn: {domain}",
        *values,
    )


def referral_entry(name: str, *addresses: str) -> str:
    """An entry that says to ask elsewhere (RFC 3296)."""
    refs = [f"ref: {one}" for one in addresses]
    return lines(f"dn: {name}", "objectClass: referral", "objectClass: extensibleObject", *refs)


class OpenLdap(Tenant):
    """A running slapd on an address of its own, ports 389 and, with a certificate, 636.

    `domain` is whose directory it is: its base is there, `entries` (LDIF) are added. `settings` are lines for
    slapd.conf; `refer_to` answers for all names that it does not hold.
    """

    def __init__(
        self,
        domain: str,
        entries: Sequence[str] = (),
        *,
        address: str = "",
        tls: tuple[Path, Path] | None = None,
        settings: Sequence[str] = (),
        refer_to: str = "",
        with_base: bool = True,
    ) -> None:
        """`tls`: certificate with chain, and key (PEM files)."""
        self.domain = domain
        self.address = address or loopback_address()
        self._entries = entries
        self._tls = tls
        self._settings = settings
        self._refer_to = refer_to
        self._with_base = with_base

    def make_room(self) -> Room:
        return Room("openldap", f"slapd {self.domain} {self.address}")

    def move_in(self) -> None:
        self._configure()
        self._load()
        self.start()

    def start(self) -> None:
        """Start the server (again, after `stop`) and wait until it accepts connections."""
        addresses = [f"ldap://{self.address}:389/", *([f"ldaps://{self.address}:636/"] if self._tls else [])]
        # "stats": every search is logged, so that tests see who was asked what.
        self.room.start("/usr/sbin/slapd", "-f", "/etc/slapd.conf", "-h", " ".join(addresses), "-d", "stats")
        self.room.wait_listening(self.address, 389)

    def stop(self) -> None:
        """Stop the server."""
        self.room.stop()

    def replace(self, entries: Sequence[str]) -> None:
        """Stop, exchange all entries, start."""
        self.stop()
        self._entries = entries
        for file in (self.room.path / _DATA).iterdir():
            file.unlink()
        self._load()
        self.start()

    def log(self) -> str:
        """Return all that the server has logged."""
        return self.room.log()

    def searches(self) -> list[str]:
        """The base and filter of each search, as logged."""
        return [line for line in self.log().split("\n") if " SRCH base=" in line]

    def _configure(self) -> None:
        self.room.folder(_DATA)
        self.room.copy_in(SCHEMA, "etc/ldap/schema/inetresources.schema")
        self.room.write("etc/slapd.conf", self._configuration())

    def _configuration(self) -> str:
        return lines(
            "include /etc/ldap/schema/core.schema",
            "include /etc/ldap/schema/inetresources.schema",
            "modulepath /usr/lib/ldap",
            "moduleload back_mdb",
            "pidfile /run/slapd.pid",
            f"referral {self._refer_to}" if self._refer_to else None,
            *self._tls_lines(),
            *self._settings,
            "database mdb",
            f'suffix "{suffix_of(self.domain)}"',
            f"directory /{_DATA}",
            "maxsize 10485760",
            "access to * by * read",
        )

    def _tls_lines(self) -> Sequence[str]:
        if self._tls is None:
            return ()
        certificate, key = self._tls
        return (
            f"TLSCertificateFile {self.room.copy_in(certificate, 'tls/certificate.pem')}",
            f"TLSCertificateKeyFile {self.room.copy_in(key, 'tls/key.pem')}",
        )

    def _load(self) -> None:
        """The base, and the entries."""
        first = self.domain.split(".")[0]
        whole = [
            lines(
                f"dn: {suffix_of(self.domain)}",
                "objectClass: organization",
                "objectClass: dcObject",
                "o: test",
                f"dc: {first}",
            )
        ]
        if self._with_base:
            base = (f"dn: {base_of(self.domain)}", "objectClass: inetResources", "cn: inetResources")
            whole.append(lines(*base))
        whole += self._entries
        if whole:
            text = "\n".join(whole)
            self.room.run("/usr/sbin/slapadd", "-f", "/etc/slapd.conf", stdin=text.encode())
