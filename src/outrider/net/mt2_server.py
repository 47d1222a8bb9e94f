"""The MT2 server on asyncio: admits, greets, and finds out who the client is (MT2-9 to MT2-10b).

TLS is 1.3 only, from the first octet or by the TLS option, after which there is a new greeting with a new
nonce. In the clear nobody proves anything.

Who is proven can be sent mail on the same connection, if it is who routing wants to reach (MT2-18e):
`Mt2Service.callers` keeps such connections for the dialler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from outrider.identity.checks import Check
from outrider.identity.jws import Signer
from outrider.identity.mt2_identity import Found, Mt2Check, Mt2Identity, Mt2IdentityFailure
from outrider.identity.mt2_proof import ProofError, ProofTerms, check_proof, make_proof
from outrider.net.listener import AcceptedConnection
from outrider.net.mt2_callers import Caller, Callers
from outrider.net.mt2_connection import DrivenPeer, Mt2Connection
from outrider.net.mt2_observer import Mt2Observer, SilentMt2Observer
from outrider.net.smtp_service import new_session
from outrider.net.tls import TlsTimes, tls_server_side
from outrider.net.tls_context import ServerTls
from outrider.net.tls_info import TlsInfo
from outrider.protocols.mt2.codes import TLS_REQUIRED, Result, err
from outrider.protocols.mt2.events import IdentityOffered, Limits, PeerSettings, Takes, TlsAgreed
from outrider.protocols.mt2.lines import UNSOLICITED, format_response
from outrider.protocols.mt2.options import Offer
from outrider.reception.mt2_interface import Mt2Reception

TLS_VERSION: Final = "TLSv1.3"
"""The only one (MT2-9)."""

_OLD_TLS: Final = err(TLS_REQUIRED, text="TLS 1.3 is required.")


class HostIdentifier(Protocol):
    """Tells whom a chain of certificates names (`identity.mt2_peers.Mt2Peers` does)."""

    async def host(self, chain: Sequence[bytes], expected_name: str | None, address: str, at: float) -> Found:
        """The host behind a chain that says it is `expected_name`."""
        ...


@dataclass(frozen=True, slots=True)
class Mt2Service:
    """What the sessions of one listener work with. A reload makes a new one, for sessions yet to come."""

    hostname: str
    names: tuple[str, ...]
    """Names under which clients may want to reach us, lower case."""
    reception: Mt2Reception
    new_session_id: Callable[[], str]
    new_nonce: Callable[[], str]
    peers: HostIdentifier
    limits: Limits = field(default_factory=Limits)
    signer: Signer | None = None
    """Proves us to clients that ask for it."""
    tls: ServerTls | None = None
    implicit_tls: bool = True
    callers: Callers | None = None
    """Where proven clients are kept for mail of our own; None: none is sent to them."""
    observer: Mt2Observer = field(default_factory=SilentMt2Observer)
    tls_times: TlsTimes = field(default_factory=TlsTimes)
    slow_reader_s: float = 300.0
    """For the client to take what we have said, once a buffer is full (SEC-89)."""
    clock: Callable[[], float] = time.time
    """The time of day, seconds since the epoch."""


class Mt2Server:
    """Makes a protocol for each connection that a listener accepts: the listener's `ProtocolFactory`."""

    def __init__(self, service: Mt2Service) -> None:
        self.service = service
        """What new sessions work with; exchanged by a reload, sessions under way keep theirs."""

    def __call__(self, connection: AcceptedConnection) -> asyncio.Protocol:
        """The protocol for a new connection."""
        service = self.service
        protocol = Mt2ServerProtocol(service, connection)
        if service.tls is None or not service.implicit_tls:
            return protocol
        return tls_server_side(protocol, service.tls, times=service.tls_times, on_failed=protocol.tls_failed)


class Mt2ServerProtocol(Mt2Connection):
    """One connection that a client has opened."""

    __slots__ = ("_caller", "_nonce", "_proven_by", "_service")

    def __init__(self, service: Mt2Service, connection: AcceptedConnection) -> None:
        """Nothing happens before `connection_made`."""
        session = new_session(
            connection,
            session_id=service.new_session_id(),
            protocol="mt2",
            hostname=service.hostname,
            now=service.clock(),
        )
        super().__init__(
            connection,
            session,
            service.reception,
            service.observer,
            service.slow_reader_s,
            service.limits,
        )
        self._service = service
        self._nonce = ""
        self._caller: Caller | None = None
        self._proven_by: tuple[bytes, ...] = ()

    # -- beginning -----------------------------------------------------------------------------------------

    def _greet(self) -> None:
        if self._tls_info is not None and self._tls_info.version != TLS_VERSION:
            self._turn_away(_OLD_TLS)
            return
        said = self._service.reception.connected(self._session)
        if isinstance(said, Awaitable):
            self._wait_for(said, self._admitted)
        else:
            self._admitted(said)

    def _admitted(self, said: Result) -> None:
        if not said.is_ok:
            self._turn_away(said)
            return
        service, now = self._service, self._loop.time()
        settings = PeerSettings(
            takes=Takes.IDENTIFIED,
            over_tls=self._tls_info is not None,
            limits=service.limits,
            extension_verbs=service.reception.verbs,
        )
        self._nonce = service.new_nonce()
        self._begin(DrivenPeer.server(settings, service.hostname, self._nonce, self._offer(), now))

    def _turn_away(self, said: Result) -> None:
        """There is no session: say why, and close."""
        self._why = "refused at connect"
        if self._transport is not None:
            self._transport.write(format_response(UNSOLICITED, said))
            self._close()

    def _offer(self) -> Offer:
        offer = self._service.reception.offer(self._session)
        return replace(offer, tls=self._service.tls is not None and self._tls_info is None)

    # -- TLS by option -------------------------------------------------------------------------------------

    def _tls_agreed(self, _event: TlsAgreed) -> None:
        self._begin_tls(self._service.tls, self._service.tls_times, self._tls_ready)

    def _tls_ready(self, info: TlsInfo) -> None:
        if info.version != TLS_VERSION:
            self._turn_away(_OLD_TLS)
            return
        self._nonce = self._service.new_nonce()
        self.core.tls_started(
            self._loop.time(), host=self._service.hostname, nonce=self._nonce, offer=self._offer()
        )
        self._advance()

    # -- who is it -----------------------------------------------------------------------------------------

    def _identity_offered(self, event: IdentityOffered) -> None:
        self.spawn(self._identify(event))

    async def _identify(self, event: IdentityOffered) -> None:
        found = await self._find(event)
        claimed = event.host or (found.name if isinstance(found, Mt2Identity) else "")
        self._session.hello_name = claimed
        said = self._service.reception.identified(self._session, found, self._proven_by)
        result = await said if isinstance(said, Awaitable) else said
        self._observer.peer_identified(self._session, claimed, found)
        now = self._loop.time()
        if result.is_ok:
            self.core.welcome(event.tag, self._offer(), now, text=result.text)
            if isinstance(found, Mt2Identity):
                self._introduce(found)
        else:
            self.core.answer(event.tag, result, now)
        if event.prove:
            self._prove_ourselves(event)
        self._advance()

    async def _find(self, event: IdentityOffered) -> Found:
        """By proof, by TLS certificate, or by both, if they agree (MT2-10b)."""
        shown = () if self._session.tls is None else self._session.tls.peer_chain
        if self._tls_info is None:
            return _unproven("nothing can be proven on a connection without TLS")
        if not event.certificate:
            if not shown:
                return _unproven("there is neither a proof nor a TLS certificate")
            return await self._by_chain(shown, event.host or None)
        try:
            proof = check_proof(
                event.certificate, "client", self._nonce, self.channel_binding, self._service.names
            )
        except ProofError as error:
            return Mt2IdentityFailure(Mt2Check.PROOF, str(error))
        if shown and shown[0] != proof.chain[0]:
            reason = "the proof and the TLS certificate are of different certificates"
            return Mt2IdentityFailure(Mt2Check.PROOF, reason)
        if event.host and event.host.lower() != proof.client.lower():
            return Mt2IdentityFailure(Mt2Check.PROOF, "HELO and the proof name different hosts")
        return await self._by_chain(proof.chain, proof.client)

    async def _by_chain(self, chain: tuple[bytes, ...], name: str | None) -> Found:
        service = self._service
        self._proven_by = chain
        return await service.peers.host(chain, name, self._session.client_text, service.clock())

    def _prove_ourselves(self, event: IdentityOffered) -> None:
        service = self._service
        if service.signer is None:
            return
        terms = ProofTerms("server", event.host, service.hostname, event.nonce, self.channel_binding)
        try:
            data = make_proof(service.signer, terms)
        except ProofError:
            return  # asked for in the clear, or without a nonce: there is nothing that could be proven
        self.core.helo(data, service.hostname, self._loop.time())

    # -- mail of our own -----------------------------------------------------------------------------------

    def _introduce(self, identity: Mt2Identity) -> None:
        """Mail of ours may go to it on this connection."""
        callers, session = self._service.callers, self._session
        if callers is None or self.outgoing.is_over:
            return
        self._no_caller()
        where = f"[{session.client_text}]:{session.client_port}"
        self._caller = Caller(self, identity, self._proven_by, where, str(session.tls or ""))
        callers.came(self._caller)

    def _no_caller(self) -> None:
        caller, self._caller = self._caller, None
        if caller is not None and self._service.callers is not None:
            self._service.callers.went(caller)

    def _over(self) -> None:
        super()._over()
        self._no_caller()


def _unproven(reason: str) -> Mt2IdentityFailure:
    return Mt2IdentityFailure(Check.NO_CERTIFICATE, reason)
