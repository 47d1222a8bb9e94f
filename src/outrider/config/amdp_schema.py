"""The settings of AMDP, read by the same loader and printed by the same reference as all others.

Times are in seconds, sizes in octets.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from outrider.config.setting_types import Count, Octets, Percent, Port, Seconds, Section

AmdpRole = Literal["omg", "mhf", "mis", "img", "subscriptions", "classification"]


class AmdpOutgoing(Section, frozen=True):
    """The outgoing gateway: what users submit (AMDP-1)."""

    facility: str = ""
    """`HOST[:PORT]` of a holding facility that is another server, port 25 if none is named; default this server."""
    hold: Literal["routed", "bulk", "all"] = "routed"
    """Which mail to other sites is held here until it is asked for: what a route `amdp` or a rule's route says;
    beside it mail with several recipients or a Precedence of bulk or list; or all."""
    hold_above: Octets = 0
    """Mail larger than this is held too, whatever `hold` says; 0 = size is no reason."""
    classes: dict[str, str] = field(default_factory=dict)
    """Account, sender address or domain to the two first parts of its class, like `Agent::Business`; the user says the
    message type with a field `AMDP-Message-Type` (AMDP-17). Longest match first: address, account, domain, `*`.
    Example: `{ "*" = "Direct::Business", "news@example.org" = "Public::Bulk" }`. Whom nothing fits is
    `Public::Personal`."""
    message_type: str = "message"
    """The message type (one word, the last part of the class) of mail whose sender named none."""
    max_size: Octets = 0
    """Largest message that an account may hand in; 0 = [limits] message_size."""
    messages_per_hour: Count = 0
    """Messages that one account may hand in within an hour; more is refused with the time to wait. 0 = no limit."""
    hold_for_review: tuple[str, ...] = ()
    """Accounts whose mail waits for the operator (`outrider queue release`)."""
    scanner: str = ""
    """Command (absolute path, arguments) that reads each submission on standard input; exit 1 refuses it with the
    first line that it prints. Default none."""
    foreign_from: Literal["refuse", "correct"] = "refuse"
    """What happens to a From that is not an address of the account."""


class AmdpHolding(Section, frozen=True):
    """The mail holding facility (AMDP-2)."""

    names: dict[str, str] = field(default_factory=dict)
    """Sender domain to the name this facility has in it, `mhf-1.DOMAIN` to `mhf-16.DOMAIN` (any, with an `id`); default
    `mhf-1.DOMAIN`. Example: `{ "customer.example" = "mhf-2.customer.example" }`."""
    id: str = ""
    """AMDP-MHF-Id, by which the domain's information service knows a facility whose address it confirms
    (dynamic authentication, AMDP-8); default none."""
    networks: tuple[str, ...] = ()
    """Networks from which facilities with this id send: the information service confirms these addresses, beside
    those of this server's own listeners and [net] source addresses."""
    gateways: tuple[str, ...] = ()
    """Networks of the outgoing gateways whose mail is taken to be held; nobody else's is."""
    keep: Seconds = 14 * 86_400.0
    """How long a message is held; the sender may ask for another time, up to `max_keep`, with `AMDP-Expire-On`."""
    max_keep: Seconds = 60 * 86_400.0
    """The longest that `outrider held extend` and senders may ask for."""
    space: Octets = 0
    """Octets that are held in all; more is deferred. 0 = as [spool] reserve leaves."""
    unauthenticated: bool = True
    """SMTP-only receivers get an envelope with a link that opens the message (AMDP-5a); false = the whole message."""
    hook: str = ""
    """Command (absolute path, arguments) that is told of each retrieval by a JSON object on standard input, until it
    exits 0; for commerce (AMDP-6). Default none."""
    guesses_per_minute: Count = 30
    """Wrong message ids that one address (IPv6: its /64) may ask about in a minute before it is answered 429
    (AMDP-12); 0 = no limit."""
    only_contacted: bool = False
    """Questions are answered only to addresses of the exchangers that were sent the envelope (AMDP-12)."""


class AmdpIncoming(Section, frozen=True):
    """The incoming gateway (AMDP-7 to AMDP-11)."""

    allowed: tuple[str, ...] = ()
    """Sender domains (and `.domain`) whose mail is fetched whatever its class (AMDP-22)."""
    denied: tuple[str, ...] = ()
    """Sender domains (and `.domain`) whose envelopes are refused; goes before `allowed`."""
    fetch: Literal["allowed", "policy", "never"] = "policy"
    """Which mail is fetched by this server instead of by its reader: that of allowed senders; that which the
    published policy takes (class and MAX-MAIL-SIZE) too; or none."""
    fetch_classes: tuple[str, ...] = (
        "*::Personal::*",
        "*::Business::*",
        "*::Government::*",
        "*::Educational::*",
    )
    """Classes that `policy` fetches; others wait to be asked for by their reader."""
    window: Seconds = 60.0
    """Fetches are spread over this time by chance, so that a newsletter does not meet its facility all at once."""
    retry: tuple[Seconds, ...] = (30, 120, 600, 1800, 3600)
    """Waits before a call-back or fetch that failed for now is tried again; the last repeats, until the envelope
    expires."""
    timeout: Annotated[float, Meta(gt=0, le=600, title="seconds")] = 30.0
    """How long one call may take, and each 64 KiB of a message that is fetched."""
    concurrency: Annotated[int, Meta(ge=1)] = 4
    """Calls at once to one facility (AMDP-12)."""
    ca: tuple[str, ...] = ()
    """PEM files of CAs that may vouch for facilities and information services; default [tls] public_ca and private_ca."""
    report_to: str = ""
    """Address of the abuse service that gets a report (ARF) of an envelope that broke the published policy; default
    none."""


class AmdpPolicy(Section, frozen=True):
    """The policy that the information service publishes (AMDP-16), and by which envelopes are judged."""

    super_auth: str = ""
    """SUPER-AUTH: the domain whose policy stands above this one; default none."""
    max_mail_size: Octets = 10_485_760
    """MAX-MAIL-SIZE: the largest message that is fetched directly; a larger one waits for its reader. 0 = none is."""
    messages_per_minute: Count = 0
    """MSG-PER-MIN: envelopes of one facility in a minute; 0 = not published, no limit."""
    cache_refresh: Annotated[int, Meta(ge=1, le=720, title="hours")] = 24
    """CACHE-REFRESH: hours for which the policy may be remembered."""
    amdp_share: Percent = 50
    """DELIVERY-PRIORITY: the share of inbound work for AMDP, the rest is SMTP's; 100 = SMTP mail is refused (AMDP-5b)."""
    contact: str = ""
    """CONTACT-INFO: whom people may ask about this policy, in any words of one line; default not published."""
    accept: dict[str, str] = field(default_factory=dict)
    """ACCEPT-CLASS: class pattern to price, at most three decimals, in [amdp.postage] currency, "" for none; no entry at
    all = every class is taken, for nothing. Example: `{ "*" = "", "*::Bulk::*" = "0.001" }`."""
    deny: tuple[str, ...] = ()
    """DENY-CLASS: class patterns that are refused, beside those that policy rules refuse. Example:
    `["*::Commerce::*"]`."""
    accept_reject: str = ""
    """ACCEPT-REJECT-PCT: what share was taken and refused, as this site tells it; decides nothing. Default not
    published."""
    unsolicited_hours: tuple[str, ...] = ()
    """UNSOLICITED_MAIL_HOURS: UTC ranges `HHMM-HHMM` in which Bulk and Commerce are taken, past midnight
    too: `["2200-0600"]`; default always."""
    subscribe_synch: str = ""
    """SUBSCRIBE-SYNCH: `HOST[:PORT]` of the subscription service; default this server where it has the role."""
    subscribe_agent: str = ""
    """SUBSCRIBE-AGENT: `HOST[:PORT]` of a service through which people subscribe at others; default not published."""


class AmdpPostage(Section, frozen=True):
    """Postage (AMDP-20): credits that this site issues, and those that it holds at others."""

    provider: str = "none"
    """Who keeps account of what mail to us pays: `none`, nobody; `ledger`, this server; or the name of an installed
    package's entry point in `outrider.postage`."""
    currency: str = "USD"
    """PAY-CURRENCY: three capital letters (ISO 4217). Amounts are counted in thousandths of it, and never converted."""
    method: str = "AMDP-LEDGER"
    """PAY-METHOD: by which others know how to pay here; another one only with a `provider` of another package."""
    exempt: tuple[str, ...] = ()
    """Sender domains (and `.domain`) that pay nothing, beside [amdp.incoming] allowed."""
    most: str = "0.010"
    """The most that this server pays for one message to one recipient, in `currency`; mail that would
    cost more is not sent."""
    unvouched: Literal["dearest", "claimed"] = "dearest"
    """What mail costs whose class no service vouches for, unless its sender is exempt: as much as the dearest class of
    [amdp.policy] accept, so that nobody saves by what he calls his mail; or what the class costs that is claimed."""
    vouched_by: tuple[str, ...] = ()
    """Classification services (host, or host:port) that vouch for our own classes: to sites that name one of them in
    their policy we pay the price of the class, to others what mail costs there that nobody vouches for."""
    accounts: dict[str, str] = field(default_factory=dict)
    """Recipient domain to the account from which we pay there, `ACCOUNT:FILE` with the file of its secret. Example:
    `{ "beta.example" = "alpha:/etc/outrider/beta.postage" }`."""
    payers: dict[str, str] = field(default_factory=dict)
    """PAY-METHOD of other sites, beside AMDP-LEDGER, to the name of the entry point that pays by it."""
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    """By the name of an entry point: what that package is called with; its documentation says which keys there are."""


class AmdpSubscriptions(Section, frozen=True):
    """The subscription service (AMDP-19)."""

    requests_per_hour: Count = 60
    """Applications that one client address (IPv6: its /64) may make in an hour; then it is answered 429. 0 = no limit."""
    peers: tuple[str, ...] = ()
    """Subscription servers (`https://HOST[:PORT]`) whose confirmed wishes are taken over, and which are told of ours."""
    synch_clients: tuple[str, ...] = ()
    """Sender domains that may synchronise their lists of addresses."""
    min_ratio: Percent = 10
    """Of the addresses that somebody submits so many must have subscribed, or it learns nothing (a harvester's list)."""


class AmdpClassification(Section, frozen=True):
    """Whose word on the classes of senders counts (AMDP-18)."""

    services: tuple[str, ...] = ()
    """`https://HOST[:PORT]` of the services that this site has chosen; asked in this order. None = every
    class is as claimed."""
    unvouched: Literal["claimed", "hold", "refuse"] = "claimed"
    """What a class that no service vouches for is worth: it counts as claimed; the mail is never fetched, its reader
    decides; the envelope is refused."""
    vouched: str = ""
    """File of the reference service (role classification): lines `DOMAIN CLASS-PATTERN [CLASS-PATTERN ...]`. Default
    none."""
    cache: Seconds = 3600.0
    """How long an answer of a service is remembered, at most until the time that it names itself."""


class Amdp(Section, frozen=True):
    """AMDP: the sender keeps the message, the receiver asks for it."""

    roles: tuple[AmdpRole, ...] = ()
    """What this server is: omg (outgoing gateway), mhf (holding facility), mis (information service), img (incoming
    gateway), subscriptions, classification. None = AMDP is off."""
    port: Port = 443
    """Port that others reach the facility's and services' HTTPS listener at (AMDP-Auth-Port): 443, or 1024 and up."""
    outgoing: AmdpOutgoing = field(default_factory=AmdpOutgoing)
    """Outgoing gateway: see [amdp.outgoing]."""
    holding: AmdpHolding = field(default_factory=AmdpHolding)
    """Holding facility: see [amdp.holding]."""
    incoming: AmdpIncoming = field(default_factory=AmdpIncoming)
    """Incoming gateway: see [amdp.incoming]."""
    policy: AmdpPolicy = field(default_factory=AmdpPolicy)
    """Published policy: see [amdp.policy]."""
    postage: AmdpPostage = field(default_factory=AmdpPostage)
    """Postage: see [amdp.postage]."""
    subscriptions: AmdpSubscriptions = field(default_factory=AmdpSubscriptions)
    """Subscription service: see [amdp.subscriptions]."""
    classification: AmdpClassification = field(default_factory=AmdpClassification)
    """Classification: see [amdp.classification]."""
