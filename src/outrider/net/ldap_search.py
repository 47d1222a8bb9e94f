"""One search in a directory, by python-ldap (the optional extra ``ldap``): blocking, for a thread (MT2-24b).

Base and filter are FIRS's. Whatever is put into them is escaped by the library, whatever comes out of it is a
stranger's: entries about somebody else are dropped, referrals are addresses yet to be judged.
"""

from __future__ import annotations

import importlib
import math
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from outrider.identity.certificates import normal_host
from outrider.identity.delegated_authorities import MAX_AUTHORITIES, is_within

PORTS: Final = (389, 636)
"""LDAP, and LDAP under TLS from the first octet; no other port is connected to (SEC-162)."""
TLS_PORT: Final = 636
MAX_REFERRAL_TEXT: Final = 1024
MAX_REFERRAL_ADDRESSES: Final = 4
ATTRIBUTE: Final = "cACertificate"
_URI: Final = "ldapi://%2Fno-such-socket"
"""The library has its socket already, and shall not find another."""
_SCHEMES = ("ldap", "ldaps")
_MOST_TEXT = 120


class LdapMissing(Exception):
    """python-ldap is not installed."""

    remedy = "install outrider[ldap], or take ldap out of delegation in [mt2.validation]"


class LdapSaid(Exception):
    """The library's or the server's refusal. `is_absence`: there is no such entry."""

    def __init__(self, text: str, *, is_absence: bool = False) -> None:
        super().__init__(text)
        self.is_absence = is_absence


def load_ldap() -> None:
    """Make sure that the library is there. Raises LdapMissing."""
    try:
        for name in ("ldap", "ldap.dn", "ldap.filter", "ldapurl"):
            _library(name)
    except ImportError as error:
        text = f"asking directories needs python-ldap, which cannot be loaded ({error})"
        raise LdapMissing(text) from error


def _library(name: str) -> Any:
    """A module of the library, which has no types; only imported by who needs it."""
    return importlib.import_module(name)


@dataclass(frozen=True, slots=True)
class Referral:
    """Where else to ask."""

    host: str
    port: int
    base: str
    """Where to look; "" = as before."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What one server has for a domain."""

    certificates: tuple[bytes, ...] = ()
    referrals: tuple[str, ...] = ()


def base_of(domain: str) -> str:
    """Where FIRS keeps a domain's resources: ``cn=inetResources,dc=ehsco,dc=com``; the values escaped."""
    escape = _library("ldap.dn").escape_dn_chars
    components = ",".join(f"dc={escape(label)}" for label in domain.split("."))
    return f"cn=inetResources,{components}"


def filter_of(domain: str) -> str:
    """Which entry is meant; the value escaped."""
    filled = _library("ldap.filter").filter_format("(&(objectclass=inetDnsDomain)(cn=%s))", [domain])
    return str(filled)


def search(connected: socket.socket, base: str, domain: str, timeout_s: float) -> SearchResult:
    """Ask for a domain's CA certificates over a socket that leads to its server; the socket is used up.

    Raises LdapSaid. Nothing is bound: who publishes does it for everybody.
    """
    ldap = _library("ldap")
    connection = ldap.initialize(_URI, fileno=connected.detach())
    try:
        connection.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, timeout_s)
        connection.set_option(ldap.OPT_TIMEOUT, timeout_s)
        found = connection.search_ext_s(
            base,
            ldap.SCOPE_SUBTREE,
            filter_of(domain),
            ["cn", f"{ATTRIBUTE};binary"],
            timeout=math.ceil(timeout_s),
            sizelimit=MAX_AUTHORITIES,
        )
        return _read(found, domain)
    except ldap.NO_SUCH_OBJECT:
        raise LdapSaid("no such entry", is_absence=True) from None
    except ldap.REFERRAL as error:
        return SearchResult(referrals=_referrals_in(error))
    except ldap.LDAPError as error:
        raise LdapSaid(_words(error)) from None
    except Exception as error:  # what the library makes of text that is none
        raise LdapSaid(f"the answer cannot be read ({type(error).__name__})") from None
    finally:
        connection.unbind_ext()


def _read(found: Iterable[tuple[str | None, Any]], domain: str) -> SearchResult:
    certificates: list[bytes] = []
    referrals: list[str] = []
    for name, content in found:
        if name is None:
            referrals += [str(one) for one in content]
        elif _is_about(content, domain):
            certificates += _certificates_in(content)
    return SearchResult(tuple(certificates), tuple(referrals[:MAX_REFERRAL_ADDRESSES]))


def _is_about(content: dict[str, list[bytes]], domain: str) -> bool:
    values = [one for name, values in content.items() if name.lower() == "cn" for one in values]
    return domain.encode("ascii") in (one.lower() for one in values)


def _certificates_in(content: dict[str, list[bytes]]) -> list[bytes]:
    wanted = ATTRIBUTE.lower()
    return [
        one for name, values in content.items() if name.partition(";")[0].lower() == wanted for one in values
    ]


def _referrals_in(error: Exception) -> tuple[str, ...]:
    """The addresses of a referral result, which the library gives as text, one a line."""
    lines = _detail(error, "info").split("\n")
    return tuple(line.strip() for line in lines if "://" in line)[:MAX_REFERRAL_ADDRESSES]


def _words(error: Exception) -> str:
    text = _detail(error, "desc") or type(error).__name__
    return "".join(filter(str.isprintable, text))[:_MOST_TEXT]


def _detail(error: Exception, key: str) -> str:
    detail = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(detail.get(key, ""))


def read_referral(text: str, domain: str) -> Referral:
    """The server that a referral names, if it is inside the domain. Raises ValueError, with a sentence."""
    if len(text) > MAX_REFERRAL_TEXT or not text.isascii() or not text.isprintable():
        raise ValueError("an address that is none")
    try:
        url = _library("ldapurl").LDAPUrl(text)
        scheme, base = str(url.urlscheme), str(url.dn or "")
        host, colon, port_text = str(url.hostport or "").partition(":")
    except Exception:  # the library raises several kinds for what is no URL
        raise ValueError(f"{text[:_MOST_TEXT]!r} is no LDAP address") from None
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme[:_MOST_TEXT]!r} is not LDAP over a network")
    name = normal_host(host)
    if not is_within(name, domain):
        raise ValueError(f"{host[:_MOST_TEXT]!r} is not inside {domain}")
    port = _port(port_text) if colon else TLS_PORT if scheme == "ldaps" else PORTS[0]
    if port not in PORTS or (scheme == "ldaps") is not (port == TLS_PORT):
        raise ValueError(f"{name} at port {port_text[:10]} is not asked")
    if base and not is_within(_domain_of_dn(base), domain):
        raise ValueError(f"{base[:_MOST_TEXT]!r} is not inside {domain}")
    return Referral(name, port, base)


def _port(text: str) -> int:
    """0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0


def _domain_of_dn(text: str) -> str:
    """The domain that the ``dc`` components at the end of a name spell; "" for none."""
    try:
        parts = _library("ldap.dn").str2dn(text)
    except Exception:  # no name
        return ""
    labels: list[str] = []
    for part in reversed(parts):
        if len(part) != 1 or part[0][0].lower() != "dc":
            break
        labels.insert(0, str(part[0][1]).lower())
    return normal_host(".".join(labels))
