"""Who seals mail that leaves by MT2, and what the seal says of how the mail came (MT2-23a, MT2-28c).

- Mail that one of our users has submitted with a login is sealed with that user's certificate, where there is
  one, and then by this host: it has the mail from a login.
- Reports and control messages made here are sealed by the process certificate, where there is one, and then
  by this host.
- All other mail is sealed by this host alone, with what is known of its sender: a certificate for a stranger
  is never made.
- What came sealed gets one more entry.

A seal's time is when we took the message, so that the same message for the same host has the same octets at
every attempt (MT2-18a); seals by RSA keys differ each time, because PSS is salted, and are kept (`mt2_kept`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509

from outrider.identity.seals import MAX_VERIFIED, Handover, Sealer, SealError
from outrider.message.objects.envelope import LayeredEnvelope
from outrider.model.address import Address
from outrider.model.facts import Facts, FactValue, Provenance
from outrider.model.message import StoredMessage
from outrider.model.transaction import RecipientRequest

MAX_NAME = 320
"""Characters of a name or of a cipher's in a seal."""
MAX_VALUE = 200
_VERIFIED = {
    "mt2.seals": "seals",
    "mt2.trace": "trace",
    "mt2.sender": "sender",
    "spf": "spf",
    "dkim": "dkim",
    "dmarc": "dmarc",
    "partner": "partner",
    "trust.listed": "listed",
    "trust.vouched": "vouched",
}
"""Facts that go into a seal, and what they are called there."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A certificate of ours that seals."""

    name: str
    """As what: a host name in lower case, or a mailbox."""
    sealer: Sealer = field(repr=False)
    valid_from: float
    valid_until: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, sealer: Sealer, name: str) -> SealingKey:
        """Raises SealError where the certificate does not name `name`."""
        if name not in sealer.names:
            raise SealError(f"the certificate does not name {name} (it names {', '.join(sealer.names)})")
        leaf = x509.load_der_x509_certificate(sealer.signer.chain[0])
        return cls(name, sealer, leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())

    def moment(self, received_at: float, now: float) -> float:
        """The time to seal with. Raises SealError for a certificate that has ended."""
        if now >= self.valid_until:
            raise SealError(f"our certificate for {self.name} has ended")
        return max(received_at, self.valid_from)


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """All of them; made anew by a reload."""

    host: SealingKey
    users: Mapping[tuple[str, str], SealingKey] = field(default_factory=dict)
    """By `Address.key`."""
    process: SealingKey | None = None
    """Seals what this server writes itself."""
    logins_are_senders: bool = True
    """[auth] restrict_sender: a login sends under its own addresses only."""


class MessageSealer:
    """Seals envelopes."""

    def __init__(self, keys: SealingKeys, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock

    @property
    def hostname(self) -> str:
        """As whom this host seals."""
        return self._keys.host.name

    @property
    def names(self) -> frozenset[str]:
        """All hosts that our certificate proves: a seal that hands a message to one of them means us."""
        every = self._keys.host.sealer.names
        return frozenset(one.lower() for one in (self.hostname, *every) if "@" not in one)

    def salted(self, message: StoredMessage) -> tuple[str, ...]:
        """Those of the keys that seal the message which do not sign twice alike, by the digests of their
        certificates; () where all do."""
        author = self._author(message)
        keys = (self._keys.host,) if author is None else (self._keys.host, author)
        signers = [one.sealer.signer for one in keys]
        return tuple(one.thumbprint for one in signers if not one.algorithm.repeats)

    def new(self, envelope: LayeredEnvelope, message: StoredMessage, to: str) -> LayeredEnvelope:
        """A message without a core gets one, and our entry where the core is not the host's. Raises
        SealError."""
        host = self._keys.host
        author = self._author(message)
        if author is None:
            at = host.moment(message.received_at, self._clock())
            return host.sealer.seal_core(envelope, self._handover(message, to), at)
        own = Handover(author.name, host.name, received=message.received_at)
        now = self._clock()
        written_at = author.moment(message.received_at, now)
        sealed = author.sealer.seal_core(envelope, own, written_at)
        proven = replace(self._handover(message, to), peer=author.name, peer_proven=True)
        at = max(written_at, host.moment(message.received_at, now))
        return host.sealer.seal_hop(sealed, sealed.recipients, proven, at)

    def onward(
        self, came: LayeredEnvelope, recipients: Sequence[RecipientRequest], message: StoredMessage, to: str
    ) -> LayeredEnvelope:
        """What came sealed, for these recipients, with our entry. Raises SealError."""
        host = self._keys.host
        at = host.moment(message.received_at, self._clock())
        return host.sealer.seal_hop(came, recipients, self._handover(message, to), at)

    def _handover(self, message: StoredMessage, to: str) -> Handover:
        sender, login = message.envelope.sender, message.envelope.authenticated_as
        owner = str(sender) if sender is not None and login and self._is_own(sender, login) else ""
        return handover(message, by=self.hostname, to=to, owner=owner)

    def _author(self, message: StoredMessage) -> SealingKey | None:
        """Whose certificate seals what was written here, or submitted by a login (MT2-28c)."""
        envelope, keys = message.envelope, self._keys
        if envelope.sender is None:
            return keys.process if is_made_here(message) else None
        if not envelope.authenticated_as or not self._is_own(envelope.sender, envelope.authenticated_as):
            return None
        return keys.users.get(envelope.sender.key)

    def _is_own(self, sender: Address, login: str) -> bool:
        return self._keys.logins_are_senders or login.casefold() == str(sender).casefold()


def is_made_here(message: StoredMessage) -> bool:
    """Whether no session brought the message: a report, an answer, a control message of ours."""
    return all(fact.name != "protocol" for fact in message.facts)


def handover(message: StoredMessage, *, by: str, to: str, owner: str = "") -> Handover:
    """What is known of how the message came. `owner` is the mailbox whose owner logged in to send it; names
    of logins are nobody else's business."""
    facts = Facts(message.facts)
    peer, proven = (plain(owner, MAX_NAME), True) if owner else _peer(facts)
    return Handover(
        by,
        to.lower(),
        peer,
        proven,
        _protocol(facts, message),
        message.received_at,
        _tls(facts),
        _verified(facts, message, owner),
    )


def _peer(facts: Facts) -> tuple[str, bool]:
    """Whom we have it from, and whether a certificate has proven that."""
    host = _text(facts.value("host", Provenance.PROVEN))
    if host:
        return host.lower(), True
    certified = _text(facts.value("tls.client.name", Provenance.PROVEN))
    if certified:
        return certified.lower(), True
    address = _text(facts.value("client.address"))
    named = _text(facts.value("client.ptr", Provenance.PROVEN)) or _text(facts.value("client.name"))
    return named or (f"[{address}]" if address else ""), False


def _protocol(facts: Facts, message: StoredMessage) -> str:
    """As in Received: esmtpsa is SMTP under TLS with a login."""
    word = _text(facts.value("protocol"))
    if word not in ("smtp", "submission"):
        return word
    tls = "s" if facts.value("tls.version") else ""
    login = "a" if message.envelope.authenticated_as else ""
    return f"esmtp{tls}{login}"


def _tls(facts: Facts) -> str:
    version, cipher = facts.value("tls.version"), facts.value("tls.cipher")
    return plain(f"{version} {cipher or ''}".strip(), MAX_NAME) if version else ""


def _verified(facts: Facts, message: StoredMessage, owner: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if not is_made_here(message):
        found["sender"] = "login" if owner else "claimed"
    for name, word in _VERIFIED.items():
        fact = facts.get(name)
        if fact is not None and (said := _said(fact.value)):
            found[word] = said
    return dict(list(found.items())[:MAX_VERIFIED])


def _said(value: FactValue) -> str:
    if isinstance(value, tuple):
        return plain(", ".join(value), MAX_VALUE)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(str(value), MAX_VALUE)


def _text(value: FactValue | None) -> str:
    first = value[0] if isinstance(value, tuple) and value else value
    return plain(first, MAX_NAME) if isinstance(first, str) else ""


def plain(text: str, limit: int) -> str:
    """Printable, and no longer than that."""
    return "".join(one if one.isprintable() else "?" for one in text[:limit])
