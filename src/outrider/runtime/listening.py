"""The listeners of a serving process: what is spoken at each, and what the sessions there work with.

Sockets are open already. A reload gives every listener new settings and new parts for the sessions that begin
from then on; it opens and closes none.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outrider.net.accept_turns import AcceptTurns
from outrider.net.amtp_server import AmtpServer
from outrider.net.listener import Listener, ProtocolFactory
from outrider.net.mt2_server import Mt2Server, Mt2Service
from outrider.net.qmtp_server import QmtpServer
from outrider.net.smtp_server import SmtpServer
from outrider.reception.reception import MailReception
from outrider.runtime.assembly import Assembly
from outrider.runtime.control import Row
from outrider.runtime.joining import Core, listener_settings, make_qmtp_service, make_smtp_service
from outrider.runtime.listener_plans import ListenerPlan

if TYPE_CHECKING:
    from outrider.holding.web import WebService
    from outrider.net.amdp_web_server import AmdpWebServer
    from outrider.net.http_server import HttpService

Sockets = dict[int, socket.socket]
"""Listening sockets by the listener's number in the file."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What sessions meet behind a listener; made anew by a reload."""

    assembly: Assembly
    reception: MailReception
    mt2: Callable[[ListenerPlan], Mt2Service]
    services: tuple[WebService, ...]
    """AMDP's, for HTTPS."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a listener for metrics shows, of all workers."""

    metrics: Callable[[], Awaitable[bytes]]
    why_not_ready: Callable[[], Awaitable[str]]


class Listening:
    """All listeners of this process."""

    def __init__(self, core: Core, sockets: Sockets, workers: int, health: Health) -> None:
        self._core = core
        self._sockets = sockets
        self._workers = workers
        self._health = health
        self._listeners: dict[str, Listener] = {}
        self._smtp: dict[str, SmtpServer] = {}
        self._qmtp: dict[str, QmtpServer] = {}
        self._mt2: dict[str, Mt2Server] = {}
        self._amdp: dict[str, AmdpWebServer] = {}
        self._http: list[HttpService] = []

    # -- start -------------------------------------------------------------------------------------

    def start(self, behind: Behind) -> None:
        """Accept connections at every listener of the settings."""
        for plan in behind.assembly.listeners:
            self._listen(plan, behind)

    def _listen(self, plan: ListenerPlan, behind: Behind) -> None:
        core = self._core
        listener = Listener(
            self._sockets[plan.number],
            self._protocol_factory(plan, behind),
            listener_settings(plan),
            core.limits,
            core.voices.network,
            self._turns(),
        )
        self._listeners[plan.name] = listener
        listener.start()

    def _turns(self) -> AcceptTurns | None:
        limits = self._core.limits
        if self._workers == 1:
            return None
        return AcceptTurns(lambda: limits.open, lambda: limits.open_in_all, self._workers)

    def _protocol_factory(self, plan: ListenerPlan, behind: Behind) -> ProtocolFactory:
        core, name = self._core, plan.name
        match plan.settings.protocol:
            case "http":
                return self._metrics_factory()
            case "amdp":
                return self._web_factory(plan, behind)
            case "qmtp":
                service = make_qmtp_service(plan, behind.assembly, core, behind.reception)
                self._qmtp[name] = QmtpServer(service)
                return self._qmtp[name]
            case "mt2":
                self._mt2[name] = Mt2Server(behind.mt2(plan))
                return self._mt2[name]
            case protocol:
                make = AmtpServer if protocol == "amtp" else SmtpServer
                self._smtp[name] = make(make_smtp_service(plan, behind.assembly, core, behind.reception))
                return self._smtp[name]

    def _metrics_factory(self) -> ProtocolFactory:
        from outrider.net.http_server import HttpService

        service = HttpService(self._health.metrics, self._health.why_not_ready)
        self._http.append(service)
        return lambda _connection: service.protocol()

    def _web_factory(self, plan: ListenerPlan, behind: Behind) -> ProtocolFactory:
        from outrider.runtime.amdp_web_parts import make_web_server

        web = make_web_server(plan, behind.assembly, behind.services, self._core.voices.web)
        self._amdp[plan.name] = web
        return web

    # -- reload, stop ------------------------------------------------------------------------------

    def change_over(self, behind: Behind) -> None:
        """Sessions that begin from now on have these parts."""
        assembly, core, reception = behind.assembly, self._core, behind.reception
        for plan in assembly.listeners:
            if plan.name in self._smtp:
                self._smtp[plan.name].service = make_smtp_service(plan, assembly, core, reception)
            if plan.name in self._qmtp:
                self._qmtp[plan.name].service = make_qmtp_service(plan, assembly, core, reception)
            if plan.name in self._mt2:
                self._mt2[plan.name].service = behind.mt2(plan)
            if plan.name in self._amdp:
                self._change_web(self._amdp[plan.name], plan, behind)
            if plan.name in self._listeners:
                self._listeners[plan.name].settings = listener_settings(plan)

    def _change_web(self, web: AmdpWebServer, plan: ListenerPlan, behind: Behind) -> None:
        from outrider.runtime.amdp_web_parts import web_tls

        web.services = behind.services
        web.tls = web_tls(plan, behind.assembly)

    async def stop(self, grace_s: float) -> None:
        """No new connections; sessions have so long to finish the transaction they are in."""
        await asyncio.gather(*(listener.stop(grace_s) for listener in self._listeners.values()))
        for service in self._http:
            await service.stop()
        for web in self._amdp.values():
            await web.stop()

    # -- what is seen of them ----------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """For the log."""
        return [listener.settings.name for listener in self._listeners.values()]

    def rows(self) -> list[Row]:
        """For `status`."""
        return [{"name": name, "connections": listener.open} for name, listener in self._listeners.items()]
