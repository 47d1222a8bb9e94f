"""The authorities that a configuration believes: a public and a private set, and what they have revoked.

The sets are never mixed: each is asked for itself, and every answer says which one vouched. The difference
matters for AMTP, where a private CA makes a private connection (AMTP-19); so no CA may stand in both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import Store

from outrider.identity.paths import authority_label
from outrider.identity.revocation import Revocations

CaSet = Literal["public", "private"]


@dataclass(frozen=True, slots=True)
class CaStores:
    """The CA sets; None for an empty one, which vouches for nobody (SEC-156)."""

    public: Store | None = None
    private: Store | None = None
    authorities: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    """The certificates of both sets, to check lists of revocations by."""
    revocations: Revocations = field(default_factory=Revocations, repr=False)
    """What the authorities have taken back; its content is exchanged when a file changes."""

    @classmethod
    def of(
        cls,
        public: Sequence[x509.Certificate] = (),
        private: Sequence[x509.Certificate] = (),
        revocations: Revocations | None = None,
    ) -> CaStores:
        """From parsed CA certificates."""
        return cls(
            Store(list(public)) if public else None,
            Store(list(private)) if private else None,
            (*public, *private),
            revocations or Revocations(),
        )

    def sets(self) -> Iterator[tuple[CaSet, Store]]:
        """The sets that are not empty, the private one first."""
        if self.private is not None:
            yield "private", self.private
        if self.public is not None:
            yield "public", self.public


def ca_stores(public: Sequence[bytes], private: Sequence[bytes]) -> CaStores:
    """CA sets from the contents of PEM files. Raises ValueError when a file holds no readable certificate."""
    return CaStores.of(_from_files(public), _from_files(private))


def _from_files(files: Sequence[bytes]) -> list[x509.Certificate]:
    return [certificate for pem in files for certificate in read_authorities(pem)]


def read_authorities(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises ValueError.

    Stores of public authorities hold a few with oddities (a serial number of zero) that the library warns
    of at each start; they are nothing that the operator could mend.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            return x509.load_pem_x509_certificates(pem)
        except x509.InvalidVersion as error:  # no ValueError
            raise ValueError(str(error)) from error


def shared_authorities(
    public: Sequence[x509.Certificate], private: Sequence[x509.Certificate]
) -> tuple[str, ...]:
    """The private CAs that are public ones as well, by name and why: each must be taken out of one set.

    A CA is shared if its key is in both sets, or if a public CA has signed its certificate: whoever that one
    certifies would count as private (AMTP-19).
    """
    keys = {_key(one) for one in public}
    by_name: dict[x509.Name, list[x509.Certificate]] = {}
    for one in public:
        by_name.setdefault(one.subject, []).append(one)
    found: list[str] = []
    for one in private:
        if _key(one) in keys:
            found.append(f"{authority_label(one)} is in the public set too")
        elif any(_signed(one, issuer) for issuer in by_name.get(one.issuer, ())):
            found.append(f"{authority_label(one)} was certified by a CA of the public set")
    return tuple(found)


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # another key of the same name, or an algorithm that the library lacks
        return False
    return True
