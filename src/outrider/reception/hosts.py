"""Who is the host at the other end of an AMTP connection: asked at each EHLO (AMTP-2, AMTP-3, AMTP-19).

`identity.host_identity` judges; here its questions meet the session: the certificate of the handshake, the
names of the client's address, whose look-up was begun at connect, and the CAs that only a partner entry
names. A peer that comes again costs neither: the identifier remembers chains, the resolver names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.identity.certificates import normal_host
from outrider.identity.credentials import UserTable
from outrider.identity.host_identity import (
    HostCertificate,
    HostIdentifier,
    HostRefusal,
    ProvenHost,
    ReverseNames,
    certificate_names_login,
)
from outrider.model.envelope import Arrival
from outrider.model.reply import Reply
from outrider.protocols.amtp import replies
from outrider.reception.interface import Session
from outrider.reception.lookups import FactSource
from outrider.routing.partners import PartnerEntry

NOT_PRIVATE = "not-private"
"""The check of a listener that takes private connections only (AMTP-6)."""


@dataclass(frozen=True, slots=True)
class RefusedHost:
    """What the peer hears, and what the operator."""

    reply: Reply
    check: str
    """One of `identity.checks.Check`, or NOT_PRIVATE."""
    reason: str


class HostProver:
    """Tells who a client is; one for each configuration."""

    def __init__(
        self,
        identifier: HostIdentifier,
        sources: FactSource | None,
        partners: Sequence[tuple[PartnerEntry, HostIdentifier]] = (),
    ) -> None:
        """`partners`: the entries that name CAs of their own, each with what knows these."""
        self._identifier = identifier
        self._sources = sources
        self._partners = tuple(partners)

    def certificate(self, session: Session, hello_name: str, now: float) -> HostCertificate | HostRefusal:
        """What the handshake's certificate stands for; the name only chooses whose CAs may vouch for it."""
        chain = session.tls.peer_chain if session.tls is not None else ()
        found = self._identifier.examine(chain, now)
        if isinstance(found, HostCertificate):
            return found
        name = normal_host(hello_name)
        for entry, identifier in self._partners:
            if name and entry.hosts.covers(name):
                vouched = identifier.examine(chain, now)
                if isinstance(vouched, HostCertificate):
                    return vouched
        return found

    def is_private(self, session: Session, now: float) -> bool:
        """Whether the certificate makes this a private connection, whatever the client will say."""
        if session.tls is None:
            return False
        found = self._identifier.examine(session.tls.peer_chain, now)
        return isinstance(found, HostCertificate) and found.connection is Arrival.AMTP_PRIVATE

    def needs_reverse(self, certificate: HostCertificate | HostRefusal) -> bool:
        """Whether the address's names are asked for: of public hosts only."""
        return isinstance(certificate, HostCertificate) and certificate.connection is Arrival.AMTP_PUBLIC

    async def reverse(self, session: Session) -> ReverseNames:
        """The names of the client's address. Ends in bounded time, and never raises for a look-up's sake."""
        if self._sources is None:
            return ReverseNames(failure="no DNS is configured")
        return await self._sources.reverse_names(session, forward=self._identifier.settings.forward_confirm)

    def judge(
        self,
        session: Session,
        certificate: HostCertificate | HostRefusal,
        hello_name: str,
        reverse: ReverseNames | None,
    ) -> ProvenHost | RefusedHost:
        """The host, or why not."""
        if isinstance(certificate, HostRefusal):
            return _refused(certificate)
        if session.only_private and certificate.connection is not Arrival.AMTP_PRIVATE:
            reason = "this listener takes private connections only, and the certificate is of a public CA"
            return RefusedHost(replies.AUTHENTICATION_FAILED, NOT_PRIVATE, reason)
        judged = self._identifier.judge(certificate, hello_name, reverse)
        return _refused(judged) if isinstance(judged, HostRefusal) else judged


def _refused(refusal: HostRefusal) -> RefusedHost:
    reply = replies.IDENTITY_UNKNOWN if refusal.temporary else replies.AUTHENTICATION_FAILED
    return RefusedHost(reply, refusal.check.value, refusal.reason)


def is_login_of(host: ProvenHost, login: str, users: UserTable | None) -> bool:
    """Whether a login may be used with this certificate (AMTP-19): it names the login, or the users file
    gives the certificate to it."""
    certificate = host.certificate
    if certificate_names_login(certificate, login):
        return True
    prints = (certificate.fingerprints.certificate, certificate.fingerprints.public_key)
    owner = None if users is None else users.find_by_certificate((host.name,), prints)
    return owner is not None and owner.name == login
