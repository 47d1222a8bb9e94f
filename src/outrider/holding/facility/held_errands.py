"""What has to be done once when a held message is retrieved, expires or is refused: the sender's receipt,
the operator's hook, a refund of postage (AMDP-6, AMDP-20).

It is decided in the transaction that changes the copy, and done afterwards, again and again until it is. A
receipt's queue id is drawn with the decision: the spool refuses it a second time, so that no crash doubles
it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace

from outrider.delivery.interface import FreshMail
from outrider.delivery.reports import Outcomes, Reporting, report_on
from outrider.delivery.results import cleaned
from outrider.holding.facility.held_records import CopyState, Errand, HeldCopy, HeldMessage
from outrider.holding.facility.held_store import HeldStore
from outrider.holding.facility.held_thread import HeldThreads
from outrider.holding.facility.held_upkeep import (
    add_errand,
    claim_errands,
    errand_done,
    keep_errand,
    resume_errands,
)
from outrider.holding.facility.observer import FacilityObserver
from outrider.holding.postage.provider_interface import Bill, Payer, PostageUnavailable
from outrider.message.dates import format_date
from outrider.message.encoded_words import encode_phrase
from outrider.model.address import AddressError, parse_address
from outrider.model.content import inline_content
from outrider.model.envelope import Envelope, Notify, Recipient, Return
from outrider.model.message import MessageId, NewMessage, RecipientState, RecipientStatus, StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.ways import split_command
from outrider.spool.interface import Conflict, NotFound, Spool, SpoolError

RECEIPT, HOOK, REFUND = "receipt", "hook", "refund"
RETRIEVAL = "amdp-retrieval"
"""The protocol of results that receipts tell: one whose positive reports are ours to make."""
AT_ONCE = 20
"""Errands claimed together."""
WAITS_S = (60.0, 300.0, 900.0, 3600.0, 14_400.0)
"""Between tries; the last repeats."""
MOST_TRIES = 30
"""About four days; then the operator is told and it ends."""
KEPT_S = 20.0
"""How long a claim is gone by without a look whether another has taken the errand over meanwhile."""
HOOK_S = 60.0
"""How long the hook may run."""
LEASE_S = 300.0
"""How long mail is leased that is made here, and how long an errand may lie before another does it."""


class ErrandMaker:
    """Decides what follows of a change, within its transaction."""

    def __init__(
        self,
        owner: str,
        new_id: Callable[[float], MessageId],
        *,
        hook: bool,
        refunds: bool,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._owner = owner
        self._new_id = new_id
        self._hook = hook
        self._refunds = refunds
        self.wake = wake
        """Called when something may be to be done."""

    def after_opening(self, store: HeldStore, copy: HeldCopy, now: float) -> None:
        """A person has opened it: for commerce that is the retrieval."""
        if self._hook:
            add_errand(store, copy, HOOK, "", self._owner, now)

    def after_retrieval(self, store: HeldStore, copy: HeldCopy, now: float) -> None:
        """It was fetched, and receipt confirmed."""
        if self._hook and not copy.opened_at:
            add_errand(store, copy, HOOK, "", self._owner, now)
        self._receipt(store, copy, now)

    def after_expiry(self, store: HeldStore, copy: HeldCopy, now: float) -> None:
        """Its time is over; it may have been opened before."""
        if copy.state is not CopyState.REFUSED:
            self._receipt(store, copy, now)
        if not copy.opened_at and not copy.proven_at:
            self.after_refusal(store, copy, now)

    def after_refusal(self, store: HeldStore, copy: HeldCopy, now: float) -> None:
        """Nobody took its envelope, or it was withdrawn before: postage may be had back."""
        if self._refunds and copy.postage:
            add_errand(store, copy, REFUND, "", self._owner, now)

    def _receipt(self, store: HeldStore, copy: HeldCopy, now: float) -> None:
        if copy.wants_receipt:
            add_errand(store, copy, RECEIPT, self._new_id(now), self._owner, now)


@dataclass(frozen=True, slots=True)
class RunnerParts:
    """What the runner works with."""

    store: HeldThreads
    owner: str
    """Names this worker, and the spool that is its own."""
    spool: Spool
    fresh: FreshMail | None
    reporting: Reporting
    observer: FacilityObserver
    clock: Callable[[], float]
    hook: str = ""
    payer: Payer | None = None
    lost_s: float = LEASE_S
    """[spool] lease: an errand that is due for so long is taken over from its worker."""


class ErrandRunner:
    """Does what is due."""

    def __init__(self, parts: RunnerParts) -> None:
        self._parts = parts

    async def resume(self) -> None:
        """Let what this worker had begun before it died be due at once. Raises StoreUnavailable."""
        now, owner = self._parts.clock(), self._parts.owner
        await self._parts.store.write(lambda store: resume_errands(store, owner, now))

    async def run_due(self) -> int:
        """Everything that is due now; how many were tried. Raises StoreUnavailable."""
        tried = 0
        while claimed := await self._claim():
            claimed_at = self._parts.clock()
            for errand in claimed:
                if self._parts.clock() < claimed_at + KEPT_S or await self._keep(errand):
                    await self._one(errand)
            tried += len(claimed)
            if len(claimed) < AT_ONCE:
                break
        return tried

    async def _claim(self) -> list[Errand]:
        now, owner = self._parts.clock(), self._parts.owner
        if not await self._parts.store.read(lambda store: any_due(store, now)):
            return []
        lost_s = self._parts.lost_s
        return await self._parts.store.write(
            lambda store: claim_errands(store, owner, now, wait_s, AT_ONCE, lost_s)
        )

    async def _keep(self, errand: Errand) -> bool:
        """Whether the errand is still this worker's, those before it having taken long."""
        due, owner = self._parts.clock() + wait_s(errand.tries), self._parts.owner
        return await self._parts.store.write(lambda store: keep_errand(store, errand, owner, due))

    async def _one(self, errand: Errand) -> None:
        why = await self._tried(errand)
        given_up = bool(why) and errand.tries >= MOST_TRIES
        if why:
            self._parts.observer.errand_failed(
                errand.kind, errand.message, errand.number, why, given_up=given_up
            )
        else:
            self._parts.observer.errand_done(errand.kind, errand.message, errand.number)
        if not why or given_up:
            await self._parts.store.write(lambda store: errand_done(store, errand))

    async def _tried(self, errand: Errand) -> str:
        """Why it could not be done now; "" when it is done."""

        def look(store: HeldStore) -> tuple[HeldMessage | None, HeldCopy | None]:
            return store.message(errand.message), store.copy(errand.message, errand.number)

        message, copy = await self._parts.store.read(look)
        if message is None or copy is None:
            return ""  # forgotten: there is nothing left to tell
        match errand.kind:
            case "receipt":
                return await self._send_receipt(errand, message, copy)
            case "hook":
                return await self._run_hook(message, copy)
            case _:
                return await self._take_back(message, copy)

    async def _send_receipt(self, errand: Errand, message: HeldMessage, copy: HeldCopy) -> str:
        made = receipt(message, copy, MessageId(errand.mail), self._parts.reporting, self._parts.clock())
        if made is None:
            return ""
        fresh = self._parts.fresh
        try:
            if errand.tries > 1 and await self._is_stored(made.id):
                return ""
            leased = await self._parts.spool.store(
                made, lease_until=0.0 if fresh is None else self._parts.clock() + LEASE_S
            )
        except Conflict:
            return ""  # it was stored before a crash
        except SpoolError as error:
            return str(error)
        if leased and fresh is not None:
            fresh.take(leased)
        return ""

    async def _is_stored(self, mail: MessageId) -> bool:
        """Whether an earlier try came as far as that; also in the spool of a worker that was adopted."""
        try:
            await self._parts.spool.items(mail)
        except NotFound:
            return False
        return True

    async def _run_hook(self, message: HeldMessage, copy: HeldCopy) -> str:
        if not self._parts.hook:
            return ""
        try:
            return await asyncio.to_thread(_hooked, self._parts.hook, hook_document(message, copy))
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            return f"the hook cannot be run ({error})"

    async def _take_back(self, message: HeldMessage, copy: HeldCopy) -> str:
        payer = self._parts.payer
        if payer is None:
            return ""
        price, currency, method, payee, paid = read_postage(copy.postage)
        bill = Bill(
            copy.ids.id, message.sender.rpartition("@")[2], copy.recipient.rpartition("@")[2], price,
            float(copy.stated), currency, method, payee,
        )  # fmt: skip
        try:
            await payer.take_back(paid, bill, self._parts.clock())
        except PostageUnavailable as error:
            return str(error)
        return ""  # taken back, or not to be had: either way there is no more to do


def wait_s(tries: int) -> float:
    """Until the next try, after so many."""
    return WAITS_S[min(tries, len(WAITS_S)) - 1]


def any_due(store: HeldStore, now: float) -> bool:
    """Whether anything is."""
    return bool(store.database.execute("SELECT 1 FROM held_errands WHERE due <= ? LIMIT 1", (now,)))


def write_postage(bill: Bill, receipt: str) -> str:
    """What a copy remembers of its postage."""
    return json.dumps([bill.price, bill.currency, bill.method, bill.payee, receipt])


def read_postage(text: str) -> tuple[int, str, str, str, str]:
    """Price, currency, method, payee, receipt."""
    price, currency, method, payee, paid = json.loads(text)
    return int(price), str(currency), str(method), str(payee), str(paid)


# --- the receipt --------------------------------------------------------------------------------------------


def receipt(
    message: HeldMessage, copy: HeldCopy, mail: MessageId, reporting: Reporting, now: float
) -> NewMessage | None:
    """A delivery status notification (RFC 3464) about one copy: retrieved, or expired unread (AMDP-6). None
    where there is nobody to tell."""
    try:
        sender = parse_address(message.reports_to)
        recipient = parse_address(copy.recipient)
    except AddressError:
        return None
    outcome = _outcome(copy)
    state = RecipientState.FAILED if outcome.kind is Kind.FAILED else RecipientState.DELIVERED
    envelope = Envelope(
        sender,
        (Recipient(recipient, Notify.SUCCESS | Notify.FAILURE, copy.original),),
        ret=Return.HEADERS,
        envelope_id=message.envelope_id,
    )
    content = inline_content(_headers_of(message, copy))
    stored = StoredMessage(
        MessageId(message.id), message.held_at, envelope, b"", content, message.size, facts=()
    )
    outcomes = Outcomes(stored, content, (RecipientStatus(0, state, 1, outcome),), now, 0.0)
    return report_on(outcomes, replace(reporting, new_id=lambda _: mail)).message


def _outcome(copy: HeldCopy) -> DeliveryResult:
    if copy.state is not CopyState.RETRIEVED:
        words = f"it was not asked for before it expired on {format_date(copy.expires)}"
        return DeliveryResult(Kind.FAILED, "5.4.7", words, protocol=RETRIEVAL)
    if copy.received_at:
        when, what = copy.received_at, "retrieved, and its receipt confirmed,"
    else:
        when, what = copy.opened_at, "opened"
    how = f"by the receiver's server at {copy.proven_by}" if copy.proven_by else "by whoever has its link"
    words = f"it was {what} on {format_date(when)}; the envelope was authenticated {how}"
    return DeliveryResult(Kind.DELIVERED, "2.0.0", words, protocol=RETRIEVAL)


def _headers_of(message: HeldMessage, copy: HeldCopy) -> bytes:
    """By what the sender knows his message again."""
    lines = [
        f"From: <{message.sender}>",
        f"To: <{copy.recipient}>",
        f"Subject: {encode_phrase(message.subject)}",
        f"Date: {format_date(message.date)}",
    ]
    if message.message_id:
        lines.append(f"Message-ID: <{message.message_id}>")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")


# --- the hook -----------------------------------------------------------------------------------------------


def hook_document(message: HeldMessage, copy: HeldCopy) -> bytes:
    """What the hook reads on its standard input: one JSON object. No id or number is in it."""
    return (
        json.dumps(
            {
                "event": "retrieved",
                "message": message.id,
                "copy": copy.number,
                "message_id": message.message_id,
                "sender": message.sender,
                "recipient": copy.recipient,
                "class": message.mail_class,
                "size": message.size,
                "at": int(copy.opened_at or copy.received_at),
                "confirmed": bool(copy.received_at),
                "receiver": "called back" if not copy.by_link else "unauthenticated receiver",
            },
            ensure_ascii=False,
        ).encode("utf-8", "replace")
        + b"\n"
    )


def _hooked(command: str, document: bytes) -> str:
    done = subprocess.run(
        split_command(command),
        input=document,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=HOOK_S,
        check=False,
        start_new_session=True,
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
    )
    if done.returncode == 0:
        return ""
    said = cleaned(done.stderr[:4096].decode("utf-8", "replace"))
    return f"the hook ended with exit status {done.returncode}: {said}"
