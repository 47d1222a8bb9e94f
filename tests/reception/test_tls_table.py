"""The TLS-2 table, cell by cell, and who may be told to use TLS."""

from __future__ import annotations

import pytest

from outrider.config.schema import Relay
from outrider.model.reply import Reply
from outrider.reception.interface import TlsSummary
from outrider.reception.relay import tls_table
from tests.reception.rig import CLIENT, FRIEND, TLS, Rig

MUST = "530 5.7.0 Must issue a STARTTLS command first"
NOT_OURS = "550 5.7.1 We do not accept mail for domain x.example"


def wired(*, listed: bool) -> Rig:
    rig = Rig()
    for domain in ("x.example", "a.example", "backup.example"):
        rig.lookup.mx_hosts[domain] = ["other.example", "mx.a.example"] if listed else ["other.example"]
    rig.lookup.hosts.update({"other.example": ["192.0.2.99"], "mx.a.example": ["192.0.2.25"]})
    return rig


@pytest.mark.covers("TLS-2")
@pytest.mark.parametrize(
    ("listed", "recipient", "expected"),
    [
        (False, "user@x.example", MUST),
        (True, "user@x.example", NOT_OURS),
        (False, "bob@a.example", MUST),
        (True, "bob@a.example", "250 2.1.5 Recipient ok"),
        (True, "nobody@a.example", "550 5.1.1 No such user here: <nobody@a.example>"),
        (False, "user@backup.example", MUST),
        (True, "user@backup.example", "250 2.1.5 Recipient ok"),
    ],
)
async def test_the_table(listed: bool, recipient: str, expected: str) -> None:
    rig = wired(listed=listed)
    session = await rig.session(require_tls=True)
    assert str(await rig.rcpt(session, recipient)) == expected


@pytest.mark.covers("TLS-2")
async def test_a_trusted_client_is_held_to_the_table_too() -> None:
    for listed, expected in ((False, MUST), (True, NOT_OURS)):
        rig = wired(listed=listed)
        assert str(await rig.rcpt(await rig.session(FRIEND, require_tls=True), "user@x.example")) == expected


@pytest.mark.covers("TLS-2")
@pytest.mark.parametrize("require_tls", [False, True])
async def test_with_tls_or_where_none_is_wanted_dns_is_not_asked(require_tls: bool) -> None:
    rig = wired(listed=True)
    session = await rig.session(FRIEND, require_tls=require_tls, tls=TLS if require_tls else None)
    assert (await rig.rcpt(session, "user@x.example")).is_positive
    assert (await rig.rcpt(session, "bob@a.example")).is_positive
    assert [one for one in rig.lookup.asked if not one.startswith("PTR")] == []
    stranger = await rig.session(CLIENT, require_tls=require_tls, tls=TLS if require_tls else None)
    assert str(await rig.rcpt(stranger, "user@x.example")) == NOT_OURS


@pytest.mark.covers("TLS-2")
async def test_being_listed_by_the_implicit_mx_counts() -> None:
    rig = Rig()
    rig.lookup.hosts["x.example"] = ["192.0.2.25"]
    assert str(await rig.rcpt(await rig.session(require_tls=True), "user@x.example")) == NOT_OURS


@pytest.mark.covers("TLS-2")
@pytest.mark.parametrize(
    ("recipient", "expected"), [("user@x.example", MUST), ("bob@a.example", "250 2.1.5 Recipient ok")]
)
async def test_what_dns_does_not_tell_never_obliges_and_never_permits(recipient: str, expected: str) -> None:
    for silent in ("x.example", "mx.a.example"):
        rig = wired(listed=True)
        rig.lookup.silent.update({silent, "a.example"})
        assert str(await rig.rcpt(await rig.session(require_tls=True), recipient)) == expected
    assert (
        str(await (without := Rig(dns=False)).rcpt(await without.session(require_tls=True), recipient))
        == expected
    )


@pytest.mark.covers("TLS-2b")
async def test_only_agreed_networks_must_use_tls_for_our_own_domain() -> None:
    rig = Rig(relay=Relay(require_tls_from=("203.0.113.0/24",)))
    assert str(await rig.rcpt(await rig.session(FRIEND), "bob@a.example")) == MUST
    assert (await rig.rcpt(await rig.session(FRIEND, tls=TLS), "bob@a.example")).is_positive
    assert (await rig.rcpt(await rig.session(CLIENT), "bob@a.example")).is_positive


@pytest.mark.covers("TLS-3")
async def test_a_certificate_that_nobody_vouches_for_costs_nothing() -> None:
    from outrider.identity.authorities import CaStores
    from outrider.identity.client_certificate import ClientIdentifier

    rig = Rig(clients=ClientIdentifier(CaStores()))
    session = await rig.session(tls=TlsSummary("TLSv1.2", "x", (b"not even DER",)))
    assert (await rig.send(session)).code == 250
    assert b"client certificate" not in rig.spool.given[0].trace
    assert "tls.client.unproven" in {fact.name for fact in rig.spool.given[0].facts}


@pytest.mark.parametrize("listed", [True, False, None])
@pytest.mark.parametrize("configured", [True, False])
def test_the_function_answers_every_cell(listed: bool | None, configured: bool) -> None:
    reply = tls_table(listed=listed, configured=configured, domain="x.example")
    assert reply is None or isinstance(reply, Reply)
    if configured and listed is not False:
        assert reply is None
