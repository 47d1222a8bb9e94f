"""The SMTP and LMTP drivers against every real server that there is, on both event loops."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.net.client_jobs import HELLO, dialler, file_content, hop, job
from tests.net.tls_peers import LOOPS, run_on
from tests.peers.certificates import CertificateAuthority
from tests.peers.dovecot import DovecotServer
from tests.peers.exim import EximServer
from tests.peers.mailserver import MailServer
from tests.peers.opensmtpd import OpenSmtpdServer
from tests.peers.postfix import PostfixServer
from tests.peers.sendmail import SendmailServer

from outrider.model.result import Kind

SMALL = b".\r\n..\r\n.x\r\nend\r\n"
LARGE = b"".join(b".%d dotted\r\n" % number for number in range(40_000))
NAME = "mx.peer.example"


def body_of(message: bytes) -> bytes:
    return message.partition(b"\n\n")[2]


@pytest.mark.covers("SMTP-1", "SMTP-3", "SEC-27")
@pytest.mark.parametrize("loop", list(LOOPS))
@pytest.mark.parametrize("kind", [PostfixServer, EximServer, OpenSmtpdServer, SendmailServer])
def test_messages_arrive_as_they_were(
    kind: type[MailServer], loop: str, address: str, tmp_path: Path, authority: CertificateAuthority
) -> None:
    # OpenSMTPD cannot be a TLS server here; see its module.
    files = None if kind is OpenSmtpdServer else authority.issue(NAME)

    async def carry() -> None:
        level = "opportunistic" if files is None else "verify"
        where = hop(address, level=level)
        connection = await dialler(authority.authority).connect(where, ip_address(address))
        people = ("ann@peer.example", "nobody@peer.example")
        for content in (HELLO + SMALL, file_content(HELLO + LARGE, tmp_path / "body")):
            results = await connection.send(job(content, *people))
            assert results[0].kind in (Kind.DELIVERED, Kind.RELAYED)
            assert (results[1].kind, results[1].status[0]) == (Kind.FAILED, "5")
            assert ("verified" in results[0].tls) is (files is not None)
            assert connection.usable
        await connection.close()

    with kind(address, tls=files) as server:
        run_on(loop, carry())
        bodies = sorted(map(body_of, server.wait_messages("ann", 2)), key=len)
    assert bodies == [SMALL.replace(b"\r\n", b"\n"), LARGE.replace(b"\r\n", b"\n")]


@pytest.mark.covers("SMTP-8")
async def test_dovecot_by_lmtp(address: str) -> None:
    with DovecotServer(address, full=("cem",)) as dovecot:
        people = ("ann@peer.example", "cem@peer.example", "nobody@peer.example")
        for where in (hop(address, 24, "lmtp"), hop(str(dovecot.lmtp_socket), protocol="lmtp")):
            connection = await dialler().connect(where, where.addresses[0])
            results = await connection.send(job(HELLO + SMALL, *people))
            assert [results[n].kind for n in range(3)] == [Kind.DELIVERED, Kind.FAILED, Kind.FAILED]
            assert [results[n].status for n in (1, 2)] == ["5.2.2", "5.1.1"]
            assert connection.usable
            await connection.close()
        got = await asyncio.to_thread(dovecot.messages, "ann")
        assert len(got) == 2
        assert body_of(got[0].replace(b"\r\n", b"\n")) == SMALL.replace(b"\r\n", b"\n")
