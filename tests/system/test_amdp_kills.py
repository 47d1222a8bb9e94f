"""Two sites, one that holds and one that asks, killed again and again while mail goes between them: every
reader has each message once, what was fetched is whole, and nothing is left to do (AMDP-9, AMDP-11)."""

from __future__ import annotations

import random
import re
import smtplib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.sites import headers_of, json_rows, mailbox, site

READERS = [f"reader{number}" for number in range(8)]
LONG_S = 20 * PATIENCE_S
KINDS = {"ann": "Agent::Business", "news": "Agent::Bulk"}
"""Ann's mail is fetched, the news is left with its holder."""


@contextmanager
def two_sites(authority: CertificateAuthority) -> Iterator[tuple[OutriderServer, OutriderServer, str]]:
    """Alpha holds, beta asks; the address that alpha takes mail at."""
    alpha_at, beta_at = loopback_address(), loopback_address()
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {alpha_at}\nmhf-1 A {alpha_at}\namdp-mis A {alpha_at}",
        "beta.example": f"@ MX 10 mx\nmx A {beta_at}\namdp-mis A {beta_at}",
    }
    with ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))

        def settings(name: str, address: str, users: list[str], **amdp: Any) -> dict[str, Any]:
            tls = authority.issue(*(f"{host}.{name}.example" for host in ("mx", "mhf-1", "amdp-mis")))
            dns = {"servers": [f"{names.address}:{names.port}"]}
            made = site(f"{name}.example", address, users=users, tls=tls, dns=dns, amdp=amdp)
            made["listeners"].append({"protocol": "amdp", "address": address})
            # What was under way when a server died is tried again after that time.
            made["spool"] = {"lease": 2}
            return made

        outgoing = {"hold": "all", "classes": {f"{who}@alpha.example": kind for who, kind in KINDS.items()}}
        alpha = settings("alpha", alpha_at, list(KINDS), roles=["omg", "mhf", "mis"], outgoing=outgoing)
        incoming = {"retry": [0.5], "window": 0.0}
        beta = settings("beta", beta_at, READERS, roles=["img", "mis"], incoming=incoming)
        yield (
            stack.enter_context(OutriderServer(alpha, title="alpha")),
            stack.enter_context(OutriderServer(beta, title="beta")),
            alpha_at,
        )


def send(address: str, sender: str, number: int) -> None:
    """One message to every reader."""
    content = (
        f"From: <{sender}@alpha.example>\r\nTo: readers\r\nSubject: number {number}\r\n"
        f"Message-ID: <{number}@alpha.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n"
        f"text {number}\r\n" + "a line of it\r\n" * 8000
    )
    with smtplib.SMTP(address, 25, timeout=4 * PATIENCE_S) as link:
        link.sendmail(f"{sender}@alpha.example", [f"{one}@beta.example" for one in READERS], content.encode())


def subjects(server: OutriderServer, reader: str) -> dict[bytes, set[bytes]]:
    """By subject the queue ids under which messages came into a mailbox: a delivery that was repeated after a
    crash has the same."""
    found: dict[bytes, set[bytes]] = {}
    for message in mailbox(server, reader):
        head = headers_of(message)
        [subject] = re.findall(rb"(?m)^Subject: (.*)$", head)
        [queue_id] = re.findall(rb"(?m)^Received: (?:.*\n[ \t])*?.*\bid ([0-9A-Z]{15})", head)[:1]
        found.setdefault(subject, set()).add(queue_id)
    return found


@pytest.mark.covers("AMDP-9", "AMDP-11", "SEC-188")
@pytest.mark.parametrize(
    "rounds", [pytest.param(2, id="short"), pytest.param(8, id="long", marks=pytest.mark.long)]
)
def test_both_sites_are_killed_while_mail_goes_between_them(
    authority: CertificateAuthority, rounds: int
) -> None:
    chance = random.Random(20261122)
    with two_sites(authority) as (alpha, beta, address):
        for number in range(rounds):
            send(address, list(KINDS)[number % 2], number)
            time.sleep(chance.uniform(0.0, 0.8))
            victim = (beta, alpha)[number % 2]
            victim.kill()
            victim.start()
        for server in (alpha, beta):  # what lay on a way that was dead for a moment need not wait longer
            server.cli("queue", "retry", "--all", check=False)
        wanted = {b"number %d" % number for number in range(rounds)}

        def all_there() -> bool:
            return all(set(subjects(beta, reader)) >= wanted for reader in READERS)

        wait_until(all_there, "every message with every reader", LONG_S)
        wait_until(lambda: not json_rows(beta, "queue", "list"), "an empty queue at beta", LONG_S)
        wait_until(lambda: not json_rows(alpha, "queue", "list"), "an empty queue at alpha", LONG_S)
        for reader in READERS:
            assert {subject: len(ids) for subject, ids in subjects(beta, reader).items()} == dict.fromkeys(
                wanted, 1
            )
            for message in mailbox(beta, reader):
                fetched = b"with AMDP" in headers_of(message)
                assert fetched is (message.count(b"a line of it") == 8000), "whole, or its envelope"
        states = {
            copy["state"]
            for row in json_rows(alpha, "held", "list", "--all")
            for copy in json_rows(alpha, "held", "show", row["id"])
        }
        assert states == {"retrieved", "authenticated"}
