"""How connections come to TLS: as the server or the client, from the first octet or by STARTTLS.

- `start_tls_server`, `start_tls_client` upgrade a connection on which the application has already been called
  `connection_made`; `announce=True` and :func:`tls_server_side` are for TLS from the first octet, where
  `connection_made` comes with the TLS transport, after the handshake.
- What the application may rely on from then on is told in `tls_transport.py`.
"""

from __future__ import annotations

import asyncio

from outrider.net.tls_context import ClientContext, ServerTls
from outrider.net.tls_info import TlsFailure, TlsHandshakeError, TlsInfo
from outrider.net.tls_transport import FailedCallback, ReadyCallback, TlsTimes, TlsTransport

__all__ = ["TlsTimes", "TlsTransport", "start_tls_client", "start_tls_server", "tls_server_side"]


def tls_server_side(
    app_protocol: asyncio.BaseProtocol,
    tls: ServerTls,
    *,
    times: TlsTimes | None = None,
    on_failed: FailedCallback | None = None,
) -> TlsTransport:
    """The protocol to give to a listener for implicit TLS, one for each connection.

    `app_protocol` is called `connection_made` with the TLS transport when the handshake is complete; if it
    fails, `on_failed` is called and `app_protocol` never hears of the connection.
    """
    return TlsTransport(
        tls.engine(), app_protocol, times=times or TlsTimes(), announce=True, on_failed=on_failed
    )


def start_tls_server(
    transport: asyncio.Transport,
    app_protocol: asyncio.BaseProtocol,
    tls: ServerTls,
    *,
    times: TlsTimes | None = None,
    initial_data: bytes = b"",
    on_ready: ReadyCallback | None = None,
    on_failed: FailedCallback | None = None,
) -> TlsTransport:
    """Begin TLS as the server on a live connection (STARTTLS), without waiting.

    Call it right after the go-ahead (``220``) was written to `transport`, which then belongs to TLS: the
    application must not touch it again. `on_ready` is called with the transport to use from then on;
    `on_failed` on failure, followed by `app_protocol.connection_lost` with `TlsHandshakeError`. Neither is
    called before this function returns.

    `initial_data` are octets that came behind the STARTTLS command and go to TLS, never to the application
    (SEC-35); a server that closes on them (TLS-1) does not come here.
    """
    secured = TlsTransport(
        tls.engine(),
        app_protocol,
        times=times or TlsTimes(),
        announce=False,
        on_ready=on_ready,
        on_failed=on_failed,
    )
    transport.set_protocol(secured)
    secured.connection_made(transport)
    if initial_data:
        secured.hand_over(initial_data)
    return secured


async def start_tls_client(
    transport: asyncio.Transport,
    app_protocol: asyncio.BaseProtocol,
    context: ClientContext,
    *,
    server_hostname: str = "",
    alpn_protocols: tuple[bytes, ...] = (),
    announce: bool = False,
    times: TlsTimes | None = None,
) -> TlsTransport:
    """Do the client's handshake on a live connection; the session's facts are in `.info` of what is returned.

    With `announce` (TLS from the first octet, the connection made with a placeholder protocol)
    `app_protocol` is called `connection_made` with the TLS transport; without, it has been called by the raw
    transport (STARTTLS). The server's certificate has not been verified; see `ClientContext`.

    In TLS 1.3 a server judges the client's certificate after the client's handshake is complete: its alert
    comes later, as `connection_lost` with `TlsSessionError`.

    Raises :class:`TlsHandshakeError`; the connection is then closing. When cancelled, it is aborted.
    """
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(failure: TlsFailure) -> None:
        if not ready.done():
            ready.set_exception(TlsHandshakeError(failure))

    def established(_transport: TlsTransport, _info: TlsInfo) -> None:
        if not ready.done():
            ready.set_result(None)

    engine = context.engine(server_hostname=server_hostname, alpn_protocols=alpn_protocols)
    secured = TlsTransport(
        engine,
        app_protocol,
        times=times or TlsTimes(),
        announce=announce,
        on_ready=established,
        on_failed=failed,
    )
    transport.set_protocol(secured)
    secured.connection_made(transport)
    try:
        await ready
    except asyncio.CancelledError:
        secured.abort()
        raise
    return secured
