"""A dialler of its own for `outrider send`: no spool, no configuration."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from outrider.delivery.interface import Dialler
from outrider.identity.client_certificate import CaStores
from outrider.net.client_tls import ClientTls
from outrider.net.qmtp_client import QmtpDialler
from outrider.net.smtp_client import SmtpDialler
from outrider.net.smtp_opening import SmtpClientSettings


def dialler_for(protocol: str, ca_files: Sequence[Path]) -> Dialler:
    """For one message by that protocol, believing these CAs. Raises OSError, ValueError for a bad file."""
    authorities = [one for path in ca_files for one in x509.load_pem_x509_certificates(path.read_bytes())]
    tls = ClientTls(CaStores.of(authorities))
    settings = SmtpClientSettings(hostname=socket.getfqdn())
    return QmtpDialler(settings) if protocol == "qmtp" else SmtpDialler(settings, tls)
