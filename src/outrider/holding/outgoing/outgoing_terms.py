"""What the outgoing gateway has settled about a submission, as facts stored with the message (AMDP-1).

The content stays as it was submitted, apart from AMDP-* fields of the user's own, which are taken out: a
signature stays good, and nothing tells one recipient of another. The holding facility reads the terms with
`terms_of`; a message without them did not come from one of its gateways, and is not held (AMDP-2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from outrider.model.address import Address, AddressError, parse_address
from outrider.model.facts import Fact, Provenance
from outrider.model.message import StoredMessage

SENDER = "amdp.outgoing.sender"
MAIL_CLASS = "amdp.outgoing.class"
LANGUAGE = "amdp.outgoing.language"
EXPIRES = "amdp.outgoing.expires"
ABOUT = "amdp.outgoing.about"
RECEIPT = "amdp.outgoing.receipt"
GATEWAY = "amdp.outgoing.gateway"


@dataclass(frozen=True, slots=True)
class OutgoingTerms:
    """For the fields of the envelope."""

    sender: Address
    """AMDP-From: an address of the account, and that of the message's one From."""
    mail_class: str
    """AMDP-Mail-Class: agent and mail type by the administrator, the message type by the user (AMDP-17)."""
    language: str = ""
    """AMDP-Language (ISO 639); "" = not known."""
    expires: float = 0.0
    """When the user wants it to expire, seconds since the epoch; 0 = after [amdp.holding] keep."""
    about: str = ""
    """AMDP-About; "" = none."""
    gateway: str = ""
    """AMDP-OMG-Id, which stays inside the domain: where it was submitted; "" = at this server."""
    receipt: bool = False
    """The user wants to know when it is retrieved (AMDP-6)."""


def terms_facts(terms: OutgoingTerms, how: str, now: float) -> tuple[Fact, ...]:
    """As facts; `how` says by what sender and class are known."""
    facts = [
        Fact(SENDER, str(terms.sender), Provenance.PROVEN, how, now),
        Fact(MAIL_CLASS, terms.mail_class, Provenance.PROVEN, how, now),
    ]
    claims = (
        (LANGUAGE, terms.language),
        (EXPIRES, int(terms.expires)),
        (ABOUT, terms.about),
        (RECEIPT, terms.receipt),
    )
    facts += [Fact(name, value, Provenance.CLAIMED, "the sender", now) for name, value in claims if value]
    if terms.gateway:
        facts.append(Fact(GATEWAY, terms.gateway, Provenance.PROVEN, how, now))
    return tuple(facts)


def terms_of(message: StoredMessage) -> OutgoingTerms | None:
    """The terms of a stored message; None for one that came by no gateway of ours."""
    return read_terms(message.facts)


def read_terms(facts: Iterable[Fact]) -> OutgoingTerms | None:
    """The terms among facts."""
    values = {fact.name: fact.value for fact in facts if fact.name.startswith("amdp.outgoing.")}
    mail_class, expires = values.get(MAIL_CLASS), values.get(EXPIRES)
    try:
        sender = parse_address(str(values.get(SENDER, "")))
    except AddressError:
        return None
    if not isinstance(mail_class, str):
        return None
    return OutgoingTerms(
        sender,
        mail_class,
        str(values.get(LANGUAGE, "")),
        float(expires) if isinstance(expires, int) else 0.0,
        str(values.get(ABOUT, "")),
        str(values.get(GATEWAY, "")),
        bool(values.get(RECEIPT)),
    )
