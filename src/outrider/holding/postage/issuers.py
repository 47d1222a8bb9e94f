"""Who signs the ledger's receipts: a key of the ledger's own, a new one in each epoch (SEC-193, SEC-194).

Not the host's certificate, which is renewed every few weeks: a receipt outlives it. All workers and nodes
find the key in the ledger's database. Of epochs that are over only the certificate is kept, so that what was
redeemed then can still be named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.jws import Signer
from outrider.tables.database import Database, Row, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Issuer:
    """The issuer of one epoch."""

    epoch: int
    certificate: bytes
    """DER."""
    signer: Signer | None
    """None: its epoch is over."""


class Issuers:
    """Reads and makes them. Belongs to its ledger's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Issuer] = {}

    def begin(self, now: float) -> None:
        """Make the first one where there is none; inside a transaction."""
        if not self._database.execute("SELECT 1 FROM postage_issuers LIMIT 1"):
            self._make(1, now)

    def next(self, now: float) -> int:
        """End the present epoch, whose key is destroyed; the new one's number. Inside a transaction."""
        rows = self._database.execute("SELECT max(epoch) FROM postage_issuers")
        epoch = int(rows[0][0] or 0) + 1
        self._database.execute("UPDATE postage_issuers SET key = NULL")
        self._make(epoch, now)
        return epoch

    def present(self) -> Issuer:
        """Who signs now. Raises StoreUnavailable."""
        rows = self._database.execute(
            "SELECT thumbprint FROM postage_issuers WHERE key IS NOT NULL ORDER BY epoch DESC LIMIT 1"
        )
        issuer = self.named(str(rows[0][0])) if rows else None
        if issuer is None:
            raise StoreUnavailable("the postage ledger has no issuer: its database is damaged")
        return issuer

    def named(self, thumbprint: str) -> Issuer | None:
        """The issuer of this certificate; None for a stranger."""
        known = self._known.get(thumbprint)
        if known is None:
            rows = self._database.execute(
                "SELECT epoch, certificate, key FROM postage_issuers WHERE thumbprint = ?", (thumbprint,)
            )
            if not rows:
                return None
            known = self._known[thumbprint] = _issuer(rows[0])
        return known

    def _make(self, epoch: int, now: float) -> None:
        made = CertificateAuthority.create(f"postage, epoch {epoch}", datetime.fromtimestamp(now, UTC))
        signer = Signer.from_pem(made.certificate_pem, made.key_pem)
        self._database.execute(
            "INSERT INTO postage_issuers VALUES (?, ?, ?, ?, ?)",
            (epoch, signer.thumbprint, made.certificate_pem, made.key_pem, now),
        )


def _issuer(row: Row) -> Issuer:
    epoch, certificate, key = row
    assert isinstance(certificate, bytes), "the column's type"
    if isinstance(key, bytes):
        signer = Signer.from_pem(certificate, key)
        return Issuer(int(epoch or 0), signer.chain[0], signer)
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    return Issuer(int(epoch or 0), der, None)
