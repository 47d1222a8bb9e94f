"""Reception as an AMTP server sees it: hosts with real certificates, a moment at which these are valid."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from outrider.identity.authorities import CaStores
from outrider.identity.host_identity import HostIdentifier, HostSettings
from outrider.model.mpc import parse_mpc
from outrider.model.reply import Reply
from outrider.reception.assembling import MailTransaction
from outrider.reception.interface import Session, TlsSummary
from outrider.reception.lookups import ClientNames
from tests.identity.openssl import Made, OpenSsl
from tests.reception.rig import CLIENT, SERVER, Rig, answer

NAME = "mail.b.example"


class AmtpRig(Rig):
    """A rig with two CA sets; `host` gives sessions of hosts."""

    maker: OpenSsl
    public: Made
    private: Made

    async def connect(
        self,
        certificate: Made | None,
        client: IPv4Address | IPv6Address = CLIENT,
        *,
        only_private: bool = False,
    ) -> Session:
        """A connection that has not said EHLO."""
        if not self.started:
            await self.spool.start(self.now)
            self.started = True
        chain = () if certificate is None else certificate.chain
        session = Session(
            *(
                "S1",
                "amtp",
                client,
                40_000,
                SERVER,
                10_125,
                "amtp 192.0.2.25:10125",
                "mx.a.example",
                self.now,
            ),
            tls=TlsSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", chain),
            only_private=only_private,
        )
        assert (await answer(self.reception.connected(session))).is_positive
        return session

    async def hello(self, session: Session, name: str = NAME) -> Reply:
        """EHLO."""
        session.extended = True
        return await answer(self.reception.greeted(session, "EHLO", name))

    async def host(self, name: str = NAME, *, private: bool = False, login: str = "") -> Session:
        """A session of a host that has proven who it is (and logged in)."""
        made = self.maker.host(self.private if private else self.public, f"DNS:{name}")
        self.lookup.names.setdefault(str(CLIENT), ClientNames((name,)))
        session = await self.connect(made)
        reply = await self.hello(session, name)
        assert reply.is_positive, reply
        session.login, session.login_mechanism = login, "PLAIN" if login else ""
        return session

    async def mail(
        self, session: Session, code: str, sender: str = "ann@b.example"
    ) -> tuple[MailTransaction | None, Reply]:
        """MAIL with a code."""
        return await self.sender(session, sender, mpc=parse_mpc(code))


def amtp_rig(folder: Path, settings: HostSettings | None = None, **more: Any) -> AmtpRig:
    """A rig whose clock is the certificates'."""
    maker = OpenSsl(folder)
    public, private = maker.root("Public root"), maker.root("Private root")
    stores = CaStores.of([public.parsed], [private.parsed])
    rig = AmtpRig(hosts=HostIdentifier(stores, settings or HostSettings()), **more)
    rig.maker, rig.public, rig.private = maker, public, private
    rig.now = time.time() + 5
    return rig
