"""Every fact that a rule may name: its type, when it is known, what it is worth, and where it comes from.

The stage is the earliest at which the value is settled. What TLS or AUTH may still change (they come after
HELLO) is settled at SENDER only, so that a rule on `login` does not refuse a client before it could log in.

`of_session` says from which provenance on a fact belongs to the session: what is known of it at EHLO, its
absence included, holds for every MAIL until the next EHLO or AUTH. Announcements are built on nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from outrider.model.facts import Provenance
from outrider.model.mpc import LEGAL
from outrider.model.verdict import Stage


class FactType(Enum):
    """How a condition on the fact is written and compared."""

    TEXT = "text"
    """Without regard to case; `*` stands for anything."""
    ADDRESS = "address"
    """An IP address; conditions are addresses and networks."""
    DOMAIN = "domain"
    """A host or domain name; `*.example` means everything below it."""
    MAILBOX = "mailbox"
    """An address of a person; `@example` means a whole domain, `<>` the null sender."""
    NUMBER = "number"
    """Whole numbers; `{min = , max = }`."""
    FLAG = "flag"
    """true or false."""
    MPC = "mpc"
    """A Mail Policy Code, role/class; either may be `*`."""


@dataclass(frozen=True, slots=True)
class FactKind:
    """One entry of the catalogue."""

    name: str
    type: FactType
    stage: Stage
    worth: Provenance
    """The best warrant that it can have."""
    meaning: str
    """One sentence for the operator's guide."""
    looked_up: bool = False
    """It costs a look-up, and only the stage of a rule that names it waits for it (bounded in time)."""
    of_session: Provenance | None = None
    """The provenance from which on it belongs to the session; None = to a message or the moment."""
    values: tuple[str, ...] = ()
    """All that it can be, where that is a closed list."""

    def is_settled_by_session(self, at_least: Provenance) -> bool:
        """Whether a condition that demands `at_least` has its answer at EHLO."""
        return self.of_session is not None and at_least >= self.of_session


_T, _S = FactType, Stage
_C, _V, _P = Provenance.CLAIMED, Provenance.VOUCHED, Provenance.PROVEN

CATALOGUE: dict[str, FactKind] = {
    kind.name: kind
    for kind in (
        FactKind("client.address", _T.ADDRESS, _S.CONNECT, _P, "The client's IP address.", of_session=_C),
        FactKind("client.port", _T.NUMBER, _S.CONNECT, _P, "The client's TCP port.", of_session=_C),
        FactKind(
            "client.ptr",
            _T.DOMAIN,
            _S.CONNECT,
            _P,
            "Names of the client's address in reverse DNS: proven when the name leads back to the "
            "address, claimed when it does not.",
            looked_up=True,
            of_session=_C,
        ),
        FactKind(
            "client.listed",
            _T.TEXT,
            _S.CONNECT,
            _V,
            "Block lists of [trust] that list the client's address, by our names for them.",
            looked_up=True,
        ),
        FactKind(
            "client.vouched",
            _T.TEXT,
            _S.CONNECT,
            _V,
            "Vouch lists of [trust] that list the client's address.",
            looked_up=True,
        ),
        FactKind(
            "listener", _T.TEXT, _S.CONNECT, _P, "The listener, as `protocol address:port`.", of_session=_C
        ),
        FactKind(
            "protocol",
            _T.TEXT,
            _S.CONNECT,
            _P,
            "smtp, submission, amtp, mt2, qmtp, lmtp; amdp for mail that this server has pulled from its "
            "holder.",
            of_session=_C,
            values=("smtp", "submission", "amtp", "mt2", "qmtp", "lmtp", "amdp"),
        ),
        FactKind("server.port", _T.NUMBER, _S.CONNECT, _P, "Our port.", of_session=_C),
        FactKind("time.hour", _T.NUMBER, _S.CONNECT, _P, "Hour of the day in UTC, 0 to 23."),
        FactKind(
            "time.weekday",
            _T.TEXT,
            _S.CONNECT,
            _P,
            "mon, tue, wed, thu, fri, sat, sun, in UTC.",
            values=("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
        ),
        FactKind(
            "client.name",
            _T.DOMAIN,
            _S.HELLO,
            _C,
            "What the client called itself in HELO or EHLO.",
            of_session=_C,
        ),
        FactKind(
            "host",
            _T.DOMAIN,
            _S.HELLO,
            _P,
            "The name that an AMTP or MT2 host has proven: by its certificate, and over a public AMTP "
            "connection by PTR as well.",
            of_session=_C,
        ),
        FactKind(
            "mt2.identity",
            _T.TEXT,
            _S.HELLO,
            _P,
            "By what the identity of an MT2 host is warranted: public or private (a CA of [tls]), delegated "
            "(one that its issuer's domain publishes); absent when it is not proven.",
            of_session=_C,
            values=("public", "private", "delegated"),
        ),
        FactKind(
            "mt2.issuer",
            _T.DOMAIN,
            _S.HELLO,
            _P,
            "Domains of the issuer of an MT2 host's certificate; claimed where that proved nothing.",
            of_session=_C,
        ),
        FactKind(
            "amtp.connection",
            _T.TEXT,
            _S.HELLO,
            _P,
            "What the certificate of an AMTP host proved: a public or a private connection.",
            of_session=_C,
            values=("public", "private"),
        ),
        FactKind(
            "tls.version",
            _T.TEXT,
            _S.SENDER,
            _P,
            "TLSv1.3, TLSv1.2; absent in the clear.",
            of_session=_C,
            values=("TLSv1.3", "TLSv1.2"),
        ),
        FactKind(
            "tls.cipher", _T.TEXT, _S.SENDER, _P, "The cipher suite; absent in the clear.", of_session=_C
        ),
        FactKind(
            "tls.client.fingerprint",
            _T.TEXT,
            _S.SENDER,
            _P,
            "SHA-256 of the client's certificate and of its public key, 64 hexadecimal digits each.",
            of_session=_C,
        ),
        FactKind(
            "tls.client.name",
            _T.DOMAIN,
            _S.SENDER,
            _P,
            "Names in the client's certificate, proven by a CA of [tls]; absent when no CA vouches.",
            of_session=_C,
        ),
        FactKind(
            "tls.client.ca",
            _T.TEXT,
            _S.SENDER,
            _P,
            "The CA set that vouched: public or private; delegated for an MT2 host that its issuer's domain "
            "vouches for.",
            of_session=_C,
            values=("public", "private", "delegated"),
        ),
        FactKind(
            "login", _T.TEXT, _S.SENDER, _P, "The user who logged in; absent for nobody.", of_session=_C
        ),
        FactKind("login.mechanism", _T.TEXT, _S.SENDER, _P, "By which mechanism.", of_session=_C),
        FactKind(
            "partner",
            _T.TEXT,
            _S.SENDER,
            _P,
            "The entry of [partners] concerned: proven when the host is one of its hosts, claimed "
            "when only the sender's domain says so.",
            of_session=_P,
        ),
        FactKind(
            "mpc",
            _T.MPC,
            _S.SENDER,
            _P,
            "The Mail Policy Code: proven when the account is bound to it, else claimed; absent when "
            "the message has none.",
            values=tuple(map(str, LEGAL)),
        ),
        FactKind("sender", _T.MAILBOX, _S.SENDER, _C, "The envelope sender; `<>` is the null sender."),
        FactKind("sender.domain", _T.DOMAIN, _S.SENDER, _C, "Its domain; absent for the null sender."),
        FactKind("sender.null", _T.FLAG, _S.SENDER, _C, "Whether it is the null sender."),
        FactKind(
            "sender.domain.takes-mail",
            _T.FLAG,
            _S.SENDER,
            _P,
            "Whether DNS names a host that takes mail for the sender's domain.",
            looked_up=True,
        ),
        FactKind(
            "sender.domain.listed",
            _T.TEXT,
            _S.SENDER,
            _V,
            "Block lists that list the sender or its domain.",
            looked_up=True,
        ),
        FactKind(
            "sender.domain.vouched",
            _T.TEXT,
            _S.SENDER,
            _V,
            "Vouch lists that list the sender or its domain: vouched when the host has proven that it "
            "speaks for the domain, else claimed.",
            looked_up=True,
        ),
        FactKind(
            "trust.listed",
            _T.TEXT,
            _S.SENDER,
            _V,
            "Block lists that list client, host, issuer of its certificate, or sender.",
            looked_up=True,
        ),
        FactKind(
            "trust.vouched",
            _T.TEXT,
            _S.SENDER,
            _V,
            "Vouch lists that list client, host or sender, of what is proven only.",
            looked_up=True,
        ),
        FactKind(
            "trust.score",
            _T.NUMBER,
            _S.SENDER,
            _V,
            "Weights of the block lists in trust.listed less those in trust.vouched; 0 for a stranger.",
            looked_up=True,
        ),
        FactKind("message.declared-size", _T.NUMBER, _S.SENDER, _C, "SIZE= of MAIL, in octets; 0 for none."),
        FactKind(
            "body.type",
            _T.TEXT,
            _S.SENDER,
            _C,
            "BODY= of MAIL: 7BIT, 8BITMIME, BINARYMIME.",
            values=("7BIT", "8BITMIME", "BINARYMIME"),
        ),
        FactKind(
            "mt2.options",
            _T.TEXT,
            _S.SENDER,
            _P,
            "Options that the MT2 peer has switched on in its session: pipe, trace, and those of extensions. "
            "An option that every message would be refused for is not offered.",
        ),
        FactKind(
            "mt2.encryption",
            _T.TEXT,
            _S.SENDER,
            _P,
            "Which objects of an MT2 message are encrypted, as its envelope lists them: headers, or none.",
            values=("none", "headers"),
        ),
        FactKind(
            "mt2.extensions",
            _T.TEXT,
            _S.SENDER,
            _C,
            "Delivery extensions that an MT2 envelope carries: names of those that are known, else OIDs.",
        ),
        FactKind(
            "mt2.trace",
            _T.TEXT,
            _S.SENDER,
            _P,
            "What the seals of an MT2 message are worth: good, broken, unsealed; absent with [mt2] "
            "verify_seals = false. Mail whose trace is not good is refused, unless a rule of the stage "
            "sender that names this fact applies to it.",
            values=("good", "broken", "unsealed"),
        ),
        FactKind(
            "mt2.trace.place",
            _T.TEXT,
            _S.SENDER,
            _P,
            "Where a trace is broken: envelope, sender, recipients, seal 2, ...; absent in one that is good.",
        ),
        FactKind(
            "mt2.trace.hops", _T.NUMBER, _S.SENDER, _P, "Seals that were verified, the sender's included."
        ),
        FactKind(
            "mt2.sender",
            _T.MAILBOX,
            _S.SENDER,
            _P,
            "The address whose own certificate has sealed the message; absent where a host did.",
        ),
        FactKind(
            "mt2.sender.claimed",
            _T.FLAG,
            _S.SENDER,
            _P,
            "True where the host that sealed the message first says that it took the sender's word for who "
            "he is; absent otherwise.",
        ),
        FactKind(
            "mt2.report",
            _T.FLAG,
            _S.SENDER,
            _C,
            "Whether the MT2 message is a control message: a delivery report, an extension's error.",
        ),
        FactKind(
            "mt2.identities",
            _T.TEXT,
            _S.SENDER,
            _P,
            "Every name proven of an MT2 message: of the host that hands it over, and of those who "
            "sealed it.",
        ),
        FactKind(
            "mt2.hashcash",
            _T.NUMBER,
            _S.SENDER,
            _P,
            "Bits that the cheapest hashcash stamp of an MT2 message is worth; absent unless all of its "
            "recipients here are paid for.",
        ),
        FactKind(
            "mt2.postage",
            _T.NUMBER,
            _S.SENDER,
            _P,
            "What an MT2 message pays for each of its recipients here, in thousandths of [amdp.postage] "
            "currency; absent unless all of them are paid for.",
        ),
        FactKind(
            "mt2.allow-listed",
            _T.FLAG,
            _S.SENDER,
            _P,
            "The sender of an MT2 message has been made welcome by all of its recipients here.",
        ),
        FactKind(
            "mt2.trap-match",
            _T.FLAG,
            _S.SENDER,
            _P,
            "The same body has been sent to a spam trap, here or at a site that shares what its traps catch.",
        ),
        FactKind(
            "amdp.envelope",
            _T.FLAG,
            _S.SENDER,
            _P,
            "MAIL had the keyword AMDP: the message is an envelope, which goes through the call-back "
            "whatever way a rule gives it. Absent for all other mail.",
        ),
        FactKind(
            "amdp.domain",
            _T.DOMAIN,
            _S.SENDER,
            _P,
            "The sender's domain of a message that this server has pulled (AMDP): proven when its holding "
            "facility was found genuine and called back. Absent for all other mail.",
        ),
        FactKind("amdp.holder", _T.DOMAIN, _S.SENDER, _P, "The facility that held it, proven likewise."),
        FactKind(
            "amdp.sender",
            _T.MAILBOX,
            _S.SENDER,
            _P,
            "AMDP-From of its envelope, which the domain's facility confirmed.",
        ),
        FactKind(
            "amdp.class",
            _T.TEXT,
            _S.SENDER,
            _V,
            "Its class, `agent::mail::message`: vouched when a service of [amdp.classification] vouches for "
            "the domain, else claimed.",
        ),
        FactKind(
            "amdp.standing",
            _T.TEXT,
            _S.SENDER,
            _P,
            "What the sender's domain is by [amdp.incoming]: allowed, or unclassified; denied ones never "
            "come so far.",
            values=("allowed", "unclassified"),
        ),
        FactKind("recipient", _T.MAILBOX, _S.RECIPIENT, _C, "The recipient as named at RCPT."),
        FactKind("recipient.domain", _T.DOMAIN, _S.RECIPIENT, _C, "Its domain."),
        FactKind("recipient.local", _T.FLAG, _S.RECIPIENT, _P, "Whether it is a user or alias of ours."),
        FactKind("recipient.count", _T.NUMBER, _S.HEADERS, _P, "How many recipients the message has."),
        FactKind("message.hops", _T.NUMBER, _S.HEADERS, _C, "Received fields in the header section."),
        FactKind("from", _T.MAILBOX, _S.HEADERS, _C, "Addresses in the From field."),
        FactKind("from.domain", _T.DOMAIN, _S.HEADERS, _C, "Their domains."),
        FactKind(
            "partner.mismatch",
            _T.TEXT,
            _S.HEADERS,
            _P,
            "The entry of [partners] whose terms the message breaks, by its sender or its From field.",
        ),
        FactKind("message.size", _T.NUMBER, _S.BODY, _P, "Octets of the message as it came."),
        FactKind(
            "body.encryption",
            _T.TEXT,
            _S.BODY,
            _C,
            "By what the body is encrypted, as its Content-Type says: smime, openpgp, none.",
            values=("none", "smime", "openpgp"),
        ),
        FactKind("body.size", _T.NUMBER, _S.BODY, _P, "Octets behind the header section."),
        FactKind("body.eight-bit", _T.FLAG, _S.BODY, _P, "Whether the message holds octets above 127."),
        FactKind("body.binary", _T.FLAG, _S.BODY, _P, "Whether it came as BINARYMIME and needs it."),
    )
}

HEADER_PREFIX = "header."
_HEADER_NAME = re.compile(r"header\.[!-9;-~]{1,76}")

LOOKUP_FAILED = "lookup.failed"
"""The fact that lists names of facts whose look-up gave no answer in time: a rule that needs one of them
defers instead of refusing."""
TRUST_DOUBT = "trust.doubt"
"""The fact that lists vouch lists that did not answer, by name: a refusal that one of them might have
prevented is deferred."""
TRUST_SCORE_LEAST = "trust.score.least"
"""The score if all of them had vouched."""


def fact_kind(name: str) -> FactKind | None:
    """The catalogue's entry for a name; ``header.NAME`` is any field of the header section, its name in any
    case. None for a name that does not exist."""
    if name.startswith(HEADER_PREFIX) and _HEADER_NAME.fullmatch(name):
        field = name[len(HEADER_PREFIX) :]
        return FactKind(
            name.lower(), FactType.TEXT, Stage.HEADERS, Provenance.CLAIMED, f"The {field} field, decoded."
        )
    return CATALOGUE.get(name)
