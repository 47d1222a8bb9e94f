"""The PROXY protocol, versions 1 and 2: how a load balancer names the client it speaks for.

Source: "The PROXY protocol", Willy Tarreau, versions 1 and 2 (haproxy/doc/proxy-protocol.txt). `parse` is
pure and strict: it is given the octets received so far and answers with a header, with `Incomplete`, or
with :class:`ProxyProtocolError`; nothing else is possible, and no input makes it ask for more than
:data:`MAX_HEADER_OCTETS`. A header is a claim. Whether the sender may make it is the listener's question.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

IPAddress = IPv4Address | IPv6Address

V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_V1_OCTETS: Final = 107
"""Section 2.1: the longest line of version 1, CRLF included."""
MAX_HEADER_OCTETS: Final = 4096
"""Ours: version 2 allows 65 551. 16 + 216 (unix addresses) leaves room for every registered TLV; a sender
with more than this is no load balancer of a mail host."""

_V1_PREFIX: Final = b"PROXY "
_V2_FIXED: Final = struct.Struct("!12sBBH")
_V1_LINE: Final = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})"
)
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?")

_COMMAND_LOCAL: Final = 0x0
_COMMAND_PROXY: Final = 0x1
_ADDRESS_OCTETS: Final = {0x1: 12, 0x2: 36, 0x3: 216}
"""Address family (high nibble of octet 14) to the octets its addresses take: INET, INET6, UNIX."""
_UNSPECIFIED: Final = 0x00
_STREAM: Final = 0x1

TLV_ALPN: Final = 0x01
TLV_AUTHORITY: Final = 0x02
TLV_CRC32C: Final = 0x03
TLV_NOOP: Final = 0x04
TLV_UNIQUE_ID: Final = 0x05
TLV_SSL: Final = 0x20


class ProxyProtocolError(ValueError):
    """What arrived is not a PROXY header; the text is for the operator's log, and no reply is due.

    Section 5 of the specification: the receiver must not guess, and closes the connection.
    """


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The octets so far could begin a header; call again with more.

    `at_least` is how many octets the whole header has at the least, never above `MAX_HEADER_OCTETS`.
    """

    at_least: int


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """One end of the connection that the proxy relays."""

    host: IPAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A complete header.

    `source` and `destination` are both None when the sender gives no usable addresses: version 1 ``UNKNOWN``,
    version 2 ``LOCAL`` (the proxy speaks for itself, such as a health check; then `local` is true), UNSPEC
    and unix families. The receiver then uses the addresses of the connection it sees.
    """

    version: int
    size: int
    """Octets of the header; what follows it belongs to the relayed connection."""
    source: ProxyAddress | None = None
    destination: ProxyAddress | None = None
    local: bool = False
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """Version 2's type-length-value fields in order, uninterpreted but for the checksum."""


def parse(buffer: bytes | bytearray | memoryview) -> ProxyHeader | Incomplete:
    """Read a PROXY header from the beginning of `buffer`, whatever follows it.

    Raises :class:`ProxyProtocolError` as soon as the octets cannot become an acceptable header.
    """
    head = bytes(buffer[:MAX_HEADER_OCTETS])
    if _matches(head, V2_SIGNATURE):
        return _parse_v2(head)
    if _matches(head, _V1_PREFIX):
        return _parse_v1(head)
    raise ProxyProtocolError("no PROXY header where one is required")


def _matches(head: bytes, signature: bytes) -> bool:
    common = min(len(head), len(signature))
    return head[:common] == signature[:common]


def _parse_v1(head: bytes) -> ProxyHeader | Incomplete:
    end = head.find(b"\r\n", 0, MAX_V1_OCTETS)
    if end < 0:
        if len(head) >= MAX_V1_OCTETS:
            raise ProxyProtocolError("version 1 line longer than 107 octets")
        return Incomplete(max(len(head) + 1, len(b"PROXY UNKNOWN\r\n")))
    line, size = head[:end], end + 2
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(version=1, size=size)
    found = _V1_LINE.fullmatch(line)
    if found is None:
        raise ProxyProtocolError("malformed version 1 line")
    family, source, destination, source_port, destination_port = found.groups()
    return ProxyHeader(
        version=1,
        size=size,
        source=ProxyAddress(_v1_host(family, source), _v1_port(source_port)),
        destination=ProxyAddress(_v1_host(family, destination), _v1_port(destination_port)),
    )


def _v1_host(family: bytes, text: bytes) -> IPAddress:
    kind: type[IPAddress] = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        return kind(text.decode("ascii"))
    except ValueError:
        raise ProxyProtocolError(f"{family.decode()} with an address of another form") from None


def _v1_port(text: bytes) -> int:
    # Section 2.1: decimal, 0 to 65535, no leading zeroes.
    if len(text) > 1 and text.startswith(b"0"):
        raise ProxyProtocolError("port with a leading zero")
    port = int(text)
    if port > 0xFFFF:
        raise ProxyProtocolError("port above 65535")
    return port


def _parse_v2(head: bytes) -> ProxyHeader | Incomplete:
    if len(head) < _V2_FIXED.size:
        return Incomplete(_V2_FIXED.size)
    _, version_command, family_transport, length = _V2_FIXED.unpack_from(head)
    command = version_command & 0x0F
    if version_command >> 4 != 2 or command not in (_COMMAND_LOCAL, _COMMAND_PROXY):
        raise ProxyProtocolError("unknown version or command in a version 2 header")
    size = _V2_FIXED.size + length
    if size > MAX_HEADER_OCTETS:
        raise ProxyProtocolError(f"version 2 header of {size} octets, at most {MAX_HEADER_OCTETS} are taken")
    if len(head) < size:
        return Incomplete(size)
    header = head[:size]
    if command == _COMMAND_LOCAL:
        # Section 2.2: the receiver must skip the address block, whatever family it names.
        return ProxyHeader(version=2, size=size, local=True)
    return _relayed(header, family_transport)


def _relayed(header: bytes, family_transport: int) -> ProxyHeader:
    family, transport = family_transport >> 4, family_transport & 0x0F
    if family_transport == _UNSPECIFIED:
        # Section 2.2: the sender knows no addresses; what the block then holds is not defined.
        return ProxyHeader(version=2, size=len(header))
    if family not in _ADDRESS_OCTETS or transport != _STREAM:
        raise ProxyProtocolError("not a stream connection of a known address family")
    end_of_addresses = _V2_FIXED.size + _ADDRESS_OCTETS[family]
    if len(header) < end_of_addresses:
        raise ProxyProtocolError("version 2 header too short for its addresses")
    tlvs = _tlvs(header, end_of_addresses)
    source, destination = _v2_addresses(family, header[_V2_FIXED.size : end_of_addresses])
    return ProxyHeader(2, len(header), source, destination, tlvs=tlvs)


def _v2_addresses(family: int, block: bytes) -> tuple[ProxyAddress, ProxyAddress] | tuple[None, None]:
    if family == 0x1:
        source, destination, source_port, destination_port = struct.unpack("!4s4sHH", block)
        return (
            ProxyAddress(IPv4Address(source), source_port),
            ProxyAddress(IPv4Address(destination), destination_port),
        )
    if family == 0x2:
        source, destination, source_port, destination_port = struct.unpack("!16s16sHH", block)
        return (
            ProxyAddress(IPv6Address(source), source_port),
            ProxyAddress(IPv6Address(destination), destination_port),
        )
    return None, None


def _tlvs(header: bytes, offset: int) -> tuple[tuple[int, bytes], ...]:
    fields: list[tuple[int, bytes]] = []
    while offset < len(header):
        if offset + 3 > len(header):
            raise ProxyProtocolError("truncated field after the addresses")
        kind, length = struct.unpack_from("!BH", header, offset)
        start, end = offset + 3, offset + 3 + length
        if end > len(header):
            raise ProxyProtocolError("field reaches beyond the header")
        if kind == TLV_CRC32C:
            _check_crc32c(header, start, length)
        fields.append((kind, header[start:end]))
        offset = end
    return tuple(fields)


def _check_crc32c(header: bytes, start: int, length: int) -> None:
    # Section 2.2.3: computed over the whole header with the checksum's own four octets zero.
    if length != 4:
        raise ProxyProtocolError("checksum of a wrong length")
    stated = int.from_bytes(header[start : start + 4], "big")
    if crc32c(header[:start] + b"\0\0\0\0" + header[start + 4 :]) != stated:
        raise ProxyProtocolError("checksum does not match")


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        remainder = octet
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0x82F63B78 if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


_CRC32C_TABLE: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 9260 appendix A) of `data`."""
    remainder = 0xFFFFFFFF
    for octet in data:
        remainder = _CRC32C_TABLE[(remainder ^ octet) & 0xFF] ^ (remainder >> 8)
    return remainder ^ 0xFFFFFFFF
