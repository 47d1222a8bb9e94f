"""The way to a domain, by MX records from BIND (SMTP-7): order, fail-over, null MX, loops, private nets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import SmtpSink, Swaks
from tests.system.sites import CONTENT, queue_id, site, wait_mailbox


@contextmanager
def site_with_dns(address: str, zones: dict[str, str], **tables: Any) -> Iterator[OutriderServer]:
    """Our site, asking a BIND with these zones."""
    with BindServer(zones) as names:
        dns = {"servers": [f"{names.address}:{names.port}"]}
        with OutriderServer(site("alpha.example", address, dns=dns, **tables)) as server:
            yield server


def send(swaks_client: Swaks, address: str, recipient: str) -> str:
    """Hand over a message; its id."""
    result = swaks_client.send(
        address, 25, sender="ann@alpha.example", recipients=[recipient], content=CONTENT
    )
    assert result.accepted, result.transcript
    return queue_id(result)


@pytest.mark.covers("SMTP-7")
def test_the_best_exchanger_is_tried_first_and_the_next_when_it_is_away(
    address: str, swaks_client: Swaks
) -> None:
    best, second = loopback_address(), loopback_address()
    records = f"@ MX 20 second\n@ MX 10 best\nbest A {best}\nsecond A {second}"
    with site_with_dns(address, {"beta.example": records}) as server, SmtpSink(second, 25) as backup:
        number = send(swaks_client, address, "bob@beta.example")
        [event] = server.wait_event("delivered", id=number)
        assert "second.beta.example" in str(event["remote"])
        assert len(backup.transactions()) == 1
        server.cli("stop")
        server.wait_event("stopped")
        server.start()
        with SmtpSink(best, 25):
            number = send(swaks_client, address, "bob@beta.example")
            [event] = server.wait_event("delivered", id=number)
            assert "best.beta.example" in str(event["remote"])


@pytest.mark.covers("SMTP-7", "SMTP-6")
def test_a_temporary_refusal_by_the_best_leads_to_the_next_and_a_final_one_does_not(
    address: str, swaks_client: Swaks
) -> None:
    leaving, refusing, second = loopback_address(), loopback_address(), loopback_address()
    zones = {
        name: f"@ MX 10 best\n@ MX 20 second\nbest A {best}\nsecond A {second}"
        for name, best in (("beta.example", leaving), ("gamma.example", refusing))
    }
    with (
        site_with_dns(address, zones) as server,
        SmtpSink(second, 25) as backup,
        SmtpSink(leaving, 25, "-q", "CONNECT"),
        SmtpSink(refusing, 25, "-f", "RCPT"),
    ):
        server.wait_event("delivered", id=send(swaks_client, address, "bob@beta.example"))
        server.wait_event("failed", id=send(swaks_client, address, "bob@gamma.example"))
        wait_mailbox(server, "ann")
        assert len(backup.transactions()) == 1


@pytest.mark.covers("SMTP-7", "SEC-158")
@pytest.mark.parametrize(
    ("records", "recipient", "status", "words"),
    [
        ("@ MX 0 .", "bob@beta.example", "5.1.10", "does not accept mail (null MX)"),
        ("other A 127.0.0.1", "bob@beta.example", "5.4.4", "beta.example"),
        ("@ MX 10 mx.alpha.example.", "bob@beta.example", "5.4.6", "loops back to this host"),
        ("@ A 127.0.0.1", "bob@absent.beta.example", "5.1.2", "absent.beta.example"),
    ],
    ids=["null-mx", "no-address", "loop-to-self", "no-such-domain"],
)
def test_what_no_waiting_mends_is_returned_at_once(
    records: str, recipient: str, status: str, words: str, address: str, swaks_client: Swaks
) -> None:
    zones = {"beta.example": records, "alpha.example": f"mx A {address}"}
    with site_with_dns(address, zones) as server:
        number = send(swaks_client, address, recipient)
        [event] = server.wait_event("failed", id=number)
        [report] = wait_mailbox(server, "ann")
    assert event["status"] == status
    assert words in str(event["text"])
    assert f"Status: {status}".encode() in report


@pytest.mark.covers("SMTP-7")
def test_a_loop_is_seen_by_address_too(address: str, swaks_client: Swaks) -> None:
    zones = {"beta.example": f"@ MX 10 other\nother A {address}"}
    with site_with_dns(address, zones) as server:
        [event] = server.wait_event("failed", id=send(swaks_client, address, "bob@beta.example"))
    assert event["status"] == "5.4.6"


@pytest.mark.covers("SMTP-7")
def test_a_domain_without_mx_is_reached_by_its_address_and_a_literal_directly(
    address: str, swaks_client: Swaks
) -> None:
    place = loopback_address()
    with site_with_dns(address, {"beta.example": f"@ A {place}"}) as server, SmtpSink(place, 25) as sink:
        for recipient in ("bob@beta.example", f"bob@[{place}]"):
            server.wait_event("delivered", id=send(swaks_client, address, recipient))
        assert len(sink.transactions()) == 2


@pytest.mark.covers("SMTP-7")
@pytest.mark.parametrize("recipient", ["bob@beta.example", "bob@[127.0.0.1]"])
def test_private_addresses_are_not_gone_to_unless_allowed(
    recipient: str, address: str, swaks_client: Swaks
) -> None:
    place = loopback_address()
    zones = {"beta.example": f"@ MX 10 mx\nmx A {place}"}
    with (
        SmtpSink(place, 25) as sink,
        site_with_dns(address, zones, net={"private_destinations": []}) as server,
    ):
        number = send(swaks_client, address, recipient)
        [event] = server.wait_event("failed", id=number)
        assert sink.transactions() == []
    assert "private_destinations" in str(event["text"]) or "loopback" in str(event["text"])


@pytest.mark.covers("SMTP-7", "SMTP-6")
def test_a_name_server_that_is_away_makes_mail_wait(address: str, swaks_client: Swaks) -> None:
    place = loopback_address()
    with BindServer({"beta.example": f"@ MX 10 mx\nmx A {place}"}) as names, SmtpSink(place, 25):
        dns = {"servers": [f"{names.address}:{names.port}"], "timeout": 1}
        with OutriderServer(site("alpha.example", address, dns=dns)) as server:
            names.stop()
            number = send(swaks_client, address, "bob@beta.example")
            [event, *_] = server.wait_event("deferred", id=number)
            assert str(event["status"]).startswith("4.4.")
            names.start()
            server.wait_event("delivered", id=number)
