"""What goes with a message that came by MT2 and leaves by SMTP or into a mailbox (MT2-28b, MT2-29).

Envelope, headers object and the body's first octets ride along in fields on top of the message; a mailbox
keeps them in the file itself: whoever moves the file moves them too, and any reader of mail is content. Over
SMTP the envelope has our entry as well, as it would by MT2: to the host that takes the message next.

An envelope names all recipients of its core. Nothing rides along where that would show a blind copy: where
it names somebody beside the one recipient whom To and Cc do not name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from outrider.delivery.envelope_links import SMTP_PROTOCOLS, with_links
from outrider.delivery.interface import Job
from outrider.delivery.mt2_groups import named_in
from outrider.delivery.mt2_sealing import MessageSealer
from outrider.gateway.ride_along import ride_along
from outrider.identity.seals import SealError
from outrider.message.objects.envelope import LayeredEnvelope, read_envelope, write_envelope
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import HEADERS_TYPE
from outrider.model.envelope import Recipient
from outrider.model.layered import MessageObjects
from outrider.model.message import StoredMessage
from outrider.model.transaction import RecipientRequest

MAILBOXES = ("maildir", "pipe")
"""Transports that hand the message to its recipient."""


class Departure:
    """Makes the fields that ride along."""

    def __init__(
        self,
        sealer: MessageSealer | None,
        *,
        wanted: bool = True,
        handed_in: Callable[[Job], Job] | None = None,
    ) -> None:
        """Without a `sealer` the objects go as they came. `wanted` is [mt2] hidden_part. `handed_in` makes of
        jobs for AMDP's holding facility what it takes, where that is another server (AMDP-2)."""
        self._handed_in = handed_in
        self._sealer = sealer
        self._wanted = wanted

    def for_transport(self, job: Job, transport: str) -> Sequence[Job]:
        """The job as a transport of this machine gets it: for each mailbox what may be in that one."""
        job = with_links(job)
        if job.message.objects is None or transport not in MAILBOXES or not self._wanted:
            return (job,)
        return [
            Job(_with(job.message, self.for_mailbox(job.message, position)), (position,))
            for position in job.recipients
        ]

    def dressed(self, job: Job, protocol: str, to: str) -> Job:
        """The job as it goes to the host `to`: over MT2 as it is."""
        if protocol not in SMTP_PROTOCOLS:
            job = with_links(job)
        elif self._handed_in is not None:
            job = self._handed_in(job)
        if job.message.objects is None or protocol == "mt2" or not self._wanted:
            return job
        return Job(_with(job.message, self.for_host(job, to)), job.recipients)

    def for_mailbox(self, message: StoredMessage, position: int) -> bytes:
        """The fields for the recipient at that position; b"" for none."""
        opened = self._opened(message, (position,))
        return b"" if opened is None else ride_along(opened[0])

    def for_host(self, job: Job, to: str) -> bytes:
        """The fields for the job's recipients, whose mail goes to the host `to`; b"" for none."""
        message = job.message
        opened = self._opened(message, job.recipients)
        if opened is None:
            return b""
        objects, came = opened
        if self._sealer is None:
            return ride_along(objects)
        recipients = message.envelope.recipients
        requests = tuple(request_of(recipients[one]) for one in job.recipients)
        try:
            if came.seals:
                sealed = self._sealer.onward(came, requests, message, to)
            else:
                sealed = self._sealer.new(replace(came, recipients=requests), message, to)
            return ride_along(replace(objects, envelope=write_envelope(sealed)))
        except (SealError, ObjectError):
            return b""  # SMTP promises no seals; the mail goes without

    def _opened(
        self, message: StoredMessage, positions: Sequence[int]
    ) -> tuple[MessageObjects, LayeredEnvelope] | None:
        objects, content = message.objects, message.content
        if not self._wanted or objects is None or content is None:
            return None
        try:
            came = read_envelope(objects.envelope)
        except ObjectError:
            return None
        recipients = message.envelope.recipients
        alone = recipients[positions[0]] if len(positions) == 1 else None
        is_readable = objects.headers_type == HEADERS_TYPE
        if is_readable and not shows_nobody(came, content.headers, alone):
            return None
        return objects, came


NOTHING_RIDES_ALONG = Departure(None, wanted=False)


def _with(message: StoredMessage, fields: bytes) -> StoredMessage:
    return replace(message, trace=message.trace + fields) if fields else message


def shows_nobody(came: LayeredEnvelope, headers: bytes, alone: Recipient | None) -> bool:
    """Whether the envelope names nobody whom the header section does not, but for the one who gets it."""
    hidden = {one.address.key for one in came.recipients}
    if alone is not None:
        hidden -= {alone.address.key}
    return not hidden or hidden <= named_in(headers)


def request_of(one: Recipient) -> RecipientRequest:
    """A recipient as an envelope names it."""
    return RecipientRequest(one.address, one.notify, one.original)


def goes_by_mt2_only(message: StoredMessage) -> str:
    """Why the message may leave by no other protocol; "" where it may: a critical extension is processed or
    the message refused, and no other protocol has anybody who could (MT2-19)."""
    objects = message.objects
    if objects is None or b"critical" not in objects.envelope:
        return ""
    try:
        came = read_envelope(objects.envelope)
    except ObjectError:
        return ""
    oid = next((one.oid for one in came.extensions if one.critical), "")
    return f"the message has the critical extension {oid}, which only mt2 carries" if oid else ""
