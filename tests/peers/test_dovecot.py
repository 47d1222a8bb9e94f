"""Dovecot through the harness: LMTP in, IMAP out."""

from __future__ import annotations

import smtplib

import pytest

from tests.peers.dovecot import DovecotServer

CONTENT = b"Subject: held here\r\nFrom: ann@alpha.example\r\n\r\n.first\r\nsecond\r\n"


def test_takes_lmtp_and_shows_it_by_imap(address: str) -> None:
    with DovecotServer(address) as server:
        with smtplib.LMTP(address, server.lmtp_port) as client:
            client.sendmail("ann@alpha.example", ["bob@beta.example"], CONTENT)
        [message] = server.imap_fetch("bob")
        assert message.endswith(CONTENT)
        assert message.startswith(b"Return-Path: <ann@alpha.example>\r\n")
        assert server.imap_fetch("ann") == []


def test_takes_lmtp_on_its_socket(address: str) -> None:
    with DovecotServer(address) as server:
        with smtplib.LMTP(server.lmtp_socket) as client:
            client.sendmail("ann@alpha.example", ["bob@beta.example"], CONTENT)
        assert len(server.wait_messages("bob")) == 1


def test_answers_for_each_recipient(address: str) -> None:
    """Refusals at RCPT for the unknown, after the data for the one whose mailbox is full."""
    with DovecotServer(address, full=["eve"]) as server:
        with smtplib.LMTP(address, server.lmtp_port) as client:
            client.ehlo("alpha.example")
            client.mail("ann@alpha.example")
            codes = [client.rcpt(f"{name}@beta.example")[0] for name in ("bob", "eve", "nobody")]
            assert codes == [250, 250, 550]
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            assert [client.getreply()[0] for _ in range(2)] == [250, 552]
        assert len(server.messages("bob")) == 1
        assert server.messages("eve") == []


def test_keeps_mail_over_a_restart(address: str) -> None:
    with DovecotServer(address) as server:
        with smtplib.LMTP(address, server.lmtp_port) as client:
            client.sendmail("ann@alpha.example", ["bob@beta.example"], CONTENT)
        server.stop()
        with pytest.raises(OSError, match="refused"):
            server.imap_fetch("bob")
        server.start()
        assert len(server.imap_fetch("bob")) == 1
