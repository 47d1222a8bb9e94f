"""What is agreed with partners, held against a message on its way in (ITP-8).

Asked at MAIL for the envelope sender's domain, and with the header section for those of the From field. The
terms themselves are `routing.partners`; here is who has proven to be whose host. Where an entry names CAs, a
host of that name counts as the partner's only if one of *them* vouches for it, and such a CA vouches for no
other name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from outrider.identity.client_certificate import ProvenClient
from outrider.identity.host_identity import HostCertificate, HostIdentifier
from outrider.message.header_fields import field_values
from outrider.message.mailboxes import mailboxes
from outrider.model.facts import Facts
from outrider.reception.interface import Session
from outrider.reception.session_facts import SessionFacts
from outrider.routing.partners import Arrived, Breach, PartnerTable, channel_of

MISMATCH_TAG = "partner-mismatch"
"""The label of a message that broke the terms and was let through."""
MAX_FROM_FIELDS = 10


class PartnerTerms:
    """All partner entries with the means to tell their hosts."""

    def __init__(self, table: PartnerTable, identifiers: Mapping[str, HostIdentifier]) -> None:
        """`identifiers` know the CAs that entries name, by the entry's name; those without have none."""
        self._table = table
        self._identifiers = identifiers

    @property
    def is_idle(self) -> bool:
        """Whether there is no entry at all."""
        return not self._table.entries

    def arrived(self, session: Session, facts: SessionFacts, now: float) -> Arrived:
        """How this session's mail comes; found out once and kept with the session's facts."""
        if facts.arrived is None:
            hosts, is_proven = self._hosts(session, facts, now)
            channel = channel_of(session.protocol, encrypted=session.tls is not None, host_proven=is_proven)
            facts.arrived = Arrived(channel, hosts)
            for name in dict.fromkeys(one.name for host in hosts for one in self._table.by_host(host)):
                facts.prove("partner", name, f"host {', '.join(hosts)}", now)
        return facts.arrived

    def _hosts(self, session: Session, facts: SessionFacts, now: float) -> tuple[tuple[str, ...], bool]:
        """The names that count, and whether a CA vouched for any name at all."""
        names = facts.client.names if isinstance(facts.client, ProvenClient) else ()
        if facts.host is not None:
            names = (facts.host.name,)  # of several names in the certificate, the client has chosen one
        counting = [name for name in names if self._counts(session, name, now)]
        if facts.host is None:
            counting += [name for name in self._only_partners_vouch_for(session, now) if name not in counting]
        return tuple(counting), bool(names or counting)

    def _counts(self, session: Session, name: str, now: float) -> bool:
        """Whether every entry that the name is a host of believes it."""
        return all(
            name in self._vouched(session, entry.name, now) for entry in self._table.by_host(name) if entry.ca
        )

    def _only_partners_vouch_for(self, session: Session, now: float) -> list[str]:
        return [
            name
            for entry in self._table.entries
            if entry.ca
            for name in self._vouched(session, entry.name, now)
            if entry.hosts.covers(name)
        ]

    def _vouched(self, session: Session, entry: str, now: float) -> tuple[str, ...]:
        identifier = self._identifiers.get(entry)
        chain = session.proof_chain or (session.tls.peer_chain if session.tls is not None else ())
        if identifier is None or not chain:
            return ()
        found = identifier.examine(chain, now)
        return found.hosts if isinstance(found, HostCertificate) else ()

    def breach(
        self, session: Session, facts: SessionFacts, message: Facts, domains: Iterable[str], now: float
    ) -> Breach | None:
        """The gravest breach of the terms by mail of these sender domains; facts tell of it."""
        arrived = self.arrived(session, facts, now)
        named = [domain for domain in dict.fromkeys(domains) if domain]
        for domain in named:
            entry = self._table.by_sender_domain(domain)
            # A host of theirs has proven it before, or the other of the two domains has said it.
            if entry is not None and message.value("partner") != entry.name:
                message.claim("partner", entry.name)
        breaches = self._table.breaches(named, arrived)
        if not breaches:
            return None
        message.prove("partner.mismatch", breaches[0].partner, breaches[0].reason, now)
        return breaches[0]


def from_domains(headers: bytes) -> tuple[str, ...]:
    """The domains of the From field, each once."""
    values = field_values(headers, b"from", MAX_FROM_FIELDS)
    return tuple(dict.fromkeys(str(box.domain) for value in values for box in mailboxes(value)))
