"""Limits and time: what is counted, what ends a session, and what it is told (SMTP-9)."""

from __future__ import annotations

import pytest
from tests.protocols.smtp.server_dialogue import Dialogue, codes, with_limits

from outrider.model.reply import Reply
from outrider.protocols.smtp.capabilities import ehlo_reply
from outrider.protocols.smtp.server_events import (
    CommandRefused,
    ContentRefused,
    RecipientReceived,
    SessionFailed,
    TransactionReset,
)
from outrider.protocols.smtp.server_settings import NO_LIMIT, ServerSettings, SessionLimits

HEAD = (b"MAIL FROM:<a@a.example>", b"RCPT TO:<b@mx.example>")


@pytest.mark.covers("SMTP-9", "SEC-74", "SEC-82")
@pytest.mark.parametrize("length", [513, 4094, 4095, 4096, 5000, 1_000_000])
@pytest.mark.parametrize("piece", [4096, 10_000_000])
def test_lines_are_bounded_and_the_session_goes_on(length: int, piece: int) -> None:
    dialogue = Dialogue()
    dialogue.hello(HEAD[0])
    # A line of exactly the limit is read, and is then simply no address.
    line = b"RCPT TO:<" + b"a" * (length - 10) + b">\r\n"
    said = dialogue.feed_each(line[n : n + piece] for n in range(0, len(line), piece))
    assert codes(said) == [501 if len(line) <= 4096 else 500]
    assert codes(dialogue.feed(HEAD[1] + b"\r\n")) == [250]


@pytest.mark.covers("SEC-82")
def test_a_line_without_an_end_is_cut_off() -> None:
    dialogue = Dialogue()
    for _ in range(100):
        if dialogue.core.is_closed:
            break
        assert len(dialogue.feed(b"x" * 65_536)) < 100
    assert codes(dialogue.said)[-1] == 500
    assert dialogue.core.is_closed


@pytest.mark.covers("SEC-97", "SEC-99")
def test_a_bdat_line_too_long_ends_the_session() -> None:
    dialogue = Dialogue()
    dialogue.hello(*HEAD)
    assert codes(dialogue.feed(b"BDAT 6" + b" " * 5000 + b"\r\nQUIT\r\n")) == [500]
    assert dialogue.core.is_closed


@pytest.mark.covers("SMTP-9", "SEC-86")
def test_recipients_beyond_the_limit_leave_the_first_in_place() -> None:
    dialogue = Dialogue(with_limits(recipients=1000))
    dialogue.hello(HEAD[0])
    said = codes(dialogue.feed(b"RCPT TO:<b@mx.example>\r\n" * 5000))
    assert said == [250] * 1000 + [452] * 4000
    assert codes(dialogue.feed(b"DATA\r\n")) == [354]
    assert codes(dialogue.feed(b"x\r\n.\r\n")) == [250]
    assert len(dialogue.messages[0].recipients) == 1000


@pytest.mark.covers("SMTP-9", "SEC-85")
@pytest.mark.parametrize("by", ["data", "bdat"])
@pytest.mark.parametrize(("size", "code"), [(99, 250), (100, 250), (101, 552)])
def test_the_size_limit_is_exact(by: str, size: int, code: int) -> None:
    dialogue = Dialogue(with_limits(message_size=100))
    dialogue.hello(*HEAD)
    content = b"." * (size - 2) + b"\r\n"
    if by == "data":
        dialogue.feed(b"DATA\r\n")
        said = dialogue.feed(b"." + content + b".\r\n")  # the stuffed dot does not count
    else:
        said = dialogue.feed(b"BDAT %d LAST\r\n" % size + content)
    assert codes(said) == [code]
    assert codes(dialogue.feed(b"NOOP\r\n")) == [250]


@pytest.mark.covers("SMTP-9", "SEC-84")
@pytest.mark.parametrize("piece", [1000, 100_000])
@pytest.mark.parametrize(
    "headers",
    [b"Subject: " + b"x" * 100_000, b"X: 1234567\r\n" * 10_000, b"S: x\r\n" + b" folded\r\n" * 10_000],
)
def test_the_header_section_is_bounded(headers: bytes, piece: int) -> None:
    dialogue = Dialogue(with_limits(header_size=50_000))
    dialogue.hello(*HEAD, b"DATA")
    octets = headers + b"\r\n\r\nbody\r\n.\r\n"
    said = dialogue.feed_each(octets[n : n + piece] for n in range(0, len(octets), piece))
    assert said.startswith(b"552 5.3.4 Header")
    assert len(dialogue.of_type(ContentRefused)) == 1


@pytest.mark.covers("SMTP-9")
def test_a_long_body_is_not_a_long_header_section() -> None:
    dialogue = Dialogue(with_limits(header_size=100))
    for head in (b"", b"Subject: x\r\n"):
        dialogue.hello(*HEAD, b"DATA")
        assert codes(dialogue.feed_each([head + b"\r", b"\n" + b"x" * 1000 + b"\r\n.\r\n"])) == [250]


@pytest.mark.covers("SMTP-9", "SEC-87")
def test_errors_end_the_session_after_their_reply() -> None:
    dialogue = Dialogue(with_limits(errors=3))
    dialogue.hello()
    assert codes(dialogue.feed(b"A\r\nB\r\nC\r\nNOOP\r\n")) == [500, 500, 500, 421]
    assert dialogue.core.is_closed
    assert len(dialogue.of_type(CommandRefused)) == 3
    assert dialogue.events[-1] == SessionFailed(
        "too many errors", Reply(421, "4.7.0", "Too many errors; closing")
    )


@pytest.mark.covers("SMTP-9", "SEC-87")
def test_permanent_refusals_of_recipients_are_errors() -> None:
    dialogue = Dialogue(with_limits(errors=2))
    dialogue.hello(HEAD[0])
    said = dialogue.feed(b"RCPT TO:<nobody@mx.example>\r\n" * 4)
    assert codes(said) == [550, 550, 421]
    assert len(dialogue.of_type(RecipientReceived)) == 2
    assert len(dialogue.of_type(TransactionReset)) == 1


@pytest.mark.covers("SMTP-9")
def test_temporary_refusals_are_not() -> None:
    dialogue = Dialogue(with_limits(errors=2), recipient_decision=lambda _: Reply(451, "4.7.1", "Later"))
    dialogue.hello(HEAD[0])
    assert codes(dialogue.feed(HEAD[1] + b"\r\n" + (HEAD[1] + b"\r\n") * 9)) == [451] * 10


@pytest.mark.covers("SMTP-9", "SEC-87")
@pytest.mark.parametrize("command", [b"NOOP", b"RSET", b"VRFY a", b"HELP"])
def test_commands_without_mail_are_counted(command: bytes) -> None:
    dialogue = Dialogue(with_limits(junk_commands=5))
    dialogue.hello()
    said = dialogue.feed((command + b"\r\n") * 10_000)
    assert codes(said)[5:] == [421]
    assert dialogue.core.is_closed


@pytest.mark.covers("SMTP-9", "SEC-87")
def test_so_are_hellos_but_not_the_one_after_tls() -> None:
    dialogue = Dialogue(with_limits(junk_commands=1))
    assert codes(dialogue.hello()) == [250]
    assert codes(dialogue.hello()) == [250]
    assert codes(dialogue.hello()) == [421]


@pytest.mark.covers("SMTP-9", "SEC-87")
def test_a_message_taken_clears_the_record() -> None:
    dialogue = Dialogue(with_limits(errors=2, junk_commands=2))
    dialogue.hello()
    for _ in range(5):
        assert codes(dialogue.feed(b"FOO\r\nNOOP\r\nRSET\r\n")) == [500, 250, 250]
        dialogue.feed(b"\r\n".join(HEAD) + b"\r\nDATA\r\n")
        assert codes(dialogue.feed(b"x\r\n.\r\n")) == [250]


@pytest.mark.covers("SMTP-9")
def test_under_stress_one_error_is_enough() -> None:
    dialogue = Dialogue()
    dialogue.hello()
    dialogue.core.limits = dialogue.core.limits.under_stress()
    assert dialogue.core.limits.command_timeout_s == 10
    assert codes(dialogue.feed(b"FOO\r\n")) == [500, 421]


def late(dialogue: Dialogue) -> float:
    deadline = dialogue.core.deadline()
    assert deadline is not None
    return deadline - dialogue.now


@pytest.mark.covers("SMTP-9", "SEC-88")
def test_octets_do_not_extend_the_time_for_a_command() -> None:
    dialogue = Dialogue()
    dialogue.hello()
    for octet in b"MAIL FROM:<a@a.exa":
        dialogue.now += 10
        dialogue.feed(bytes((octet,)))
    assert late(dialogue) == 300 - 18 * 10
    dialogue.now += 120
    dialogue.core.timed_out(dialogue.now)
    assert dialogue.pump().startswith(b"421 4.4.2 ")
    assert dialogue.core.is_closed


@pytest.mark.covers("SMTP-9", "SEC-88")
@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 100000\r\n"])
def test_content_must_keep_a_rate(begin: bytes) -> None:
    dialogue = Dialogue()
    dialogue.hello(*HEAD)
    dialogue.feed(begin)
    dialogue.now += 200
    dialogue.feed(b"x" * 10_000)  # worth 20 s at 500 octets a second
    assert late(dialogue) == 300 + 20 - 200
    dialogue.now += 50
    dialogue.feed(b"x")
    assert late(dialogue) == pytest.approx(300 + 20 + 0.002 - 250)
    dialogue.feed(b"x" * 50_000)
    assert late(dialogue) == pytest.approx(300 + 120 + 0.002 - 250)
    dialogue.now += 100
    dialogue.feed(b"y")
    assert late(dialogue) == pytest.approx(300 + 120 + 0.004 - 350)


@pytest.mark.covers("SMTP-9", "SEC-88")
def test_silence_is_bounded_whatever_came_before() -> None:
    dialogue = Dialogue()
    dialogue.hello(*HEAD, b"DATA")
    dialogue.now += 1
    dialogue.feed(b"x" * 10_000_000)
    assert late(dialogue) == 300
    dialogue.now += 300
    dialogue.core.timed_out(dialogue.now)
    assert codes(dialogue.pump()) == [421]
    assert dialogue.messages == []


@pytest.mark.covers("SMTP-9")
def test_a_session_ends_some_day() -> None:
    dialogue = Dialogue(with_limits(session_time_s=1000))
    dialogue.hello()
    for _ in range(4):
        dialogue.now += 249
        dialogue.feed(b"NOOP\r\n")
    assert late(dialogue) == 4
    dialogue.now += 4
    dialogue.core.timed_out(dialogue.now)
    assert dialogue.pump().startswith(b"421 4.4.2 Session")


@pytest.mark.covers("SMTP-9")
def test_nobody_is_late_while_we_decide() -> None:
    dialogue = Dialogue()
    dialogue.hello()
    dialogue.core.receive(HEAD[0] + b"\r\n", dialogue.now)
    dialogue.core.next_event()
    assert dialogue.core.deadline() is None
    dialogue.core.timed_out(dialogue.now + 10_000)
    assert not dialogue.core.is_closed
    dialogue.now += 500
    dialogue.core.reply(Reply(250, "2.1.0", "ok"), dialogue.now)
    assert late(dialogue) == 300


@pytest.mark.covers("SEC-105")
def test_an_auth_line_is_read_up_to_its_own_limit() -> None:
    for length, answer in ((12_288, [535]), (12_289, [500])):
        dialogue = Dialogue(auth=("PLAIN",))
        dialogue.hello(b"AUTH PLAIN")
        assert codes(dialogue.feed_each([b"A" * length, b"\r\n"])) == answer
        assert codes(dialogue.feed(b"NOOP\r\n")) == [250]


def test_limits_that_are_smaller_anyway_stay_under_stress() -> None:
    limits = SessionLimits(command_timeout_s=3, data_timeout_s=4)
    assert limits.under_stress().command_timeout_s == 3
    assert limits.under_stress().data_timeout_s == 4


@pytest.mark.covers("SMTP-2a")
def test_no_limit_of_size_is_told_as_nought() -> None:
    settings = ServerSettings("mx.example", SessionLimits(message_size=NO_LIMIT))
    reply = ehlo_reply(settings, "client.example", starttls=False, auth=(), wall_time=0.0)
    assert "SIZE 0" in reply.text.split("\n")
