"""What load is wanted, and what came of it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace

KIB = 1024
MIN_SIZE = 256
"""Octets: the header section alone takes about this much."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of load. Sizes in octets, times in seconds."""

    host: str
    """An IP address; names are looked up before."""
    port: int
    messages: int = 10_000
    sessions: int = 20
    """Connections at once."""
    size: int = 4 * KIB
    """Of the content, header section included."""
    kept: bool = True
    """Each session sends message after message; otherwise each message gets a connection of its own."""
    starttls: bool = False
    amtp: bool = False
    """TLS from the first octet, and MPC= in MAIL."""
    certificate: str = ""
    """PEM file that the client presents under TLS; "" = none."""
    key: str = ""
    """PEM file of its key."""
    mpc: str = "com/individual"
    """The Mail Policy Code, for AMTP."""
    holder: str = ""
    """HOST:PORT of the facility that holds what is announced: each is an envelope of AMDP; "" = mail."""
    mail: bool = True
    """False: connections only; each greets and leaves, and counts when its EHLO is answered 250."""
    source: str = ""
    """Local IP address; "" = the system's choice."""
    pipelining: bool = False
    """MAIL, RCPT and DATA go out together (RFC 2920)."""
    rate: float = 0.0
    """Messages a second that arrive whether or not earlier ones are answered; 0 = as fast as answers come."""
    sender: str = "load@client.example"
    recipient: str = "ann@bench.example"
    helo: str = "client.example"
    stall: float = 60.0
    """So long without a word from the server, and the run ends."""

    def shares(self, processes: int) -> list[Plan]:
        """The same load parted among so many generators; none is left without a session."""
        count = max(1, min(processes, self.sessions, self.messages))
        return [
            replace(
                self,
                messages=_share(self.messages, count, number),
                sessions=_share(self.sessions, count, number),
                rate=self.rate / count,
            )
            for number in range(count)
        ]


def _share(total: int, count: int, number: int) -> int:
    return total // count + (number < total % count)


def no_times() -> array[float]:
    """An empty list of times."""
    return array("d")


@dataclass(slots=True)
class Outcome:
    """What a run gave. Moments are of the machine's monotonic clock, in seconds."""

    began: float = 0.0
    ended: float = 0.0
    """When the last reply came that counts."""
    times: array[float] = field(default_factory=no_times)
    """Of each accepted message, from when it was due to the 250 after its data."""
    failures: dict[str, int] = field(default_factory=dict)
    """What went wrong instead, and how often."""
    cpu: float = 0.0
    """CPU seconds of the generators themselves."""

    @property
    def accepted(self) -> int:
        """Messages answered 250."""
        return len(self.times)

    @property
    def failed(self) -> int:
        """Messages not accepted."""
        return sum(self.failures.values())

    @property
    def rate(self) -> float:
        """Accepted messages a second."""
        return self.accepted / (self.ended - self.began) if self.accepted else 0.0

    def fail(self, what: str, count: int = 1) -> None:
        """Note messages that will not be accepted."""
        self.failures[what] = self.failures.get(what, 0) + count


def merged(outcomes: list[Outcome]) -> Outcome:
    """Those of several generators that ran at the same time, as one."""
    whole = Outcome(
        began=min(one.began for one in outcomes),
        ended=max(one.ended for one in outcomes),
        cpu=sum(one.cpu for one in outcomes),
    )
    for one in outcomes:
        whole.times.extend(one.times)
        for what, count in one.failures.items():
            whole.fail(what, count)
    return whole


def percentile(ordered: array[float] | list[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-share * len(ordered) // 1)  # rounded up
    return ordered[max(0, int(rank) - 1)]
