"""The digest of what will be served, and the check while it comes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.protocols.amdp.digest import Digest, DigestCheck, DigestError, digest_of, parse_digest

HELLO = "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=; length=5"


@pytest.mark.covers("AMDP-22")
def test_a_known_digest() -> None:
    assert str(digest_of([b"he", b"", b"llo"])) == HELLO
    assert parse_digest(HELLO) == Digest(hashlib.sha256(b"hello").digest(), 5)
    assert parse_digest(HELLO.replace("sha", "SHA").replace("; l", " ;\t l")) == parse_digest(HELLO)


@pytest.mark.covers("AMDP-22", "SEC-192")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha-256=; length=5",
        "sha-256=LPJNul; length=5",
        HELLO.replace("sha-256", "md5"),
        HELLO + "0" * 20,
        HELLO.replace("=5", "=-5"),
        HELLO.replace("=5", "=05"),
        HELLO.replace("=5", "=٥"),
        HELLO.replace("CQ=", "CR="),
        HELLO.replace("=5", ""),
        HELLO + "; x=y",
        HELLO.replace("+", "-"),
        HELLO.replace("+w", "+\nw"),
        HELLO + "\n",
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(DigestError):
        parse_digest(text)


@pytest.mark.covers("AMDP-22", "SEC-183")
@pytest.mark.parametrize("octets", [b"", b"hell", b"hellp", b"Hello"])
def test_another_message_is_found_out(octets: bytes) -> None:
    check = DigestCheck(parse_digest(HELLO))
    check.feed(octets)
    with pytest.raises(DigestError):
        check.finish()


@pytest.mark.covers("AMDP-22", "SEC-184")
def test_a_message_without_end_is_stopped_at_the_first_octet_too_many() -> None:
    check = DigestCheck(parse_digest(HELLO))
    check.feed(b"hello")
    check.finish()
    with pytest.raises(DigestError, match="longer than the 5 octets"):
        check.feed(b"!")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=50)))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    digest = digest_of(pieces)
    assert digest == digest_of([b"".join(pieces)])
    assert parse_digest(str(digest)) == digest
    check = DigestCheck(digest)
    for piece in pieces:
        check.feed(piece)
    check.finish()
    assert check.length == digest.length


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_a_text_is_a_digest_or_refused(text: str) -> None:
    try:
        digest = parse_digest(text)
    except DigestError:
        return
    assert parse_digest(str(digest)) == digest
