"""Directories asked for CAs: a real slapd, and servers that lie (MT2-24b)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding
from tests.net.directories import Names, directory, liar
from tests.peers import openldap
from tests.peers.addresses import loopback_address
from tests.peers.openldap import OpenLdap, domain_entry, referral_entry

from outrider.delivery.lookup import LookupTemporary, NoSuchName
from outrider.identity.authorities import CaStores
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.delegated_authorities import AuthorityLookupFailed, DelegatedAuthorities
from outrider.net import ldap_search
from outrider.net.ldap_directory import MAX_OCTETS, LdapDirectory
from outrider.net.ldap_search import LdapMissing, base_of, filter_of, load_ldap, read_referral
from outrider.routing.private_addresses import AddressGuard
from outrider.testing.ca import write_tls_files

DOMAIN = "bank.example"
LDAP = "ldap.bank.example"
SOON = 5
"""Seconds; more than any of this takes."""


def authority(name: str = "Bank CA") -> CertificateAuthority:
    return CertificateAuthority.create(name, datetime.now(UTC), issuer_domain=DOMAIN)


def der(one: CertificateAuthority) -> bytes:
    return one.certificate.public_bytes(Encoding.DER)


BANK = authority()


@pytest.fixture(scope="module")
def bank() -> Iterator[OpenLdap]:
    """The bank's directory, honest."""
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [der(BANK)])]) as server:
        yield server


def at(server: OpenLdap | str, port: int = 389, secure: bool = False) -> Names:
    """DNS that leads to this server."""
    address = server if isinstance(server, str) else server.address
    return Names({DOMAIN: [(port, LDAP)]}, {LDAP: [address]}, secure)


async def failure(names: Names, domain: str = DOMAIN, **options: object) -> AuthorityLookupFailed:
    async with directory(names, **options) as client:  # type: ignore[arg-type]
        with pytest.raises(AuthorityLookupFailed) as caught:
            await client.find(domain)
        return caught.value


async def found(names: Names, domain: str = DOMAIN, **options: object) -> DelegatedAuthorities:
    async with directory(names, **options) as client:  # type: ignore[arg-type]
        return await client.find(domain)


# -- an honest one -----------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-24b")
async def test_a_domains_directory_gives_its_ca(bank: OpenLdap) -> None:
    answer = await found(at(bank))
    assert answer.certificates == (BANK.certificate,)
    assert (answer.domain, answer.via, answer.secure) == (DOMAIN, "ldap", False)
    assert answer.how == "LDAP at ldap.bank.example, unsigned LDAP over unsigned DNS"
    [search, *_] = bank.searches()
    assert 'base="cn=inetResources,dc=bank,dc=example"' in search
    assert 'filter="(&(objectClass=inetDnsDomain)(cn=bank.example))"' in search
    assert (await found(at(bank, secure=True))).how.endswith("unsigned LDAP over DNSSEC-secure DNS")


@pytest.mark.covers("MT2-24b")
async def test_what_is_not_there_is_said_so(bank: OpenLdap) -> None:
    names = at(bank)
    names.servers = {"mx.bank.example": [(389, LDAP)], "other.example": [(389, LDAP)]}
    for domain in ("mx.bank.example", "other.example"):
        error = await failure(names, domain)
        assert not error.temporary
        assert str(error) == f"{LDAP} has no entry for {domain}"


@pytest.mark.covers("MT2-24b")
async def test_several_generations_of_a_ca(bank: OpenLdap) -> None:
    others = [authority(f"Bank CA {number}") for number in range(3)]
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [der(one) for one in others])]) as server:
        answer = await found(at(server))
        assert {one.subject for one in answer.certificates} == {one.certificate.subject for one in others}


@pytest.mark.covers("MT2-24b")
async def test_the_next_server_is_asked_when_one_is_gone(bank: OpenLdap) -> None:
    names = Names(
        {DOMAIN: [(389, "gone.bank.example"), (389, LDAP)]},
        {"gone.bank.example": [loopback_address()], LDAP: [bank.address]},
    )
    assert (await found(names)).certificates == (BANK.certificate,)


@pytest.mark.covers("MT2-24b")
async def test_under_tls_the_server_can_prove_itself(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    public = CertificateAuthority.create("Public", now, kind="public")
    files = write_tls_files(tmp_path, public, public.issue_host([LDAP, DOMAIN], now))
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [der(BANK)])], tls=(files.certificate, files.key)) as server:
        names = at(server, port=636)
        proven = await found(names, stores=CaStores.of([public.certificate]))
        assert proven.secure
        assert proven.how == (
            "LDAP at ldap.bank.example, LDAP under TLS, server proven "
            "(dNSName of the recipient domain, public CA)"
        )
        unknown = await found(names)
        assert not unknown.secure
        assert "server not proven (unknown-ca)" in unknown.how
        names.servers = {"other.example": [(636, LDAP)]}
        error = await failure(names, "other.example", stores=CaStores.of([public.certificate]))
        assert "no entry" in str(error)


@pytest.mark.covers("MT2-24b")
async def test_a_servers_own_name_proves_only_with_signed_dns(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    public = CertificateAuthority.create("Public", now, kind="public")
    files = write_tls_files(tmp_path, public, public.issue_host([LDAP], now))
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [der(BANK)])], tls=(files.certificate, files.key)) as server:
        stores = CaStores.of([public.certificate])
        assert not (await found(at(server, port=636), stores=stores)).secure
        assert (await found(at(server, port=636, secure=True), stores=stores)).secure


@pytest.mark.covers("MT2-24b")
def test_it_runs_on_uvloop_too(bank: OpenLdap, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    files = write_tls_files(tmp_path, BANK, BANK.issue_host([LDAP], now))
    entries = [domain_entry(DOMAIN, [der(BANK)])]
    with (
        OpenLdap(DOMAIN, entries, tls=(files.certificate, files.key)) as under_tls,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        assert runner.run(found(at(bank))).certificates == (BANK.certificate,)
        assert runner.run(found(at(under_tls, port=636))).certificates == (BANK.certificate,)


# -- DNS says where ----------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-24b")
async def test_without_a_server_in_dns_nobody_is_asked() -> None:
    for answer, temporary in ((LookupTemporary("SERVFAIL"), True), (NoSuchName("NXDOMAIN"), False)):
        error = await failure(Names({DOMAIN: answer}, {}))
        assert error.temporary is temporary
    assert not (await failure(Names({}, {}))).temporary
    assert not (await failure(Names({DOMAIN: []}, {}))).temporary  # target "."
    assert (await failure(Names({DOMAIN: [(389, LDAP)]}, {LDAP: LookupTemporary("time-out")}))).temporary


@pytest.mark.covers("MT2-24b", "SEC-162")
@pytest.mark.parametrize("port", [22, 25, 388, 3268, 6379, 65535])
async def test_only_the_ports_of_ldap_are_connected_to(port: int) -> None:
    names = Names({DOMAIN: [(port, LDAP)]}, {LDAP: ["127.0.0.1"]})
    error = await failure(names)
    assert str(error) == "bank.example names no directory at port 389 or 636"
    assert names.asked == []


@pytest.mark.covers("MT2-24b", "SEC-158")
async def test_only_public_addresses_are_connected_to() -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("it was asked")

    address = loopback_address()
    async with liar(address, never) as connections:
        for bad in (address, "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.1.1", "0.0.0.0"):
            error = await failure(at(bad), guard=AddressGuard())
            assert not error.temporary
            assert f"{LDAP} is not asked: " in str(error)
        assert connections == []


# -- referrals ---------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-24b")
async def test_referrals_inside_the_domain_are_followed(bank: OpenLdap) -> None:
    """One that answers for what it does not hold, and one that has an entry that refers."""
    names = Names(
        {DOMAIN: [(389, "first.bank.example")]},
        {"ldap.bank.example": [bank.address]},
    )
    with OpenLdap("elsewhere.example", refer_to=f"ldap://{LDAP}") as first:
        names.hosts = {**names.hosts, "first.bank.example": [first.address]}
        assert (await found(names)).certificates == (BANK.certificate,)
    entry = referral_entry(openldap.base_of(DOMAIN), f"ldap://{LDAP}/{openldap.base_of(DOMAIN)}")
    with OpenLdap(DOMAIN, [entry], with_base=False) as second:
        names.hosts = {**names.hosts, "first.bank.example": [second.address]}
        answer = await found(names)
        assert answer.certificates == (BANK.certificate,)
        assert answer.how.startswith("LDAP at ldap.bank.example, ")


@pytest.mark.covers("MT2-24b")
async def test_two_referrals_and_no_more(bank: OpenLdap) -> None:
    hosts = {LDAP: [bank.address]}
    with (
        OpenLdap("x.example", refer_to="ldap://b.bank.example") as a,
        OpenLdap("x.example", refer_to=f"ldap://{LDAP}") as b,
        OpenLdap("x.example", refer_to="ldap://a.bank.example") as c,
    ):
        hosts |= {f"{name}.bank.example": [one.address] for name, one in (("a", a), ("b", b), ("c", c))}
        assert (await found(Names({DOMAIN: [(389, "a.bank.example")]}, hosts))).certificates
        error = await failure(Names({DOMAIN: [(389, "c.bank.example")]}, hosts))
        assert str(error) == "the directory of bank.example refers further than 2 times"


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    "address",
    [
        "ldap://ldap.victim.example",
        "ldap://evilbank.example",
        "ldap://127.0.0.1",
        "ldap://localhost",
        "ldap://",
        "ldap://in.bank.example:25",
        "ldap://in.bank.example:636",
        "ldaps://in.bank.example:389",
        "ldapi://in.bank.example",
        "ldap://in.bank.example/cn=inetResources,dc=victim,dc=example",
        "ldap://in.bank.example/cn=bank.example,o=bank",
    ],
)
async def test_no_referral_leads_outside(address: str) -> None:
    """To another domain, another port, another tree: nobody is connected to, or even looked up."""
    with pytest.raises(ValueError, match=r"^[ -~]+$"):
        read_referral(address, DOMAIN)


@pytest.mark.covers("MT2-24b")
async def test_a_real_server_that_refers_outside_is_not_followed() -> None:
    with OpenLdap("x.example", refer_to="ldap://ldap.victim.example") as server:
        names = at(server)
        error = await failure(names)
        assert "'ldap.victim.example' is not inside bank.example" in str(error)
        assert not error.temporary
        assert names.asked == [LDAP]


@pytest.mark.covers("MT2-24b", "SEC-162")
async def test_the_library_follows_no_referral_by_itself() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    address = loopback_address()
    with OpenLdap("x.example", refer_to=f"ldap://{address}") as server:
        async with liar(address, deaf) as connections:
            assert f"'{address}' is not inside" in str(await failure(at(server)))
            assert connections == []


@pytest.mark.covers("MT2-24b")
def test_a_referral_may_say_where_inside() -> None:
    good = read_referral("ldap://in.bank.example/cn=inetResources,dc=sub,dc=bank,dc=example??sub", DOMAIN)
    assert (good.host, good.port, good.base) == (
        "in.bank.example", 389, "cn=inetResources,dc=sub,dc=bank,dc=example",
    )  # fmt: skip
    assert read_referral("ldaps://BANK.example", DOMAIN).port == 636
    for bad in ("", "x", "http://in.bank.example", "ldap://in.bank.example:70000", "ldap://in.bank.example:x",
                "ldap://in.bank.example\r\n", "ldap://" + "a" * 2000, "ldap://in.bänk.example"):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            read_referral(bad, DOMAIN)


# -- liars -------------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-24b")
async def test_an_answer_about_another_domain_is_dropped() -> None:
    """A server that answers with whatever it has; here an alias makes slapd do so."""
    entry = domain_entry("victim.example", [der(authority("Victim CA"))], base=openldap.base_of(DOMAIN))
    with OpenLdap(DOMAIN, [entry]) as server:
        error = await failure(at(server))
        assert str(error) == f"{LDAP} has no CA certificate for {DOMAIN}"
    assert ldap_search._read(
        [("cn=x", {"cn": [b"victim.example"], "cACertificate;binary": [b"x"]})], DOMAIN
    ) == (ldap_search.SearchResult())


@pytest.mark.covers("MT2-24b")
async def test_certificates_that_are_none_of_a_ca_are_not_taken() -> None:
    host = BANK.issue_host(["mx.bank.example"], datetime.now(UTC)).certificate.public_bytes(Encoding.DER)
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [host])]) as server:
        error = await failure(at(server))
        assert "a certificate of no authority" in str(error)
        assert not error.temporary


@pytest.mark.covers("MT2-24b")
async def test_an_oversized_answer_is_cut_off() -> None:
    names = "".join(f"cn: {number}{'x' * 60}\n" for number in range(2000))
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [der(BANK)]) + names]) as server:
        error = await failure(at(server))
        assert str(error) == f"{LDAP} has sent more than 64 KiB"
        assert not error.temporary


@pytest.mark.covers("MT2-24b")
async def test_a_flood_is_cut_off() -> None:
    """A message that says that it has two gigabytes, and goes on and on."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1)
        writer.write(b"\x30\x84\x7f\xff\xff\xff\x02\x01\x01")
        while True:
            writer.write(bytes(16_384))
            sent += 16_384
            await writer.drain()

    address = loopback_address()
    async with liar(address, flood):
        error = await failure(at(address))
    assert str(error) == f"{LDAP} has sent more than {MAX_OCTETS // 1024} KiB"


@pytest.mark.covers("MT2-24b")
async def test_a_server_that_keeps_silent_ends_in_time_and_holds_no_thread() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    address = loopback_address()
    with OpenLdap(DOMAIN, [domain_entry(DOMAIN, [der(BANK)])]) as good:
        names = Names(
            {"slow.bank.example": [(389, "slow.bank.example")], DOMAIN: [(389, LDAP)]},
            {"slow.bank.example": [address], LDAP: [good.address]},
        )
        async with liar(address, silent), directory(names, timeout_s=1.0) as client:
            slow = [client.find("slow.bank.example") for _ in range(8)]
            for error in await asyncio.gather(*slow, return_exceptions=True):
                assert isinstance(error, AuthorityLookupFailed)
                assert error.temporary
                assert "not answered within 1 s" in str(error)
            async with asyncio.timeout(SOON):
                while not await answers(client):  # the threads are told by the end of their connections
                    continue


async def answers(client: LdapDirectory) -> bool:
    """Whether there is a thread to ask with, and so an answer."""
    try:
        return bool((await client.find(DOMAIN)).certificates)
    except AuthorityLookupFailed:
        return False


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x0c\x02\x01\x07\x65\x07\x0a\x01\x00\x04\x00\x04\x00",  # the answer to another question
        b"\x30\x80\x02\x01\x01\x65\x00\x00",
        b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x21\x04\x00\x04\x00",  # result 33
        b"\x30\x03\x02\x01\x01",
        b"\x30\x1c\x02\x01\x01\x64\x17\x04\x02\xff\xfe\x30\x11\x30\x0f\x04\x02\xff\xfe\x31\x09\x04\x07\xff\xff\xff"
        b"\xff\xff\xff\xff",
    ],
)
async def test_nonsense_is_a_failure_that_may_pass(octets: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(octets)
        await writer.drain()
        writer.close()

    address = loopback_address()
    async with liar(address, babble):
        error = await failure(at(address), timeout_s=3.0)
    assert error.temporary
    assert str(error).isprintable()


@pytest.mark.covers("MT2-24b")
async def test_whoever_gives_up_leaves_nothing_open() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    address = loopback_address()
    async with liar(address, silent) as connections, directory(at(address)) as client:
        tasks = [asyncio.create_task(client.find(DOMAIN)) for _ in range(6)]
        async with asyncio.timeout(SOON):
            while len(connections) < len(tasks):
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)


# -- what is put into a search -----------------------------------------------------------------------------


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    "name",
    ["*", "a)(objectclass=*", "a\0b", "a\\2a", "a,dc=victim", "a+cn=x", '"a"', "#a", " a ", "a=b", "é"],
)
def test_names_cannot_change_a_search(name: str) -> None:
    import ldap.dn
    from ldap.filter import filter_format

    pairs = ldap.dn.str2dn(base_of(name))
    assert [one[0][:2] for one in pairs] == [
        ("cn", "inetResources"),
        *(("dc", part) for part in name.split(".")),
    ]
    told = filter_of(name)
    assert told.startswith("(&(objectclass=inetDnsDomain)(cn=")
    assert told.endswith("))")
    inner = told.removeprefix("(&(objectclass=inetDnsDomain)(cn=").removesuffix("))")
    assert not set(inner) & set("()*\0")
    assert inner == filter_format("%s", [name])


@pytest.mark.covers("MT2-24b")
async def test_an_injected_name_finds_nothing_on_a_real_server(bank: OpenLdap) -> None:
    """Such a name never comes so far; the search would not be fooled if it did."""
    names = at(bank)
    for name in ("*", "bank.example)(cn=*", "*.example"):
        names.servers = {name: [(389, LDAP)]}
        assert not (await failure(names, name)).temporary


# -- the library -------------------------------------------------------------------------------------------


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(ldap_search.importlib, "import_module", missing)
    with pytest.raises(LdapMissing, match="needs python-ldap") as caught:
        load_ldap()
    assert "outrider[ldap]" in caught.value.remedy
