"""At a running server: what EHLO announces to a host and what MAIL then says to it agree, for every code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.model.mpc import ABOUT_POLICY, LEGAL
from outrider.protocols.amtp.declarations import evaluate, parse_declarations
from tests.peers.bind import BindServer
from tests.peers.outrider_server import OutriderServer
from tests.system.amtp_callers import Caller, World, rule
from tests.system.sites import json_rows

STRANGER, SHOP = "mail.beta.example", "mail.shop.example"

RULES: dict[str, list[dict[str, Any]]] = {
    "some are unwanted": [
        rule("shop may", "accept", {"host": SHOP, "mpc": ["com/customer", "com/confirmed"]}),
        rule("no ads", "refuse", {"mpc": ["com/*", "*/optout"]}),
    ],
    "few are wanted": [
        rule("letters", "accept", {"mpc": "*/individual"}),
        rule("shop", "accept", {"mpc": "com/*", "host": SHOP}),
        rule("rest", "refuse", {}, stage="sender"),
    ],
    "for every recipient": [
        rule("shop", "accept", {"host": SHOP}, stage="recipient"),
        rule("no optin", "refuse", {"mpc": "*/optin"}, stage="recipient"),
        rule("bob", "refuse", {"mpc": "net/*", "recipient": "bob@alpha.example"}),
    ],
    "nobody from there": [
        rule("enemy", "refuse", {"host": STRANGER}, stage="sender"),
        rule("no ads", "refuse", {"mpc": "com/*"}),
    ],
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Authorities and the server's certificate."""
    return World(tmp_path)


def refused(caller: Caller, world: World, name: str) -> tuple[list[str], dict[str, bool]]:
    """What is announced to a host, and whether each code is refused at MAIL or RCPT."""
    outcome: dict[str, bool] = {}
    with caller.connect(world.address) as link:
        lines = link.declarations(name)
        for code in LEGAL:
            replies = [link.say(f"MAIL FROM:<ann@beta.example> MPC={code}")]
            if replies[0].startswith(b"250"):
                replies.append(link.say("RCPT TO:<ann@alpha.example>"))
            assert replies[-1][:4] in (b"250 ", b"550 "), replies
            outcome[str(code)] = replies[-1].startswith(b"550 ")
            link.say("RSET")
    return lines, outcome


@pytest.mark.covers("ITP-4b", "AMTP-10", "AMTP-11")
@pytest.mark.parametrize("name", RULES)
def test_every_code_by_every_host(world: World, name: str) -> None:
    callers = {one: world.host(one) for one in (STRANGER, SHOP)}
    with world.name_server() as dns:
        settings = world.settings(dns, policy={"rules": RULES[name]}, limits={"errors": 1000})
        with OutriderServer(settings):
            seen = {one: refused(caller, world, one) for one, caller in callers.items()}
    for lines, outcome in seen.values():
        declarations = parse_declarations(f"MPC {line}" for line in lines)
        denied = {str(code) for code in LEGAL if not evaluate(declarations, code).allowed}
        enforced = {code for code, is_refused in outcome.items() if is_refused}
        if outcome[str(ABOUT_POLICY)]:
            assert (denied, enforced) == (set(), set(outcome))  # refused, and not for its code
        else:
            assert denied == enforced
    assert seen[STRANGER] != seen[SHOP]


@pytest.mark.covers("ITP-3", "ITP-1", "AMTP-2a")
def test_a_vouching_service_speaks_for_a_domain_that_the_certificate_names(world: World) -> None:
    both = world.maker.host(world.public, f"DNS:{STRANGER}", "DNS:beta.example")
    named = world.host(STRANGER, certificate=both)
    other = world.host(SHOP)
    rules = [
        rule("members", "accept", {"trust.vouched": "association"}),
        rule("others", "refuse", {"sender.null": False}, reason="Only members write to us"),
    ]
    lists = {"association": {"kind": "vbr", "source": "vouch.test", "weight": 3}}
    zones = {
        "example": "\n".join(world.records),
        "127.in-addr.arpa": "\n".join(world.pointers),
        "vouch.test": 'beta.example._vouch TXT "all"',
    }
    with BindServer(zones) as dns:
        settings = world.settings(dns, policy={"rules": rules}, trust={"lists": lists})
        with OutriderServer(settings) as server:
            with named.connect(world.address) as link:
                assert link.code(f"EHLO {STRANGER}") == 250
                assert link.code("MAIL FROM:<ann@beta.example> MPC=net/individual") == 250
                assert link.code("RCPT TO:<ann@alpha.example>") == 250
                assert link.content(b"Subject: x\r\n\r\nx\r\n").startswith(b"250 ")
            with other.connect(world.address) as link:
                assert link.code(f"EHLO {SHOP}") == 250
                reply = link.say("MAIL FROM:<ann@beta.example> MPC=net/individual")
                assert reply.startswith(b"550 5.7.1 Only members write to us")
            [received] = server.wait_event("received")
            [row] = json_rows(server, "explain", str(received["id"]))
    facts = {fact["name"]: fact for fact in row["facts"]}
    assert facts["trust.vouched"]["value"] == ["association"]
    assert facts["trust.vouched"]["how"] == "association all (sender domain beta.example)"
    assert facts["sender.domain.vouched"]["provenance"] == "vouched"
    assert facts["trust.score"]["value"] == -3
