"""SEC-166 to SEC-174: reports and loops: no mail to strangers, and none that goes round for ever."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.hostile import Dialogue, HostileServer
from tests.attacks.target import NEXT_HOP, SMTP, Target
from tests.attacks.wire import Wire
from tests.faults import ledger
from tests.peers.addresses import loopback_address
from tests.peers.rooms import wait_until

LIMITED = "limited.example"


@pytest.fixture(scope="module")
def limited_hop() -> str:
    """The address of a next hop that takes few recipients at a time."""
    return loopback_address()


@pytest.fixture(scope="module")
def module_target(tmp_path_factory: pytest.TempPathFactory, limited_hop: str) -> Iterator[Target]:
    """One server for this module; `loop.example` leads back to itself."""
    target = Target(tmp_path_factory.mktemp("target"))
    domains = {
        "here.example": {
            "deliver": "maildir:{dir}/mail/{user}",
            "users": ["ann", "postmaster"],
        }
    }
    routes = {
        "loop.example": f"smtp:[{target.address}]:{SMTP}",
        LIMITED: f"smtp:[{limited_hop}]:{NEXT_HOP}",
    }
    target.change(
        domains=domains,
        routes=routes,
        relay={
            "networks": [f"{target.friend}/32", f"{target.address}/32"],
            "domains": ["open.example", "loop.example"],
        },
        delivery={"postmaster": "postmaster@here.example"},
        net={"source_address": target.address},
    )
    with target:
        yield target


def send(
    wire: Wire, sender: bytes, recipients: list[bytes], content: bytes, parameters: bytes = b""
) -> bytes:
    """One transaction; the reply to its content."""
    wire.expect(b"250", after=b"MAIL FROM:<" + sender + b">" + parameters)
    wire.send(b"".join(b"RCPT TO:" + recipient + b"\r\n" for recipient in recipients))
    assert set(wire.replies(len(recipients))) == {b"250"}
    wire.expect(b"354", after=b"DATA")
    wire.send(content + b".\r\n")
    return wire.reply()


def reports_to(target: Target, recipient: str) -> list[bytes]:
    """What came from nobody to that address at the next hop."""
    return [
        one.content for one in list(target.sink.arrivals) if not one.sender and recipient in one.recipients
    ]


def wait_finished(target: Target) -> None:
    """Until nothing is on its way that can go."""
    wait_until(
        lambda: not [row for row in ledger.queue_list(target.server) if row["state"] == "active"],
        "deliveries to end",
    )
    ledger.wait_drained(target.server)


@pytest.mark.covers("SEC-166")
def test_unknown_users_are_refused_in_the_session(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<victim@third.example>")
        wire.expect(b"550 5.1.1 ", after=b"RCPT TO:<nobody@here.example>")
    wait_finished(target)
    assert not reports_to(target, "victim@third.example")


@pytest.mark.covers("SEC-167")
def test_no_report_on_a_report(target: Target) -> None:
    with target.session(source=target.friend) as wire:
        answer = send(
            wire,
            b"refused-sender@far.example",
            [b"<refused-a@far.example>"],
            b"Subject: two refusals\r\n\r\nx\r\n",
        )
        assert answer.startswith(b"250")
        # Mail that is a report itself, to somebody who is refused.
        send(wire, b"", [b"<refused-b@far.example>"], b"Subject: a report already\r\n\r\nx\r\n")
    wait_until(lambda: len(box(target, "postmaster")) >= 1, "the postmaster to be told")
    wait_finished(target)
    about = [message for message in box(target, "postmaster") if b"two refusals" in message]
    assert len(about) == 1
    assert len(box(target, "postmaster")) <= 2
    assert not [one for one in target.sink.arrivals if b"two refusals" in one.content]


def box(target: Target, user: str) -> list[bytes]:
    """A mailbox here."""
    return target.mailbox(user)


@pytest.mark.covers("SEC-168")
@pytest.mark.parametrize(
    "aliases", [{"ping": "pong@here.example", "pong": "ping@here.example"}, {"me": "me@here.example"}]
)
def test_aliases_in_a_circle_are_no_configuration(tmp_path: Path, aliases: dict[str, str]) -> None:
    target = Target(tmp_path)
    target.change(domains={"here.example": {"deliver": "discard:", "users": ["ann"], "aliases": aliases}})
    with pytest.raises(RuntimeError, match=r"in a circle|leads to none"), target:
        pass


@pytest.mark.covers("SEC-168", "SEC-169")
def test_a_route_that_leads_back_ends_with_one_report(target: Target) -> None:
    with target.session(source=target.friend) as wire:
        send(wire, b"looper@far.example", [b"<x@loop.example>"], b"Subject: round and round\r\n\r\nx\r\n")
    wait_until(lambda: bool(reports_to(target, "looper@far.example")), "the report", 60)
    wait_finished(target)
    (report,) = reports_to(target, "looper@far.example")
    assert b"5.4.6" in report


@pytest.mark.covers("SEC-169")
@pytest.mark.parametrize(("fields", "answer"), [(49, b"250"), (51, b"554 5.4.6 "), (500, b"554 5.4.6 ")])
def test_many_received_fields(target: Target, fields: int, answer: bytes) -> None:
    received = b"Received: from a by b; Sun, 22 Nov 2026 02:00:00 +0000\r\n" * fields
    with target.session() as wire:
        assert send(wire, b"s@client.example", [b"<ann@here.example>"], received + b"\r\nx\r\n").startswith(
            answer
        )


@pytest.mark.covers("SEC-170")
def test_a_thousand_notifications_are_one_report(target: Target) -> None:
    names = [b"<refused-%d@far.example> NOTIFY=SUCCESS,DELAY,FAILURE" % number for number in range(300)]
    large = b"Subject: to many\r\n\r\n" + b"0123456789abcdef\r\n" * 8_000
    with target.session(source=target.friend) as wire:
        assert send(wire, b"many@far.example", names, large, b" RET=FULL").startswith(b"250")
    wait_until(lambda: bool(reports_to(target, "many@far.example")), "the report", 60)
    wait_finished(target)
    reports = reports_to(target, "many@far.example")
    told = Counter(re.findall(rb"(?m)^Final-Recipient: rfc822; ?(\S+)\r$", b"".join(reports)))
    assert len(told) == 300
    assert set(told.values()) == {1}
    assert len(reports) <= 3, "recipients go a hundred at a time, and so may their results"
    assert sum(map(len, reports)) < 400_000
    assert b"0123456789abcdef\r\n0123456789abcdef" not in b"".join(reports), "the original is large"


@pytest.mark.covers("SEC-171")
@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        (b"ENVID=" + b"x" * 100, b"250"),
        (b"ENVID=" + b"x" * 101, b"501"),
        (b"ENVID=" + b"x" * 3000, b"501"),
        (b"RET=HDRS ENVID=a+2Bb", b"250"),
    ],
)
def test_envelope_identifiers(target: Target, parameters: bytes, answer: bytes) -> None:
    with target.session() as wire:
        wire.expect(answer, after=b"MAIL FROM:<s@client.example> " + parameters)


@pytest.mark.covers("SEC-171")
def test_original_recipients_are_quoted_safely(target: Target) -> None:
    name = b"<refused-o@far.example> ORCPT=x-strange;a+22+3Cb+3E+40c"
    with target.session(source=target.friend) as wire:
        send(wire, b"original@far.example", [name], b"Subject: original\r\n\r\nx\r\n", b" ENVID=id+40x")
    wait_until(lambda: bool(reports_to(target, "original@far.example")), "the report")
    (report,) = reports_to(target, "original@far.example")
    assert re.search(rb"(?m)^Original-Recipient: x-strange; ?", report)
    assert b"Original-Envelope-Id: id@x\r\n" in report


@pytest.mark.covers("SEC-172")
@pytest.mark.parametrize(
    "field", [b"Auto-Submitted: auto-replied", b"Precedence: list", b"List-Id: <l.example>"]
)
def test_nothing_is_answered_by_itself(target: Target, field: bytes) -> None:
    sender = b"list-%d@far.example" % len(field)
    with target.session() as wire:
        send(wire, sender, [b"<ann@here.example>"], field + b"\r\nSubject: x\r\n\r\nx\r\n")
    wait_finished(target)
    assert not reports_to(target, sender.decode())


@pytest.mark.covers("SEC-174")
def test_one_bad_recipient_among_many(target: Target) -> None:
    names = [b"<g%d@far.example>" % number for number in range(150)] + [b"<refused-one@far.example>"]
    with target.session(source=target.friend) as wire:
        send(wire, b"bulk@far.example", names, b"Subject: one is bad\r\n\r\nx\r\n")
    wait_until(lambda: bool(reports_to(target, "bulk@far.example")), "the report")
    wait_finished(target)
    arrived = Counter(
        name
        for one in target.sink.arrivals
        if b"one is bad" in one.content and one.sender
        for name in one.recipients
    )
    assert arrived == Counter(f"g{number}@far.example" for number in range(150))
    (report,) = reports_to(target, "bulk@far.example")
    assert report.count(b"Final-Recipient:") == 1


@pytest.mark.covers("SEC-174")
def test_a_next_hop_that_takes_ten_at_a_time(target: Target, limited_hop: str) -> None:
    taken: list[bytes] = []

    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        now: list[bytes] = []
        while True:
            line = peer.hear()
            if line.startswith(b"RCPT") and len(now) >= 10:
                peer.say(b"452 4.5.3 too many recipients\r\n")
                continue
            if line.startswith(b"RCPT"):
                now.append(line)
            if line.startswith(b"DATA"):
                peer.say(b"354 go\r\n")
                peer.hear_content()
                taken.extend(now)
                now = []
            peer.say(b"250 ok\r\n")

    names = [b"<n%d@limited.example>" % number for number in range(35)]
    with HostileServer(limited_hop, NEXT_HOP, script), target.session(source=target.friend) as wire:
        send(wire, b"s@client.example", names, b"Subject: ten\r\n\r\nx\r\n")
        wait_until(lambda: len(taken) >= 35, "all to be taken in the end", 60)
        wait_finished(target)
    assert Counter(taken) == Counter(b"RCPT TO:" + name + b"\r\n" for name in names)
