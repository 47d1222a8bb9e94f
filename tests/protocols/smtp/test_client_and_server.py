"""The client core wired to the server core, without a network: what is sent is what is received."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.smtp import client_dialogue, server_dialogue

from outrider.model.address import parse_address
from outrider.model.envelope import BodyType, Notify, Recipient, Return
from outrider.model.reply import Reply
from outrider.model.transaction import RecipientRequest
from outrider.protocols.smtp.client_content import survey
from outrider.protocols.smtp.client_events import ClientSettings, ContentWanted, Mail, TransactionEnded
from outrider.protocols.smtp.client_states import State
from outrider.protocols.smtp.server_settings import ServerSettings

ANSWERS = {
    "ok": Reply(250, "2.1.5", "ok"),
    "later": Reply(450, "4.2.1", "busy"),
    "never": Reply(550, "5.1.1", "who"),
    "full": Reply(452, "4.5.3", "too many"),
}


def by_local_part(request: RecipientRequest) -> Reply:
    return ANSWERS[request.address.local.partition("-")[0]]


@dataclass
class Wire:
    """Both ends, and the line between them cut into pieces of one size."""

    server: server_dialogue.Dialogue
    client: client_dialogue.Dialogue
    piece: int = 1 << 20
    content: list[bytes] = field(default_factory=list)

    def run(self) -> None:
        """Carry octets to and fro until both are silent."""
        while True:
            to_server = self.client.heard()
            said = b"".join(
                self.server.feed(to_server[n : n + self.piece]) for n in range(0, len(to_server), self.piece)
            )
            said += self.server.pump()
            for start in range(0, len(said), self.piece):
                self.client.say(said[start : start + self.piece])
            answered = self.supply()
            if not to_server and not said and not answered:
                return

    def supply(self) -> bool:
        wanted = [event for event in self.client.events if isinstance(event, ContentWanted)]
        for event in wanted:
            self.client.events.remove(event)
            octets = self.content.pop(0)
            self.client.core.send_content(octets, last=not self.content, now=self.client.now)
            self.client.say()
        return bool(wanted)

    def send(self, mail: Mail) -> TransactionEnded:
        self.client.events.clear()
        self.client.core.send_mail(mail, self.client.now)
        self.run()
        return self.client.result


def wire(lmtp: bool = False, piece: int = 1 << 20) -> Wire:
    server = server_dialogue.Dialogue(
        ServerSettings("mx.example", lmtp=lmtp), recipient_decision=by_local_part
    )
    made = Wire(server, client_dialogue.Dialogue(ClientSettings("client.example", lmtp=lmtp)), piece)
    made.client.say(server.said)
    made.run()
    assert made.client.core.state is State.READY
    return made


@pytest.mark.covers("SMTP-1", "SMTP-3", "SEC-26")
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["ok", "later", "never", "full"]), min_size=1, max_size=5),
            st.lists(st.sampled_from([b".", b"\r\n", b"text", b"\r\n.\r\n", b"\r\n..", b"MAIL FROM:<x@y>"])),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 200),
    st.booleans(),
)
def test_what_is_sent_is_what_is_received(
    messages: list[tuple[list[str], list[bytes], int]], piece: int, lmtp: bool
) -> None:
    made = wire(lmtp, piece)
    for number, (answers, parts, cut) in enumerate(messages):
        content = b"Subject: x\r\n\r\n" + b"".join(parts)
        found = survey([content], 14)
        people = {n: Recipient(parse_address(f"{one}-{n}@b.example")) for n, one in enumerate(answers)}
        made.content = [content[:cut], content[cut:]] if cut else []
        before = len(made.server.messages)
        ended = made.send(
            Mail(parse_address("a@a.example"), people, found.size, content=None if cut else content)
        )
        accepted = [n for n, one in enumerate(answers) if one == "ok"]
        assert [n for n, one in ended.outcomes.items() if one.taken] == accepted
        assert sorted([*ended.outcomes, *ended.postponed]) == list(people)
        if not accepted:
            assert len(made.server.messages) == before
            continue
        taken = made.server.messages[-1]
        assert len(made.server.messages) == before + 1
        assert taken.content in (content, content + b"\r\n")
        assert [str(one.address) for one in taken.recipients] == [f"ok-{n}@b.example" for n in accepted]
        assert number >= 0


@pytest.mark.covers("SMTP-2a", "SMTP-3")
def test_parameters_arrive() -> None:
    made = wire()
    recipient = Recipient(
        parse_address("ok@b.example"), Notify.SUCCESS | Notify.FAILURE, "rfc822;o+o@x.example"
    )
    ended = made.send(
        Mail(
            parse_address("jörg@a.example"),
            {0: recipient},
            6,
            BodyType.EIGHT_BIT,
            smtputf8=True,
            ret=Return.FULL,
            envelope_id="id+1",
            content=b"\xc3\xbc\r\n\r\n",
        )
    )
    assert ended.outcomes[0].taken
    (taken,) = made.server.messages
    request, named = taken.request, taken.recipients[0]
    assert (request.size, request.body_type, request.smtputf8) == (6, BodyType.EIGHT_BIT, True)
    assert (request.ret, request.envelope_id) == (Return.FULL, "id+1")
    assert (named.notify, named.original) == (Notify.SUCCESS | Notify.FAILURE, "rfc822;o+o@x.example")


@pytest.mark.covers("SMTP-1", "SMTP-3")
def test_binary_content_by_chunks() -> None:
    made = wire()
    octets = bytes(range(256)) * 4
    made.content = [octets[:300], octets[300:301], octets[301:]]
    people = {0: Recipient(parse_address("ok@b.example"))}
    assert made.send(Mail(None, people, len(octets), BodyType.BINARY)).outcomes[0].taken
    assert made.server.messages[0].content == octets
    assert made.server.messages[0].is_binary


def test_quit() -> None:
    made = wire()
    made.client.core.quit(made.client.now)
    made.run()
    assert made.client.core.state is State.CLOSED
    assert made.client.ending.text
