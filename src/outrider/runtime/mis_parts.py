"""AMDP's policies: ours as they are published and applied, and those of others."""

from __future__ import annotations

import random
import time
from ipaddress import ip_address, ip_network

from outrider.config.schema import Config
from outrider.holding.policies.directory import PolicyDirectory, PolicyObserver
from outrider.holding.policies.mis import Facilities, InformationService
from outrider.holding.web import WebCaller, WebService
from outrider.runtime.amdp_checks import own_reports
from outrider.runtime.assembly import Assembly


def make_information_service(assembly: Assembly) -> tuple[WebService, ...]:
    """The service, where this server has the role `mis`."""
    if "mis" not in assembly.config.amdp.roles:
        return ()
    reports = own_reports(assembly.config, assembly.policy)
    return (InformationService(tuple(reports.values()), _facilities(assembly.config)),)


def make_policy_directory(config: Config, caller: WebCaller, observer: PolicyObserver) -> PolicyDirectory:
    """What others publish."""
    return PolicyDirectory(caller, time.time, random.random, port=config.net.amdp_port, observer=observer)


def _facilities(config: Config) -> Facilities:
    """What is confirmed of our facilities; they send from this server's addresses unless it is said
    otherwise."""
    holding = config.amdp.holding
    addresses = [config.net.source_address, config.net.source_address6]
    addresses += [one.address for one in config.listeners if not one.address.startswith("unix:")]
    networks = [
        ip_network(found) for found in map(ip_address, filter(None, addresses)) if not found.is_unspecified
    ]
    networks += [ip_network(text) for text in holding.networks]
    return Facilities(holding.id, dict(holding.names), tuple(dict.fromkeys(networks)))
