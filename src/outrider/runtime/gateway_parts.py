"""AMDP at the SMTP side and the outgoing gateway: what reception and delivery are given for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from outrider.delivery.pipe import account_named
from outrider.holding.incoming.deciding import IncomingRules
from outrider.holding.incoming.holders import Holders, HolderThread, open_holders
from outrider.holding.outgoing.account_store import AccountThread, open_accounts
from outrider.holding.outgoing.gateway import OutgoingGateway, OutgoingParts, facility_route, own_domains
from outrider.holding.outgoing.handing_in import HandingIn
from outrider.holding.outgoing.scanning import CommandScanner
from outrider.net.server_limits import LoadGauge
from outrider.protocols.amdp.report import PolicyReport
from outrider.reception.amdp_envelopes import EnvelopeDesk
from outrider.reception.amdp_shares import WorkShares
from outrider.runtime.assembly import Assembly


@dataclass(frozen=True, slots=True)
class MailSide:
    """What lives as long as the server does; opened when it is first needed."""

    holders: Holders
    """Which addresses have authenticated: whoever makes call-backs says `passed` and `failed`."""
    accounts: AccountThread

    def close(self) -> None:
        """At the very end."""
        self.holders.close()
        self.accounts.close()


def make_mail_side(assembly: Assembly) -> MailSide:
    """Made once, at start."""
    config, data_dir = assembly.config, assembly.data_dir
    return MailSide(
        Holders(HolderThread(lambda: open_holders(config, data_dir), "holders"), time.time),
        AccountThread(lambda: open_accounts(config, data_dir), "accounts"),
    )


def make_envelope_desk(
    assembly: Assembly, rules: IncomingRules, report: PolicyReport, side: MailSide, gauge: LoadGauge
) -> EnvelopeDesk | None:
    """For `ReceptionParts.envelopes`; None without the role img. `report`: what this site publishes."""
    amdp = assembly.config.amdp
    if "img" not in amdp.roles:
        return None
    shares = WorkShares(amdp.policy.amdp_share, gauge.is_stressed, time.time)
    return EnvelopeDesk(rules, report, side.holders, shares, time.time)


def make_submission_desk(assembly: Assembly, side: MailSide) -> OutgoingGateway | None:
    """For `ReceptionParts.submissions`; None without the roles omg and mhf. Raises OutgoingSettingsError,
    ReceptionSettingsError and, for the scanner, WayError and ValueError."""
    config, routes = assembly.config, assembly.routes
    if not {"omg", "mhf"} & set(config.amdp.roles):
        return None
    command = config.amdp.outgoing.scanner
    account = account_named(config.delivery.pipe_user)
    return OutgoingGateway(
        OutgoingParts(
            config.amdp,
            lambda recipient: routes.find(recipient).way,
            own_domains(tuple(assembly.recipients.domains), config.amdp),
            time.time,
            assembly.users,
            side.accounts,
            CommandScanner(command, account) if command else None,
        )
    )


def make_handing_in(assembly: Assembly) -> HandingIn | None:
    """For `Departure`: how mail goes to a facility that is another server; None where this is one."""
    config = assembly.config
    route = facility_route(config.amdp)
    return HandingIn(route, config.hostname) if route and "omg" in config.amdp.roles else None
