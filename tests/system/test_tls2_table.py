"""What RCPT answers without TLS where TLS is wanted: the four cells of TLS-2, and who may relay (TLS-2b)."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority, TlsFiles
from tests.peers.outrider_server import OutriderServer
from tests.system.sites import Settings, site, smtp_dialogue

EHLO, MAIL = b"EHLO client.example", b"MAIL FROM:<eve@client.example>"
ELSEWHERE = "gamma.example"


def tls_demanding(address: str, authority: CertificateAuthority, **tables: object) -> Settings:
    """A site that wants TLS from everybody and lets nobody relay by address."""
    settings = site("alpha.example", address, tls=authority.issue("mx.alpha.example"), **tables)
    settings["listeners"][0]["require_tls"] = True
    settings["relay"] = tables.get("relay", {})
    return settings


def rcpt_reply(address: str, recipient: str) -> bytes:
    """What RCPT answers to a stranger in clear."""
    replies = smtp_dialogue(address, 25, EHLO, MAIL, f"RCPT TO:<{recipient}>".encode())
    return replies[-1]


@pytest.mark.covers("TLS-2")
@pytest.mark.parametrize(
    ("listed", "recipient", "wanted"),
    [
        (False, f"bob@{ELSEWHERE}", b"530 5.7.0 Must issue a STARTTLS command first"),
        (False, "ann@alpha.example", b"530 5.7.0 Must issue a STARTTLS command first"),
        (True, f"bob@{ELSEWHERE}", b"550 5.7.1 We do not accept mail for domain gamma.example"),
        (True, "ann@alpha.example", b"250 2.1.5"),
        (True, "nobody@alpha.example", b"550 5.1.1"),
    ],
    ids=["no-no", "not-listed-configured", "listed-not-configured", "yes-yes-good", "yes-yes-unknown"],
)
def test_the_four_cells(
    listed: bool, recipient: str, wanted: bytes, address: str, authority: CertificateAuthority
) -> None:
    exchanger = address if listed else loopback_address()
    records = f"@ MX 10 mx\nmx A {exchanger}"
    with BindServer({"alpha.example": records, ELSEWHERE: records}) as names:
        dns = {"servers": [f"{names.address}:{names.port}"]}
        with OutriderServer(tls_demanding(address, authority, dns=dns)) as server:
            assert rcpt_reply(address, recipient).startswith(wanted)
            if not wanted.startswith(b"250"):
                # The log says what the peer was told, in the same words.
                [event] = server.wait_event("refused")
                assert wanted.decode() in str(event["reply"])


@pytest.mark.covers("TLS-2b")
def test_a_network_with_which_tls_is_agreed_must_use_it(
    address: str, authority: CertificateAuthority
) -> None:
    settings = site("alpha.example", address, tls=authority.issue("mx.alpha.example"))
    settings["relay"] = {"require_tls_from": ["127.0.0.0/8"]}
    with OutriderServer(settings):
        assert rcpt_reply(address, "ann@alpha.example").startswith(b"530 5.7.0")
        with under_tls(address, None) as client:
            client.mail("eve@client.example")
            assert client.rcpt("ann@alpha.example")[0] == 250


@contextmanager
def under_tls(address: str, shown: TlsFiles | None) -> Iterator[smtplib.SMTP]:
    """A session under TLS, with or without a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    with smtplib.SMTP(address, 25, "client.example", timeout=30) as client:
        client.starttls(context=context)
        client.ehlo()
        yield client


def fingerprint(files: TlsFiles) -> str:
    """SHA-256 of a certificate, as in [relay] certificate_fingerprints."""
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return certificate.fingerprint(hashes.SHA256()).hex()


@pytest.mark.covers("TLS-2b")
@pytest.mark.parametrize("how", ["certificate_names", "certificate_fingerprints"])
def test_a_proven_client_certificate_may_relay(
    how: str, address: str, authority: CertificateAuthority
) -> None:
    partner, stranger = authority.issue("mx.partner.example"), authority.issue("mx.stranger.example")
    wanted = "mx.partner.example" if how == "certificate_names" else fingerprint(partner)
    relay = {how: [wanted]}
    with OutriderServer(tls_demanding(address, authority, relay=relay)):
        for shown, code in ((partner, 250), (stranger, 550), (None, 550)):
            with under_tls(address, shown) as client:
                client.mail("eve@client.example")
                assert client.rcpt(f"bob@{ELSEWHERE}")[0] == code


@pytest.mark.covers("TLS-2b", "TLS-3")
def test_a_certificate_of_an_unknown_authority_proves_no_name_and_costs_no_mail(
    address: str, authority: CertificateAuthority
) -> None:
    other = CertificateAuthority(authority.folder / "other", "Another authority")
    relay = {"certificate_names": ["mx.partner.example"]}
    with (
        OutriderServer(tls_demanding(address, authority, relay=relay)),
        under_tls(address, other.issue("mx.partner.example")) as client,
    ):
        client.mail("eve@client.example")
        assert client.rcpt(f"bob@{ELSEWHERE}")[0] == 550
        assert client.rcpt("ann@alpha.example")[0] == 250
