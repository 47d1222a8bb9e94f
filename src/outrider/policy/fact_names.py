"""Every fact that a rule may name: its type, when it is known, what it is worth, and where it comes from.

The stage is the earliest at which the value is settled. What TLS or AUTH may still change (they come after
HELLO) is settled at SENDER only, so that a rule on `login` does not refuse a client before it could log in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from outrider.model.facts import Provenance
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


_T, _C, _P = FactType, Provenance.CLAIMED, Provenance.PROVEN

CATALOGUE: dict[str, FactKind] = {
    kind.name: kind
    for kind in (
        FactKind("client.address", _T.ADDRESS, Stage.CONNECT, _P, "The client's IP address."),
        FactKind("client.port", _T.NUMBER, Stage.CONNECT, _P, "The client's TCP port."),
        FactKind(
            "client.ptr",
            _T.DOMAIN,
            Stage.CONNECT,
            _P,
            "Names of the client's address in reverse DNS: proven when the name leads back to the address, "
            "claimed when it does not.",
            looked_up=True,
        ),
        FactKind("listener", _T.TEXT, Stage.CONNECT, _P, "The listener, as `protocol address:port`."),
        FactKind("protocol", _T.TEXT, Stage.CONNECT, _P, "smtp, submission, qmtp, lmtp."),
        FactKind("server.port", _T.NUMBER, Stage.CONNECT, _P, "Our port."),
        FactKind("time.hour", _T.NUMBER, Stage.CONNECT, _P, "Hour of the day in UTC, 0 to 23."),
        FactKind("time.weekday", _T.TEXT, Stage.CONNECT, _P, "mon, tue, wed, thu, fri, sat, sun, in UTC."),
        FactKind("client.name", _T.DOMAIN, Stage.HELLO, _C, "What the client called itself in HELO or EHLO."),
        FactKind("tls.version", _T.TEXT, Stage.SENDER, _P, "TLSv1.3, TLSv1.2; absent in the clear."),
        FactKind("tls.cipher", _T.TEXT, Stage.SENDER, _P, "The cipher suite; absent in the clear."),
        FactKind(
            "tls.client.fingerprint",
            _T.TEXT,
            Stage.SENDER,
            _P,
            "SHA-256 of the client's certificate and of its public key, 64 hexadecimal digits each.",
        ),
        FactKind(
            "tls.client.name",
            _T.DOMAIN,
            Stage.SENDER,
            _P,
            "Names in the client's certificate, proven by a CA of [tls]; absent when no CA vouches.",
        ),
        FactKind("tls.client.ca", _T.TEXT, Stage.SENDER, _P, "The CA set that vouched: public or private."),
        FactKind("login", _T.TEXT, Stage.SENDER, _P, "The user who logged in; absent for nobody."),
        FactKind("login.mechanism", _T.TEXT, Stage.SENDER, _P, "By which mechanism."),
        FactKind("sender", _T.MAILBOX, Stage.SENDER, _C, "The envelope sender; `<>` is the null sender."),
        FactKind("sender.domain", _T.DOMAIN, Stage.SENDER, _C, "Its domain; absent for the null sender."),
        FactKind("sender.null", _T.FLAG, Stage.SENDER, _C, "Whether it is the null sender."),
        FactKind(
            "sender.domain.takes-mail",
            _T.FLAG,
            Stage.SENDER,
            _P,
            "Whether DNS names a host that takes mail for the sender's domain.",
            looked_up=True,
        ),
        FactKind(
            "message.declared-size", _T.NUMBER, Stage.SENDER, _C, "SIZE= of MAIL, in octets; 0 for none."
        ),
        FactKind("body.type", _T.TEXT, Stage.SENDER, _C, "BODY= of MAIL: 7BIT, 8BITMIME, BINARYMIME."),
        FactKind("recipient", _T.MAILBOX, Stage.RECIPIENT, _C, "The recipient as named at RCPT."),
        FactKind("recipient.domain", _T.DOMAIN, Stage.RECIPIENT, _C, "Its domain."),
        FactKind("recipient.local", _T.FLAG, Stage.RECIPIENT, _P, "Whether it is a user or alias of ours."),
        FactKind("recipient.count", _T.NUMBER, Stage.HEADERS, _P, "How many recipients the message has."),
        FactKind("message.hops", _T.NUMBER, Stage.HEADERS, _C, "Received fields in the header section."),
        FactKind("from", _T.MAILBOX, Stage.HEADERS, _C, "Addresses in the From field."),
        FactKind("from.domain", _T.DOMAIN, Stage.HEADERS, _C, "Their domains."),
        FactKind("message.size", _T.NUMBER, Stage.BODY, _P, "Octets of the message as it came."),
        FactKind("body.size", _T.NUMBER, Stage.BODY, _P, "Octets behind the header section."),
        FactKind("body.eight-bit", _T.FLAG, Stage.BODY, _P, "Whether the message holds octets above 127."),
        FactKind("body.binary", _T.FLAG, Stage.BODY, _P, "Whether it came as BINARYMIME and needs it."),
    )
}

HEADER_PREFIX = "header."
_HEADER_NAME = re.compile(r"header\.[!-9;-~]{1,76}")

LOOKUP_FAILED = "lookup.failed"
"""The fact that lists names of facts whose look-up gave no answer in time: a rule that needs one of them
defers instead of refusing."""


def fact_kind(name: str) -> FactKind | None:
    """The catalogue's entry for a name; ``header.NAME`` is any field of the header section, its name in any
    case. None for a name that does not exist."""
    if name.startswith(HEADER_PREFIX) and _HEADER_NAME.fullmatch(name):
        field = name[len(HEADER_PREFIX) :]
        return FactKind(
            name.lower(), FactType.TEXT, Stage.HEADERS, Provenance.CLAIMED, f"The {field} field, decoded."
        )
    return CATALOGUE.get(name)
