"""What became of the mail of a run: the client's memory against the next hop's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.faults.load import Load, is_whole
from tests.faults.sink import Sink


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the mail of a run."""

    acknowledged: int
    lost: list[str]
    truncated: list[str]
    duplicates: int
    bounces_lost: list[str]


def account_of(load: Load, sink: Sink) -> Account:
    """Compare what was acknowledged with what arrived."""
    arrivals = Counter(
        (name, arrival.field(b"X-Token").decode()) for arrival in sink.arrivals for name in arrival.recipients
    )
    messages = Counter(token for name, token in arrivals.elements() if name.startswith("a-"))
    bounced = {name for arrival in sink.arrivals if not arrival.sender for name in arrival.recipients}
    wanted = [(name, mail) for mail in load.acknowledged.values() for name in mail.recipients]
    return Account(
        acknowledged=len(load.acknowledged),
        lost=[name for name, mail in wanted if "refused" not in name and not arrivals[name, mail.token]],
        truncated=[
            a.field(b"X-Token").decode() for a in sink.arrivals if a.sender and not is_whole(a.content)
        ],
        duplicates=sum(count - 1 for count in messages.values()),
        bounces_lost=[
            mail.sender for name, mail in wanted if "refused" in name and mail.sender not in bounced
        ],
    )
