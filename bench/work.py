"""What is measured: the shapes of load, and what a server must be set up for to take part."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tests.peers.certificates import TlsFiles

KIB = 1024
MIB = 1024 * KIB
DOMAIN = "bench.example"
RECIPIENT = f"ann@{DOMAIN}"
CLIENT_NAME = "client.example"
HOLDER_NAME = f"mhf-1.{CLIENT_NAME}"
HOLDER_PORT = 8443
CONNECT_TIMEOUT_S = 5
"""Of every server towards next hops, so that a round with a dead host is not all waiting."""


class Kind(Enum):
    """What a shape asks of a server."""

    ACCEPT = "accept"
    """Take messages durably; what happens to them then is no part of the figure."""
    RELAY = "relay"
    """Take them and hand them on to another server."""
    DEAD_MX = "dead mx"
    """Hand them on where the first of two next hops never answers."""
    TLS = "tls"
    """Take each message on a connection of its own, with STARTTLS."""
    LATENCY = "latency"
    """Take them at half the rate that it can, and say how long each took."""
    IDLE = "idle"
    """Hold sessions that say nothing."""
    MILLION = "million"
    """Start with a full queue."""
    CLEAR = "clear"
    """Take messages durably in the clear from our own generator: what AMTP is held against."""
    AMTP = "amtp"
    """Take them over kept sessions under mutual TLS, from a host that proves its name."""
    HANDSHAKE = "handshake"
    """Do full handshakes with certificates on both sides, and nothing more."""
    BULK = "bulk"
    """Take messages durably over one connection, as fast as the protocol lets a feed send them."""
    BULK_FAR = "bulk, far"
    """The same through a relay that delays."""
    ENVELOPES = "envelopes"
    """Take envelopes of AMDP, call their holder back, and settle them; or plain mail of the same size."""
    PAGE = "page"
    """Show the retrieval page of a held message."""
    DOWNLOAD = "download"
    """Hand out a large held message."""
    CLUSTER = "cluster"
    """Take messages durably and hand them on, as nodes of one PostgreSQL with a share of the CPU each."""
    SPOOL = "spool"
    """Store and settle messages, as nodes of one PostgreSQL that are nothing but a spool."""


FEEDS = frozenset({Kind.BULK, Kind.BULK_FAR})
"""What only servers that are fed in bulk are measured with."""
HELD = frozenset({Kind.PAGE, Kind.DOWNLOAD})
"""What only a holding facility is measured with."""
OURS_ALONE = frozenset(
    {
        *(Kind.MILLION, Kind.CLEAR, Kind.AMTP, Kind.HANDSHAKE, Kind.ENVELOPES, Kind.CLUSTER),
        Kind.SPOOL,
        *FEEDS,
        *HELD,
    }
)
"""What nobody else is measured with."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of load."""

    name: str
    """What the table calls it."""
    kind: Kind
    sessions: int
    size: int = 4 * KIB
    kept: bool = True
    fewest: int = 100
    """Messages in a measurement, however slow the server."""
    most: int = 60_000
    most_rounds: int = 100
    """For what hardly varies, or takes long."""
    delay_s: float = 0.0
    """Of a relay before the server, each way."""
    node_cores: float = 0.0
    """The share of the CPU that each node of a cluster gets; 1.0 = one core."""
    few: bool = False
    """A shape in which the small programs around a library are left out, for the sake of time."""
    only: tuple[str, ...] = ()
    """Nobody but these servers is measured with it, for the sake of time; () = all that can be."""
    beside: str = ""
    """The name of a shape that it is held against, and takes turns with."""


ONE, TWO, POSTFIX = "Outrider, 1 process", "Outrider, 2 workers", "Postfix"
_CLEAR = "SMTP in the clear, 20 sessions kept, our generator"
_NEAR = "bulk by MT2, relay of 0 ms"

SHAPES = (
    Shape("accept, 1 session kept", Kind.ACCEPT, 1, few=True),
    Shape("accept, 20 sessions kept", Kind.ACCEPT, 20),
    Shape("accept, 100 sessions kept", Kind.ACCEPT, 100),
    Shape("accept, 1,000 sessions kept", Kind.ACCEPT, 1000, fewest=2000, few=True),
    Shape("accept, 1 at a time, new connection each", Kind.ACCEPT, 1, kept=False, few=True),
    Shape("accept, 20 parallel, new connection each", Kind.ACCEPT, 20, kept=False),
    Shape("accept 1 MiB, 1 session kept", Kind.ACCEPT, 1, size=MIB, most=2000, few=True),
    Shape("accept 1 MiB, 10 sessions kept", Kind.ACCEPT, 10, size=MIB, most=2000),
    Shape("accept 1 MiB, 20 sessions kept", Kind.ACCEPT, 20, size=MIB, most=2000, only=(TWO, ONE, POSTFIX)),
    Shape("accept 1 MiB, 100 sessions kept", Kind.ACCEPT, 100, size=MIB, most=2000, only=(TWO, ONE, POSTFIX)),
    Shape("accept 20 MiB, 4 sessions kept", Kind.ACCEPT, 4, size=20 * MIB, fewest=8, most=100, few=True),
    Shape("STARTTLS, 8 parallel, new connection each", Kind.TLS, 8, kept=False, few=True),
    Shape("STARTTLS, 32 parallel, new connection each", Kind.TLS, 32, kept=False),
    Shape("relay, 20 sessions kept", Kind.RELAY, 20),
    Shape("relay, first of two next hops dead", Kind.DEAD_MX, 20, fewest=500, most=3000, most_rounds=3),
    Shape("latency at half load, up to 100 sessions", Kind.LATENCY, 100, fewest=300),
    Shape("1,000 idle sessions", Kind.IDLE, 1000, most_rounds=3),
    Shape(_CLEAR, Kind.CLEAR, 20, beside=_CLEAR),
    Shape("AMTP, 20 sessions kept, our generator", Kind.AMTP, 20, beside=_CLEAR),
    Shape("mutual TLS 1.3 handshakes, one client", Kind.HANDSHAKE, 1, fewest=0, kept=False),
    Shape("bulk, 1 connection, 4 KiB", Kind.BULK, 1, fewest=500, most=30_000),
    Shape(_NEAR, Kind.BULK_FAR, 1, fewest=1000, most=30_000, beside=_NEAR),
    Shape(
        "bulk by MT2, relay of 25 ms each way",
        Kind.BULK_FAR,
        1,
        fewest=1000,
        most=30_000,
        delay_s=0.025,
        beside=_NEAR,
    ),
    Shape("AMDP, envelopes over 20 sessions kept", Kind.ENVELOPES, 20, fewest=200, most=20_000),
    Shape("AMDP, retrieval page", Kind.PAGE, 1, fewest=200, most=2000),
    Shape("AMDP, download of 200 MiB", Kind.DOWNLOAD, 1, size=200 * MIB, fewest=1, most=1, most_rounds=3),
    Shape("cluster, accept and relay, 20 sessions kept a node", Kind.CLUSTER, 20, fewest=300, node_cores=0.2),
    Shape("PostgreSQL spool, 4 KiB, 100 at a time", Kind.SPOOL, 100, fewest=2000, most=6000),
    Shape("PostgreSQL spool, 4 KiB, 20 at a time", Kind.SPOOL, 20, fewest=2000, most=6000),
    Shape("PostgreSQL spool, 4 KiB, one at a time", Kind.SPOOL, 1, fewest=500, most=6000),
    Shape("PostgreSQL spool, 1 MiB in pieces, 10 at a time", Kind.SPOOL, 10, size=MIB, fewest=50, most=600),
    Shape("a million queued, restart", Kind.MILLION, 0, most_rounds=3),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What one server is started for."""

    address: str
    port: int
    connections: int
    """It must be able to hold so many sessions at once."""
    hops: tuple[tuple[str, int], ...] = ()
    """Where all mail goes, in this order; nowhere: it is thrown away, or stays in the queue."""
    tls: TlsFiles | None = None
    bulk_client: str = ""
    """The host that feeds by MT2 and has proven its name; "" = no MT2."""
    amtp_client: str = ""
    """The address from which a client comes that has proven its name (CLIENT_NAME); "" = no AMTP."""
    holder: str = ""
    """The address of a host that sends envelopes of CLIENT_NAME and is called back; "" = no AMDP."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: one server, one shape, one round."""

    shape: str
    subject: str
    round: int
    messages: int
    seconds: float
    """Until the last 250; for relaying, until the last message arrived; for envelopes, until the last is
    settled."""
    cpu_ms: float
    """CPU milliseconds a message of the server's own processes, until its queue was empty."""
    peak_mib: float
    """Largest sum of proportional set sizes seen."""
    extra: dict[str, float] = field(default_factory=dict)
    """What only this kind of shape has: percentiles in ms, moments in s."""
    note: str = ""
    """What a reader must know of this one."""

    @property
    def rate(self) -> float:
        """Messages a second; 0 for shapes without."""
        return self.messages / self.seconds if self.seconds else 0.0
