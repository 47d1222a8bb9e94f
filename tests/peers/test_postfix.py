"""Postfix through the harness: delivery, refusal, TLS with verification, AUTH, queue."""

from __future__ import annotations

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.postfix import PostfixServer
from tests.peers.tools import Swaks, smtp_source

CONTENT = b"Subject: greetings\r\nFrom: ann@alpha.example\r\n\r\n.a line with a dot\r\n"


def test_delivers_what_a_client_sends(address: str, swaks_client: Swaks) -> None:
    with PostfixServer(address, local_domains=["beta.example"]) as server:
        result = swaks_client.send(address, 25, recipients=["ann@beta.example"], content=CONTENT)
        assert result.accepted
        [message] = server.wait_messages("ann")
        assert message.endswith(CONTENT.replace(b"\r\n", b"\n"))


def test_refuses_an_unknown_user(address: str, swaks_client: Swaks) -> None:
    with PostfixServer(address, local_domains=["beta.example"]):
        result = swaks_client.send(address, 25, recipients=["nobody@beta.example"])
        assert not result.accepted
        assert any(reply.startswith("550 5.1.1") for reply in result.replies())


def test_sends_with_verified_tls_and_scram(authority: CertificateAuthority) -> None:
    with PostfixServer(
        loopback_address(),
        hostname="mx.beta.example",
        local_domains=["beta.example"],
        tls=authority.issue("mx.beta.example"),
        require_tls=True,
        accounts={"alpha": "a secret"},
    ) as beta:
        with PostfixServer(
            loopback_address(),
            hostname="mx.alpha.example",
            local_domains=["alpha.example"],
            relay_to={"beta.example": (beta.address, beta.port)},
            relay_to_tls_name={"beta.example": "mx.beta.example"},
            client_tls="verify",
            tls=authority.issue("mx.alpha.example"),
            credentials=("alpha@mx.beta.example", "a secret"),
        ) as alpha:
            alpha.send("ann@alpha.example", ["bob@beta.example"], CONTENT)
            [message] = beta.wait_messages("bob")
            alpha.wait_queue_empty()
        assert "sasl_method=SCRAM-SHA-256" in beta.log()
    assert b"verified OK" in message


def test_keeps_in_queue_what_the_next_hop_may_not_see(authority: CertificateAuthority) -> None:
    """A next hop whose certificate bears another name does not pass `client_tls="verify"`."""
    with (
        PostfixServer(
            loopback_address(), local_domains=["beta.example"], tls=authority.issue("other.example")
        ) as beta,
        PostfixServer(
            loopback_address(),
            local_domains=["alpha.example"],
            relay_to={"beta.example": (beta.address, beta.port)},
            relay_to_tls_name={"beta.example": "mx.beta.example"},
            client_tls="verify",
            tls=authority.issue("mx.alpha.example"),
        ) as alpha,
    ):
        alpha.send("ann@alpha.example", ["bob@beta.example"], CONTENT)
        alpha.wait_log("status=deferred")
        [queued] = alpha.queue()
        assert queued.sender == "ann@alpha.example"
        assert queued.recipients == ("bob@beta.example",)
        assert "certificate not verified" in queued.reason.lower()


def test_survives_stop_and_start_with_its_queue(address: str) -> None:
    nobody_there = loopback_address()
    with PostfixServer(
        address, local_domains=["alpha.example"], relay_to={"beta.example": (nobody_there, 25)}
    ) as alpha:
        alpha.send("ann@alpha.example", ["bob@beta.example"], CONTENT)
        alpha.wait_log("status=deferred")
        alpha.stop()
        alpha.start()
        assert len(alpha.queue()) == 1
        with PostfixServer(nobody_there, local_domains=["beta.example"]) as beta:
            alpha.flush()
            beta.wait_messages("bob")


def test_takes_a_load(address: str) -> None:
    with PostfixServer(address) as server:
        result = smtp_source(address, 25, messages=50, sessions=5, recipient="ann@peer.example")
        assert result.status == 0
        assert len(server.wait_messages("ann", 50)) == 50
