"""Addresses: what is one, what is not, and that writing one gives it back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.address import (
    Address,
    AddressError,
    Domain,
    literal_address,
    parse_address,
    parse_domain,
    parse_path,
)

GOOD = [
    (b"ann@alpha.example", "ann", "alpha.example"),
    (b"Ann.B+shop@Alpha.EXAMPLE", "Ann.B+shop", "alpha.example"),
    (b'"ann b"@alpha.example', "ann b", "alpha.example"),
    (b'"a\\"b\\\\c"@alpha.example', 'a"b\\c', "alpha.example"),
    (b'"@"@alpha.example', "@", "alpha.example"),
    (b"@relay.example,@two.example:ann@alpha.example", "ann", "alpha.example"),
    (b"!#$%&'*+/=?^_`{|}~-@alpha.example", "!#$%&'*+/=?^_`{|}~-", "alpha.example"),
    (b"ann@[127.0.0.1]", "ann", "[127.0.0.1]"),
    (b"ann@[IPv6:2001:DB8::0:1]", "ann", "[IPv6:2001:db8::1]"),
    (b"a%b@alpha.example", "a%b", "alpha.example"),
    (b"a!b@alpha.example", "a!b", "alpha.example"),
    (b"postmaster", "postmaster", ""),
    (b"x'/**/UNION/**/SELECT@alpha.example", "x'/**/UNION/**/SELECT", None),
    (b'"x\'/**/UNION/**/SELECT--"@alpha.example', "x'/**/UNION/**/SELECT--", "alpha.example"),
    (b"a" * 64 + b"@alpha.example", "a" * 64, "alpha.example"),
    (b"ann@" + b"a" * 63 + b".example", "ann", "a" * 63 + ".example"),
    (b"ann@_dmarc.example", "ann", "_dmarc.example"),
]

BAD = [
    b"ann", b"@", b"@alpha.example", b"ann@", b"a@b@c", b".ann@alpha.example", b"ann.@alpha.example",
    b"a..b@alpha.example", b"ann@alpha..example", b"ann@.example", b"ann@alpha.example.", b"ann@-a.example",
    b"ann@a-.example", b'"ann@alpha.example', b'"a"b@alpha.example', b'""@alpha.example',
    b"ann@alpha example", b"a\x00b@alpha.example", b"ann@alpha.example\x00.evil",
    b'"a\r\nDATA\r\n"@b.example',
    b"ann @alpha.example",
    b'"a\nb"@b.example', b'"a\rb"@b.example', b"ann@127.0.0.1", b"ann@[127.0.0.256]", b"ann@[IPv6:::g]",
    b"ann@[foo:bar]", b"ann@[127.0.0.1", b"ann@[]", b"a" * 65 + b"@alpha.example",
    b"ann@" + b"a" * 64 + b".example", b"ann@" + b"a.b" * 90 + b".example",
    b"ann@alpha.example,bob@b.example",
    b"<ann@alpha.example>", b"ann@alpha.example>", b"(x)ann@alpha.example", b"ann@\xc3\xa4lpha.example",
    b"\xffann@alpha.example", b"a\x7fb@alpha.example", b"ann@1.2.3", b"@route:", b"@a b:ann@alpha.example",
]  # fmt: skip


@pytest.mark.covers("SEC-71", "SEC-72")
@pytest.mark.parametrize(("octets", "local", "domain"), [case for case in GOOD if case[2] is not None])
def test_good_paths(octets: bytes, local: str, domain: str) -> None:
    assert parse_path(octets) == Address(local, Domain(domain))


@pytest.mark.covers("SEC-65", "SEC-66", "SEC-74")
@pytest.mark.parametrize("octets", BAD)
def test_bad_paths(octets: bytes) -> None:
    with pytest.raises(AddressError):
        parse_path(octets)


def test_the_null_path() -> None:
    assert parse_path(b"") is None


@pytest.mark.covers("SEC-75")
def test_international_addresses_need_smtputf8_and_become_a_labels() -> None:
    octets = "jürgen@Bücher.example".encode()
    with pytest.raises(AddressError, match="SMTPUTF8"):
        parse_path(octets)
    address = parse_path(octets, smtputf8=True)
    assert address == Address("jürgen", Domain("xn--bcher-kva.example"))
    assert not address.is_ascii
    for broken in (b"\xed\xa0\x80@a.example", b"\xc0\xae@a.example", b"a@\xf0\x9f.example"):
        with pytest.raises(AddressError):
            parse_path(broken, smtputf8=True)


@pytest.mark.covers("SEC-73")
def test_one_domain_has_one_form() -> None:
    forms = ["BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.Example", "bücher。example"]
    assert {parse_domain(form) for form in forms} == {"xn--bcher-kva.example"}


def test_literals() -> None:
    assert str(literal_address("[IPv6:2001:db8::1]")) == "2001:db8::1"
    assert str(literal_address("[192.0.2.1]")) == "192.0.2.1"
    assert literal_address("alpha.example") is None


@given(st.binary(max_size=300), st.booleans())
def test_any_octets_give_an_address_or_an_error(octets: bytes, smtputf8: bool) -> None:
    try:
        address = parse_path(octets, smtputf8=smtputf8)
    except AddressError:
        return
    if address is not None:
        assert parse_path(str(address).encode(), smtputf8=True) == address


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f"), min_size=1, max_size=12))
def test_any_local_part_survives_being_written(local: str) -> None:
    try:
        address = parse_address(str(Address(local, Domain("alpha.example"))))
    except AddressError:
        return  # C1 controls and surrogates are not atext
    assert address.local == local
