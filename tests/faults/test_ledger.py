"""FAULT-F14: accepted = delivered + bounced + held + queued, for each recipient, as the server tells it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

FATES = {
    "a": "relayed",
    "refused": "failed",
    "later": "pending",
    "held": "held",
    "ann": "delivered",
}


@pytest.mark.covers("FAULT-F14", "ITP-5")
def test_every_recipient_is_in_one_place() -> None:
    address, sink_address = loopback_address(), loopback_address()
    rule = {"name": "wait", "action": "hold", "stage": "headers", "when": {"header.subject": "hold me"}}
    configuration = relay(
        address,
        sink_address,
        domains={"alpha.example": {"deliver": "maildir:{dir}/mail/{user}", "users": ["ann"]}},
        policy={"rules": [rule]},
        delivery={"retry": [3600]},
    )
    with Sink(sink_address, PORT), OutriderServer(configuration) as server:
        ids = {}
        for number in range(20):
            names = [
                f"a-{number}@far.example",
                f"refused-{number}@far.example",
                f"later-{number}@far.example",
                "ann@alpha.example",
            ]
            ids[send_to(address, names, f"Subject: {number}\r\n\r\nx\r\n")] = names
        held = send_to(address, ["held@far.example"], "Subject: hold me\r\n\r\nx\r\n")
        ids[held] = ["held@far.example"]
        wait_until(
            lambda: (
                not [
                    row
                    for row in ledger.queue_list(server)
                    if row["attempts"] == 0 and row["state"] != "held"
                ]
            ),
            "every item to have been tried",
        )
        states = ledger.recipient_states(server, ids)
        wanted = Counter(
            (name, FATES[name.partition("@")[0].partition("-")[0]])
            for names in ids.values()
            for name in names
        )
        assert states == wanted
        # In other words: what explain says of one of them, and what the list counts.
        told = json.loads(server.cli("explain", next(iter(ids)), "--json").stdout)
        assert {event["kind"] for event in told["events"]} >= {
            "received",
            "relayed",
            "failed",
            "deferred",
            "delivered",
        }
        assert ledger.counts(server)["held"] == 1
        assert len([row for row in ledger.queue_list(server) if row["state"] == "ready"]) == 20
        # A restart changes nothing of it.
        server.restart()
        assert ledger.recipient_states(server, ids) == wanted


def send_to(address: str, names: list[str], content: str) -> str:
    """One message to several; its id."""
    with Wire(address, PORT) as wire:
        wire.ehlo()
        wire.expect(b"250", after=b"MAIL FROM:<sender@alpha.example>")
        for name in names:
            wire.expect(b"250", after=f"RCPT TO:<{name}>".encode())
        wire.expect(b"354", after=b"DATA")
        return wire.expect(b"250", after=content.encode() + b".").split()[-1].decode()
