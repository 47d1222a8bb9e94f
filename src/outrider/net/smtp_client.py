"""Carries mail by SMTP, submission and LMTP: dialler and connection as `delivery.interface` wants them.

Time is bounded everywhere: by the dialler while connecting, by the handshake's limit, by the core's deadlines
for everything else, the taking of our octets included (SEC-88, SEC-89).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from outrider.delivery.envelope_links import with_link
from outrider.delivery.interface import Hop, Job
from outrider.model.message import StoredMessage
from outrider.model.result import DeliveryResult, Kind
from outrider.net.client_observer import ClientObserver, SilentClientObserver
from outrider.net.client_settings import SmtpClientParts, SmtpClientSettings, loop_time
from outrider.net.client_tls import ClientTls
from outrider.net.dialling import Destination
from outrider.net.outgoing_content import OutgoingContent, Pieces, encode, prepare
from outrider.net.smtp_opening import Opening, OpenSession, TlsFellThrough
from outrider.protocols.smtp.client_content import Carriage, Unsendable, carriage
from outrider.protocols.smtp.client_events import (
    ContentWanted,
    Mail,
    SessionEnded,
    TransactionEnded,
)
from outrider.protocols.smtp.client_plan import (
    BatchLimits,
    Sortable,
    batch_limits,
    goes_as_envelope,
    next_batch,
    prepare_mail,
    too_large,
    unsendable_for_all,
    unsendable_recipients,
)
from outrider.protocols.smtp.client_results import outcome_result, unsendable_result
from outrider.protocols.smtp.client_states import End, State

NOT_YET: Final = ("dane", "mta-sts")
"""Levels of [delivery] tls that are not supported: the configuration refuses them, and so does this room."""
UNREADABLE: Final = "the stored message cannot be read"

Results = Mapping[int, DeliveryResult]
PrepareContent = Callable[[StoredMessage], Awaitable[OutgoingContent | Unsendable | None]]


class SmtpDialler:
    """Opens sessions; one object for all destinations."""

    def __init__(
        self,
        settings: SmtpClientSettings,
        tls: ClientTls,
        observer: ClientObserver | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is the time of day, for certificates."""
        self.parts = SmtpClientParts(settings, tls, observer or SilentClientObserver(), clock)

    async def connect(self, hop: Hop, address: Destination) -> SmtpConnection:
        """See `delivery.interface.Dialler`."""
        opening = Opening(self.parts, hop, address)
        return SmtpConnection(await self._session(opening, hop), self.parts)

    async def _session(self, opening: Opening, hop: Hop) -> OpenSession:
        if hop.tls.level in NOT_YET:
            raise opening.unmet("4.7.0", f"the TLS policy {hop.tls.level} is not supported yet")
        if hop.tls.level == "none":
            return await opening.run(with_tls=False)
        try:
            return await opening.run(with_tls=True)
        except TlsFellThrough:
            # TLS-3: nobody demands it, so the mail may go in the clear, on a connection of its own.
            opening.tls_failed = True
            return await opening.run(with_tls=False)


class SmtpConnection:
    """An open session: see `delivery.interface.Connection`."""

    def __init__(
        self, session: OpenSession, parts: SmtpClientParts, prepare_content: PrepareContent = prepare
    ) -> None:
        """`prepare_content` makes of a stored message what goes over this protocol."""
        self._prepare = prepare_content
        self._link = session.link
        self._core = session.core
        self._server = session.server
        self._settings = parts.settings
        self._observer = parts.observer
        self._batch_limits = batch_limits(parts.settings.recipients_per_message, self._core.offers)

    @property
    def usable(self) -> bool:
        """Whether another message may follow."""
        return self._core.takes_mail and not self._link.has_news

    @property
    def description(self) -> str:
        """``mx.example [192.0.2.1]:25``."""
        return self._server.remote

    async def send(self, job: Job) -> Results:
        """Carry the message; a result for every recipient of the job."""
        try:
            return await self._send(job)
        except OSError:
            # Of the spool, and before anything was sent; the network's reach us through the core.
            return self._all_deferred(job.recipients, "4.3.0", UNREADABLE)
        except BaseException:
            self.abort()
            raise

    async def close(self) -> None:
        """QUIT with a short wait, then close. Never raises."""
        if self._core.state is State.READY:
            self._core.quit(loop_time())
            try:
                while not isinstance(await self._link.event(), SessionEnded):
                    pass
            finally:
                self._link.close()
        else:
            # What is left in buffers belongs to a transaction that counts as failed.
            self._link.abort()

    def abort(self) -> None:
        """Close at once."""
        self._link.abort()

    # -- one job -------------------------------------------------------------------------------------

    async def _send(self, job: Job) -> Results:
        content = await self._prepare(self._readable(job.message))
        if content is None:
            return self._all_deferred(job.recipients, "4.3.0", "the stored message has no content")
        if isinstance(content, Unsendable):
            return dict.fromkeys(job.recipients, unsendable_result(content, self._server))
        envelope = job.message.envelope
        sortable = Sortable(envelope, envelope.smtputf8 and content.survey.eight_bit_headers)
        refusal = unsendable_for_all(sortable, self._core.offers)
        fitting = refusal or await self._fit(content, smtputf8=envelope.smtputf8)
        if isinstance(fitting, Unsendable):
            return dict.fromkeys(job.recipients, unsendable_result(fitting, self._server))
        refused = unsendable_recipients(sortable, job.recipients, self._core.offers)
        results = {position: unsendable_result(why, self._server) for position, why in refused.items()}
        waiting = [position for position in job.recipients if position not in refused]
        while waiting:
            waiting = await self._one_transaction(job, fitting, waiting, results)
        return results

    def _readable(self, message: StoredMessage) -> StoredMessage:
        """An envelope of AMDP as this server takes it: where nobody will call back for it, its link must do
        (AMDP-5a)."""
        if not message.envelope.link_token or goes_as_envelope(message.envelope, self._core.offers):
            return message
        return with_link(message)

    async def _fit(self, content: OutgoingContent, *, smtputf8: bool) -> OutgoingContent | Unsendable:
        """The content in a form that this server takes, or why there is none."""
        offers = self._core.offers
        how = carriage(
            content.survey,
            binary=content.binary,
            smtputf8=smtputf8,
            offers=offers,
            long_lines=self._settings.long_lines,
        )
        if isinstance(how, Unsendable):
            return how
        if how is not Carriage.AS_IS:
            encoded = await encode(content, eight_bit=how is Carriage.ENCODE)
            if isinstance(encoded, Unsendable):
                return encoded
            content = encoded
        return too_large(content.survey.size, offers) or content

    async def _one_transaction(
        self, job: Job, content: OutgoingContent, waiting: Sequence[int], results: dict[int, DeliveryResult]
    ) -> list[int]:
        """Send to as many as one transaction takes; who is still waiting afterwards."""
        if not self._core.takes_mail:
            # After an earlier transaction of this job: its peculiar end, or MAILMAX of the server.
            text = "the session ended before this recipient's turn"
            results.update(self._all_deferred(waiting, "4.4.2", text))
            return []
        batch = next_batch(job.message.envelope, waiting, self._batch_limits)
        mail = prepare_mail(
            job.message.envelope,
            batch,
            content.survey,
            self._core.offers,
            binary=content.binary,
            content=content.whole(),
        )
        ended = await self._transaction(mail, content)
        results.update((n, outcome_result(one, self._server)) for n, one in ended.outcomes.items())
        if ended.postponed:
            self._batch_limits = BatchLimits(len(ended.outcomes), self._batch_limits.domains)
        done = ended.outcomes.keys()
        return [position for position in waiting if position not in done]

    async def _transaction(self, mail: Mail, content: OutgoingContent) -> TransactionEnded:
        pieces = None if mail.content is not None else content.pieces()
        self._core.send_mail(mail, loop_time())
        while True:
            event = await self._link.event()
            if isinstance(event, TransactionEnded):
                self._look_for_misbehaviour()
                return event
            if isinstance(event, ContentWanted) and pieces is not None:
                await self._link.wait_room()
                await self._send_piece(pieces)

    async def _send_piece(self, pieces: Pieces) -> None:
        try:
            octets, last = await pieces.next()
        except OSError:
            self._core.abandon(UNREADABLE)  # without an end of data: nothing is delivered
        else:
            self._core.send_content(octets, last=last, now=loop_time())

    def _look_for_misbehaviour(self) -> None:
        ending = self._link.peek()
        if isinstance(ending, SessionEnded) and ending.ending.how is End.MALFORMED:
            self._observer.server_misbehaved(
                self._server.remote, ending.ending.stage.value, ending.ending.text
            )

    def _all_deferred(self, recipients: Sequence[int], status: str, text: str) -> dict[int, DeliveryResult]:
        server = self._server
        result = DeliveryResult(Kind.DEFERRED, status, text, 0, server.remote, server.protocol, server.tls)
        return dict.fromkeys(recipients, result)
