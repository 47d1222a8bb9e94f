"""Bulk mail over one MT2 connection, near and far: nothing is lost or comes twice (MT2-18a to MT2-18d)."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.certificates import CertificateAuthority
from tests.peers.delay_relay import DelayRelay
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import smtp_source
from tests.system.mt2_sites import MT2_PORT, mt2_pair, mt2_zone
from tests.system.sites import mailbox, wait_mailbox

MESSAGES = 300
PATIENCE_S = 120.0
DEBUG = {"log": {"level": "debug"}}


def hand_over_many(address: str, count: int) -> None:
    """So many messages for bob@beta.example, by SMTP."""
    done = smtp_source(
        address,
        25,
        messages=count,
        sessions=10,
        size_bytes=4096,
        sender="ann@alpha.example",
        recipient="bob@beta.example",
    )
    assert done.status == 0, done


def each_once(server: OutriderServer, count: int) -> None:
    """Every message that alpha took is in the mailbox, once."""
    names: Counter[bytes] = Counter()
    for message in wait_mailbox(server, "bob", count, PATIENCE_S):
        [name] = re.findall(rb"by mx\.alpha\.example \(Outrider\) with E?SMTP id (\S+)", message)
        names[name] += 1
    assert len(names) == count
    assert set(names.values()) == {1}
    assert len(mailbox(server, "bob")) == count


@pytest.mark.covers("MT2-18d", "MT2-18c", "MT2-17")
@pytest.mark.parametrize("delay_s", [0.0, 0.025])
def test_many_messages_go_over_one_connection_however_far(
    address: str, authority: CertificateAuthority, delay_s: float
) -> None:
    beta_address, between = loopback_address(), loopback_address()
    zones = {"beta.example": mt2_zone(between)}
    with (
        DelayRelay(between, MT2_PORT, beta_address, MT2_PORT, delay_s),
        mt2_pair(address, beta_address, authority, zones=zones, alpha=DEBUG) as (alpha, beta, _),
    ):
        hand_over_many(address, MESSAGES)
        each_once(beta, MESSAGES)
        delivered = alpha.wait_event("delivered", count=MESSAGES)
        assert {event["protocol"] for event in delivered} == {"mt2"}
        assert len(alpha.log_events("connection_opened")) == 1
