"""A dialler of its own for `outrider send`: no spool, no configuration."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.delivery.interface import Dialler
from outrider.delivery.mt2_assembler import Mt2Assembler
from outrider.delivery.mt2_sealing import MessageSealer, SealingKey, SealingKeys
from outrider.identity.authorities import CaStores, read_authorities
from outrider.identity.checks import Fault
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seals import Sealer
from outrider.identity.user_certificates import addresses_of
from outrider.model.address import parse_address
from outrider.net.amtp_client import AmtpDialler
from outrider.net.client_observer import SilentClientObserver
from outrider.net.client_settings import SmtpClientParts, SmtpClientSettings
from outrider.net.client_tls import ClientTls
from outrider.net.mt2_client import Mt2Dialler
from outrider.net.mt2_opening import Mt2ClientParts
from outrider.net.qmtp_client import QmtpDialler
from outrider.net.smtp_client import SmtpDialler
from outrider.protocols.mt2.options import Offer


def dialler_for(protocol: str, ca_files: Sequence[Path], hello: str = "") -> Dialler:
    """For one message by that protocol, believing these CAs, under the name `hello` (default this host's).

    Raises OSError, ValueError for a bad file.
    """
    authorities = [one for path in ca_files for one in read_authorities(path.read_bytes())]
    tls = ClientTls(CaStores.of(authorities))
    settings = SmtpClientSettings(hostname=hello or socket.getfqdn())
    match protocol:
        case "qmtp":
            return QmtpDialler(settings)
        case "amtp":
            return AmtpDialler(SmtpClientParts(settings, tls, SilentClientObserver(), time.time))
        case _:
            return SmtpDialler(settings, tls)


def mt2_dialler(
    ca_files: Sequence[Path],
    certificate: Path,
    key: Path,
    hello: str = "",
    encrypt_for: Sequence[Path] = (),
) -> Dialler:
    """For messages by MT2, under a certificate of ours that proves us and seals them; headers are encrypted
    for the addresses in the certificates `encrypt_for` (MT2-4).

    Raises OSError, ValueError for a bad file.
    """
    stores = CaStores.of([one for path in ca_files for one in read_authorities(path.read_bytes())])
    sealer = Sealer.from_pem(certificate.read_bytes(), key.read_bytes())
    name = hello or sealer.names[0]
    sealing = MessageSealer(SealingKeys(SealingKey.of(sealer, name)), time.time)
    known = {address: der for path in encrypt_for for address, der in _addressed(path).items()}
    common = SmtpClientParts(
        SmtpClientSettings(hostname=name), ClientTls(stores), SilentClientObserver(), time.time
    )
    return Mt2Dialler(
        Mt2ClientParts(
            common,
            Mt2Peers(stores),
            Mt2Assembler(sealing, time.time, known),
            lambda: secrets.token_hex(6),
            Offer(),
            sealer.signer,
        )
    )


def _addressed(path: Path) -> dict[str, bytes]:
    """A certificate (DER) by the addresses that it names."""
    leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    addresses = addresses_of(leaf)
    if isinstance(addresses, Fault):
        raise ValueError(f"{path}: {addresses.reason}")
    return {"@".join(parse_address(one).key): leaf.public_bytes(Encoding.DER) for one in addresses}
