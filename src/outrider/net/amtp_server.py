"""The AMTP server on asyncio: the SMTP server's driver, and what EHLO and AUTH mean more here.

The handshake asks for the client's certificate and takes whatever comes; reception judges it at EHLO, so that
a client that proves nothing is told so in the dialogue (AMTP-3). What a host is told of codes and logins is
settled at each EHLO anew, as the second one, after AUTH, may hear more than the first (AMTP-20).
"""

from __future__ import annotations

from outrider.identity.interface import Failed, Succeeded
from outrider.model.envelope import Arrival
from outrider.net.listener import AcceptedConnection
from outrider.net.smtp_server import SmtpServer, SmtpServerProtocol
from outrider.protocols.amtp.server import AmtpSession


class AmtpServer(SmtpServer):
    """Makes a protocol for each connection that a listener accepts."""

    def _protocol(self, connection: AcceptedConnection) -> SmtpServerProtocol:
        return AmtpServerProtocol(self.service, connection, self)


class AmtpServerProtocol(SmtpServerProtocol):
    """One connection."""

    __slots__ = ()

    _core: AmtpSession

    def _new_core(self, now: float, wall_offset: float) -> AmtpSession:
        return AmtpSession(self._service.settings, now, wall_offset=wall_offset)

    def _prepare_offers(self) -> None:
        super()._prepare_offers()
        reception, session, core = self._service.reception, self._session, self._core
        core.login_required = reception.login_is_owed(session)
        core.declarations = reception.announced(session)

    def _offered_mechanisms(self) -> tuple[str, ...]:
        # AMTP-19: a public connection has no logins, its host speaks for itself.
        if self._session.connection is not Arrival.AMTP_PRIVATE:
            return ()
        return super()._offered_mechanisms()

    def _logged_in(self, step: Succeeded) -> None:
        refusal = self._service.reception.login_refusal(self._session, step.login)
        if refusal is None:
            super()._logged_in(step)
        else:
            self._not_logged_in(Failed(refusal, "the certificate does not name this login", step.login))
