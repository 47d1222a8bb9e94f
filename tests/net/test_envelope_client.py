"""Envelopes of AMDP over SMTP: with the keyword where it is announced, else with a link (AMDP-5a)."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest
from tests.net.client_jobs import HELLO, dialler, hop, job, script, serving
from tests.peers.postfix import PostfixServer
from tests.reception.envelope_rig import held, octets

from outrider.model.address import parse_address
from outrider.model.result import Kind
from outrider.protocols.amdp.envelope import fields_digest, retrieval_link

pytestmark = pytest.mark.covers("AMDP-5a")
TOKEN = "t" * 26
ENVELOPE = held(recipient=parse_address("ann@peer.example"))
LINK = retrieval_link(ENVELOPE).encode()
EHLO = b"250-mx\r\n250-AMDP\r\n250 8BITMIME\r\n"


async def send(address: str, ehlo: bytes, *, token: str = TOKEN, content: bytes = b"") -> bytes:
    """What a server hears that says so."""
    answers = ("220 hi", ehlo, "250 ok", "250 ok", b"354 go\r\n", "250 kept", "221 bye")
    async with serving(address, script(*answers)) as server:
        connection = await dialler().connect(hop(address, 2525, level="none"), ip_address(address))
        (result,) = (await connection.send(job(content or octets(ENVELOPE), link_token=token))).values()
        await connection.close()
        assert result.kind is Kind.RELAYED, result
        return bytes(server.heard)


async def test_a_server_that_announces_it_gets_the_keyword_and_no_token(address: str) -> None:
    heard = await send(address, EHLO)
    command = heard.split(b"\r\n")[1]
    assert command.startswith(b"MAIL FROM:<ann@a.example>")
    assert command.endswith(b" AMDP")
    assert TOKEN.encode() not in heard
    assert b"\r\n" + LINK + b"\r\n" in heard


async def test_any_other_server_gets_the_link_that_opens(address: str) -> None:
    heard = await send(address, b"250-mx\r\n250 8BITMIME\r\n")
    assert b" AMDP\r\n" not in heard
    assert b"\r\n" + LINK + b"/" + TOKEN.encode() + b"\r\n" in heard


async def test_ordinary_mail_never_has_the_keyword(address: str) -> None:
    heard = await send(address, EHLO, token="", content=HELLO + b"hi\r\n")
    assert heard.split(b"\r\n")[1] == b"MAIL FROM:<ann@a.example>"


async def test_postfix_hands_its_user_a_link(address: str) -> None:
    """The fields are as they were, so that a call-back by a server behind it would still come out."""
    with PostfixServer(address) as postfix:
        connection = await dialler().connect(hop(address, level="none"), ip_address(address))
        (result,) = (await connection.send(job(octets(ENVELOPE), link_token=TOKEN))).values()
        await connection.close()
        assert result.kind is Kind.DELIVERED, result
        (got,) = await asyncio.to_thread(postfix.wait_messages, "ann")
    headers, _, text = got.replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    assert LINK + b"/" + TOKEN.encode() in text
    sent = octets(ENVELOPE).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert fields_digest(headers[headers.index(b"From: ") :] + b"\r\n\r\n") == fields_digest(sent)
