"""What became of the mail of a run: the client's memory against the next hop's, and against the ledger."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from tests.faults import ledger
from tests.faults.load import Load, Sent, is_whole
from tests.faults.sink import Arrival, Sink
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

CONCURRENCY = 8
"""Deliveries to a destination at a time, as `sites.relay` has it: so many may be repeated after a crash."""


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the mail of a run."""

    acknowledged: int
    lost: list[str]
    truncated: list[str]
    duplicates: int
    bounces_lost: list[str]

    def figures(self, rounds: int) -> dict[str, int]:
        """As they are published."""
        return {
            "rounds": rounds,
            "acknowledged": self.acknowledged,
            "lost": len(self.lost) + len(self.bounces_lost),
            "truncated": len(self.truncated),
            "duplicates": self.duplicates,
        }


def account_of(load: Load, sink: Sink) -> Account:
    """Compare what was acknowledged with what arrived."""
    mail = [(one.field(b"X-Token").decode(), one) for one in sink.arrivals if one.sender]
    arrivals = Counter((name, token) for token, arrival in mail for name in arrival.recipients)
    messages = Counter(token for name, token in arrivals.elements() if name.startswith("a-"))
    bounced = {name for arrival in sink.arrivals if not arrival.sender for name in arrival.recipients}
    wanted = [(name, sent) for sent in load.acknowledged.values() for name in sent.recipients]
    return Account(
        acknowledged=len(load.acknowledged),
        lost=[name for name, sent in wanted if "refused" not in name and not arrivals[name, sent.token]],
        truncated=[token for token, arrival in mail if not is_as_sent(arrival, load.acknowledged.get(token))],
        duplicates=sum(count - 1 for count in messages.values()),
        bounces_lost=[
            sent.sender for name, sent in wanted if "refused" in name and sent.sender not in bounced
        ],
    )


def is_as_sent(arrival: Arrival, sent: Sent | None) -> bool:
    """Whether it is whole, and the one that was sent by its name; None: it was never acknowledged."""
    whole = arrival.is_proven or is_whole(arrival.content)
    return whole and (sent is None or arrival.field(b"X-Digest").decode() == sent.digest)


def drained(server: OutriderServer, patience_s: float = 120) -> None:
    """Wait until nothing waits, as an impatient postmaster does: what was put off because a way seemed dead
    is tried at once, and when nothing moves, what looks like poison since it was under way in several crashes
    is released."""
    server.cli("queue", "retry", "--all", check=False)
    moved_at = time.monotonic()
    before: tuple[int, int, int] = (0, 0, 0)

    def is_empty() -> bool:
        nonlocal moved_at, before
        counts = ledger.counts(server)
        now = (counts["ready"], counts["active"], counts["held"])
        if now != before:
            moved_at, before = time.monotonic(), now
        elif time.monotonic() > moved_at + 2:
            # Some may be under way by the time the command names them: it may fail.
            server.cli("queue", "retry", "--all", check=False)
            server.cli("queue", "release", "--all", check=False)
            moved_at = time.monotonic()
        return sum(now) == 0

    wait_until(is_empty, f"the queue of {server.title} to empty", patience_s)


def check_account(
    server: OutriderServer, load: Load, sink: Sink, rounds: int, concurrency: int = CONCURRENCY
) -> Account:
    """Nothing lost, nothing cut, and what came twice was under way in one of the crashes; and the ledger
    has every recipient in the state that it should be in (FAULT-F14)."""
    # Suspects, which every crash makes of all that was leased, are delivered one at a time.
    drained(server, 120 + 5 * rounds)
    account = account_of(load, sink)
    assert account.acknowledged >= rounds
    assert not account.lost
    assert not account.truncated
    assert not account.bounces_lost
    assert account.duplicates <= rounds * concurrency  # each at most what was between delivery and record
    check_ledger(server, load)
    assert server.log_events("internal_failure") == []
    return account


def check_ledger(server: OutriderServer, load: Load) -> None:
    """Each recipient of each acknowledged message is once in the ledger, and in its final state."""
    wanted = Counter(
        (name, "failed" if "refused" in name else "relayed")
        for mail in load.acknowledged.values()
        for name in mail.recipients
    )
    assert ledger.recipient_states(server, load.ids.values()) == wanted
