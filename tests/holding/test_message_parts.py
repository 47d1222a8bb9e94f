"""Parts found while a message passes by, decoded, and turned into text for people."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.holding.pages.file_names import clean_name, file_name, saved_as
from outrider.holding.pages.html_text import html_to_text
from outrider.holding.pages.message_parts import (
    MAX_HEADERS,
    FoundPart,
    PartFinder,
    UnreadableError,
    decode_all,
    decoder,
)
from outrider.holding.pages.part_headers import read_part_headers
from outrider.holding.pages.preview import HEAD_OCTETS, Preview, examine, preview

TOKENS = [
    *(b"\r\n", b"--b", b"--", b"c", b"\r\n\r\n", b"x: y", b"\n", b"\r"),
    b"Content-Type: multipart/mixed; boundary=b",
    b"Content-Type: multipart/alternative; boundary=c",
    b"Content-Transfer-Encoding: base64",
]
HOSTILE = [
    *("<" * 500_000, "<a " * 200_000, "<!--" * 200_000, "<script>" * 100_000, "&" * 500_000),
    *("<p" + " x=" * 200_000, "<a href='" * 100_000, "<style>" + "</styl" * 100_000),
    "İ" * 1000 + "<script>x</script>y",
]
NESTED = (
    b'Content-Type: multipart/mixed; boundary="outer"\r\n\r\npreamble\r\n'
    b"--outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n"
    b"--inner\r\n\r\nplain words\r\n--inner\r\nContent-Type: text/html\r\n\r\n<p>words\r\n--inner--\r\n"
    b"--outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner mail\r\n\r\n--inner is no line of ours"
    b"\r\n--outer \r\nContent-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n"
    b"\r\niVBORw==\r\n"
    b"--outer--\r\nepilogue\r\n--outer\r\n"
)


def found(octets: bytes, size: int = 0) -> tuple[FoundPart, ...]:
    finder = PartFinder()
    for at in range(0, len(octets), size or len(octets) or 1):
        finder.feed(octets[at : at + (size or len(octets))])
    return finder.finish()


async def seen(octets: bytes, size: int = 4096) -> Preview:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(octets), size):
            yield octets[at : at + size]

    return preview(await examine(pieces()))


@pytest.mark.covers("AMDP-13")
@pytest.mark.parametrize("size", [0, 1, 2, 3, 17, 64])
def test_parts_have_their_places_however_the_octets_come(size: int) -> None:
    parts = found(NESTED, size)
    assert [NESTED[one.start : one.end] for one in parts] == [
        b"plain words",
        b"<p>words",
        b"Subject: inner mail\r\n\r\n--inner is no line of ours",
        b"iVBORw==",
    ]
    assert [one.headers.media_type for one in parts] == [
        "text/plain",
        "text/html",
        "message/rfc822",
        "image/png",
    ]
    assert [one.number for one in parts] == [1, 2, 3, 4]
    assert parts[0].alternative == parts[1].alternative != 0
    assert [one.is_text for one in parts] == [True, True, False, False]


@pytest.mark.covers("AMDP-13")
def test_what_another_library_builds_is_found_again() -> None:
    mail = EmailMessage()
    mail["Subject"] = "Grüße"
    mail.set_content("Käse und Brot\n" * 50)
    mail.add_alternative("<p>Käse</p>", subtype="html")
    mail.add_attachment(
        bytes(range(256)) * 100, maintype="application", subtype="x-y", filename="süß & salzig.bin"
    )
    octets = mail.as_bytes(policy=policy.SMTP)
    theirs = [
        one for one in BytesParser(policy=policy.SMTP).parsebytes(octets).walk() if not one.is_multipart()
    ]
    ours = found(octets)
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        content = decode_all(octets[one.start : one.end], one.headers.encoding)
        assert content.rstrip(b"\r\n") == other.get_payload(decode=True).rstrip(b"\r\n")  # type: ignore[union-attr]
        assert one.headers.name == (other.get_filename() or "")


@pytest.mark.covers("SEC-112", "SEC-113")
@pytest.mark.parametrize(
    "octets",
    [
        b"A: " + b"x" * (MAX_HEADERS + 10),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * 1000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n" * 1000,
    ],
    ids=["headers", "parts", "multiparts"],
)
async def test_what_exceeds_the_limits_is_not_guessed_at(octets: bytes) -> None:
    with pytest.raises(UnreadableError):
        found(octets, 100_000)
    assert not (await seen(octets)).readable


@pytest.mark.covers("SEC-113")
def test_parts_within_parts_end_somewhere() -> None:
    octets = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(500)
    )
    assert len(found(octets)) == 1


@pytest.mark.covers("SEC-112")
@given(
    st.lists(
        st.sampled_from(TOKENS),
        max_size=60,
    ),
    st.integers(1, 40),
)
def test_any_octets_in_any_pieces_give_the_same_parts(tokens: list[bytes], size: int) -> None:
    octets = b"".join(tokens)
    parts = found(octets, size)
    assert parts == found(octets)
    places = [place for one in parts for place in (one.start, one.end)]
    assert places == sorted(places)
    assert all(0 <= place <= len(octets) for place in places)


@pytest.mark.covers("AMDP-13")
@given(st.binary(max_size=3000), st.integers(1, 200), st.sampled_from(["base64", "quoted-printable", "8bit"]))
def test_what_was_encoded_comes_back_however_it_is_cut(octets: bytes, size: int, encoding: str) -> None:
    encoded = {
        "base64": lambda: base64.encodebytes(octets).replace(b"\n", b"\r\n"),
        "quoted-printable": lambda: binascii.b2a_qp(octets, istext=False),
        "8bit": lambda: octets,
    }[encoding]()
    undoing = decoder(encoding)
    pieces = [undoing.feed(encoded[at : at + size]) for at in range(0, len(encoded), size)]
    assert b"".join(pieces) + undoing.finish() == octets


@pytest.mark.covers("AMDP-13")
@given(st.binary(max_size=2000), st.sampled_from(["base64", "quoted-printable", "x-unknown"]))
def test_what_is_no_encoding_is_passed_over(octets: bytes, encoding: str) -> None:
    assert isinstance(decode_all(octets, encoding), bytes)


@pytest.mark.covers("SEC-115", "AMDP-13")
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b'attachment; filename="a b.txt"', "a b.txt"),
        (b"attachment; filename=plain.txt", "plain.txt"),
        (b'attachment; filename="=?utf-8?B?w7w=?=.txt"', "ü.txt"),
        (b"attachment; filename*=utf-8''%c3%bc%20b.txt", "ü b.txt"),
        (b"attachment; filename*0*=utf-8''%c3; filename*1*=%bc; filename*2=.txt", "ü.txt"),
        (b"attachment; filename*=zlib''%41", "A"),
        (b'attachment; filename="unfinished', '"unfinished'),
        (b'attachment; filename="' + b"\\" * 5000, ""),
        (b"attachment" + b"; a=b" * 2000 + b"; filename=late", ""),
    ],
)
def test_names_in_all_their_forms(value: bytes, name: str) -> None:
    headers = read_part_headers(b"Content-Disposition: " + value + b"\r\n\r\n")
    assert headers.name == name or (name.startswith('"') and headers.name == "")


# -- text ----------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-13")
async def test_of_alternatives_the_plain_one_is_read() -> None:
    shown = await seen(NESTED)
    assert (shown.text, shown.from_html) == ("plain words", False)
    assert [one.headers.media_type for one in shown.attachments] == ["message/rfc822", "image/png"]


@pytest.mark.covers("AMDP-13", "SEC-196")
async def test_html_is_read_as_text_with_its_links_written_out() -> None:
    html = (
        b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n"
        b"<html><head><title>no</title><style>p{}</style></head><body onload=x()>"
        b"<h1>Caf\xe9 &amp; Bar</h1><p>See <a href='https://evil.example/?a=1&amp;b'>your bank</a>"
        b"<script>alert('no')</script><img src=https://track.example/x.png alt=picture><br>now<!-- no --></p>"
        b"<ul><li>one<li>two</ul><a href=https://same.example>https://same.example</a></body>"
    )
    shown = await seen(html)
    assert shown.from_html
    assert shown.text == (
        "Café & Bar\n\nSee your bank <https://evil.example/?a=1&b>\nnow\n\n• one\n• two\nhttps://same.example"
    )


@pytest.mark.covers("SEC-112", "SEC-196")
@pytest.mark.parametrize("markup", HOSTILE, ids=lambda markup: markup[:8])
def test_hostile_html_takes_no_time(markup: str) -> None:
    assert "<script>" not in html_to_text(markup) or markup.startswith("<script>")


@pytest.mark.covers("AMDP-13", "SEC-112")
async def test_of_a_long_text_the_beginning_is_shown() -> None:
    long = b"Subject: long\r\n\r\n" + b"word after word\r\n" * 100_000
    shown = await seen(long)
    assert shown.cut
    assert len(shown.text) < HEAD_OCTETS
    late = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: x/y\r\n\r\n"
        + b"x" * HEAD_OCTETS
    )
    shown = await seen(late + b"\r\n--b\r\n\r\nlate words\r\n--b--\r\n")
    assert (shown.text, shown.cut, len(shown.attachments)) == ("", True, 1)


@pytest.mark.covers("AMDP-8", "AMDP-13")
async def test_of_a_sender_only_the_address_is_shown() -> None:
    shown = await seen(
        b'From: "Your Bank <service@bank.example>" <x@evil.example>\r\nTo: a@b.example\r\n\r\nhi'
    )
    assert (shown.sender, shown.to) == ("x@evil.example", "a@b.example")


@pytest.mark.covers("SEC-115")
async def test_charsets_are_those_on_the_list() -> None:
    for charset, octets in ((b"rot13", b"abc"), (b"utf-16", b"abc"), (b"idna", b"abc"), (b"koi8-r", b"\xc1")):
        shown = await seen(b"Content-Type: text/plain; charset=" + charset + b"\r\n\r\n" + octets)
        assert shown.text == ("а" if charset == b"koi8-r" else "abc")


# -- names on disk -------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-197")
@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/absolute", "absolute"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie_ x"),
        ('x".html', "x_.html"),
        ("gpj.\u202eexe", "gpj.exe"),
        (".bashrc", "bashrc"),
        ("...", ""),
        ("CON.txt", "_CON.txt"),
        ("a\x00b", "ab"),
        ("é" * 500 + ".pdf", "é" * 116 + ".pdf"),
        ("`rm -rf $HOME`;", "_rm -rf _HOME__"),
    ],
)
def test_names_fit_for_a_disk(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@pytest.mark.covers("SEC-197", "SEC-198")
@given(st.text(max_size=300))
def test_any_name_makes_one_header_line(name: str) -> None:
    value = saved_as(file_name(name, "application/pdf", 3))
    assert value.isascii()
    assert value.isprintable()
    assert value.startswith('attachment; filename="')
    assert value.count('"') == 2
    assert "/" not in value
    assert "\\" not in value
