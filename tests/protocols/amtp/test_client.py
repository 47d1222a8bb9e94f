"""The client core against a scripted server: what it says, and what it makes of answers."""

from __future__ import annotations

import pytest
from tests.protocols.smtp import client_dialogue
from tests.protocols.smtp.client_dialogue import SETTINGS, ehlo_reply

from outrider.model.mpc import ABOUT_POLICY, Mpc, parse_mpc
from outrider.model.result import Kind
from outrider.protocols.amtp.client import AmtpClient
from outrider.protocols.smtp.client_events import LoginEnded, Mail, SessionOpened
from outrider.protocols.smtp.client_results import ServerView, ending_result, outcome_result
from outrider.protocols.smtp.client_states import End, LocalProtocolError, Stage, State

OPTIN = parse_mpc("com/optin")


class Dialogue(client_dialogue.Dialogue):
    """`client_dialogue`'s, with an AMTP client."""

    def __init__(self) -> None:
        super().__init__(under_tls=True)
        self.client = AmtpClient(SETTINGS, self.now)
        self.core = self.client


def mail(code: Mpc | None = OPTIN, *recipients: str) -> Mail:
    return client_dialogue.mail(*recipients, mpc=code)


@pytest.mark.covers("AMTP-11", "AMTP-14")
def test_mail_carries_its_code() -> None:
    dialogue = Dialogue().opened("PIPELINING", "SIZE", "CHUNKING")
    said = dialogue.send(mail()).split(b"\r\n")
    assert said[0] == b"MAIL FROM:<ann@a.example> SIZE=26 MPC=com/optin"
    assert b"MPC" not in b"".join(said[1:])


@pytest.mark.covers("AMTP-11")
def test_mail_carries_its_code_without_pipelining_too() -> None:
    dialogue = Dialogue().opened()
    assert dialogue.send(mail(ABOUT_POLICY)) == b"MAIL FROM:<ann@a.example> MPC=mpc/individual\r\n"


@pytest.mark.covers("AMTP-11")
def test_mail_without_a_code_is_not_sent() -> None:
    dialogue = Dialogue().opened()
    with pytest.raises(LocalProtocolError):
        dialogue.send(mail(None))
    assert dialogue.heard() == b""


def test_smtp_never_says_the_code() -> None:
    dialogue = client_dialogue.Dialogue().opened("PIPELINING")
    assert b"MPC" not in dialogue.send(mail())


@pytest.mark.covers("AMTP-12")
def test_what_the_server_denies_is_known_before_mail() -> None:
    dialogue = Dialogue().opened("MPC ALLOW=net/*", "MPC-DENY net/optout", "SIZE")
    denied = dialogue.client.denied_by
    assert denied(OPTIN) == "the server's policy denies com/optin (not among ALLOW=net/*)"
    assert denied(parse_mpc("net/optout")) == "the server's policy denies net/optout (DENY=net/optout)"
    assert denied(parse_mpc("net/optin")) is None
    assert denied(ABOUT_POLICY) is None


@pytest.mark.covers("AMTP-12")
def test_what_the_server_denies_is_not_sent() -> None:
    dialogue = Dialogue().opened("MPC DENY com/*")
    with pytest.raises(LocalProtocolError):
        dialogue.send(mail())
    assert dialogue.heard() == b""
    dialogue.core.quit(dialogue.now)
    assert dialogue.heard() == b"QUIT\r\n"


@pytest.mark.covers("AMTP-8")
def test_504_is_an_ending_of_its_own() -> None:
    dialogue = Dialogue().say("220 mx.example AMTP")
    assert dialogue.heard() == b"EHLO client.example\r\n"
    dialogue.say("504 5.7.8 Authentication failed")
    assert (dialogue.ending.how, dialogue.ending.stage) == (End.NOT_BELIEVED, Stage.HELLO)
    assert dialogue.heard() == b""
    result = ending_result(dialogue.ending, ServerView("mx.example", "amtp"))
    assert (result.kind, result.status, result.code) == (Kind.DEFERRED, "4.7.8", 504)
    assert result.text == (
        "the server does not believe our certificate, name and address: Authentication failed"
    )


@pytest.mark.covers("AMTP-4", "AMTP-8")
@pytest.mark.parametrize(
    ("reply", "kind"),
    [("451 4.7.0 later", Kind.DEFERRED), ("500 what", Kind.FAILED), ("502 no", Kind.FAILED)],
)
def test_nobody_is_greeted_with_helo(reply: str, kind: Kind) -> None:
    dialogue = Dialogue().say("220 mx.example AMTP")
    dialogue.heard()
    dialogue.say(reply)
    assert dialogue.heard() == b""
    assert dialogue.ending.how is End.REFUSED
    assert ending_result(dialogue.ending, ServerView()).kind is kind


@pytest.mark.covers("AMTP-20")
def test_ehlo_again_after_a_login_learns_another_list() -> None:
    dialogue = Dialogue().opened("AUTH PLAIN")
    assert dialogue.client.declarations == ()
    dialogue.core.authenticate("PLAIN", b"\0a\0b", dialogue.now)
    dialogue.heard()
    dialogue.say("235 2.7.0 ok")
    assert dialogue.only(LoginEnded).reply.code == 235
    dialogue.client.say_hello_again(dialogue.now)
    assert dialogue.heard() == b"EHLO client.example\r\n"
    assert dialogue.core.state is State.GREETING
    dialogue.say(ehlo_reply("SIZE 100", "MPC ALLOW=com/*"))
    assert "SIZE" in dialogue.only(SessionOpened).offers
    assert dialogue.client.denied_by(OPTIN) is None
    assert dialogue.client.denied_by(parse_mpc("per/individual")) is not None
    assert dialogue.send(mail()).startswith(b"MAIL ")


@pytest.mark.covers("AMTP-8", "AMTP-20")
def test_504_to_the_second_ehlo() -> None:
    dialogue = Dialogue().opened("AUTH PLAIN")
    dialogue.client.say_hello_again(dialogue.now)
    dialogue.say("504 5.7.8 Authentication failed")
    assert dialogue.ending.how is End.NOT_BELIEVED


@pytest.mark.covers("AMTP-20")
def test_a_second_list_replaces_the_first() -> None:
    dialogue = Dialogue().opened("MPC DENY=*/*")
    dialogue.client.say_hello_again(dialogue.now)
    dialogue.say(ehlo_reply())
    assert dialogue.client.denied_by(OPTIN) is None


def test_there_is_no_starttls() -> None:
    dialogue = Dialogue().opened("STARTTLS")
    with pytest.raises(LocalProtocolError):
        dialogue.core.start_tls(dialogue.now)
    assert dialogue.heard() == b""


def test_hello_again_has_its_place() -> None:
    dialogue = Dialogue().opened()
    dialogue.send(mail())
    with pytest.raises(LocalProtocolError):
        dialogue.client.say_hello_again(dialogue.now)


@pytest.mark.covers("AMTP-11")
@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        ("550 5.7.1 MPC policy violation", Kind.FAILED, "MPC policy violation"),
        ("451 4.7.1 MPC temporary failure, try again later", Kind.DEFERRED,
         "MPC temporary failure, try again later"),
    ],
)  # fmt: skip
def test_a_recipient_who_does_not_want_the_code(reply: str, kind: Kind, text: str) -> None:
    dialogue = Dialogue().opened("PIPELINING")
    dialogue.send(mail(OPTIN, "john@b.example", "ringo@b.example"))
    dialogue.say("250 ok", reply, "250 ok", "354 go on", "250 taken")
    results = [outcome_result(one, ServerView()) for one in dialogue.result.outcomes.values()]
    assert sorted((one.kind is Kind.RELAYED, one.text) for one in results) == [(False, text), (True, "taken")]
    assert kind in {one.kind for one in results}
