"""Names on their way to the DNS and back: lower-case A-labels inside, suspicion at both doors."""

import re
from ipaddress import IPv6Address

import dns.name
import idna

from outrider.dns.answers import BadName, IPAddress

_MAX_NAME_OCTETS = 253  # RFC 1035 section 2.3.4: 255 on the wire, which is 253 in text
_MAX_INPUT_CHARACTERS = 1000  # of a U-label name; its A-label form may be shorter, not by this much
# Underscore because SRV, TXT and TLSA names begin with one, and because misnamed hosts exist.
_LABEL = r"[a-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LABEL_OCTETS = re.compile(_LABEL.encode("ascii"))


def query_name(text: str, rdtype: str) -> str:
    """Return `text` as lower-case A-labels without a final dot, fit to be asked for.

    Raises `BadName` for anything no host name can be, an IPv4 address in dotted form among them
    (a top-level domain is never all digits, RFC 3696 section 2).
    """
    name = text if text.isascii() else _to_a_labels(text, rdtype)
    name = name.removesuffix(".").lower()
    if len(name) > _MAX_NAME_OCTETS or not _NAME.fullmatch(name):
        raise BadName(printable(text), rdtype, "not a domain name")
    if name.rpartition(".")[2].isdigit():
        raise BadName(name, rdtype, "an address, not a domain name")
    return name


def _to_a_labels(text: str, rdtype: str) -> str:
    """Convert an internationalized name (IDNA 2008 with the UTS 46 mapping)."""
    if len(text) > _MAX_INPUT_CHARACTERS:
        raise BadName(printable(text), rdtype, "too long")
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError as error:  # idna.IDNAError among them
        raise BadName(printable(text), rdtype, "not an internationalized domain name") from error


def printable(text: str) -> str:
    """Return a hostile name in a form short and plain enough for an error and a log line."""
    return text[:_MAX_NAME_OCTETS].encode("unicode_escape").decode("ascii")


def host_name(name: dns.name.Name) -> str | None:
    """Return a name found in an answer as a host name; None if it is none (SEC-154: NUL, space, escapes)."""
    labels = [label.lower() for label in name.labels[:-1]]
    if not labels or not all(_LABEL_OCTETS.fullmatch(label) for label in labels):
        return None
    return b".".join(labels).decode("ascii")


def display_name(name: dns.name.Name) -> str:
    """Return any name in lower-case presentation form, odd octets escaped as RFC 4343 section 2.1 has it."""
    return name.to_text(omit_final_dot=True).lower()


def plain_address(address: IPAddress) -> IPAddress:
    """Return the IPv4 address inside an IPv4-mapped one, so that rules about addresses see the real host."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def reverse_name(address: IPAddress) -> str:
    """Return the name whose PTR records name the address (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    return plain_address(address).reverse_pointer
