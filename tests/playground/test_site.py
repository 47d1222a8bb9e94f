"""What a site's plan becomes: configuration, DNS records, certificates."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from outrider.config.loader import parse
from outrider.playground.internet import Internet
from outrider.playground.plans import PLANS, site_of
from outrider.playground.site import (
    AMDP_PORT,
    AMTP_PORT,
    MT2_PORT,
    PRIVATE_PORT,
    SitePlan,
    Surroundings,
    configuration,
    private_way,
)

AROUND = Surroundings(Path("/nowhere"), "127.0.0.53:5353")
PLAIN = SitePlan("plain", "127.0.3.1", {"plain.example": 'users = ["erin"]'}, tls=False)
HUB = SitePlan(
    "hub",
    "127.0.2.1",
    {"hub.example": 'users = "*"'},
    amtp=True,
    fronts=("behind.example",),
    backs_up=("plain.example",),
    takes_private="hub",
    extra=f'[routes]\n"behind.example" = {private_way("in.hub.example", "hub")}\n',
)
INNER = SitePlan(
    "inner",
    "127.0.2.2",
    {"behind.example": 'users = "*"'},
    host="in.hub.example",
    published=False,
    takes_private="hub",
    member_of=("hub",),
    ptr="line-2.dialup.example",
)


SEALED = SitePlan(
    "sealed", "127.0.2.3", {"sealed.example": 'users = "*"'}, mt2=True, fronts=("behind.sealed.example",)
)


HOLDER = SitePlan(
    "holder", "127.0.2.4", {"holder.example": 'users = "*"'}, amdp=("mhf", "mis"),
    extra='[amdp.holding]\nid = "one"\n',
)  # fmt: skip


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    made = Internet((PLAIN, HUB, INNER, SEALED, HOLDER))
    made.publish()
    yield made
    await made.stop()


def test_a_plain_site_has_one_listener_and_no_certificate() -> None:
    config = tomllib.loads(configuration(PLAIN, AROUND))
    assert [listener["protocol"] for listener in config["listeners"]] == ["smtp"]
    assert config["tls"] == {"public_ca": ["/nowhere/ca-public.pem"]}


def test_public_and_private_connections_have_ports_of_their_own() -> None:
    config = tomllib.loads(configuration(HUB, AROUND))
    amtp = [one for one in config["listeners"] if one["protocol"] == "amtp"]
    assert [(one["port"], one.get("private", False)) for one in amtp] == [
        (AMTP_PORT, False),
        (PRIVATE_PORT, True),
    ]
    assert config["tls"]["private_ca"] == ["/nowhere/ca-hub.pem"]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_every_site_of_the_playground_has_settings_that_there_are(plan: SitePlan) -> None:
    loaded = parse(configuration(plan, AROUND), Path("outrider.toml"))
    assert loaded.config.hostname == plan.hostname
    assert set(loaded.config.domains) == set(plan.domains)


def test_no_two_sites_share_a_name_or_an_address() -> None:
    assert len({plan.hostname for plan in PLANS}) == len({plan.address for plan in PLANS}) == len(PLANS)
    assert site_of("customer.example") == "inner"


async def test_dns_names_the_first_and_the_second_choice(internet: Internet) -> None:
    behind = internet.zones.master_file("behind.example")
    assert "_amtp._tcp.behind.example. 60 IN SRV 10 0 10125 mx.hub.example." in behind
    assert " MX " not in behind
    plain = internet.zones.master_file("plain.example")
    assert "_amtp._tcp.plain.example. 60 IN SRV 20 0 10125 mx.hub.example." in plain
    assert "plain.example. 60 IN MX 10 mx.plain.example." in plain


async def test_dns_names_the_host_that_takes_mt2_for_its_domain_and_for_another(
    internet: Internet,
) -> None:
    for domain in ("sealed.example", "behind.sealed.example"):
        zone = internet.zones.master_file(domain)
        assert f"_mt2._tcp.{domain}. 60 IN SRV 10 0 {MT2_PORT} mx.sealed.example." in zone
        assert "_amtp" not in zone
    config = tomllib.loads(configuration(SEALED, AROUND))
    assert [one["port"] for one in config["listeners"] if one["protocol"] == "mt2"] == [MT2_PORT]
    assert SEALED.certified_names == ["mx.sealed.example", "sealed.example", "behind.sealed.example"]


async def test_amdp_s_services_have_names_an_https_listener_and_a_certificate(internet: Internet) -> None:
    config = tomllib.loads(configuration(HOLDER, AROUND))
    assert [one["port"] for one in config["listeners"] if one["protocol"] == "amdp"] == [AMDP_PORT]
    assert config["amdp"] == {"roles": ["mhf", "mis"], "port": AMDP_PORT, "holding": {"id": "one"}}
    assert config["net"]["amdp_port"] == AMDP_PORT
    zone = internet.zones.master_file("holder.example")
    for label in ("mhf-1", "amdp-mis"):
        assert f"{label}.holder.example. 60 IN A 127.0.2.4" in zone
        assert f"{label}.holder.example" in _names(internet.issue(HOLDER.certified_names).certificate)
    assert "PTR mx.holder.example." in internet.zones.master_file("2.0.127.in-addr.arpa")


async def test_a_liar_has_the_reverse_name_of_another(internet: Internet) -> None:
    reverse = internet.zones.master_file("2.0.127.in-addr.arpa")
    assert "2.2.0.127.in-addr.arpa. 60 IN PTR line-2.dialup.example." in reverse
    assert "1.2.0.127.in-addr.arpa. 60 IN PTR mx.hub.example." in reverse
    # It leads back to the address, so that nothing but the certificate is wrong.
    assert "line-2.dialup.example. 60 IN A 127.0.2.2" in internet.zones.master_file("dialup.example")


async def test_a_certificate_names_the_domains_that_dns_names_the_host_for(internet: Internet) -> None:
    names = _names(internet.issue(HUB.certified_names).certificate)
    assert names == ["mx.hub.example", "hub.example", "behind.example"]
    assert _names(internet.issue(INNER.certified_names).certificate) == ["in.hub.example"]


async def test_a_private_network_has_a_ca_that_is_not_the_public_one(internet: Internet) -> None:
    issuers = {network: ca.certificate.subject for network, ca in internet.authorities.items()}
    assert set(issuers) == {"public", "hub"}
    assert internet.issue(["a.example"], "hub").certificate.issuer == issuers["hub"] != issuers["public"]


def test_a_domain_that_a_site_only_pretends_to_serve_is_in_no_certificate() -> None:
    (mallory,) = (plan for plan in PLANS if plan.unproven)
    assert set(mallory.unproven) <= set(mallory.amtp_domains)
    assert not set(mallory.unproven) & set(mallory.certified_names)


def _names(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)
