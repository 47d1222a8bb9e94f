"""A message written by swaks crosses two Outrider sites under TLS and lands in a Maildir."""

from __future__ import annotations

import base64
import re

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks
from tests.system.sites import CONTENT, body_of, headers_of, queue_id, site, wait_mailbox

BINARY = bytes(range(256)) * 300


@pytest.mark.covers("SMTP-7", "TLS-4a", "SMTP-4")
def test_by_dns_under_verified_tls(authority: CertificateAuthority, swaks_client: Swaks) -> None:
    alpha_address, beta_address = loopback_address(), loopback_address()
    records = f"@ MX 10 mx\nmx A {beta_address}"
    with BindServer({"beta.example": records}) as names:
        dns = {"servers": [f"{names.address}:{names.port}"]}
        beta_settings = site("beta.example", beta_address, tls=authority.issue("mx.beta.example"), dns=dns)
        alpha_settings = site(
            "alpha.example",
            alpha_address,
            tls=authority.issue("mx.alpha.example"),
            dns=dns,
            delivery={"tls": "verify"},
        )
        with OutriderServer(beta_settings) as beta, OutriderServer(alpha_settings) as alpha:
            result = swaks_client.send(
                alpha_address,
                25,
                "--tls",
                sender="ann@alpha.example",
                recipients=["bob@beta.example"],
                content=CONTENT,
            )
            assert result.accepted, result.transcript
            [message] = wait_mailbox(beta, "bob")
            [event] = alpha.wait_event("delivered", id=queue_id(result))
            assert "verified mx.beta.example" in str(event["tls"])
    assert body_of(message) == body_of(CONTENT)
    # One Received field each, the last host's on top, both over TLS.
    trace = re.findall(
        rb"^Received: .*?\n\tby (\S+) .*? with (\S+) id (\S+)", headers_of(message), re.MULTILINE | re.DOTALL
    )
    assert [(host, protocol) for host, protocol, _ in trace] == [
        (b"mx.beta.example", b"ESMTPS"),
        (b"mx.alpha.example", b"ESMTPS"),
    ]
    assert trace[1][2].decode() == queue_id(result)


@pytest.mark.covers("SMTP-1", "SMTP-2a", "SMTP-3")
def test_an_attachment_arrives_octet_for_octet(authority: CertificateAuthority, swaks_client: Swaks) -> None:
    encoded = base64.encodebytes(BINARY).replace(b"\n", b"\r\n")
    content = (
        b"From: ann@alpha.example\r\nTo: bob@beta.example\r\nSubject: picture\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
    )
    beta_address, alpha_address = loopback_address(), loopback_address()
    with (
        OutriderServer(site("beta.example", beta_address, tls=authority.issue("mx.beta.example"))) as beta,
        OutriderServer(
            site(
                "alpha.example",
                alpha_address,
                tls=authority.issue("mx.alpha.example"),
                routes={"beta.example": f"smtp:[{beta_address}]:25"},
            )
        ),
    ):
        result = swaks_client.send(alpha_address, 25, recipients=["bob@beta.example"], content=content)
        assert result.accepted, result.transcript
        [message] = wait_mailbox(beta, "bob")
    assert base64.decodebytes(body_of(message)) == BINARY
