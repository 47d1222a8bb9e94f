"""Two messages never appear from one: the receiving side of the attack list, rows 1 to 25."""

from __future__ import annotations

import pytest
from tests.protocols.smtp.server_dialogue import Dialogue, codes, with_limits
from tests.wire.smuggling import MATRIX, ROWS, TRUE_END_AFTER_STRAY_CR, is_true_end

from outrider.protocols.smtp.server_events import ContentRefused, MailReceived
from outrider.wire.line_ends import has_stray_octets

FIRST = b"Subject: outer\r\n\r\nbody"
SMUGGLED = (
    b"MAIL FROM:<smuggled@a.example>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\nSubject: inner\r\n\r\nx\r\n.\r\n"
)
HEAD = (b"MAIL FROM:<a@a.example>", b"RCPT TO:<b@mx.example>", b"DATA")


def at_data(dialogue: Dialogue | None = None) -> Dialogue:
    dialogue = dialogue or Dialogue()
    assert dialogue.hello(*HEAD).startswith(b"354 ")
    return dialogue


def senders(dialogue: Dialogue) -> list[str]:
    return [str(event.request.sender) for event in dialogue.events if isinstance(event, MailReceived)]


def assert_one_message(dialogue: Dialogue, variant: bytes, said: bytes) -> None:
    """It was read to the true end, which is the smuggled message's, and judged as one."""
    assert senders(dialogue) == ["a@a.example"], variant
    if has_stray_octets(FIRST + variant):
        assert codes(said) == [550], variant
        assert dialogue.messages == []
    else:
        assert codes(said) == [250], variant
        assert len(dialogue.messages) == 1


@pytest.mark.covers("SMTP-1", "SEC-18")
def test_the_matrix() -> None:
    for variant in MATRIX:
        if not is_true_end(variant):
            dialogue = at_data()
            assert_one_message(dialogue, variant, dialogue.feed(FIRST + variant + SMUGGLED))


@pytest.mark.covers("SMTP-1", "SEC-18", "SEC-10")
def test_true_ends_of_the_matrix_that_hold_stray_octets_are_refused() -> None:
    for variant in [*filter(is_true_end, MATRIX), TRUE_END_AFTER_STRAY_CR]:
        before, _, after = variant.partition(b"\r\n.\r\n")
        dialogue = at_data()
        said = dialogue.feed(FIRST + variant + b"NOOP\r\n")
        assert codes(said)[0] == (550 if has_stray_octets(before + b"\r\n") else 250), variant
        if not after:
            assert codes(said)[1:] == [250]


@pytest.mark.covers("SMTP-1", "SEC-19", "SEC-24")
@pytest.mark.parametrize("row", ROWS)
def test_each_row_octet_by_octet_and_split_everywhere(row: int) -> None:
    for variant in ROWS[row]:
        octets = FIRST + variant + SMUGGLED
        for cut in range(len(FIRST), len(FIRST) + len(variant) + 1):
            dialogue = at_data()
            assert_one_message(dialogue, variant, dialogue.feed_each([octets[:cut], octets[cut:]]))
        dialogue = at_data()
        said = dialogue.feed_each(octets[n : n + 1] for n in range(len(octets)))
        assert_one_message(dialogue, variant, said)


@pytest.mark.covers("SMTP-1", "SEC-21")
@pytest.mark.parametrize("row", ROWS)
def test_each_row_after_the_size_limit(row: int) -> None:
    for variant in ROWS[row]:
        dialogue = at_data(Dialogue(with_limits(message_size=len(FIRST))))
        said = dialogue.feed(FIRST + b"x" * 50 + variant + SMUGGLED)
        assert senders(dialogue) == ["a@a.example"]
        assert codes(said) == [552]
        assert codes(dialogue.feed(b"NOOP\r\n")) == [250]


@pytest.mark.covers("SEC-8")
def test_no_answer_before_the_late_line_feed() -> None:
    dialogue = at_data()
    assert dialogue.feed(FIRST + b"\r\n.\r") == b""
    dialogue.now += 100
    assert codes(dialogue.feed(b"\n")) == [250]


@pytest.mark.covers("SEC-23", "SMTP-1")
@pytest.mark.parametrize("octets", [b"Subject: a\nb\r\n", b"Subject: a\rb\r\n", b"S: x\r\n\r\na\0b\r\n"])
def test_stray_octets_are_refused_anywhere(octets: bytes) -> None:
    by_data, by_bdat = at_data(), Dialogue()
    by_bdat.hello(*HEAD[:2])
    assert by_data.feed(octets + b".\r\n").startswith(b"550 5.6.0 ")
    assert by_bdat.feed(b"BDAT %d LAST\r\n" % len(octets) + octets).startswith(b"550 5.6.0 ")
    for dialogue in (by_data, by_bdat):
        assert dialogue.messages == []
        assert len(dialogue.of_type(ContentRefused)) == 1


@pytest.mark.covers("SMTP-1")
def test_binary_content_keeps_its_stray_octets() -> None:
    dialogue = Dialogue()
    content = b"Subject: x\r\n\r\n\0\r\n.\r\n\r\r\n\nQUIT\r\n"
    dialogue.hello(HEAD[0] + b" BODY=BINARYMIME", HEAD[1])
    assert codes(dialogue.feed(b"BDAT %d LAST\r\n" % len(content) + content)) == [250]
    assert dialogue.messages[0].content == content
    assert dialogue.messages[0].is_binary


@pytest.mark.covers("SEC-22")
def test_content_arrives_byte_exact() -> None:
    content = b".\r\n..\r\n.x\r\n" + b"." + b"y" * 997 + b"\r\n" + bytes(range(128, 256)) + b"\r\n"
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    dialogue = at_data()
    dialogue.feed(b"." + stuffed + b".\r\n")
    assert dialogue.messages[0].content == content
    assert not dialogue.messages[0].is_ascii
    assert not dialogue.messages[0].is_binary


@pytest.mark.covers("SEC-25", "SEC-83")
@pytest.mark.parametrize("line", [b" folded\r\n", b"From x\r\n", b">From x\r\n", b"x" * 1000])
def test_every_octet_counts(line: bytes) -> None:
    dialogue = at_data(Dialogue(with_limits(message_size=1_000_000)))
    said = dialogue.feed_each([line * 1000] * (1_000_000 // (len(line) * 1000) + 1))
    assert said == b""
    assert codes(dialogue.feed(b"\r\n.\r\n")) == [552]
    assert dialogue.messages == []


@pytest.mark.covers("SEC-24", "SEC-66")
@pytest.mark.parametrize(
    "octets", [b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b'RCPT TO:<"a\nDATA\n"@b>\r\n', b"NOOP\n\r\nNOOP\r\n"]
)
def test_no_two_commands_from_one_line(octets: bytes) -> None:
    dialogue = Dialogue()
    dialogue.hello()
    said = codes(dialogue.feed(octets))
    assert len(said) == 1
    assert said[0] in (500, 501)


@pytest.mark.covers("SEC-66")
def test_a_line_end_within_quotes_makes_no_second_command() -> None:
    dialogue = Dialogue()
    dialogue.hello(HEAD[0])
    assert codes(dialogue.feed(b'RCPT TO:<"a\r\nDATA\r\n"@mx.example>\r\n')) == [501, 503, 554]
    assert dialogue.core.is_closed
