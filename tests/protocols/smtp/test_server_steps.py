"""Staying in step: what may be sent ahead, and what becomes of it (SEC-56 to SEC-64, TLS-1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocols.smtp.server_dialogue import GOOD_PLAIN, Dialogue, codes

from outrider.model.reply import Reply
from outrider.protocols.smtp.server_events import (
    ContentStarted,
    MailReceived,
    QuitReceived,
    SessionFailed,
    StartTlsReceived,
    TransactionReset,
)
from outrider.protocols.smtp.server_settings import ServerSettings

TLS = ServerSettings("mx.example", tls_offered=True, auth_after_tls=True)
HEAD = (b"MAIL FROM:<a@a.example>", b"RCPT TO:<b@mx.example>")


@pytest.mark.covers("SEC-56")
def test_talk_before_the_greeting_ends_the_session() -> None:
    dialogue = Dialogue(greet=None)
    dialogue.core.receive(b"EHLO early.example\r\nMAIL FROM:<a@a.example>\r\n", 1.0)
    said = dialogue.pump()
    dialogue.core.reply(Reply(220, "", ""), 2.0)
    assert codes(said + dialogue.pump()) == [554]
    assert dialogue.core.is_closed
    assert [type(event) for event in dialogue.events] == [SessionFailed]


@pytest.mark.covers("SEC-57", "SEC-58")
@pytest.mark.parametrize("verb", [b"HELO", b"EHLO"])
def test_nothing_may_follow_the_hello(verb: bytes) -> None:
    dialogue = Dialogue()
    said = dialogue.feed(verb + b" x.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@mx.example>\r\n")
    assert codes(said) == [554]
    assert dialogue.core.is_closed
    assert dialogue.of_type(MailReceived) == []


@pytest.mark.covers("SEC-59")
def test_content_before_354_is_content_and_never_commands() -> None:
    dialogue = Dialogue()
    dialogue.hello()
    said = dialogue.feed(b"\r\n".join(HEAD) + b"\r\nDATA\r\nQUIT\r\nRSET\r\n.\r\nNOOP\r\n")
    assert codes(said) == [250, 250, 354, 250, 250]
    assert dialogue.messages[0].content == b"QUIT\r\nRSET\r\n"


@pytest.mark.covers("SEC-60")
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_two_messages_in_one_segment_are_two(piece: int) -> None:
    octets = b"".join(
        b"MAIL FROM:<%c@a.example>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\n%c\r\n.\r\n" % (name, name)
        for name in b"cd"
    )
    dialogue = Dialogue()
    dialogue.hello()
    said = dialogue.feed_each(octets[n : n + piece] for n in range(0, len(octets), piece))
    assert codes(said) == [250, 250, 354, 250] * 2
    assert [message.content for message in dialogue.messages] == [b"c\r\n", b"d\r\n"]


@pytest.mark.covers("SEC-59", "SEC-63")
def test_content_behind_a_refused_data_is_not_run() -> None:
    dialogue = Dialogue(content_decision=Reply(451, "4.3.0", "Not now"))
    dialogue.hello(*HEAD)
    said = dialogue.feed(b"DATA\r\nMAIL FROM:<c@a.example>\r\n")
    assert codes(said) == [451, 554]
    assert dialogue.core.is_closed
    assert len(dialogue.of_type(MailReceived)) == 1


@pytest.mark.covers("SEC-59", "SEC-78")
def test_content_behind_a_data_out_of_order_is_not_run() -> None:
    dialogue = Dialogue()
    dialogue.hello()
    assert codes(dialogue.feed(b"DATA\r\nMAIL FROM:<c@a.example>\r\n")) == [503, 554]
    assert dialogue.of_type(MailReceived) == []


@pytest.mark.covers("SEC-63")
@pytest.mark.parametrize("at_once", [True, False])
def test_when_all_recipients_were_refused_content_is_swallowed(at_once: bool) -> None:
    dialogue = Dialogue()
    dialogue.hello(HEAD[0], b"RCPT TO:<nobody@mx.example>")
    group = [b"DATA\r\n", b"MAIL FROM:<c@a.example>\r\nQUIT\r\n.\r\n"]
    said = dialogue.feed(b"".join(group)) if at_once else dialogue.feed_each(group)
    assert codes(said) == [354, 554]
    assert len(dialogue.of_type(MailReceived)) == 1
    assert dialogue.messages == []
    assert codes(dialogue.feed(b"MAIL FROM:<c@a.example>\r\n")) == [250]


@pytest.mark.covers("SEC-62")
def test_quit_and_the_end_behind_the_content() -> None:
    dialogue = Dialogue()
    dialogue.hello(*HEAD, b"DATA")
    dialogue.core.receive(b"x\r\n.\r\nQUIT\r\n", 1.0)
    dialogue.core.receive_eof(1.0)
    assert codes(dialogue.pump()) == [250, 221]
    assert len(dialogue.messages) == 1
    assert dialogue.of_type(QuitReceived)


@pytest.mark.covers("SEC-62", "SEC-96")
@pytest.mark.parametrize("octets", [b"DATA\r\nhalf", b"DATA\r\nhalf\r\n.\r", b"BDAT 5\r\nab", b"RCPT TO:<c@"])
def test_a_client_that_leaves_half_way_leaves_nothing(octets: bytes) -> None:
    dialogue = Dialogue()
    dialogue.hello(*HEAD)
    dialogue.feed(octets)
    dialogue.core.receive_eof(1.0)
    assert dialogue.pump() == b""
    assert dialogue.messages == []
    assert dialogue.core.is_closed
    assert [type(event) for event in dialogue.events[-2:]] == [TransactionReset, SessionFailed]


@pytest.mark.covers("SEC-64")
def test_data_after_bdat_ends_the_transaction() -> None:
    dialogue = Dialogue()
    dialogue.hello(*HEAD)
    dialogue.feed(b"BDAT 3\r\nab\r")
    assert codes(dialogue.feed(b"DATA\r\n")) == [503]
    assert len(dialogue.of_type(TransactionReset)) == 1
    assert codes(dialogue.feed(b"RCPT TO:<c@mx.example>\r\n")) == [503]


@pytest.mark.covers("TLS-1", "SEC-32", "SEC-33")
@pytest.mark.parametrize(
    "injected",
    [
        b"EHLO inject.example\r\n",
        b"RSET\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"AUTH PLAIN " + GOOD_PLAIN + b"\r\n",
        b"QUIT\r\n",
        b"NOOP\r\n" * 10_922,
    ],
)
def test_commands_behind_starttls_are_never_run(injected: bytes) -> None:
    dialogue = Dialogue(TLS)
    dialogue.hello()
    before = len(dialogue.events)
    assert codes(dialogue.feed(b"STARTTLS\r\n" + injected)) == [554]
    assert dialogue.core.is_closed
    assert [type(event) for event in dialogue.events[before:]] == [SessionFailed]


@pytest.mark.covers("TLS-1", "SEC-34", "SEC-35")
@pytest.mark.parametrize("injected", [b"EHL", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_neither_is_a_part_of_a_line_or_a_client_hello(injected: bytes) -> None:
    dialogue = Dialogue(TLS)
    dialogue.hello()
    assert codes(dialogue.feed(b"STARTTLS\r\n" + injected)) == [554]
    assert dialogue.of_type(StartTlsReceived) == []


@pytest.mark.covers("TLS-1", "SEC-36", "SEC-37")
def test_tls_forgets_everything() -> None:
    dialogue = Dialogue(replace(TLS, auth_after_tls=False), auth=("PLAIN",))
    dialogue.hello(b"MAIL FROM:<a@a.example>", b"RSET")
    assert codes(dialogue.feed(b"STARTTLS\r\n")) == [220]
    dialogue.core.tls_started(dialogue.now)
    assert codes(dialogue.feed(b"MAIL FROM:<a@a.example>\r\n")) == [503]
    said = dialogue.feed(b"EHLO again.example\r\n")
    assert b"STARTTLS" not in said
    assert codes(dialogue.feed(b"STARTTLS\r\n")) == [503]


@pytest.mark.covers("TLS-1", "SEC-36")
@pytest.mark.parametrize("before", [[HEAD[0]], list(HEAD), [b"AUTH PLAIN " + GOOD_PLAIN]])
def test_starttls_comes_before_mail_and_auth(before: list[bytes]) -> None:
    dialogue = Dialogue(TLS, auth=("PLAIN",))
    dialogue.hello(*before)
    assert codes(dialogue.feed(b"STARTTLS\r\n")) == [503]


@pytest.mark.covers("SEC-38")
def test_starttls_takes_no_argument_and_any_case() -> None:
    dialogue = Dialogue(TLS)
    dialogue.hello()
    assert codes(dialogue.feed(b"STARTTLS x\r\n")) == [501]
    assert codes(dialogue.feed(b"sTaRtTlS\r\n")) == [220]
    assert codes(Dialogue().feed(b"STARTTLS\r\n")) == [503]
    without = Dialogue()
    without.hello()
    assert codes(without.feed(b"STARTTLS\r\n")) == [502]


@pytest.mark.covers("SEC-104", "SMTP-2b")
@pytest.mark.parametrize("ahead", [b"MAIL FROM:<a@a.example>\r\n", b"x"])
def test_nothing_may_follow_auth_before_its_reply(ahead: bytes) -> None:
    for auth in (b"AUTH PLAIN " + GOOD_PLAIN + b"\r\n", b"AUTH PLAIN\r\n"):
        dialogue = Dialogue(auth=("PLAIN",))
        dialogue.hello()
        assert codes(dialogue.feed(auth + ahead)) == [554]
    dialogue = Dialogue(auth=("PLAIN",))
    dialogue.hello(b"AUTH PLAIN")
    assert codes(dialogue.feed(GOOD_PLAIN + b"\r\n" + ahead)) == [554]


@pytest.mark.covers("SEC-102")
def test_reset_between_chunks_drops_all() -> None:
    dialogue = Dialogue(TLS, auth=("PLAIN",))
    dialogue.hello(*HEAD)
    dialogue.feed(b"BDAT 3\r\nab\r")
    assert codes(dialogue.feed(b"NOOP\r\nSTARTTLS\r\nAUTH PLAIN\r\nRSET\r\n")) == [250, 503, 503, 250]
    assert codes(dialogue.feed(b"BDAT 1 LAST\r\nx")) == [503]
    assert dialogue.messages == []


def test_a_decision_holds_back_all_that_follows() -> None:
    dialogue = Dialogue()
    dialogue.hello()
    core = dialogue.core
    core.receive(b"\r\n".join([*HEAD, b"DATA", b"x", b"."]) + b"\r\n", 1.0)
    event = core.next_event()
    assert isinstance(event, MailReceived)
    for _ in range(3):
        assert core.next_event() is None
        assert core.bytes_to_send() == b""
    dialogue.decide(event)
    assert codes(dialogue.pump()) == [250, 250, 354, 250]
    assert dialogue.of_type(ContentStarted)


def test_a_decision_for_nobody_is_a_fault_of_the_driver() -> None:
    dialogue = Dialogue()
    with pytest.raises(RuntimeError):
        dialogue.core.reply(Reply(250, "", ""), 1.0)
    with pytest.raises(RuntimeError):
        dialogue.core.tls_started(1.0)
    dialogue.feed(b"QUIT\r\n")
    dialogue.core.reply(Reply(250, "", ""), 1.0)
    assert dialogue.pump() == b""


@pytest.mark.covers("SMTP-1")
def test_a_client_turned_away_may_only_quit() -> None:
    dialogue = Dialogue(greet=Reply(554, "5.7.1", "Not you"))
    assert dialogue.said == b"554 5.7.1 Not you\r\n"
    assert codes(dialogue.feed(b"EHLO a.example\r\n")) == [503]
    assert codes(dialogue.feed(b"BDAT 6\r\nQUIT\r\n")) == [503]
    assert codes(dialogue.feed(b"QUIT\r\n")) == [221]
    assert Dialogue(greet=Reply(421, "4.3.2", "Later")).core.is_closed


@pytest.mark.covers("SEC-44", "TLS-1")
def test_octets_in_the_clear_during_the_handshake_end_the_session() -> None:
    dialogue = Dialogue(TLS)
    dialogue.hello(b"STARTTLS")
    assert codes(dialogue.feed(b"MAIL FROM:<a@a.example>\r\n")) == [554]
    assert dialogue.core.is_closed
