"""Carries mail by AMTP: dialler and connection as `delivery.interface` wants them.

A session is SMTP's once it is open; what differs is looked at here. Before each message the server's
declarations are asked (AMTP-12). A denial by the best server of a domain is final and goes back to the sender
with the policy named; a backup's is not the last word, as it may be stricter than the host that it stands in
for (AMTP-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from outrider.delivery.interface import Hop, Job
from outrider.model.mpc import Mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.net.amtp_opening import AmtpOpening
from outrider.net.client_settings import SmtpClientParts
from outrider.net.dialling import Destination
from outrider.net.outgoing_content import prepare_for_amtp
from outrider.net.smtp_client import SmtpConnection
from outrider.net.smtp_opening import OpenSession
from outrider.protocols.amtp.client import AmtpClient

DENIED: Final = "5.7.1"
"""The status of a denial for policy (AMTP-11)."""
NOT_FINAL: Final = "; this is a backup, and the servers before it have not answered yet"


class AmtpDialler:
    """Opens sessions; one object for all destinations."""

    def __init__(self, parts: SmtpClientParts) -> None:
        self.parts = parts

    async def connect(self, hop: Hop, address: Destination) -> AmtpConnection:
        """See `delivery.interface.Dialler`."""
        session, core = await AmtpOpening(self.parts, hop, address).run()
        return AmtpConnection(session, core, self.parts, is_backup=hop.terms is not None and hop.terms.backup)


class AmtpConnection:
    """An open session: see `delivery.interface.Connection`."""

    def __init__(
        self, session: OpenSession, core: AmtpClient, parts: SmtpClientParts, *, is_backup: bool
    ) -> None:
        self._smtp = SmtpConnection(session, parts, prepare_for_amtp)
        self._core = core
        self._server = session.server
        self._is_backup = is_backup
        self._denied = False

    @property
    def usable(self) -> bool:
        """Whether another message may follow. After a denial comes QUIT (AMTP-12)."""
        return self._smtp.usable and not self._denied

    @property
    def description(self) -> str:
        """``mx.example [192.0.2.1]:10125``."""
        return self._smtp.description

    def denied_by(self, code: Mpc) -> str | None:
        """Why the server would not have mail of that code, by what it has declared; None if it says nothing
        against it."""
        return self._core.denied_by(code)

    async def send(self, job: Job) -> Mapping[int, DeliveryResult]:
        """Carry the message; a result for every recipient of the job."""
        code = job.message.envelope.mpc
        denial = "the message has no Mail Policy Code" if code is None else self._core.denied_by(code)
        if denial is None:
            results = await self._smtp.send(job)
        else:
            self._denied = True
            results = dict.fromkeys(job.recipients, self._denial(denial))
        return {index: self._weighed(result) for index, result in results.items()}

    def _denial(self, text: str) -> DeliveryResult:
        server = self._server
        return DeliveryResult(Kind.FAILED, DENIED, text, 0, server.remote, "amtp", server.tls)

    def _weighed(self, result: DeliveryResult) -> DeliveryResult:
        """AMTP-21: while a better server may still take it, a backup's denial only puts it off."""
        if not self._is_backup or result.kind is not Kind.FAILED or result.status != DENIED:
            return result
        return replace(result, kind=Kind.DEFERRED, status="4.7.1", text=result.text + NOT_FINAL)

    async def close(self) -> None:
        """QUIT with a short wait, then close. Never raises."""
        await self._smtp.close()

    def abort(self) -> None:
        """Close at once."""
        self._smtp.abort()
