"""TLS contexts: which certificate is shown to whom, and which TLS is spoken at all.

The rules, the same for every protocol of the house:

- TLS 1.2 and 1.3, no compression, no renegotiation, no early data (TLS-6, SEC-39, SEC-40).
- A certificate of the peer is asked for or not, and handed out as it came. *Nothing is believed here*: the
  verification callback accepts everything, so that an unverifiable certificate reaches the application, which
  can then answer in the dialogue (AMTP's 504) instead of breaking the handshake (TLS-3). Paths, names and
  dates are checked afterwards with `cryptography`'s verifier, by `identity`.
- No session is resumed, in either role, so identity is proven anew on every connection (SEC-151): tickets off
  (TLS 1.2), session cache off, and a session id context of our own. pyOpenSSL cannot set the number of TLS
  1.3 tickets: two are still sent after a handshake, but as nothing is kept for them, a client that presents
  one gets a full handshake.
- A context cannot change once it is in use. Reloading builds new ones and swaps the whole table, so that
  sessions and handshakes under way go on with what they began with (TLS-7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from OpenSSL import SSL

from outrider.net.tls_engine import TlsEngine, Watch, observe, select_alpn
from outrider.net.tls_files import (
    CertificateFiles,
    Credentials,
    TlsConfigError,
    read_credentials,
)

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!PSK:!SRP"
"""For TLS 1.2: forward secrecy always (RFC 9325 section 4.1), authenticated encryption first. The CBC suites
at the end are for mail servers of about 2012, which otherwise would fall back to no encryption at all."""

MAX_CHAIN_DEPTH: Final = 10
"""Certificates of a peer that OpenSSL links up (and checks signatures of) during the handshake."""

MAX_SERVER_NAME: Final = 253
"""Octets of a host name (RFC 1035 section 2.3.4, without the final dot)."""

_PARTIAL_WRITES: Final = 1
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL switches on and has no name for. Off, a write makes all its
records in one call."""
_SESSION_ID: Final = b"outrider"
_OPTIONS: Final = (
    SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE
)

Clock = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CertificateExpiry:
    """When a certificate of ours ends, for logs and metrics (TLS-7)."""

    path: Path
    names: tuple[str, ...]
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Pair:
    """The contexts of one certificate: with and without asking clients for theirs.

    Two, as pyOpenSSL makes a new C callback for every connection whose verification mode is set singly.
    """

    plain: SSL.Context
    asking: SSL.Context
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class _Table:
    """Everything that is swapped at once by a reload."""

    default: _Pair
    exact: Mapping[str, _Pair]
    wildcard: Mapping[str, _Pair]
    """By the name without its left-most label."""

    def pairs(self) -> Iterator[_Pair]:
        yield self.default
        yield from dict.fromkeys((*self.exact.values(), *self.wildcard.values()))

    def find(self, name: str) -> _Pair | None:
        """For a name in lower case; a wildcard stands for exactly one label (RFC 9525 section 6.3)."""
        return self.exact.get(name) or self.wildcard.get(name.partition(".")[2])


class ServerContexts:
    """A server's certificates: a default, and others by the name that the client asks for (SNI).

    The default is shown to clients that name no host, an unknown one, or nonsense (SEC-43).
    """

    def __init__(
        self,
        default: CertificateFiles,
        by_name: Mapping[str, CertificateFiles] | None = None,
        *,
        ciphers: bytes = CIPHERS,
        allow_expired: bool = False,
        clock: Clock = _utc_now,
    ) -> None:
        """Read and check all files; `by_name` maps host names (``mx.example.org``, ``*.example.org``).

        `allow_expired` makes an expired certificate a warning, see `tls_files.read_credentials`. Raises
        :class:`~outrider.net.tls_files.TlsConfigError`.
        """
        self._default = default
        self._by_name = {_table_name(default, name): files for name, files in (by_name or {}).items()}
        self._ciphers = ciphers
        self._allow_expired = allow_expired
        self._clock = clock
        self._stamps = self._stamp()
        self._table = self._build()

    def reload(self) -> None:
        """Read all files anew and use them for connections from now on.

        All or nothing: raises `TlsConfigError`, and changes nothing, if one is bad.
        """
        stamps = self._stamp()
        self._table = self._build()
        self._stamps = stamps

    def files_changed(self) -> bool:
        """Whether a file was replaced or written since it was last loaded; a cheap question for a timer."""
        return self._stamp() != self._stamps

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be mended about the files in use: readable keys, dates."""
        return tuple(warning for pair in self._table.pairs() for warning in pair.credentials.warnings)

    def certificate_expiry(self) -> tuple[CertificateExpiry, ...]:
        """When each certificate in use ends, the default first."""
        return tuple(
            CertificateExpiry(
                pair.credentials.files.certificate, pair.credentials.names, pair.credentials.not_after
            )
            for pair in self._table.pairs()
        )

    def engine(self, *, alpn_protocols: tuple[bytes, ...], request_client_certificate: bool) -> TlsEngine:
        """The server's end of a new connection, with the certificates of this moment.

        A client that offers ALPN must offer one of `alpn_protocols`; one that offers none is welcome.
        """
        pair = self._table.default
        context = pair.asking if request_client_certificate else pair.plain
        return TlsEngine(SSL.Connection(context), Watch(alpn_protocols), server=True)

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        files = (self._default, *self._by_name.values())
        return tuple(_file_stamp(path) for pair in files for path in (pair.certificate, pair.key))

    def _build(self) -> _Table:
        made: dict[CertificateFiles, _Pair] = {}
        names: dict[str, _Pair] = {}

        def pair_for(files: CertificateFiles) -> _Pair:
            if files not in made:
                made[files] = self._pair(files, choose_by_name)
            return made[files]

        def choose_by_name(connection: SSL.Connection) -> None:
            pair = table.find(_asked_for(connection))
            if pair is not None:
                # Only certificate and ALPN follow the new context; verification stays as it was set up. The
                # connection lets go of the old context here, whose callbacks OpenSSL still uses: this very
                # function, held by the new context too, keeps the table and so the old context alive.
                connection.set_context(pair.plain)

        default = pair_for(self._default)
        for name, files in self._by_name.items():
            names[name] = pair_for(files)
        table = _Table(
            default=default,
            exact=MappingProxyType({name: pair for name, pair in names.items() if not name.startswith("*.")}),
            wildcard=MappingProxyType(
                {name[2:]: pair for name, pair in names.items() if name.startswith("*.")}
            ),
        )
        return table

    def _pair(self, files: CertificateFiles, choose_by_name: Callable[[SSL.Connection], None]) -> _Pair:
        credentials = read_credentials(files, now=self._clock(), allow_expired=self._allow_expired)
        plain = _server_context(credentials, self._ciphers, choose_by_name)
        asking = _server_context(credentials, self._ciphers, choose_by_name)
        asking.set_verify(SSL.VERIFY_PEER, _accept_anything)
        asking.set_verify_depth(MAX_CHAIN_DEPTH)
        return _Pair(plain, asking, credentials)


class ClientContext:
    """How we speak TLS as a client, with or without a certificate of our own.

    The server's certificate is not verified here: the caller gets its chain in `TlsInfo` and decides by its
    policy for the destination (TLS-4a). A handshake is therefore never broken by a bad certificate.
    """

    def __init__(
        self,
        certificate: CertificateFiles | None = None,
        *,
        ciphers: bytes = CIPHERS,
        allow_expired: bool = False,
        clock: Clock = _utc_now,
    ) -> None:
        """Raises :class:`~outrider.net.tls_files.TlsConfigError` if the certificate cannot be used."""
        self._files = certificate
        self._ciphers = ciphers
        self._allow_expired = allow_expired
        self._clock = clock
        self.credentials: Credentials | None = None
        """Our own certificate, if any."""
        self._context = self._build()

    def reload(self) -> None:
        """Read the certificate anew; raises `TlsConfigError` and changes nothing if it is bad."""
        self._context = self._build()

    def engine(self, *, server_hostname: str = "", alpn_protocols: tuple[bytes, ...] = ()) -> TlsEngine:
        """The client's end of a new connection.

        `server_hostname` is sent as SNI unless it is "" or an address (RFC 6066 section 3); a name that is
        not ASCII must come in its A-label form, else `UnicodeEncodeError`.
        """
        connection = SSL.Connection(self._context)
        name = server_hostname.rstrip(".").encode("ascii")
        if name and len(name) <= MAX_SERVER_NAME and not _is_address(server_hostname):
            connection.set_tlsext_host_name(name)
        if alpn_protocols:
            connection.set_alpn_protos(list(alpn_protocols))
        return TlsEngine(connection, Watch(alpn_protocols), server=False)

    def _build(self) -> SSL.Context:
        context = _base_context(SSL.TLS_CLIENT_METHOD, self._ciphers)
        # OpenSSL must not judge: see the class. VERIFY_NONE spares the callback for each certificate.
        context.set_verify(SSL.VERIFY_NONE)
        context.set_verify_depth(MAX_CHAIN_DEPTH)
        if self._files is not None:
            credentials = read_credentials(self._files, now=self._clock(), allow_expired=self._allow_expired)
            _use(context, credentials)
            self.credentials = credentials
        return context


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A listener's TLS: its certificates, and how it deals with clients."""

    contexts: ServerContexts
    alpn_protocols: tuple[bytes, ...] = ()
    """The ALPN names of the protocol spoken here; all others are refused (TLS-7). A web listener needs
    ``http/1.1``, which every browser offers; mail clients offer none."""
    request_client_certificate: bool = False

    def engine(self) -> TlsEngine:
        """The server's end of a new connection."""
        return self.contexts.engine(
            alpn_protocols=self.alpn_protocols, request_client_certificate=self.request_client_certificate
        )


def _accept_anything(*_: object) -> bool:
    """See the module: the certificate is a claim, and claims are judged elsewhere."""
    return True


def _base_context(method: int, ciphers: bytes) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_PARTIAL_WRITES)
    context.set_cipher_list(ciphers)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_info_callback(observe)
    return context


def _server_context(
    credentials: Credentials, ciphers: bytes, choose_by_name: Callable[[SSL.Connection], None]
) -> SSL.Context:
    context = _base_context(SSL.TLS_SERVER_METHOD, ciphers)
    context.set_session_id(_SESSION_ID)
    context.set_alpn_select_callback(select_alpn)
    context.set_tlsext_servername_callback(choose_by_name)
    _use(context, credentials)
    return context


def _use(context: SSL.Context, credentials: Credentials) -> None:
    leaf, *issuers = credentials.chain
    try:
        context.use_certificate(leaf)
        context.use_privatekey(credentials.key)
        for certificate in issuers:
            context.add_extra_chain_cert(certificate)
        context.check_privatekey()
    except SSL.Error as error:
        reason = error.args[0][0][2] if error.args and error.args[0] else "no reason given"
        problem = f"OpenSSL will not use it ({reason})"
        raise TlsConfigError(
            credentials.files.certificate, problem, "use an EC key, or RSA of 2048 bits"
        ) from None


def _asked_for(connection: SSL.Connection) -> str:
    name = connection.get_servername() or b""
    if len(name) > MAX_SERVER_NAME:
        return ""
    return name.decode("ascii", "replace").lower().rstrip(".")


def _table_name(default: CertificateFiles, name: str) -> str:
    """A name of the SNI table in its canonical form, or :class:`TlsConfigError`."""
    canonical = name.lower().rstrip(".")
    rest = canonical.removeprefix("*.")
    if not rest or "*" in rest or not canonical.isascii() or any(c.isspace() for c in canonical):
        problem = f"{name!r} is no host name for a certificate"
        raise TlsConfigError(default.certificate, problem, "write mx.example.org or *.example.org")
    return canonical


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
