"""What a TLS connection tells the application: the facts of a session, and why one failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cryptography import x509

CHANNEL_BINDING_LABEL: Final = b"EXPORTER-Channel-Binding"
"""RFC 9266 section 4.2."""
CHANNEL_BINDING_OCTETS: Final = 32
MAX_EXPORT_OCTETS: Final = 8160
"""255 blocks of the shortest hash in use (RFC 5869 section 2.3), the most that TLS 1.3 can export."""

_ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}


def alert_name(code: int) -> str:
    """An alert as operators know it: ``unknown_ca (48)`` (RFC 8446 section 6, RFC 5246 section 7.2)."""
    return f"{_ALERTS.get(code, 'alert')} ({code})"


class TlsExportError(RuntimeError):
    """Keying material may not or cannot be exported from this session."""


def _no_export(_label: bytes, _length: int, _context: bytes | None) -> bytes:
    raise TlsExportError("this session has no keys to export from")


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The facts of an established session. Nothing in it has been believed: see `peer_chain`."""

    version: str
    """``TLSv1.3`` or ``TLSv1.2``."""
    cipher: str
    cipher_bits: int
    group: str
    """The key exchange group, such as ``X25519MLKEM768``; "" where OpenSSL does not say."""
    server_name: str
    """The name that the client asked for (SNI), lower case; "" if it gave none. A claim, not a proof."""
    alpn: str
    """The application protocol agreed on; "" if the client offered none."""
    session_reused: bool
    """Always false with the contexts of `tls_context`, which switch resumption off (SEC-151)."""
    extended_master_secret: bool
    """RFC 7627; always true in TLS 1.3, whose key schedule has the property by itself."""
    peer_chain: tuple[bytes, ...] = field(default=(), repr=False)
    """The peer's certificates as it sent them, DER, leaf first; empty if it sent none. The peer has proven
    to hold the leaf's key and nothing else: names, issuers and dates are checked by `identity`."""
    _export: Callable[[bytes, int, bytes | None], bytes] = field(
        default=_no_export, repr=False, compare=False
    )

    def __str__(self) -> str:
        return f"{self.version} {self.cipher} ({self.cipher_bits} bits)"

    def peer_certificates(self) -> tuple[x509.Certificate, ...]:
        """`peer_chain` parsed. Raises `ValueError` if a certificate is malformed, as hostile ones may be."""
        return tuple(x509.load_der_x509_certificate(der) for der in self.peer_chain)

    def export_keying_material(self, label: bytes, length: int, context: bytes | None = None) -> bytes:
        """Keying material bound to this session (RFC 5705, RFC 8446 section 7.5).

        Raises :class:`TlsExportError` in TLS 1.2 without extended master secret, where the value does not
        identify the session (RFC 9266 section 1, RFC 7627), and for lengths outside 1..8160 octets.
        """
        if not self.extended_master_secret:
            raise TlsExportError("TLS 1.2 without extended master secret gives no unique keying material")
        if not 1 <= length <= MAX_EXPORT_OCTETS:
            raise TlsExportError(f"cannot export {length} octets")
        return self._export(label, length, context)

    def tls_exporter_channel_binding(self) -> bytes:
        """The 32 octets of the channel binding ``tls-exporter`` (RFC 9266), for SCRAM-SHA-256-PLUS.

        Raises :class:`TlsExportError` as `export_keying_material` does.
        """
        return self.export_keying_material(CHANNEL_BINDING_LABEL, CHANNEL_BINDING_OCTETS, b"")


class TlsStage(Enum):
    """How far a connection had come when it failed."""

    HELLO = "hello"
    """The peer's hello has not come whole, or was not acceptable."""
    NEGOTIATION = "negotiation"
    SESSION = "session"
    """Established; the failure hit application data."""


class TlsCause(Enum):
    """Why, in few enough words to count by."""

    TIMED_OUT = "timed_out"
    PEER_CLOSED = "peer_closed"
    """The TCP connection ended, without a word of TLS."""
    NOT_TLS = "not_tls"
    """The first octets are no TLS record: plain text, an SSLv2 hello, noise."""
    NO_COMMON_PROTOCOL = "no_common_protocol"
    """ALPN: only foreign protocols were offered (TLS-7)."""
    ALERTED = "alerted"
    """The peer refused, with the alert in `TlsFailure.alert`."""
    REFUSED = "refused"
    """We refused: what the peer sent is malformed or not acceptable."""
    FLOODED = "flooded"
    """Too many messages that carry no data: key updates, renegotiation attempts."""
    CANCELLED = "cancelled"
    """The application gave up first."""


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """A failed handshake or broken session, for the operator's log and metrics (TLS-6).

    Holds no key, no octets of the peer and no text chosen by it. Not for the peer's eyes: the alert has told
    it what RFC 8446 wants it to know.
    """

    stage: TlsStage
    cause: TlsCause
    reason: str
    """OpenSSL's words or ours: ``unsupported protocol``, ``no answer within 30 s``."""
    alert: str
    """``sent protocol_version (70)``, ``received unknown_ca (48)``, or ""."""
    peer: str
    """Address and port as seen on the wire; "" if unknown."""

    def __str__(self) -> str:
        alert = f", {self.alert}" if self.alert else ""
        return f"TLS failed at {self.stage.value} ({self.cause.value}): {self.reason}{alert}"


class TlsConnectionError(ConnectionError):
    """A connection ended because of TLS. `failure` says why; `str()` is its one-line form."""

    def __init__(self, failure: TlsFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class TlsHandshakeError(TlsConnectionError):
    """The handshake failed: not one octet of application data was exchanged."""


class TlsSessionError(TlsConnectionError):
    """An established session broke: an alert, a forged or malformed record, a flood."""


class TlsTruncatedError(TlsConnectionError):
    """The TCP connection ended without close_notify, so anybody on the path may have ended it.

    Whatever was still arriving is incomplete, whatever it looks like (SEC-40).
    """
