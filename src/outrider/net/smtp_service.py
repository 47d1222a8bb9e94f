"""What the sessions of one listener of the SMTP family work with, and how each of them begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from outrider.identity.interface import Authenticator
from outrider.net.listener import AcceptedConnection
from outrider.net.server_limits import LoadGauge
from outrider.net.smtp_server_observer import SilentSmtpServerObserver, SmtpServerObserver
from outrider.net.tls import TlsTimes
from outrider.net.tls_context import ServerTls
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.reception.interface import Reception, Session


@dataclass(frozen=True, slots=True)
class SmtpService:
    """What the sessions of one listener work with. A reload makes a new one, for sessions yet to come."""

    protocol: str
    """smtp, submission, lmtp or amtp: `Session.protocol`."""
    settings: ServerSettings
    reception: Reception
    new_session_id: Callable[[], str]
    gauge: LoadGauge
    tls: ServerTls | None = None
    implicit_tls: bool = False
    require_tls: bool = False
    """Passed on to reception, which alone acts on it (TLS-2)."""
    only_private: bool = False
    """AMTP: private connections only (AMTP-6); reception acts on it."""
    authenticator: Authenticator | None = None
    observer: SmtpServerObserver = field(default_factory=SilentSmtpServerObserver)
    tls_times: TlsTimes = field(default_factory=TlsTimes)
    slow_reader_s: float = 300.0
    """For the client to take what we have said, once a buffer is full (SEC-89)."""
    executor: Executor | None = None
    """Where passwords are checked; None is the loop's own."""
    clock: Callable[[], float] = time.time
    """The time of day, seconds since the epoch."""

    def new_session(self, connection: AcceptedConnection, now: float) -> Session:
        """The session of a new connection; `now` is the time of day."""
        return new_session(
            connection,
            session_id=self.new_session_id(),
            protocol=self.protocol,
            hostname=self.settings.hostname,
            now=now,
            require_tls=self.require_tls,
            only_private=self.only_private,
        )


def new_session(
    connection: AcceptedConnection,
    *,
    session_id: str,
    protocol: str,
    hostname: str,
    now: float,
    require_tls: bool = False,
    only_private: bool = False,
) -> Session:
    """A connection as reception sees it."""
    peer, local = connection.peer, connection.local
    return Session(
        id=session_id,
        protocol=protocol,
        client_address=None if peer is None else peer.host,
        client_port=0 if peer is None else peer.port,
        server_address=None if local is None else local.host,
        server_port=0 if local is None else local.port,
        listener=connection.listener,
        hostname=hostname,
        started_at=now,
        require_tls=require_tls,
        only_private=only_private,
    )
