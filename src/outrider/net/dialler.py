"""The dialler that delivery is given: one for all protocols."""

from __future__ import annotations

from outrider.delivery.interface import Connection, Hop
from outrider.net.dialling import Destination
from outrider.net.qmtp_client import QmtpDialler
from outrider.net.smtp_client import SmtpDialler


class NetDialler:
    """Hands each hop to the dialler of its protocol: see `delivery.interface.Dialler`."""

    def __init__(self, smtp: SmtpDialler, qmtp: QmtpDialler) -> None:
        self._smtp = smtp
        self._qmtp = qmtp

    async def connect(self, hop: Hop, address: Destination) -> Connection:
        """Raises ConnectFailed or RequirementUnmet; bounded in time."""
        if hop.protocol == "qmtp":
            return await self._qmtp.connect(hop, address)
        return await self._smtp.connect(hop, address)
