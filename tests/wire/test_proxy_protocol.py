"""PROXY protocol headers: what the specification allows, and nothing else."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.wire.proxy_protocol import (
    MAX_HEADER_OCTETS,
    MAX_V1_OCTETS,
    TLV_ALPN,
    TLV_CRC32C,
    TLV_NOOP,
    V2_SIGNATURE,
    Incomplete,
    ProxyAddress,
    ProxyHeader,
    ProxyProtocolError,
    crc32c,
    parse,
)

CLIENT = ProxyAddress(IPv4Address("192.0.2.7"), 40001)
SERVER = ProxyAddress(IPv4Address("198.51.100.1"), 25)
CLIENT6 = ProxyAddress(IPv6Address("2001:db8::7"), 40001)
SERVER6 = ProxyAddress(IPv6Address("2001:db8::1"), 25)

V1 = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 25\r\n": (CLIENT, SERVER),
    b"PROXY TCP6 2001:db8::7 2001:db8::1 40001 25\r\n": (CLIENT6, SERVER6),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n": (None, None),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n": (
        ProxyAddress(IPv4Address("255.255.255.255"), 65535),
        ProxyAddress(IPv4Address("255.255.255.255"), 0),
    ),
}
V1_WRONG = [
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40001\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 25 \r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.1 40001 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 040001 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 025\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 65536\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1_0 25\r\n",
    b"PROXY TCP4 192.0.2.07 198.51.100.1 40001 25\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 40001 25\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 40001 25\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.1 40001 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 40001 25\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.1 40001 25\r\n",
    b"PROXY tcp4 192.0.2.7 198.51.100.1 40001 25\r\n",
    b"PROXY UNKNOWN\0\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 192.0.2.7\n198.51.100.1 40001 25\r\n",
    b"PROXY UNKNOWN " + b"x" * MAX_V1_OCTETS,
    b"EHLO client.example\r\n",
    b"proxy TCP4",
    b"\r\n\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
]


def v2(family: int = 0x11, block: bytes = b"", *, version_command: int = 0x21, tlvs: bytes = b"") -> bytes:
    return V2_SIGNATURE + struct.pack("!BBH", version_command, family, len(block + tlvs)) + block + tlvs


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(family: int, block: bytes, *others: bytes) -> bytes:
    tlvs = b"".join(others)
    blank = v2(family, block, tlvs=tlvs + tlv(TLV_CRC32C, b"\0\0\0\0"))
    return blank[:-4] + crc32c(blank).to_bytes(4, "big")


INET = struct.pack("!4s4sHH", CLIENT.host.packed, SERVER.host.packed, CLIENT.port, SERVER.port)
INET6 = struct.pack("!16s16sHH", CLIENT6.host.packed, SERVER6.host.packed, CLIENT6.port, SERVER6.port)
V2 = {
    v2(0x11, INET): (CLIENT, SERVER),
    v2(0x21, INET6): (CLIENT6, SERVER6),
    v2(0x31, b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")): (None, None),
    v2(0x00): (None, None),
    v2(0x00, b"whatever"): (None, None),
    v2(0x11, INET, tlvs=tlv(TLV_NOOP, b"") + tlv(TLV_ALPN, b"smtp")): (CLIENT, SERVER),
    with_checksum(0x11, INET): (CLIENT, SERVER),
    with_checksum(0x21, INET6, tlv(0xEA, b"x" * 300)): (CLIENT6, SERVER6),
}
V2_WRONG = [
    v2(0x11, INET[:-1]),
    v2(0x21, INET),
    v2(0x12, INET),
    v2(0x10, INET),
    v2(0x41, INET),
    v2(0x13, INET),
    v2(0x11, INET, version_command=0x11),
    v2(0x11, INET, version_command=0x22),
    v2(0x11, INET, version_command=0x31),
    v2(0x11, INET, tlvs=b"\x04"),
    v2(0x11, INET, tlvs=b"\x04\x00\x01"),
    v2(0x11, INET, tlvs=b"\x04\xff\xffx"),
    v2(0x11, INET, tlvs=tlv(TLV_CRC32C, b"\0\0\0\0")),
    v2(0x11, INET, tlvs=tlv(TLV_CRC32C, b"")),
    v2(0x11, INET, tlvs=b"\x04" * MAX_HEADER_OCTETS),
    V2_SIGNATURE[:11] + b"\r",
]


@pytest.mark.parametrize("wire", [*V1, *V2])
@pytest.mark.parametrize("behind", [b"", b"EHLO client.example\r\n", b"\x16\x03\x01"])
def test_a_header_is_read_whole_and_what_follows_is_left(wire: bytes, behind: bytes) -> None:
    source, destination = {**V1, **V2}[wire]
    header = parse(wire + behind)
    assert isinstance(header, ProxyHeader)
    assert (header.source, header.destination) == (source, destination)
    assert header.size == len(wire)
    assert header.version == (1 if wire in V1 else 2)
    assert not header.local


@pytest.mark.parametrize("wire", [*V1, *V2])
def test_every_beginning_of_a_header_is_incomplete(wire: bytes) -> None:
    for length in range(len(wire)):
        answer = parse(memoryview(wire)[:length])
        assert isinstance(answer, Incomplete), wire[:length]
        assert length < answer.at_least <= MAX_HEADER_OCTETS


@pytest.mark.parametrize("wire", [*V1_WRONG, *V2_WRONG])
def test_everything_else_is_refused(wire: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse(wire)


def test_local_means_the_proxy_itself_whatever_the_address_block_holds() -> None:
    for block in (b"", INET, b"junk"):
        header = parse(v2(0x11, block, version_command=0x20) + b"rest")
        assert isinstance(header, ProxyHeader)
        assert header.local
        assert header.source is None
        assert header.size == 16 + len(block)


def test_fields_behind_the_addresses_are_kept_in_order() -> None:
    header = parse(v2(0x11, INET, tlvs=tlv(TLV_ALPN, b"smtp") + tlv(0xE0, b"")))
    assert isinstance(header, ProxyHeader)
    assert header.tlvs == ((TLV_ALPN, b"smtp"), (0xE0, b""))


def test_a_changed_octet_breaks_the_checksum() -> None:
    wire = bytearray(with_checksum(0x11, INET))
    wire[16] ^= 1
    with pytest.raises(ProxyProtocolError, match="checksum does not match"):
        parse(wire)


def test_crc32c_agrees_with_the_published_vectors() -> None:
    # RFC 3720 appendix B.4.
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


MUTATIONS = st.builds(
    lambda wire, at, octets: wire[: at % len(wire)] + octets + wire[at % len(wire) :],
    st.sampled_from([*V1, *V2]),
    st.integers(0, 300),
    st.binary(max_size=8),
)


@given(st.one_of(st.binary(max_size=5000), MUTATIONS, st.binary(max_size=300).map(V2_SIGNATURE.__add__)))
def test_any_octets_are_parsed_incomplete_or_refused(octets: bytes) -> None:
    try:
        answer = parse(octets)
    except ProxyProtocolError:
        return
    if isinstance(answer, Incomplete):
        assert len(octets) < answer.at_least <= MAX_HEADER_OCTETS
    else:
        assert 0 < answer.size <= min(len(octets), MAX_HEADER_OCTETS)


@given(st.sampled_from([*V1, *V2]), st.binary(max_size=40))
def test_what_follows_never_changes_the_answer(wire: bytes, behind: bytes) -> None:
    assert parse(wire + behind) == parse(wire)
