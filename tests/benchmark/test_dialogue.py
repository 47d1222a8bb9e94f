"""What a session under load says, with no network."""

from __future__ import annotations

import pytest

from outrider.benchmark.dialogue import (
    MAX_REPLY,
    Refused,
    ReplyReader,
    Send,
    StartTls,
    content,
    session,
)
from outrider.benchmark.plan import Plan

PLAN = Plan("127.0.0.1", 25, messages=2, sessions=1)


def talk(plan: Plan, replies: dict[str, bytes], more: list[bool]) -> list[str]:
    """Run a dialogue against fixed replies by verb; what was sent, the message as `message`."""
    message = content(plan)
    dialogue = session(plan, lambda: message, lambda: more.pop(0))
    said = []
    step = next(dialogue)
    try:
        while True:
            if isinstance(step, Send):
                octets = bytes(step.octets)
                said.append("message" if octets == message else octets.decode())
                verbs = ["message"] if octets == message else octets.decode().split("\r\n")[:-1] or [""]
                found = [replies.get(verb.split(" ")[0], b"250 ok") for verb in verbs]
                step = dialogue.send(found)
            else:
                said.append("handshake" if isinstance(step, StartTls) else "due")
                step = dialogue.send([])
    except StopIteration:
        return said


GOOD = {"": b"220 hello", "DATA": b"354 go on", "STARTTLS": b"220 go on", "QUIT": b"221 bye"}
MAIL, RCPT = "MAIL FROM:<load@client.example>\r\n", "RCPT TO:<ann@bench.example>\r\n"
HELLO = "EHLO client.example\r\n"


def test_a_kept_session_sends_until_it_is_told_that_there_is_no_more() -> None:
    said = talk(PLAN, GOOD, [True, False])
    assert said == ["", HELLO, *["due", MAIL, RCPT, "DATA\r\n", "message"] * 2, "QUIT\r\n"]


def test_starttls_comes_before_the_first_message_and_greets_again() -> None:
    said = talk(Plan("127.0.0.1", 25, starttls=True), GOOD, [False])
    assert said[:6] == ["", HELLO, "STARTTLS\r\n", "handshake", HELLO, "due"]


def test_envelopes_are_announced_as_such() -> None:
    said = talk(Plan("127.0.0.1", 25, holder="mhf-1.client.example:8443"), GOOD, [False])
    assert said[3] == "MAIL FROM:<load@client.example> AMDP\r\n"


def test_amtp_begins_with_the_handshake_and_names_the_code() -> None:
    said = talk(Plan("127.0.0.1", 25, amtp=True, mpc="net/individual"), GOOD, [False])
    mail = "MAIL FROM:<load@client.example> MPC=net/individual\r\n"
    assert said == ["handshake", "", HELLO, "due", mail, RCPT, "DATA\r\n", "message", "QUIT\r\n"]


def test_a_connection_without_mail_greets_and_leaves() -> None:
    assert talk(Plan("127.0.0.1", 25, mail=False), GOOD, [False]) == ["", HELLO, "QUIT\r\n"]


def test_pipelining_sends_the_envelope_in_one_go() -> None:
    said = talk(Plan("127.0.0.1", 25, pipelining=True), GOOD, [False])
    assert said[3] == MAIL + RCPT + "DATA\r\n"


@pytest.mark.parametrize("verb", ["", "EHLO", "MAIL", "RCPT", "DATA", "message"])
@pytest.mark.parametrize("pipelining", [False, True])
def test_any_other_reply_is_a_refusal_that_says_where(verb: str, pipelining: bool) -> None:
    with pytest.raises(Refused, match=r"after .*: 451 not now"):
        talk(Plan("127.0.0.1", 25, pipelining=pipelining), {**GOOD, verb: b"451 not now"}, [False])


def test_replies_are_whole_however_they_arrive() -> None:
    whole = b"250-one\r\n250-two\r\n250 three\r\n354 go on\r\n"
    reader = ReplyReader()
    found = [reader.take(whole[at : at + 1], 2) for at in range(len(whole))]
    assert found[-1] == [b"250 three", b"354 go on"]
    assert not any(found[:-1])


def test_more_replies_than_were_asked_for_wait() -> None:
    reader = ReplyReader()
    assert reader.take(b"250 one\r\n250 two\r\n", 1) == [b"250 one"]
    assert reader.take(b"", 1) == [b"250 two"]


def test_a_reply_without_end_is_refused() -> None:
    with pytest.raises(Refused):
        ReplyReader().take(b"2" * (MAX_REPLY + 1), 1)


@pytest.mark.parametrize("size", [256, 4096, 4097, 5000, 1 << 20])
def test_the_message_has_its_size_and_one_end(size: int) -> None:
    octets = content(Plan("127.0.0.1", 25, size=size))
    assert octets.endswith(b"\r\n.\r\n")
    assert size - 2 < len(octets) - 3 <= size
    assert octets.index(b"\r\n.") == len(octets) - 5
    assert all(len(line) < 999 for line in octets.split(b"\r\n"))


def test_a_dialogue_begins_with_nothing_but_the_greeting() -> None:
    first = next(session(PLAN, lambda: b"", lambda: False))
    assert first == Send(b"", 1)
