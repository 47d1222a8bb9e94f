"""Every setting, its type, its default and its meaning: the one place (read by the loader and the reference).

The text after each setting is what `docs/configuration.md` prints. Times are in seconds, sizes in octets.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(ge=0)]
Octets = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]

Protocol = Literal["smtp", "submission", "amtp", "mt2", "qmtp", "lmtp", "http"]
TlsMode = Literal["none", "starttls", "implicit"]
TlsLevel = Literal["none", "opportunistic", "encrypt", "verify", "fingerprint", "mutual", "dane", "mta-sts"]


class Section(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file: unknown keys are refused."""


class Listener(Section, frozen=True):
    """One listening socket."""

    protocol: Protocol
    """What is spoken: smtp (relay and MX), submission (AUTH required), qmtp, lmtp, http (metrics)."""
    address: str = "127.0.0.1"
    """IPv4 or IPv6 address, or `unix:/path` for lmtp and http."""
    port: Port | None = None
    """Default by protocol: smtp 25, submission 587 (465 with implicit TLS), qmtp 209, lmtp 24, http 9464."""
    tls: TlsMode | None = None
    """none, starttls or implicit. Default: starttls for smtp and submission when [tls] names a certificate, else none."""
    hostname: str | None = None
    """The name in the greeting; default the server's hostname."""
    require_tls: bool = False
    """Demand TLS before MAIL. A server that is its domains' exchanger may not (TLS-2): recipients of [domains] are taken without."""
    auth: bool | None = None
    """Offer AUTH (after TLS). Default: yes for submission, no for smtp."""
    request_client_certificate: bool | None = None
    """Ask TLS clients for a certificate. Default: yes for smtp and submission listeners; having none is never an error by itself."""
    proxy_protocol: tuple[str, ...] = ()
    """Networks whose connections begin with a PROXY header (v1 or v2); nobody else's header is believed."""
    max_connections: Count = 1000
    """Connections at once on this listener; more get 421."""


class Spool(Section, frozen=True):
    """Where mail waits."""

    backend: Literal["sqlite", "postgresql"] = "sqlite"
    """sqlite: embedded, files under data_dir. postgresql: shared by several nodes."""
    dsn: str = ""
    """Connection string for postgresql. Never logged."""
    inline_limit: Octets = 131_072
    """Bodies up to this size are kept in the database, larger ones in a file each."""
    reserve: Octets = 64 * 1024 * 1024
    """Free space that must remain on the device; below it MAIL gets 452."""
    keep_finished: Seconds = 7 * 86_400.0
    """How long `outrider explain` still knows a message that has left."""
    lease: Seconds = 300.0
    """How long a delivery may be silent before another node takes it over (postgresql)."""


class Dns(Section, frozen=True):
    """Name resolution."""

    servers: tuple[str, ...] | None = None
    """Resolvers as address or address:port. Default: the system's. [] = no DNS at all."""
    validating: bool = False
    """The resolvers validate DNSSEC and are reached over loopback: their AD bit counts (ITP-2c)."""
    timeout: Seconds = 10.0
    """For one question, all tries together."""


class Certificate(Section, frozen=True):
    """A further certificate, chosen by the name that the client asks for (SNI)."""

    names: tuple[str, ...]
    """Host names; the left-most label may be `*`."""
    certificate: str
    """PEM file: the certificate, then its chain."""
    key: str
    """PEM file of its private key."""


class Tls(Section, frozen=True):
    """Certificates and the CA sets (which are never mixed)."""

    certificate: str | None = None
    """PEM file of this host's certificate and chain; also presented to servers under the policy `mutual`."""
    key: str | None = None
    """PEM file of its private key, readable by the server alone."""
    public_ca: tuple[str, ...] | None = None
    """PEM files of the CAs that anybody may use. Default: the system's store."""
    private_ca: tuple[str, ...] = ()
    """PEM files of CAs for closed groups."""
    sni: tuple[Certificate, ...] = ()
    """Further certificates."""
    reload_interval: Seconds = 60.0
    """How often the files are looked at for change; SIGHUP looks at once."""
    expiry_warning: Seconds = 21 * 86_400.0
    """Warn in log and metrics when a certificate ends within this time."""


class Domain(Section, frozen=True):
    """A domain whose mail ends here."""

    deliver: str | None = None
    """`maildir:PATH`, `lmtp:HOST:PORT`, `lmtp:unix:/path`, `pipe:COMMAND ARG ...`, `discard:`; {user}, {domain}, {detail}, {address} are replaced."""
    users: tuple[str, ...] | str = "*"
    """Local parts, `*` for any, or a file (one per line, `#` comments)."""
    aliases: dict[str, tuple[str, ...] | str] | str = field(default_factory=dict)
    """Local part to one or more addresses; or a file of `name: address, address` lines."""
    catch_all: str | None = None
    """Who gets mail for unknown users; default: unknown users are refused at RCPT."""
    separator: str = "+"
    """What parts user and detail in ann+shop@example; "" = nothing does."""
    domain_alias_of: str | None = None
    """This domain is another name for that one."""


class Relay(Section, frozen=True):
    """Who may send to domains that are not ours."""

    networks: tuple[str, ...] = ()
    """Networks that may relay without AUTH."""
    domains: tuple[str, ...] = ()
    """Domains for which anybody's mail is taken and passed on (backup MX)."""
    certificate_names: tuple[str, ...] = ()
    """DNS names: a client whose certificate a configured CA vouches for under such a name may relay (TLS-2b)."""
    certificate_fingerprints: tuple[str, ...] = ()
    """SHA-256 of certificates or public keys whose holders may relay (TLS-2b)."""
    require_tls_from: tuple[str, ...] = ()
    """Networks with which TLS is agreed: from them TLS is demanded even for our own domains (TLS-2b)."""


class Net(Section, frozen=True):
    """Where connections may go to."""

    private_destinations: tuple[str, ...] = ()
    """Loopback and private networks that mail and call-backs may go to. Default none (SMTP-7)."""
    source_address: str = ""
    """Local IPv4 address for outgoing connections."""
    source_address6: str = ""
    """Local IPv6 address for outgoing connections."""
    ipv6: bool = True
    """Use IPv6 for outgoing connections."""
    smtp_port: Port = 25
    """Port for hosts found by MX."""
    qmtp_port: Port = 209
    """Port for hosts found by MXPS."""


class Route(Section, frozen=True):
    """A way to a destination, where a plain string is not enough."""

    to: str
    """`smtp:HOST`, `smtp:[ADDRESS]:PORT`, `submission:...`, `smtps:...`, `lmtp:...`, `qmtp:...`, `mx` (ordinary MX routing), `pipe:`, `maildir:`, `discard:`, `error:5.1.1 text`."""
    tls: TlsLevel | None = None
    """TLS policy for this way; default [delivery] tls."""
    tls_name: str = ""
    """Name to find in the server's certificate instead of the host's."""
    fingerprints: tuple[str, ...] = ()
    """For tls = fingerprint: SHA-256 of certificate or public key."""
    username: str = ""
    """For AUTH at a smart host; sent only under TLS."""
    password_file: str = ""
    """File with the password in its first line."""
    certificate: str = ""
    """Client certificate for this way; default [tls]."""
    key: str = ""
    """Its key."""
    concurrency: Count = 0
    """Connections at once; 0 = [delivery] concurrency."""
    rate: float = 0.0
    """Messages a second; 0 = no limit."""


class Delivery(Section, frozen=True):
    """Sending."""

    tls: TlsLevel = "opportunistic"
    """TLS policy for destinations without one of their own."""
    concurrency: Count = 20
    """Connections at once to one destination."""
    total: Count = 500
    """Deliveries at once."""
    retry: tuple[Seconds, ...] = (60, 300, 900, 1800, 3600, 7200, 14400)
    """Waits before each next attempt; the last repeats. Each is varied by the jitter."""
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Share of each wait that chance may add or take."""
    max_age: Seconds = 5 * 86_400.0
    """How long a message is tried before it is returned."""
    bounce_max_age: Seconds = 5 * 86_400.0
    """The same for bounces; then they go to postmaster."""
    delay_warning: Seconds = 4 * 3600.0
    """When the sender is told that it takes long; 0 = never."""
    connect_timeout: Seconds = 30.0
    """For one TCP connection."""
    command_timeout: Seconds = 300.0
    """For a reply to a command (RFC 5321 4.5.3.2)."""
    data_timeout: Seconds = 600.0
    """For the reply after the data."""
    idle_reuse: Seconds = 5.0
    """How long a connection is kept for the next message to the same place."""
    messages_per_connection: Count = 100
    """Then a new connection is made."""
    recipients_per_message: Count = 100
    """More recipients go in further transactions."""
    poison_after: Count = 3
    """A message under which the server has died this often is held."""
    pipe_user: str = ""
    """The account pipes run as; required for pipes when the server is root."""
    pipe_timeout: Seconds = 300.0
    """Then the command is ended and the mail deferred."""
    postmaster: str = ""
    """Who gets double bounces; default postmaster@hostname."""
    bounce_full_limit: Octets = 51_200
    """Larger originals are returned as headers only."""
    long_lines: Literal["encode", "bounce"] = "encode"
    """Lines over 998 octets when sending: encode unsigned content anew, bounce signed; or bounce all."""


class Limits(Section, frozen=True):
    """What one client may do (SMTP-9)."""

    message_size: Octets = 52_428_800
    """Largest message taken (SIZE)."""
    header_size: Octets = 262_144
    """Largest header section."""
    line_length: Octets = 4096
    """Longest command line."""
    recipients: Count = 1000
    """Recipients of one message; more get 452."""
    hops: Count = 50
    """Received fields; more is a loop (5.4.6)."""
    errors: Count = 20
    """Refused or unknown commands in a session before 421."""
    junk_commands: Count = 100
    """NOOP, RSET, VRFY, HELP without a message between them."""
    messages_per_session: Count = 10_000
    """Messages on one connection before 421."""
    command_timeout: Seconds = 300.0
    """For the next command to arrive whole."""
    data_timeout: Seconds = 300.0
    """For the next part of the data."""
    min_data_rate: Octets = 500
    """Octets a second, over the whole message, below which the data deadline is not extended."""
    session_time: Seconds = 7200.0
    """For a whole session."""
    handshake_timeout: Seconds = 30.0
    """For a TLS handshake."""
    connections: Count = 2000
    """Connections at once, all listeners."""
    connections_per_address: Count = 100
    """From one IPv4 address or IPv6 /64; networks of [relay] are exempt."""
    stress_at: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """Share of `connections` from which stress behaviour applies: time-outs of 10 s, one error ends a session."""
    memory: Octets = 1_073_741_824
    """Resident memory above which MAIL gets 452."""


class Auth(Section, frozen=True):
    """Logins for submission."""

    users_file: str = ""
    """Made by `outrider user`: argon2id and SCRAM verifiers, no passwords."""
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN", "LOGIN")
    """Offered, in this order; -PLUS and EXTERNAL only where they can work, PLAIN and LOGIN only under TLS."""
    failures_per_address: Count = 10
    """Failed logins from one address within `failure_window` before it must wait."""
    failures_per_user: Count = 30
    """Failed logins for one name from strangers within the window; addresses that logged in before are not affected."""
    failure_window: Seconds = 600.0
    """Of memory for failures."""
    restrict_sender: bool = True
    """A login may use only its own sender addresses (553)."""


class Rule(Section, frozen=True):
    """One rule of the policy; the first that decides at a stage wins, tags go on."""

    name: str
    """Named in reply, log and explain."""
    action: Literal["accept", "refuse", "defer", "hold", "tag", "route"]
    """What happens."""
    stage: Literal["connect", "hello", "sender", "recipient", "headers", "body"] | None = None
    """When it is asked; default: as early as its facts are known."""
    when: dict[str, object] = field(default_factory=dict)
    """Fact name to condition; all must hold. See "Policy" in the operator's guide."""
    unless: dict[str, object] = field(default_factory=dict)
    """The same; the rule does not apply when all hold."""
    reason: str = ""
    """The sentence in reply, log and explain."""
    reply: str = ""
    """For refuse and defer: `550 5.7.1`; default by action."""
    value: str = ""
    """For tag: `Field-Name: text` put on top, or a label. For route: the way, as in [routes]."""


class Policy(Section, frozen=True):
    """What is wanted."""

    rules: tuple[Rule, ...] = ()
    """In order."""


class Log(Section, frozen=True):
    """Records of what happened."""

    format: Literal["json", "text"] = "json"
    """One object a line, or one readable line."""
    file: str = ""
    """Default: standard error."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious kind that is written."""


class Config(Section, frozen=True):
    """A whole `outrider.toml`."""

    hostname: str
    """Full name of this host: greeting, HELO, Received."""
    data_dir: str
    """Spool, keys, state; made if missing, 0700."""
    workers: Annotated[int, Meta(ge=0, le=64)] = 1
    """Processes that serve, each with a spool of its own under data_dir (sqlite); 0 = one per core."""
    user: str = ""
    """Account to run as once the sockets are open, when started as root."""
    event_loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """auto: uvloop when installed."""
    listeners: tuple[Listener, ...] = ()
    """At least one."""
    spool: Spool = field(default_factory=Spool)
    """Where mail waits."""
    dns: Dns = field(default_factory=Dns)
    """Name resolution."""
    tls: Tls = field(default_factory=Tls)
    """Certificates and CA sets."""
    domains: dict[str, Domain] = field(default_factory=dict)
    """Domains whose mail ends here, by name."""
    relay: Relay = field(default_factory=Relay)
    """Who may send elsewhere."""
    net: Net = field(default_factory=Net)
    """Where connections may go."""
    routes: dict[str, str | Route] = field(default_factory=dict)
    """Ways to domains, by domain, `.domain` for its subdomains, or `*` for all others (smart host)."""
    delivery: Delivery = field(default_factory=Delivery)
    """Sending."""
    limits: Limits = field(default_factory=Limits)
    """What one client may do."""
    auth: Auth = field(default_factory=Auth)
    """Logins."""
    policy: Policy = field(default_factory=Policy)
    """Rules."""
    log: Log = field(default_factory=Log)
    """Records."""
