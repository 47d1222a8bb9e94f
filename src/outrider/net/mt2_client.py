"""Carries mail by MT2: dialler and connection as `delivery.interface` wants them (MT2-14 to MT2-18e).

A connection carries as many messages at once as the server lets it: with PIPE=ON all of bulk mail to one host
goes over one connection, and the server stores it in shared commits. What a broken connection has left half
sent is asked for by STAT the next time and goes on where it stood (MT2-18b); what it may have taken is sent
again under the same transfer id and answered `already taken` (MT2-18a).

A host that has a connection with us already, and has proven there to be the one that a hop wants, is sent the
mail on that connection (MT2-18e).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from outrider.delivery.interface import Hop, Job
from outrider.delivery.mt2_assembly import OutgoingObjects
from outrider.identity.mt2_identity import Mt2IdentityFailure
from outrider.identity.server_tls import TlsRefusal
from outrider.model.message import MessageId
from outrider.model.result import DeliveryResult, Kind
from outrider.net.client_settings import loop_time
from outrider.net.dialling import Destination
from outrider.net.mt2_callers import Caller
from outrider.net.mt2_connection import Mt2Connection
from outrider.net.mt2_opening import Mt2ClientParts, Mt2Opening, judged, suffices
from outrider.net.mt2_results import PeerView, is_final, transfer_results
from outrider.protocols.mt2.codes import WRONG_OFFSET
from outrider.protocols.mt2.events import TransferEnded
from outrider.protocols.mt2.status import TransferState, TransferStatus, read_status

REQUESTS_OF_A_MESSAGE: Final = 3
LARGE: Final = 4_194_304
"""Octets of a body that is worth a question (STAT) before it is sent, whatever is known of it."""
MAX_BROKEN: Final = 10_000
"""Transfers remembered because the connection broke under them."""
QUIT_S: Final = 5.0
"""For the answer to QUIT."""
UNREADABLE: Final = "the stored message cannot be read"


class BrokenTransfers:
    """Transfers that a connection took down with it: to be asked about before they are sent again."""

    def __init__(self, most: int = MAX_BROKEN) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def broke(self, transfer: str) -> None:
        """Nobody knows what became of it."""
        self._ids[transfer] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)

    def take(self, transfer: str) -> bool:
        """Whether it is one; then it is none any more."""
        known = transfer in self._ids
        self._ids.pop(transfer, None)
        return known


class Mt2Dialler:
    """Opens sessions; one object for all destinations."""

    def __init__(self, parts: Mt2ClientParts) -> None:
        self.parts = parts
        self._broken = BrokenTransfers()

    async def connect(self, hop: Hop, address: Destination) -> Mt2ClientConnection:
        """See `delivery.interface.Dialler`."""
        parts = self.parts
        caller = await self._caller(hop)
        if caller is not None:
            view = PeerView(f"{hop.host} {caller.where}", caller.tls)
            name = caller.identity.name
            return Mt2ClientConnection(caller.line, view, name, parts, self._broken, is_ours=False)
        opening = Mt2Opening(parts, hop, address)
        protocol = await opening.run()
        view = PeerView(opening.attempt.remote, opening.attempt.tls_line)
        return Mt2ClientConnection(protocol, view, opening.server_name, parts, self._broken)

    async def _caller(self, hop: Hop) -> Caller | None:
        """Who has called us and is the host that routing has chosen, proven by all that the hop asks for."""
        callers = self.parts.callers
        if callers is None or hop.tls.level == "none":
            return None
        caller = callers.find((hop.tls.name or hop.host).lower().rstrip("."))
        if caller is None:
            return None
        found = await judged(self.parts, hop, caller.proven_by, "")
        if isinstance(found, Mt2IdentityFailure | TlsRefusal) or not suffices(hop, found):
            return None
        return caller if caller.can_be_sent_mail else None


class Mt2ClientConnection:
    """An open session: see `delivery.interface.ManyAtOnce`."""

    def __init__(
        self,
        line: Mt2Connection,
        view: PeerView,
        server: str,
        parts: Mt2ClientParts,
        broken: BrokenTransfers,
        *,
        is_ours: bool = True,
    ) -> None:
        """`server`: the name that it has proven. `is_ours`: we have opened the connection, and close it."""
        self._line = line
        self._view = view
        self._server = server
        self._parts = parts
        self._broken = broken
        self._is_ours = is_ours

    @property
    def usable(self) -> bool:
        """Whether another message may be begun."""
        return not self._line.outgoing.is_over and self._line.core.can_transfer

    @property
    def description(self) -> str:
        """``mx.example [192.0.2.1]:10126``."""
        return self._view.remote

    @property
    def parallel(self) -> int:
        """How many messages may be under way."""
        grant = self._line.core.ours
        return max(1, min(self._parts.parallel, grant.inflight // REQUESTS_OF_A_MESSAGE)) if grant.pipe else 1

    @property
    def keep_open_s(self) -> float:
        """How long it stays for the next message."""
        return self._parts.keep_open_s

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        """Carry the message; a result for every recipient of the job. Raises what reading the body raises,
        when the peer has been told that nothing more comes."""
        try:
            assembled = await self._parts.assembler.assemble(job, self._server)
            results = dict(assembled.results)
            for objects in assembled.transfers:
                results.update(await self._transfer(job.message.id, objects))
        except OSError:
            # Of the spool: the network's failures reach us through the core.
            result = self._view.result(Kind.DEFERRED, "4.3.0", UNREADABLE)
            return dict.fromkeys(job.recipients, result)
        return results

    async def _transfer(self, message: MessageId, objects: OutgoingObjects) -> dict[int, DeliveryResult]:
        held = await self._held(objects)
        ended = await self._carry(objects, held)
        if held and ended.result is not None and ended.result.code == WRONG_OFFSET:
            # What it had when we asked is gone.
            ended = await self._carry(objects, {})
        if ended.result is not None and is_final(ended.result):
            self._parts.assembler.answered(message, objects, self._server)
        return transfer_results(self._view, objects, ended)

    async def _carry(self, objects: OutgoingObjects, held: Mapping[str, int]) -> TransferEnded:
        ended = await self._line.outgoing.carry(objects, held)
        if ended.result is None:
            self._broken.broke(objects.transfer_id)
        return ended

    async def _held(self, objects: OutgoingObjects) -> Mapping[str, int]:
        """What the server has of it already, where there may be something (MT2-13)."""
        if not (self._broken.take(objects.transfer_id) or objects.body_size >= LARGE) or not self.usable:
            return {}
        status = await self._ask(objects.transfer_id)
        if status is None or status.state is not TransferState.RECEIVING:
            # Taken: the envelope alone will be sent, and answered with the recipients' results.
            return {}
        return status.held

    async def _ask(self, transfer: str) -> TransferStatus | None:
        answered = await self._line.answer_to(self._line.core.stat(transfer, loop_time()))
        if answered is None or not answered.result.is_ok:
            return None
        return read_status(answered.result)

    async def close(self) -> None:
        """QUIT with a short wait, then close. Never raises."""
        if not self._is_ours:
            return  # whoever has opened it decides
        if self.usable:
            try:
                async with asyncio.timeout(QUIT_S):
                    await self._line.answer_to(self._line.core.quit(loop_time()))
            except TimeoutError:
                self._line.abort()
        else:
            self._line.abort()

    def abort(self) -> None:
        """Close at once."""
        self._line.abort()
