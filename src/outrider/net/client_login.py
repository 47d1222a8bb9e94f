"""Logging in at another server: AUTH with what the hop's settings name (RFC 4954)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from secrets import token_urlsafe
from typing import Final

from outrider.identity.sasl_client import ClientCredentials, ClientExchange, LoginImpossible, choose_exchange
from outrider.net.client_attempt import Attempt
from outrider.net.client_link import Link
from outrider.net.client_settings import loop_time
from outrider.net.tls_info import TlsExportError, TlsInfo
from outrider.protocols.smtp.client import SmtpClient
from outrider.protocols.smtp.client_events import ChallengeReceived, Event, LoginEnded, SessionEnded
from outrider.protocols.smtp.reply_reader import one_line

MAX_PASSWORD_FILE: Final = 4096


async def log_in(attempt: Attempt, link: Link[Event], core: SmtpClient, *, certificate: bool) -> None:
    """Log in as the hop says. `certificate`: we have presented one, so that EXTERNAL may serve.

    Raises RequirementUnmet when it is not possible, ConnectFailed when the session ends over it.
    """
    if not core.under_tls:
        text = "a login is required but there is no TLS, and it is sent only under TLS"
        raise attempt.unmet("4.7.11", text)
    mechanism = "?"
    try:
        credentials = await _credentials(attempt, certificate=certificate)
        exchange = choose_exchange(credentials, core.offers.mechanisms)
        mechanism = exchange.mechanism
        core.authenticate(mechanism, exchange.initial(), loop_time())
        await _converse(attempt, link, core, exchange)
    except LoginImpossible as problem:
        attempt.parts.observer.login_failed(attempt.remote, mechanism, str(problem))
        raise attempt.unmet("4.7.8", f"login failed: {problem}") from None


async def _converse(attempt: Attempt, link: Link[Event], core: SmtpClient, exchange: ClientExchange) -> None:
    while True:
        event = await link.event()
        if isinstance(event, ChallengeReceived):
            core.respond(await _response(exchange, event.octets), loop_time())
        elif isinstance(event, LoginEnded):
            if event.reply.is_positive:
                exchange.check_success()
                return
            raise LoginImpossible(f"{event.reply.code} {one_line(event.reply)}")
        elif isinstance(event, SessionEnded):
            raise attempt.ended(event)


async def _response(exchange: ClientExchange, challenge: bytes) -> bytes:
    if exchange.is_expensive:
        return await asyncio.to_thread(exchange.respond, challenge)
    return exchange.respond(challenge)


async def _credentials(attempt: Attempt, *, certificate: bool) -> ClientCredentials:
    hop = attempt.hop
    password = await asyncio.to_thread(_read_password, hop.password_file) if hop.password_file else ""
    binding = _channel_binding(attempt.info)
    return ClientCredentials(hop.username, password, certificate, binding, token_urlsafe(24))


def _channel_binding(info: TlsInfo | None) -> bytes | None:
    """RFC 9266: in versions before TLS 1.3 servers expect other bindings by default."""
    if info is None or info.version != "TLSv1.3":
        return None
    try:
        return info.tls_exporter_channel_binding()
    except TlsExportError:
        return None


def _read_password(path: str) -> str:
    """The first line of the file. Raises LoginImpossible."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_PASSWORD_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise LoginImpossible(f"the password file {path} cannot be read") from None
    password = text.split("\n", 1)[0].rstrip("\r")
    if not password:
        raise LoginImpossible(f"the password file {path} has no first line")
    return password
