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


@pytest.mark.covers("ITP-5", "ITP-4b")
def test_a_trial_shows_facts_their_warrants_and_what_would_be_announced(address: str) -> None:
    rules = [
        {"name": "no-ads", "action": "refuse", "when": {"mpc": "com/*"}, "unless": {"host": "shop.example"}}
    ]
    with OutriderServer(site("alpha.example", address, policy={"rules": rules})) as server:
        words = ("policy", "test", "--fact", "mpc=com/optin", "--fact", "host=other.example")
        refused = server.cli(*words, check=False)
        described = server.folder / "facts.json"
        described.write_text('{"mpc": "com/optin", "host": "shop.example"}')
        taken = json_rows(server, "policy", "test", "--describe", str(described))
        wrong = server.cli("policy", "test", "--fact", "mpc=com/spam", check=False)
    assert refused.returncode == 1
    assert b"announced at EHLO over AMTP: DENY=com/*\n" in refused.stdout
    assert b"sender: refuse: 550 5.7.1 MPC policy violation (rule no-ads)\n" in refused.stdout
    assert b"  host = 'other.example' (proven, described)\n" in refused.stdout
    assert {"announced": []} in taken
    assert {"name": "mpc", "value": "com/optin", "provenance": "proven", "how": "described"} in taken[0][
        "facts"
    ]
    assert wrong.returncode == 2


@pytest.mark.covers("ITP-5", "ITP-1")
def test_a_message_that_came_is_tried_again(address: str, swaks_client: Swaks) -> None:
    rules = [
        {"name": "look-first", "action": "hold", "when": {"header.subject": "*lottery*"}},
        {"name": "big", "action": "refuse", "when": {"message.size": {"min": 1_000_000}}},
        {"name": "bob", "action": "refuse", "when": {"recipient": "bob@alpha.example", "login": "eve"}},
    ]
    suspect = CONTENT.replace(b"system test", b"The lottery")
    with OutriderServer(site("alpha.example", address, policy={"rules": rules})) as server:
        both = ["ann@alpha.example", "bob@alpha.example"]
        sent = swaks_client.send(address, 25, recipients=both, content=suspect)
        again = json_rows(server, "policy", "test", "--message", queue_id(sent))
        with_login = server.cli(
            "policy", "test", "--message", queue_id(sent), "--fact", "login=eve", check=False
        )
        unknown = server.cli("policy", "test", "--message", "0NOSUCHID", check=False)
    facts = {fact["name"]: fact for fact in again[0]["facts"]}
    assert (facts["client.address"]["provenance"], facts["client.address"]["how"]) == ("proven", "TCP")
    assert facts["header.subject"]["value"] == ["The lottery"]
    assert facts["message.hops"]["value"] == 0
    stages = {(row["stage"], row["about"]): row["action"] for row in again[2:]}
    assert stages["headers", ""] == "hold"
    assert {about for stage, about in stages if stage == "recipient"} == set(both)
    assert with_login.returncode == 0
    assert b"recipient bob@alpha.example: refuse: 550" in with_login.stdout
    assert b"recipient ann@alpha.example: accept" in with_login.stdout
    assert unknown.returncode == 1


@pytest.mark.covers("ITP-1", "ITP-4a")
def test_the_linter_names_file_line_and_key_in_an_include_too(address: str) -> None:
    rules = [{"name": "all-ads", "action": "refuse", "when": {"mpc": "com/*"}}]
    policy = {"rules": rules, "include": ["more.toml"]}
    with OutriderServer(site("alpha.example", address, policy={"rules": rules})) as server:
        clean = server.cli("policy", "lint")
        more = server.folder / "more.toml"
        more.write_text(
            '# codes\n\n[[rules]]\nname = "optin"\naction = "refuse"\nwhen = { "mpc" = "com/optin" }\n\n'
            '[[rules]]\nname = "friend"\naction = "accept"\n[rules.when]\n"client.name" = "mx.a.example"\n'
            '[[rules]]\nname = "bell"\naction = "refuse"\n\n[rules.when]\n"protocol" = "smpt"\n'
        )
        server.write_configuration(site("alpha.example", address, policy=policy))
        found = json_rows(server, "policy", "lint", check=False)
        told = server.cli("policy", "lint", check=False)
        warned = server.cli("check-config")
        more.write_text('[[rules]]\nname = "x"\naction = "refuse"\nwhen = { "clinet.name" = "x" }\n')
        fault = server.cli("check-config", check=False)
        more.write_text("[[rulez]]\n")
        unknown = server.cli("check-config", check=False)
        more.unlink()
        missing = server.cli("check-config", check=False)
    assert b"1 rules: nothing to say" in clean.stdout
    assert [(one["kind"], one["rule"], one["line"]) for one in found] == [
        ("never-asked", "optin", 3),
        ("claims-only", "friend", 8),
        ("never-applies", "bell", 18),
    ]
    assert {one["file"] for one in found} == {str(more)}
    assert told.returncode == 1
    assert (
        f"{more}:18: policy rule 'bell': the rule never applies: protocol is one of".encode() in told.stdout
    )
    assert f"{more}:8: policy rule 'friend'".encode() in warned.stderr
    assert f"{more}:4: ".encode() in fault.stderr
    assert b"there is no fact" in fault.stderr
    assert f"{more}:1: rulez: unknown key".encode() in unknown.stderr
    assert b"policy.include[0]: more.toml: no such file" in missing.stderr


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
