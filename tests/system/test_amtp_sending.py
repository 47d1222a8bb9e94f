"""Sending by AMTP from one running server to another: found by SRV, both proven, and never silently
otherwise."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER, OutriderServer
from tests.peers.rooms import wait_until
from tests.peers.tools import SmtpSink, Swaks
from tests.system.amtp_sites import AMTP_PORT, amtp_pair, amtp_zone, hand_over, reverse_zone
from tests.system.sites import CONTENT, body_of, headers_of, json_rows, queued, wait_mailbox


def command(*words: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run `outrider` without a configuration."""
    return subprocess.run([str(OUTRIDER), *words], input=stdin, capture_output=True, timeout=60, check=False)


def row_of(server: OutriderServer, number: str) -> dict[str, object]:
    [row] = [row for row in queued(server) if row["id"] == number]
    return row


def wait_deferred(server: OutriderServer, number: str) -> str:
    """The reason for which a message waits."""
    [event, *_] = server.wait_event("deferred", id=number)
    return str(event["text"])


@pytest.mark.covers("AMTP-7", "AMTP-5", "AMTP-14")
def test_mail_goes_by_amtp_to_the_servers_that_srv_names(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with amtp_pair(address, loopback_address(), authority) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        [event] = alpha.wait_event("delivered", id=number)
        assert event["protocol"] == "amtp"
        assert "verified beta.example (dNSName of the recipient domain" in str(event["tls"])
        [message] = wait_mailbox(beta, "bob")
        assert not alpha.log_events("fallback")
    assert body_of(message) == body_of(CONTENT)
    headers = headers_of(message)
    assert re.findall(rb"(?im)^MPC:.*$", headers) == [b"MPC: com/individual"]
    assert re.search(rb"\n\tby mx\.beta\.example .*with AMTP ", headers, re.DOTALL)


@pytest.mark.covers("AMTP-7", "AMTP-11")
def test_mail_without_a_code_goes_by_smtp_as_ever(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    without: dict[str, dict[str, str]] = {"alpha": {"code": ""}, "beta": {"code": ""}}
    with amtp_pair(address, loopback_address(), authority, **without) as (alpha, beta, _):
        [event] = alpha.wait_event("delivered", id=hand_over(swaks_client, address))
        assert event["protocol"] == "smtp"
        [message] = wait_mailbox(beta, "bob")
    assert b"\nMPC:" not in headers_of(message)


@pytest.mark.covers("AMTP-8", "ITP-7", "ITP-5")
def test_servers_out_of_reach_lead_to_smtp_with_an_event_a_count_and_a_line_in_the_trail(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far = loopback_address()
    nowhere = loopback_address()
    zone = f"@ MX 10 mx\nmx A {far}\n_amtp._tcp SRV 10 1 {AMTP_PORT} gone\ngone A {nowhere}"
    with amtp_pair(address, far, authority, zones={"beta.example": zone}) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        [event] = alpha.wait_event("delivered", id=number)
        assert event["protocol"] == "smtp"
        [fallback] = alpha.wait_event("fallback", id=number, first="amtp", used="smtp")
        assert fallback["why"] == "unreachable"
        [message] = wait_mailbox(beta, "bob")
        assert b"\nMPC: com/individual" in headers_of(message)
        [row] = json_rows(alpha, "explain", number)
        assert any("smtp is used instead of amtp" in entry["text"] for entry in row["events"]), row


@pytest.mark.covers("ITP-7", "AMTP-8")
def test_mail_for_a_partner_that_demands_amtp_waits_and_never_goes_by_smtp(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far, nowhere = loopback_address(), loopback_address()
    zone = f"@ MX 10 mx\nmx A {far}\n_amtp._tcp SRV 10 1 {AMTP_PORT} gone\ngone A {nowhere}"
    partner = {
        "partners": {
            "beta": {
                "sender_domains": ["beta.example"],
                "hosts": ["gone.beta.example"],
                "outbound": "amtp",
            }
        }
    }
    with amtp_pair(address, far, authority, zones={"beta.example": zone}, alpha=partner) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        assert "amtp" in wait_deferred(alpha, number)
        alpha.wait_event("deferred", count=3, id=number)
        assert not alpha.log_events("fallback")
        assert not beta.log_events("received")


@pytest.mark.covers("AMTP-8", "AMTP-3", "ITP-7")
def test_a_server_that_does_not_believe_us_makes_mail_wait_and_the_operator_hear_of_it(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    without_ptr = {"127.in-addr.arpa": "1.1.1 PTR nobody.example."}
    with amtp_pair(address, loopback_address(), authority, zones=without_ptr) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        [alert] = alpha.wait_event("amtp_not_believed")[:1]
        assert alert["level"] == "error"
        assert "outrider cert check --own" in str(alert["remedy"])
        reason = wait_deferred(alpha, number)
        assert "504" in reason
        assert "Authentication failed" in reason
        assert not alpha.log_events("fallback")
        assert not beta.log_events("received")


@pytest.mark.covers("AMTP-12", "AMTP-13", "AMTP-20")
def test_a_denied_code_comes_back_with_the_policy_named_as_an_autoresponse(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    rules = [{"name": "no-shops", "action": "refuse", "when": {"mpc": "com/*"}, "reason": "no shops"}]
    far = {"policy": {"rules": rules}}
    with amtp_pair(address, loopback_address(), authority, beta=far) as (alpha, beta, _):
        [event] = alpha.wait_event("failed", id=hand_over(swaks_client, address))
        assert event["protocol"] == "amtp"
        assert "DENY=com/*" in str(event["text"])
        [bounce] = wait_mailbox(alpha, "ann")
        assert not alpha.log_events("fallback")
        assert not beta.log_events("received")
    assert b"DENY=com/*" in bounce
    assert b"\nMPC: net/autoresponse" in headers_of(bounce)


@pytest.mark.covers("AMTP-5", "ITP-7")
def test_a_forged_srv_gains_no_mail_where_the_server_must_prove_itself(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    """The forger's host has a certificate by a CA that everybody believes - for the forger's own name."""
    forger, far = loopback_address(), loopback_address()
    zones = {
        "beta.example": f"@ MX 10 mx\nmx A {far}\n_amtp._tcp SRV 10 1 {AMTP_PORT} mx.gamma.example.",
        "gamma.example": amtp_zone(forger),
    }
    strict = {"routes": {"beta.example": {"to": "mx", "protocols": ["amtp"]}}}
    with amtp_pair(
        address,
        forger,
        authority,
        zones=zones,
        alpha=strict,
        beta={"certificate": ("mx.gamma.example", "gamma.example")},
    ) as (alpha, forged, _):
        number = hand_over(swaks_client, address)
        reason = wait_deferred(alpha, number)
        assert "unsigned SRV record" in reason
        assert not forged.log_events("received")


@pytest.mark.covers("AMTP-7", "SEC-163")
def test_dns_that_fails_is_not_taken_for_absence_after_a_restart(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    with amtp_pair(address, loopback_address(), authority) as (alpha, _, names):
        alpha.wait_event("delivered", id=hand_over(swaks_client, address))
        seen = alpha.folder / "data" / "amtp-seen"
        wait_until(seen.exists, "amtp-seen to be written")
        alpha.stop()
        names.stop()
        alpha.start()
        reason = wait_deferred(alpha, hand_over(swaks_client, address))
        assert "beta.example speaks amtp" in reason
        assert "not long ago" in reason


@pytest.mark.covers("AMTP-19", "AMTP-6", "AMTP-18")
def test_a_named_host_is_reached_at_its_own_port_without_srv(
    address: str,
    authority: CertificateAuthority,
    swaks_client: Swaks,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    far = loopback_address()
    closed = CertificateAuthority(tmp_path_factory.mktemp("closed"), "Closed group")
    ours = closed.issue("mx.alpha.example")
    private = {
        "tls": {"private_ca": [str(closed.authority)]},
        "amtp": {"private_auth": "none"},
    }
    route = {
        "to": f"amtp:mx.beta.example:{AMTP_PORT}",
        "certificate": str(ours.certificate),
        "key": str(ours.key),
    }
    zone = {"beta.example": f"mx A {far}"}
    with amtp_pair(
        address, far, authority, zones=zone, alpha={"routes": {"beta.example": route}}, beta=private
    ) as (alpha, beta, _):
        [event] = alpha.wait_event("delivered", id=hand_over(swaks_client, address))
        assert event["protocol"] == "amtp"
        assert "the configuration gives" in str(event["tls"])
        wait_mailbox(beta, "bob")


@pytest.mark.covers("AMTP-21", "AMTP-12")
def test_a_stricter_backups_denial_puts_mail_off_until_the_primary_answers(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    """Beta is the backup here and denies; the primary is away, so that is not the last word."""
    far, away = loopback_address(), loopback_address()
    zone = (
        f"@ MX 10 mx\nmx A {far}\nprimary A {away}\n"
        f"_amtp._tcp SRV 10 1 {AMTP_PORT} primary\n_amtp._tcp SRV 20 1 {AMTP_PORT} mx"
    )
    rules = [{"name": "no-shops", "action": "refuse", "when": {"mpc": "com/*"}}]
    with amtp_pair(
        address, far, authority, zones={"beta.example": zone}, beta={"policy": {"rules": rules}}
    ) as (alpha, _, _names):
        number = hand_over(swaks_client, address)
        assert "backup" in wait_deferred(alpha, number)
        assert row_of(alpha, number)["id"] == number
        assert not alpha.log_events("failed")


@pytest.mark.covers("AMTP-8", "ITP-7")
def test_fallback_can_be_forbidden_for_a_domain(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far, away = loopback_address(), loopback_address()
    zone = f"@ MX 10 mx\nmx A {far}\n_amtp._tcp SRV 10 1 {AMTP_PORT} gone\ngone A {away}"
    never = {"routes": {"beta.example": {"to": "mx", "fallback": "never"}}}
    with (
        amtp_pair(address, loopback_address(), authority, zones={"beta.example": zone}, alpha=never) as (
            alpha,
            _,
            _names,
        ),
        SmtpSink(far, 25) as sink,
    ):
        number = hand_over(swaks_client, address)
        alpha.wait_event("deferred", count=2, id=number)
        assert sink.transactions() == []


@pytest.mark.covers("AMTP-1", "AMTP-2a", "AMTP-11")
def test_the_send_command_speaks_amtp_as_a_host_with_a_certificate(
    address: str, authority: CertificateAuthority
) -> None:
    far = loopback_address()
    zones = {
        "client.example": "@ A 127.0.0.1",
        **reverse_zone({far: "mx.beta.example", "127.0.0.1": "client.example"}),
    }
    files = authority.issue("client.example")
    words = (
        *("send", "--protocol", "amtp", "--server", f"{far}:{AMTP_PORT}", "--name", "mx.beta.example"),
        *("--ca", str(authority.authority), "--certificate", str(files.certificate), "--key", str(files.key)),
        *("--hello", "client.example", "--from", "ann@client.example", "--to", "bob@beta.example"),
    )
    with amtp_pair(address, far, authority, zones=zones) as (_, beta, _names):
        sent = command(*words, "--mpc", "net/individual", stdin=CONTENT)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        [message] = wait_mailbox(beta, "bob")
        assert b"\nMPC: net/individual" in headers_of(message)
        without = command(*words, stdin=CONTENT)
        assert without.returncode == 2
        assert b"--mpc" in without.stderr


@pytest.mark.covers("AMTP-7", "SEC-158")
def test_the_target_dot_says_that_amtp_is_not_spoken(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far = loopback_address()
    zone = {"beta.example": f"@ MX 10 mx\nmx A {far}\n_amtp._tcp SRV 0 0 0 ."}
    with amtp_pair(address, far, authority, zones=zone) as (alpha, beta, _):
        [event] = alpha.wait_event("delivered", id=hand_over(swaks_client, address))
        assert event["protocol"] == "smtp"
        wait_mailbox(beta, "bob")
        assert not alpha.log_events("fallback")


@pytest.mark.covers("AMTP-7", "AMTP-8", "ITP-7")
def test_the_next_server_by_srv_comes_before_another_protocol(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far, away = loopback_address(), loopback_address()
    records = (
        f"@ MX 10 mx\nmx A {far}\naway A {away}",
        f"_amtp._tcp SRV 10 1 {AMTP_PORT} away\n_amtp._tcp SRV 20 1 {AMTP_PORT} mx",
    )
    with amtp_pair(address, far, authority, zones={"beta.example": "\n".join(records)}) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        [event] = alpha.wait_event("delivered", id=number)
        assert event["protocol"] == "amtp"
        assert "mx.beta.example" in str(event["remote"])
        alpha.wait_event("fallback", id=number, first="amtp", used="amtp", why="unreachable")
        wait_mailbox(beta, "bob")
