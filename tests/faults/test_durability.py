"""FAULT-F1, F7: a 250 is said after the commit has reached the disk, and not when the disk says no."""

from __future__ import annotations

import random
import re

import pytest

from tests.faults import ledger
from tests.faults.load import Load, make_mail
from tests.faults.sending import send, try_to_send
from tests.faults.sink import Sink
from tests.faults.sites import PORT, relay
from tests.faults.tracing import Call, Strace, failing
from tests.peers.addresses import loopback_address
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

pytestmark = pytest.mark.serial

MESSAGES = 1000
IN_AND_OUT = "trace=read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"
READS = ("read", "recvfrom", "recvmsg")
SYNCS = ("fsync", "fdatasync")


def acknowledgements(calls: list[Call]) -> list[tuple[Call, Call]]:
    """Each pair of (read of a message's end, write of its 250) on the same socket."""
    ends: dict[str, Call] = {}
    found = []
    for call in calls:
        descriptor = call.text.split(",")[0]
        if call.name in READS and r"\r\n.\r\n\"" in call.text.replace('"', r"\""):
            ends[descriptor] = call
        elif "250 2.0.0 Ok: queued as" in call.text and call.name not in READS:
            found.append((ends.pop(descriptor), call))
    return found


def is_durable(end: Call, reply: Call, writes: list[Call], syncs: list[Call]) -> bool:
    """Whether between the two the log was written and then synced, and the sync had ended."""
    first = min((call.began for call in writes if call.began > end.ended), default=None)
    if first is None:
        return False
    return any(first < call.began and call.ended < reply.began and not call.failed for call in syncs)


@pytest.mark.covers("FAULT-F1", "SMTP-5")
def test_nothing_is_acknowledged_before_the_sync() -> None:
    address, sink_address = loopback_address(), loopback_address()
    with Sink(sink_address, PORT), OutriderServer(relay(address, sink_address)) as server:
        with Strace(server, "-s", "1000", "-e", IN_AND_OUT) as strace:
            with Load(address, PORT, sizes=(100, 200, 400)) as load:
                wait_until(lambda: len(load.acknowledged) >= MESSAGES, f"{MESSAGES} messages", 100)
            calls = strace.calls()
        writes = [call for call in calls if call.name == "pwrite64" and "spool.db-wal>" in call.text]
        syncs = [call for call in calls if call.name in SYNCS and "spool.db-wal>" in call.text]
        pairs = acknowledgements(calls)
        violations = [pair for pair in pairs if not is_durable(*pair, near(writes, pair), near(syncs, pair))]
        print(f"\n{len(pairs)} messages acknowledged, {len(syncs)} syncs, {len(violations)} violations")
        assert len(pairs) >= MESSAGES
        assert not violations


def near(calls: list[Call], pair: tuple[Call, Call]) -> list[Call]:
    """Those between the two."""
    return [call for call in calls if pair[0].ended < call.began < pair[1].began]


@pytest.mark.covers("FAULT-F1")
def test_a_large_body_is_synced_before_its_message() -> None:
    address, sink_address = loopback_address(), loopback_address()
    mail = make_mail("large", random.Random(1), 50_000)
    with OutriderServer(relay(address, sink_address)) as server:
        with Strace(server, "-s", "1000", "-e", IN_AND_OUT) as strace:
            send(address, mail.content, mail.recipients[0])
            calls = strace.calls()
        reply = next(call for call in calls if "250 2.0.0 Ok: queued as" in call.text)
        synced = [call.text for call in calls if call.name in SYNCS and call.ended < reply.began]
        last = {
            what: max(i for i, text in enumerate(synced) if re.search(path, text))
            for what, path in (
                ("body", r"/bodies/[0-9a-f]{2}/[^/]+>"),
                ("name", r"/bodies/[0-9a-f]{2}>"),
                ("row", r"spool\.db-wal>"),
            )
        }
        assert last["body"] < last["row"]
        assert last["name"] < last["row"]


@pytest.mark.covers("FAULT-F7")
@pytest.mark.parametrize(
    ("call", "error"),
    [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "EROFS"), ("pwrite64", "ENOSPC")],
)
def test_a_disk_that_fails_is_not_believed(call: str, error: str) -> None:
    address, sink_address = loopback_address(), loopback_address()
    chance = random.Random(2)
    with Sink(sink_address, PORT) as sink, OutriderServer(relay(address, sink_address)) as server:
        spool = server.folder / "data" / "spool" / "1"
        taken = [make_mail("before", chance, 100)]
        assert send(address, taken[0].content, "a-before@far.example").startswith(b"250")
        with Strace(server, *failing(call, error, [spool / "spool.db-wal", spool / "spool.db"])):
            refused = make_mail("while", chance, 100)
            assert try_to_send(address, refused.content, "a-while@far.example").startswith((b"451", b"452"))
            assert server.is_running()
        # The disk is well again: it is noticed without anybody's help.
        wait_until(
            lambda: try_to_send(address, taken[0].content, "b-after@far.example").startswith(b"250"),
            "mail to be taken again",
        )
        ledger.wait_drained(server)
        assert sink.arrived_for("a-before@far.example")
        assert sink.arrived_for("b-after@far.example")
        assert not sink.arrived_for("a-while@far.example")
        assert not server.log_events("internal_failure")
