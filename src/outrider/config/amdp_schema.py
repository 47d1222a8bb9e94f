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
    """`HOST[:PORT]` of a holding facility that is another server; default this one."""
    hold: Literal["routed", "bulk", "all"] = "routed"
    """Which mail to other sites is held here until it is asked for: what a route `amdp` or a rule's route says;
    beside it mail with several recipients or a Precedence of bulk or list; or all."""
    hold_above: Octets = 0
    """Mail larger than this is held too; 0 = size is no reason."""
    classes: dict[str, str] = field(default_factory=dict)
    """Account, sender address or domain to the two first parts of its class, like `Agent::Business`; the user says the
    message type with a field `AMDP-Message-Type` (AMDP-17). Longest match first: address, account, domain, `*`."""
    message_type: str = "message"
    """The message type of mail whose sender named none."""
    max_size: Octets = 0
    """Largest message of one account; 0 = [limits] message_size."""
    messages_per_hour: Count = 0
    """Of one account; more is refused with the time to wait. 0 = no limit."""
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
    """Sender domain to the name this facility has in it; default `mhf-1.DOMAIN`."""
    id: str = ""
    """AMDP-MHF-Id, by which the domain's information service knows a facility whose address it confirms
    (dynamic authentication, AMDP-8); default none."""
    networks: tuple[str, ...] = ()
    """Networks from which facilities with this id send: the information service confirms these addresses, beside
    those of this server's own listeners and [net] source addresses."""
    gateways: tuple[str, ...] = ()
    """Networks of the outgoing gateways whose mail is taken to be held; nobody else's is."""
    keep: Seconds = 14 * 86_400.0
    """How long a message is held; the sender may ask for less with `AMDP-Expire-On`."""
    max_keep: Seconds = 60 * 86_400.0
    """The longest that `outrider held extend` and senders may ask for."""
    space: Octets = 0
    """Octets that are held in all; more is deferred. 0 = as [spool] reserve leaves."""
    unauthenticated: bool = True
    """SMTP-only receivers get an envelope with a link that opens the message (AMDP-5a); false = the whole message."""
    hook: str = ""
    """Command (absolute path, arguments) that is told of each retrieval, for commerce (AMDP-6)."""
    guesses_per_minute: Count = 30
    """Wrong message ids that one address may ask about (AMDP-12)."""
    only_contacted: bool = False
    """Questions are answered only to addresses of the exchangers that were sent the envelope (AMDP-12)."""


class AmdpIncoming(Section, frozen=True):
    """The incoming gateway (AMDP-7 to AMDP-11)."""

    allowed: tuple[str, ...] = ()
    """Sender domains (and `.domain`) whose mail is fetched whatever its class (AMDP-22)."""
    denied: tuple[str, ...] = ()
    """Sender domains whose envelopes are refused."""
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
    timeout: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """For one call, and for each 64 KiB of a message that is fetched."""
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
    """SUPER-AUTH: the domain whose policy stands above this one."""
    max_mail_size: Octets = 10_485_760
    """MAX-MAIL-SIZE: the largest message that is fetched directly."""
    messages_per_minute: Count = 0
    """MSG-PER-MIN: envelopes of one facility; 0 = not published, no limit."""
    cache_refresh: Annotated[int, Meta(ge=1, le=720)] = 24
    """CACHE-REFRESH: hours for which the policy may be remembered."""
    amdp_share: Percent = 50
    """DELIVERY-PRIORITY: the share of inbound work for AMDP, the rest is SMTP's; 100 = SMTP mail is refused (AMDP-5b)."""
    contact: str = ""
    """CONTACT-INFO."""
    accept: dict[str, str] = field(default_factory=dict)
    """ACCEPT-CLASS: pattern to price, "" for none; no entry at all = every class."""
    deny: tuple[str, ...] = ()
    """DENY-CLASS patterns."""
    accept_reject: str = ""
    """ACCEPT-REJECT-PCT, as published."""
    unsolicited_hours: tuple[str, ...] = ()
    """UNSOLICITED_MAIL_HOURS: UTC ranges `HHMM-HHMM` in which Bulk and Commerce are taken; default always."""
    subscribe_synch: str = ""
    """SUBSCRIBE-SYNCH: host of the subscription service; default this server where it has the role."""
    subscribe_agent: str = ""
    """SUBSCRIBE-AGENT."""


class AmdpPostage(Section, frozen=True):
    """Postage (AMDP-20): credits that this site issues, and those that it holds at others."""

    provider: str = "none"
    """Who keeps account of what mail to us pays: `none`, nobody; `ledger`, this server; or the name of an installed
    package's entry point in `outrider.postage`."""
    currency: str = "USD"
    """PAY-CURRENCY; amounts are exact, in thousandths."""
    method: str = "AMDP-LEDGER"
    """PAY-METHOD."""
    exempt: tuple[str, ...] = ()
    """Sender domains that pay nothing, beside [amdp.incoming] allowed."""
    most: str = "0.010"
    """The most that this server pays for one message to one recipient; mail that would cost more is not sent."""
    unvouched: Literal["dearest", "claimed"] = "dearest"
    """What mail costs whose class no service vouches for, unless its sender is exempt: as much as the dearest class of
    [amdp.policy] accept, so that nobody saves by what he calls his mail; or what the class costs that is claimed."""
    vouched_by: tuple[str, ...] = ()
    """Classification services (host, or host:port) that vouch for our own classes: to sites that name one of them in
    their policy we pay the price of the class, to others what mail costs there that nobody vouches for."""
    accounts: dict[str, str] = field(default_factory=dict)
    """Recipient domain to the account (PAY-ACCT) and file with its key, `ACCOUNT:FILE`, from which we pay there."""
    payers: dict[str, str] = field(default_factory=dict)
    """PAY-METHOD of other sites, beside AMDP-LEDGER, to the name of the entry point that pays by it."""
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    """By the name of an entry point: what it is called with."""


class AmdpSubscriptions(Section, frozen=True):
    """The subscription service (AMDP-19)."""

    requests_per_hour: Count = 60
    """Of one address."""
    peers: tuple[str, ...] = ()
    """Subscription servers (`https://HOST[:PORT]`) with which lists are syndicated."""
    synch_clients: tuple[str, ...] = ()
    """Sender domains that may synchronise their lists of addresses."""
    min_ratio: Percent = 10
    """Of the addresses that somebody submits so many must have subscribed, or it learns nothing (a harvester's list)."""


class AmdpClassification(Section, frozen=True):
    """Whose word on the classes of senders counts (AMDP-18)."""

    services: tuple[str, ...] = ()
    """`https://HOST[:PORT]` of the services that this site has chosen; asked in this order."""
    unvouched: Literal["claimed", "hold", "refuse"] = "claimed"
    """What a class that no service vouches for is worth: it counts as claimed; the mail is never fetched, its reader
    decides; the envelope is refused."""
    vouched: str = ""
    """File of the reference service: lines `DOMAIN CLASS-PATTERN [CLASS-PATTERN ...]`."""
    cache: Seconds = 3600.0
    """How long an answer is remembered."""


class Amdp(Section, frozen=True):
    """AMDP: the sender keeps the message, the receiver asks for it."""

    roles: tuple[AmdpRole, ...] = ()
    """What this server is: omg (outgoing gateway), mhf (holding facility), mis (information service), img (incoming
    gateway), subscriptions, classification. None = AMDP is off."""
    port: Port = 443
    """Port that others reach the facility's and services' HTTPS listener at (AMDP-Auth-Port): 443, or 1024 and up."""
    outgoing: AmdpOutgoing = field(default_factory=AmdpOutgoing)
    """Outgoing gateway."""
    holding: AmdpHolding = field(default_factory=AmdpHolding)
    """Holding facility."""
    incoming: AmdpIncoming = field(default_factory=AmdpIncoming)
    """Incoming gateway."""
    policy: AmdpPolicy = field(default_factory=AmdpPolicy)
    """Published policy."""
    postage: AmdpPostage = field(default_factory=AmdpPostage)
    """Postage."""
    subscriptions: AmdpSubscriptions = field(default_factory=AmdpSubscriptions)
    """Subscription service."""
    classification: AmdpClassification = field(default_factory=AmdpClassification)
    """Classification."""
