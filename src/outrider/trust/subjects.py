"""Whom lists are asked about, and how far it is sure that it is they (ITP-3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from outrider.model.facts import Facts, FactValue, Provenance

IPAddress = IPv4Address | IPv6Address

MAX_NAMES = 4
"""Of one peer that lists are asked about; a certificate may hold a hundred."""


class Role(Enum):
    """What a subject is in the transaction."""

    CLIENT = "client"
    """The address that connected."""
    HOST = "host"
    """A name that it has proven."""
    ISSUER = "issuer"
    """The domain of who issued its certificate."""
    SENDER = "sender"
    """The envelope sender's address."""
    DOMAIN = "sender domain"
    """Its domain."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One of them."""

    role: Role
    name: str
    """An address, a domain in lower-case A-labels, or a mailbox."""
    is_proven: bool
    """What only a claim names can be blocked, and cannot be vouched for: anybody could use the name."""

    @property
    def address(self) -> IPAddress:
        """Of a client. An IPv4-mapped address counts as the IPv4 address in it."""
        address = ip_address(self.name)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return address.ipv4_mapped
        return address

    def __str__(self) -> str:
        return f"{self.role.value} {self.name}"


OwnerOf = Callable[[str], str]
"""The partner entry that a sender domain belongs to, "" for none."""


def client_subjects(facts: Facts) -> tuple[Subject, ...]:
    """Those known at CONNECT."""
    return tuple(Subject(Role.CLIENT, name, True) for name in _texts(facts.value("client.address")))


def all_subjects(facts: Facts, owner_of: OwnerOf, issuers: Iterable[str] = ()) -> tuple[Subject, ...]:
    """Those known at SENDER. `issuers` are proven with the certificate that names them.

    An MT2 host's issuer that is merely claimed (``mt2.issuer``) can be on a block list all the same (MT2-25).
    """
    found = list(client_subjects(facts))
    certified = _certified(facts)
    names = (*certified, *_texts(facts.value("client.ptr", Provenance.PROVEN)))
    found += [Subject(Role.HOST, name, True) for name in tuple(dict.fromkeys(names))[:MAX_NAMES]]
    proven_issuers = tuple(dict.fromkeys(issuers))[:MAX_NAMES]
    claimed_issuers = [name for name in _texts(facts.value("mt2.issuer")) if name not in proven_issuers]
    found += [Subject(Role.ISSUER, name, True) for name in proven_issuers]
    found += [Subject(Role.ISSUER, name, False) for name in claimed_issuers[:MAX_NAMES]]
    for domain in _texts(facts.value("sender.domain"))[:1]:
        if domain.startswith("["):
            continue
        proven = domain in certified or _speaks_as_partner(facts, domain, owner_of)
        found.append(Subject(Role.DOMAIN, domain, proven))
        found += [Subject(Role.SENDER, name, proven) for name in _texts(facts.value("sender"))[:1]]
    return tuple(found)


def _certified(facts: Facts) -> tuple[str, ...]:
    """Names that a certificate proves.

    A sender's domain counts as proven only by a certificate that names the domain itself: a host below it may
    be any customer's.
    """
    names = [*_texts(facts.value("host", Provenance.PROVEN))]
    names += _texts(facts.value("tls.client.name", Provenance.PROVEN))
    return tuple(dict.fromkeys(name.lower() for name in names))


def _speaks_as_partner(facts: Facts, domain: str, owner_of: OwnerOf) -> bool:
    """Whether the host is one of the partner that the domain belongs to; a host may be several partners'."""
    owner = owner_of(domain)
    return bool(owner) and any(
        fact.name == "partner" and fact.provenance is Provenance.PROVEN and owner in _texts(fact.value)
        for fact in facts
    )


def _texts(value: FactValue | None) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return value if isinstance(value, tuple) else ()
