"""Lists and answers where mail travels by AMTP: what they take, and what they send as."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.system.amtp_callers import World
from tests.system.amtp_sites import amtp_pair
from tests.system.sites import Settings, headers_of, wait_mailbox
from tests.system.test_lists import LIST, say, taken, value

NAME = "mail.beta.example"
CONTENT = b"From: eve@beta.example\r\nSubject: x\r\n\r\ntext\r\n"


def list_domain() -> Settings:
    """alpha.example with a list and users who may be away."""
    return {
        "alpha.example": {
            "deliver": "maildir:{dir}/mail/{user}",
            "users": ["ann", "zoe", "postmaster"],
            "vacation": {"role": "ngo"},
            "lists": {"staff": {"owners": ["ann"], "mpc": "com/optin", "posting": "anyone"}},
        }
    }


@pytest.mark.covers("AMTP-16", "AMTP-11")
def test_a_list_takes_only_individual_mail_from_public_connections(tmp_path: Path) -> None:
    world = World(tmp_path)
    caller = world.host(NAME)
    with (
        world.name_server() as dns,
        OutriderServer(world.settings(dns, domains=list_domain())) as server,
        caller.connect(world.address) as link,
    ):
        server.cli("list", "subscribe", LIST, "zoe@alpha.example")
        assert link.code(f"EHLO {NAME}") == 250
        for code in ("com/optin", "net/autoresponse", "com/confirmed", "com/customer", "com/optout"):
            assert link.code(f"MAIL FROM:<eve@beta.example> MPC={code}") == 250
            assert link.say(f"RCPT TO:<{LIST}>").startswith(b"550 5.7.1 MPC policy violation")
            assert link.code("RSET") == 250
        # Reports on its own copies are of class autoresponse, and welcome.
        assert link.code("MAIL FROM:<> MPC=net/autoresponse") == 250
        assert link.code("RCPT TO:<staff-bounces+1-abcdefghijkl@alpha.example>") == 250
        assert link.code("RSET") == 250
        assert link.code("MAIL FROM:<eve@beta.example> MPC=com/individual") == 250
        assert link.code(f"RCPT TO:<{LIST}>") == 250
        assert link.content(CONTENT).startswith(b"250 ")
        [copy] = wait_mailbox(server, "zoe")
    assert re.findall(rb"(?im)^MPC:.*$", headers_of(copy)) == [b"MPC: com/optin"]


@pytest.mark.covers("AMTP-16", "AMTP-17", "AMTP-13")
def test_subscription_copies_and_answers_between_two_amtp_sites(
    address: str, authority: CertificateAuthority
) -> None:
    far = loopback_address()
    with amtp_pair(address, far, authority, alpha={"domains": list_domain()}) as (alpha, beta, _):
        alpha.cli("vacation", "set", "ann@alpha.example", stdin=b"I am away.\n")
        assert taken(say(far, "bob@beta.example", "staff-subscribe@alpha.example"))
        [question] = wait_mailbox(beta, "bob")
        assert value(question, "MPC") == "com/autoresponse"
        assert taken(say(far, "bob@beta.example", value(question, "Reply-To")))
        wait_mailbox(beta, "bob", 2)
        assert taken(say(far, "bob@beta.example", LIST, body="a post"))
        copy = wait_mailbox(beta, "bob", 3)[-1]
        assert value(copy, "MPC") == "com/optin"
        assert value(copy, "Return-Path").startswith("staff-bounces+")
        assert taken(say(far, "bob@beta.example", "ann@alpha.example"))
        answer = wait_mailbox(beta, "bob", 4)[-1]
        assert value(answer, "MPC") == "ngo/autoresponse"
        assert value(answer, "Auto-Submitted") == "auto-replied (vacation)"
        # The log is written behind the mail: the last line is ann's own copy.
        alpha.wait_event("delivered", recipient="ann@alpha.example")
        protocols = {event["protocol"] for event in alpha.log_events("delivered")}
        assert protocols == {"amtp", "list", "maildir"}
        assert all(event["protocol"] == "AMTP" for event in alpha.log_events("received"))
