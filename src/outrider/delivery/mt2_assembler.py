"""Makes the objects of a job: by the gateway for mail that came otherwise, unchanged for what came by MT2,
and sealed (MT2-1, MT2-23a, MT2-28a).

The gateway's work and the digests are done once for a message and kept for a while: a message may go to
several domains, and again after a failure. Envelopes are kept too; those that would not come out alike a
second time also over a restart (`mt2_kept`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from outrider.delivery.interface import Job
from outrider.delivery.mt2_assembly import Assembled, OutgoingObjects
from outrider.delivery.mt2_groups import Group, grouped
from outrider.delivery.mt2_kept import KeptTransfers, TransferKey, Written
from outrider.delivery.mt2_recovery import recovered
from outrider.delivery.mt2_sealing import MessageSealer
from outrider.delivery.results import deferred, failed
from outrider.extensions.interface import Carried, ExtensionUnavailable, OutgoingMail
from outrider.gateway.mapping import smtp_to_mt2
from outrider.identity.header_encryption import ENCRYPTED_HEADERS_TYPE, EncryptionError, encrypt_headers
from outrider.identity.jws import thumbprint_of
from outrider.identity.seals import SealError
from outrider.identity.trace import SealPaths
from outrider.message.header_fields import field_values
from outrider.message.objects.envelope import (
    DeliveryExtension,
    LayeredEnvelope,
    ObjectEntry,
    Part,
    read_envelope,
    write_envelope,
)
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import HEADERS_TYPE, HeadersObject, RecipientExtension, write_headers
from outrider.model.content import Content, InlineBody
from outrider.model.envelope import Recipient
from outrider.model.layered import MessageObjects
from outrider.model.message import MessageId, StoredMessage
from outrider.model.result import DeliveryResult
from outrider.model.transaction import RecipientRequest
from outrider.tables.database import StoreUnavailable

BODY_TYPE: Final = "message/body"
INLINE: Final = 1_048_576
"""Octets of a body in memory that are digested at once; others, and bodies in files, in a thread."""
KEPT_FORMS: Final = 128
KEPT_TRANSFERS: Final = 1024
KEPT_OCTETS: Final = 16_777_216
"""Of either, at most."""
_ID_OCTETS: Final = 15
"""Of an envelope's digest, in its transfer id."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class OutgoingExtensions(Protocol):
    """What our own messages carry (MT2-19); the extensions' desk has it."""

    async def outgoing(self, mail: OutgoingMail) -> tuple[Sequence[Carried], Sequence[Carried]]:
        """For the envelope, and for the headers object; the same again for the same message."""
        ...


class Kept(Generic[K, V]):
    """The last few of something, within bounds of number and octets."""

    def __init__(self, most: int, octets: int) -> None:
        self._most, self._octets = most, octets
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._held = 0

    def get(self, key: K) -> V | None:
        """It, as the one used last."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep it; `size` in octets."""
        self._held += size - self._values.pop(key, (value, 0))[1]
        self._values[key] = (value, size)
        while self._values and (len(self._values) > self._most or self._held > self._octets):
            self._held -= self._values.popitem(last=False)[1][1]


@dataclass(frozen=True, slots=True)
class _Form:
    """What the gateway makes of a message."""

    headers: HeadersObject
    octets: bytes
    """The headers object as it is written, without extensions."""
    body_prefix: bytes
    body: ObjectEntry


class Mt2Assembler:
    """Implements `mt2_assembly.Assembler`; made anew by a reload."""

    def __init__(
        self,
        sealer: MessageSealer,
        clock: Callable[[], float],
        certificates: Mapping[str, bytes] | None = None,
        extensions: OutgoingExtensions | None = None,
        paths: SealPaths | None = None,
        kept: KeptTransfers | None = None,
    ) -> None:
        """`certificates` (DER): headers for these addresses and domains are encrypted (MT2-4). `paths` judge
        the seals of objects that come back from SMTP; without them all such mail is plain. `kept`: what
        outlives this object; None where nothing does."""
        self._sealer = sealer
        self._clock = clock
        self._certificates = certificates or {}
        self._extensions = extensions
        self._paths = paths
        self._kept = kept
        self._forms: Kept[str, _Form] = Kept(KEPT_FORMS, KEPT_OCTETS)
        self._written: Kept[TransferKey, Written] = Kept(KEPT_TRANSFERS, KEPT_OCTETS)

    async def assemble(self, job: Job, peer: str) -> Assembled:
        """See `mt2_assembly.Assembler`."""
        message, content = job.message, job.message.content
        if content is None:
            result = deferred("4.3.0", "the message has no content any more", protocol="mt2")
            return Assembled((), dict.fromkeys(job.recipients, result))
        if self._paths is not None:
            message = await recovered(message, self._paths, self._sealer.names)
            content = message.content or content
        came = None
        if message.objects is not None:
            try:
                came = read_envelope(message.objects.envelope)
            except ObjectError as error:
                return Assembled((), dict.fromkeys(job.recipients, _unmade(error)))
            if came.expiry and self._clock() >= came.expiry:
                return Assembled((), dict.fromkeys(job.recipients, _too_late()))
        transfers: list[OutgoingObjects] = []
        results: dict[int, DeliveryResult] = {}
        for group in self._groups(message, job.recipients, content, came):
            try:
                written = await self._one(message, content, came, group, peer)
            except (SealError, ObjectError, EncryptionError, ExtensionUnavailable, StoreUnavailable) as error:
                results.update(dict.fromkeys(group.positions, _unmade(error)))
            else:
                transfers.append(await self._transfer(message, content, written))
        return Assembled(tuple(transfers), results)

    def _groups(
        self,
        message: StoredMessage,
        positions: tuple[int, ...],
        content: Content,
        came: LayeredEnvelope | None,
    ) -> tuple[Group, ...]:
        """What came with a core keeps it; everything else gets one for each destination domain."""
        if came is not None and came.seals:
            return (Group(positions),)
        certificates = self._certificates if came is None else {}
        return grouped(message.envelope.recipients, positions, content.headers, certificates)

    async def _one(
        self,
        message: StoredMessage,
        content: Content,
        came: LayeredEnvelope | None,
        group: Group,
        peer: str,
    ) -> Written:
        key = _key(message.id, group.positions, peer)
        written = self._written.get(key)
        if written is None:
            if came is None or message.objects is None:
                written = await self._by_gateway(message, content, group, peer)
            else:
                written = self._as_it_came(message, message.objects, came, group, peer)
            made_with = self._made_with(message, group)
            if made_with and self._kept is not None:
                written = await self._kept.keep(key, made_with, written)
            self._written.put(key, written, written.size)
        return written

    def _made_with(self, message: StoredMessage, group: Group) -> str:
        """The keys and certificates whose work differs each time; "" where all of it would be the same."""
        salted = (*self._sealer.salted(message), *map(thumbprint_of, group.certificates))
        return " ".join(salted)

    def answered(self, message: MessageId, objects: OutgoingObjects, peer: str) -> None:
        """See `mt2_assembly.Assembler`."""
        if self._kept is not None:
            self._kept.forget(_key(message, objects.positions, peer))

    async def _transfer(self, message: StoredMessage, content: Content, written: Written) -> OutgoingObjects:
        objects = message.objects
        prefix = (
            objects.body_prefix if objects is not None else (await self._form(message, content)).body_prefix
        )
        return OutgoingObjects(
            transfer_id(message.id, self._sealer.hostname, written.envelope),
            written.envelope,
            written.headers,
            written.headers_type,
            prefix,
            content.body if objects is None or objects.has_body else None,
            written.positions,
        )

    # --- what came by MT2, or was made here as objects ------------------------------------------------

    def _as_it_came(
        self,
        message: StoredMessage,
        objects: MessageObjects,
        came: LayeredEnvelope,
        group: Group,
        peer: str,
    ) -> Written:
        requests = _requests(message, group.positions)
        if came.seals:
            sealed = self._sealer.onward(came, requests, message, peer)
        else:
            sealed = self._sealer.new(replace(came, recipients=requests), message, peer)
        headers_type = objects.headers_type if objects.headers else ""
        positions = _in_order(sealed.recipients, requests, group.positions)
        return Written(write_envelope(sealed), objects.headers, headers_type, positions)

    # --- what came otherwise --------------------------------------------------------------------------

    async def _by_gateway(self, message: StoredMessage, content: Content, group: Group, peer: str) -> Written:
        form = await self._form(message, content)
        for_envelope, for_headers = await self._carried(message, content, group)
        headers, headers_type = form.octets, HEADERS_TYPE
        if for_headers:
            headers = write_headers(replace(form.headers, extensions=tuple(map(_extension, for_headers))))
        if group.certificates:
            headers, headers_type = encrypt_headers(headers, group.certificates), ENCRYPTED_HEADERS_TYPE
        digest = hashlib.sha256(headers).digest()
        envelope = LayeredEnvelope(
            id=f"{message.id}@{self._sealer.hostname}",
            sender=message.envelope.sender,
            recipients=_requests(message, group.positions),
            date=int(message.received_at),
            ret=message.envelope.ret,
            envelope_id=message.envelope.envelope_id,
            mpc=message.envelope.mpc,
            objects=(ObjectEntry(Part.HEADERS, headers_type, digest, len(headers)), form.body),
            extensions=tuple(DeliveryExtension(one.oid, one.data, one.critical) for one in for_envelope),
        )
        sealed = self._sealer.new(envelope, message, peer)
        return Written(write_envelope(sealed), headers, headers_type, group.positions)

    async def _carried(
        self, message: StoredMessage, content: Content, group: Group
    ) -> tuple[Sequence[Carried], Sequence[Carried]]:
        """What our own users' mail carries."""
        sender = message.envelope.sender
        if self._extensions is None or sender is None or not message.envelope.authenticated_as:
            return (), ()
        recipients = tuple(message.envelope.recipients[one].address for one in group.positions)

        def fields(name: str) -> tuple[str, ...]:
            values = field_values(content.headers, name.encode("ascii", "replace"))
            return tuple(value.decode("utf-8", "replace") for value in values)

        mail = OutgoingMail(message.id, sender, recipients, message.received_at, fields)
        return await self._extensions.outgoing(mail)

    async def _form(self, message: StoredMessage, content: Content) -> _Form:
        form = self._forms.get(message.id)
        if form is None:
            made = smtp_to_mt2(message.trace + content.headers)
            digest = await _digest(made.body_prefix, content)
            size = len(made.body_prefix) + content.body.size
            entry = ObjectEntry(Part.BODY, BODY_TYPE, digest, size)
            form = _Form(made.headers, write_headers(made.headers), made.body_prefix, entry)
            self._forms.put(message.id, form, 2 * len(form.octets) + len(form.body_prefix))
        return form


async def _digest(prefix: bytes, content: Content) -> bytes:
    body = content.body
    if isinstance(body, InlineBody) and body.size <= INLINE:
        return hashlib.sha256(prefix + body.octets).digest()

    def work() -> bytes:
        digest = hashlib.sha256(prefix)
        for chunk in body.chunks():
            digest.update(chunk)
        return digest.digest()

    return await asyncio.to_thread(work)


def _key(message: MessageId, positions: Sequence[int], peer: str) -> TransferKey:
    return TransferKey(message, tuple(sorted(positions)), peer)


def transfer_id(message: str, hostname: str, envelope: bytes) -> str:
    """One for each envelope, the same whenever the envelope is (MT2-18a)."""
    mark = base64.b32encode(hashlib.sha256(envelope).digest()[:_ID_OCTETS]).decode("ascii").lower()
    return f"{message}.{mark}@{hostname}"


def _requests(message: StoredMessage, positions: Sequence[int]) -> tuple[RecipientRequest, ...]:
    recipients = message.envelope.recipients
    return tuple(map(_request, (recipients[position] for position in positions)))


def _request(one: Recipient) -> RecipientRequest:
    return RecipientRequest(one.address, one.notify, one.original)


def _in_order(
    named: Sequence[RecipientRequest], requests: Sequence[RecipientRequest], positions: Sequence[int]
) -> tuple[int, ...]:
    """The positions in the order in which the envelope names their recipients."""
    by_request = dict(zip(requests, positions, strict=True))
    return tuple(by_request[one] for one in named)


def _extension(one: Carried) -> RecipientExtension:
    return RecipientExtension(one.oid, one.data, one.recipient, one.errors)


def _unmade(error: Exception) -> DeliveryResult:
    """A seal that cannot be made waits for its certificate; an object that cannot be made is for good."""
    if isinstance(error, StoreUnavailable):
        return deferred("4.3.0", "what is sent cannot be written down now", protocol="mt2")
    if isinstance(error, ExtensionUnavailable):
        return deferred("4.3.0", "what an extension adds to the message cannot be had now", protocol="mt2")
    if isinstance(error, SealError):
        return deferred("4.3.5", f"the message cannot be sealed: {error}", protocol="mt2")
    return failed("5.6.3", f"the message has no form in mt2: {error}", protocol="mt2")


def _too_late() -> DeliveryResult:
    return failed("5.4.7", "the time that its sender gave it is over", protocol="mt2")
