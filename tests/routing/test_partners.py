"""What partners' terms demand of mail in both directions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import Config, InboundChannel
from outrider.routing.partners import (
    Arrived,
    PartnerError,
    PartnerTable,
    channel_of,
    meets,
)

CHANNELS: tuple[InboundChannel, ...] = ("any", "tls", "tls-mutual", "amtp", "mt2")
BANK = {
    "sender_domains": ["bank.example", ".pay.example"],
    "hosts": ["out.bank.example", ".mail.bank.example"],
    "inbound": "amtp",
    "inbound_mode": "refuse",
}


def table(partners: dict[str, Any], **other: Any) -> PartnerTable:
    settings = {"hostname": "mx.us.example", "data_dir": "/tmp/x", "partners": partners, **other}
    return PartnerTable(msgspec.convert(settings, Config))


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize(
    ("channel", "satisfies"),
    [
        ("any", {"any"}),
        ("tls", {"any", "tls"}),
        ("tls-mutual", {"any", "tls", "tls-mutual"}),
        ("amtp", {"any", "tls", "tls-mutual", "amtp"}),
        ("mt2", {"any", "tls", "tls-mutual", "mt2"}),
    ],
)
def test_the_order_of_channels(channel: InboundChannel, satisfies: set[str]) -> None:
    assert {demanded for demanded in CHANNELS if meets(channel, demanded)} == satisfies


@pytest.mark.parametrize(
    ("protocol", "encrypted", "proven", "channel"),
    [
        ("smtp", False, False, "any"),
        ("smtp", True, False, "tls"),
        ("smtp", True, True, "tls-mutual"),
        ("submission", True, False, "tls"),
        ("amtp", True, True, "amtp"),
        ("amtp", True, False, "tls"),
        ("mt2", True, True, "mt2"),
        ("qmtp", False, False, "any"),
    ],
)
def test_the_channel_of_a_session(protocol: str, encrypted: bool, proven: bool, channel: str) -> None:
    assert channel_of(protocol, encrypted=encrypted, host_proven=proven) == channel


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize(
    ("domain", "channel", "hosts", "refused"),
    [
        ("bank.example", "any", (), "must come by amtp, this came by plain SMTP"),
        ("bank.example", "tls", (), "must come by amtp"),
        ("bank.example", "tls-mutual", ("out.bank.example",), "must come by amtp"),
        ("bank.example", "mt2", ("out.bank.example",), "must come by amtp"),
        # Anybody can get a certificate for a host of his own and speak AMTP with it.
        ("bank.example", "amtp", ("mx.forger.example",), "must come from a host of bank"),
        ("bank.example", "amtp", (), "must come from a host of bank"),
        ("bank.example", "amtp", ("out.bank.example",), ""),
        ("bank.example", "amtp", ("a.mail.bank.example",), ""),
        ("bank.example", "amtp", ("evil-mail.bank.example",), "must come from a host of bank"),
        ("pay.example", "any", (), "must come by amtp"),
        ("eu.pay.example", "any", (), "must come by amtp"),
        ("repay.example", "any", (), ""),
        # Not covered: only the domain itself is written in the entry.
        ("eu.bank.example", "any", (), ""),
        ("other.example", "any", (), ""),
        ("", "any", (), ""),
    ],
)
def test_what_forges_a_partner(
    domain: str, channel: InboundChannel, hosts: tuple[str, ...], refused: str
) -> None:
    found = table({"bank": BANK}).breaches([domain], Arrived(channel, hosts))
    assert bool(found) is bool(refused)
    assert all(refused in breach.reason and breach.mode == "refuse" for breach in found)


@pytest.mark.covers("ITP-8")
def test_a_partners_host_sends_for_its_own_domains_only() -> None:
    partners = table(
        {"bank": BANK, "shop": {"sender_domains": ["shop.example"], "hosts": ["x.shop.example"]}}
    )
    arrived = Arrived("amtp", ("out.bank.example",))
    assert partners.breaches(["bank.example"], arrived) == ()
    [breach] = partners.breaches(["shop.example"], arrived)
    assert breach.reason == "hosts of bank may not send for shop.example"
    assert breach.mode == "refuse"
    assert partners.breaches([""], arrived) == ()  # its bounces


def test_a_host_that_several_partners_share_sends_for_all_of_them() -> None:
    entries = {name: {**BANK, "sender_domains": [f"{name}.example"]} for name in ("one", "two")}
    partners = table(entries)
    arrived = Arrived("amtp", ("out.bank.example",))
    assert partners.breaches(["one.example", "two.example"], arrived) == ()
    assert len(partners.breaches(["three.example"], arrived)) == 1


def test_the_gravest_breach_comes_first() -> None:
    partners = table(
        {
            "soft": {**BANK, "sender_domains": ["soft.example"], "inbound_mode": "report"},
            "held": {**BANK, "sender_domains": ["held.example"], "inbound_mode": "hold"},
            "hard": {**BANK, "sender_domains": ["hard.example"]},
        }
    )
    domains = ["soft.example", "held.example", "hard.example"]
    assert [one.mode for one in partners.breaches(domains, Arrived("any"))] == ["refuse", "hold", "report"]


@pytest.mark.covers("ITP-7")
@pytest.mark.parametrize(
    ("terms", "level", "fallback"),
    [
        ({"outbound": "any"}, None, None),
        ({"outbound": "any", "fallback": "smtp"}, None, "smtp"),
        ({"outbound": "any", "fallback": "never"}, None, "never"),
        ({"outbound": "encrypt"}, "encrypt", None),
        ({"outbound": "verify"}, "verify", None),
        ({"outbound": "mutual"}, "mutual", None),
        ({"outbound": "amtp"}, None, "never"),
        ({"outbound": "amtp", "fallback": "never"}, None, "never"),
        ({"outbound": "mt2"}, None, "never"),
    ],
)
def test_outbound_terms(terms: dict[str, str], level: str | None, fallback: str | None) -> None:
    found = table({"bank": {**BANK, **terms}}).outbound_for("bank.example")
    assert found is not None
    assert (found.tls_level, found.fallback) == (level, fallback)
    assert found.hosts.covers("out.bank.example")
    assert found.only == (terms["outbound"] if terms["outbound"] in ("amtp", "mt2") else None)


def test_no_terms_where_none_are_agreed() -> None:
    partners = table({"bank": BANK})
    assert partners.outbound_for("other.example") is None
    assert partners.inbound_demand("other.example") == ("any", "report")
    assert partners.inbound_demand("bank.example") == ("amtp", "refuse")


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize(
    ("partners", "key"),
    [
        ({"a": {**BANK, "sender_domains": []}}, 'partners."a": `sender_domains`'),
        ({"a": {**BANK, "sender_domains": ["b..example"]}}, 'partners."a".sender_domains: '),
        ({"a": {**BANK, "hosts": ["b\0.example"]}}, 'partners."a".hosts: '),
        ({"a": {**BANK, "hosts": []}}, 'partners."a".hosts: inbound = "amtp" needs'),
        ({"a": {**BANK, "outbound": "amtp", "fallback": "smtp"}}, 'partners."a".fallback: '),
        ({"a": BANK, "b": BANK}, 'partners."b".sender_domains: '),
        ({"a": {**BANK, "sender_domains": ["us.example"]}}, 'partners."a".sender_domains: us.example is'),
        (
            {"a": {**BANK, "sender_domains": [".us.example"]}},
            'partners."a".sender_domains: us.example is',
        ),
    ],
)
def test_entries_that_contradict_themselves(partners: dict[str, Any], key: str) -> None:
    with pytest.raises(PartnerError) as raised:
        table(partners, domains={"us.example": {}})
    assert str(raised.value).startswith(key)


@given(st.lists(st.text(max_size=20)), st.sampled_from(CHANNELS), st.lists(st.text(max_size=20)))
def test_any_names_break_nothing(domains: list[str], channel: InboundChannel, hosts: list[str]) -> None:
    breaches = table({"bank": BANK}).breaches(domains, Arrived(channel, tuple(hosts)))
    assert all(breach.partner == "bank" for breach in breaches)
