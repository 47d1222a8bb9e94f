"""Whatever octets come, in whatever pieces: the same session, no exception, replies that are replies."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.protocols.smtp.server_dialogue import Dialogue

from outrider.model.reply import Reply
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_events import (
    AuthAnswered,
    AuthStarted,
    ContentReceived,
    Event,
    QuitReceived,
    SessionFailed,
    StartTlsReceived,
)
from outrider.protocols.smtp.server_settings import ServerSettings, SessionLimits
from outrider.protocols.smtp.server_states import State

SMALL = SessionLimits(
    message_size=60, header_size=30, line_length=60, recipients=2, errors=6, junk_commands=5, messages=3
)
REPLIES = re.compile(rb"(?:(?:[245][0-9]{2}-[^\r\n\0]*\r\n)*(?:[245][0-9]{2} |354 |334 )[^\r\n\0]*\r\n)*")

lines = st.sampled_from(
    [
        b"EHLO a.example\r\n",
        b"HELO a.example\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN\r\n",
        b"AUTH PLAIN =\r\n",
        b"MAIL FROM:<a@a.example>\r\n",
        b"MAIL FROM:<> BODY=BINARYMIME SIZE=9\r\n",
        b"RCPT TO:<b@mx.example>\r\n",
        b"RCPT TO:<nobody@mx.example>\r\n",
        b"DATA\r\n",
        b"BDAT 4\r\n",
        b"BDAT 0 LAST\r\n",
        b"BDAT 7 LAST\r\n",
        b"BDAT x\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"HELP\r\n",
        b"VRFY a\r\n",
        b"QUIT\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"\r\n",
        b"..x\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"." * 61,
        b"\xff\xfe",
    ]
)
hostile = st.one_of(lines, st.binary(max_size=12))
decisions = st.sampled_from(
    [
        Reply(250, "2.0.0", "ok"),
        Reply(550, "5.7.1", "no"),
        Reply(451, "4.7.1", "later"),
        Reply(421, "4.3.2", "bye"),
    ]
)


def merged(events: list[Event]) -> list[Event | bytes]:
    """The events, with content in one piece wherever it came in several."""
    found: list[Event | bytes] = []
    for event in events:
        if not isinstance(event, ContentReceived):
            found.append(event)
        elif found and isinstance(found[-1], bytes):
            found[-1] += event.octets
        else:
            found.append(event.octets)
    return found


def session(octets: list[bytes]) -> Dialogue:
    dialogue = Dialogue(ServerSettings("mx.example", SMALL, tls_offered=True), auth=("PLAIN",))
    dialogue.hello()
    dialogue.feed_each(octets)
    return dialogue


@settings(max_examples=300)
@given(st.lists(hostile, max_size=25), st.lists(st.integers(1, 9), max_size=60))
def test_pieces_make_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(parts)
    whole = session([octets])
    # Being out of step is the one thing that depends on when octets come, as it is about exactly that.
    assume(replies.OUT_OF_STEP.encode() not in whole.said)
    pieces = list[bytes]()
    for cut in cuts:
        pieces.append(octets[:cut])
        octets = octets[cut:]
    cut_up = session([*pieces, octets])
    assert cut_up.said == whole.said
    assert cut_up.core.state is whole.core.state
    # What is passed on of a message before it is refused may differ; what becomes of it may not.
    assert [message.content for message in cut_up.messages] == [message.content for message in whole.messages]
    kinds = [event for event in merged(cut_up.events) if not isinstance(event, bytes)]
    assert kinds == [event for event in merged(whole.events) if not isinstance(event, bytes)]


def drive(core: ServerSession, decide: list[Reply]) -> list[Event]:
    """Answer every decision with the next of `decide`."""
    events = []
    for _ in range(1000):
        event = core.next_event()
        if event is not None:
            events.append(event)
        if isinstance(event, StartTlsReceived):
            core.tls_started(1.0)
        elif isinstance(event, AuthStarted | AuthAnswered) and len(decide) % 2:
            core.challenge(b"eA==", 1.0)
        elif core.is_waiting:
            core.reply(decide.pop() if decide else Reply(250, "2.0.0", "ok"), 1.0)
        elif event is None:
            return events
    raise AssertionError("the session never comes to rest")


@settings(max_examples=300)
@given(st.lists(hostile, max_size=25), st.lists(decisions, max_size=20), st.booleans(), st.booleans())
def test_any_octets_and_any_decisions(
    parts: list[bytes], decide: list[Reply], lmtp: bool, ends: bool
) -> None:
    core = ServerSession(ServerSettings("mx.example", SMALL, lmtp=lmtp, tls_offered=True), 0.0)
    core.auth_mechanisms = ("PLAIN",)
    core.reply(Reply(220, "", ""), 0.0)
    said, events = b"", list[Event]()
    for part in parts:
        core.receive(part, 1.0)
        events += drive(core, decide)
        said += core.bytes_to_send()
    if ends:
        core.receive_eof(2.0)
        events += drive(core, decide)
        assert core.is_closed
    assert core.state in State
    assert REPLIES.fullmatch(said + core.bytes_to_send())
    assert sum(isinstance(event, QuitReceived | SessionFailed) for event in events) == core.is_closed


@given(st.binary(max_size=200))
def test_a_stranger_to_the_protocol_does_no_harm(octets: bytes) -> None:
    dialogue = Dialogue(ServerSettings("mx.example", SMALL))
    dialogue.feed(octets)
    assert dialogue.messages == []
    assert REPLIES.fullmatch(dialogue.said)
