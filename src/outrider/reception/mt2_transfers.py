"""Transfers under way, what has come of each, and what is kept of those that broke off (MT2-14, MT2-18b).

A body is written down while it arrives, in the spool's own folder of bodies, under no message's name yet: one
that is given up is removed, and one whose connection broke is kept open here, with the state of its digest,
so that the rest can be appended. A server that ends in order saves what it has (`mt2_saved`), and one of
several workers does so at once (`mt2_shared`); after a crash the spool removes the rest, as it removes every
body that no message names, and the peer, which asks STAT, begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from outrider.gateway.mapping import MAX_BODY_PREFIX, Rendered, split_body
from outrider.message.objects.envelope import (
    ENVELOPE_TYPE,
    LayeredEnvelope,
    ObjectEntry,
    Part,
    read_envelope,
)
from outrider.message.objects.errors import ObjectError
from outrider.model.content import Body, InlineBody
from outrider.model.message import MessageId
from outrider.protocols.mt2.codes import Result
from outrider.reception.assembling import MailTransaction
from outrider.reception.committing import KeptBody
from outrider.reception.interface import Session
from outrider.reception.mt2_interface import PartKind
from outrider.reception.mt2_saved import MOST_IN_ALL, MOST_PARTIALS, Key, Parts, SavedPartials
from outrider.spool.interface import SpoolError
from outrider.wire.line_ends import LineEndCheck

_KINDS = {Part.HEADERS: PartKind.HEADERS, Part.BODY: PartKind.BODY}
MakeStream = Callable[[], KeptBody]


class ArrivingBody:
    """A body object while it comes: its MIME fields in memory, the rest in memory or in the spool."""

    def __init__(self, entry: ObjectEntry, inline_limit: int) -> None:
        self._entry = entry
        self._limit = inline_limit
        self._hash = hashlib.sha256()
        self.size = 0
        """Octets so far."""
        self._first = b""
        self.prefix: bytes | None = None
        """MIME fields and empty line, once they are whole."""
        self.fault: ObjectError | None = None
        """It is no MIME entity; the rest of it is only counted."""
        self._check = LineEndCheck()
        self.is_ascii = True
        self._held: list[bytes] = []
        self._held_size = 0
        self.stream: KeptBody | None = None
        self.is_writing = False
        """The spool is still at work on an earlier piece."""

    @property
    def is_too_long(self) -> bool:
        """More came than the envelope says."""
        return self.size > self._entry.length

    def write(self, octets: bytes, make_stream: MakeStream) -> Awaitable[None] | None:
        """Append."""
        self.size += len(octets)
        if self.is_too_long or self.fault is not None:
            return None
        self._hash.update(octets)
        rest = octets if self.prefix is not None else self._find_prefix(octets)
        return self._add(rest, make_stream) if rest else None

    def _find_prefix(self, octets: bytes) -> bytes:
        """Gather the MIME fields; what follows them, once they are whole."""
        self._first += octets
        is_whole = self._first.startswith(b"\r\n") or b"\r\n\r\n" in self._first
        if not is_whole and len(self._first) < min(MAX_BODY_PREFIX, self._entry.length):
            return b""
        try:
            self.prefix, rest = split_body(self._first)
        except ObjectError as error:
            self.fault = error
            return b""
        finally:
            self._first = b""
        return rest

    def _add(self, octets: bytes, make_stream: MakeStream) -> Awaitable[None] | None:
        self._check.feed(octets)
        self.is_ascii = self.is_ascii and octets.isascii()
        if self.stream is None and self._entry.length <= self._limit:
            self._held.append(octets)
            return None
        if self.stream is None:
            self.stream = make_stream()
        waiting = self.stream.write(octets)
        return None if waiting is None else self._written(waiting)

    async def _written(self, waiting: Awaitable[None]) -> None:
        self.is_writing = True
        try:
            await waiting
        finally:
            self.is_writing = False

    def is_clean(self, header_section: bytes) -> bool:
        """Whether header section and body are free of stray CR, LF and NUL; once, at the end."""
        of_headers = LineEndCheck()
        of_headers.feed(header_section)
        return of_headers.finish() and self._check.finish()

    def digest(self) -> bytes:
        """SHA-256 of what came."""
        return self._hash.digest()

    @property
    def first(self) -> bytes:
        """What came up to the end of the MIME fields, or of them."""
        return self._first if self.prefix is None else self.prefix

    async def finish(self) -> Body:
        """What is behind the MIME fields: durable, or in memory."""
        return self.inline() if self.stream is None else await self.stream.finish()

    def inline(self) -> InlineBody:
        """The same of one that is in memory."""
        return InlineBody(self._held[0] if len(self._held) == 1 else b"".join(self._held))

    async def abandon(self) -> None:
        """Forget it."""
        if self.stream is not None:
            await self.stream.abandon()


class Course(Enum):
    """How far a transfer is."""

    OPEN = "open"
    STORING = "storing"
    """The commit is under way: nothing stops it."""
    ENDED = "ended"
    """Taken, refused, killed, or gone with its connection."""


@dataclass(slots=True, eq=False)
class Transfer:
    """One transfer on its connection."""

    session: Session
    id: str
    peer: str
    """The proven identity; "" for none: then it is neither remembered nor resumed."""
    state: Course = Course.OPEN
    refusal: Result | None = None
    octets: bytes = b""
    """The envelope, as it came."""
    digest: bytes = b""
    envelope: LayeredEnvelope | None = None
    results: dict[int, Result] = field(default_factory=dict)
    """Of recipients that were not taken, by position from 1."""
    mail: MailTransaction | None = None
    headers: bytearray = field(default_factory=bytearray)
    fields: Rendered | None = None
    """What the headers say to SMTP and to rules; None where they are encrypted, or not there."""
    headers_complete: bool = False
    body: ArrivingBody | None = None
    saved: Parts | None = None
    """What came before this server was restarted: the body lies in a file yet."""
    _entries: dict[PartKind, ObjectEntry] = field(default_factory=dict)
    message_id: MessageId | None = None
    """Of the partial transfer that this one goes on with: its body was begun under that name."""
    is_claimed: bool = False
    """No other worker may have it (`mt2_shared`)."""

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.peer, self.id

    def is_about(self, envelope: LayeredEnvelope) -> None:
        """The envelope has been read: which objects are to come."""
        self.envelope = envelope
        self._entries = {_KINDS[one.part]: one for one in envelope.objects}

    def entry(self, kind: PartKind) -> ObjectEntry | None:
        """The object as the envelope lists it."""
        return self._entries.get(kind)

    def next_entry(self) -> ObjectEntry | None:
        """The object that is to come next; None when all have come."""
        headers = self._entries.get(PartKind.HEADERS)
        if headers is not None and not self.headers_complete:
            return headers
        return self._entries.get(PartKind.BODY)

    def held(self) -> dict[str, int]:
        """Octets held of each object, by media type (MT2-13)."""
        found = {ENVELOPE_TYPE: len(self.octets)}
        for kind, size in (
            (PartKind.HEADERS, len(self.headers)),
            (PartKind.BODY, self._body_size),
        ):
            entry = self.entry(kind)
            if entry is not None:
                found[entry.media_type] = size
        return found

    @property
    def _body_size(self) -> int:
        if self.body is not None:
            return self.body.size
        return 0 if self.saved is None else self.saved.body_size

    @property
    def size(self) -> int:
        """Octets held in all."""
        return sum(self.held().values())

    def detached(self) -> Transfer:
        """What has come so far, without its connection: this one has nothing any more."""
        kept = Transfer(
            self.session,
            self.id,
            self.peer,
            Course.ENDED,
            octets=self.octets,
            digest=self.digest,
            envelope=self.envelope,
            _entries=self._entries,
            headers=self.headers,
            body=self.body,
            message_id=None if self.mail is None else self.mail.id,
            is_claimed=self.is_claimed,
        )
        self.state, self.body, self.is_claimed = Course.ENDED, None, False
        return kept

    def go_on_with(self, kept: Transfer) -> None:
        """The connection broke amid this transfer: what had come by then is ours (MT2-18b)."""
        self.headers, self.body, self.message_id = kept.headers, kept.body, kept.message_id
        self.saved = kept.saved
        if self.mail is None or self.body is None:
            return
        if self.body.stream is not None:
            self.body.stream.belongs_to(self.mail)
            self.mail.stream = self.body.stream
            if kept.message_id is not None:
                self.mail.id = kept.message_id  # the spool knows the body by it

    @property
    def is_worth_keeping(self) -> bool:
        """Whether something can be resumed: the envelope was accepted, and what came since is sound."""
        if not self.peer or self.mail is None or self.refusal is not None or self.mail.failure is not None:
            return False
        return self.body is None or not (self.body.is_too_long or self.body.fault or self.body.is_writing)


class Kept(Protocol):
    """What is kept of transfers whose connection broke (MT2-18b)."""

    @property
    def saved(self) -> SavedPartials | None:
        """Where it lies in files."""
        ...

    def find(self, key: Key, session: Session) -> Transfer | None:
        """What is kept of a transfer that `session` asks about."""
        ...

    def keep(self, transfer: Transfer) -> bool:
        """Keep it, and let older ones go where they are too many; False when it is itself too large."""
        ...

    def take(self, key: Key) -> Transfer | None:
        """Go on with it: it is the caller's now, with the file that it may lie in."""
        ...

    def forget(self, key: Key) -> None:
        """Remove it with its body."""
        ...

    async def close(self) -> None:
        """Keep nothing any more but in files: the server ends."""
        ...


class TransferBook:
    """All transfers of one process: those under way, and those that broke off. It outlives a reload.

    What is said here of other workers is `mt2_shared.SharedBook`'s; a server of one process has none.
    """

    def __init__(self, resume_for: float, space: int, saved: SavedPartials | None = None) -> None:
        """`saved`: None where nothing outlives this process."""
        self.partials: Kept = Partials(resume_for, space, saved)
        self._by_session: dict[str, dict[str, Transfer]] = {}
        self._by_key: dict[Key, Transfer] = {}

    def begin(self, transfer: Transfer) -> None:
        """It is under way."""
        self._by_session.setdefault(transfer.session.id, {})[transfer.id] = transfer
        if transfer.peer:
            self._by_key[transfer.key] = transfer

    def of(self, session: Session, transfer: str) -> Transfer | None:
        """The transfer of that id in a session."""
        return self._by_session.get(session.id, {}).get(transfer)

    def under_way(self, key: Key) -> Transfer | None:
        """The transfer of that identity, in whatever session."""
        return self._by_key.get(key)

    def all_of(self, session: Session) -> tuple[Transfer, ...]:
        """What is under way in a session."""
        return tuple(self._by_session.get(session.id, {}).values())

    async def claimed(self, transfer: Transfer) -> bool:
        """Claim it before all other workers, also from one where it only waits for octets. False: one of them
        has it, or it has ended meanwhile. Raises OSError."""
        del transfer
        return True

    def owns(self, transfer: Transfer) -> bool:
        """Whether what is kept of it is this one's to remove."""
        return bool(transfer.peer)

    def disclaim(self, transfer: Transfer) -> None:
        """Other workers may have it now."""

    async def held_elsewhere(self, key: Key) -> Mapping[str, int] | None:
        """What another worker holds of a transfer that is under way there; None: there is none. Raises
        SpoolUnavailable when it has it and does not say."""
        del key
        return None

    async def written(self, key: Key) -> None:
        """Wait until what is to be kept of a transfer is."""

    def end(self, transfer: Transfer) -> None:
        """It is no longer under way."""
        transfer.state = Course.ENDED
        self.disclaim(transfer)
        of_session = self._by_session.get(transfer.session.id)
        if of_session is not None and of_session.get(transfer.id) is transfer:
            del of_session[transfer.id]
            if not of_session:
                del self._by_session[transfer.session.id]
        if self._by_key.get(transfer.key) is transfer:
            del self._by_key[transfer.key]


@dataclass(slots=True)
class _Kept:
    transfer: Transfer
    until: float
    """By the loop's clock."""
    size: int


def recalled(saved: SavedPartials, key: Key, session: Session) -> Transfer | None:
    """What lies in a file, for a transfer that `session` asks about."""
    parts = saved.find(key)
    if parts is None:
        return None
    found = Transfer(session, parts.id, parts.peer, Course.ENDED, octets=parts.envelope, saved=parts)
    found.headers = bytearray(parts.headers)
    found.digest = hashlib.sha256(parts.envelope).digest()
    try:
        found.is_about(read_envelope(parts.envelope))
    except ObjectError:
        saved.forget(key)
        return None
    return found


async def save(saved: SavedPartials, transfer: Transfer, until: float) -> None:
    """Write down what came of a transfer, and give it up here. What cannot be written is lost: its sender
    begins anew."""
    body, octets, headers = transfer.body, transfer.octets, bytes(transfer.headers)
    size = 0 if body is None else body.size
    parts = Parts(transfer.peer, transfer.id, until, octets, headers, size)
    first = b"" if body is None else body.first
    try:
        rest = None if body is None else await body.finish()
        if size == len(first) + (0 if rest is None else rest.size):
            await asyncio.to_thread(saved.save, parts, first, rest)
    except (OSError, SpoolError):
        pass
    finally:
        if body is not None:
            await body.abandon()


class Partials:
    """What a server of one process keeps: bodies open, in memory or in the spool, until it ends."""

    def __init__(self, resume_for: float, space: int, saved: SavedPartials | None = None) -> None:
        self.saved = saved
        self._resume_for = resume_for
        self._space = space
        self._kept: dict[Key, _Kept] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._going: set[asyncio.Task[None]] = set()

    def find(self, key: Key, session: Session) -> Transfer | None:
        """What is kept of a transfer that `session` asks about."""
        kept = self._kept.get(key)
        if kept is not None:
            return kept.transfer
        return None if self.saved is None else recalled(self.saved, key, session)

    def keep(self, transfer: Transfer) -> bool:
        """Keep it, and let older ones go where they are too many; False when it is itself too large."""
        size = transfer.size
        if size > self._space:
            return False
        self.forget(transfer.key)
        now = asyncio.get_running_loop().time()
        self._kept[transfer.key] = _Kept(transfer, now + self._resume_for, size)
        self._make_room(transfer.peer)
        self._plan()
        return True

    def _make_room(self, peer: str) -> None:
        own = [key for key in self._kept if key[0] == peer]
        for key in own[:-MOST_PARTIALS]:
            self.forget(key)
        # Whoever fills the space loses the oldest of its own first: one peer must not push out the others'.
        own = [key for key in self._kept if key[0] == peer]
        while self._octets() > self._space and len(own) > 1:
            self.forget(own.pop(0))
        while self._octets() > self._space or len(self._kept) > MOST_IN_ALL:
            self.forget(next(iter(self._kept)))

    def _octets(self) -> int:
        return sum(kept.size for kept in self._kept.values())

    def take(self, key: Key) -> Transfer | None:
        """Go on with it: it is the caller's now, with the file that it may lie in."""
        kept = self._kept.pop(key, None)
        return None if kept is None else kept.transfer

    def forget(self, key: Key) -> None:
        """Remove it with its body."""
        if self.saved is not None:
            self.saved.forget(key)
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._abandon((kept.transfer,))

    def _plan(self) -> None:
        if self._timer is None and self._kept:
            first = min(kept.until for kept in self._kept.values())
            self._timer = asyncio.get_running_loop().call_at(first, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for key in [key for key, kept in self._kept.items() if kept.until <= now]:
            self.forget(key)
        self._plan()

    def _abandon(self, transfers: Iterable[Transfer]) -> None:
        for transfer in transfers:
            if transfer.body is not None and transfer.body.stream is not None:
                task = asyncio.get_running_loop().create_task(transfer.body.abandon())
                self._going.add(task)
                task.add_done_callback(self._going.discard)

    async def close(self) -> None:
        """Give up all: the server ends. What can be is saved for its successor."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key in list(self._kept):
            if self.saved is None:
                self.forget(key)
            else:
                kept = self._kept.pop(key)
                until = self.saved.now() + kept.until - asyncio.get_running_loop().time()
                await save(self.saved, kept.transfer, until)
        if self._going:
            await asyncio.wait(self._going)
