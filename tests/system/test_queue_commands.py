"""`outrider queue` and `explain` on a running server, and on its spool when it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import SmtpSink, Swaks
from tests.system.sites import CONTENT, body_of, json_rows, queue_id, queued, site, wait_mailbox


@contextmanager
def stuck_site(address: str, absent: str, **tables: Any) -> Iterator[OutriderServer]:
    """A site whose ways to beta.example and gamma.example lead to a host that is away."""
    routes = dict.fromkeys(("beta.example", "gamma.example"), f"smtp:[{absent}]:25")
    delivery = {"retry": [600]}
    with OutriderServer(site("alpha.example", address, routes=routes, delivery=delivery, **tables)) as server:
        yield server


def send(swaks_client: Swaks, address: str, *recipients: str, sender: str = "ann@alpha.example") -> str:
    """Hand over a message; its id."""
    result = swaks_client.send(address, 25, sender=sender, recipients=recipients, content=CONTENT)
    assert result.accepted, result.transcript
    return queue_id(result)


def waiting(server: OutriderServer, *filters: str) -> set[str]:
    """The ids that `queue list` shows."""
    return {row["id"] for row in queued(server, *filters)}


@pytest.mark.covers("SMTP-6")
def test_list_finds_by_every_filter(address: str, swaks_client: Swaks) -> None:
    with stuck_site(address, loopback_address()) as server:
        first = send(swaks_client, address, "bob@beta.example")
        second = send(swaks_client, address, "eve@gamma.example", sender="bob@alpha.example")
        for number in (first, second):
            server.wait_event("deferred", id=number)
        assert waiting(server) == {first, second}
        assert waiting(server, first) == {first}
        assert waiting(server, "--sender", "ann@alpha.example") == {first}
        assert waiting(server, "--sender", "@alpha.example") == {first, second}
        assert waiting(server, "--recipient", "@gamma.example") == {second}
        assert waiting(server, "--state", "held") == set()
        assert waiting(server, "--older", "1d") == set()
        assert waiting(server, "--reason", "refused") == {first, second}
        assert waiting(server, "--limit", "1") == {first}
        assert json_rows(server, "queue", "count") == [
            {"ready": 2, "active": 0, "held": 0, "oldest_s": pytest.approx(0, abs=60)}
        ]


@pytest.mark.covers("SMTP-6", "ITP-5")
def test_hold_release_retry_and_a_way_around(address: str, swaks_client: Swaks) -> None:
    with stuck_site(address, loopback_address()) as server, SmtpSink(loopback_address(), 25) as sink:
        number = send(swaks_client, address, "bob@beta.example")
        server.wait_event("deferred", id=number)
        before = queued(server)
        # A dry run says what would happen, and nothing happens.
        [row] = json_rows(server, "queue", "hold", number, "--because", "to be looked at", "--dry-run")
        assert row["changed"]
        assert {one["state"] for one in queued(server)} == {one["state"] for one in before} == {"ready"}
        server.cli("queue", "hold", number, "--because", "to be looked at")
        [row] = queued(server, "--state", "held")
        assert row["reason"] == "to be looked at"
        server.cli("queue", "release", "--recipient", "@beta.example")
        server.cli("queue", "reroute", number, "--to", f"smtp:[{sink.address}]:25")
        server.cli("queue", "retry", number, check=False)
        [event] = server.wait_event("delivered", id=number)
        assert queued(server) == []
        [explained] = json_rows(server, "explain", number)
    assert sink.address in str(event["text"])
    kinds = [entry["kind"] for entry in explained["events"]]
    assert (kinds[0], kinds[-1]) == ("received", "delivered")
    assert any("to be looked at" in entry["text"] for entry in explained["events"])


@pytest.mark.covers("SMTP-6")
def test_fail_returns_and_drop_is_silent(address: str, swaks_client: Swaks) -> None:
    with stuck_site(address, loopback_address()) as server:
        returned = send(swaks_client, address, "bob@beta.example")
        dropped = send(swaks_client, address, "eve@gamma.example", sender="bob@alpha.example")
        for number in (returned, dropped):
            server.wait_event("deferred", id=number)
        server.cli("queue", "drop", dropped)
        server.cli("queue", "fail", returned, "--because", "the address is out of use")
        [report] = wait_mailbox(server, "ann")
        assert waiting(server) == set()
        assert not (server.folder / "mail/bob").exists()
    assert b"the address is out of use" in report
    assert b"Action: failed" in report


@pytest.mark.covers("SMTP-6")
def test_pause_survives_a_restart_and_resume_ends_it(address: str, swaks_client: Swaks) -> None:
    absent = loopback_address()
    lane = f"smtp:[{absent}]:25"
    with stuck_site(address, absent) as server, SmtpSink(absent, 25) as sink:
        server.cli("queue", "pause", lane)
        number = send(swaks_client, address, "bob@beta.example")
        server.restart()
        [row] = [one for one in json_rows(server, "queue", "destinations") if one["destination"] == lane]
        assert row["paused"]
        assert waiting(server) == {number}
        assert sink.transactions() == []
        server.cli("queue", "resume", lane)
        server.wait_event("delivered", id=number)


@pytest.mark.covers("SMTP-6", "ITP-5")
def test_the_same_commands_work_while_the_server_is_stopped(address: str, swaks_client: Swaks) -> None:
    with stuck_site(address, loopback_address()) as server:
        number = send(swaks_client, address, "bob@beta.example")
        other = send(swaks_client, address, "eve@gamma.example")
        for one in (number, other):
            server.wait_event("deferred", id=one)
        running = server.cli("explain", number).stdout
        server.stop()
        assert waiting(server) == {number, other}
        assert server.cli("explain", number).stdout == running
        assert server.cli("queue", "show", number, "--object", "body").stdout.replace(
            b"\r\n", b"\n"
        ) == body_of(CONTENT)
        server.cli("queue", "hold", number)
        server.cli("queue", "drop", other)
        server.start()
        [row] = queued(server)
    assert (row["id"], row["state"]) == (number, "held")


@pytest.mark.covers("ITP-5")
def test_commands_that_cannot_be_done_say_why(address: str, swaks_client: Swaks) -> None:
    with stuck_site(address, loopback_address()) as server:
        number = send(swaks_client, address, "bob@beta.example")
        server.wait_event("deferred", id=number)
        for words, status, said in (
            (("queue", "show", "no-such-message"), 1, b"no-such-message"),
            (("queue", "hold"), 2, b"--all"),
            (("queue", "drop", "--recipient", "@nowhere.example"), 1, b"nothing in the queue matches"),
            (("queue", "reroute", number, "--to", "smpt:nowhere"), 1, b"smpt"),
            (("queue", "release", number), 1, b"1 of 1 not changed"),
        ):
            done = server.cli(*words, check=False)
            assert done.returncode == status, (words, done)
            assert said in done.stderr, (words, done)
            assert b"Traceback" not in done.stderr


@pytest.mark.covers("ITP-5")
def test_reply_log_and_explain_say_the_same_of_a_refusal_by_the_next_host(
    address: str, swaks_client: Swaks
) -> None:
    with SmtpSink(loopback_address(), 25, "-f", "RCPT") as sink:
        routes = {"beta.example": f"smtp:[{sink.address}]:25"}
        with OutriderServer(site("alpha.example", address, routes=routes)) as server:
            number = send(swaks_client, address, "bob@beta.example")
            [event] = server.wait_event("failed", id=number)
            [explained] = json_rows(server, "explain", number)
            [report] = wait_mailbox(server, "ann")
    [told] = [entry["text"] for entry in explained["events"] if entry["kind"] == "failed"]
    assert told == event["text"]
    remote_said = str(event["text"]).partition(": ")[2]
    assert remote_said
    assert remote_said.encode() in b" ".join(report.split())
