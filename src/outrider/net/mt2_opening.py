"""Opening an MT2 session with one address: connect, TLS 1.3, who is it, HELO, OPT (MT2-9 to MT2-11).

The server is judged before a word is said to it, as for AMTP (AMTP-5): its certificate proves the recipients'
domain, or its own name where that name came from somebody we believe. What we are is then proven by our
certificate, in HELO. Whoever has spoken to us has answered: no other protocol is tried (ITP-7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Protocol

from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet, ServerTerms
from outrider.delivery.mt2_assembly import Assembler
from outrider.identity.host_identity import ServerIdentity, ServerJudge, ServerQuestion
from outrider.identity.jws import Signer
from outrider.identity.mt2_identity import MT2_SERVICE, Found, Mt2IdentityFailure
from outrider.identity.mt2_proof import ProofError, ProofTerms, make_proof
from outrider.identity.server_tls import ProvenServer, TlsRefusal, match_fingerprint
from outrider.net.client_attempt import Attempt
from outrider.net.client_settings import SmtpClientParts, loop_time
from outrider.net.dialling import Destination
from outrider.net.mt2_callers import Callers
from outrider.net.mt2_connection import DrivenPeer, Mt2Connection
from outrider.net.mt2_observer import Mt2Observer, SilentMt2Observer
from outrider.net.tls_files import TlsConfigError
from outrider.net.tls_info import TlsHandshakeError, TlsInfo
from outrider.protocols.mt2.codes import Result, text_of
from outrider.protocols.mt2.events import Greeted, Limits, PeerSettings, SessionEnded, Takes
from outrider.protocols.mt2.options import Offer
from outrider.reception.interface import Session
from outrider.reception.mt2_interface import Mt2Reception

ALPN: Final = b"mt2"
TLS_VERSION: Final = "TLSv1.3"
"""The only one (MT2-9)."""
_NO_TERMS: Final = ServerTerms("", must_prove=True)


class PeerJudge(Protocol):
    """Tells whom a server's, or a caller's, certificates name (`identity.mt2_peers.Mt2Peers` does)."""

    async def server(
        self,
        chain: Sequence[bytes],
        question: ServerQuestion,
        at: float,
        address: str = "",
        judge: ServerJudge | None = None,
    ) -> ServerIdentity | Mt2IdentityFailure:
        """Whether a server may take the recipient domain's mail."""
        ...

    async def host(self, chain: Sequence[bytes], expected_name: str | None, address: str, at: float) -> Found:
        """The host behind a chain that says it is `expected_name`."""
        ...


@dataclass(frozen=True, slots=True)
class Mt2ClientParts:
    """What all our MT2 sessions work with. A reload makes a new one, for sessions yet to come."""

    common: SmtpClientParts
    peers: PeerJudge
    assembler: Assembler
    new_session_id: Callable[[], str]
    wanted: Offer
    """What we ask for by OPT."""
    signer: Signer | None = None
    """Proves us; None where we have no certificate."""
    limits: Limits = field(default_factory=Limits)
    parallel: int = 256
    """Messages under way at once on one connection, at most."""
    keep_open_s: float = 60.0
    reception: Mt2Reception | None = None
    """Takes the server's own mail (MT2-18e); None: none is taken."""
    callers: Callers | None = None
    observer: Mt2Observer = field(default_factory=SilentMt2Observer)


class Mt2ClientProtocol(Mt2Connection):
    """One connection that we have opened."""

    __slots__ = ("_parts", "_waiting", "greeting")

    def __init__(self, parts: Mt2ClientParts, over_tls: bool) -> None:
        """Nothing happens before `connection_made`."""
        session = Session(
            id=parts.new_session_id(),
            protocol="mt2",
            client_address=None,
            client_port=0,
            server_address=None,
            server_port=0,
            listener="mt2 client",
            hostname=parts.common.settings.hostname,
            started_at=parts.common.clock(),
        )
        super().__init__(
            None,
            session,
            parts.reception,
            parts.observer,
            parts.common.settings.command_timeout_s,
            parts.limits,
        )
        self._parts = parts
        takes = Takes.ANYBODY if parts.reception is not None and over_tls else Takes.NOBODY
        settings = PeerSettings(takes=takes, over_tls=over_tls, limits=parts.limits)
        self._begin(DrivenPeer.client(settings, Offer(), loop_time()))
        self._waiting: asyncio.Future[None] = self._loop.create_future()
        self.greeting: Greeted | None = None

    def _greet(self) -> None:
        """The server speaks first."""
        transport = self._transport
        peer = None if transport is None else transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            # To reception the server is the one who sends here, whoever has dialled.
            self._session.client_address, self._session.client_port = ip_address(peer[0]), peer[1]
            self._session.client_text = peer[0]

    def _greeted(self, event: Greeted) -> None:
        self.greeting = event
        self._heard()

    def _session_ended(self, event: SessionEnded) -> None:
        super()._session_ended(event)
        self._heard()

    def _over(self) -> None:
        super()._over()
        self._heard()

    def _heard(self) -> None:
        if not self._waiting.done():
            self._waiting.set_result(None)

    def _tls_entered(self, info: TlsInfo) -> None:
        """The dialler tells of it."""

    async def greeted(self) -> Greeted | None:
        """Wait for the greeting; None when the session ended without one."""
        await self._waiting
        return self.greeting

    @property
    def why(self) -> str:
        """Why it ended."""
        return self._why

    async def may_send_to_us(self, found: Found, chain: tuple[bytes, ...], name: str) -> bool:
        """Introduce the server to reception, for mail of its own (MT2-18e): whether it will be heard."""
        reception = self._reception
        if reception is None:
            return False
        self._session.hello_name = name
        said = reception.connected(self._session)
        result = said if isinstance(said, Result) else await said
        if result.is_ok:
            said = reception.identified(self._session, found, chain)
            result = said if isinstance(said, Result) else await said
        return result.is_ok


class Mt2Opening:
    """One attempt to open a session with one address."""

    def __init__(self, parts: Mt2ClientParts, hop: Hop, address: Destination) -> None:
        self.attempt = Attempt(parts.common, hop, address)
        self._parts = parts
        self._hop = hop
        self._terms = hop.terms or _NO_TERMS
        self._server = ""
        self._address = "" if isinstance(address, str) else str(address)

    async def run(self) -> Mt2ClientProtocol:
        """Open it. Raises ConnectFailed, RequirementUnmet."""
        protocol = Mt2ClientProtocol(self._parts, self._over_tls)
        try:
            await self._connect(protocol)
            await self._introduce(protocol)
        except BaseException:
            protocol.abort()
            raise
        attempt = self.attempt
        self._parts.common.observer.session_opened(attempt.remote, "mt2", attempt.tls_line)
        return protocol

    # -- the connection ------------------------------------------------------------------------------

    @property
    def _over_tls(self) -> bool:
        return self._hop.tls.level != "none"

    async def _connect(self, protocol: Mt2ClientProtocol) -> None:
        if not self._over_tls:
            if not self._is_private_link:
                text = "mt2 goes in the clear over loopback and private links only (MT2-9)"
                raise self.attempt.unmet("4.7.10", text)
            await self.attempt.dial(lambda: protocol)
            return
        tls, attempt = self._hop.tls, self.attempt
        wire = await attempt.dial_for_tls()
        try:
            await attempt.secured(
                protocol,
                wire,
                lambda: self._parts.common.tls.context(tls),
                self._target,
                announce=True,
                alpn=(ALPN,),
            )
        except TlsHandshakeError as error:
            raise attempt.handshake_failed(error.failure) from None
        await self._judge()

    @property
    def _is_private_link(self) -> bool:
        if not self._address:
            return True  # a socket of this machine
        address = ip_address(self._address)
        return address.is_private or address.is_link_local

    @property
    def _target(self) -> str:
        return self._hop.tls.name or self._hop.host

    @property
    def server_name(self) -> str:
        """The server by its name, as the next hop in a trace (MT2-23a)."""
        return self._server

    # -- who is it -----------------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Before anything is said: is it the right server? Raises RequirementUnmet."""
        attempt, parts = self.attempt, self._parts
        info = attempt.info
        if info is None or info.version != TLS_VERSION:
            raise attempt.unmet("4.7.10", "the server does not speak TLS 1.3")
        found = await judged(parts, self._hop, info.peer_chain, self._address)
        refused = isinstance(found, Mt2IdentityFailure | TlsRefusal)
        attempt.tls_line = f"{info.version} {info.cipher} {'unverified' if refused else found}"
        if isinstance(found, Mt2IdentityFailure | TlsRefusal):
            raise self._unproven(found.reason)
        if not suffices(self._hop, found):
            raise self._unproven(
                f"it proves only the name {self._target}, to which an unsigned SRV record led; a certificate "
                f"for {self._terms.domain}, DNSSEC, or a partner entry with this host is needed"
            )
        proven = not isinstance(found, ServerIdentity) or found.proven
        parts.observer.server_judged(attempt.remote, str(found), proven)

    def _unproven(self, reason: str) -> RequirementUnmet:
        whom = self._terms.domain or self._target
        return self.attempt.unmet("4.7.5", f"the server is not proven to be the one for {whom}: {reason}")

    # -- HELO and OPT --------------------------------------------------------------------------------

    async def _introduce(self, protocol: Mt2ClientProtocol) -> None:
        greeting = await protocol.greeted()
        if greeting is None:
            raise ConnectFailed(self.attempt.deferred("4.4.2", protocol.why), answered=True)
        self._server = self._name(greeting)
        if self._over_tls and self._parts.reception is not None:
            await self._present(protocol, self._server)
        hostname = self._parts.common.settings.hostname
        helo = await protocol.answer_to(
            protocol.core.helo(self._identity(protocol, greeting), hostname, loop_time())
        )
        if helo is None:
            raise ConnectFailed(self.attempt.deferred("4.4.2", protocol.why), answered=True)
        if not helo.result.is_ok:
            raise self._refused(helo.result)
        await protocol.answer_to(protocol.core.opt_grant(self._parts.wanted, loop_time()))

    async def _present(self, protocol: Mt2ClientProtocol, name: str) -> None:
        """The server may send us mail of its own: reception learns who it is."""
        parts, info = self._parts, self.attempt.info
        chain = () if info is None else info.peer_chain
        found = await parts.peers.host(chain, name, self._address, parts.common.clock())
        await protocol.may_send_to_us(found, chain, name)

    def _identity(self, protocol: Mt2ClientProtocol, greeting: Greeted) -> bytes:
        """Certificate data, or b"": the TLS certificate speaks for us, or nothing can be proven."""
        signer = self._parts.signer
        if signer is None or not self._over_tls:
            return b""
        terms = ProofTerms(
            "client",
            self._parts.common.settings.hostname,
            self._server,
            greeting.nonce,
            protocol.channel_binding,
        )
        try:
            return make_proof(signer, terms)
        except ProofError as error:
            raise self.attempt.unmet("4.7.0", f"we cannot prove who we are: {error}") from None

    def _name(self, greeting: Greeted) -> str:
        """The server's name as we want it; where a way names an address, as it calls itself."""
        target = self._target.lower().rstrip(".")
        try:
            ip_address(target.strip("[]"))
        except ValueError:
            return target
        return greeting.host.lower()

    def _refused(self, result: Result) -> ConnectFailed | RequirementUnmet:
        text = f"{result.code} {result.text or text_of(result.code)}"
        if result.is_transient:
            return ConnectFailed(self.attempt.deferred("4.7.0", text), answered=True)
        self._parts.observer.not_believed(self.attempt.remote, text)
        return RequirementUnmet(self.attempt.deferred("4.7.8", text))


async def judged(
    parts: Mt2ClientParts, hop: Hop, chain: tuple[bytes, ...], address: str
) -> ServerIdentity | Mt2IdentityFailure | ProvenServer | TlsRefusal:
    """Whether this chain is that of the hop; by its fingerprint where one is pinned (MT2-27)."""
    if hop.tls.level == "fingerprint":
        return match_fingerprint(chain, hop.tls.fingerprints)
    terms = hop.terms or _NO_TERMS
    target = (hop.tls.name or hop.host).lower().rstrip(".")
    named = frozenset({target}) if terms.named else frozenset()
    question = ServerQuestion(terms.domain, target, terms.srv_secure, named, MT2_SERVICE)
    judge = None
    if hop.tls.authorities:
        try:
            judge = parts.common.tls.judge_by(hop.tls.authorities)
        except TlsConfigError as error:
            return TlsRefusal(f"the CAs for this server cannot be used: {error}")
    return await parts.peers.server(chain, question, parts.common.clock(), address, judge)


def suffices(hop: Hop, found: ServerIdentity | ProvenServer) -> bool:
    """Whether what is proven is enough for mail that goes by this hop."""
    terms = hop.terms or _NO_TERMS
    return not terms.must_prove or not isinstance(found, ServerIdentity) or found.proven
