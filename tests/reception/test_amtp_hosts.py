"""AMTP's hello: who the client is, at what price, and what follows for logins and announcements."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from outrider.config.schema import Amtp, Partner, Rule
from outrider.identity.authorities import CaStores
from outrider.identity.credentials import parse_users
from outrider.identity.host_identity import HostIdentifier, HostSettings
from outrider.model.envelope import Arrival
from outrider.model.facts import Provenance
from outrider.reception.lookups import ClientNames
from tests.reception.amtp_rig import NAME, amtp_rig
from tests.reception.rig import CLIENT, FRIEND

FAILED = (504, "5.7.8", "Authentication failed")


@pytest.mark.covers("AMTP-2a", "ITP-1")
async def test_a_proven_host_is_a_fact_of_its_session(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    session = await rig.host()
    host = session.facts.get("host", Provenance.PROVEN)
    assert host is not None
    assert (host.value, host.how) == (NAME, "public CA, EHLO, PTR")
    assert session.connection is Arrival.AMTP_PUBLIC
    assert session.facts.value("amtp.connection") == "public"
    assert session.facts.value("tls.client.name") == (NAME,)
    assert session.facts.value("client.ptr", Provenance.PROVEN) == (NAME,)
    assert rig.observer.hosts == [f"{NAME}: public CA, EHLO, PTR"]


@pytest.mark.covers("AMTP-3")
async def test_a_failed_proof_leaves_no_host_behind(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    session = await rig.host()
    reply = await rig.hello(session, "other.b.example")
    assert (reply.code, reply.status, reply.text) == FAILED
    assert session.connection is Arrival.OTHER
    transaction, refused = await rig.mail(session, "com/optin")
    assert transaction is None
    assert refused.code == 504
    assert rig.observer.hosts[1:] == ["ehlo-mismatch 504"]


@pytest.mark.covers("AMTP-2a", "SEC-154")
@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        (ClientNames(), "ptr-none 504"),
        (ClientNames(("x.b.example",)), "ptr-mismatch 504"),
        (ClientNames((), (NAME,)), "ptr-not-forward 504"),
        (ClientNames(("x.b.example",), (NAME,), (NAME,)), "ptr-timeout 451"),
        (None, "ptr-timeout 451"),
    ],
)
async def test_what_dns_says_of_the_address_decides(
    names: ClientNames | None, outcome: str, tmp_path: Path
) -> None:
    rig = amtp_rig(tmp_path)
    if names is None:
        rig.lookup.silent.add(str(CLIENT))
    else:
        rig.lookup.names[str(CLIENT)] = names
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"))
    reply = await rig.hello(session)
    assert rig.observer.hosts == [outcome]
    assert reply.code == int(outcome[-3:])


@pytest.mark.covers("AMTP-2a", "SEC-153")
async def test_without_forward_confirmation_the_ptr_name_is_enough(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, HostSettings(forward_confirm=False))
    rig.lookup.names[str(CLIENT)] = ClientNames((), (NAME,))
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"))
    assert (await rig.hello(session)).is_positive


@pytest.mark.covers("AMTP-19")
async def test_nobody_asks_for_a_private_hosts_address(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    session = await rig.host(private=True)
    assert session.connection is Arrival.AMTP_PRIVATE
    assert rig.lookup.asked == []


@pytest.mark.covers("AMTP-2a")
async def test_a_network_that_may_relay_has_to_prove_itself_too(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"), FRIEND)
    assert (await rig.hello(session)).code == 504
    assert rig.observer.hosts == ["ptr-none 504"]


@pytest.mark.covers("AMTP-2a")
async def test_the_same_peer_is_validated_once(tmp_path: Path) -> None:
    """The very object that the first connection found is what the second gets: no signature is checked."""
    rig = amtp_rig(tmp_path)
    assert rig.hosts is not None
    made = rig.maker.host(rig.public, f"DNS:{NAME}")
    first = rig.hosts.examine(made.chain, rig.now)
    rig.lookup.names[str(CLIENT)] = ClientNames((NAME,))
    for _ in range(3):
        assert (await rig.hello(await rig.connect(made))).is_positive
    assert rig.hosts.examine(made.chain, rig.now) is first


@pytest.mark.covers("AMTP-6")
async def test_a_listener_for_private_hosts_takes_no_public_one(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    rig.lookup.names[str(CLIENT)] = ClientNames((NAME,))
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"), only_private=True)
    assert (await rig.hello(session)).code == 504
    assert rig.observer.hosts == ["not-private 504"]


@pytest.mark.covers("AMTP-19", "AMTP-20")
async def test_a_private_host_logs_in_before_anything_else(tmp_path: Path) -> None:
    rules = (Rule(name="r", action="refuse", when={"mpc": "com/optout"}),)
    users = parse_users(f"{NAME} senders=* certificates={NAME}")
    rig = amtp_rig(tmp_path, rules=rules, users=users)
    session = await rig.host(private=True)
    assert rig.reception.login_is_owed(session)
    assert rig.reception.announced(session) == ()
    transaction, reply = await rig.mail(session, "com/optin")
    assert transaction is None
    assert reply.code == 530
    session.login, session.login_mechanism = NAME, "PLAIN"
    assert (await rig.hello(session)).is_positive
    assert not rig.reception.login_is_owed(session)
    assert rig.reception.announced(session) == ("DENY=com/optout",)
    assert (await rig.mail(session, "com/optin"))[1].is_positive
    assert (await rig.mail(session, "com/optout"))[1].code == 550


@pytest.mark.covers("AMTP-19")
@pytest.mark.parametrize("auth", ["offered", "none"])
async def test_a_login_is_owed_only_where_it_is_required(auth: str, tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, amtp=Amtp(private_auth=auth))  # type: ignore[arg-type]
    session = await rig.host(private=True)
    assert (await rig.mail(session, "com/optin"))[1].is_positive


@pytest.mark.covers("AMTP-19")
@pytest.mark.parametrize(
    ("login", "fits"),
    [(NAME, True), (NAME.upper(), True), ("robot", True), ("ann", False), ("b.example", False), ("", False)],
)
async def test_a_login_is_one_that_the_certificate_names(login: str, fits: bool, tmp_path: Path) -> None:
    users = parse_users(f"robot certificates={NAME}\nann certificates=x.example")
    rig = amtp_rig(tmp_path, users=users)
    session = await rig.host(private=True)
    refusal = rig.reception.login_refusal(session, login)
    assert (refusal is None) is fits
    assert refusal is None or (refusal.code, refusal.status) == (535, "5.7.8")


@pytest.mark.covers("AMTP-19")
async def test_matching_may_be_switched_off(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, amtp=Amtp(private_auth_match=False))
    session = await rig.host(private=True)
    assert rig.reception.login_refusal(session, "ann") is None


@pytest.mark.covers("ITP-8", "AMTP-2a")
async def test_an_authority_of_a_partner_vouches_for_its_hosts_alone(tmp_path: Path) -> None:
    bank = Partner(
        sender_domains=("bank.example",), hosts=("out.bank.example",), ca=("x.pem",), inbound="amtp"
    )
    rig = amtp_rig(tmp_path, partners={"bank": bank}, partner_hosts={"bank": HostIdentifier(CaStores())})
    root = rig.maker.root("Bank root")
    rig.partner_hosts["bank"].stores = CaStores.of([root.parsed])
    for name, code in (("out.bank.example", 250), ("in.bank.example", 504)):
        rig.lookup.names[str(CLIENT)] = ClientNames((name,))
        session = await rig.connect(rig.maker.host(root, f"DNS:{name}"))
        assert (await rig.hello(session, name)).code == code
    assert rig.observer.hosts == ["out.bank.example: public CA, EHLO, PTR", "unknown-ca 504"]


@pytest.mark.covers("AMTP-2a")
async def test_without_dns_a_public_host_waits(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, dns=False)
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"))
    assert (await rig.hello(session)).code == 451


@pytest.mark.covers("AMTP-3", "ITP-4a")
async def test_policy_judges_a_host_once_it_is_proven(tmp_path: Path) -> None:
    rules = (Rule(name="not them", action="refuse", when={"host": NAME}, stage="hello"),)
    rig = amtp_rig(tmp_path, rules=rules)
    rig.lookup.names[str(CLIENT)] = ClientNames((NAME,))
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"))
    reply = await rig.hello(session)
    assert reply.code == 550
    assert "not them" in reply.text


@pytest.mark.covers("AMTP-2a")
async def test_ipv6_addresses_have_names_too(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    address = ip_address("2001:db8::7")
    rig.lookup.names[str(address)] = ClientNames((NAME,))
    session = await rig.connect(rig.maker.host(rig.public, f"DNS:{NAME}"), address)
    assert (await rig.hello(session)).is_positive
