"""Names at both doors: what may be asked, and what an answer's name may be."""

from __future__ import annotations

from ipaddress import ip_address

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dns.answers import BadName, NoSuchDomain
from outrider.dns.names import display_name, host_name, plain_address, query_name, reverse_name


@pytest.mark.parametrize(
    ("given_name", "asked"),
    [
        ("alpha.example", "alpha.example"),
        ("Alpha.EXAMPLE.", "alpha.example"),
        ("_amtp._tcp.alpha.example", "_amtp._tcp.alpha.example"),
        ("localhost", "localhost"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("bücher。example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.0.0.127.in-addr.arpa", "1.0.0.127.in-addr.arpa"),
        ("3com.example", "3com.example"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
    ],
)
def test_a_name_becomes_lower_case_a_labels(given_name: str, asked: str) -> None:
    assert query_name(given_name, "MX") == asked


@pytest.mark.covers("SEC-160")
@pytest.mark.parametrize(
    "bad",
    [
        *("", ".", "..", "a..b", ".a", "alpha.example..", "ann@alpha.example", "a/b.example"),
        *("a b.example", "a\0b.example", "a\\.b.example", "a\r\nb.example"),
        *("a" * 64 + ".example", ".".join(["a" * 63] * 3 + ["a" * 62]), "ü" * 5000),
        *("192.0.2.1", "[192.0.2.1]", "2001:db8::1", "alpha.123", "xn--\u0661.example", "\u200b.example"),
    ],
)
def test_what_cannot_be_a_name_is_not_asked_for(bad: str) -> None:
    with pytest.raises(BadName) as caught:
        query_name(bad, "MX")
    assert isinstance(caught.value, NoSuchDomain)
    assert caught.value.name.isprintable()
    assert len(caught.value.name) < 3000


@given(st.text(max_size=400))
def test_any_text_is_a_clean_name_or_a_bad_one(text: str) -> None:
    try:
        name = query_name(text, "A")
    except BadName:
        return
    assert dns.name.from_text(name).to_text() == f"{name}."
    assert query_name(name, "A") == name


@pytest.mark.covers("SEC-154")
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((b"mx", b"alpha", b"example", b""), "mx.alpha.example"),
        ((b"MX", b"Alpha", b"EXAMPLE", b""), "mx.alpha.example"),
        ((b"under_score", b"example", b""), "under_score.example"),
        ((b"xn--bcher-kva", b"example", b""), "xn--bcher-kva.example"),
        ((b"",), None),
        ((b"nul\0", b"example", b""), None),
        ((b"bank.example", b"evil", b"example", b""), None),
        ((b"a b", b"example", b""), None),
        ((b"\xc3\xa9", b"example", b""), None),
        ((b"(comment)", b"example", b""), None),
        ((b"0/25", b"2", b"0", b"192", b"in-addr", b"arpa", b""), None),
    ],
)
def test_a_name_in_an_answer_is_a_host_name_or_none(labels: tuple[bytes, ...], expected: str | None) -> None:
    assert host_name(dns.name.Name(labels)) == expected


def test_an_odd_canonical_name_is_shown_escaped() -> None:
    assert display_name(dns.name.Name((b"A b\n", b"example", b""))) == "a\\032b\\010.example"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_reverse_names(address: str, name: str) -> None:
    assert reverse_name(ip_address(address)) == name


@pytest.mark.covers("SEC-158")
def test_an_address_in_disguise_is_unmasked() -> None:
    assert plain_address(ip_address("::ffff:127.0.0.1")) == ip_address("127.0.0.1")
    assert plain_address(ip_address("::1")) == ip_address("::1")
