"""Before MAIL: who can be sent to at this server, with how many others, and what has to be declared.

Facts in, decisions out; the driver acts on them. What cannot go is known before anything is sent, so a server
is never asked to refuse what its own offers rule out (SMTP-3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outrider.model.envelope import BodyType, Envelope
from outrider.protocols.smtp.client_commands import fits_in_path
from outrider.protocols.smtp.client_content import Survey, Unsendable
from outrider.protocols.smtp.client_events import Mail
from outrider.protocols.smtp.client_offers import Offers

_BAD_SENDER = Unsendable("5.1.7", "the sender's address holds characters that cannot be sent")
_BAD_RECIPIENT = Unsendable("5.1.3", "the address holds characters that cannot be sent")
_NO_UTF8_ADDRESS = Unsendable("5.6.7", "the server does not take internationalised addresses (no SMTPUTF8)")
_NO_UTF8_HEADERS = Unsendable("5.6.9", "the server does not take UTF-8 in header fields (no SMTPUTF8)")


@dataclass(frozen=True, slots=True)
class Sortable:
    """The part of a message that decides for whom it can go, besides the content's own needs."""

    envelope: Envelope
    utf8_headers: bool
    """The header section is not ASCII, and SMTPUTF8 was declared when the message came."""


def unsendable_for_all(mail: Sortable, offers: Offers) -> Unsendable | None:
    """Why nobody at this server can be sent to; None when it depends on the recipient, if at all."""
    sender = mail.envelope.sender
    if sender is not None and not fits_in_path(sender):
        return _BAD_SENDER
    if "SMTPUTF8" in offers:
        return None
    if sender is not None and not sender.is_ascii:
        return _NO_UTF8_ADDRESS
    return _NO_UTF8_HEADERS if mail.utf8_headers else None


def unsendable_recipients(
    mail: Sortable, positions: Sequence[int], offers: Offers
) -> Mapping[int, Unsendable]:
    """Those who cannot be sent to, each with the reason (RFC 6531 section 3.5: the others can)."""
    refused: dict[int, Unsendable] = {}
    utf8 = "SMTPUTF8" in offers
    for position in positions:
        address = mail.envelope.recipients[position].address
        if not fits_in_path(address):
            refused[position] = _BAD_RECIPIENT
        elif not utf8 and not address.is_ascii:
            refused[position] = _NO_UTF8_ADDRESS
    return refused


def too_large(size: int, offers: Offers) -> Unsendable | None:
    """SIZE honoured before sending (RFC 1870 section 6.1)."""
    most = offers.largest_message
    if not most or size <= most:
        return None
    return Unsendable("5.3.4", f"message of {size} octets is larger than the server takes ({most})")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much fits into one transaction; 0 = no limit."""

    recipients: int
    domains: int = 0


def batch_limits(configured: int, offers: Offers) -> BatchLimits:
    """Ours and the server's (RFC 9422: RCPTMAX, RCPTDOMAINMAX) together."""
    announced = offers.limit("RCPTMAX")
    both = [limit for limit in (configured, announced) if limit]
    return BatchLimits(min(both, default=0), offers.limit("RCPTDOMAINMAX"))


def next_batch(envelope: Envelope, waiting: Sequence[int], limits: BatchLimits) -> tuple[int, ...]:
    """The recipients of the next transaction: at least one, in order."""
    batch: list[int] = []
    domains: set[str] = set()
    for position in waiting:
        domain = envelope.recipients[position].address.domain
        if limits.domains and domain not in domains and len(domains) == limits.domains:
            continue
        domains.add(domain)
        batch.append(position)
        if len(batch) == limits.recipients:
            break
    return tuple(batch)


def prepare_mail(
    envelope: Envelope,
    batch: Sequence[int],
    found: Survey,
    offers: Offers,
    *,
    binary: bool,
    content: bytes | None,
) -> Mail:
    """What the core needs for one transaction. `found` is of the content in the form in which it goes."""
    if binary:
        body_type = BodyType.BINARY
    elif found.eight_bit and "8BITMIME" in offers:
        body_type = BodyType.EIGHT_BIT
    else:
        body_type = BodyType.SEVEN_BIT
    return Mail(
        sender=envelope.sender,
        recipients={position: envelope.recipients[position] for position in batch},
        size=found.size,
        body_type=body_type,
        smtputf8="SMTPUTF8" in offers and _has_utf8(envelope, batch),
        ret=envelope.ret,
        envelope_id=envelope.envelope_id,
        mpc=envelope.mpc,
        amdp=goes_as_envelope(envelope, offers),
        content=content,
    )


def goes_as_envelope(envelope: Envelope, offers: Offers) -> bool:
    """Whether the message is an envelope of AMDP and the server handles it as one (AMDP-5a)."""
    return bool(envelope.link_token) and "AMDP" in offers


def _has_utf8(envelope: Envelope, batch: Sequence[int]) -> bool:
    # What was declared is passed on: nested parts may hold UTF-8 headers that nobody has looked for.
    if envelope.smtputf8 or (envelope.sender is not None and not envelope.sender.is_ascii):
        return True
    return not all(envelope.recipients[position].address.is_ascii for position in batch)
