"""What must hold before domains are asked for their CAs (`[mt2.validation]`, MT2-24b)."""

from __future__ import annotations

from collections.abc import Iterator

from outrider.config.schema import Config
from outrider.net.ldap_search import LdapMissing, load_ldap
from outrider.runtime.amtp_checks import Fault


def validation_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with `[mt2.validation]` here."""
    delegation = config.mt2.validation.delegation
    key = ("mt2", "validation", "delegation")
    if "ldap" in delegation:
        try:
            load_ldap()
        except LdapMissing as error:
            yield Fault((*key, delegation.index("ldap")), str(error), error.remedy)
    if delegation and config.dns.servers == ():
        remedy = "name a resolver in [dns] servers, or remove it"
        yield Fault(key, "an issuer's domain is asked by means of DNS", remedy)


def validation_warnings(config: Config) -> Iterator[str]:
    """What will not work as it looks."""
    validation = config.mt2.validation
    if "dns" in validation.delegation and not config.dns.validating:
        yield (
            "[mt2.validation] delegation names dns, and no resolver is said to validate DNSSEC: "
            "CERT and TLSA records will never count; set validating in [dns]"
        )
    if validation.delegation == ("ldap",) and validation.unsigned == "refuse" and not config.dns.validating:
        yield "[mt2.validation] unsigned = refuse: of directories, only those proven under TLS will count"
