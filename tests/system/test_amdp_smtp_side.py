"""Envelopes at the doors of a server: where they are announced, and AMDP-7's rule over two workers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from outrider.model.address import parse_address
from tests.peers.outrider_server import OutriderServer
from tests.reception.envelope_rig import held, octets
from tests.system.sites import mailbox, site, smtp_dialogue

EHLO, MAIL = b"EHLO mhf-1.b.example", b"MAIL FROM:<news@b.example> AMDP"


def envelopes(count: int) -> list[bytes]:
    """So many different ones, made now."""
    now = int(time.time())
    usual = held(
        recipient=parse_address("ann@alpha.example"), date=now - 9, timestamp=now - 5, expires=now + 9999
    )
    names = [f"{number:04d}".translate(_LETTERS) + "a" * 22 for number in range(count)]
    return [octets(replace(usual, id=name)) for name in names]


_LETTERS = str.maketrans("0123456789", "abcdefghij")


def send(address: str, content: bytes) -> bytes:
    """The last reply that is not to QUIT."""
    lines = (EHLO, MAIL, b"RCPT TO:<ann@alpha.example>", b"DATA", content + b".")
    return smtp_dialogue(address, 25, *lines)[-1]


@pytest.mark.covers("AMDP-5a", "AMDP-7")
def test_two_workers_take_one_envelope_of_a_stranger_and_submission_none(address: str) -> None:
    # Nobody answers at port 9: the first envelope's holder cannot be looked up, and it stays under way.
    silent = {"servers": [f"{address}:9"]}
    settings = site(
        "alpha.example", address, workers=2, relay={"networks": []}, amdp={"roles": ["img"]}, dns=silent
    )
    settings["listeners"].append({"protocol": "lmtp", "address": address, "port": 24})
    with OutriderServer(settings) as server:
        greeting = smtp_dialogue(address, 25, EHLO)[-1].split(b"\r\n")
        assert b"250-AMDP" in greeting
        lhlo, refused = smtp_dialogue(address, 24, b"LHLO c.example", MAIL)[-2:]
        assert b"AMDP" not in lhlo
        assert refused.startswith(b"555 ")
        with ThreadPoolExecutor(8) as clients:
            replies = list(clients.map(lambda content: send(address, content), envelopes(12)))
        assert sorted(reply[:3] for reply in replies) == [b"250"] + [b"450"] * 11, replies
        assert not mailbox(server, "ann"), "nobody has proven it"


@pytest.mark.covers("AMDP-5a")
def test_without_the_role_the_keyword_is_not_known(address: str) -> None:
    with OutriderServer(site("alpha.example", address)):
        hello, refused = smtp_dialogue(address, 25, EHLO, MAIL)[-2:]
        assert b"AMDP" not in hello
        assert refused.startswith(b"555 5.5.4 ")


@pytest.mark.covers("AMDP-5b")
def test_a_hundred_percent_amdp(address: str) -> None:
    amdp = {"roles": ["img"], "policy": {"amdp_share": 100}}
    with OutriderServer(site("alpha.example", address, relay={"networks": []}, amdp=amdp)):
        lines = (EHLO, b"MAIL FROM:<eve@c.example>", b"RCPT TO:<ann@alpha.example>")
        assert smtp_dialogue(address, 25, *lines)[-1].startswith(b"550 5.7.1 ")
        assert send(address, envelopes(1)[0]).startswith(b"250 ")
