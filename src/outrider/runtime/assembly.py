"""From settings to the frozen parts that a server runs on, with every fault found on the way.

`check-config`, start and reload all come through here, so what the checker accepts is what the server
runs. Nothing is started and nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outrider.config.loader import Loaded
from outrider.config.problems import ConfigError
from outrider.config.schema import Config
from outrider.dns.resolver import ResolverSettings
from outrider.identity.authorities import CaStores
from outrider.identity.credentials import UserTable
from outrider.identity.host_identity import HostSettings
from outrider.identity.mt2_identity import Mt2IdentitySettings
from outrider.lists.settings import load_lists
from outrider.lists.vacation import vacation_settings
from outrider.net.client_tls import ClientTls
from outrider.net.tls_context import ServerContexts
from outrider.policy.policy import CompiledPolicy
from outrider.reception.mt2_settings import Mt2ReceptionSettings
from outrider.routing.local_tables import TableError, load_tables
from outrider.routing.local_users import RecipientTable
from outrider.routing.partners import PartnerTable
from outrider.routing.routes import RouteTable
from outrider.runtime.amtp_checks import AmtpParts, backup_faults, listener_faults, mail_codes
from outrider.runtime.certificate_parts import (
    authorities,
    ca_stores,
    check_levels,
    check_route_files,
    client_tls,
    revocation_files,
    server_tls,
)
from outrider.runtime.extension_finding import check_extensions
from outrider.runtime.findings import Findings, IPNetwork
from outrider.runtime.host_checks import check_host, check_secrets
from outrider.runtime.listener_plans import ListenerPlan, plan_listeners
from outrider.runtime.login_parts import read_users
from outrider.runtime.mt2_keys import Mt2Keys, read_mt2_keys
from outrider.runtime.mt2_validation import validation_faults, validation_warnings
from outrider.runtime.on_demand import load_parts_for, speaks_amdp
from outrider.runtime.policy_parts import read_policy
from outrider.runtime.revocation_files import RevocationFiles
from outrider.runtime.shares import share_of, worker_count
from outrider.runtime.trust_parts import TrustLists, read_trust


@dataclass(frozen=True, slots=True)
class Assembly:
    """All that follows from the settings, checked, and what the operator should know."""

    config: Config
    listeners: tuple[ListenerPlan, ...]
    relay_networks: tuple[IPNetwork, ...]
    resolver: ResolverSettings
    server_tls: ServerContexts | None
    client_tls: ClientTls
    ca_stores: CaStores
    amdp_stores: CaStores
    """CAs that may vouch for AMDP's facilities and information services."""
    revocation_files: RevocationFiles
    mt2_identities: Mt2IdentitySettings
    mt2_keys: Mt2Keys
    amtp: AmtpParts
    routes: RouteTable
    recipients: RecipientTable
    policy: CompiledPolicy
    trust: TrustLists
    users: UserTable | None
    data_dir: Path
    warnings: tuple[str, ...]
    workers: int
    """How many processes serve; `config` holds what one of them may use."""


def assemble(loaded: Loaded) -> Assembly:
    """Build all parts. Raises ConfigError with every problem.

    Relative paths are taken from the file's folder: the caller has made it the working directory.
    """
    workers = worker_count(loaded.config)
    findings = Findings(loaded, share_of(loaded.config, workers))
    _check_surroundings(findings)
    assembly = _build(findings, workers)
    if findings.problems or assembly is None:
        once = dict.fromkeys(findings.problems)
        raise ConfigError(sorted(once, key=lambda problem: (problem.file, problem.line)))
    return assembly


def _check_surroundings(findings: Findings) -> None:
    """What nothing is built of, and must be right all the same."""
    config = findings.config
    try:
        load_parts_for(config)
    except (ImportError, OSError) as error:
        findings.fault((), f"a part of Outrider cannot be loaded: {error}", "install it, and start anew")
    check_host(findings)
    check_secrets(findings)
    check_levels(findings)
    findings.networks(("relay", "require_tls_from"), config.relay.require_tls_from)
    findings.networks(("net", "private_destinations"), config.net.private_destinations)
    findings.part(("mt2", "extensions"), lambda: check_extensions(config))
    limits = config.limits
    findings.part(("mt2",), lambda: Mt2ReceptionSettings.of(config, limits.message_size, limits.hops))


def _build(findings: Findings, workers: int) -> Assembly | None:
    """All parts; None when one of those that are always needed cannot be made."""
    config, loaded = findings.config, findings.loaded
    listeners = plan_listeners(findings)
    relay = findings.networks(("relay", "networks"), config.relay.networks)
    resolver = findings.part(("dns", "servers"), lambda: _resolver(config))
    contexts = server_tls(findings)
    stores = ca_stores(findings)
    revocations = revocation_files(findings, stores)
    shown = client_tls(findings, stores)
    partners = findings.part((), lambda: PartnerTable(config))
    amtp = _amtp(findings, partners, stores)
    amdp_stores = _amdp_stores(findings, stores)
    identities = _mt2_identities(findings, amtp)
    keys = _mt2_keys(findings)
    _tell_partners_authorities(shown, amtp)
    routes = _routes(findings, partners)
    check_route_files(findings, shown)
    recipients = _recipients(findings)
    policy = read_policy(findings)
    _check_published(findings, policy)
    trust = _trust(findings)
    users = read_users(findings)
    if resolver is None or routes is None or recipients is None or amtp is None or identities is None:
        return None
    return Assembly(
        config=config,
        listeners=listeners,
        relay_networks=relay,
        resolver=resolver,
        server_tls=contexts,
        client_tls=shown,
        ca_stores=stores,
        amdp_stores=amdp_stores,
        revocation_files=revocations,
        mt2_identities=identities,
        mt2_keys=keys,
        amtp=amtp,
        routes=routes,
        recipients=recipients,
        policy=policy,
        trust=trust,
        users=users,
        data_dir=loaded.resolve(config.data_dir),
        warnings=tuple(findings.warnings),
        workers=workers,
    )


def _resolver(config: Config) -> ResolverSettings:
    dns = config.dns
    return ResolverSettings.from_config(dns.servers, dns.validating, dns.timeout)


def _amtp(findings: Findings, partners: PartnerTable | None, stores: CaStores) -> AmtpParts | None:
    config = findings.config
    findings.faults(listener_faults(config))
    findings.part(("mpc",), lambda: mail_codes(config, None))
    hosts = findings.part(("amtp",), lambda: HostSettings.of(config.amtp))
    if partners is None or hosts is None:
        return None
    by_entry = {
        one.name: CaStores.of(
            authorities(findings, ("partners", one.name, "ca"), one.ca), (), stores.revocations
        )
        for one in partners.entries
        if one.ca
    }
    return AmtpParts(hosts, partners, by_entry)


def _tell_partners_authorities(shown: ClientTls, amtp: AmtpParts | None) -> None:
    """Read now, by whoever starts the server, and not when the first mail goes to the partner."""
    if amtp is None:
        return
    for one in amtp.partners.entries:
        if one.name in amtp.partner_stores:
            shown.believe(one.ca, amtp.partner_stores[one.name])


def _check_amdp(findings: Findings) -> None:
    config = findings.config
    if not speaks_amdp(config):
        return
    from outrider.runtime.amdp_checks import amdp_faults, amdp_warnings
    from outrider.runtime.postage_settings import check_postage

    findings.faults(amdp_faults(config))
    findings.warnings.extend(amdp_warnings(config))
    findings.part(("amdp", "postage"), lambda: check_postage(config))


def _amdp_stores(findings: Findings, stores: CaStores) -> CaStores:
    _check_amdp(findings)
    files = findings.config.amdp.incoming.ca
    if not files:
        return stores
    return CaStores.of(authorities(findings, ("amdp", "incoming", "ca"), files), (), stores.revocations)


def _mt2_identities(findings: Findings, amtp: AmtpParts | None) -> Mt2IdentitySettings | None:
    validation = findings.config.mt2.validation
    findings.faults(validation_faults(findings.config))
    findings.warnings.extend(validation_warnings(findings.config))
    trusted = authorities(findings, ("mt2", "validation", "trusted_ca"), validation.trusted_ca)
    if amtp is None:
        return None
    return findings.part((), lambda: Mt2IdentitySettings.of(amtp.hosts, validation, trusted))


def _mt2_keys(findings: Findings) -> Mt2Keys:
    config, loaded = findings.config, findings.loaded
    keys = findings.part(("mt2",), lambda: read_mt2_keys(config, loaded.resolve)) or Mt2Keys()
    if keys.warning and _speaks_mt2(config):
        findings.warnings.append(keys.warning)
    return keys


def _speaks_mt2(config: Config) -> bool:
    """Whether the settings say anything of it."""
    mt2 = config.mt2
    return bool(mt2.pipe or mt2.identities or any(one.protocol == "mt2" for one in config.listeners))


def _routes(findings: Findings, partners: PartnerTable | None) -> RouteTable | None:
    if partners is None:
        return None
    routes = findings.part((), lambda: RouteTable(findings.config, partners))
    if routes is not None:
        findings.faults(backup_faults(findings.config, routes))
    return routes


def _recipients(findings: Findings) -> RecipientTable | None:
    """Users and aliases; lists and answers, which are about them, are checked."""
    config, loaded = findings.config, findings.loaded
    try:
        recipients = load_tables(config, lambda name: loaded.resolve(name).read_text("utf-8"))
    except TableError as error:
        findings.problems.extend(loaded.problem_from(text) for text in error.problems)
        return None
    findings.part((), lambda: load_lists(config))
    findings.part((), lambda: vacation_settings(config))
    return recipients


def _check_published(findings: Findings, policy: CompiledPolicy) -> None:
    """Whether what AMDP publishes of the policy is what was meant."""
    if findings.config.amdp.roles:
        from outrider.runtime.amdp_checks import policy_warnings

        warnings = findings.part((), lambda: list(policy_warnings(findings.config, policy)))
        findings.warnings.extend(warnings or ())


def _trust(findings: Findings) -> TrustLists:
    try:
        return read_trust(findings.loaded)
    except ConfigError as error:
        findings.problems.extend(error.problems)
    return TrustLists()
