"""The TLS policy of a way, met and unmet; what a failed handshake costs (nothing), smart hosts."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority, TlsFiles
from tests.peers.mailserver import MailServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.tools import SmtpSink, Swaks
from tests.system.sites import CONTENT, Settings, queue_id, queued, site

Route = dict[str, Any]


def alpha(address: str, beta: MailServer | SmtpSink, route: Mapping[str, Any], **tables: Any) -> Settings:
    """Our site, with a way to the peer's domain."""
    way = {"to": f"smtp:[{beta.address}]:{beta.port}", **route}
    return site("alpha.example", address, routes={"beta.example": way}, **tables)


def send(swaks_client: Swaks, address: str, recipient: str = "bob@beta.example") -> str:
    """Hand a message to our site; its id."""
    result = swaks_client.send(
        address, 25, sender="ann@alpha.example", recipients=[recipient], content=CONTENT
    )
    assert result.accepted, result.transcript
    return queue_id(result)


def fingerprints(files: TlsFiles) -> list[str]:
    """SHA-256 of the certificate, as an operator gets it from openssl."""
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return [certificate.fingerprint(hashes.SHA256()).hex(":").upper()]


@pytest.mark.covers("TLS-4a", "TLS-6")
@pytest.mark.parametrize(
    ("level", "session"),
    [
        ("none", ""),
        ("opportunistic", "TLSv1.3"),
        ("encrypt", "TLSv1.3"),
        ("verify", "verified mx.beta.example"),
        ("fingerprint", "TLSv1.3"),
        ("mutual", "verified mx.beta.example"),
    ],
)
def test_a_policy_that_is_met(
    level: str, session: str, address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    files = authority.issue("mx.beta.example")
    with PostfixServer(
        loopback_address(), local_domains=["beta.example"], tls=files, main_cf={"smtpd_tls_req_ccert": "no"}
    ) as beta:
        route: Route = {"tls": level}
        if level in ("verify", "mutual"):
            route["tls_name"] = "mx.beta.example"
        if level == "fingerprint":
            route["fingerprints"] = fingerprints(files)
        ours = authority.issue("mx.alpha.example")
        with OutriderServer(alpha(address, beta, route, tls=ours)) as server:
            message = send(swaks_client, address)
            [event] = server.wait_event("delivered", id=message)
        if level == "mutual":
            beta.wait_log("Trusted TLS connection established from")
    assert session in str(event.get("tls", ""))
    assert bool(session) == bool(event.get("tls"))


UNMET = [
    ({"tls": "encrypt"}, False, "does not offer it"),
    ({"tls": "verify", "tls_name": "mx.beta.example"}, False, "does not offer it"),
    ({"tls": "verify", "tls_name": "mx.gamma.example"}, True, "mx.gamma.example"),
    ({"tls": "fingerprint", "fingerprints": ["00" * 32]}, True, "fingerprint"),
    ({"tls": "mutual", "tls_name": "mx.gamma.example"}, True, "mx.gamma.example"),
]


@pytest.mark.covers("TLS-4a", "ITP-5", "SEC-47")
@pytest.mark.parametrize(
    ("route", "offers_tls", "word"),
    UNMET,
    ids=["encrypt-no-tls", "verify-no-tls", "verify-other-name", "fingerprint-other", "mutual-other-name"],
)
def test_a_policy_that_is_not_met_defers_and_says_why(
    route: Route,
    offers_tls: bool,
    word: str,
    address: str,
    authority: CertificateAuthority,
    swaks_client: Swaks,
) -> None:
    files = authority.issue("mx.beta.example") if offers_tls else None
    with PostfixServer(loopback_address(), local_domains=["beta.example"], tls=files) as beta:
        settings = alpha(address, beta, route, tls=authority.issue("mx.alpha.example"))
        with OutriderServer(settings) as server:
            message = send(swaks_client, address)
            [event, *_] = server.wait_event("deferred", id=message)
            [row] = queued(server)
            explained = server.cli("explain", message).stdout.decode()
            shown = server.cli("queue", "show", message).stdout.decode()
        assert beta.messages("bob") == []
    reason = str(event["text"])
    assert word in reason
    assert row["id"] == message
    # One sentence everywhere: log, list, show, explain.
    assert str(row["reason"]).partition(" ")[2] in reason
    assert reason in explained
    assert str(row["reason"]) in shown


@pytest.mark.covers("TLS-4a", "ITP-5", "SEC-51")
@pytest.mark.parametrize("fault", ["expired", "unknown authority"])
def test_a_certificate_that_proves_nothing_defers(
    fault: str, address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    other = CertificateAuthority(authority.folder / "other", "Another authority")
    issuer = authority if fault == "expired" else other
    until = datetime.timedelta(days=-1 if fault == "expired" else 30)
    shown = issuer.issue("mx.beta.example", valid_until=until)
    with PostfixServer(loopback_address(), local_domains=["beta.example"], tls=shown) as beta:
        route = {"tls": "verify", "tls_name": "mx.beta.example"}
        settings = alpha(address, beta, route, tls=authority.issue("mx.alpha.example"))
        with OutriderServer(settings) as server:
            [event, *_] = server.wait_event("deferred", id=send(swaks_client, address))
        assert beta.messages("bob") == []
    assert "not proven to be mx.beta.example" in str(event["text"])
    reason = "expired" if fault == "expired" else "no path to a configured CA"
    assert reason in str(event["text"])


@pytest.mark.covers("TLS-4a", "TLS-6")
def test_an_authority_for_a_closed_group_proves_its_members(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    group = CertificateAuthority(authority.folder / "group", "Group authority")
    with PostfixServer(
        loopback_address(), local_domains=["beta.example"], tls=group.issue("mx.beta.example")
    ) as beta:
        route = {"tls": "verify", "tls_name": "mx.beta.example"}
        settings = alpha(address, beta, route, tls=authority.issue("mx.alpha.example"))
        settings["tls"]["private_ca"] = [str(group.authority)]
        with OutriderServer(settings) as server:
            [event] = server.wait_event("delivered", id=send(swaks_client, address))
    assert "verified mx.beta.example (private CA)" in str(event["tls"])


@pytest.mark.covers("TLS-3", "TLS-6")
def test_after_a_failed_handshake_opportunistic_goes_on_in_clear(address: str, swaks_client: Swaks) -> None:
    # A Postfix whose certificate has no key that fits: it offers STARTTLS and then fails.
    with (
        PostfixServer(
            loopback_address(),
            local_domains=["beta.example"],
            main_cf={
                "smtpd_tls_security_level": "may",
                "smtpd_tls_mandatory_protocols": "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1",
                "smtpd_tls_cert_file": "none",
                "smtpd_tls_protocols": "TLSv1",
            },
        ) as beta,
        OutriderServer(alpha(address, beta, {})) as server,
    ):
        message = send(swaks_client, address)
        beta.wait_messages("bob")
        [event] = server.wait_event("delivered", id=message)
        [failure] = server.wait_event("tls_failed")
    assert not event.get("tls")
    assert beta.address in str(failure["remote"])


@pytest.mark.covers("TLS-5")
def test_tls_that_was_there_once_and_is_gone_is_told_not_bounced(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    place = loopback_address()
    settings = site("alpha.example", address, routes={"beta.example": f"smtp:[{place}]:25"})
    settings["delivery"]["idle_reuse"] = 0
    with OutriderServer(settings) as server:
        with PostfixServer(place, local_domains=["beta.example"], tls=authority.issue("mx.beta.example")):
            [event] = server.wait_event("delivered", id=send(swaks_client, address))
            assert "TLSv1.3" in str(event["tls"])
        with PostfixServer(place, local_domains=["beta.example"]):
            [event] = server.wait_event("delivered", id=send(swaks_client, address))
            assert not event.get("tls")
        server.wait_event("starttls_vanished")


@pytest.mark.covers("SMTP-2b", "SMTP-7", "SEC-211")
@pytest.mark.parametrize("good", [True, False])
def test_a_smart_host_with_a_password(
    good: bool, address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with PostfixServer(
        loopback_address(),
        hostname="mx.smart.example",
        local_domains=["beta.example"],
        tls=authority.issue("mx.smart.example"),
        accounts={"alpha": "smart secret"},
        main_cf={"mynetworks": "192.0.2.1/32"},
    ) as smart:
        way = {
            "to": f"smtp:[{smart.address}]:25",
            "tls": "verify",
            "tls_name": "mx.smart.example",
            "username": "alpha@mx.smart.example",
            "password_file": "{dir}/password",
        }
        settings = site("alpha.example", address, routes={"*": way}, tls=authority.issue("mx.alpha.example"))
        with _WithPassword(settings, "smart secret" if good else "wrong secret") as server:
            message = send(swaks_client, address)
            [event, *_] = server.wait_event("delivered" if good else "deferred", id=message)
            log = server.log()
        assert len(smart.messages("bob")) == int(good)
    assert "smart secret" not in log
    assert "wrong secret" not in log
    if not good:
        assert "authentication" in str(event["text"]).lower()


class _WithPassword(OutriderServer):
    """A server with a password file for its smart host."""

    def __init__(self, settings: Settings, password: str) -> None:
        super().__init__(settings)
        self._password = password

    def start(self) -> None:
        path = self.folder / "password"
        path.write_text(f"{self._password}\n")
        path.chmod(0o600)
        super().start()


@pytest.mark.covers("TLS-4a", "SMTP-7")
def test_a_smart_host_that_knows_our_certificate(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    ours = authority.issue("mx.alpha.example")
    with PostfixServer(
        loopback_address(),
        hostname="mx.smart.example",
        local_domains=["beta.example"],
        tls=authority.issue("mx.smart.example"),
        require_tls=True,
        # Only a client with a certificate of our authority is taken at all.
        main_cf={"mynetworks": "192.0.2.1/32", "smtpd_tls_req_ccert": "yes"},
    ) as smart:
        way = {"to": f"smtp:[{smart.address}]:25", "tls": "mutual", "tls_name": "mx.smart.example"}
        with OutriderServer(site("alpha.example", address, routes={"*": way}, tls=ours)) as server:
            message = send(swaks_client, address)
            server.wait_event("delivered", id=message)
        smart.wait_messages("bob")
        smart.wait_log("Trusted TLS connection established from")
