"""AMDP's HTTPS, both ways: the server of a listener, and the caller that all roles share."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.holding.web import WebService
from outrider.net.amdp_web_caller import AmdpWebCaller, CallerParts, CallerSettings
from outrider.net.amdp_web_server import AmdpWebObserver, AmdpWebServer
from outrider.net.amdp_web_targets import AddressLookup
from outrider.net.dialling import Dialling
from outrider.net.tls_context import ServerTls
from outrider.routing.private_addresses import address_guard
from outrider.runtime.assembly import Assembly
from outrider.runtime.listener_plans import ListenerPlan


def make_web_server(
    plan: ListenerPlan, assembly: Assembly, services: Sequence[WebService], observer: AmdpWebObserver
) -> AmdpWebServer:
    """The factory of a listener's protocols. Made inside a running loop."""
    return AmdpWebServer(services, web_tls(plan, assembly), observer=observer)


def web_tls(plan: ListenerPlan, assembly: Assembly) -> ServerTls | None:
    """The TLS of a listener."""
    if plan.tls != "implicit" or assembly.server_tls is None:
        return None
    return ServerTls(assembly.server_tls, (b"http/1.1",))


def make_web_caller(assembly: Assembly, lookup: AddressLookup) -> AmdpWebCaller:
    """Who makes the calls of all roles; closed by whoever made it, and made anew by a reload."""
    config = assembly.config
    parts = CallerParts(
        lookup,
        address_guard(config.net.private_destinations),
        assembly.amdp_stores,
        Dialling(config.amdp.incoming.timeout, config.net.source_address, config.net.source_address6),
    )
    incoming = config.amdp.incoming
    settings = CallerSettings(
        timeout_s=incoming.timeout, concurrency=incoming.concurrency, progress_s=incoming.timeout
    )
    return AmdpWebCaller(parts, settings)
