"""A dialler of its own for `outrider send`: no spool, no configuration."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from outrider.delivery.interface import Dialler
from outrider.identity.authorities import CaStores, read_authorities
from outrider.net.amtp_client import AmtpDialler
from outrider.net.client_observer import SilentClientObserver
from outrider.net.client_settings import SmtpClientParts, SmtpClientSettings
from outrider.net.client_tls import ClientTls
from outrider.net.qmtp_client import QmtpDialler
from outrider.net.smtp_client import SmtpDialler


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
