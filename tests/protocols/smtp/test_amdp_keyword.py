"""AMDP in EHLO and on MAIL, on both sides (AMDP-5a)."""

from __future__ import annotations

import pytest
from tests.protocols.smtp.client_dialogue import ALL, Dialogue, mail
from tests.protocols.smtp.test_client_plan import FOUND, envelope

from outrider.model.envelope import Envelope
from outrider.protocols.amtp.server import AmtpSession
from outrider.protocols.smtp.capabilities import ehlo_reply
from outrider.protocols.smtp.client_offers import Offers
from outrider.protocols.smtp.client_plan import prepare_mail
from outrider.protocols.smtp.commands import (
    AMDP_MAIL_PARAMETERS,
    CommandError,
    parse_mail,
)
from outrider.protocols.smtp.server_settings import ServerSettings

pytestmark = pytest.mark.covers("AMDP-5a")
TOKEN = "abcdefghijklmnopqrstuvwx23"


def with_token(*recipients: str) -> Envelope:
    plain = envelope(*recipients)
    return Envelope(plain.sender, plain.recipients, link_token=TOKEN)


@pytest.mark.parametrize("on", [True, False])
def test_only_a_server_that_takes_envelopes_says_so(on: bool) -> None:
    settings = ServerSettings("mx.example", amdp=on)
    reply = ehlo_reply(settings, "client.example", starttls=False, auth=(), wall_time=0.0)
    assert ("AMDP" in reply.text.split("\n")) is on


def test_the_keyword_is_a_fact_of_the_request() -> None:
    def read(argument: bytes) -> bool:
        return parse_mail(argument, extended=True, readers=AMDP_MAIL_PARAMETERS).amdp

    assert read(b"FROM:<news@a.example> AMDP")
    assert read(b"FROM:<> SIZE=10 amdp BODY=8BITMIME")
    assert not read(b"FROM:<news@a.example>")


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"FROM:<news@a.example> AMDP=", 501),
        (b"FROM:<news@a.example> AMDP=1", 501),
        (b"FROM:<news@a.example> AMDP AMDP", 501),
        (b"FROM:<news@a.example> AMDPX", 555),
    ],
)
def test_what_only_looks_like_the_keyword_is_refused(argument: bytes, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        parse_mail(argument, extended=True, readers=AMDP_MAIL_PARAMETERS)
    assert caught.value.reply.code == code


def test_elsewhere_the_keyword_is_not_known() -> None:
    with pytest.raises(CommandError) as caught:
        parse_mail(b"FROM:<news@a.example> AMDP", extended=True)
    assert caught.value.reply.code == 555
    session = AmtpSession(ServerSettings("mx.example"), 0.0)
    with pytest.raises(CommandError) as caught:
        session._parse_mail(b"FROM:<news@a.example> MPC=com/optin AMDP")
    assert caught.value.reply.code == 555


def test_the_client_says_it_where_it_is_announced() -> None:
    announced = Offers(True, {"AMDP": "", "DSN": ""})
    for offers, said in ((announced, True), (Offers(True, {"DSN": ""}), False)):
        made = prepare_mail(with_token("b@b.example"), (0,), FOUND, offers, binary=False, content=None)
        assert made.amdp is said
    ordinary = prepare_mail(envelope("b@b.example"), (0,), FOUND, announced, binary=False, content=None)
    assert not ordinary.amdp


def test_on_the_wire() -> None:
    dialogue = Dialogue().opened(*ALL, "AMDP")
    sent = dialogue.send(mail("b@b.example", amdp=True))
    assert sent.split(b"\r\n")[0].endswith(b" AMDP")
    assert b" AMDP" not in Dialogue().opened(*ALL, "AMDP").send(mail("b@b.example"))
