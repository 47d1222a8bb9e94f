"""Mail addresses and domains as values (RFC 5321 section 4.1.2, RFC 6531, RFC 5891).

A domain is held as lower-case A-labels or as an address literal in brackets; a local part is held
unquoted, exactly as the sender meant it, and quoted again only when it is written.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

import idna

Domain = NewType("Domain", str)
"""Lower-case A-labels without a trailing dot, or an address literal such as ``[192.0.2.1]``."""

MAX_LOCAL_OCTETS = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321 4.5.3.1.2
MAX_PATH_OCTETS = 256  # RFC 5321 4.5.3.1.3, with the angle brackets

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_ATOM = re.compile(rf"[{_ATEXT}\u00a0-\U0010ffff]+(?:\.[{_ATEXT}\u00a0-\U0010ffff]+)*")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u00a0-\U0010ffff]|\\[\x20-\x7e])*)"')
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_SOURCE_ROUTE = re.compile(r"@[^:<>\s\"]{1,512}:")
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x5a\x5e-\x7e]+")
_NUMERIC = re.compile(r"[0-9]+")


class AddressError(ValueError):
    """The text is not an address; the argument says why, in words fit for a 501 reply."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox: ``local`` unquoted, ``domain`` in its canonical form (empty only for ``postmaster``)."""

    local: str
    domain: Domain

    def __str__(self) -> str:
        local = quote_local_part(self.local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def is_ascii(self) -> bool:
        """False when only a peer with SMTPUTF8 can carry it (RFC 6531)."""
        return self.local.isascii()

    @property
    def key(self) -> tuple[str, str]:
        """For comparing mailboxes of one site: the local part without regard to case."""
        return self.local.casefold(), self.domain


@lru_cache(maxsize=4096)
def quote_local_part(local: str) -> str:
    """The local part as it is written in a path: quoted only where it must be."""
    if _DOT_ATOM.fullmatch(local):
        return local
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def parse_path(octets: bytes, *, smtputf8: bool = False) -> Address | None:
    """What stands between the angle brackets of MAIL or RCPT; None for the null path.

    A source route is dropped as RFC 5321 appendix C wants. Raises AddressError.
    """
    if not octets:
        return None
    if len(octets) + 2 > MAX_PATH_OCTETS:
        # A source route may be long; what counts is the mailbox after it.
        octets = octets[_route_length(octets) :]
        if len(octets) + 2 > MAX_PATH_OCTETS + MAX_LOCAL_OCTETS:
            raise AddressError("path too long")
    return _parse_cached(octets, smtputf8)


def parse_address(text: str, *, smtputf8: bool = True) -> Address:
    """An address from a file, a table or a command line. Raises AddressError."""
    try:
        address = parse_path(text.encode("utf-8"), smtputf8=smtputf8)
    except UnicodeEncodeError as error:
        raise AddressError("address is not valid Unicode") from error
    if address is None:
        raise AddressError("empty address")
    return address


def _route_length(octets: bytes) -> int:
    match = _SOURCE_ROUTE.match(octets.decode("latin-1"))
    return match.end() if match else 0


@lru_cache(maxsize=8192)
def _parse_cached(octets: bytes, smtputf8: bool) -> Address:
    text = _decode(octets, smtputf8)
    if text.startswith("@"):
        route = _SOURCE_ROUTE.match(text)
        if route is None:
            raise AddressError("malformed source route")
        text = text[route.end() :]
    local, rest = _split_local_part(text)
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise AddressError("local part longer than 64 octets")
    if not rest and local.casefold() == "postmaster":
        return Address(local, Domain(""))  # RFC 5321 4.5.1: <postmaster> without a domain
    if not rest.startswith("@"):
        raise AddressError("no domain")
    return Address(local, parse_domain(rest[1:]))


def _decode(octets: bytes, smtputf8: bool) -> str:
    if octets.isascii():
        return octets.decode("ascii")
    if not smtputf8:
        raise AddressError("non-ASCII address without SMTPUTF8")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AddressError("address is not valid UTF-8") from error


def _split_local_part(text: str) -> tuple[str, str]:
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise AddressError("malformed quoted local part")
        local = re.sub(r"\\(.)", r"\1", quoted[1])
        if not local:
            raise AddressError("empty local part")
        return local, text[quoted.end() :]
    atom = _DOT_ATOM.match(text)
    if atom is None:
        raise AddressError("malformed local part")
    return atom[0], text[atom.end() :]


@lru_cache(maxsize=8192)
def parse_domain(text: str) -> Domain:
    """A domain name or address literal in canonical form. Raises AddressError."""
    if text.startswith("["):
        return _parse_literal(text)
    name = _to_a_labels(text).lower()
    if not name or len(name) > MAX_DOMAIN_OCTETS:
        raise AddressError("domain empty or longer than 255 octets")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError("malformed domain")
    if _NUMERIC.fullmatch(labels[-1]):
        raise AddressError("a bare IP address is not a domain; write it in brackets")
    return Domain(name)


def _to_a_labels(text: str) -> str:
    if text.isascii():
        return text
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError("domain is not valid IDNA") from error


def _parse_literal(text: str) -> Domain:
    if not text.endswith("]"):
        raise AddressError("malformed address literal")
    inner = text[1:-1]
    try:
        if inner[:5].casefold() == "ipv6:":
            return Domain(f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]")
        if ":" not in inner:
            return Domain(f"[{ipaddress.IPv4Address(inner)}]")
    except ValueError as error:
        raise AddressError("malformed address literal") from error
    if not _GENERAL_LITERAL.fullmatch(inner):
        raise AddressError("malformed address literal")
    raise AddressError("address literal of an unknown kind")


def literal_address(domain: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address when the domain is an address literal, else None."""
    if not domain.startswith("["):
        return None
    inner = domain[1:-1]
    return ipaddress.ip_address(inner[5:] if inner[:5].casefold() == "ipv6:" else inner)
