"""What must hold before AMDP is served: its listeners, its port, the roles that need them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network

from outrider.config.schema import Config, Listener
from outrider.config.source_map import Path as KeyPath
from outrider.holding.policies.published_policy import published_report
from outrider.model.address import Domain, parse_domain
from outrider.policy.policy import CompiledPolicy
from outrider.protocols.amdp.report import PolicyReport, lint
from outrider.runtime.amdp_value_checks import amdp_value_faults
from outrider.runtime.amtp_checks import Fault
from outrider.runtime.gateway_checks import gateway_faults, gateway_warnings
from outrider.runtime.subscription_names import subscription_faults

WEB_ROLES = ("mhf", "mis", "subscriptions", "classification")
"""Roles that others reach by HTTPS."""


def amdp_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with `[amdp]` and with its listeners."""
    port = config.amdp.port
    if port != 443 and port < 1024:
        fault = f"port {port} would be called by nobody (AMDP-9)"
        yield Fault(("amdp", "port"), fault, "use 443, or 1024 and up")
    for number, text in enumerate(config.amdp.holding.networks):
        try:
            ip_network(text)
        except ValueError as error:
            yield Fault(("amdp", "holding", "networks", number), str(error), "write a network: 192.0.2.0/24")
    yield from amdp_value_faults(config)
    yield from gateway_faults(config)
    yield from subscription_faults(config)
    for number, one in enumerate(config.listeners):
        if one.protocol == "amdp":
            yield from _listener_faults(("listeners", number), one)


def _listener_faults(key: KeyPath, one: Listener) -> Iterator[Fault]:
    if one.address.startswith("unix:"):
        yield Fault((*key, "address"), "AMDP is spoken over a network", "write an IPv4 or IPv6 address")
    if one.auth:
        yield Fault((*key, "auth"), "AMDP's services have no logins", "remove it")


def own_reports(config: Config, policy: CompiledPolicy) -> Mapping[Domain, PolicyReport]:
    """By domain of ours, what is published for it and judges what comes for it: one value for both (ITP-4c).

    Patterns like `.example` have none. Raises ValueError naming the key.
    """
    names = [name for name in config.domains if not name.startswith((".", "["))]
    return {domain: published_report(domain, config.amdp, policy) for domain in map(parse_domain, names)}


def policy_warnings(config: Config, policy: CompiledPolicy) -> Iterator[str]:
    """What is published and surely not meant. Raises ValueError naming a key that cannot be published."""
    reports = tuple(own_reports(config, policy).values())
    if "mis" in config.amdp.roles:
        for problem in lint(reports[0]) if reports else ():
            yield f"[amdp.policy] {problem.text}"
        if not reports:
            yield "[amdp] role mis, and no domain in [domains]: no policy is published"


def amdp_warnings(config: Config) -> Iterator[str]:
    """What can be served, and surely is not meant."""
    yield from gateway_warnings(config)
    has_listener = any(one.protocol == "amdp" for one in config.listeners)
    served = [role for role in config.amdp.roles if role in WEB_ROLES]
    if served and not has_listener:
        yield f"[amdp] roles {', '.join(served)}: no listener with protocol amdp, so nobody reaches them"
    if "mis" in served and config.amdp.port != config.net.amdp_port:
        asked = config.net.amdp_port
        yield f"[amdp] role mis with port {config.amdp.port}: policies are asked for at port {asked} only"
    if has_listener and not served:
        roles = ", ".join(WEB_ROLES)
        yield f"a listener with protocol amdp, and none of the roles {roles} in [amdp]: nothing is there"
