"""Message ids, numbers, tokens: their form and what they are made of; and paths of pages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.protocols.amdp.identifiers import OCTETS, identifier, is_identifier
from outrider.protocols.amdp.retrieval import PageAsked, page_path, read_page_path

ONE = "a" * 26


@pytest.mark.covers("AMDP-2")
@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=OCTETS, max_size=OCTETS))
def test_the_form(octets: bytes) -> None:
    assert is_identifier(identifier(octets))


@pytest.mark.covers("AMDP-2", "SEC-181")
def test_each_of_130_bits_counts() -> None:
    start = identifier(b"\x00" * OCTETS)
    made = {identifier((1 << bit).to_bytes(OCTETS, "big")) for bit in range(OCTETS * 8)}
    assert len(made - {start}) == 130


@pytest.mark.covers("AMDP-2")
@pytest.mark.parametrize("octets", [b"", b"\x00" * (OCTETS - 1), b"\x00" * (OCTETS + 1)])
def test_neither_less_nor_more_chance_is_taken(octets: bytes) -> None:
    with pytest.raises(ValueError, match="17 octets"):
        identifier(octets)


@pytest.mark.covers("SEC-186", "SEC-192")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 25,
        "a" * 27,
        "A" * 26,
        "a" * 25 + "1",
        "a" * 25 + "=",
        "a" * 25 + "\n",
        " " + "a" * 25,
        "../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2f..%2fet",
        "\uff41" * 26,
        "a" * 25 + "\x00",
        "a" * 10_000,
    ],
)
def test_whatever_has_another_form(text: str) -> None:
    assert not is_identifier(text)
    assert read_page_path(f"/m/{text}/{ONE}") is None
    assert not text or read_page_path(f"/m/{ONE}/{text}") is None


@pytest.mark.covers("AMDP-13")
def test_paths_of_pages() -> None:
    assert page_path(ONE, "") == f"/m/{ONE}"
    assert read_page_path(page_path(ONE, "")) == PageAsked(ONE, "")
    assert read_page_path(page_path(ONE, "b" * 26)) == PageAsked(ONE, "b" * 26)
    assert read_page_path(page_path(ONE, "b" * 26) + "/open") == PageAsked(ONE, "b" * 26, "open")
    assert ONE not in repr(PageAsked(ONE, "b" * 26))


@pytest.mark.covers("SEC-186")
@pytest.mark.parametrize("tail", ["/", "/Open", "/open/", "/../x", "/open;x", "/%2e", "/é", "?x", "//open"])
def test_other_paths(tail: str) -> None:
    assert read_page_path(page_path(ONE, "b" * 26) + tail) is None
    assert read_page_path(tail + page_path(ONE, "b" * 26)) is None
