"""From SMTP to MT2 and on: what sites and mailboxes get, and what is never shown."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OUTRIDER, OutriderServer
from tests.peers.tools import Swaks
from tests.system.mt2_sites import MT2_PORT, hand_over, mt2_pair, mt2_zone
from tests.system.sites import CONTENT, json_rows, site, wait_mailbox

SIGNED = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=alpha.example; s=x;\r\n\th=from:to:subject;\r\n  bh=abc=;b=de\r\n"
    b"From:  Ann <ann@alpha.example>\r\nTO: bob@gamma.example\r\nsubject:folded\r\n\t and odd \r\n"
    b"MIME-Version: 1.0\r\nX-Dup: one\r\nX-Dup: two\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n\r\n"
    b"Hello.\r\n.\xc3\xa4\r\n"
)


@pytest.mark.covers("MT2-28a", "MT2-28b", "MT2-1")
def test_smtp_to_mt2_to_smtp_gives_back_every_octet_below_our_own_fields(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far, last = loopback_address(), loopback_address()
    zones = {"gamma.example": mt2_zone(far, srv="mx.beta.example.")}
    onward = {"routes": {"gamma.example": f"smtp:[{last}]:25"}}
    with (
        OutriderServer(site("gamma.example", last), title="gamma") as gamma,
        mt2_pair(address, far, authority, zones=zones, beta=onward) as (alpha, beta, _),
    ):
        number = hand_over(swaks_client, address, "bob@gamma.example", content=SIGNED)
        [by_mt2] = alpha.wait_event("delivered", id=number)
        [message] = wait_mailbox(gamma, "bob")
        [by_smtp] = beta.wait_event("delivered")
    assert (by_mt2["protocol"], by_smtp["protocol"]) == ("mt2", "smtp")
    octets = message.replace(b"\n", b"\r\n")
    assert octets.endswith(SIGNED)
    on_top = octets[: -len(SIGNED)]
    names = re.findall(rb"(?m)^([A-Za-z0-9-]+):", on_top)
    assert set(names) == {b"Return-Path", b"Delivered-To", b"Received", b"MT2-Recipe", b"MT2-Object"}
    assert len(re.findall(rb"(?m)^MT2-Recipe:", on_top)) == 1


@pytest.mark.covers("MT2-29", "MT2-23a", "MT2-23c")
def test_a_mailbox_keeps_the_seals_and_shows_no_blind_copy(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far = loopback_address()
    with mt2_pair(address, far, authority) as (alpha, beta, _):
        number = hand_over(swaks_client, address, "bob@beta.example", "ann@beta.example", content=CONTENT)
        assert len(alpha.wait_event("delivered", count=2, id=number)) == 2
        [to_bob], [blind] = wait_mailbox(beta, "bob"), wait_mailbox(beta, "ann")
        assert b"MT2-Recipe:" in to_bob
        for name in ("bob", "ann"):
            [file] = (beta.folder / "mail" / name / "new").iterdir()
            [row] = json_rows(beta, "trace", "verify", str(file))
            assert row["good"] is True
    assert b"ann@beta.example" not in _objects(to_bob)
    assert b"bob@beta.example" not in _objects(blind).partition(b"<headers")[0]


def _objects(message: bytes) -> bytes:
    """What rides along in a mailbox file."""
    from outrider.gateway.ride_along import RideAlong, open_ride_along

    found = open_ride_along(message.replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert isinstance(found, RideAlong)
    return found.objects.envelope + found.objects.headers


@pytest.mark.covers("ITP-7", "MT2-27", "ITP-5")
def test_servers_out_of_reach_lead_to_smtp_with_an_event_and_a_line_in_the_trail(
    address: str, authority: CertificateAuthority, swaks_client: Swaks
) -> None:
    far, nowhere = loopback_address(), loopback_address()
    zone = f"@ MX 10 mx\nmx A {far}\n_mt2._tcp SRV 10 1 {MT2_PORT} gone\ngone A {nowhere}"
    with mt2_pair(address, far, authority, zones={"beta.example": zone}) as (alpha, beta, _):
        number = hand_over(swaks_client, address)
        [event] = alpha.wait_event("delivered", id=number)
        assert event["protocol"] == "smtp"
        [fallback] = alpha.wait_event("fallback", id=number, first="mt2", used="smtp")
        assert fallback["why"] == "unreachable"
        wait_mailbox(beta, "bob")


@pytest.mark.covers("MT2-4", "MT2-10a")
def test_the_send_command_speaks_mt2(address: str, authority: CertificateAuthority) -> None:
    far = loopback_address()
    with mt2_pair(address, far, authority) as (_, beta, _names):
        files = authority.issue("client.example")
        done = subprocess.run(
            [
                str(OUTRIDER), "send", "--protocol", "mt2", "--server", f"{far}:{MT2_PORT}",
                "--name", "mx.beta.example", "--certificate", str(files.certificate), "--key",
                str(files.key), "--ca", str(files.authority), "--from", "ann@client.example", "--to",
                "bob@beta.example",
            ],
            input=CONTENT, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        [message] = wait_mailbox(beta, "bob")
    assert b"with MT2 id" in message
