"""How the parts of MT2 are joined: what lives as long as the server, and what a reload makes anew."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from outrider.delivery.mt2_assembler import Mt2Assembler
from outrider.delivery.mt2_kept import KeptTransfersOnDisk, open_transfer_store
from outrider.extensions.interface import ExtensionMessage
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seal_paths import PeerPaths
from outrider.maillog.mt2_log import Mt2Log
from outrider.net.client_settings import SmtpClientParts
from outrider.net.mt2_callers import Callers
from outrider.net.mt2_observer import Mt2Observer
from outrider.net.mt2_opening import Mt2ClientParts
from outrider.net.mt2_server import Mt2Service
from outrider.net.tls import TlsTimes
from outrider.net.tls_context import ServerTls
from outrider.protocols.mt2.events import Limits
from outrider.protocols.mt2.options import Offer
from outrider.reception.ids import id_maker
from outrider.reception.mt2_claims import FILE, TransferClaims
from outrider.reception.mt2_interface import Mt2Reception
from outrider.reception.mt2_reception import Mt2MailReception, Mt2Parts
from outrider.reception.mt2_saved import FOLDER, SavedPartials
from outrider.reception.mt2_settings import Mt2ReceptionSettings
from outrider.reception.mt2_shared import AskSiblings, SharedBook, Sharing
from outrider.reception.mt2_trace import TraceChecker
from outrider.reception.mt2_transfers import TransferBook
from outrider.reception.parts import ReceptionParts
from outrider.reception.reception import MailReception
from outrider.reception.settings import ReceptionSettings
from outrider.runtime.assembly import Assembly
from outrider.runtime.extension_parts import make_post
from outrider.runtime.joining import Core, message_sealer, mt2_assembler, utc_offset
from outrider.runtime.listener_plans import ListenerPlan
from outrider.runtime.listing import make_mailing
from outrider.runtime.mt2_identities import partner_cas

ALPN: Final = (b"mt2",)
SEAL_THREADS: Final = 2
"""Verify seals: OpenSSL lets the loop run meanwhile."""


class Mt2World:
    """What lives as long as the server does."""

    def __init__(self, assembly: Assembly, core: Core, ask: AskSiblings | None) -> None:
        """`ask`: the other workers; None where there are none. Raises OSError."""
        self._core = core
        self.log = Mt2Log(core.voices.emitter, core.voices.metrics)
        self.callers = Callers()
        config, folder = assembly.config, assembly.data_dir
        self._claims = None if ask is None else TransferClaims(folder / FILE)
        self._saved, self._book = _transfers(assembly, self._claims, ask)
        self._sealing = ThreadPoolExecutor(SEAL_THREADS, "seals")
        self._kept = KeptTransfersOnDisk(
            lambda: open_transfer_store(config, folder), time.time, config.delivery.max_age
        )

    async def give_up_partials(self) -> None:
        """The server ends: what broke off is saved for the next one (MT2-18b)."""
        await self._book.partials.close()

    async def tidy(self) -> None:
        """Remove what broke off too long ago."""
        await asyncio.to_thread(self._saved.tidy)

    def close(self) -> None:
        """Wait for seals that are being verified, and for what is being written down."""
        self._sealing.shutdown(cancel_futures=True)
        self._kept.close()
        if self._claims is not None:
            self._claims.close()

    def reception(
        self, assembly: Assembly, mail: MailReception, parts: ReceptionParts, peers: Mt2Peers
    ) -> Mt2MailReception:
        """What MT2 connections hand their mail to."""
        core, config = self._core, assembly.config
        limits = ReceptionSettings.of(config)
        settings = Mt2ReceptionSettings.of(config, limits.message_size, limits.hops)
        mailing = make_mailing(assembly, id_maker(random.getrandbits), utc_offset)
        post = make_post(mailing, core.spool, parts.fresh)

        async def send(messages: tuple[ExtensionMessage, ...], about: str) -> None:
            await post.send(messages, f"made by an extension for {about}")

        return Mt2MailReception(
            settings,
            mail,
            parts,
            Mt2Parts(
                book=self._book,
                checker=TraceChecker(peers, self._sealing),
                desk=core.extensions.of(assembly).desk,
                send=send,
            ),
        )

    def service(
        self, plan: ListenerPlan, assembly: Assembly, reception: Mt2Reception, peers: Mt2Peers
    ) -> Mt2Service:
        """What the sessions of one listener work with."""
        limits, sealer = assembly.config.limits, assembly.mt2_keys.sealer
        tls = None
        if plan.tls != "none" and assembly.server_tls is not None:
            tls = ServerTls(assembly.server_tls, ALPN, plan.asks_for_certificate)
        return Mt2Service(
            hostname=plan.hostname,
            names=_names(plan, assembly),
            reception=reception,
            new_session_id=lambda: secrets.token_hex(6),
            new_nonce=lambda: secrets.token_urlsafe(24),
            peers=peers,
            limits=session_limits(assembly),
            signer=None if sealer is None else sealer.signer,
            tls=tls,
            implicit_tls=plan.tls == "implicit",
            callers=self.callers if assembly.config.mt2.full_duplex else None,
            observer=self.log,
            tls_times=TlsTimes(handshake_s=limits.handshake_timeout),
        )

    def client_parts(
        self, assembly: Assembly, common: SmtpClientParts, reception: Mt2Reception, peers: Mt2Peers
    ) -> Mt2ClientParts | None:
        """What our own sessions work with; None without a certificate to seal mail with."""
        mt2, sealer = assembly.config.mt2, assembly.mt2_keys.sealer
        desk = self._core.extensions.of(assembly).desk
        assembler = mt2_assembler(assembly, desk, PeerPaths(peers), self._kept)
        if sealer is None or assembler is None:
            return None
        duplex = mt2.full_duplex and any(one.settings.protocol == "mt2" for one in assembly.listeners)
        return Mt2ClientParts(
            common=common,
            peers=peers,
            assembler=assembler,
            new_session_id=lambda: secrets.token_hex(6),
            wanted=Offer(
                pipe=True,
                window=mt2.window,
                maxpart=mt2.max_part,
                inflight=mt2.in_flight,
                trace="TRACE" in desk.asks_peers(),
            ),
            signer=sealer.signer,
            limits=session_limits(assembly),
            parallel=mt2.parallel,
            keep_open_s=mt2.keep_open,
            reception=reception if duplex else None,
            callers=self.callers if duplex else None,
            observer=self.log,
        )


def _transfers(
    assembly: Assembly, claims: TransferClaims | None, ask: AskSiblings | None
) -> tuple[SavedPartials, TransferBook]:
    """What broke off, and what is under way; `claims` and `ask` for one of several workers."""
    mt2, folder = assembly.config.mt2, assembly.data_dir / FOLDER
    is_shared = claims is not None and ask is not None
    saved = SavedPartials(folder, mt2.resume_for, time.time, space=mt2.partial_space, shared=is_shared)
    if claims is None or ask is None:
        return saved, TransferBook(mt2.resume_for, mt2.partial_space, saved)
    return saved, SharedBook(saved, Sharing(claims, ask))


def trial_parts(assembly: Assembly, common: SmtpClientParts, observer: Mt2Observer) -> Mt2ClientParts | None:
    """For a session that tries a link and carries nothing else; None without a certificate to seal with."""
    sealer, seals = assembly.mt2_keys.sealer, message_sealer(assembly)
    if sealer is None or seals is None:
        return None
    return Mt2ClientParts(
        common=common,
        peers=Mt2Peers(assembly.ca_stores, assembly.mt2_identities, None, partner_cas(assembly)),
        assembler=Mt2Assembler(seals, time.time),
        new_session_id=lambda: secrets.token_hex(6),
        wanted=Offer(),
        signer=sealer.signer,
        limits=session_limits(assembly),
        observer=observer,
    )


def session_limits(assembly: Assembly) -> Limits:
    """What the other side of a connection may do."""
    limits, mt2 = assembly.config.limits, assembly.config.mt2
    return replace(
        Limits(),
        transfers=mt2.in_flight,
        errors=limits.errors or Limits().errors,
        idle_s=mt2.idle_timeout,
        slowest_rate=limits.min_data_rate,
    )


def _names(plan: ListenerPlan, assembly: Assembly) -> tuple[str, ...]:
    """By what clients may have found us: a proof names the server that it is meant for (MT2-10b)."""
    names = (plan.hostname, assembly.config.hostname)
    return tuple(dict.fromkeys(name.lower() for name in names))
