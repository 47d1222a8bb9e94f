"""Lists in files: what an entry means, and which lines are none."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.trust.list_files import ListFileError, parse_list
from outrider.trust.subjects import Role, Subject

LIST = """
# what came last week
192.0.2.7
198.51.100.0/24     # a whole network
2001:db8:bad::/48
bad.example
.worse.example
Spammer@fair.example
bücher.example
"""


def subject(role: Role, name: str) -> Subject:
    return Subject(role, name, True)


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("role", "name", "entry"),
    [
        (Role.CLIENT, "192.0.2.7", "192.0.2.7/32"),
        (Role.CLIENT, "192.0.2.8", ""),
        (Role.CLIENT, "::ffff:192.0.2.7", "192.0.2.7/32"),
        (Role.CLIENT, "198.51.100.255", "198.51.100.0/24"),
        (Role.CLIENT, "198.51.101.0", ""),
        (Role.CLIENT, "2001:db8:bad:1::1", "2001:db8:bad::/48"),
        (Role.CLIENT, "2001:db8:bae::1", ""),
        (Role.DOMAIN, "bad.example", "bad.example"),
        (Role.DOMAIN, "mx.bad.example", ""),
        (Role.HOST, "bad.example", "bad.example"),
        (Role.HOST, "worse.example", ".worse.example"),
        (Role.HOST, "mx.a.worse.example", ".worse.example"),
        (Role.HOST, "notworse.example", ""),
        (Role.DOMAIN, "xn--bcher-kva.example", "bücher.example"),
        (Role.SENDER, "spammer@fair.example", "spammer@fair.example"),
        (Role.SENDER, "ann@fair.example", ""),
        (Role.SENDER, "not an address", ""),
        (Role.DOMAIN, "fair.example", ""),
    ],
)
def test_entries(role: Role, name: str, entry: str) -> None:
    found = parse_list(LIST).entry_for(subject(role, name))
    assert bool(found) is bool(entry)
    if entry.isascii():
        assert found == entry


def test_a_list_knows_its_length() -> None:
    assert parse_list(LIST).count == 7
    assert parse_list("").count == 0


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("a.example\n192.0.2.1/24\n", "line 2: .*host bits"),
        ("two words\n", "line 1: 'two words'"),
        ("a..example\n", "line 1"),
        ("ann@@a.example\n", "line 1"),
        ("192.0.2.1/33\n", "line 1"),
        ("[192.0.2.1\n", "line 1"),
        ("\x00\n", "line 1"),
    ],
)
def test_a_line_that_is_no_entry_is_named(text: str, because: str) -> None:
    with pytest.raises(ListFileError, match=because):
        parse_list(text)


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_agree_with_the_standard_library(address: ipaddress.IPv4Address, length: int) -> None:
    network = ipaddress.ip_network((address, min(length, address.max_prefixlen)), strict=False)
    entries = parse_list(str(network))
    for one in (network[0], network[-1], address):
        if getattr(one, "ipv4_mapped", None) is None:
            assert entries.entry_for(subject(Role.CLIENT, str(one))) == str(network)


@given(st.text(max_size=60))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        entries = parse_list(text)
    except ListFileError:
        return
    entries.entry_for(subject(Role.DOMAIN, "a.example"))
