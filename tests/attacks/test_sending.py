"""SEC-26 to SEC-31: whatever content we took, the next hop sees one message, in lines that end with CRLF."""

from __future__ import annotations

import re

import pytest

from tests.attacks.target import Target
from tests.attacks.wire import Wire
from tests.wire import smuggling

SMUGGLED = b"MAIL FROM:<smuggled@a.example>\r\nRCPT TO:<ann@here.example>\r\nDATA\r\n"
FORMS = [form for forms in smuggling.ROWS.values() for form in forms]


def chunked(wire: Wire, content: bytes, body: bytes) -> bytes:
    """One message by BDAT; the reply to it."""
    wire.expect(b"250", after=b"MAIL FROM:<s@client.example> BODY=" + body)
    wire.expect(b"250", after=b"RCPT TO:<ann@open.example>")
    wire.send(b"BDAT %d LAST\r\n" % len(content) + content)
    return wire.reply()


@pytest.mark.covers("SEC-26", "SEC-28")
@pytest.mark.parametrize("kind", [b"8BITMIME", b"BINARYMIME"])
@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_forms_that_came_by_chunks_end_no_data(target: Target, form: bytes, kind: bytes) -> None:
    token = b"chunk-" + kind[:2] + form.hex().encode() + b"-"
    before = len(target.sink.arrivals)
    with target.session() as wire:
        answer = chunked(wire, b"Subject: " + token + b"\r\n\r\ntext" + form + SMUGGLED + b"end\r\n", kind)
        assert wire.is_in_step()
    assert answer[:3] in (b"250", b"550", b"554")
    if answer.startswith(b"250"):
        content = target.arrival(token)
        # The next hop has no BINARYMIME: what is no text has been encoded, and there is one message only.
        assert re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", content) is None
        new = target.sink.arrivals[before:]
        assert [one.sender for one in new] == ["s@client.example"]


@pytest.mark.covers("SEC-27")
@pytest.mark.parametrize("end", [b"no line end", b".", b"x\r\n.", b"..", b".x\r\n..\r\n.", b"x\r\n\r\n"])
def test_ends_of_content(target: Target, end: bytes) -> None:
    token = b"end-%d" % (hash(end) & 0xFFFFFFFF)
    content = b"Subject: " + token + b"\r\n\r\n" + end
    with target.session() as wire:
        assert chunked(wire, content, b"8BITMIME").startswith(b"250")
    arrived = target.arrival(token)
    assert arrived.removesuffix(b"\r\n").endswith(content.removesuffix(b"\r\n"))


@pytest.mark.covers("SEC-29")
@pytest.mark.parametrize(
    "line", [b"x" * 999, b"x" * 5_000, b"." * 1_500, b"x" * 997 + b"." + b"y" * 997, b"=" * 3_000]
)
def test_long_lines_are_encoded(target: Target, line: bytes) -> None:
    token = b"long-%d" % (hash(line) & 0xFFFFFFFF)
    with target.session() as wire:
        wire.begin(b"ann@open.example")
        stuffed = b"." + line if line.startswith(b".") else line
        wire.expect(b"250", b"550", after=b"Subject: " + token + b"\r\n\r\n" + stuffed + b"\r\n.")
    content = target.arrival(token)
    assert max(map(len, content.split(b"\r\n"))) <= 998
