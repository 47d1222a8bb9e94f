"""The samples of the slides of 2003, as dialogues: their shape, with the codes of our table."""

from __future__ import annotations

import pytest
from tests.protocols.mt2.pair import NOW, Wire

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import err, ok
from outrider.protocols.mt2.events import Takes
from outrider.protocols.mt2.lines import Extension
from outrider.protocols.mt2.options import Offer


@pytest.mark.covers("MT2-11", "MT2-7", "MT2-8")
def test_option_negotiation() -> None:
    wire = Wire()
    wire.say("[1 OPT (BAZ=FOO;BAR)]")
    assert wire.heard == ["[1 ERR 99.0.5.0 (BAZ ERR 99.0.5.9)]"]


@pytest.mark.covers("MT2-14", "MT2-15")
def test_data_transfer_refused_after_the_envelope() -> None:
    wire = Wire()
    wire.say("[2 XFER m23@test.com message/envelope {3279} {0}]")
    wire.peer.grant(2, NOW)
    assert wire.heard == ["[2 TMP 99.0.3.5]"]
    wire.data(2, b"x" * 3279)
    wire.peer.answer(2, err(codes.INVALID_SENDER_CERTIFICATE), NOW)
    assert wire.heard == ["[2 ERR 99.0.5.23]"]


@pytest.mark.covers("MT2-10a", "MT2-11")
def test_session_set_up() -> None:
    offered = Offer(others=(Extension("BAR", ("FOO",)),))
    wire = Wire(takes=Takes.IDENTIFIED)
    wire.say("[1 HELO {4928}]")
    assert wire.heard == ["[1 TMP 99.0.3.2]"]
    wire.data(1, b"c" * 4928)
    wire.peer.welcome(1, offered, NOW, text="Greetings friend.")
    assert b"Greetings friend.]\r\n" in (answer := wire.peer.bytes_to_send())
    assert answer.startswith(b"[1 OK 99.0.2.1 ")
    wire.say("[2 OPT (BAR=FOO)]")
    wire.peer.answer_options(2, [Extension("BAR", result=ok("121.0.2.1"))], NOW)
    assert wire.heard == ["[2 OK 99.0.2.2 (BAR OK 121.0.2.1)]"]


@pytest.mark.covers("MT2-12")
def test_abort() -> None:
    wire = Wire()
    wire.accept_envelope(1, [("message/body", 59203)])
    wire.say("[3 XFER m1 message/body {59203} {0}]")
    wire.peer.grant(3, NOW)
    wire.data(3, b"b" * 200)
    assert wire.heard == ["[1 TMP 99.0.3.5]", "[1 OK 99.0.2.3]", "[3 TMP 99.0.3.8]"]
    wire.say("[4 ABOR=3]")
    assert wire.heard == ["[4 OK 99.0.2.8]", "[3 ERR 99.0.5.48]"]


@pytest.mark.covers("MT2-10a")
def test_the_slides_greeting_is_understood() -> None:
    wire = Wire(is_server=False)  # greeted with (VER=1.0) ... Hi there.
    assert wire.peer.can_transfer
