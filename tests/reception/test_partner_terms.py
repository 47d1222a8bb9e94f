"""Partners' terms in reception: by what mail may come that bears their name (ITP-8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.config.schema import Partner, Rule
from outrider.identity.authorities import CaStores
from outrider.identity.client_certificate import ClientIdentifier
from outrider.identity.host_identity import HostIdentifier
from outrider.model.content import Content, InlineBody
from outrider.model.facts import Provenance
from outrider.model.message import ItemState
from outrider.reception.interface import TlsSummary
from outrider.reception.lookups import ClientNames
from tests.reception.amtp_rig import amtp_rig
from tests.reception.rig import CLIENT, MESSAGE, TLS, Rig

HOST = "out.bank.example"
FROM_BANK = MESSAGE.replace(b"ann@b.example", b"ann@bank.example")


def bank(**more: Any) -> dict[str, Partner]:
    entry = {
        "sender_domains": ("bank.example",),
        "hosts": (HOST,),
        "inbound": "amtp",
        "inbound_mode": "refuse",
    }
    return {"bank": Partner(**{**entry, **more})}


@pytest.mark.covers("ITP-8")
async def test_a_forged_envelope_is_refused_at_mail() -> None:
    rig = Rig(partners=bank())
    transaction, reply = await rig.sender(await rig.session(), "ann@bank.example")
    assert transaction is None
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert "must come by amtp, this came by plain SMTP" in reply.text
    assert [breach[:2] for breach in rig.observer.breaches] == [("bank", "refuse")]


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize("field", [b"From: Bank <ann@bank.example>", b"From: x@y.example, ann@BANK.example"])
async def test_a_forged_from_field_is_refused_at_the_end(field: bytes) -> None:
    rig = Rig(partners=bank())
    session = await rig.session()
    reply = await rig.send(session, content=field + b"\r\n\r\nbody\r\n")
    assert reply.code == 550
    transaction = await rig.begun(session)
    await rig.recipient(transaction, "bob@a.example")
    headers = field + b"\r\n\r\n"
    large = rig.reception.headers(transaction, headers)
    assert large.code == 550  # type: ignore[union-attr]
    assert (await rig.send(session)).is_positive


@pytest.mark.covers("ITP-8", "ITP-5")
async def test_report_mode_tags_and_tells_once() -> None:
    rig = Rig(partners=bank(inbound_mode="report"))
    assert (await rig.send(await rig.session(), sender="ann@bank.example", content=FROM_BANK)).is_positive
    [message] = rig.spool.given
    assert [breach[:2] for breach in rig.observer.breaches] == [("bank", "report")]
    assert [event.text for event in message.events if event.kind == "verdict"] == [
        rig.observer.breaches[0][2]
    ]
    facts = {fact.name: fact.value for fact in message.facts}
    assert facts["partner.mismatch"] == "bank"
    assert facts["partner"] == "bank"
    assert message.items[0].state is ItemState.READY


@pytest.mark.covers("ITP-8")
async def test_hold_mode_holds() -> None:
    rig = Rig(partners=bank(inbound_mode="hold"))
    assert (await rig.send(await rig.session(), sender="ann@bank.example")).is_positive
    [item] = rig.spool.given[0].items
    assert item.state is ItemState.HELD
    assert "must come by amtp" in item.reason


@pytest.mark.covers("ITP-8")
@pytest.mark.parametrize(
    ("inbound", "tls", "taken"),
    [("any", None, True), ("tls", None, False), ("tls", TLS, True), ("tls-mutual", TLS, False)],
)
async def test_less_than_amtp_may_be_agreed(inbound: str, tls: TlsSummary | None, taken: bool) -> None:
    rig = Rig(partners=bank(inbound=inbound))
    transaction, _ = await rig.sender(await rig.session(tls=tls), "ann@bank.example")
    assert (transaction is not None) is taken


@pytest.mark.covers("ITP-8", "TLS-2b")
@pytest.mark.parametrize("of_partner", [False, True])
@pytest.mark.parametrize("name", [HOST, "other.example"])
async def test_mutual_tls_counts_by_the_partners_hosts_and_authorities(
    name: str, of_partner: bool, tmp_path: Path
) -> None:
    """Where the entry names a CA, a certificate of another proves nothing about its hosts."""
    maker = amtp_rig(tmp_path)
    own = maker.maker.root("Bank root")
    identifier = HostIdentifier(CaStores.of([own.parsed]))
    rig = Rig(
        partners=bank(inbound="tls-mutual", ca=("x.pem",)),
        partner_hosts={"bank": identifier},
        clients=ClientIdentifier(CaStores.of([maker.public.parsed])),
    )
    rig.now = maker.now
    made = maker.maker.host(own if of_partner else maker.public, f"DNS:{name}")
    session = await rig.session(tls=TlsSummary("TLSv1.3", "x", made.chain))
    transaction, reply = await rig.sender(session, "ann@bank.example")
    assert (transaction is not None) is (of_partner and name == HOST), reply


@pytest.mark.covers("ITP-8")
async def test_a_partners_host_is_held_to_its_domains(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, partners=bank())
    session = await rig.host(HOST)
    assert (await rig.mail(session, "com/optin", "ann@bank.example"))[1].is_positive
    _, reply = await rig.mail(session, "com/optin", "ann@shop.example")
    assert reply.code == 550
    assert "hosts of bank may not send for shop.example" in reply.text
    assert (await rig.sender(session, "", mpc=None))[1].is_positive


@pytest.mark.covers("ITP-8", "ITP-1")
async def test_a_proven_partner_is_a_fact_for_rules(tmp_path: Path) -> None:
    rules = (
        Rule(name="partners", action="accept", when={"partner": {"is": "bank", "provenance": "proven"}}),
        Rule(name="no adverts", action="refuse", when={"mpc": "com/*"}),
    )
    rig = amtp_rig(tmp_path, partners=bank(inbound_mode="report"), rules=rules)
    theirs = await rig.host(HOST)
    assert rig.reception.announced(theirs) == ()
    assert (await rig.mail(theirs, "com/optin", "ann@bank.example"))[1].is_positive
    rig.lookup.names.clear()
    others = await rig.host("mail.b.example")
    assert rig.reception.announced(others) == ("DENY=com/*",)
    assert (await rig.mail(others, "com/optin", "ann@bank.example"))[1].code == 550


@pytest.mark.covers("ITP-8", "SEC-152")
async def test_another_name_of_the_certificate_is_not_the_partners_host(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, partners=bank())
    made = rig.maker.host(rig.public, f"DNS:{HOST}", "DNS:www.bank.example")
    rig.lookup.names[str(CLIENT)] = ClientNames((HOST, "www.bank.example"))
    session = await rig.connect(made)
    assert (await rig.hello(session, HOST)).is_positive
    assert session.facts.value("partner", Provenance.PROVEN) == "bank"
    assert (await rig.hello(session, "www.bank.example")).is_positive
    assert session.facts.value("partner") is None
    assert [fact.value for fact in session.facts if fact.name == "host"] == ["www.bank.example"]
    _, reply = await rig.mail(session, "com/optin", "ann@bank.example")
    assert reply.code == 550


@pytest.mark.covers("ITP-8")
async def test_the_body_is_not_looked_at() -> None:
    rig = Rig(partners=bank())
    content = Content(b"From: x@y.example\r\n\r\n", InlineBody(b"From: ann@bank.example\r\n"))
    assert (await rig.send(await rig.session(), content=content)).is_positive
