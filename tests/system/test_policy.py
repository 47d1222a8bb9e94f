"""The operator's rules on a running server: one sentence in reply, log and explain; trial without sending."""

from __future__ import annotations

import subprocess

import pytest

from tests.peers.outrider_server import OUTRIDER, OutriderServer
from tests.peers.tools import Swaks
from tests.system.sites import CONTENT, headers_of, json_rows, queue_id, queued, site, wait_mailbox

RULES = [
    {
        "name": "no-dynamic",
        "action": "refuse",
        "when": {"sender.domain": "bad.example"},
        "reason": "mail from bad.example is not wanted",
    },
    {
        "name": "look-first",
        "action": "hold",
        "when": {"header.subject": "*lottery*"},
        "reason": "the subject speaks of a lottery",
    },
    {"name": "mark", "action": "tag", "when": {"sender.null": False}, "value": "X-Checked: by alpha"},
    {
        "name": "wait-a-little",
        "action": "defer",
        "when": {"recipient": "bob@alpha.example"},
        "reason": "bob reads tomorrow",
    },
]


@pytest.mark.covers("ITP-4a", "ITP-5")
def test_rules_decide_and_say_so_everywhere_in_the_same_words(address: str, swaks_client: Swaks) -> None:
    with OutriderServer(site("alpha.example", address, policy={"rules": RULES})) as server:
        refused = swaks_client.send(address, 25, sender="eve@bad.example", recipients=["ann@alpha.example"])
        reply = next(line for line in refused.replies() if line.startswith("5"))
        assert "mail from bad.example is not wanted" in reply
        [event] = server.wait_event("refused", rule="no-dynamic")
        assert event["reply"] == reply
        deferred = swaks_client.send(address, 25, recipients=["bob@alpha.example"])
        assert any(line.startswith("4") and "bob reads tomorrow" in line for line in deferred.replies()), (
            deferred.transcript
        )
        good = swaks_client.send(address, 25, recipients=["ann@alpha.example"], content=CONTENT)
        [message] = wait_mailbox(server, "ann")
        assert b"X-Checked: by alpha" in headers_of(message)
        [row] = json_rows(server, "explain", queue_id(good))
        assert any("mark" in entry["text"] for entry in row["events"]), row
        suspect = CONTENT.replace(b"system test", b"The lottery")
        held = swaks_client.send(address, 25, recipients=["ann@alpha.example"], content=suspect)
        [row] = queued(server, "--state", "held")
        assert row["id"] == queue_id(held)
        assert "the subject speaks of a lottery" in row["reason"]
        server.cli("queue", "release", row["id"])
        wait_mailbox(server, "ann", 2)


@pytest.mark.covers("ITP-5", "ITP-4a")
def test_a_trial_says_what_would_happen(address: str) -> None:
    with OutriderServer(site("alpha.example", address, policy={"rules": RULES})) as server:
        bad = server.cli("policy", "test", "--fact", "sender=eve@bad.example", check=False)
        good = server.cli("policy", "test", "--fact", "sender=eve@good.example")
        held = server.cli("policy", "test", "--message", "-", stdin=b"Subject: a lottery\n\nx\n", check=False)
        assert server.log_events("received") == []
    assert bad.returncode == 1
    assert b"mail from bad.example is not wanted" in bad.stdout
    assert good.returncode == 0
    assert b"look-first applies: hold" in held.stdout


@pytest.mark.covers("ITP-5")
def test_send_and_status(address: str) -> None:
    with OutriderServer(site("alpha.example", address)) as server:
        assert server.cli("status").stdout.startswith(b"mx.alpha.example: up ")
        done = subprocess.run(
            [OUTRIDER, "send", "--server", f"{address}:25", "--to", "ann@alpha.example", "--json"],
            input=CONTENT,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done
        assert b'"result": "delivered"' in done.stdout
        wait_mailbox(server, "ann")
        refused = subprocess.run(
            [OUTRIDER, "send", "--server", f"{address}:25", "--to", "nobody@alpha.example"],
            input=CONTENT,
            capture_output=True,
            timeout=60,
        )
    assert refused.returncode == 1
    assert b"No such user here" in refused.stdout
