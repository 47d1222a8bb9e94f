"""QMTP between two sites, and MXPS with MX records from BIND (QMTP-1, QMTP-2)."""

from __future__ import annotations

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks
from tests.system.sites import (
    CONTENT,
    Settings,
    body_of,
    headers_of,
    queue_id,
    site,
    wait_mailbox,
)


def with_qmtp(name: str, address: str) -> Settings:
    """A site that also listens for QMTP, on port 209."""
    settings = site(name, address)
    settings["listeners"].append({"protocol": "qmtp", "address": address})
    return settings


@pytest.mark.covers("QMTP-1", "SMTP-6")
def test_a_route_by_qmtp_with_one_of_two_recipients_refused(address: str, swaks_client: Swaks) -> None:
    far = loopback_address()
    routes = {"beta.example": f"qmtp:[{far}]"}
    with (
        OutriderServer(with_qmtp("beta.example", far), title="beta") as beta,
        OutriderServer(site("alpha.example", address, routes=routes), title="alpha") as alpha,
    ):
        result = swaks_client.send(
            address,
            25,
            sender="ann@alpha.example",
            recipients=["bob@beta.example", "nobody@beta.example"],
            content=CONTENT,
        )
        assert result.accepted, result.transcript
        [message] = wait_mailbox(beta, "bob")
        # Not "delivered": QMTP cannot carry a request for a report on success further.
        alpha.wait_event("relayed", id=queue_id(result), protocol="qmtp", recipient="bob@beta.example")
        alpha.wait_event("failed", id=queue_id(result), protocol="qmtp", recipient="nobody@beta.example")
        [report] = wait_mailbox(alpha, "ann")
    assert body_of(message) == body_of(CONTENT)
    assert b" with QMTP id " in headers_of(message)
    assert b"nobody@beta.example" in report


@pytest.mark.covers("QMTP-2", "SMTP-7")
@pytest.mark.parametrize(("preference", "protocol"), [(12801, "qmtp"), (12800, "smtp"), (10, "smtp")])
def test_the_preference_selects_the_protocol(
    preference: int, protocol: str, address: str, swaks_client: Swaks
) -> None:
    far = loopback_address()
    with (
        BindServer({"beta.example": f"@ MX {preference} mx\nmx A {far}"}) as names,
        OutriderServer(with_qmtp("beta.example", far), title="beta") as beta,
        OutriderServer(
            site("alpha.example", address, dns={"servers": [f"{names.address}:{names.port}"]}), title="alpha"
        ) as alpha,
    ):
        result = swaks_client.send(address, 25, recipients=["bob@beta.example"], content=CONTENT)
        event = "relayed" if protocol == "qmtp" else "delivered"
        alpha.wait_event(event, id=queue_id(result), protocol=protocol)
        wait_mailbox(beta, "bob")


@pytest.mark.covers("QMTP-2")
def test_a_host_that_promises_qmtp_and_has_none_is_reached_by_smtp(address: str, swaks_client: Swaks) -> None:
    far = loopback_address()
    with (
        BindServer({"beta.example": f"@ MX 12801 mx\nmx A {far}"}) as names,
        OutriderServer(site("beta.example", far), title="beta") as beta,
        OutriderServer(
            site("alpha.example", address, dns={"servers": [f"{names.address}:{names.port}"]}), title="alpha"
        ) as alpha,
    ):
        result = swaks_client.send(address, 25, recipients=["bob@beta.example"], content=CONTENT)
        [event] = alpha.wait_event("delivered", id=queue_id(result))
        alpha.wait_event("fallback", id=queue_id(result))
        wait_mailbox(beta, "bob")
    assert event["protocol"] == "smtp"
