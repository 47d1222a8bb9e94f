"""Listeners with every default filled in: what is spoken where, with what TLS, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from outrider.config.schema import Config, Listener
from outrider.config.source_map import Path as KeyPath
from outrider.runtime.amtp_checks import offers_logins
from outrider.runtime.findings import Findings, IPNetwork

DEFAULT_PORTS = {"smtp": 25, "submission": 587, "qmtp": 209, "lmtp": 24, "http": 9464}
SMTPS_PORT = 465
_ASK_FOR_CERTIFICATES = ("smtp", "submission", "amtp", "mt2")
_HAVE_STARTTLS = ("smtp", "submission", "lmtp", "amtp", "mt2")
_CLEAR_FAULTS = {
    "mt2": (
        "mt2 is spoken in the clear over loopback and private links only (MT2-9)",
        "use implicit or starttls, or a private address",
    ),
    "amdp": (
        "AMDP is HTTPS; in the clear it goes to a proxy on this machine or a private link only",
        "use implicit, or a private address",
    ),
}
"""By protocol that strangers must not meet without TLS."""


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    """A listener with every default filled in."""

    settings: Listener
    number: int
    port: int
    tls: str
    auth: bool
    hostname: str
    proxy_networks: tuple[IPNetwork, ...]
    asks_for_certificate: bool

    @property
    def name(self) -> str:
        """For logs, facts and metrics: ``smtp 192.0.2.1:25``."""
        address = self.settings.address
        if address.startswith("unix:"):
            return f"{self.settings.protocol} {address}"
        host = f"[{address}]" if ":" in address else address
        return f"{self.settings.protocol} {host}:{self.port}"


def plan_listeners(findings: Findings) -> tuple[ListenerPlan, ...]:
    """All of the settings, checked."""
    listeners = findings.config.listeners
    if not listeners:
        findings.fault((), "no [[listeners]]: nothing would be served", "add at least one")
    plans = [_plan(findings, number, one) for number, one in enumerate(listeners)]
    seen: dict[tuple[str, int], int] = {}
    for plan in plans:
        place = (plan.settings.address, plan.port)
        if place in seen:
            findings.fault(("listeners", plan.number), f"listens where listeners[{seen[place]}] does")
        seen[place] = plan.number
    return tuple(plans)


def _plan(findings: Findings, number: int, one: Listener) -> ListenerPlan:
    config, key = findings.config, ("listeners", number)
    tls = one.tls or _usual_tls(one, has_certificate=config.tls.certificate is not None)
    _check_tls(findings, key, one, tls)
    auth = _auth(findings, key, one)
    _check_address(findings, (*key, "address"), one.address)
    asks = one.request_client_certificate
    return ListenerPlan(
        settings=one,
        number=number,
        port=0 if one.address.startswith("unix:") else one.port or _usual_port(config, one, tls),
        tls=tls,
        auth=auth,
        hostname=one.hostname or config.hostname,
        proxy_networks=findings.networks((*key, "proxy_protocol"), one.proxy_protocol),
        asks_for_certificate=asks if asks is not None else one.protocol in _ASK_FOR_CERTIFICATES,
    )


def _usual_tls(one: Listener, *, has_certificate: bool) -> str:
    if one.protocol in ("amtp", "mt2", "amdp"):
        return "implicit"
    return "starttls" if has_certificate and one.protocol in ("smtp", "submission") else "none"


def _check_tls(findings: Findings, key: KeyPath, one: Listener, tls: str) -> None:
    where = (*key, "tls")
    if tls != "none" and findings.config.tls.certificate is None:
        findings.fault(where, "TLS needs a certificate", "set certificate and key in [tls]")
    if one.protocol in _CLEAR_FAULTS and tls == "none" and not _is_private_link(one.address):
        findings.fault(where, *_CLEAR_FAULTS[one.protocol])
    if tls == "starttls" and one.protocol not in _HAVE_STARTTLS:
        findings.fault(where, f"{one.protocol} has no STARTTLS", "use implicit or none")


def _auth(findings: Findings, key: KeyPath, one: Listener) -> bool:
    """Whether logins are offered."""
    if one.protocol == "amtp":
        return offers_logins(findings.config)
    auth = one.auth if one.auth is not None else one.protocol == "submission"
    if auth and not findings.config.auth.users_file:
        findings.fault(key, "AUTH needs logins", "set users_file in [auth] (`outrider user add` fills it)")
    return auth


def _usual_port(config: Config, one: Listener, tls: str) -> int:
    if one.protocol == "submission" and tls == "implicit":
        return SMTPS_PORT
    own = {"amtp": config.amtp.port, "mt2": config.mt2.port, "amdp": config.amdp.port}
    return own.get(one.protocol) or DEFAULT_PORTS.get(one.protocol, 25)


def _check_address(findings: Findings, key: KeyPath, address: str) -> None:
    if address.startswith("unix:/"):
        return
    try:
        ip_address(address)
    except ValueError:
        findings.fault(key, f"{address!r} is no address", "write an IPv4 or IPv6 address, or unix:/path")


def _is_private_link(address: str) -> bool:
    """Whether an address is one that no stranger reaches; what is none is told of elsewhere."""
    try:
        found = ip_address(address)
    except ValueError:
        return True
    return (found.is_private or found.is_link_local) and not found.is_unspecified
