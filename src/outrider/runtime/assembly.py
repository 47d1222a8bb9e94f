"""From settings to the frozen parts that a server runs on, with every fault found on the way.

`check-config`, start and reload all come through here, so what the checker accepts is what the server
runs. Nothing is started and nothing is written.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from outrider.config.loader import Loaded
from outrider.config.problems import ConfigError, Problem
from outrider.config.rule_files import PlacedRules, read_rules
from outrider.config.schema import Config, Listener, Policy, Route
from outrider.config.source_map import Path as KeyPath
from outrider.dns.resolver import ResolverSettings
from outrider.identity.authenticator import SaslAuthenticator
from outrider.identity.authorities import CaStores, read_authorities, shared_authorities
from outrider.identity.credentials import UsersFileError, UserTable, parse_users
from outrider.identity.host_identity import HostSettings
from outrider.identity.login_limits import LoginLimits
from outrider.identity.mt2_identity import Mt2IdentitySettings
from outrider.lists.settings import load_lists
from outrider.lists.vacation import vacation_settings
from outrider.maillog.emitter import check_writable
from outrider.model.address import AddressError, parse_domain
from outrider.net.client_tls import ClientTls
from outrider.net.tls_context import ServerContexts
from outrider.net.tls_files import CertificateFiles, TlsConfigError
from outrider.policy.lint import Surroundings, lint
from outrider.policy.policy import NO_POLICY, CompiledPolicy, compile_policy
from outrider.policy.rules import PolicyError
from outrider.routing.local_tables import TableError, load_tables
from outrider.routing.local_users import RecipientTable
from outrider.routing.partners import PartnerTable
from outrider.routing.routes import RouteError, RouteTable
from outrider.routing.tls_policy import route_requirement
from outrider.routing.ways import parse_way
from outrider.runtime.amdp_checks import amdp_faults, amdp_warnings, policy_warnings
from outrider.runtime.amtp_checks import (
    AmtpParts,
    backup_faults,
    listener_faults,
    mail_codes,
    offers_logins,
)
from outrider.runtime.ca_files import system_ca_files
from outrider.runtime.extension_finding import check_extensions
from outrider.runtime.mt2_keys import Mt2Keys, read_mt2_keys
from outrider.runtime.mt2_validation import validation_faults, validation_warnings
from outrider.runtime.postage_settings import check_postage
from outrider.runtime.private_files import readable_by
from outrider.runtime.revocation_files import RevocationFileError, RevocationFiles
from outrider.runtime.shares import share_of, worker_count
from outrider.runtime.trust_parts import TrustLists, read_trust

T = TypeVar("T")
IPNetwork = IPv4Network | IPv6Network

DEFAULT_PORTS = {"smtp": 25, "submission": 587, "qmtp": 209, "lmtp": 24, "http": 9464}
SMTPS_PORT = 465
_ASK_FOR_CERTIFICATES = ("smtp", "submission", "amtp", "mt2")
_RULE_NUMBER = re.compile(r"policy\.rules\[([0-9]+)\]")
_RULE_CONDITION = re.compile(r'(when|unless)\."([^"]*)": ')
_NOT_YET_LEVELS = {"dane", "mta-sts"}


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
    return _Assembler(loaded).result()


class _Assembler:
    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._workers = worker_count(loaded.config)
        self._config = share_of(loaded.config, self._workers)
        self._problems: list[Problem] = []
        self._warnings: list[str] = []

    def result(self) -> Assembly:
        self._check_names()
        self._check_host()
        listeners = self._listeners()
        relay = self._networks(("relay", "networks"), self._config.relay.networks)
        self._networks(("relay", "require_tls_from"), self._config.relay.require_tls_from)
        self._networks(("net", "private_destinations"), self._config.net.private_destinations)
        resolver = self._part(("dns", "servers"), self._resolver)
        server_tls = self._server_tls()
        stores = self._ca_stores()
        revocation_files = self._revocation_files(stores)
        client_tls = self._client_tls(stores)
        partners = self._part((), lambda: PartnerTable(self._config))
        amtp = self._amtp(partners, stores)
        amdp_stores = self._amdp(stores)
        mt2_identities = self._mt2_identities(amtp)
        mt2_keys = self._mt2_keys()
        self._tell_partners_authorities(client_tls, amtp)
        routes = self._part((), lambda: RouteTable(self._config, partners)) if partners is not None else None
        self._check_backups(routes)
        self._check_route_files(client_tls)
        self._check_levels()
        self._check_account()
        recipients = self._recipients()
        if recipients is not None:
            self._part((), lambda: load_lists(self._config))
            self._part((), lambda: vacation_settings(self._config))
        self._part(("mt2", "extensions"), lambda: check_extensions(self._config))
        self._part(("amdp", "postage"), lambda: check_postage(self._config))
        policy = self._policy()
        if self._config.amdp.roles:
            warnings = self._part((), lambda: list(policy_warnings(self._config, policy)))
            self._warnings.extend(warnings or ())
        trust = self._trust()
        users = self._users()
        if (
            self._problems
            or resolver is None
            or routes is None
            or recipients is None
            or amtp is None
            or mt2_identities is None
        ):
            raise ConfigError(sorted(self._problems, key=lambda problem: (problem.file, problem.line)))
        return Assembly(
            self._config,
            listeners,
            relay,
            resolver,
            server_tls,
            client_tls,
            stores,
            amdp_stores,
            revocation_files,
            mt2_identities,
            mt2_keys,
            amtp,
            routes,
            recipients,
            policy,
            trust,
            users,
            self._loaded.resolve(self._config.data_dir),
            tuple(self._warnings),
            self._workers,
        )

    # -- small helpers -----------------------------------------------------------------------------

    def _fault(self, key: KeyPath, fault: str, remedy: str = "") -> None:
        self._problems.append(self._loaded.problem(key, fault, remedy))

    def _part(self, key: KeyPath, build: Callable[[], T]) -> T | None:
        """What `build` gives; its complaint becomes a problem at the key it names, else at `key`."""
        try:
            return build()
        except (RouteError, PolicyError, ValueError) as error:
            problem = self._loaded.problem_from(str(error))
            self._problems.append(problem if problem.key else self._loaded.problem(key, str(error)))
        return None

    def _networks(self, key: KeyPath, texts: tuple[str, ...]) -> tuple[IPNetwork, ...]:
        networks = []
        for number, text in enumerate(texts):
            try:
                networks.append(ip_network(text))
            except ValueError as error:
                self._fault((*key, number), str(error), "write an address or a network such as 192.0.2.0/24")
        return tuple(networks)

    # -- the parts ---------------------------------------------------------------------------------

    def _check_names(self) -> None:
        config = self._config
        try:
            name = parse_domain(config.hostname)
            if "." not in name and not name.startswith("["):
                self._warnings.append(
                    f"hostname {config.hostname!r} is not a full name: many hosts refuse such"
                )
        except AddressError as error:
            self._fault(("hostname",), f"{config.hostname!r}: {error}", "give the host's full DNS name")
        for key, text in (
            ("source_address", config.net.source_address),
            ("source_address6", config.net.source_address6),
        ):
            if text:
                self._part(("net", key), lambda text=text: ip_address(text))  # type: ignore[misc]

    def _check_host(self) -> None:
        """What the machine must offer: accounts, folders, files."""
        config = self._config
        for key, name in ((("user",), config.user), (("delivery", "pipe_user"), config.delivery.pipe_user)):
            if name and not _account_exists(name):
                self._fault(key, f"there is no account {name!r}", "create it (adduser --system)")
        if config.log.file and (why := check_writable(config.log.file)):
            self._fault(("log", "file"), why, "create it, or give another file")
        data_dir = self._loaded.resolve(config.data_dir)
        ancestor = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
        if not ancestor.is_dir():
            self._fault(("data_dir",), f"{ancestor} is not a folder", "give a folder")
        elif not os.access(ancestor, os.W_OK):
            self._fault(
                ("data_dir",), f"{ancestor} is not writable", "change its owner, or give another folder"
            )
        if config.spool.backend == "postgresql" and not config.spool.dsn:
            self._fault(("spool",), "`dsn` is missing", 'add `dsn = "postgresql://..."`')

    def _listeners(self) -> tuple[ListenerPlan, ...]:
        if not self._config.listeners:
            self._fault((), "no [[listeners]]: nothing would be served", "add at least one")
        plans = [self._listener(number, one) for number, one in enumerate(self._config.listeners)]
        seen: dict[tuple[str, int], int] = {}
        for plan in plans:
            place = (plan.settings.address, plan.port)
            if place in seen:
                self._fault(("listeners", plan.number), f"listens where listeners[{seen[place]}] does")
            seen[place] = plan.number
        return tuple(plans)

    def _listener(self, number: int, one: Listener) -> ListenerPlan:
        key: KeyPath = ("listeners", number)
        has_certificate = self._config.tls.certificate is not None
        tls = one.tls or self._usual_tls(one, has_certificate=has_certificate)
        if tls != "none" and not has_certificate:
            self._fault((*key, "tls"), "TLS needs a certificate", "set certificate and key in [tls]")
        if one.protocol == "mt2" and tls == "none" and not _is_private_link(one.address):
            self._fault(
                (*key, "tls"),
                "mt2 is spoken in the clear over loopback and private links only (MT2-9)",
                "use implicit or starttls, or a private address",
            )
        if one.protocol == "amdp" and tls == "none" and not _is_private_link(one.address):
            self._fault(
                (*key, "tls"),
                "AMDP is HTTPS; in the clear it goes to a proxy on this machine or a private link only",
                "use implicit, or a private address",
            )
        if tls == "starttls" and one.protocol not in ("smtp", "submission", "lmtp", "amtp", "mt2"):
            self._fault((*key, "tls"), f"{one.protocol} has no STARTTLS", "use implicit or none")
        auth = one.auth if one.auth is not None else one.protocol == "submission"
        if one.protocol == "amtp":
            auth = offers_logins(self._config)
        elif auth and not self._config.auth.users_file:
            self._fault(key, "AUTH needs logins", "set users_file in [auth] (`outrider user add` fills it)")
        self._check_address((*key, "address"), one.address)
        implicit_submission = one.protocol == "submission" and tls == "implicit"
        own_ports = {
            "amtp": self._config.amtp.port,
            "mt2": self._config.mt2.port,
            "amdp": self._config.amdp.port,
        }
        usual = own_ports.get(one.protocol) or DEFAULT_PORTS.get(one.protocol, 25)
        port = one.port or (SMTPS_PORT if implicit_submission else usual)
        asks = one.request_client_certificate
        return ListenerPlan(
            settings=one,
            number=number,
            port=0 if one.address.startswith("unix:") else port,
            tls=tls,
            auth=auth,
            hostname=one.hostname or self._config.hostname,
            proxy_networks=self._networks((*key, "proxy_protocol"), one.proxy_protocol),
            asks_for_certificate=asks if asks is not None else one.protocol in _ASK_FOR_CERTIFICATES,
        )

    def _usual_tls(self, one: Listener, *, has_certificate: bool) -> str:
        if one.protocol in ("amtp", "mt2", "amdp"):
            return "implicit"
        return "starttls" if has_certificate and one.protocol in ("smtp", "submission") else "none"

    def _amtp(self, partners: PartnerTable | None, stores: CaStores) -> AmtpParts | None:
        for one in listener_faults(self._config):
            self._fault(one.key, one.fault, one.remedy)
        self._part(("mpc",), lambda: mail_codes(self._config, None))
        hosts = self._part(("amtp",), lambda: HostSettings.of(self._config.amtp))
        if partners is None or hosts is None:
            return None
        by_entry = {
            one.name: CaStores.of(
                self._authorities(("partners", one.name, "ca"), one.ca), (), stores.revocations
            )
            for one in partners.entries
            if one.ca
        }
        return AmtpParts(hosts, partners, by_entry)

    def _amdp(self, stores: CaStores) -> CaStores:
        for one in amdp_faults(self._config):
            self._fault(one.key, one.fault, one.remedy)
        self._warnings.extend(amdp_warnings(self._config))
        files = self._config.amdp.incoming.ca
        if not files:
            return stores
        return CaStores.of(self._authorities(("amdp", "incoming", "ca"), files), (), stores.revocations)

    def _mt2_identities(self, amtp: AmtpParts | None) -> Mt2IdentitySettings | None:
        validation = self._config.mt2.validation
        for one in validation_faults(self._config):
            self._fault(one.key, one.fault, one.remedy)
        self._warnings.extend(validation_warnings(self._config))
        trusted = self._authorities(("mt2", "validation", "trusted_ca"), validation.trusted_ca)
        if amtp is None:
            return None
        return self._part((), lambda: Mt2IdentitySettings.of(amtp.hosts, validation, trusted))

    def _mt2_keys(self) -> Mt2Keys:
        keys = self._part(("mt2",), lambda: read_mt2_keys(self._config, self._loaded.resolve)) or Mt2Keys()
        if keys.warning and _speaks_mt2(self._config):
            self._warnings.append(keys.warning)
        return keys

    def _tell_partners_authorities(self, client_tls: ClientTls, amtp: AmtpParts | None) -> None:
        """Read now, by whoever starts the server, and not when the first mail goes to the partner."""
        if amtp is None:
            return
        for one in amtp.partners.entries:
            if one.name in amtp.partner_stores:
                client_tls.believe(one.ca, amtp.partner_stores[one.name])

    def _check_backups(self, routes: RouteTable | None) -> None:
        for one in backup_faults(self._config, routes) if routes is not None else ():
            self._fault(one.key, one.fault, one.remedy)

    def _check_address(self, key: KeyPath, address: str) -> None:
        if address.startswith("unix:/"):
            return
        try:
            ip_address(address)
        except ValueError:
            self._fault(key, f"{address!r} is no address", "write an IPv4 or IPv6 address, or unix:/path")

    def _resolver(self) -> ResolverSettings:
        dns = self._config.dns
        return ResolverSettings.from_config(dns.servers, dns.validating, dns.timeout)

    def _server_tls(self) -> ServerContexts | None:
        tls = self._config.tls
        if tls.certificate is None or tls.key is None:
            if tls.certificate or tls.key:
                self._fault(("tls",), "certificate and key go together", "set both or neither")
            return None
        default = CertificateFiles(self._loaded.resolve(tls.certificate), self._loaded.resolve(tls.key))
        by_name = {
            name: CertificateFiles(self._loaded.resolve(one.certificate), self._loaded.resolve(one.key))
            for one in tls.sni
            for name in one.names
        }
        try:
            contexts = ServerContexts(default, by_name)
        except TlsConfigError as error:
            self._fault(self._key_of_file(error.path), f"{error.path}: {error.problem}", error.remedy)
            return None
        self._warnings.extend(contexts.warnings)
        return contexts

    def _client_tls(self, stores: CaStores) -> ClientTls:
        tls = self._config.tls
        if tls.certificate is None or tls.key is None:
            return ClientTls(stores)
        return ClientTls(
            stores, CertificateFiles(self._loaded.resolve(tls.certificate), self._loaded.resolve(tls.key))
        )

    def _check_route_files(self, client_tls: ClientTls) -> None:
        """Certificates and passwords that single routes name."""
        for name, route in self._config.routes.items():
            if isinstance(route, str):
                continue
            key = ("routes", name)
            if route.password_file and not os.access(self._loaded.resolve(route.password_file), os.R_OK):
                self._fault((*key, "password_file"), f"cannot read {route.password_file}", "create it, 0600")
            if route.certificate or route.tls == "mutual":
                self._check_route_certificate(key, route, client_tls)

    def _check_account(self) -> None:
        """Secrets are read again while the server runs, by the account that it has become: found out at the
        start, and not when the first certificate is renewed."""
        user = self._config.user
        if not user or os.geteuid() != 0 or not _account_exists(user):
            return
        account = pwd.getpwnam(user)
        for part in self._loaded.parts:
            if not readable_by(part.path, account):
                self._fault(part.key, f"the account {user} cannot read this file", f"chown {user}, mode 0600")
        for key, name in self._secret_files():
            path = self._loaded.resolve(name)
            if path.exists() and not readable_by(path, account):
                self._fault(key, f"{name} cannot be read by the account {user}", f"chown {user}, mode 0600")

    def _secret_files(self) -> list[tuple[KeyPath, str]]:
        config = self._config
        named: list[tuple[KeyPath, str | None]] = [
            (("tls", "key"), config.tls.key),
            (("auth", "users_file"), config.auth.users_file),
        ]
        named += [(("tls", "sni", number, "key"), one.key) for number, one in enumerate(config.tls.sni)]
        for name, route in config.routes.items():
            if not isinstance(route, str):
                named += [
                    (("routes", name, "key"), route.key),
                    (("routes", name, "password_file"), route.password_file),
                ]
        return [(key, name) for key, name in named if name]

    def _check_route_certificate(self, key: KeyPath, route: Route, client_tls: ClientTls) -> None:
        try:
            client_tls.context(route_requirement(route, self._config.delivery))
        except TlsConfigError as error:
            self._fault(key, f"{error.path}: {error.problem}", error.remedy)
        except ValueError as error:
            self._fault(key, str(error))

    def _key_of_file(self, path: Path) -> KeyPath:
        """Which setting names that file."""
        tls = self._config.tls
        named: list[tuple[KeyPath, str | None]] = [
            (("tls", "certificate"), tls.certificate),
            (("tls", "key"), tls.key),
        ]
        for number, one in enumerate(tls.sni):
            named += [
                (("tls", "sni", number, "certificate"), one.certificate),
                (("tls", "sni", number, "key"), one.key),
            ]
        return next((key for key, name in named if name and self._loaded.resolve(name) == path), ("tls",))

    def _ca_stores(self) -> CaStores:
        tls = self._config.tls
        public = tls.public_ca if tls.public_ca is not None else system_ca_files()
        if not public and tls.public_ca is None:
            self._warnings.append("no system CA store found: no public CA is trusted; set public_ca in [tls]")
        publicly = self._authorities(("tls", "public_ca"), public)
        privately = self._authorities(("tls", "private_ca"), tls.private_ca)
        for shared in shared_authorities(publicly, privately):
            self._fault(
                ("tls", "private_ca"), shared, "keep it in one set: a private CA makes private connections"
            )
        return CaStores.of(publicly, privately)

    def _revocation_files(self, stores: CaStores) -> RevocationFiles:
        """The lists of revocations, read into the stores (ITP-2a)."""
        paths = [self._loaded.resolve(name) for name in self._config.tls.crl]
        files = RevocationFiles(paths, stores.authorities, stores.revocations)
        try:
            files.reload()
        except RevocationFileError as error:
            remedy = "give a CRL file, PEM or DER, of a CA that is configured"
            self._fault(("tls", "crl", error.number), str(error), remedy)
        return files

    def _authorities(self, key: KeyPath, files: tuple[str, ...]) -> list[x509.Certificate]:
        found: list[x509.Certificate] = []
        for number, name in enumerate(files):
            try:
                certificates = read_authorities(self._loaded.resolve(name).read_bytes())
            except OSError as error:
                self._fault((*key, number), f"{name}: {error.strerror}", "give the path of a PEM file")
            except ValueError:
                self._fault((*key, number), f"{name}: holds no PEM certificates", "convert it to PEM")
            else:
                found.extend(certificates)
        return found

    def _check_levels(self) -> None:
        config = self._config
        named: list[tuple[KeyPath, str | None]] = [(("delivery", "tls"), config.delivery.tls)]
        named += [
            (("routes", name, "tls"), route.tls)
            for name, route in config.routes.items()
            if not isinstance(route, str)
        ]
        for key, level in named:
            if level in _NOT_YET_LEVELS:
                self._fault(key, f"{level} is not built yet", "use verify until it is")

    def _recipients(self) -> RecipientTable | None:
        try:
            return load_tables(self._config, lambda name: self._loaded.resolve(name).read_text("utf-8"))
        except TableError as error:
            self._problems.extend(self._loaded.problem_from(text) for text in error.problems)
        return None

    def _policy(self) -> CompiledPolicy:
        try:
            placed = read_rules(self._loaded)
        except ConfigError as error:
            self._problems.extend(error.problems)
            return NO_POLICY
        try:
            policy = compile_policy(Policy(rules=placed.rules), parse_way)
        except PolicyError as error:
            self._problems.append(self._rule_problem(str(error), placed))
            return NO_POLICY
        for finding in lint(policy, Surroundings.of(self._config)):
            place = placed.places[finding.rule.number]
            self._warnings.append(f"{place.file}:{place.line(*finding.key)}: {finding}")
        return policy

    def _trust(self) -> TrustLists:
        try:
            return read_trust(self._loaded)
        except ConfigError as error:
            self._problems.extend(error.problems)
        return TrustLists()

    def _rule_problem(self, text: str, placed: PlacedRules) -> Problem:
        """A fault of a rule at the line where it stands, in whichever file (ITP-4a)."""
        match = _RULE_NUMBER.match(text)
        fault = text.partition(": ")[2]
        if match is None:
            return self._loaded.problem(("policy",), fault)
        condition = _RULE_CONDITION.match(fault)
        place = placed.places[int(match[1]) - 1]
        if condition is None:
            return place.problem(fault)
        return place.problem(fault[condition.end() :], condition[1], condition[2])

    def _users(self) -> UserTable | None:
        auth = self._config.auth
        if not auth.users_file:
            return None
        path = self._loaded.resolve(auth.users_file)
        try:
            users = parse_users(path.read_text("utf-8"), str(path))
            SaslAuthenticator(
                users, login_limits(self._config), make_nonce=str, secret=b"", mechanisms=auth.mechanisms
            )
        except UsersFileError as error:
            self._problems.append(
                Problem(str(error).partition(": ")[0], 0, "", str(error).partition(": ")[2])
            )
        except OSError as error:
            remedy = "create it with `outrider user add`"
            self._fault(("auth", "users_file"), f"{path}: {error.strerror}", remedy)
        except ValueError as error:
            self._problems.append(self._loaded.problem_from(str(error)))
        else:
            return users
        return None


def login_limits(config: Config) -> LoginLimits:
    """The memory of failed logins; kept over a reload by the caller."""
    auth = config.auth
    return LoginLimits(
        per_address=auth.failures_per_address, per_user=auth.failures_per_user, window_s=auth.failure_window
    )


def _account_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _is_private_link(address: str) -> bool:
    """Whether an address is one that no stranger reaches; what is none is told of elsewhere."""
    try:
        found = ip_address(address)
    except ValueError:
        return True
    return (found.is_private or found.is_link_local) and not found.is_unspecified


def _speaks_mt2(config: Config) -> bool:
    """Whether the settings say anything of it."""
    mt2 = config.mt2
    return bool(mt2.pipe or mt2.identities or any(one.protocol == "mt2" for one in config.listeners))
