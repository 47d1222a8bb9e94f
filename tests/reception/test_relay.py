"""Who may send elsewhere: networks, logins, certificates, relay domains; no spelling opens a relay."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from outrider.config.schema import Relay
from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.certificates import fingerprints_of
from outrider.identity.client_certificate import ClientIdentifier
from outrider.model.address import AddressError, parse_path
from outrider.reception.interface import TlsSummary
from tests.reception.rig import CLIENT, FRIEND, NOW, Rig

FAR = "550 5.7.1 We do not accept mail for domain far.example"


@pytest.mark.covers("SMTP-8", "SEC-73")
async def test_strangers_may_not_and_friends_may() -> None:
    rig = Rig()
    assert str(await rig.rcpt(await rig.session(CLIENT), "x@far.example")) == FAR
    assert str(await rig.rcpt(await rig.session(CLIENT), "x@far.example", sender="")) == FAR
    assert (await rig.rcpt(await rig.session(FRIEND), "x@far.example")).is_positive
    assert (
        await rig.rcpt(await rig.session(CLIENT, login="ann"), "x@far.example", sender="ann@a.example")
    ).is_positive
    assert (await rig.rcpt(await rig.session(CLIENT), "x@backup.example")).is_positive
    assert [because for _, because in rig.observer.granted] == ["relay.networks", "login ann"]


@pytest.mark.covers("TLS-2b", "TLS-3")
async def test_a_proven_name_or_a_pinned_print_may_relay() -> None:
    moment = datetime.fromtimestamp(NOW - 3600, UTC)
    authority = CertificateAuthority.create("Test", moment)
    issued = authority.issue_host(["hub.b.example"], moment)
    der = issued.certificate.public_bytes(Encoding.DER)
    tls = TlsSummary("TLSv1.3", "x", (der,))
    trusting = ClientIdentifier(CaStores.of(private=[authority.certificate]))
    prints = fingerprints_of(der)
    cases = [
        (Relay(certificate_names=("HUB.b.example",)), trusting, True),
        (Relay(certificate_names=("other.b.example",)), trusting, False),
        (Relay(certificate_names=("hub.b.example",)), ClientIdentifier(CaStores()), False),
        (Relay(certificate_fingerprints=(prints.certificate.upper(),)), ClientIdentifier(CaStores()), True),
        (Relay(certificate_fingerprints=(prints.public_key,)), ClientIdentifier(CaStores()), True),
        (Relay(certificate_fingerprints=("00" * 32,)), trusting, False),
        (Relay(), trusting, False),
    ]
    for relay, clients, expected in cases:
        rig = Rig(relay=relay, clients=clients)
        session = await rig.session(tls=tls)
        assert (await rig.rcpt(session, "x@far.example")).is_positive is expected, relay
        assert (await rig.rcpt(session, "bob@a.example")).is_positive
    rig = Rig(relay=Relay(certificate_names=("hub.b.example",)), clients=trusting)
    assert not (await rig.rcpt(await rig.session(), "x@far.example")).is_positive


SPELLINGS = [
    b"victim@far.example",
    b"Victim@FAR.example",
    b"@a.example:victim@far.example",
    b"@a.example,@b.example:victim@far.example",
    b'"victim@far.example"@a.example',
    b"victim%far.example@a.example",
    b"far.example!victim@a.example",
    b"victim@far.example@a.example",
    b"victim@far.example.",
    b"victim@a.example.far.example",
    b"victim@[127.0.0.1]",
    b"victim@[IPv6:::1]",
    b"victim@[192.0.2.99]",
    b"victim@127.0.0.1",
    b"@",
    b"victim",
    b'"victim@far.example"',
    b"victim%far.example@backup.example",
    b"far.example!victim@backup.example",
    b'"victim@far.example"@backup.example',
    b";sleep 66;@a.example",
    b"|cmd@a.example",
    b"/etc/passwd@a.example",
    b":include:/etc/passwd@a.example",
    b"\"x'/**/UNION/**/SELECT/**/X'41'--\"@a.example",
]


@pytest.mark.covers("SEC-72", "SEC-73", "SEC-69")
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_relays_for_a_stranger(spelling: bytes) -> None:
    rig = Rig()
    try:
        address = parse_path(spelling, smtputf8=True)
    except AddressError:
        return
    assert address is not None
    for sender in ("ann@b.example", "", "ann@a.example"):
        reply = await rig.rcpt(await rig.session(), str(address), sender=sender)
        assert reply.is_permanent, spelling


@pytest.mark.covers("SEC-72", "SEC-73")
async def test_u_labels_and_a_labels_are_one_domain() -> None:
    rig = Rig(relay=Relay(domains=("bücher.example",)))
    session = await rig.session()
    assert (await rig.rcpt(session, "x@xn--bcher-kva.example")).is_positive
    assert (await rig.rcpt(session, "x@BÜCHER.example")).is_positive


async def test_postmaster_at_our_own_address_is_ours() -> None:
    rig = Rig()
    session = await rig.session()
    for spelling in ("postmaster", "Postmaster@[192.0.2.25]", "bob@[192.0.2.25]"):
        assert (await rig.rcpt(session, spelling)).is_positive, spelling
    assert str(await rig.rcpt(session, "nobody@[192.0.2.25]")).startswith("550 5.1.1")
    assert str(await (none := Rig(domains={})).rcpt(await none.session(), "postmaster")).startswith(
        "550 5.1.1"
    )
