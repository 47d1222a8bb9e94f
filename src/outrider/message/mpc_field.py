"""The MPC field: the Mail Policy Code of a message where its envelope cannot carry one (AMTP-14).

AMTP has the code as a parameter of MAIL and no field; every other protocol, and a mailbox, gets it as a field
on top. What a peer wrote there proves nothing, unless the peer is trusted for it.
"""

from __future__ import annotations

from outrider.message.header_fields import field_values, header_fields
from outrider.model.mpc import Mpc, MpcError, parse_mpc

_NAME = b"mpc"
_MOST_READ = 2
"""Whoever has two has too many."""
_LONGEST = 64


def mpc_fields(headers: bytes) -> tuple[bytes, ...]:
    """The values of the first MPC fields, at most two of them, unfolded; almost always none."""
    return field_values(headers, _NAME, _MOST_READ) if _NAME in headers.lower() else ()


def read_mpc_field(headers: bytes) -> Mpc | None:
    """The code in the only MPC field, None where there is no field.

    Raises MpcError where there are several, or one that is no code.
    """
    values = mpc_fields(headers)
    if not values:
        return None
    if len(values) > 1:
        raise MpcError("several MPC fields")
    if len(values[0]) > _LONGEST or not values[0].isascii():
        raise MpcError("a Mail Policy Code is role/class")
    return parse_mpc(values[0].decode("ascii"))


def mpc_field(code: Mpc) -> bytes:
    """The field as a line, to be put on top."""
    return f"MPC: {code}\r\n".encode("ascii")


def with_mpc(headers: bytes, code: Mpc) -> bytes:
    """The header section with the code on top; whatever else it holds stays."""
    return mpc_field(code) + headers


def without_mpc(headers: bytes) -> bytes:
    """The header section without its MPC fields."""
    kept: list[bytes] = []
    position = 0
    for field in header_fields(headers):
        if field.name.lower() == _NAME:
            kept.append(headers[position : field.start])
            position = field.end
    return b"".join(kept) + headers[position:] if position else headers
