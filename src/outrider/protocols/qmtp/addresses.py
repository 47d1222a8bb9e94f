"""Addresses as QMTP has them: local part, "@", domain, and no quoting at all (D. J. Bernstein, 1997).

Where SMTP writes ``"a b"@x.example``, QMTP writes ``a b@x.example``; the last "@" is the one that counts.
"""

from __future__ import annotations

import re
from typing import Final

from outrider.model.address import MAX_LOCAL_OCTETS, Address, AddressError, Domain, parse_domain

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read_address(octets: bytes) -> Address:
    """The address that a package names as sender (not the null one) or recipient. Raises AddressError."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("address is not valid UTF-8") from None
    if _CONTROL.search(text):
        raise AddressError("address holds a control character")
    local, at, domain = text.rpartition("@")
    if not at and domain.casefold() == "postmaster":
        return Address(domain, Domain(""))
    if not local:
        raise AddressError("address without local part or domain")
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise AddressError("local part longer than 64 octets")
    return Address(local, parse_domain(domain))


def write_address(address: Address | None) -> bytes | None:
    """The octets of an address, b"" for the null sender; None for what cannot be sent."""
    if address is None:
        return b""
    text = f"{address.local}@{address.domain}" if address.domain else address.local
    try:
        return None if _CONTROL.search(text) else text.encode("utf-8")
    except UnicodeEncodeError:
        return None
