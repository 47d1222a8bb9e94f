"""Sites that prove themselves by CAs of their own, published in LDAP and in DNS (MT2-24b, MT2-25)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.dnssec
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from dns.dnssectypes import Algorithm
from dns.rdtypes.ANY.CERT import CERT

from outrider.identity.certificate_authority import CertificateAuthority as OwnAuthority
from outrider.testing.ca import write_tls_files
from tests.dns.bind import Bind
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.openldap import OpenLdap, domain_entry
from tests.peers.outrider_server import OutriderServer
from tests.peers.tools import Swaks
from tests.system.mt2_sites import hand_over, mt2_pair, mt2_site, mt2_zone
from tests.system.sites import CONTENT, body_of, wait_mailbox

DOMAIN = "alpha.example"
ASKS = {"mt2": {"validation": {"delegation": ["ldap"]}}}


class OwnCa:
    """Alpha's own CA, that nobody else knows, and its host's certificate."""

    def __init__(self, folder: Path, name: str = "Alpha CA") -> None:
        now = datetime.now(UTC)
        self.authority = OwnAuthority.create(name, now, issuer_domain=DOMAIN)
        self._files = write_tls_files(
            folder / name, self.authority, self.authority.issue_host([f"mx.{DOMAIN}", DOMAIN], now)
        )

    @property
    def tls(self) -> dict[str, str]:
        return {"certificate": str(self._files.certificate), "key": str(self._files.key)}

    @property
    def der(self) -> bytes:
        return self.authority.certificate.public_bytes(Encoding.DER)


@pytest.fixture
def own(tmp_path: Path) -> OwnCa:
    return OwnCa(tmp_path)


def zone_with_directory(address: str, directory: str) -> str:
    return f"{mt2_zone(address)}\n_ldap._tcp SRV 0 0 389 ldap\nldap A {directory}"


@contextmanager
def alpha_to_beta(
    address: str, authority: CertificateAuthority, own: OwnCa, directory: str, beta: Mapping[str, Any]
) -> Iterator[tuple[OutriderServer, OutriderServer, BindServer]]:
    """Alpha sends, with the certificate of its own CA."""
    zones = {DOMAIN: zone_with_directory(address, directory)}
    with mt2_pair(
        address, loopback_address(), authority, zones=zones, alpha={"tls": own.tls}, beta=beta
    ) as sites:
        yield sites


def lookups(server: OutriderServer) -> list[tuple[object, object]]:
    return [(one["domain"], one["result"]) for one in server.log_events("ca_lookup")]


@pytest.mark.covers("MT2-24b", "MT2-10a")
def test_a_stranger_proves_itself_by_its_domains_directory(
    address: str, authority: CertificateAuthority, own: OwnCa, swaks_client: Swaks
) -> None:
    with (
        OpenLdap(DOMAIN, [domain_entry(DOMAIN, [own.der])]) as directory,
        alpha_to_beta(address, authority, own, directory.address, ASKS) as (alpha, beta, _),
    ):
        hand_over(swaks_client, address)
        [message] = wait_mailbox(beta, "bob")
        [delivered] = alpha.wait_event("delivered")
        assert lookups(beta) == [(DOMAIN, "found")]
        [asked] = beta.log_events("ca_lookup")
        assert asked["text"] == "LDAP at ldap.alpha.example, unsigned LDAP over unsigned DNS"
        assert directory.searches()
    assert body_of(message) == body_of(CONTENT)
    assert delivered["protocol"] == "mt2"


@pytest.mark.covers("MT2-24b", "MT2-15")
@pytest.mark.parametrize("why", ["another CA", "nothing", "not asked", "unsigned"])
def test_a_stranger_whose_ca_is_not_there_stays_one(
    address: str, authority: CertificateAuthority, own: OwnCa, tmp_path: Path, swaks_client: Swaks, why: str
) -> None:
    entries = {"another CA": [domain_entry(DOMAIN, [OwnCa(tmp_path, "Other CA").der])], "nothing": []}
    published = entries.get(why, [domain_entry(DOMAIN, [own.der])])
    validation: dict[str, object] = {"delegation": ["ldap"]}
    if why == "not asked":
        validation = {}
    elif why == "unsigned":
        validation["unsigned"] = "refuse"
    with (
        OpenLdap(DOMAIN, published) as directory,
        alpha_to_beta(address, authority, own, directory.address, {"mt2": {"validation": validation}}) as (
            alpha,
            beta,
            _,
        ),
    ):
        hand_over(swaks_client, address)
        alpha.wait_event("deferred")
        expected = {"nothing": [(DOMAIN, "none")], "not asked": []}.get(why, [(DOMAIN, "found")])
        assert lookups(beta)[:1] == expected
        assert not beta.log_events("accepted")


# -- DNSSEC ------------------------------------------------------------------------------------------------


def signed(origin: str, text: str) -> tuple[str, str]:
    """The zone's master file, signed, and the trust anchor for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    dnskey = dns.dnssec.make_dnskey(key.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
    zone = dns.zone.from_text(text, origin, relativize=False)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, keys=[(key, dnskey)], add_dnskey=True, lifetime=86_400)
    flags, protocol, algorithm, *octets = dnskey.to_text().split()
    trust = f'{origin} static-key {flags} {protocol} {algorithm} "{"".join(octets)}";'
    return zone.to_text(relativize=False), trust


def zone_text(origin: str, records: str) -> str:
    return (
        f"$ORIGIN {origin}.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
        f"{records}\n"
    )


def cert_record(der: bytes) -> str:
    record = CERT(dns.rdataclass.IN, dns.rdatatype.CERT, 1, 0, 0, der)
    return f"@ CERT {record.to_text()}"


@pytest.mark.covers("MT2-24b", "ITP-2c")
@pytest.mark.parametrize("is_signed", [True, False])
def test_a_stranger_proves_itself_by_signed_dns(
    address: str, authority: CertificateAuthority, own: OwnCa, swaks_client: Swaks, is_signed: bool
) -> None:
    beta_address = loopback_address()
    alpha_zone, trust = signed(DOMAIN, zone_text(DOMAIN, f"{mt2_zone(address)}\n{cert_record(own.der)}"))
    zones = {DOMAIN: alpha_zone, "beta.example": zone_text("beta.example", mt2_zone(beta_address))}
    with (
        Bind(zones) as names,
        Bind(
            {},
            options="recursion yes; dnssec-validation yes;",
            statements=f"trust-anchors {{ {trust} }};" if is_signed else "trust-anchors { };",
            forwarder=f"{names.address} port {names.port};",
        ) as resolver,
    ):
        beta = mt2_site(
            "beta.example",
            beta_address,
            authority,
            resolver,  # type: ignore[arg-type]
            mt2={"validation": {"delegation": ["dns"]}},
        )
        beta["dns"]["validating"] = True
        alpha = mt2_site(DOMAIN, address, authority, resolver, tls=own.tls)  # type: ignore[arg-type]
        with OutriderServer(beta, title="beta") as far, OutriderServer(alpha, title="alpha") as near:
            hand_over(swaks_client, address)
            if is_signed:
                assert wait_mailbox(far, "bob")
                [asked] = far.log_events("ca_lookup")
                assert (asked["result"], asked["text"]) == ("found", "DNS CERT, DNSSEC-secure")
            else:
                near.wait_event("deferred")
                [asked, *_] = far.log_events("ca_lookup")
                assert asked["result"] == "none"
                assert "not DNSSEC-secure" in str(asked["text"])
