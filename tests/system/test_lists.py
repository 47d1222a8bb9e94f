"""Mailing lists and answers on a real server, by SMTP and the command line."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until
from tests.system.sites import (
    Settings,
    headers_of,
    json_rows,
    mailbox,
    queued,
    site,
    smtp_dialogue,
    wait_mailbox,
)

LIST = "staff@alpha.example"


def list_site(address: str, *, routes: dict[str, Any] | None = None, **staff: Any) -> Settings:
    """One host with the users ann (owner), bob and mod, and the list `staff`."""
    domain = {
        "deliver": "maildir:{dir}/mail/{user}",
        "users": ["ann", "bob", "mod", "postmaster"],
        "vacation": {"interval": 3600},
        "lists": {"staff": {"owners": ["ann"], "mpc": "com/confirmed", **staff}},
    }
    return site("alpha.example", address, domains={"alpha.example": domain}, routes=routes)


def say(address: str, sender: str, recipient: str, *fields: str, body: str = "text") -> list[bytes]:
    """Send one message; the replies."""
    content = [
        f"From: <{sender or 'x@far.example'}>",
        f"To: <{recipient}>",
        "Subject: a test",
        *fields,
        "",
        body,
    ]
    lines = [
        b"EHLO far.example",
        f"MAIL FROM:<{sender}>".encode(),
        f"RCPT TO:<{recipient}>".encode(),
        b"DATA",
    ]
    return smtp_dialogue(address, 25, *lines, "\r\n".join([*content, "."]).encode(), b"QUIT")


def taken(replies: list[bytes]) -> bool:
    """Whether the message was accepted."""
    return replies[5].startswith(b"250 ")


def value(message: bytes, name: str) -> str:
    """A field's value, unfolded, without angle brackets."""
    found = re.search(rb"(?im)^%s:[ \t]*(.*(?:\n[ \t].*)*)" % name.encode(), headers_of(message))
    assert found is not None, message
    return re.sub(r"\n[ \t]", " ", found[1].decode()).strip("<>")


@pytest.mark.covers("SMTP-8", "AMTP-16")
def test_from_subscription_to_farewell(address: str) -> None:
    with OutriderServer(list_site(address)) as server:
        assert say(address, "bob@alpha.example", LIST)[3].startswith(b"550 5.7.2 ")
        assert taken(say(address, "bob@alpha.example", "staff-subscribe@alpha.example"))
        [question] = wait_mailbox(server, "bob")
        assert value(question, "Auto-Submitted") == "auto-replied"
        assert value(question, "MPC") == "com/autoresponse"
        assert json_rows(server, "list", "members", LIST) == []

        assert taken(say(address, "bob@alpha.example", value(question, "Reply-To")))
        server.wait_event("list_joined", list=LIST, address="bob@alpha.example")
        wait_mailbox(server, "bob", 2)
        server.cli("list", "subscribe", LIST, "mod@alpha.example")
        assert [row["address"] for row in json_rows(server, "list", "members", LIST)] == [
            "bob@alpha.example",
            "mod@alpha.example",
        ]

        assert taken(say(address, "bob@alpha.example", LIST, body="to all of you"))
        [copy] = wait_mailbox(server, "mod")
        assert value(copy, "MPC") == "com/confirmed"
        assert value(copy, "List-Id").endswith("staff.alpha.example")
        assert value(copy, "Return-Path").startswith("staff-bounces+")
        assert b"to all of you" in copy
        wait_mailbox(server, "bob", 3)

        leave = value(copy, "List-Unsubscribe").removeprefix("mailto:")
        assert taken(say(address, "", leave))
        server.wait_event("list_left", list=LIST, address="mod@alpha.example")
        [shown] = json_rows(server, "list", "show", LIST)
        assert (shown["members"], shown["suspended"], shown["mpc"]) == (1, 0, "com/confirmed")


@pytest.mark.covers("SMTP-8", "SEC-166")
def test_bounces_of_our_own_and_of_others_suspend_a_member(address: str) -> None:
    with OutriderServer(list_site(address, posting="anyone", suspend_after=1)) as server:
        server.cli("list", "subscribe", LIST, "gone@alpha.example", "bob@alpha.example")
        assert taken(say(address, "eve@far.example", LIST))
        # Our own delivery fails, our own report reaches the list.
        server.wait_event("list_bounced", list=LIST, address="gone@alpha.example", suspended=True)
        [notice] = wait_mailbox(server, "ann")
        assert b"gone@alpha.example" in notice
        [copy] = wait_mailbox(server, "bob")
        report = say(
            address,
            "",
            value(copy, "Return-Path"),
            "Content-Type: multipart/report; boundary=x; report-type=delivery-status",
            body="--x\r\n\r\nAction: failed\r\nStatus: 5.1.1\r\n--x--",
        )
        assert taken(report)
        server.wait_event("list_bounced", list=LIST, address="bob@alpha.example", suspended=True)
        states = {row["address"]: row["state"] for row in json_rows(server, "list", "members", LIST)}
        assert states == {"gone@alpha.example": "suspended", "bob@alpha.example": "suspended"}
        server.cli("list", "subscribe", LIST, "bob@alpha.example")
        assert [
            row["address"] for row in json_rows(server, "list", "members", LIST, "--state", "active")
        ] == ["bob@alpha.example"]


@pytest.mark.covers("SMTP-8")
def test_moderation_by_mail_and_by_command(address: str) -> None:
    settings = list_site(address, posting="anyone", moderated=True, moderators=["mod"])
    with OutriderServer(settings) as server:
        server.cli("list", "subscribe", LIST, "bob@alpha.example")
        for number in (1, 2, 3):
            assert taken(say(address, "eve@far.example", LIST, body=f"post {number}"))
            wait_mailbox(server, "mod", number)
        held = json_rows(server, "list", "held", LIST)
        assert len(held) == 3
        assert mailbox(server, "bob") == []

        questions = {
            n: next(one for one in mailbox(server, "mod") if b"> post %d" % n in one) for n in (1, 2, 3)
        }
        assert taken(say(address, "mod@alpha.example", value(questions[1], "Reply-To")))
        [first] = wait_mailbox(server, "bob")
        assert b"post 1" in first
        ids = {n: re.search(rb"queue id: (\S+)", text)[1].decode() for n, text in questions.items()}  # type: ignore[index]
        server.cli("list", "approve", LIST, ids[2])
        assert b"post 2" in wait_mailbox(server, "bob", 2)[1]
        assert server.cli("list", "approve", LIST, ids[1], check=False).returncode == 1
        server.cli("list", "reject", LIST, ids[3])
        assert json_rows(server, "list", "held", LIST) == []
        wait_until(lambda: queued(server) == [], "an empty queue")
        assert len(mailbox(server, "bob")) == 2


@pytest.mark.covers("SMTP-8", "SMTP-5")
def test_a_server_that_is_killed_while_it_expands_makes_each_copy_once(address: str) -> None:
    """The copies wait for a host that does not answer, so that every one can be counted."""
    routes = {"far.example": f"smtp:[{loopback_address()}]:25"}
    settings = list_site(address, routes=routes, posting="anyone")
    # Tried again soon after a crash, and then late; and no crash of these is the message's fault.
    settings["delivery"] |= {"retry": [1, 3600], "poison_after": 100}
    members = [f"m{number}@far.example" for number in range(1500)]
    with OutriderServer(settings) as server:
        server.cli("list", "import", LIST, "-", stdin="\n".join(members).encode())
        assert taken(say(address, "eve@elsewhere.example", LIST))
        for pause_s in (0.0, 0.02, 0.05, 0.1):
            time.sleep(pause_s)  # anywhere in the expansion
            server.kill()
            server.start()
        # Killed twice over one part, that waits until its lease would have ended: minutes (FAULT-F11).
        server.cli("queue", "retry", "--destination", "alpha.example", check=False)

        def done() -> bool:
            rows = queued(server)
            return len(rows) >= len(members) and all(row["destination"] != "alpha.example" for row in rows)

        wait_until(done, "the expansion to end", 120)
        recipients = [address for row in queued(server) for address in row["recipients"]]
        assert sorted(recipients) == sorted(members)


@pytest.mark.covers("SMTP-8")
def test_two_workers_share_the_members(address: str) -> None:
    settings = list_site(address, posting="members") | {"workers": 2}
    with OutriderServer(settings) as server:
        server.cli("list", "subscribe", LIST, "bob@alpha.example", "mod@alpha.example")
        for number in range(6):
            assert taken(say(address, "bob@alpha.example", LIST, body=f"post {number}"))
        wait_mailbox(server, "mod", 6)
        wait_mailbox(server, "bob", 6)
        server.cli("list", "unsubscribe", LIST, "bob@alpha.example")
        for _ in range(4):
            assert say(address, "bob@alpha.example", LIST)[3].startswith(b"550 5.7.2 ")


@pytest.mark.covers("SMTP-8")
def test_a_moderators_mail_reaches_whichever_worker_holds_the_post(address: str) -> None:
    settings = list_site(address, posting="anyone", moderated=True, moderators=["mod"]) | {"workers": 2}
    with OutriderServer(settings) as server:
        server.cli("list", "subscribe", LIST, "bob@alpha.example")
        for number in range(6):
            assert taken(say(address, "eve@far.example", LIST, body=f"post {number}"))
        for question in wait_mailbox(server, "mod", 6):
            assert taken(say(address, "mod@alpha.example", value(question, "Reply-To")))
        wait_mailbox(server, "bob", 6)
        assert json_rows(server, "list", "held", LIST) == []


@pytest.mark.covers("SMTP-8")
def test_the_nodes_of_a_cluster_see_the_same_members(address: str, postgres_dsn: str) -> None:
    def node(name: str, at: str) -> Settings:
        spool = {"backend": "postgresql", "dsn": postgres_dsn, "reserve": 0}
        return {**list_site(at), "hostname": f"{name}.alpha.example", "spool": spool}

    other = loopback_address()
    with OutriderServer(node("one", address)) as one, OutriderServer(node("two", other)) as two:
        one.cli("list", "subscribe", LIST, "bob@alpha.example", "mod@alpha.example")
        assert two.cli("list", "export", LIST).stdout == b"bob@alpha.example\nmod@alpha.example\n"
        assert taken(say(other, "bob@alpha.example", LIST))
        assert say(address, "eve@far.example", LIST)[3].startswith(b"550 5.7.2 ")

        def copies() -> list[bytes]:
            return [copy for server in (one, two) for copy in mailbox(server, "mod")]

        wait_until(lambda: len(copies()) == 1, "the copy at either node")
        # The seals are the same ones: either node reads what the other has made.
        assert taken(say(address, "", value(copies()[0], "List-Unsubscribe").removeprefix("mailto:")))
        wait_until(lambda: two.cli("list", "export", LIST).stdout == b"bob@alpha.example\n", "the farewell")


@pytest.mark.covers("SMTP-8", "AMTP-17")
def test_a_user_who_is_away_is_answered_for_once(address: str) -> None:
    with OutriderServer(list_site(address)) as server:
        server.cli("vacation", "set", "ann@alpha.example", "--subject", "Gone", stdin=b"Back on Monday.\n")
        assert taken(say(address, "bob@alpha.example", "ann@alpha.example"))
        [answer] = wait_mailbox(server, "bob")
        assert (value(answer, "Subject"), value(answer, "MPC")) == ("Gone", "net/autoresponse")
        assert value(answer, "Return-Path") == ""
        assert b"Back on Monday." in answer
        assert taken(say(address, "bob@alpha.example", "ann@alpha.example"))
        server.wait_event("vacation_withheld", user="ann@alpha.example")
        # Two who are away do not write to each other without end.
        server.cli("vacation", "set", "bob@alpha.example", stdin=b"Me too.\n")
        assert taken(say(address, "bob@alpha.example", "ann@alpha.example", "Auto-Submitted: auto-replied"))
        server.wait_event("vacation_withheld", 2, user="ann@alpha.example")
        assert len(mailbox(server, "bob")) == 1
        assert [row["user"] for row in json_rows(server, "vacation", "show")] == [
            "ann@alpha.example",
            "bob@alpha.example",
        ]
        server.cli("vacation", "off", "ann@alpha.example")
        assert server.cli("vacation", "off", "ann@alpha.example", check=False).returncode == 1


@pytest.mark.covers("SMTP-8")
def test_the_command_line_makes_lists_and_keeps_books(address: str) -> None:
    with OutriderServer(list_site(address)) as server:
        before = server.config_path.read_text()
        wanted = ("list", "create", "news@alpha.example", "--owner", "ann", "--mpc", "com/optin")
        shown = server.cli(*wanted, "--dry-run").stdout.decode()
        assert '[domains."alpha.example".lists."news"]' in shown
        assert server.config_path.read_text() == before
        refused = server.cli(*wanted[:-1], "com/individual", check=False)
        assert refused.returncode == 1
        assert b"AMTP-16" in refused.stderr
        assert server.config_path.read_text() == before
        server.cli(*wanted, "--description", 'Our "news"')
        server.cli("check-config")
        assert server.cli(*wanted, check=False).returncode == 1
        server.cli("reload")
        assert taken(say(address, "bob@alpha.example", "news-subscribe@alpha.example"))
        wait_mailbox(server, "bob")

        entered = b"bob@alpha.example\n# a comment\n\nzoe@far.example # here too\n"
        rows = server.cli("list", "import", "news@alpha.example", "-", "--dry-run", "--json", stdin=entered)
        assert [json.loads(line)["changed"] for line in rows.stdout.split(b"\n") if line] == [True, True]
        assert json_rows(server, "list", "members", "news@alpha.example") == []
        server.cli("list", "import", "news@alpha.example", "-", stdin=entered)
        exported = server.cli("list", "export", "news@alpha.example").stdout
        assert exported == b"bob@alpha.example\nzoe@far.example\n"
        bad = server.cli(
            "list", "import", "news@alpha.example", "-", stdin=b"ok@x.example\nnonsense\n", check=False
        )
        assert bad.returncode == 2
        gone = server.cli("list", "unsubscribe", "news@alpha.example", "bob@alpha.example", "--dry-run")
        assert b"would leave" in gone.stdout
        assert (
            server.cli("list", "unsubscribe", "news@alpha.example", "x@y.example", check=False).returncode
            == 1
        )
        assert server.cli("list", "show", "nothing@alpha.example", check=False).returncode == 1
        server.stop()
        # Without a server the store is there all the same.
        assert server.cli("list", "export", "news@alpha.example").stdout == exported
        server.cli("list", "unsubscribe", "news@alpha.example", "zoe@far.example")
        server.start()
        assert server.cli("list", "export", "news@alpha.example").stdout == b"bob@alpha.example\n"
