"""Seals of MT2's trace: what the sender and each host sign (MT2-23a, MT2-23b). Pure; time is an argument.

A message carries a list of seals, compact JWS (``typ`` ``mt2-seal+jws``). The first is the *core*: the
sender's word about envelope and objects. Every further one is a *hop's entry*, which names the digest of the
seal before it. The core is an entry too: each says **by** whom it is, **to** which host the message is handed
next, and when; so the trace is a chain of hand-overs from the sender to whoever holds the message. The
payload is RFC 8785 JSON and *is* what the program reads: nothing of a trace stands anywhere else.

Every member of the core stands for something in the envelope, and everything in the envelope but the seals
stands in the core; certificates are covered by their digests, in the seal of whoever presents them. What hops
change is the list of recipients, and each says in its entry how.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import msgspec
from cryptography import x509

from outrider.identity.canonical import canonical, read_canonical
from outrider.identity.certificates import MAX_CHAIN, names_of
from outrider.identity.checks import Fault
from outrider.identity.jws import MAX_COMPACT_OCTETS, JwsError, Signer, encode, thumbprint_of
from outrider.identity.user_certificates import addresses_of
from outrider.message.objects.envelope import DeliveryExtension, LayeredEnvelope, ObjectEntry, ReportData
from outrider.model.envelope import Notify
from outrider.model.transaction import RecipientRequest

SEAL_TYP = "mt2-seal+jws"
MAX_SEALS = 101
"""The core and a hundred hops (RFC 5321 section 6.3 has the same limit for Received)."""
MAX_VERIFIED = 16
_MAX_TEXT = 320
"""Of a name, a protocol, a cipher: the longest mailbox."""
_MAX_VALUE = 200
_END_OF_TIME = 1 << 40
_KEY = re.compile(r"[a-z0-9-]{1,32}")


class SealError(ValueError):
    """A message that cannot be sealed; the text says why."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What a host says when it hands a message on. In the core, the sender's; in an entry, a hop's."""

    by: str
    """Own name, one that the own certificate proves: a lower-case host name, or a mailbox."""
    to: str
    """The host that it goes to: the name under which that one's certificate was checked (lower case)."""
    peer: str = ""
    """Whom we have it from: a host name, a mailbox, an address literal; "" if it was made here."""
    peer_proven: bool = False
    """Whether a certificate or a login has proven that name (False: claimed)."""
    protocol: str = ""
    """How it came: mt2, esmtps, amtp, qmtp, ...; "" if it was made here."""
    received: float = 0.0
    """When it came, seconds since the epoch; 0 = now."""
    tls: str = ""
    """How it came through TLS: version and cipher; "" in clear."""
    verified: Mapping[str, str] = field(default_factory=dict)
    """What was checked when it came, for people and policy: ``{"seals": "good", "spf": "pass"}``. At most 16,
    names of ``[a-z0-9-]``, printable values up to 200 characters."""


# -- what is signed --------------------------------------------------------------------------------------
# Members that have their default value are left out: there is one form, and a small one.


class SealedRecipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A recipient with what the sender wants to hear of it (RFC 3461)."""

    address: str
    notify: str = ""
    original: str = ""


class SealedObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One object of the message; the digest in base64url."""

    length: int
    part: str
    sha256: str
    type: str


class SealedExtension(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A delivery extension; the digest of its data (UTF-8) in base64url."""

    oid: str
    sha256: str
    critical: bool = False


class _Seal(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    tag_field="kind",
):
    """What core and entries have in common. Times are whole seconds since the epoch."""

    by: str
    to: str
    time: int
    certificates: tuple[str, ...]
    """SHA-256 (base64url) of the signer's chain, leaf first."""
    id: str
    """Of the message: no entry of another one fits."""
    received: int
    peer: str = ""
    peer_proven: bool = False
    protocol: str = ""
    tls: str = ""
    verified: dict[str, str] = {}  # msgspec copies an empty default


class Core(_Seal, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, tag="core"):
    """The sender's seal. `described` says what stands for what."""

    date: int = 0
    envelope_id: str = ""
    expiry: int = 0
    extensions: tuple[SealedExtension, ...] = ()
    hold_until: int = 0
    mpc: str = ""
    objects: tuple[SealedObject, ...] = ()
    recipients: tuple[SealedRecipient, ...] = ()
    report: str = ""
    """SHA-256 (base64url) of the report's canonical JSON; "" for none."""
    ret: str = ""
    sender: str = ""
    """"" is the null sender."""


class Entry(_Seal, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, tag="hop"):
    """A hop's seal."""

    hop: int
    """Its place in the list: 1 for the first after the core."""
    previous: str
    """SHA-256 (base64url) of the seal before it, as it stands in the envelope."""
    added: tuple[SealedRecipient, ...] = ()
    removed: tuple[str, ...] = ()
    """Addresses; removed first, then added at the end."""

    def recipients_after(self, before: Sequence[SealedRecipient]) -> tuple[SealedRecipient, ...]:
        """The list of recipients as this hop hands it on."""
        gone = frozenset(self.removed)
        return (*(one for one in before if one.address not in gone), *self.added)


AnySeal = Core | Entry
_SEAL: msgspec.json.Decoder[AnySeal] = msgspec.json.Decoder(AnySeal)


class _ReportedRecipient(msgspec.Struct, frozen=True, omit_defaults=True):
    action: str
    address: str
    code: str = ""
    original: str = ""
    said_by: str = ""
    status: str = ""
    text: str = ""


class _Report(msgspec.Struct, frozen=True, omit_defaults=True):
    about: str
    kind: str
    reporter: str
    arrived: int = 0
    envelope_id: str = ""
    extension: str = ""
    recipients: tuple[_ReportedRecipient, ...] = ()


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals messages with one certificate's key."""

    signer: Signer
    names: tuple[str, ...]
    """The hosts and mailboxes that the certificate names: what it can seal as."""

    @classmethod
    def of(cls, signer: Signer) -> Sealer:
        """A sealer with this key. Raises SealError for a certificate that names nobody."""
        leaf = x509.load_der_x509_certificate(signer.chain[0])
        names, mailboxes = names_of(leaf), addresses_of(leaf)
        hosts = () if isinstance(names, Fault) else names.hosts
        users = () if isinstance(mailboxes, Fault) else mailboxes
        if not hosts and not users:
            raise SealError("the certificate names neither a host nor a mailbox")
        return cls(signer, (*hosts, *users))

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes) -> Sealer:
        """From the contents of the two files. Raises SealError."""
        try:
            return cls.of(Signer.from_pem(certificate_pem, key_pem))
        except JwsError as error:
            raise SealError(str(error)) from error

    def seal_core(self, envelope: LayeredEnvelope, handover: Handover, now: float) -> LayeredEnvelope:
        """The envelope with the sender's seal, and with our certificates as its only ones.

        The envelope must be complete: objects, extensions, recipients; and without seals. Raises SealError.
        """
        if envelope.seals:
            raise SealError("the envelope has a core already")
        seal = self._sealed(Core(**self._common(envelope, handover, now), **described(envelope)))
        return replace(envelope, certificates=self.signer.chain, seals=(seal,))

    def seal_hop(
        self, came: LayeredEnvelope, recipients: Sequence[RecipientRequest], handover: Handover, now: float
    ) -> LayeredEnvelope:
        """The envelope as it goes on: for these recipients, with our seal as its last.

        `came` is the envelope as we received it; nothing else of it may change. Recipients that it had
        keep their order, new ones follow. Whether the seals so far are good is not asked here. Raises
        SealError.
        """
        if not 1 <= len(came.seals) < MAX_SEALS:
            raise SealError("the envelope has no core, or too many hops have sealed it")
        wanted = set(recipients)
        gone = {one.address: None for one in came.recipients if one not in wanted}
        kept = [one for one in came.recipients if one.address not in gone]
        known = set(kept)
        added = [one for one in recipients if one not in known]
        entry = Entry(
            **self._common(came, handover, now),
            hop=len(came.seals),
            previous=seal_digest(came.seals[-1]),
            added=tuple(map(_recipient, added)),
            removed=tuple(map(str, gone)),
        )
        return replace(
            came,
            recipients=(*kept, *added),
            certificates=tuple(dict.fromkeys((*came.certificates, *self.signer.chain))),
            seals=(*came.seals, self._sealed(entry)),
        )

    def _common(self, envelope: LayeredEnvelope, handover: Handover, now: float) -> dict[str, Any]:
        _check(handover, self.names)
        return {
            "by": handover.by,
            "to": handover.to,
            "time": int(now),
            "certificates": tuple(map(thumbprint_of, self.signer.chain)),
            "id": envelope.id,
            "received": int(handover.received or now),
            "peer": handover.peer,
            "peer_proven": handover.peer_proven,
            "protocol": handover.protocol,
            "tls": handover.tls,
            "verified": dict(handover.verified),
        }

    def _sealed(self, seal: AnySeal) -> str:
        try:
            text = self.signer.compact(canonical(seal), SEAL_TYP)
        except JwsError as error:
            raise SealError(str(error)) from error
        if len(text) > MAX_COMPACT_OCTETS:
            raise SealError("the seal is too large: there are too many recipients")
        return text


def read_seal(payload: bytes) -> AnySeal:
    """The core or entry that a payload is. Raises JwsError."""
    seal = read_canonical(payload, _SEAL, "a seal")
    texts = (seal.by, seal.to, seal.peer, seal.protocol, seal.tls, seal.id)
    if not (
        seal.by and seal.to and all(map(_is_text, texts)) and all(map(_is_moment, (seal.time, seal.received)))
    ):
        raise JwsError("a seal names no host, or holds a text or time that is none")
    if not 1 <= len(seal.certificates) <= MAX_CHAIN or not _are_facts(seal.verified):
        raise JwsError("a seal names no certificate or too many, or more than could have been verified")
    return seal


def seal_digest(seal: str) -> str:
    """How the next entry names a seal: SHA-256 of its text, base64url."""
    return encode(hashlib.sha256(seal.encode("utf-8")).digest())


# -- from envelope to core -------------------------------------------------------------------------------


def described(envelope: LayeredEnvelope) -> dict[str, Any]:
    """What the core says of an envelope, by member: all of it but id, certificates and seals."""
    return {
        "date": envelope.date,
        "envelope_id": envelope.envelope_id,
        "expiry": envelope.expiry,
        "extensions": tuple(map(_extension, envelope.extensions)),
        "hold_until": envelope.hold_until,
        "mpc": str(envelope.mpc) if envelope.mpc is not None else "",
        "objects": tuple(map(_object, envelope.objects)),
        "recipients": tuple(map(_recipient, envelope.recipients)),
        "report": _report_digest(envelope.report) if envelope.report is not None else "",
        "ret": envelope.ret.value,
        "sender": str(envelope.sender) if envelope.sender is not None else "",
    }


def _recipient(one: RecipientRequest) -> SealedRecipient:
    return SealedRecipient(str(one.address), notify_text(one.notify), one.original)


@cache
def notify_text(notify: Notify) -> str:
    """As in RFC 3461: ``SUCCESS,FAILURE``; "" where nothing was asked for."""
    return ",".join(str(one.name) for one in Notify if one in notify)


def _object(entry: ObjectEntry) -> SealedObject:
    return SealedObject(entry.length, entry.part.value, encode(entry.sha256), entry.media_type)


def _extension(one: DeliveryExtension) -> SealedExtension:
    return SealedExtension(one.oid, _digest(one.data.encode("utf-8")), one.critical)


def _report_digest(report: ReportData) -> str:
    recipients = tuple(
        _ReportedRecipient(
            one.action, str(one.address), one.code, one.original, one.said_by, one.status, one.text
        )
        for one in report.recipients
    )
    made = _Report(
        report.about,
        report.kind,
        report.reporter,
        report.arrived,
        report.envelope_id,
        report.extension,
        recipients,
    )
    return _digest(canonical(made))


def _digest(octets: bytes) -> str:
    return encode(hashlib.sha256(octets).digest())


def _check(handover: Handover, names: Sequence[str]) -> None:
    if handover.by not in names:
        raise SealError(f"the certificate does not name {handover.by!r}")
    texts = (handover.to, handover.peer, handover.protocol, handover.tls)
    if not handover.to or not all(map(_is_text, texts)):
        raise SealError("the next host has no name, or something said of the hop is too long or unprintable")
    if not _are_facts(handover.verified):
        raise SealError("what was verified cannot be written down: too much, or unprintable")


def _is_text(text: str) -> bool:
    return len(text) <= _MAX_TEXT and (text.isprintable() or not text)


def _is_moment(seconds: int) -> bool:
    return 0 < seconds < _END_OF_TIME


def _are_facts(verified: Mapping[str, str]) -> bool:
    return len(verified) <= MAX_VERIFIED and all(
        _KEY.fullmatch(key) and value.isprintable() and len(value) <= _MAX_VALUE
        for key, value in verified.items()
    )
