"""swaks, smtp-source and smtp-sink through the harness."""

from __future__ import annotations

from tests.peers.certificates import CertificateAuthority
from tests.peers.postfix import PostfixServer
from tests.peers.tools import SmtpSink, Swaks, smtp_source


def test_sink_keeps_each_transaction(address: str) -> None:
    with SmtpSink(address) as sink:
        result = smtp_source(
            address, 25, messages=3, sender="one@alpha.example", recipient="two@beta.example"
        )
        assert result.status == 0
        kept = sink.transactions()
    assert len(kept) == 3
    assert all(b"X-Mail-Args: <one@alpha.example>" in transaction for transaction in kept)


def test_sink_refuses_as_told(address: str) -> None:
    with SmtpSink(address, 25, "-f", "RCPT") as sink:
        assert smtp_source(address, 25).status != 0
        assert sink.transactions() == []


def test_swaks_speaks_tls_and_reports_the_dialogue(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with PostfixServer(address, hostname="mx.beta.example", tls=authority.issue("mx.beta.example")):
        result = swaks_client.send(address, 25, "--tls")
    assert result.accepted
    assert "STARTTLS" in result.sent()
    assert result.sent().count("EHLO client.example") == 2
    assert "TLS started" in result.transcript
