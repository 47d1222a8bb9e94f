"""Under which names subscriptions and classification are reached, what they sign with, what their settings
must not be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cryptography import x509

from outrider.config.schema import Config
from outrider.holding.classification.service import read_vouched
from outrider.holding.policies.host_documents import HostKey
from outrider.holding.policies.peers import parse_peer
from outrider.holding.policies.published_policy import service_at
from outrider.holding.subscriptions.page_views import ROOT
from outrider.model.address import AddressError, Domain, parse_domain
from outrider.runtime.amtp_checks import Fault


def service_base(config: Config, domain: Domain) -> str:
    """``https://HOST[:PORT]`` of the subscription service of a domain of ours, as its policy publishes it."""
    return f"https://{config.amdp.policy.subscribe_synch or service_at(domain, config.amdp.port)}"


def service_host(config: Config) -> str:
    """The name under which this server signs, and answers for classes: of its first domain."""
    first = next(own_domains(config), Domain(config.hostname.lower()))
    named = config.amdp.policy.subscribe_synch or service_at(first, config.amdp.port)
    return named.partition(":")[0].lower()


def subscription_root(config: Config, domain: Domain) -> str:
    """For `Mailing.subscriptions`: below which address the pages lie; "" without the role."""
    return f"{service_base(config, domain)}{ROOT}" if "subscriptions" in config.amdp.roles else ""


def speaking_names(domain: Domain) -> tuple[str, ...]:
    """The hosts that speak for a domain (`subscription_exchange.speaks_for`)."""
    return (f"amdp-mis.{domain}", str(domain), *(f"mhf-{number}.{domain}" for number in range(1, 17)))


def own_domains(config: Config) -> Iterator[Domain]:
    """As settings name them."""
    for name in config.domains:
        if not name.startswith((".", "[")):  # patterns have no services
            yield parse_domain(name)


def host_key(config: Config, names: Iterable[str]) -> HostKey | None:
    """The key to sign with as the first of these names that one of the server's certificates is for; None
    when none is."""
    tls = config.tls
    files = [(one.certificate, one.key) for one in tls.sni]
    if tls.certificate and tls.key:
        files.insert(0, (tls.certificate, tls.key))
    for name in names:
        for certificate, key in files:
            paths = Path(certificate).absolute(), Path(key).absolute()
            if is_for(paths[0], name):
                return HostKey(name, _reading(*paths))
    return None


def _reading(certificate: Path, key: Path) -> Callable[[], tuple[bytes, bytes]]:
    return lambda: (certificate.read_bytes(), key.read_bytes())


def is_for(certificate: Path, name: str) -> bool:
    """Whether the certificate in this file names that host."""
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    above = f"*.{name.partition('.')[2]}"
    return any(one.lower() in (name, above) for one in found.get_values_for_type(x509.DNSName))


def subscription_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with the settings."""
    amdp = config.amdp
    for key, urls in (
        (("subscriptions", "peers"), amdp.subscriptions.peers),
        (("classification", "services"), amdp.classification.services),
    ):
        for number, url in enumerate(urls):
            try:
                parse_peer(url)
            except ValueError as error:
                yield Fault(("amdp", *key, number), str(error), "write https://HOST or https://HOST:PORT")
    for number, one in enumerate(amdp.subscriptions.synch_clients):
        try:
            parse_domain(one)
        except AddressError as error:
            key_path = ("amdp", "subscriptions", "synch_clients", number)
            yield Fault(key_path, f"{one!r}: {error}", "write the sender's domain")
    yield from _classification_faults(config)


def _classification_faults(config: Config) -> Iterator[Fault]:
    settings = config.amdp.classification
    host = service_host(config)
    if "classification" in config.amdp.roles and host_key(config, (host,)) is None:
        fault = f"classification: no certificate in [tls] is for {host}, so nothing can be signed"
        yield Fault(("amdp", "roles"), fault, "get one for that name")
    if settings.vouched:
        try:
            read_vouched(Path(settings.vouched))
        except (OSError, ValueError) as error:
            told = f"{settings.vouched}: {error.strerror}" if isinstance(error, OSError) else str(error)
            remedy = "write a file of lines DOMAIN CLASS-PATTERN [CLASS-PATTERN ...]"
            yield Fault(("amdp", "classification", "vouched"), told, remedy)
