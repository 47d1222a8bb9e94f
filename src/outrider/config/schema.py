"""Every setting, its type, its default and its meaning: the one place (read by the loader and the reference).

The text after each setting is what `docs/configuration.md` prints. Times are in seconds, sizes in octets.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from outrider.config.amdp_schema import Amdp
from outrider.config.setting_types import Count, Octets, Port, Seconds, Section

Protocol = Literal["smtp", "submission", "amtp", "mt2", "qmtp", "lmtp", "amdp", "http"]
TlsMode = Literal["none", "starttls", "implicit"]
InboundChannel = Literal["any", "tls", "tls-mutual", "amtp", "mt2"]
OutboundChannel = Literal["any", "encrypt", "verify", "mutual", "amtp", "mt2"]
SendingProtocol = Literal["mt2", "amtp", "smtp"]
TrustKind = Literal[
    "block-file",
    "vouch-file",
    "dnsbl",
    "dnswl",
    "rhsbl",
    "rhswl",
    "vbr",
    "issuer",
    "block-broker",
    "vouch-broker",
]
TlsLevel = Literal["none", "opportunistic", "encrypt", "verify", "fingerprint", "mutual", "dane", "mta-sts"]


class Listener(Section, frozen=True):
    """One listening socket."""

    protocol: Protocol
    """What is spoken: smtp (relay and MX), submission (AUTH required), amtp, mt2, qmtp, lmtp, amdp (the HTTPS of its services), http (metrics)."""
    address: str = "127.0.0.1"
    """IPv4 or IPv6 address, or `unix:/path` for lmtp and http."""
    port: Port | None = None
    """Default by protocol: smtp 25, submission 587 (465 with implicit TLS), amtp as in [amtp], mt2 as in [mt2], qmtp 209, lmtp 24, amdp as in [amdp], http 9464."""
    tls: TlsMode | None = None
    """none, starttls or implicit. Default: implicit for amtp, mt2 and amdp, starttls for smtp and submission when [tls] names a certificate, else none. For mt2 starttls is its TLS option, and none is for loopback and private links: no identity is proven there by a key (MT2-9)."""
    hostname: str | None = None
    """The name in the greeting; default the server's hostname."""
    require_tls: bool = False
    """Demand TLS before MAIL. A server that is its domains' exchanger may not (TLS-2): recipients of [domains] are taken without."""
    auth: bool | None = None
    """Offer AUTH (after TLS). Default: yes for submission, no for smtp; for amtp see private_auth in [amtp]."""
    request_client_certificate: bool | None = None
    """Ask TLS clients for a certificate. Default: yes for smtp and submission listeners; having none is never an error by itself."""
    private: bool = False
    """amtp: take private connections only, from clients of a private CA; then any port will do."""
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
    crl: tuple[str, ...] = ()
    """Files of certificate revocation lists (PEM or DER); a certificate they name proves nothing."""
    sni: tuple[Certificate, ...] = ()
    """Further certificates."""
    reload_interval: Seconds = 60.0
    """How often the files are looked at for change; SIGHUP looks at once."""
    expiry_warning: Seconds = 21 * 86_400.0
    """Warn in log and metrics when a certificate ends within this time."""


class MailingList(Section, frozen=True):
    """A mailing list `NAME@DOMAIN`; beside it are NAME-subscribe, -unsubscribe, -request, -owner and -bounces."""

    owners: tuple[str, ...]
    """Who gets what is sent to NAME-owner, and is told of members that were suspended."""
    description: str = ""
    """One line, for List-Id and the answers."""
    mpc: str = "ngo/confirmed"
    """What its mail is sent as: of class optin, optout, confirmed or customer (AMTP-16)."""
    posting: Literal["members", "anyone", "moderators"] = "members"
    """Whose mail is taken, by envelope sender; all other is refused at RCPT."""
    moderators: tuple[str, ...] = ()
    """Who approve posts that wait. Their own never wait when they logged in or came by a private AMTP connection."""
    moderated: bool = False
    """Posts are held until a moderator approves. With posting = moderators this is so for unproven ones in any case."""
    subscription: Literal["confirmed", "closed"] = "confirmed"
    """confirmed: by mail, with a confirmation. closed: only by `outrider list subscribe`."""
    max_size: Octets = 1_048_576
    """Largest post."""
    suspend_after: Count = 5
    """Days with a bounce, within `bounce_memory`, after which a member gets no more; 0 = never."""
    bounce_memory: Seconds = 21 * 86_400.0
    """After so long a bounce is forgotten."""


class Vacation(Section, frozen=True):
    """Answers for users who are away (RFC 3834); what they say is set by `outrider vacation set`."""

    role: str = "net"
    """Role of the answers' code (`net/autoresponse`) for users to whom [mpc] accounts binds none (AMTP-17)."""
    interval: Seconds = 7 * 86_400.0
    """How long the same sender gets no second answer."""


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
    lists: dict[str, MailingList] = field(default_factory=dict)
    """Mailing lists by local part."""
    vacation: Vacation | None = None
    """Lets users of `deliver` = maildir: or pipe: have mail answered while they are away."""


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
    amdp_port: Port = 443
    """Port of other domains' AMDP information services; another one only where all agree on it."""


class Route(Section, frozen=True):
    """A way to a destination, where a plain string is not enough."""

    to: str
    """`amtp:HOST[:PORT]` (a private connection), `mt2:HOST[:PORT]`, `smtp:HOST`, `smtp:[ADDRESS]:PORT`, `submission:...`, `smtps:...`, `lmtp:...`, `qmtp:...`, `mx` (by the domain's own SRV and MX records), `pipe:`, `maildir:`, `discard:`, `error:5.1.1 text`."""
    tls: TlsLevel | None = None
    """TLS policy for this way; default [delivery] tls."""
    protocols: tuple[SendingProtocol, ...] | None = None
    """For `mx`: default [delivery] protocols. `["amtp"]` or `["mt2"]` alone: mail waits rather than goes otherwise."""
    fallback: Literal["smtp", "never"] | None = None
    """For `mx`: whether the next protocol may be used where no server of the first can be reached; default fallback in [amtp] and [mt2]."""
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
    protocols: tuple[SendingProtocol, ...] = ("mt2", "amtp", "smtp")
    """In which order protocols are tried for domains without a route: the first whose servers the domain publishes.
    `mt2` and `amtp` need a certificate of ours ([mt2], [tls]); `amtp` carries only mail that has a Mail Policy Code.
    QMTP belongs to `smtp`: MX preferences announce it."""
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


class RuleFile(Section, frozen=True):
    """A file of `[policy] include`."""

    rules: tuple[Rule, ...] = ()
    """In order."""


class Policy(Section, frozen=True):
    """What is wanted."""

    rules: tuple[Rule, ...] = ()
    """In order."""
    include: tuple[str, ...] = ()
    """Further files of `[[rules]]`, read after `rules`, in this order; an include may not include others."""


class Amtp(Section, frozen=True):
    """AMTP: mail under mutual TLS, between hosts that prove their names."""

    port: Port = 10125
    """The port of public connections. None was ever assigned; SRV records name it to others (AMTP-6)."""
    forward_confirm: bool = True
    """A client's PTR name must also lead forward to its address (AMTP-2a)."""
    common_name: bool = False
    """Under a private CA, a subject's common name counts where there is no dNSName (AMTP-2a)."""
    require_client_purpose: bool = False
    """Certificates of private CAs must have the clientAuth purpose (AMTP-2b)."""
    private_fingerprints: tuple[str, ...] = ()
    """SHA-256 of self-signed certificates or their keys that count as private connections (AMTP-19)."""
    private_auth: Literal["required", "offered", "none"] = "required"
    """AUTH on private connections."""
    private_auth_match: bool = True
    """The login must be one that the certificate names (AMTP-19)."""
    fallback: Literal["smtp", "never"] = "smtp"
    """Where a domain speaks AMTP and none of its hosts can be reached (AMTP-8); a route's or a partner's own
    word goes first."""
    seen_for: Seconds = 30 * 86_400.0
    """How long a domain is remembered to speak AMTP, so that DNS that fails is not taken for absence (AMTP-7)."""


class Mt2Identity(Section, frozen=True):
    """The user certificate of an address of ours (rfc822Name, emailProtection)."""

    certificate: str
    """PEM file: the certificate, then its chain."""
    key: str
    """PEM file of its private key (EC P-256, Ed25519 or RSA), readable by the server alone."""


class Mt2Extensions(Section, frozen=True):
    """MT2 extensions (MT2-20). What `outrider extension` has been told goes before what stands here."""

    enabled: tuple[str, ...] = ()
    """Names of those that are on from the start, beside those that are so by themselves; `outrider extension list`
    shows what is installed."""
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    """By name: what it is set up with."""


class Mt2Validation(Section, frozen=True):
    """Whose certificates are believed where no CA of [tls] issued them (MT2-24b, c)."""

    delegation: tuple[Literal["ldap", "dns"], ...] = ()
    """Where the CA certificate of an unknown issuer is looked up, under the issuer's own domain, in this order:
    ldap (FIRS), dns (CERT and TLSA, DNSSEC-secure only). None = such certificates prove nothing."""
    trusted_ca: tuple[str, ...] = ()
    """PEM files of CAs whose word on more than host names and addresses (a person's name) is believed."""
    interior_gateways: tuple[str, ...] = ()
    """Hosts whose word on the identities that they have proven is believed (MT2-24c)."""
    unsigned: Literal["proven", "claimed", "refuse"] = "proven"
    """What names are worth whose CA came by unsigned LDAP over unsigned DNS: who can forge DNS answers to this
    server can forge these too."""
    timeout: Annotated[float, Meta(gt=0, le=30, title="seconds")] = 5.0
    """For one look-up, referrals included."""
    cache: Seconds = 3600.0
    """How long a CA certificate found so is remembered, at the most. One that no longer fits is asked for again
    at once, if it is older than a minute (MT2-25)."""
    negative_cache: Seconds = 300.0
    """How long it is remembered that there was none."""
    lookups_per_minute: Annotated[int, Meta(ge=1)] = 10
    """Look-ups that one client address may cause; what is remembered costs none."""


class Mt2(Section, frozen=True):
    """MT2: mail as sealed objects, in asynchronous sessions between hosts that prove their names."""

    port: Port = 10126
    """None was ever assigned; SRV records name it to others (MT2-27)."""
    certificate: str | None = None
    """PEM file of the certificate (with its chain) that proves this host in HELO and seals its mail; default
    [tls] certificate."""
    key: str | None = None
    """Its private key; default [tls] key."""
    identities: dict[str, Mt2Identity] = field(default_factory=dict)
    """User certificates by address. Mail that such a user has submitted with a login is sealed with it; all other
    mail is sealed by this host, with what is known of its sender (MT2-28c)."""
    process: str = ""
    """The address of `identities` that seals reports, errors and control messages (`process@example`);
    default: the host's certificate."""
    fallback: Literal["smtp", "never"] = "smtp"
    """Whether the next protocol is used where a domain speaks MT2 and none of its hosts can be reached (ITP-7); a
    route's or a partner's own word goes first."""
    seen_for: Seconds = 30 * 86_400.0
    """How long a domain is remembered to speak MT2, so that DNS that fails is not taken for absence."""
    window: Octets = 16_777_216
    """Octets granted to a peer and not yet answered, per connection (MT2-18c)."""
    max_part: Octets = 1_048_576
    """Largest fragment; at most `window`."""
    in_flight: Annotated[int, Meta(ge=1, le=30_000)] = 3072
    """Requests outstanding on one connection; a message has three."""
    pipe: tuple[str, ...] = ()
    """Proven names (and `.domains`) of hosts that may pipeline, beside partners' hosts; `*` = every proven host
    (MT2-18d)."""
    parallel: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    """Messages under way at once on one connection of ours, where the peer grants PIPE."""
    keep_open: Seconds = 60.0
    """How long a connection of ours is kept for the next message; see MT2-18d, nailed-up connections."""
    full_duplex: bool = True
    """Our own mail goes back on a connection that the peer has opened, where routing would choose it
    (MT2-18e)."""
    idle_timeout: Seconds = 300.0
    """Silence after which NOOP is sent, and then the connection closed (MT2-12)."""
    resume_for: Seconds = 3 * 3600.0
    """How long partly received objects are kept, at least an hour (MT2-18b)."""
    partial_space: Octets = 1_073_741_824
    """Octets of partly received objects kept in all; the oldest go first."""
    remember_for: Seconds = 8 * 86_400.0
    """How long a transfer is known to have been taken, so that a repeat is not taken again; longer than the
    sender's queue life (MT2-18a)."""
    verify_seals: bool = True
    """Verify the seals of mail that comes in; rules use what is found (MT2-23a)."""
    hidden_part: bool = True
    """Mail that came by MT2 and leaves by SMTP takes its objects with it (MT2-28b); mailboxes keep them too
    (MT2-29). Not where the envelope names somebody, beside the one recipient, whom To and Cc do not name: that would
    show a blind copy."""
    encrypt_headers: dict[str, str] = field(default_factory=dict)
    """Address or domain to the PEM file of the certificate that its headers are encrypted for (MT2-4), for mail of
    our own."""
    extension_routes: dict[str, str] = field(default_factory=dict)
    """Ways for messages with a delivery extension, by its OID: `mt2:HOST[:PORT]`; before all other routes but a
    recipient's own (MT2-27)."""
    extensions: Mt2Extensions = field(default_factory=Mt2Extensions)
    """Extensions."""
    validation: Mt2Validation = field(default_factory=Mt2Validation)
    """Certificates of unknown CAs."""


class MpcAssignment(Section, frozen=True):
    """A code for mail that comes without one, where all that is named holds."""

    value: str
    """The code, like net/individual."""
    networks: tuple[str, ...] = ()
    """Clients' networks."""
    listeners: tuple[str, ...] = ()
    """Protocols of listeners: smtp, submission, qmtp, lmtp."""
    sender_domains: tuple[str, ...] = ()
    """Domains of the envelope sender."""


class MpcCodes(Section, frozen=True):
    """Mail Policy Codes. Which are wanted is said by policy rules on the fact `mpc`; EHLO announces it."""

    accounts: dict[str, str] = field(default_factory=dict)
    """Login or sender address to the one code that it submits with (AMTP-15)."""
    assigned: tuple[MpcAssignment, ...] = ()
    """Codes for mail that comes by other protocols without one; the first that fits. Else it has none, and is
    not sent on by AMTP."""
    field_from: tuple[str, ...] = ()
    """Networks of SMTP peers whose MPC field is believed and moved into the envelope (AMTP-14)."""


class Partner(Section, frozen=True):
    """A site with which terms are agreed; made by `outrider partner accept`."""

    sender_domains: tuple[str, ...] = ()
    """Domains that its hosts may send for, and only they over the channel that `inbound` demands (ITP-8)."""
    hosts: tuple[str, ...] = ()
    """Names of its hosts, as in their certificates."""
    ca: tuple[str, ...] = ()
    """PEM files of the CAs that may vouch for its hosts; none = any configured CA."""
    inbound: InboundChannel = "any"
    """The least that its mail must come by."""
    inbound_mode: Literal["report", "refuse", "hold"] = "report"
    """What happens to mail that comes by less."""
    outbound: OutboundChannel = "any"
    """The least that mail to it must go by."""
    fallback: Literal["smtp", "never"] | None = None
    """See fallback in [amtp] and [mt2]."""
    contact: str = ""
    """Whom to tell when it does not work."""


class TrustList(Section, frozen=True):
    """A list of hosts or domains that somebody keeps."""

    kind: TrustKind
    """What it lists and which way it counts. dnsbl, dnswl: clients' addresses; rhsbl, rhswl: domains of senders and proven names of hosts; vbr: domains that a vouching service vouches for (RFC 5518); issuer: domains of certificates' issuers, to block; the files and the brokers, which are plug-ins: any of these."""
    source: str
    """The list's DNS zone; for the files, and for issuer when there is a `/` in it, a path; for a broker the name of its entry point in the group `outrider.trust`."""
    options: dict[str, object] = field(default_factory=dict)
    """For a broker: what it is called with."""
    weight: Annotated[int, Meta(ge=0, le=1000)] = 1
    """What a hit adds to `trust.score` (block) or takes from it (vouch)."""
    codes: tuple[str, ...] = ()
    """DNS lists: answers that count, like 127.0.0.2 or 127.0.0.0/24; default all of 127.0.0.0/8 but 127.0.0.1 and 127.255.0.0/16. vbr: types of mail that count beside `all`, like transaction."""
    timeout: Annotated[float, Meta(gt=0, le=30, title="seconds")] = 3.0
    """Then it says nothing."""


class Trust(Section, frozen=True):
    """Who is believed. What lists say becomes facts (`trust.score`, `trust.vouched`, `trust.listed`) for policy rules."""

    lists: dict[str, TrustList] = field(default_factory=dict)
    """By a name of our own, which facts, log and metrics use."""
    cache: Seconds = 900.0
    """How long an answer is remembered at most."""


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
    """Ways to domains, by domain, `.domain` for its subdomains, or `*` for all others (smart host); and to single
    recipients, by address: `ann@example`, which goes before her domain's (MT2-27)."""
    delivery: Delivery = field(default_factory=Delivery)
    """Sending."""
    limits: Limits = field(default_factory=Limits)
    """What one client may do."""
    auth: Auth = field(default_factory=Auth)
    """Logins."""
    policy: Policy = field(default_factory=Policy)
    """Rules."""
    amtp: Amtp = field(default_factory=Amtp)
    """AMTP."""
    mt2: Mt2 = field(default_factory=Mt2)
    """MT2."""
    amdp: Amdp = field(default_factory=Amdp)
    """AMDP."""
    mpc: MpcCodes = field(default_factory=MpcCodes)
    """Mail Policy Codes."""
    partners: dict[str, Partner] = field(default_factory=dict)
    """Sites with which terms are agreed, by name."""
    partner_folder: str = ""
    """Folder of further partners, one file NAME.toml each with the keys of `[partners."NAME"]`; default `partners` beside the configuration, if there."""
    trust: Trust = field(default_factory=Trust)
    """Lists of others."""
    log: Log = field(default_factory=Log)
    """Records."""
