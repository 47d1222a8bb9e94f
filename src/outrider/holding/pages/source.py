"""What the retrieval page needs of the holding facility; the facility implements it (AMDP-13).

A page is asked for with two things: the message id (which names one recipient's copy) and a secret, which is
the confirmation number that the receiver's server got when it called back, or the link token of an envelope
that went to a server without AMDP (AMDP-5a). Whoever has both is the recipient; nothing else is ever
disclosed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from outrider.holding.web import IPAddress


class Proof(Enum):
    """How the recipient's side has made sure who the holder is."""

    CALLED_BACK = "called-back"
    """The recipient's server called back, found this facility genuine for the sender's domain, and
    acknowledged (AMDP-8, AMDP-9); the secret is its confirmation number."""
    LINK = "link"
    """The recipient's server has no AMDP: nobody has called back; the secret is the link token (AMDP-5a)."""


@dataclass(frozen=True, slots=True)
class ListedAttachment:
    """One entry of AMDP-Attachments, as the sender's gateway counted it."""

    name: str
    type: str
    size: int
    """Octets."""


@dataclass(frozen=True, slots=True)
class HeldDescription:
    """What is held for one recipient: decoded text, not escaped, of any characters (the page sees to
    that)."""

    id: str
    """AMDP-Msg-Id of the recipient's copy."""
    sender: str
    """AMDP-From: the address; its domain is the one that is authenticated."""
    recipient: str
    subject: str
    mail_class: str
    """Three parts, as in the envelope; "" where it has none."""
    language: str
    """AMDP-Language (ISO 639), "" where unknown."""
    attachments: tuple[ListedAttachment, ...]
    size: int
    """Octets of the message."""
    digest: str
    """AMDP-Digest, the whole value."""
    date: float
    """When it was written (AMDP-Date), in seconds since the epoch, as all times here."""
    expires: float
    """Until when it can be had (AMDP-Expire-On)."""
    proof: Proof
    proven_at: float = 0.0
    """When the recipient's server acknowledged; 0 for Proof.LINK."""
    proven_by: str = ""
    """Who that was: the name or address from which it called; "" for Proof.LINK."""
    opened_at: float = 0.0
    """When it was first opened or fetched; 0 = not yet."""
    received_at: float = 0.0
    """When receipt was first confirmed; 0 = not yet. Its content is then not to be had any more."""


class PageBusy(Exception):
    """Not now: too many unknown ids from this address (AMDP-12), or the store is not to be had."""

    def __init__(self, seconds: int, *, guessing: bool = False) -> None:
        super().__init__("not now")
        self.seconds = seconds
        """After which it may be tried again (Retry-After)."""
        self.guessing = guessing
        """429 instead of 503."""


class PageSource(Protocol):
    """The facility as the page sees it.

    None and False mean "nothing to be had", the same for ids that are unknown, expired, withdrawn, deleted
    or asked for with a wrong secret, and take the same time (SEC-181). `client` is who asks, for limits and
    the trail. Every method may raise PageBusy.
    """

    async def describe(self, msg_id: str, secret: str, client: IPAddress) -> HeldDescription | None:
        """What is held. Changes and counts nothing (AMDP-13): link scanners come here."""
        ...

    async def open(self, msg_id: str, secret: str, client: IPAddress) -> HeldDescription | None:
        """The reader pressed the button: state retrieved, the sender's hook and status know of it; with a
        link token this unlocks, with the fact `unauthenticated receiver` (AMDP-5a). May be repeated; the
        first counts. `opened_at` is set in what is returned."""
        ...

    def content(self, msg_id: str, secret: str, start: int = 0) -> AsyncIterator[bytes]:
        """The stored octets from `start` on, after `open`; changes nothing. Pieces of at most 256 KiB;
        whoever stops before the end closes it (`aclose`). Raises LookupError (before the first piece, or
        between two) when the message is gone or was never opened."""
        ...

    async def received(self, msg_id: str, secret: str, client: IPAddress) -> bool:
        """The reader has it: receipt to the sender if asked, deletion once all ids are done (AMDP-6). May be
        repeated. False when there is nothing, or when it was never opened."""
        ...
