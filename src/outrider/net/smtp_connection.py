"""One connection of the SMTP family: the loop over its core's events, replies, stress and the last 421.

Transport, time and end are `session_connection`'s; what is said at each event is the subclass's. An exception
in anything called from here ends that session with 421 and is told to the observer; the client sees no more
than the 421 (SEC-215).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from outrider.model.reply import Reply
from outrider.net.listener import AcceptedConnection
from outrider.net.session_connection import LOOK_S, SessionConnection
from outrider.net.smtp_service import SmtpService
from outrider.net.tls_info import TlsInfo
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_events import Event

REPLIES_AT_ONCE: Final = 256
"""Replies that gather before they are sent although the client's commands are not all read."""


class SmtpConnection(SessionConnection):
    """The connection; subclasses deal with the core's events."""

    __slots__ = ("_service",)

    _core: ServerSession

    _handlers: ClassVar[Mapping[type[Event], Callable[[Any, Any], None]]] = {}
    """What deals with each event of the core."""

    def __init__(self, service: SmtpService, connection: AcceptedConnection) -> None:
        """Nothing happens before `connection_made`."""
        now = asyncio.get_running_loop().time()
        wall_time = service.clock()
        self._service = service
        core = self._new_core(now, wall_time - now)
        session = service.new_session(connection, wall_time)
        super().__init__(connection, core, session, service.observer, service.slow_reader_s)

    def _new_core(self, now: float, wall_offset: float) -> ServerSession:
        raise NotImplementedError

    def _tls_from_start(self) -> None:
        self._core.tls_from_start()

    def _tls_entered(self, info: TlsInfo) -> None:
        self._service.observer.tls_started(self._session, info)

    # -- the loop ------------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        core, handlers = self._core, self._handlers
        while self._pending is None and not self._write_paused_at:
            if self._draining and not core.in_transaction and not core.is_waiting:
                core.shut_down(replies.SHUTTING_DOWN, "server stopping")
            event = core.next_event()
            if event is None:
                return
            handlers[type(event)](self, event)
            if core.replies_waiting >= REPLIES_AT_ONCE:
                self._send()

    def _end_broken(self) -> None:
        self._core.shut_down(replies.INTERNAL_ERROR, "internal error")

    def _answer(self, reply: Reply) -> None:
        self._core.reply(reply, self._loop.time())

    # -- time ----------------------------------------------------------------------------------------------

    def _longest_look_s(self) -> float:
        limits = self._core.limits
        return min(LOOK_S, limits.command_timeout_s, limits.data_timeout_s)

    def _heed_stress(self) -> None:
        """While the server is nearly full: short time-outs and no second chance, for all sessions."""
        stressed = self._service.gauge.is_stressed()
        if stressed is not self._stressed:
            self._stressed = stressed
            limits = self._service.settings.limits
            self._core.limits = limits.under_stress() if stressed else limits
