"""What the AMTP session tells its driver, beside what it says (the transcripts show that)."""

from __future__ import annotations

import pytest
from tests.protocols.amtp.server_dialogue import Dialogue
from tests.protocols.smtp import server_dialogue
from tests.protocols.smtp.server_dialogue import codes, with_limits

from outrider.model.envelope import BodyType
from outrider.model.mpc import LEGAL, Mpc
from outrider.protocols.smtp.server_events import (
    CommandRefused,
    HelloReceived,
    MailReceived,
    SessionFailed,
    TransactionReset,
)
from outrider.protocols.smtp.server_states import State


@pytest.mark.covers("AMTP-11", "AMTP-14")
@pytest.mark.parametrize("code", LEGAL, ids=str)
def test_the_driver_gets_the_code(code: Mpc) -> None:
    dialogue = Dialogue()
    dialogue.hello(f"MAIL FROM:<a@a.example> MPC={code} BODY=8BITMIME SIZE=7".encode())
    (event,) = dialogue.of_type(MailReceived)
    assert isinstance(event, MailReceived)
    assert (event.request.mpc, event.request.size, event.request.body_type) == (code, 7, BodyType.EIGHT_BIT)


@pytest.mark.covers("AMTP-3")
def test_504_ends_the_transaction_that_was_open() -> None:
    dialogue = Dialogue()
    dialogue.hello(b"MAIL FROM:<a@a.example> MPC=com/optin", b"RCPT TO:<b@b.example>")
    dialogue.feed(b"EHLO other.example\r\n")
    assert dialogue.of_type(TransactionReset) == [TransactionReset("EHLO")]
    assert not dialogue.core.in_transaction
    assert dialogue.core.state is State.TURNED_AWAY


@pytest.mark.covers("AMTP-3")
def test_504_may_be_the_last_error_that_is_allowed() -> None:
    dialogue = Dialogue(with_limits(errors=1), certified="other.example")
    assert codes(dialogue.hello()) == [504, 421]
    assert dialogue.core.is_closed
    assert len(dialogue.of_type(SessionFailed)) == 1


@pytest.mark.covers("AMTP-4")
def test_helo_is_never_asked_about() -> None:
    dialogue = Dialogue()
    assert codes(dialogue.feed(b"HELO client.example\r\n")) == [504]
    assert dialogue.of_type(HelloReceived) == []
    (refused,) = dialogue.of_type(CommandRefused)
    assert isinstance(refused, CommandRefused)
    assert refused.verb == "HELO"


@pytest.mark.covers("AMTP-11")
def test_a_code_is_no_parameter_of_smtp() -> None:
    assert codes(server_dialogue.Dialogue().hello(b"MAIL FROM:<a@a.example> MPC=com/optin")) == [555]


@pytest.mark.covers("AMTP-20")
def test_the_list_of_an_ehlo_is_not_kept_for_the_next() -> None:
    dialogue = Dialogue(declarations=("ALLOW=com/*",))
    assert b"MPC ALLOW=com/*" in dialogue.hello()
    dialogue.declarations = ()
    assert b"MPC" not in dialogue.hello()
