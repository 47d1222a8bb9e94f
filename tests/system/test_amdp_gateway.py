"""A gateway, a holding facility that is another server, and a site that knows nothing of AMDP."""

from __future__ import annotations

import json

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.system.sites import mailbox, site, smtp_dialogue, wait_mailbox

LETTER = (
    b"From: Ann Lee <ann@alpha.example>\r\nTo: bob@beta.example\r\nSubject: of AMDP\r\n"
    b"AMDP-Message-Type: invoice\r\nContent-Language: en\r\n\r\nthe body stays\r\n"
)


def hand_in(address: str, content: bytes, *recipients: str, sender: str = "ann@alpha.example") -> bytes:
    lines = [b"EHLO client.example", f"MAIL FROM:<{sender}>".encode()]
    lines += [f"RCPT TO:<{one}>".encode() for one in recipients]
    return smtp_dialogue(address, 25, *lines, b"DATA", content + b".")[-1]


def copies(server: OutriderServer) -> list[str]:
    """Whose copies are held, and in which state."""
    (message,) = server.wait_event("amdp_held")
    rows = server.cli("held", "show", str(message["id"]), "--json").stdout.splitlines()
    return sorted(f"{row['recipient']} {row['state']}" for row in map(json.loads, rows))


@pytest.mark.covers("AMDP-1", "AMDP-2", "AMDP-5a")
def test_from_the_gateway_by_the_facility_to_a_mailbox_elsewhere() -> None:
    gateway_at, facility_at, beta_at = (loopback_address() for _ in range(3))
    amdp = {
        "roles": ["omg"],
        "outgoing": {"facility": f"[{facility_at}]:25", "hold": "all", "classes": {"*": "Agent::Business"}},
    }
    holding = {"roles": ["mhf"], "holding": {"gateways": [gateway_at]}}
    ways = {"beta.example": f"smtp:[{beta_at}]:25"}
    with (
        OutriderServer(site("beta.example", beta_at), title="beta") as beta,
        OutriderServer(
            site("alpha.example", facility_at, routes=ways, relay={"networks": []}, amdp=holding), title="mhf"
        ) as facility,
        OutriderServer(site("alpha.example", gateway_at, routes=ways, amdp=amdp), title="omg") as gateway,
    ):
        taken = hand_in(gateway_at, LETTER, "bob@beta.example", "ann@beta.example", "ann@alpha.example")
        assert taken.startswith(b"250 ")
        (local,) = wait_mailbox(gateway, "ann")
        assert b"AMDP-" not in local, "who is not held sees nothing of it"
        (envelope,) = wait_mailbox(beta, "bob")
        wait_mailbox(beta, "ann")
        assert b"AMDP-Mail-Class: Agent::Business::invoice" in envelope
        assert b"AMDP-From: <ann@alpha.example>" in envelope
        assert b"AMDP-From-Name: Ann Lee" in envelope
        assert b"AMDP-Language: en" in envelope
        assert b"the body stays" not in envelope
        assert b"ann@beta.example" not in envelope
        assert b"OMG" not in envelope
        assert b"\nhttps://mhf-1.alpha.example" in envelope
        facility.wait_event("amdp_copy", 2, state="notified")
        assert copies(facility) == ["ann@beta.example notified", "bob@beta.example notified"]
        assert not mailbox(facility, "bob")
        refused = hand_in(facility_at, LETTER, "bob@beta.example")
        assert refused.startswith(b"5"), "nobody else's mail is held"
