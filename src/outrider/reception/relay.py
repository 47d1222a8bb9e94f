"""Relay control and the TLS-2 table: who may send to whom; what must be looked up is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.identity.client_certificate import ProvenClient
from outrider.model.address import Address
from outrider.model.reply import Reply
from outrider.reception import replies
from outrider.reception.interface import Session
from outrider.reception.session_facts import SessionFacts
from outrider.reception.settings import ReceptionSettings

_ROUTING_MARKS = frozenset("@%!")


def tls_table(*, listed: bool | None, configured: bool, domain: str) -> Reply | None:
    """What RCPT answers where TLS is wanted and the session has none (TLS-2).

    `listed`: DNS names us as exchanger of the recipient's domain; None when that could not be learnt.
    `configured`: our configuration does. None as answer: TLS must not be demanded, the recipient decides.
    What is not known never obliges us (not configured: as if not listed), and never lets us demand more than
    we may (configured: as if listed).
    """
    if configured:
        return replies.MUST_STARTTLS if listed is False else None
    return replies.not_our_domain(domain) if listed else replies.MUST_STARTTLS


@dataclass(frozen=True, slots=True)
class RelayControl:
    """The answers that need no waiting."""

    settings: ReceptionSettings

    def agreed_tls_missing(self, session: Session) -> bool:
        """Whether TLS was agreed with this client's network and it comes without (TLS-2b)."""
        return session.tls is None and session.client_address in self.settings.require_tls_from

    def permission(self, session: Session, facts: SessionFacts) -> str:
        """Why the client may send anywhere: a phrase for the log; "" = it may not."""
        if session.login:
            return f"login {session.login}"
        if session.client_address in self.settings.relay_networks:
            return "relay.networks"
        return self._by_certificate(facts)

    def _by_certificate(self, facts: SessionFacts) -> str:
        client = facts.client
        if client is None or client.fingerprints is None:
            return ""
        for wanted in (client.fingerprints.certificate, client.fingerprints.public_key):
            if wanted and wanted in self.settings.relay_fingerprints:
                return f"certificate sha256:{wanted}"
        if isinstance(client, ProvenClient):
            for name in client.names:
                if name in self.settings.relay_names:
                    return f"certificate of {name}, {client.ca_set} CA set"
        return ""

    def is_relay_domain(self, domain: str) -> bool:
        """Whether anybody's mail for the domain is passed on (backup MX)."""
        return domain in self.settings.relay_domains

    def routed_through(self, address: Address) -> bool:
        """Whether the local part names a further hop, which the next host might follow (SEC-73)."""
        return not _ROUTING_MARKS.isdisjoint(address.local)
