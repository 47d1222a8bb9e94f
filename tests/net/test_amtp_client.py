"""The AMTP driver against scripted servers under TLS: who is it, what does it take, and what never
follows."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.net.client_jobs import HELLO, SETTINGS, Handler, Noted, job, script, serving
from tests.peers.certificates import DAY, CertificateAuthority, TlsFiles

from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet, ServerTerms
from outrider.identity import host_identity
from outrider.identity.authorities import CaStores, ca_stores
from outrider.identity.host_identity import HostRefusal, ServerIdentity, ServerQuestion, judge_server
from outrider.model.mpc import parse_mpc
from outrider.model.result import DeliveryResult, Kind
from outrider.net.amtp_client import AmtpConnection, AmtpDialler
from outrider.net.client_settings import SmtpClientParts
from outrider.net.client_tls import ClientTls
from outrider.net.tls_files import CertificateFiles
from outrider.routing.tls_policy import TlsRequirement

DOMAIN, TARGET = "peer.example", "gate.peer.example"
PORT = 10_125
TAKES = ("220 hi", "250 gate", "250 ok", "250 ok", "354 go", "250 taken", "221 bye")
OPTIN = parse_mpc("com/optin")
NOW = 1_900_000_000.0


def context(files: TlsFiles, *, wants: Path | None = None) -> ssl.SSLContext:
    """A server's TLS; `wants` is the authority of clients, whose certificates are then demanded."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    found.load_cert_chain(files.certificate, files.key)
    if wants is not None:
        found.verify_mode = ssl.CERT_REQUIRED
        found.load_verify_locations(wants)
    return found


def dialler(
    authority: CertificateAuthority, own: TlsFiles | None = None, observer: Noted | None = None
) -> AmtpDialler:
    own = own or authority.issue("client.example")
    tls = ClientTls(
        ca_stores([authority.authority.read_bytes()], []), CertificateFiles(own.certificate, own.key)
    )
    return AmtpDialler(SmtpClientParts(SETTINGS, tls, observer or Noted(), time.time))


def hop(address: str, terms: ServerTerms | None = None, **options: object) -> Hop:
    tls = options.pop("tls", TlsRequirement())
    where = (ip_address(address),)
    return Hop("amtp", TARGET, where, PORT, tls, terms=terms or ServerTerms(DOMAIN), **options)  # type: ignore[arg-type]


async def connect(dial: AmtpDialler, where: Hop) -> AmtpConnection:
    return await dial.connect(where, where.addresses[0])


async def carry(dial: AmtpDialler, where: Hop, code: str = "com/optin", **envelope: object) -> DeliveryResult:
    connection = await connect(dial, where)
    results = await connection.send(job(HELLO + b"hi\r\n", mpc=parse_mpc(code), **envelope))
    await connection.close()
    [result] = results.values()
    return result


async def unmet(dial: AmtpDialler, where: Hop) -> DeliveryResult:
    with pytest.raises(RequirementUnmet) as caught:
        await connect(dial, where)
    assert caught.value.result.kind is Kind.DEFERRED
    return caught.value.result


async def refused(dial: AmtpDialler, where: Hop) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await connect(dial, where)
    return caught.value


# --- the ordinary session ---------------------------------------------------------------------------


@pytest.mark.covers("AMTP-1", "AMTP-11", "AMTP-5")
async def test_both_sides_present_certificates_and_mail_carries_the_code(
    address: str, authority: CertificateAuthority
) -> None:
    tls = context(authority.issue(DOMAIN, TARGET), wants=authority.authority)
    noted = Noted()
    async with serving(address, script(*TAKES), port=PORT, tls=tls) as server:
        result = await carry(dialler(authority, observer=noted), hop(address))
    assert result.kind is Kind.RELAYED
    assert result.protocol == "amtp"
    assert f"verified {DOMAIN} (dNSName of the recipient domain" in result.tls
    lines = bytes(server.heard).split(b"\r\n")
    assert lines[0] == b"EHLO client.example"
    assert lines[1].startswith(b"MAIL FROM:<ann@a.example>")
    assert lines[1].endswith(b"MPC=com/optin")
    assert b"\r\nMPC:" not in server.heard
    assert server.heard.endswith(b"QUIT\r\n")
    assert ("opened", "amtp", result.tls) in noted.facts


@pytest.mark.covers("AMTP-12", "SMTP-3")
async def test_several_messages_go_over_one_session(address: str, authority: CertificateAuthority) -> None:
    more = ("250 ok", "250 ok", "354 go", "250 taken")
    tls = context(authority.issue(DOMAIN))
    async with serving(address, script(*TAKES[:-1], *more, "221 bye"), port=PORT, tls=tls) as server:
        connection = await connect(dialler(authority), hop(address))
        for code in ("com/optin", "net/individual"):
            [result] = (await connection.send(job(HELLO + b"hi\r\n", mpc=parse_mpc(code)))).values()
            assert result.kind is Kind.RELAYED
            assert connection.usable
        await connection.close()
    assert server.connections == 1
    assert b"MPC=com/optin" in server.heard
    assert b"MPC=net/individual" in server.heard


# --- is it the right server? (AMTP-5) ---------------------------------------------------------------

CLAIMED = ServerTerms(DOMAIN)
PROVING = ServerTerms(DOMAIN, must_prove=True)


@pytest.mark.covers("AMTP-5", "ITP-1")
@pytest.mark.parametrize(
    ("names", "terms", "words"),
    [
        ((DOMAIN,), PROVING, "dNSName of the recipient domain"),
        ((TARGET,), replace(PROVING, srv_secure=True), "DNSSEC-secure SRV"),
        ((TARGET,), replace(PROVING, named=True), "the configuration gives"),
        ((TARGET,), CLAIMED, "unsigned SRV"),
    ],
)
async def test_what_proves_a_server_is_recorded(
    address: str, authority: CertificateAuthority, names: tuple[str, ...], terms: ServerTerms, words: str
) -> None:
    noted = Noted()
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue(*names))):
        result = await carry(dialler(authority, observer=noted), hop(address, terms))
    assert result.kind is Kind.RELAYED
    assert words in result.tls
    [(_, identity, proven)] = [fact for fact in noted.facts if fact[0] == "judged"]
    assert proven is (terms is not CLAIMED)
    assert str(identity) in result.tls
    assert ("claimed " in result.tls) is (terms is CLAIMED)


@pytest.mark.covers("AMTP-5", "AMTP-1")
async def test_a_second_connection_to_the_same_server_costs_no_path_validation(
    address: str, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[str] = []

    def counted(
        chain: Sequence[bytes], question: ServerQuestion, stores: CaStores, now: float
    ) -> tuple[ServerIdentity | HostRefusal, float]:
        validated.append(question.recipient_domain)
        return judge_server(chain, question, stores, now)

    monkeypatch.setattr(host_identity, "judge_server", counted)
    dial = dialler(authority)
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue(DOMAIN))) as server:
        for _ in range(3):
            assert (await carry(dial, hop(address))).kind is Kind.RELAYED
        assert validated == [DOMAIN]
        await carry(dial, hop(address, ServerTerms(DOMAIN, srv_secure=True)))
    assert server.connections == 4
    assert validated == [DOMAIN, DOMAIN], "once for each question that a chain has to answer"


@pytest.mark.covers("AMTP-5", "ITP-7")
async def test_who_forges_the_srv_gains_nothing_where_proof_is_demanded(
    address: str, authority: CertificateAuthority
) -> None:
    """The forger owns a valid certificate for his own target, and that is all that it proves."""
    tls = context(authority.issue(TARGET))
    async with serving(address, script(*TAKES), port=PORT, tls=tls) as server:
        result = await unmet(dialler(authority), hop(address, PROVING))
    assert result.status == "4.7.5"
    assert "unsigned SRV record" in result.text
    assert DOMAIN in result.text
    assert server.heard == b"", "not a word is said to it"


@pytest.mark.covers("AMTP-5", "AMTP-1", "SEC-51")
@pytest.mark.parametrize("flaw", ["name", "expired", "not yet", "authority"])
async def test_a_server_that_proves_nothing_gets_no_mail_even_without_a_demand(
    address: str, authority: CertificateAuthority, tmp_path: Path, flaw: str
) -> None:
    stranger = CertificateAuthority(tmp_path / "stranger", "Stranger")
    files = {
        "name": lambda: authority.issue("other.example"),
        "expired": lambda: authority.issue(DOMAIN, TARGET, valid_until=-DAY),
        "not yet": lambda: authority.issue(DOMAIN, TARGET, valid_from=timedelta(days=2)),
        "authority": lambda: stranger.issue(DOMAIN, TARGET),
    }[flaw]()
    async with serving(address, script(*TAKES), port=PORT, tls=context(files)) as server:
        result = await unmet(dialler(authority), hop(address))
    assert result.status == "4.7.5"
    assert "not proven" in result.text
    assert server.heard == b""


@pytest.mark.covers("AMTP-5", "ITP-7")
async def test_only_the_cas_that_a_partner_entry_names_may_vouch(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    theirs = CertificateAuthority(tmp_path / "theirs", "Bank")
    where = hop(address, PROVING, tls=TlsRequirement(authorities=(str(theirs.authority),)))
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue(DOMAIN))) as server:
        await unmet(dialler(authority), where)
        assert server.heard == b""
    async with serving(address, script(*TAKES), port=PORT, tls=context(theirs.issue(DOMAIN))):
        assert (await carry(dialler(authority), where)).kind is Kind.RELAYED


@pytest.mark.covers("AMTP-5")
async def test_ca_files_that_cannot_be_read_make_mail_wait_with_the_reason(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    where = hop(address, PROVING, tls=TlsRequirement(authorities=(str(tmp_path / "gone.pem"),)))
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue(DOMAIN))):
        result = await unmet(dialler(authority), where)
    assert result.status == "4.3.5"
    assert "gone.pem" in result.text


# --- what a server may refuse, and what follows from it ---------------------------------------------


@pytest.mark.covers("AMTP-8", "AMTP-3", "ITP-7")
async def test_504_makes_mail_wait_and_the_operator_hear_of_it(
    address: str, authority: CertificateAuthority
) -> None:
    noted = Noted()
    answers = ("220 hi", "504 5.7.8 Authentication failed")
    tls = context(authority.issue(DOMAIN))
    async with serving(address, script(*answers), port=PORT, tls=tls) as server:
        result = await unmet(dialler(authority, observer=noted), hop(address))
    assert result.status.startswith("4.7")
    assert result.code == 504
    assert "Authentication failed" in result.text
    assert "not believed" in noted.names
    assert b"HELO" not in bytes(server.heard).replace(b"EHLO", b"")


@pytest.mark.covers("AMTP-3", "ITP-7")
@pytest.mark.parametrize("answer", ["451 4.7.1 try again later", "421 4.3.2 too busy"])
async def test_a_temporary_answer_to_ehlo_is_an_answer(
    address: str, authority: CertificateAuthority, answer: str
) -> None:
    async with serving(address, script("220 hi", answer), port=PORT, tls=context(authority.issue(DOMAIN))):
        failed = await refused(dialler(authority), hop(address))
    assert failed.result.kind is Kind.DEFERRED
    assert failed.answered


@pytest.mark.covers("AMTP-12")
async def test_a_declared_denial_is_followed_by_quit_and_goes_back_with_the_policy_named(
    address: str, authority: CertificateAuthority
) -> None:
    answers = ("220 hi", b"250-gate\r\n250-MPC ALLOW=*/individual\r\n250 PIPELINING\r\n", "221 bye")
    tls = context(authority.issue(DOMAIN))
    async with serving(address, script(*answers), port=PORT, tls=tls) as server:
        connection = await connect(dialler(authority), hop(address))
        results = await connection.send(job(HELLO + b"hi\r\n", "a@peer.example", "b@peer.example", mpc=OPTIN))
        assert not connection.usable
        await connection.close()
    assert bytes(server.heard) == b"EHLO client.example\r\nQUIT\r\n"
    assert set(results) == {0, 1}
    for result in results.values():
        assert (result.kind, result.status) == (Kind.FAILED, "5.7.1")
        assert "com/optin" in result.text
        assert "ALLOW=*/individual" in result.text


@pytest.mark.covers("AMTP-9", "AMTP-12")
async def test_mail_about_policy_is_sent_even_where_all_is_denied(
    address: str, authority: CertificateAuthority
) -> None:
    answers = ("220 hi", b"250-gate\r\n250 MPC DENY=*/*\r\n", *TAKES[2:])
    async with serving(address, script(*answers), port=PORT, tls=context(authority.issue(DOMAIN))):
        assert (await carry(dialler(authority), hop(address), "mpc/individual")).kind is Kind.RELAYED


@pytest.mark.covers("AMTP-21", "AMTP-12")
@pytest.mark.parametrize("declared", [True, False])
async def test_a_backups_denial_is_not_the_last_word(
    address: str, authority: CertificateAuthority, declared: bool
) -> None:
    answers: tuple[str | bytes, ...]
    if declared:
        answers = ("220 hi", b"250-gate\r\n250 MPC DENY=*/optin\r\n", "221 bye")
    else:
        answers = ("220 hi", "250 gate", "550 5.7.1 MPC policy violation", "221 bye")
    async with serving(address, script(*answers), port=PORT, tls=context(authority.issue(DOMAIN))):
        result = await carry(dialler(authority), hop(address, ServerTerms(DOMAIN, backup=True)))
    assert (result.kind, result.status) == (Kind.DEFERRED, "4.7.1")
    assert "backup" in result.text


@pytest.mark.covers("AMTP-11", "SMTP-6")
@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        ("550 5.7.1 MPC policy violation", Kind.FAILED, "5.7.1"),
        ("451 4.7.1 MPC temporary failure, try again later", Kind.DEFERRED, "4.7.1"),
    ],
)
async def test_what_the_server_says_to_mail_decides(
    address: str, authority: CertificateAuthority, answer: str, kind: Kind, status: str
) -> None:
    answers = ("220 hi", "250 gate", answer, "221 bye")
    async with serving(address, script(*answers), port=PORT, tls=context(authority.issue(DOMAIN))):
        result = await carry(dialler(authority), hop(address))
    assert (result.kind, result.status) == (kind, status)


# --- who has answered, and who is out of reach (ITP-7) ----------------------------------------------


def closes_at_once() -> Handler:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    return talk


@pytest.mark.covers("AMTP-8", "ITP-7")
async def test_nobody_there_and_silence_are_out_of_reach(
    address: str, authority: CertificateAuthority
) -> None:
    assert not (await refused(dialler(authority), hop(address))).answered
    async with serving(address, closes_at_once(), port=PORT):
        failed = await refused(dialler(authority), hop(address))
    assert not failed.answered
    assert failed.result.kind is Kind.DEFERRED


@pytest.mark.covers("ITP-7", "AMTP-1")
async def test_a_server_that_speaks_something_else_or_refuses_our_certificate_has_answered(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    async with serving(address, script("220 smtp.example ESMTP", hold=True), port=PORT) as server:
        assert (await refused(dialler(authority), hop(address))).answered
        assert b"EHLO" not in server.heard
    others = CertificateAuthority(tmp_path / "others", "Others")
    tls = context(authority.issue(DOMAIN), wants=others.authority)
    async with serving(address, script(*TAKES), port=PORT, tls=tls):
        failed = await refused(dialler(authority), hop(address))
    assert failed.answered
    assert failed.result.kind is Kind.DEFERRED


@pytest.mark.covers("AMTP-1")
async def test_without_a_certificate_nothing_is_dialled_in_vain(
    address: str, authority: CertificateAuthority
) -> None:
    tls = ClientTls(ca_stores([authority.authority.read_bytes()], []))
    dial = AmtpDialler(SmtpClientParts(SETTINGS, tls, Noted(), lambda: NOW))
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue(DOMAIN))) as server:
        result = await unmet(dial, hop(address))
    assert result.status == "4.3.5"
    assert server.heard == b""


# --- private connections (AMTP-19, AMTP-20) ---------------------------------------------------------


def greets_anew() -> Handler:
    """Offers AUTH at first, and its list to those who have logged in."""
    return script(
        "220 hi",
        b"250-gate\r\n250 AUTH PLAIN\r\n",
        "235 2.7.0 welcome",
        b"250-gate\r\n250 MPC DENY=*/optin\r\n",
        "221 bye",
    )


@pytest.mark.covers("AMTP-19", "AMTP-20")
async def test_a_login_is_followed_by_a_second_ehlo_whose_list_holds(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    terms = ServerTerms("", named=True, must_prove=True)
    where = hop(address, terms, username="ann", password_file=str(secret))
    tls = context(authority.issue(TARGET))
    async with serving(address, greets_anew(), port=PORT, tls=tls) as server:
        result = await carry(dialler(authority), where)
    words = [line.split()[0] for line in bytes(server.heard).split(b"\r\n") if line]
    assert words == [b"EHLO", b"AUTH", b"EHLO", b"QUIT"]
    assert result.kind is Kind.FAILED
    assert "DENY=*/optin" in result.text


@pytest.mark.covers("AMTP-19", "SMTP-2b")
async def test_a_failed_login_makes_mail_wait(
    address: str, authority: CertificateAuthority, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    terms = ServerTerms("", named=True, must_prove=True)
    where = hop(address, terms, username="ann", password_file=str(secret))
    answers = ("220 hi", b"250-gate\r\n250 AUTH PLAIN\r\n", "535 5.7.8 no", "221 bye")
    async with serving(address, script(*answers), port=PORT, tls=context(authority.issue(TARGET))):
        result = await unmet(dialler(authority), where)
    assert result.status == "4.7.8"
    assert "wrong" not in result.text


@pytest.mark.covers("AMTP-19", "AMTP-5")
async def test_a_named_host_must_prove_its_own_name(address: str, authority: CertificateAuthority) -> None:
    terms = ServerTerms("", named=True, must_prove=True)
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue("other.example"))):
        result = await unmet(dialler(authority), hop(address, terms))
    assert TARGET in result.text
    async with serving(address, script(*TAKES), port=PORT, tls=context(authority.issue("other.example"))):
        renamed = TlsRequirement(name="other.example")
        assert (await carry(dialler(authority), hop(address, terms, tls=renamed))).kind is Kind.RELAYED


# --- the MPC field (AMTP-14) ------------------------------------------------------------------------


async def sent(
    address: str, authority: CertificateAuthority, content: bytes
) -> tuple[Mapping[int, DeliveryResult], bytes]:
    tls = context(authority.issue(DOMAIN))
    async with serving(address, script(*TAKES), port=PORT, tls=tls) as server:
        connection = await connect(dialler(authority), hop(address))
        results = await connection.send(job(content, mpc=OPTIN))
        await connection.close()
    return results, bytes(server.heard)


@pytest.mark.covers("AMTP-14")
async def test_a_field_that_says_what_the_parameter_says_is_not_sent(
    address: str, authority: CertificateAuthority
) -> None:
    results, heard = await sent(address, authority, b"MPC: COM/optin\r\n" + HELLO + b"hi\r\n")
    assert results[0].kind is Kind.RELAYED
    assert b"MPC:" not in heard
    assert b"Subject: hello" in heard


@pytest.mark.covers("AMTP-14")
@pytest.mark.parametrize(
    "field", [b"MPC: net/individual\r\n", b"MPC: nonsense\r\n", b"MPC: com/optin\r\n" * 2]
)
async def test_a_field_that_says_something_else_is_neither_rewritten_nor_sent(
    address: str, authority: CertificateAuthority, field: bytes
) -> None:
    results, heard = await sent(address, authority, field + HELLO + b"hi\r\n")
    assert (results[0].kind, results[0].status) == (Kind.FAILED, "5.6.0")
    assert b"MAIL" not in heard
