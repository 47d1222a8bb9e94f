"""AMDP's roles as processes of their own, together, at a provider's, over workers and over nodes."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections import Counter
from typing import Any

import pytest

from tests.faults import ledger
from tests.peers.certificates import CertificateAuthority
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.amdp_role_sites import READERS, Roles, all_in_one, letter, roles_apart, two_nodes
from tests.system.sites import headers_of, json_rows, mailbox, wait_mailbox

FETCHED, ANNOUNCED = "ann@alpha.example", "news@alpha.example"
LONG_S = 4 * PATIENCE_S


def wait_done(roles: Roles) -> None:
    """Nobody has anything left to do."""
    for server in {roles.gateway, roles.holder, roles.incoming, roles.store}:
        wait_until(lambda: not ledger.queue_list(server), f"{server.title} to be done", LONG_S)  # noqa: B023


def ask(roles: Roles, link: str, path: str, body: dict[str, str] | None = None) -> tuple[int, bytes]:
    """What a reader's program hears of the holder that the link names: a POST, or a GET without a body."""
    host = link.removeprefix("https://").partition("/")[0].partition(":")[0]
    context = ssl.create_default_context(cafile=str(roles.authority.authority))
    context.check_hostname = False  # called by address here
    connection = http.client.HTTPSConnection(roles.holder_address, 443, timeout=LONG_S, context=context)
    headers = {"Host": host, "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def field(envelope: bytes, name: str) -> str:
    unfolded = re.sub(rb"\r?\n(?=[ \t])", b"", headers_of(envelope))
    (value,) = re.findall(rf"(?im)^{name}: *(.*)$".encode(), unfolded)
    return str(value.decode())


def read_by_link(roles: Roles, envelope: bytes, token: str) -> None:
    """A reader opens his envelope's message, has it, and confirms that."""
    link = field(envelope, "AMDP-Verified-Link").strip("<>")
    shown, page = ask(roles, link, "/" + link.partition("//")[2].partition("/")[2])
    assert shown == 200, page
    assert token.encode() not in page, "a link that is only looked at discloses nothing"
    body = {
        "id": field(envelope, "AMDP-Verified-Msg-Id"),
        "confirmation": field(envelope, "AMDP-Verified-Confirmation"),
    }
    status, content = ask(roles, link, "/amdp/v1/message", body)
    assert status == 200
    assert f"begin {token}\r\n".encode() in content
    told = {**body, "digest": field(envelope, "AMDP-Verified-Digest")}
    assert ask(roles, link, "/amdp/v1/receipt", told)[0] == 200
    assert ask(roles, link, "/amdp/v1/receipt", told)[0] == 200, "said again"


def whole_way(roles: Roles) -> None:
    """One message is fetched by beta's gateway, one by its readers; both senders hear of it."""
    roles.hand_in(FETCHED, letter(FETCHED, "pulled", 300_000))
    for reader in READERS:
        (content,) = wait_mailbox(roles.store, reader, 1, LONG_S)
        assert b"begin pulled" in content
        assert content.count(b"0123456789") == 25_000
    roles.hand_in(ANNOUNCED, letter(ANNOUNCED, "asked for"))
    for reader in READERS:
        envelope = wait_mailbox(roles.store, reader, 2, LONG_S)[1]
        assert b"asked for" not in envelope
        read_by_link(roles, envelope, "asked for")
    received = roles.holder.wait_event("amdp_copy", 2 * len(READERS), LONG_S, state="retrieved")
    assert Counter(str(one["recipient"]) for one in received) == {
        f"{reader}@beta.example": 2 for reader in READERS
    }
    for sender in ("ann", "news"):
        reports = wait_mailbox(roles.gateway, sender, len(READERS), LONG_S)
        told = sorted(address.decode() for one in reports for address in re.findall(
            rb"(?i)Final-Recipient: rfc822; *(\S+)", one))  # fmt: skip
        assert told == [f"{reader}@beta.example" for reader in READERS]
        assert all(b"Action: delivered" in one for one in reports)
    wait_done(roles)
    assert not json_rows(roles.holder, "held", "list"), "nothing can be had any more"
    assert [len(mailbox(roles.store, reader)) for reader in READERS] == [2, 2]


def confirmed(roles: Roles) -> list[dict[str, Any]]:
    return roles.incoming.wait_event("amdp_confirmed", 4)


@pytest.mark.covers("AMDP-2", "AMDP-8", "ITP-2b")
def test_every_role_a_server_of_its_own(authority: CertificateAuthority) -> None:
    """The holder sends from where only the information service knows it."""
    with roles_apart(authority) as roles:
        whole_way(roles)
        assert {str(one["text"]) for one in confirmed(roles)} == {
            f"amdp-mis.alpha.example confirms mhf-1.alpha.example at {roles.sends_from}"
        }
        # What was fetched bears whose mail it is, and how that was proven: by the call-back, not by its From.
        fetched = roles.incoming.log_events("amdp_fetched")[0]["fetched"]
        facts = roles.incoming.cli("explain", str(fetched)).stdout.decode()
        how = f"amdp-mis.alpha.example confirms mhf-1.alpha.example at {roles.sends_from}"
        assert f"amdp.domain = alpha.example (proven, {how})" in facts
        assert "amdp.class = Agent::Business::message (claimed, the envelope says so)" in facts


@pytest.mark.long
@pytest.mark.covers("AMDP-8", "AMDP-6", "AMDP-11")
def test_held_by_a_provider(authority: CertificateAuthority) -> None:
    with roles_apart(authority, provider=True, lmtp=False) as roles:
        whole_way(roles)
        assert {str(one["text"]) for one in confirmed(roles)} == {
            f"{roles.holder_address} is mhf-2.alpha.example in DNS"
        }


@pytest.mark.covers("AMDP-9", "AMDP-11", "AMDP-13")
def test_all_in_one_with_two_workers(authority: CertificateAuthority) -> None:
    with all_in_one(authority, workers=2) as roles:
        whole_way(roles)


@pytest.mark.covers("AMDP-9", "AMDP-13")
def test_what_one_node_holds_another_answers_for(authority: CertificateAuthority, postgres_dsn: str) -> None:
    """And hands out, also when the one that took it is gone for good."""
    with two_nodes(authority, postgres_dsn) as roles:
        roles.hand_in(FETCHED, letter(FETCHED, "pulled", 300_000))
        roles.hand_in(ANNOUNCED, letter(ANNOUNCED, "asked for"))
        for reader in READERS:
            wait_mailbox(roles.store, reader, 2, LONG_S)
        assert not roles.gateway.log_events("amdp_answered"), "it was not asked"
        roles.gateway.kill()
        for reader in READERS:
            pulled, envelope = sorted(mailbox(roles.store, reader), key=len, reverse=True)
            assert pulled.count(b"0123456789") == 25_000
            read_by_link(roles, envelope, "asked for")
        roles.holder.wait_event("amdp_copy", 2 * len(READERS), LONG_S, state="retrieved")
        for server in (roles.holder, roles.incoming):
            wait_until(lambda: not ledger.queue_list(server), f"{server.title} to be done", LONG_S)  # noqa: B023
