"""One TLS connection as an asyncio transport, on asyncio's own loop and on uvloop, for both ends.

A :class:`TlsTransport` stands between two parties. Towards the wire it is the `Protocol` of the raw TCP
transport; towards the application it is a `Transport`, used exactly like the raw one. Between them works a
`TlsEngine` (pyOpenSSL over memory BIOs); the standard `ssl` module has no part in it, as it can neither let
an unverifiable certificate through to the application nor export keying material.

A connection's life::

    HANDSHAKE --> OPEN --> CLOSING --> LINGER --> CLOSED
        |           |  (flush what was  (close_notify is sent, our side is shut;
        |           |   written)         wait a little for the peer's end)
        +--> LINGER +--> LINGER: a failure; only an alert is still sent

What the application may rely on:

- `connection_lost` comes once, if and only if `connection_made` has come; how that comes is told in `tls.py`,
  where connections begin.
- Nothing that arrived before the handshake's end is ever given to it as application data.
- `eof_received` is called only for a proper close_notify. A connection that merely breaks off ends in
  `connection_lost` with `TlsTruncatedError` (or the socket's error): whatever was arriving is incomplete.
  Returning True from `eof_received` keeps the other direction open, as with TCP.
- After the peer's close_notify, octets on the TCP connection are ignored: no way back to plain text.
- What it writes within one callback leaves in one piece: one set of records, one raw write.
- `pause_writing` and `resume_writing` work as on TCP, counting octets not yet taken by the kernel;
  `pause_reading` stops the raw connection, so memory per connection is bounded.
- `close` flushes, says close_notify and ends; a peer that does not read delays it for `linger_s` at most
  after the last progress, and `close_s` in all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, cast

from outrider.net.tls_backlog import Backlog
from outrider.net.tls_engine import Buffer, TlsEngine, TlsEngineError
from outrider.net.tls_info import (
    TlsCause,
    TlsFailure,
    TlsHandshakeError,
    TlsInfo,
    TlsSessionError,
    TlsTruncatedError,
)

BATCH_OCTETS: Final = 131_072
"""Plain octets encrypted between two looks at the socket: eight full records."""
DISCARD_OCTETS: Final = 1_048_576
"""What a peer may still send after we have closed, before we stop listening to it."""
HIGH_WATER: Final = 65_536
LOW_WATER: Final = 16_384

ReadyCallback = Callable[["TlsTransport", TlsInfo], None]
FailedCallback = Callable[[TlsFailure], None]


@dataclass(frozen=True, slots=True)
class TlsTimes:
    """How long a TLS connection may take to begin and to end, in seconds."""

    handshake_s: float = 30.0
    """For the whole handshake, however the octets trickle in (SEC-39); 0 = no limit."""
    linger_s: float = 5.0
    """On closing: without progress, or with everything sent, until the peer ends too."""
    close_s: float = 60.0
    """On closing: in all."""


class _Phase(Enum):
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    LINGER = auto()
    CLOSED = auto()


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One TLS connection; see the module. Made by the functions of `tls.py`."""

    def __init__(
        self,
        engine: TlsEngine,
        app_protocol: asyncio.BaseProtocol,
        *,
        times: TlsTimes,
        announce: bool,
        on_ready: ReadyCallback | None = None,
        on_failed: FailedCallback | None = None,
    ) -> None:
        """Not yet on a wire: that is `connection_made`, called by the raw transport or by `start_tls_*`."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._app = _as_protocol(app_protocol)
        self._times = times
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._app_told = not announce
        """The application has been called `connection_made`, by us or by the raw transport before us."""
        self._raw: asyncio.Transport | None = None
        self._info: TlsInfo | None = None
        self._phase = _Phase.HANDSHAKE
        self._lost: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._close_deadline = 0.0
        self._discarded = 0

        self._backlog = Backlog()
        self._corked = False
        self._flush_due = False
        self._raw_paused = False
        self._app_paused = False
        self._unsent_at_last_look = 0
        self._high, self._low = HIGH_WATER, LOW_WATER

        self._reading = True
        self._early = b""
        """Wire octets for the next look: from before the upgrade, or delivered although we were paused."""
        self._wire_ended = False
        self._given_up = False
        self._eof_told = False

    # -- towards the wire: asyncio.Protocol ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a raw connection and begin the handshake."""
        raw = _as_transport(transport)
        self._raw = raw
        self._engine.peer = _peer_name(raw)
        if raw.is_closing():
            # It may have told its former protocol of the end already.
            self._loop.call_soon(self.connection_lost, None)
            return
        # Whoever paused us in writing before the upgrade will hear that writing goes on.
        self._raw_paused = self._app_paused = raw.get_write_buffer_size() > self._high
        raw.set_write_buffer_limits(self._high, self._low)
        if not raw.is_reading():
            raw.resume_reading()
        if self._times.handshake_s:
            self._timer = self._loop.call_later(self._times.handshake_s, self._handshake_timed_out)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Octets from the wire: of the handshake, of the session, or too late to matter."""
        if self._phase is _Phase.OPEN:
            self._receive(data)
        elif self._phase is _Phase.HANDSHAKE:
            self._shake_hands(data)
        else:
            self._discard(len(data))

    def eof_received(self) -> bool:
        """The peer's FIN. Always True: this side closes in its own order."""
        self._wire_ended = True
        if self._phase is _Phase.HANDSHAKE:
            self._handshake_failed(
                self._engine.describe(TlsCause.PEER_CLOSED, "the peer closed the connection in the handshake")
            )
        elif self._phase is _Phase.OPEN and not self._engine.peer_closed:
            self._lost = TlsTruncatedError(self._truncation())
            self.close()
        elif self._phase is _Phase.LINGER:
            self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The raw connection is gone."""
        if self._phase is _Phase.CLOSED:
            return
        if self._phase is _Phase.HANDSHAKE:
            cause = TlsCause.CANCELLED if self._given_up else TlsCause.PEER_CLOSED
            self._handshake_failed(self._engine.describe(cause, "the connection ended in the handshake"))
        elif self._phase is _Phase.OPEN and exc is None and not self._engine.peer_closed:
            self._lost = TlsTruncatedError(self._truncation())
        self._phase = _Phase.CLOSED
        self._stop_timer()
        self._backlog.clear()
        if self._app_told:
            self._app_told = False
            self._app.connection_lost(self._lost or exc)

    def pause_writing(self) -> None:
        """The raw transport holds enough: what is written now waits here as plain text."""
        self._raw_paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._raw_paused = False
        self._pump()

    # -- the handshake -------------------------------------------------------------------------------

    def hand_over(self, data: bytes) -> None:
        """Octets that the raw transport delivered to somebody else: they are the first of the handshake."""
        self._early = data
        self._loop.call_soon(self.data_received, b"")

    def _shake_hands(self, data: bytes = b"") -> None:
        data, self._early = self._early + data, b""
        try:
            done = self._engine.handshake(data)
        except TlsEngineError as error:
            self._handshake_failed(error.failure)
            return
        if done:
            self._established()
        else:
            self._send_outgoing()

    def _established(self) -> None:
        self._stop_timer()
        self._phase = _Phase.OPEN
        info = self._info = self._engine.info()
        self._corked = True
        try:
            if not self._app_told:
                self._app_told = True
                self._app.connection_made(self)
            if self._on_ready is not None:
                self._on_ready(self, info)
        finally:
            self._corked = False
        self._receive(b"")
        self._pump()

    def _handshake_timed_out(self) -> None:
        reason = f"no complete handshake within {self._times.handshake_s:g} s"
        self._handshake_failed(self._engine.describe(TlsCause.TIMED_OUT, reason))
        self.abort()

    def _handshake_failed(self, failure: TlsFailure) -> None:
        self._lost = TlsHandshakeError(failure)
        self._linger()
        if self._on_failed is not None:
            self._on_failed(failure)

    # -- receiving -----------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        """Decrypt and deliver, then send in one piece what the application answered."""
        if self._phase is not _Phase.OPEN:
            return
        if not self._reading:
            self._early += data
            return
        if self._early:
            data, self._early = self._early + data, b""
        plain = self._engine.read(data)
        self._corked = True
        try:
            if plain:
                self._app.data_received(plain)
        finally:
            self._corked = False
        self._after_reading()
        self._pump()

    def _after_reading(self) -> None:
        if self._phase is not _Phase.OPEN:
            return
        if self._engine.failure is not None:
            self._broken(self._engine.failure)
        elif self._engine.peer_closed and self._reading and not self._eof_told:
            self._eof_told = True
            if not self._app.eof_received():
                self.close()

    def _broken(self, failure: TlsFailure) -> None:
        self._lost = TlsSessionError(failure)
        self._linger()

    def _truncation(self) -> TlsFailure:
        return self._engine.describe(TlsCause.PEER_CLOSED, "the connection ended without close_notify")

    def _discard(self, octets: int) -> None:
        self._discarded += octets
        if self._discarded > DISCARD_OCTETS:
            self.abort()

    def pause_reading(self) -> None:
        """Deliver nothing more until `resume_reading`."""
        if self._reading and self._phase is _Phase.OPEN:
            self._reading = False
            if self._raw is not None:
                self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Go on delivering, beginning with data or an end of file that was held back."""
        if not self._reading and self._phase is _Phase.OPEN:
            self._reading = True
            if self._raw is not None:
                self._raw.resume_reading()
            self._loop.call_soon(self._receive, b"")

    def is_reading(self) -> bool:
        """Whether received data is delivered at present."""
        return self._reading and self._phase is _Phase.OPEN and not self._engine.peer_closed

    # -- sending -------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Queue `data`; it is encrypted and sent when the current callback returns, or when there is room.

        `bytes` are kept by reference, buffers that could change are copied. Ignored once the connection
        is closing, as by every asyncio transport.
        """
        if self._phase is not _Phase.OPEN or not len(data):
            return
        self._backlog.append(data)
        if self._backlog.octets >= BATCH_OCTETS:
            self._pump()
        elif not self._corked:
            self._flush_soon()
        self._pause_app_if_full()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Queue all of them, as one batch."""
        for data in list_of_data:
            self.write(data)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._pump()

    def _pump(self) -> None:
        """Encrypt what waits while the raw transport has room, a batch at a time."""
        if self._phase not in (_Phase.OPEN, _Phase.CLOSING):
            return
        while not self._raw_paused:
            if self._backlog.octets:
                self._engine.write(self._backlog.take(BATCH_OCTETS))
            if self._phase is _Phase.CLOSING and not self._backlog.octets:
                self._engine.close()
                self._linger()
                return
            self._send_outgoing()
            if self._engine.failure is not None:
                self._broken(self._engine.failure)
                return
            if not self._backlog.octets:
                break
            if self._unsent() > self._high:
                # uvloop tells of a full socket only when it has tried to write, later in this iteration.
                self._flush_soon()
                return
        self._resume_app_if_drained()

    def _send_outgoing(self) -> None:
        out = self._engine.outgoing()
        if out and self._raw is not None:
            self._raw.write(out)

    def _pause_app_if_full(self) -> None:
        if not self._app_paused and self.get_write_buffer_size() > self._high:
            self._app_paused = True
            self._app.pause_writing()

    def _resume_app_if_drained(self) -> None:
        if self._app_paused and not self._backlog.octets and not self._raw_paused:
            self._app_paused = False
            self._app.resume_writing()

    def _unsent(self) -> int:
        return 0 if self._raw is None else self._raw.get_write_buffer_size()

    def get_write_buffer_size(self) -> int:
        """Octets written and not yet taken by the kernel."""
        return self._backlog.octets + self._unsent()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water marks, in octets."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the application is paused and resumed; see `asyncio.WriteTransport`."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"water marks must be 0 <= low <= high, not {low} and {high}")
        self._high, self._low = high, low
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """False: `close` says close_notify; nobody here needs to close one direction only."""
        return False

    def write_eof(self) -> None:
        """Not supported."""
        raise NotImplementedError("TLS connections are closed as a whole")

    # -- ending --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what was written, then close_notify, then end. Nothing more is delivered."""
        if self._phase is _Phase.HANDSHAKE:
            self.abort()
        elif self._phase is _Phase.OPEN:
            self._phase = _Phase.CLOSING
            self._begin_closing()
            self._flush_soon()

    def abort(self) -> None:
        """End at once; unsent data is lost, and the peer sees a truncated session."""
        self._given_up = self._phase is _Phase.HANDSHAKE
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._phase not in (_Phase.HANDSHAKE, _Phase.OPEN)

    def _linger(self) -> None:
        """Send the last record, shut our side, and give the peer a moment to take it.

        To close while octets of the peer wait unread would reset the connection, and the reset may overtake
        the last reply or the alert (RFC 1122 section 4.2.2.13).
        """
        raw = self._raw
        if raw is None or self._phase in (_Phase.LINGER, _Phase.CLOSED):
            return
        self._send_outgoing()
        self._phase = _Phase.LINGER
        self._backlog.clear()
        self._begin_closing()
        if self._wire_ended:
            self._end()
        elif raw.can_write_eof() and not raw.is_closing():
            with contextlib.suppress(OSError):  # reset by the peer a moment ago
                raw.write_eof()

    def _begin_closing(self) -> None:
        """From here on the peer has a limited time; its end must be seen even if reading was paused."""
        raw = self._raw
        if raw is None:
            return
        if not self._reading and not raw.is_closing():
            raw.resume_reading()
        self._reading = True
        self._stop_timer()
        self._close_deadline = self._close_deadline or self._loop.time() + self._times.close_s
        self._unsent_at_last_look = self.get_write_buffer_size()
        self._timer = self._loop.call_later(self._times.linger_s, self._look_at_progress)

    def _look_at_progress(self) -> None:
        unsent = self.get_write_buffer_size()
        if unsent == 0:
            self._end()
        elif unsent < self._unsent_at_last_look and self._loop.time() < self._close_deadline:
            self._unsent_at_last_look = unsent
            self._timer = self._loop.call_later(self._times.linger_s, self._look_at_progress)
        else:
            self.abort()

    def _end(self) -> None:
        if self._raw is not None:
            self._raw.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the rest of asyncio.Transport -----------------------------------------------------------------

    @property
    def info(self) -> TlsInfo | None:
        """The session's facts; None before the handshake is complete."""
        return self._info

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``tls_info``, or whatever the raw transport knows: ``peername``, ``sockname``, ``socket``."""
        if name == "tls_info":
            return default if self._info is None else self._info
        if name == "sslcontext" and self._info is not None:
            # HTTP servers ask for this to learn that the scheme is https; they only test that it is there.
            return self._info
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another application protocol from now on."""
        self._app = _as_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The application protocol."""
        return self._app


def _as_protocol(protocol: asyncio.BaseProtocol) -> asyncio.Protocol:
    if not isinstance(protocol, asyncio.Protocol):
        raise TypeError(f"TLS needs an asyncio.Protocol, not {type(protocol).__name__}")
    return protocol


def _as_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    # uvloop's stream transports have all the methods and are no subclass.
    return cast(asyncio.Transport, transport)


def _peer_name(raw: asyncio.Transport) -> str:
    name = raw.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return ""
