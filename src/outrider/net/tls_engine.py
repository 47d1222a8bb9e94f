"""TLS without I/O: one pyOpenSSL connection between two memory BIOs.

Octets from the wire go in by `handshake` and then `read`, which gives the plain ones; plain octets go in by
`write`; octets for the wire come out by `outgoing`. Nothing here waits, so the same engine serves asyncio,
uvloop and the tests, which wire two of them together.

OpenSSL reports through callbacks of the *context*; what they say about one connection is noted on its
`Watch`, which the connection carries as application data. The watch knows neither engine nor connection:
a cycle through the C object would keep each session's buffers until the garbage collector runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL, crypto

from outrider.net.tls_info import (
    TlsCause,
    TlsExportError,
    TlsFailure,
    TlsInfo,
    TlsStage,
    alert_name,
)

RECORD_OCTETS: Final = 16_384
"""The most plain text in one record (RFC 8446 section 5.1)."""
FEED_OCTETS: Final = 65_536
"""Wire octets given to OpenSSL at a time, so that a flood is seen after a few milliseconds of work."""
DRAIN_OCTETS: Final = 65_536
MAX_IDLE_MESSAGES: Final = 256
"""Steps of OpenSSL's state machine, and alerts of ours, after the handshake: two or three for each key update
or refused renegotiation. An honest peer updates its keys once in 2^24 records, many gigabytes (RFC 8446
section 5.5), and sends some session tickets once; this allows for dozens."""

_HANDSHAKE_RECORD: Final = 0x16
_ALERT_RECORD: Final = 0x15
_FATAL: Final = 2
_HELLO_READ: Final = (b"SSLv3/TLS read client hello", b"SSLv3/TLS read server hello")

Buffer = bytes | bytearray | memoryview


class AlpnRefusedError(Exception):
    """Raised inside OpenSSL's ALPN callback, where it becomes the alert no_application_protocol."""


class TlsEngineError(Exception):
    """The handshake cannot succeed any more: send what `outgoing` still holds (an alert), and close."""

    def __init__(self, failure: TlsFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Watch:
    """What the callbacks of a context saw happen to one connection."""

    __slots__ = (
        "alert_received",
        "alert_sent",
        "alpn_protocols",
        "established",
        "hello_read",
        "idle_messages",
    )

    def __init__(self, alpn_protocols: tuple[bytes, ...]) -> None:
        self.alpn_protocols = alpn_protocols
        self.hello_read = False
        self.established = False
        self.idle_messages = 0
        self.alert_sent = -1
        self.alert_received = -1

    @property
    def alert(self) -> str:
        """The fatal alert that passed, and which way; "" if none did."""
        if self.alert_received >= 0:
            return f"received {alert_name(self.alert_received)}"
        return f"sent {alert_name(self.alert_sent)}" if self.alert_sent >= 0 else ""


def observe(connection: SSL.Connection, where: int, value: int) -> None:
    """OpenSSL's information callback: note alerts, and count what happens after the handshake."""
    watch: Watch = connection.get_app_data()
    if where & SSL.SSL_CB_ALERT:
        level, code = value >> 8, value & 0xFF
        if level == _FATAL and where & SSL.SSL_CB_READ:
            watch.alert_received = code
        elif level == _FATAL:
            watch.alert_sent = code
        watch.idle_messages += watch.established
    elif where & SSL.SSL_CB_LOOP:
        watch.idle_messages += watch.established
        watch.hello_read = watch.hello_read or connection.get_state_string() in _HELLO_READ


def select_alpn(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """OpenSSL's ALPN callback: our protocol's own name, or the alert (TLS-7; RFC 7301 section 3.2)."""
    watch: Watch = connection.get_app_data()
    for name in watch.alpn_protocols:
        if name in offered:
            return name
    raise AlpnRefusedError


class TlsEngine:
    """One end of one TLS connection.

    The caller's duties: after every call take `outgoing()` to the wire; stop when `failure` is set or a
    :class:`TlsEngineError` was raised.
    """

    __slots__ = (
        "_closed",
        "_connection",
        "_first_octet_due",
        "_server",
        "_watch",
        "failure",
        "peer",
        "peer_closed",
    )

    def __init__(self, connection: SSL.Connection, watch: Watch, *, server: bool) -> None:
        connection.set_app_data(watch)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        self._connection = connection
        self._watch = watch
        self._server = server
        self._first_octet_due = True
        self._closed = False
        self.peer = ""
        """Who is at the other end, for failures; set by the driver."""
        self.peer_closed = False
        """The peer's close_notify has come: everything it wanted to say has been read."""
        self.failure: TlsFailure | None = None
        """Set by `read` and `write` when an established session is broken."""

    # -- the handshake -----------------------------------------------------------------------------

    def handshake(self, data: Buffer = b"") -> bool:
        """Go on with the handshake, after `data` from the wire. True when it is complete.

        Octets behind the handshake's end are kept for `read`. Raises :class:`TlsEngineError`.
        """
        if data:
            self._check_first_octets(data)
            self._connection.bio_write(data)
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        except AlpnRefusedError:
            raise self.failed(
                TlsCause.NO_COMMON_PROTOCOL, "the client offered other protocols only"
            ) from None
        except SSL.Error as error:
            raise self.failed(self._blame(), _reason(error)) from None
        self._watch.established = True
        return True

    def failed(self, cause: TlsCause, reason: str) -> TlsEngineError:
        """The exception for a handshake that ends here, in the state that it has reached."""
        return TlsEngineError(self.describe(cause, reason))

    def describe(self, cause: TlsCause, reason: str) -> TlsFailure:
        """A failure at this moment of this connection."""
        return TlsFailure(self._stage(), cause, reason, self._watch.alert, self.peer)

    def _check_first_octets(self, data: Buffer) -> None:
        # RFC 8446 appendix D.5: an SSLv2 compatible hello must not be taken, and OpenSSL would take one.
        if self._first_octet_due and data[0] not in (_HANDSHAKE_RECORD, _ALERT_RECORD):
            raise self.failed(TlsCause.NOT_TLS, _what_is_it(data))
        self._first_octet_due = False

    def _stage(self) -> TlsStage:
        if self._watch.established:
            return TlsStage.SESSION
        return TlsStage.NEGOTIATION if self._watch.hello_read else TlsStage.HELLO

    def _blame(self) -> TlsCause:
        return TlsCause.ALERTED if self._watch.alert_received >= 0 else TlsCause.REFUSED

    # -- application data --------------------------------------------------------------------------

    def read(self, data: Buffer = b"") -> bytes:
        """Plain octets out of `data` from the wire and what was kept before.

        Afterwards `peer_closed` or `failure` may be set; what is returned came before that and is genuine.
        Nothing is read past either.
        """
        plain: list[bytes] = []
        view = memoryview(data)
        for start in range(0, len(view) or 1, FEED_OCTETS):
            if self.peer_closed or self.failure is not None:
                break
            if view:
                self._connection.bio_write(view[start : start + FEED_OCTETS])
            self._read_records(plain)
            self._check_flood()
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _read_records(self, plain: list[bytes]) -> None:
        receive = self._connection.recv
        try:
            while True:
                plain.append(receive(RECORD_OCTETS))
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            self.peer_closed = True
        except SSL.Error as error:
            self._broken(error)

    def _check_flood(self) -> None:
        if self._watch.idle_messages > MAX_IDLE_MESSAGES and self.failure is None:
            self.failure = self.describe(TlsCause.FLOODED, "too many key updates or renegotiation attempts")

    def write(self, data: Buffer) -> None:
        """Encrypt `data` whole; on a broken session it is dropped and `failure` is set."""
        if not data or self._closed or self.failure is not None:
            return
        try:
            # Contexts of ours have no partial writes: OpenSSL makes all the records in one call.
            self._connection.sendall(data)
        except SSL.Error as error:
            self._broken(error)

    def close(self) -> None:
        """Queue close_notify: nothing can be written any more, reading goes on (RFC 8446 section 6.1)."""
        if self._closed or self.failure is not None:
            return
        self._closed = True
        try:
            self._connection.shutdown()
        except SSL.Error as error:
            self._broken(error)

    def _broken(self, error: SSL.Error) -> None:
        self.failure = self.describe(self._blame(), _reason(error))

    def outgoing(self) -> bytes:
        """Everything that waits to go to the wire; b"" when nothing does."""
        parts: list[bytes] = []
        try:
            while True:
                part = self._connection.bio_read(DRAIN_OCTETS)
                parts.append(part)
                if len(part) < DRAIN_OCTETS:
                    break
        except SSL.WantReadError:
            pass
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- facts -------------------------------------------------------------------------------------

    def info(self) -> TlsInfo:
        """The session's facts; only after `handshake` has returned True."""
        connection = self._connection
        version = connection.get_protocol_version_name()
        name = connection.get_servername() or b""
        return TlsInfo(
            version=version,
            cipher=connection.get_cipher_name() or "",
            cipher_bits=connection.get_cipher_bits() or 0,
            group=connection.get_group_name() or "",
            server_name=name.decode("ascii", "backslashreplace").lower(),
            alpn=connection.get_alpn_proto_negotiated().decode("ascii", "backslashreplace"),
            session_reused=_ask(connection, "SSL_session_reused"),
            extended_master_secret=version == "TLSv1.3" or _ask(connection, "SSL_get_extms_support"),
            peer_chain=_peer_chain(connection, self._server),
            _export=_exporter(connection),
        )


def _ask(connection: SSL.Connection, question: str) -> bool:
    # pyOpenSSL 26 has these two answers from OpenSSL, but no public method for them.
    answer: Callable[[Any], int] = getattr(SSL._lib, question)  # type: ignore[attr-defined]
    return answer(connection._ssl) == 1


def _peer_chain(connection: SSL.Connection, server: bool) -> tuple[bytes, ...]:
    chain = list(connection.get_peer_cert_chain() or ())
    # SSL_get_peer_cert_chain(3): on the server's side the leaf is not part of it.
    leaf = connection.get_peer_certificate() if server else None
    if leaf is not None:
        chain.insert(0, leaf)
    return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in chain)


def _exporter(connection: SSL.Connection) -> Callable[[bytes, int, bytes | None], bytes]:
    def export(label: bytes, length: int, context: bytes | None) -> bytes:
        try:
            return connection.export_keying_material(label, length, context)
        except SSL.Error:
            raise TlsExportError("OpenSSL did not export the keying material") from None

    return export


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words; the first entry of its queue is nearest to the cause, and none holds data."""
    if isinstance(error, SSL.SysCallError):
        return "unexpected end of the connection"
    queue = error.args[0] if error.args else ()
    reasons = [entry[2] for entry in queue if len(entry) == 3 and entry[2]]
    return reasons[0] if reasons else "OpenSSL gives no reason"


def _what_is_it(data: Buffer) -> str:
    head = bytes(data[:3])
    if head[0] & 0x80 and head[2:3] == b"\x01":
        return "an SSLv2 hello"
    if all(0x20 <= octet < 0x7F or octet in b"\r\n\t" for octet in head):
        return "plain text where TLS must begin"
    return "no TLS record"
