"""Paths to user certificates: the counterpart of `host_identity.examine_client` for mail addresses (MT2-22).

A validation policy of its own: the purpose emailProtection must be stated, and the names are rfc822Names. A
CA whose constraints speak of hosts alone may have been meant for its own hosts' names; it certifies no
addresses outside of them either, though RFC 5280 would let it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.verification import Store

from outrider.identity.authorities import CaSet, CaStores
from outrider.identity.certificates import Fingerprints, fingerprints_of, read_chain
from outrider.identity.checks import Check, Fault
from outrider.identity.host_identity import HostRefusal
from outrider.identity.paths import Path, path_by_policy
from outrider.identity.user_certificates import (
    MAIL_PURPOSE,
    Description,
    addresses_of,
    descriptions_of,
    domain_of,
    is_trusted,
)
from outrider.model.envelope import Arrival
from outrider.model.facts import Provenance


@dataclass(frozen=True, slots=True)
class UserCertificate:
    """A certificate that stands for its mail addresses."""

    addresses: tuple[str, ...]
    """As `user_certificates.normal_address` writes them; never empty."""
    connection: Arrival
    """AMTP_PRIVATE by the private CA set, else AMTP_PUBLIC; named as for hosts."""
    how: str
    """``public CA``, ``private CA``."""
    authority: str
    fingerprints: Fingerprints
    not_before: float
    not_after: float
    """From when to when the whole path is valid, seconds since the epoch."""
    descriptions: tuple[Description, ...] = ()


def examine_user(
    chain: Sequence[bytes], stores: CaStores, trusted: frozenset[str], at: float
) -> tuple[UserCertificate | HostRefusal, float]:
    """What a chain (DER, leaf first) is worth at `at`, and until when that holds at most. Never raises.

    `trusted`: see `user_certificates.is_trusted`.
    """
    found = _examine(chain, stores, trusted, at)
    if isinstance(found, Fault):
        return HostRefusal(found.check, found.reason, fingerprints_of(chain[0]) if chain else None), at
    return found, min(found.not_after, stores.revocations.current.next_change(at))


def _examine(
    chain: Sequence[bytes], stores: CaStores, trusted: frozenset[str], at: float
) -> UserCertificate | Fault:
    certificates = read_chain(chain)
    if isinstance(certificates, Fault):
        return certificates
    leaf, others = certificates[0], tuple(certificates[1:])
    addresses = addresses_of(leaf)
    if isinstance(addresses, Fault):
        return addresses
    fault = Fault(Check.UNKNOWN_CA, "no CA is configured")
    for ca_set, store in stores.sets():
        path = _path(leaf, others, addresses, store, at)
        if not isinstance(path, Fault):
            revoked = stores.revocations.current.fault(path.certificates, at)
            return revoked or _user(path, addresses, ca_set, fingerprints_of(chain[0]), trusted)
        if fault.check is Check.UNKNOWN_CA:
            fault = path
    return fault


def _path(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    addresses: Sequence[str],
    store: Store,
    at: float,
) -> Path | Fault:
    path = path_by_policy(leaf, others, store, at, MAIL_PURPOSE, demanded=True)
    if isinstance(path, Fault):
        return path
    for authority in path.certificates[1:]:
        hosts = _hosts_only(authority)
        if isinstance(hosts, Fault):
            return hosts
        if hosts and not all(_is_below(domain_of(one), hosts) for one in addresses):
            reason = f"the CA may certify for {', '.join(hosts[:3])} only, and says nothing of addresses"
            return Fault(Check.NAME_CONSTRAINTS, reason)
    return path


def _hosts_only(authority: x509.Certificate) -> tuple[str, ...] | Fault:
    """The domains for which a CA may certify, if its constraints permit some and say nothing of addresses."""
    try:
        found = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    except Exception:  # an extension that the verifier had no need to look at
        return Fault(Check.MALFORMED, "an extension of a CA on the path is malformed")
    permitted = found.permitted_subtrees or []
    if any(isinstance(one, x509.RFC822Name) for one in permitted):
        return ()  # the verifier has seen to it
    return tuple(one.value.lower() for one in permitted if isinstance(one, x509.DNSName))


def _is_below(domain: str, permitted: Sequence[str]) -> bool:
    return any(domain == one or domain.endswith(f".{one.lstrip('.')}") for one in permitted)


def _user(
    path: Path, addresses: tuple[str, ...], ca_set: CaSet, prints: Fingerprints, trusted: frozenset[str]
) -> UserCertificate:
    vouched = is_trusted(path.certificates, trusted)
    return UserCertificate(
        addresses=addresses,
        connection=Arrival.AMTP_PRIVATE if ca_set == "private" else Arrival.AMTP_PUBLIC,
        how=f"{ca_set} CA",
        authority=path.authority,
        fingerprints=prints,
        not_before=path.not_before,
        not_after=path.not_after,
        descriptions=descriptions_of(
            path.certificates[0], Provenance.VOUCHED if vouched else Provenance.CLAIMED
        ),
    )
