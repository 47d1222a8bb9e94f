"""The AMTP client core wired to the server core, without a network."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.amtp import server_dialogue
from tests.protocols.amtp.test_client import Dialogue as ClientDialogue
from tests.protocols.smtp.test_client_and_server import Wire

from outrider.model.address import parse_address
from outrider.model.envelope import Recipient
from outrider.model.mpc import ABOUT_POLICY, LEGAL, Mpc, parse_mpc
from outrider.protocols.amtp.client import AmtpClient
from outrider.protocols.amtp.declarations import declarations_for
from outrider.protocols.smtp.client_events import Mail
from outrider.protocols.smtp.client_states import End, State

CONTENT = b"Subject: x\r\n\r\nx\r\n"


class AmtpWire(Wire):
    """Both ends of an AMTP session."""

    def __init__(self, server: server_dialogue.Dialogue) -> None:
        self.amtp = ClientDialogue()
        super().__init__(server, self.amtp)
        self.amtp.say(server.said)
        self.run()

    @property
    def core(self) -> AmtpClient:
        return self.amtp.client


def mail(code: Mpc, *local_parts: str) -> Mail:
    people = {n: Recipient(parse_address(f"{one}@b.example")) for n, one in enumerate(local_parts or ("x",))}
    return Mail(parse_address("a@a.example"), people, len(CONTENT), mpc=code, content=CONTENT)


@pytest.mark.covers("AMTP-10", "AMTP-11", "AMTP-12")
@settings(max_examples=40)
@given(st.frozensets(st.sampled_from(LEGAL)))
def test_the_client_sends_what_the_server_takes_and_holds_back_the_rest(allowed: frozenset[Mpc]) -> None:
    wire = AmtpWire(server_dialogue.Dialogue(declarations=declarations_for(allowed)))
    for code in LEGAL:
        wanted = code in allowed or code == ABOUT_POLICY
        assert (wire.core.denied_by(code) is None) is wanted
        if wanted:
            assert wire.send(mail(code)).outcomes[0].taken
    taken = [message.request.mpc for message in wire.server.messages]
    assert taken == [code for code in LEGAL if code in allowed or code == ABOUT_POLICY]


@pytest.mark.covers("AMTP-11")
def test_some_recipients_take_a_code_and_others_do_not() -> None:
    takes = {"john@b.example": "per/individual", "ringo@b.example": "com/optin"}
    wire = AmtpWire(server_dialogue.Dialogue(takes=takes))
    ended = wire.send(mail(parse_mpc("com/optin"), "john", "ringo"))
    assert not ended.outcomes[0].taken
    assert ended.outcomes[1].taken
    assert [str(one.address) for one in wire.server.messages[0].recipients] == ["ringo@b.example"]


@pytest.mark.covers("AMTP-3", "AMTP-8")
def test_a_client_that_is_not_believed() -> None:
    wire = AmtpWire(server_dialogue.Dialogue(certified="other.example"))
    assert wire.amtp.ending.how is End.NOT_BELIEVED


@pytest.mark.covers("AMTP-20")
def test_the_roaming_user() -> None:
    """The provider takes business mail only from the certificate, anything individual from its user."""
    wire = AmtpWire(
        server_dialogue.Dialogue(
            auth=("PLAIN",), login_required=True, declarations=("ALLOW=com/*",), after_login=("ALLOW=per/*",)
        )
    )
    assert wire.core.declarations == ()
    wire.core.authenticate("PLAIN", b"\0test\x001234", wire.amtp.now)
    wire.run()
    wire.core.say_hello_again(wire.amtp.now)
    wire.run()
    assert wire.core.state is State.READY
    assert wire.core.denied_by(parse_mpc("com/optin")) is not None
    assert wire.send(mail(parse_mpc("per/individual"))).outcomes[0].taken
