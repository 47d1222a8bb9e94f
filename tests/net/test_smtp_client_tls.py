"""TLS and login of the SMTP driver: every level, met and unmet (TLS-4a), against Postfix and scripts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.net.client_jobs import HELLO, Handler, Noted, dialler, hop, job, script, serving
from tests.peers.certificates import DAY, CertificateAuthority, TlsFiles
from tests.peers.postfix import PostfixServer

from outrider.delivery.interface import ConnectFailed, Hop, RequirementUnmet
from outrider.model.result import DeliveryResult, Kind
from outrider.net.smtp_client import SmtpDialler
from outrider.routing.tls_policy import TlsRequirement

NAME = "mx.peer.example"


async def carry(dial: SmtpDialler, where: Hop) -> DeliveryResult:
    connection = await dial.connect(where, where.addresses[0])
    (result,) = (await connection.send(job(HELLO + b"hi\r\n"))).values()
    await connection.close()
    return result


async def unmet(dial: SmtpDialler, where: Hop) -> DeliveryResult:
    with pytest.raises(RequirementUnmet) as caught:
        await dial.connect(where, where.addresses[0])
    assert caught.value.result.kind is Kind.DEFERRED
    return caught.value.result


def fingerprint(files: TlsFiles, *, key: bool) -> str:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    der = certificate.public_bytes(Encoding.DER)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki if key else der).hexdigest()


def starttls(
    files: TlsFiles,
    *inside: bytes | str,
    offers: bytes = b"250 STARTTLS\r\n",
    wants_certificate_of: Path | None = None,
) -> Handler:
    """A server that offers STARTTLS, does it, and then follows a script that begins with EHLO's answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script("220 hi", b"250-mx\r\n" + offers, b"220 go\r\n")(reader, writer)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.key)
        if wants_certificate_of is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(wants_certificate_of)
        with contextlib.suppress(ssl.SSLError):
            await writer.start_tls(context)
        # The stream's reader belongs to the protocol, which reads from the TLS layer now.
        await script(b"", *inside)(reader, writer)

    return talk


ACCEPTS = ("220 hi", "250 mx", "250 ok", "250 ok", "354 go", "250 taken")
UNDER_TLS = ("250 mx", "250 ok", "250 ok", "354 go", "250 taken")


class TestLevels:
    @pytest.mark.covers("TLS-4a", "TLS-6")
    async def test_each_level_that_is_met(self, address: str, authority: CertificateAuthority) -> None:
        files = authority.issue(NAME)
        own = authority.issue("client.example")
        requirements = (
            TlsRequirement("none"),
            TlsRequirement("opportunistic"),
            TlsRequirement("encrypt"),
            TlsRequirement("verify"),
            TlsRequirement("fingerprint", fingerprints=("00" * 32, fingerprint(files, key=False).upper())),
            TlsRequirement("fingerprint", fingerprints=(fingerprint(files, key=True),)),
            TlsRequirement("mutual", certificate=str(own.certificate), key=str(own.key)),
        )
        tls_lines = []
        with PostfixServer(address, tls=files) as postfix:
            for requirement in requirements:
                result = await carry(dialler(authority.authority), hop(address, tls=requirement))
                assert result.kind is Kind.DELIVERED
                tls_lines.append(result.tls)
            got = await asyncio.to_thread(postfix.wait_messages, "ann", len(requirements))
        assert tls_lines[0] == ""
        verified = f"TLSv1.3 TLS_AES_256_GCM_SHA384 verified {NAME} (private CA)"
        assert tls_lines[1:4] == [verified] * 3
        assert tls_lines[4].endswith("verified (fingerprint of the certificate)")
        assert tls_lines[5].endswith("verified (fingerprint of the key)")
        assert tls_lines[6] == verified
        assert sum(b'(Client CN "client.example"' in message for message in got) == 1

    @pytest.mark.covers("TLS-4a", "SEC-51")
    @pytest.mark.parametrize(
        "fault", ["self-signed", "another name", "expired", "not valid before", "configured CA"]
    )
    async def test_certificates_that_prove_nothing(
        self, address: str, authority: CertificateAuthority, tmp_path: Path, fault: str
    ) -> None:
        stranger = CertificateAuthority(tmp_path / "stranger", "Stranger")
        files = {
            "another name": lambda: authority.issue("other.example"),
            "expired": lambda: authority.issue(NAME, valid_until=-DAY),
            "not valid before": lambda: authority.issue(NAME, valid_from=timedelta(days=2)),
            "configured CA": lambda: stranger.issue(NAME),
            "self-signed": lambda: stranger.issue(NAME),
        }[fault]()
        trusted = None if fault == "self-signed" else authority.authority
        with PostfixServer(address, tls=files):
            for level in ("verify", "mutual"):
                certificate = authority.issue("client.example")
                pair = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
                requirement = TlsRequirement(level, **pair)  # type: ignore[arg-type]
                result = await unmet(dialler(trusted), hop(address, tls=requirement))
                assert result.status == "4.7.5"
                assert NAME in result.text
                assert (fault if trusted else "no CA is configured") in result.text
            wrong = TlsRequirement("fingerprint", fingerprints=("ab" * 32,))
            assert "fingerprint" in (await unmet(dialler(trusted), hop(address, tls=wrong))).text
            result = await carry(dialler(trusted), hop(address))
            assert result.kind is Kind.DELIVERED
            assert result.tls.endswith("unverified")

    async def test_the_name_to_verify_can_be_given(
        self, address: str, authority: CertificateAuthority
    ) -> None:
        with PostfixServer(address, tls=authority.issue("cluster.example")):
            named = TlsRequirement("verify", name="cluster.example")
            assert (await carry(dialler(authority.authority), hop(address, tls=named))).tls
            assert (await unmet(dialler(authority.authority), hop(address, level="verify"))).status == "4.7.5"

    @pytest.mark.covers("TLS-4a")
    async def test_a_server_that_wants_our_certificate(
        self, address: str, authority: CertificateAuthority
    ) -> None:
        own = authority.issue("client.example")
        settings = {"smtpd_tls_req_ccert": "yes"}
        with PostfixServer(address, tls=authority.issue(NAME), require_tls=True, main_cf=settings):
            mutual = TlsRequirement("mutual", certificate=str(own.certificate), key=str(own.key))
            assert (
                await carry(dialler(authority.authority), hop(address, tls=mutual))
            ).kind is Kind.DELIVERED
            # Postfix shakes hands with anybody and then says 421.
            with pytest.raises(ConnectFailed) as failed:
                await dialler().connect(hop(address, level="encrypt"), ip_address(address))
            assert (failed.value.result.kind, failed.value.result.code) == (Kind.DEFERRED, 421)

    @pytest.mark.covers("TLS-3", "TLS-4a", "TLS-6")
    async def test_an_alert_about_our_certificate(
        self, address: str, authority: CertificateAuthority
    ) -> None:
        """In TLS 1.3 it comes when our side of the handshake is already complete."""
        own = authority.issue("client.example")
        strict = starttls(authority.issue(NAME), *UNDER_TLS, wants_certificate_of=authority.authority)
        async with serving(address, strict):
            mutual = TlsRequirement("mutual", certificate=str(own.certificate), key=str(own.key))
            result = await carry(dialler(authority.authority), hop(address, 2525, tls=mutual))
            assert result.kind is Kind.RELAYED
            noted = Noted()
            result = await unmet(dialler(observer=noted), hop(address, 2525, level="encrypt"))
            assert "TLS failed at session" in result.text
        async with serving(address, strict, script(*ACCEPTS), port=2526):
            result = await carry(dialler(observer=noted), hop(address, 2526))
            assert (result.kind, result.tls) == (Kind.RELAYED, "")
        assert [fact[2] for fact in noted.facts if fact[0] == "handshake failed"] == [False, True]

    @pytest.mark.covers("TLS-4a")
    async def test_mutual_without_a_certificate_of_ours(
        self, address: str, authority: CertificateAuthority
    ) -> None:
        with PostfixServer(address, tls=authority.issue(NAME)):
            result = await unmet(dialler(authority.authority), hop(address, level="mutual"))
            assert (result.status, "certificate" in result.text) == ("4.3.5", True)
            missing = TlsRequirement("mutual", certificate="/nowhere/c.pem", key="/nowhere/k.pem")
            assert "/nowhere/c.pem" in (await unmet(dialler(), hop(address, tls=missing))).text

    @pytest.mark.parametrize("level", ["dane", "mta-sts"])
    async def test_levels_of_later(self, address: str, level: str) -> None:
        assert "not supported yet" in (await unmet(dialler(), hop(address, level=level))).text


class TestNoTls:
    @pytest.mark.covers("SEC-47", "TLS-4a", "TLS-5")
    async def test_none_is_offered(self, address: str) -> None:
        noted = Noted()
        dial = dialler(observer=noted)
        async with serving(address, script(*ACCEPTS)) as server:
            for level in ("encrypt", "verify", "fingerprint"):
                result = await unmet(dial, hop(address, 2525, level=level))
                assert (result.status, level in result.text) == ("4.7.4", True)
            assert b"MAIL" not in server.heard
            assert (await carry(dial, hop(address, 2525))).kind is Kind.RELAYED
            assert "starttls vanished" not in noted.names
            dial.parts.seen_starttls.offered(NAME)
            assert (await carry(dial, hop(address, 2525))).kind is Kind.RELAYED
            assert noted.names.count("starttls vanished") == 1

    @pytest.mark.covers("SEC-49")
    async def test_helo_means_no_tls(self, address: str) -> None:
        async with serving(address, script("220 hi", "500 what?", "250 mx")) as server:
            assert (await unmet(dialler(), hop(address, 2525, level="encrypt"))).status == "4.7.4"
        assert server.heard == b"EHLO client.example\r\nHELO client.example\r\n"

    @pytest.mark.covers("SEC-48", "TLS-3")
    @pytest.mark.parametrize("refusal", ["454 later", "500 no", "501 no", "502 no", "530 no"])
    async def test_starttls_refused(self, address: str, refusal: str) -> None:
        offers = ("220 hi", b"250-mx\r\n250 STARTTLS\r\n", refusal, *ACCEPTS[2:])
        async with serving(address, script(*offers)) as server:
            assert (await unmet(dialler(), hop(address, 2525, level="encrypt"))).status == "4.7.4"
            assert b"MAIL" not in server.heard
            assert (await carry(dialler(), hop(address, 2525))).kind is Kind.RELAYED
            assert server.connections == 2

    @pytest.mark.covers("SEC-48", "TLS-3")
    @pytest.mark.parametrize(
        "nonsense",
        [
            "354 go",
            "221 bye",
            "250 ok",
            "22",
            "",
            b"2" * 10_000_000,
            b"220 go\r\n250 evil\r\n",
            b"220 go\r\n25",
        ],
    )
    async def test_starttls_answered_with_nonsense(self, address: str, nonsense: str | bytes) -> None:
        bad = script("220 hi", b"250-mx\r\n250 STARTTLS\r\n", nonsense, hold=True)
        async with serving(address, bad) as server:
            assert (await unmet(dialler(), hop(address, 2525, level="encrypt"))).kind is Kind.DEFERRED
            assert b"MAIL" not in server.heard
        async with serving(address, bad, script(*ACCEPTS), port=2526) as server:
            assert (await carry(dialler(), hop(address, 2526))).kind is Kind.RELAYED
            assert server.connections == 2

    @pytest.mark.covers("TLS-3", "TLS-6")
    async def test_a_handshake_that_fails(self, address: str) -> None:
        bad = script("220 hi", b"250-mx\r\n250 STARTTLS\r\n", "220 go", b"not TLS at all\r\n", hold=True)
        noted = Noted()
        async with serving(address, bad) as server:
            result = await unmet(dialler(observer=noted), hop(address, 2525, level="encrypt"))
            assert "TLS failed" in result.text
            assert b"MAIL" not in server.heard
        async with serving(address, bad, script(*ACCEPTS), port=2526) as server:
            assert (await carry(dialler(observer=noted), hop(address, 2526))).kind is Kind.RELAYED
            assert server.connections == 2
        assert [fact[2] for fact in noted.facts if fact[0] == "handshake failed"] == [False, True]

    @pytest.mark.covers("TLS-3", "SEC-88")
    async def test_a_handshake_that_never_ends(self, address: str) -> None:
        bad = script("220 hi", b"250-mx\r\n250 STARTTLS\r\n", "220 go", hold=True)
        async with serving(address, bad, script(*ACCEPTS)):
            dial = dialler(handshake_timeout_s=0.3)
            assert (await carry(dial, hop(address, 2525))).kind is Kind.RELAYED


class TestUnderTls:
    @pytest.mark.covers("SEC-52", "TLS-1")
    async def test_only_what_is_offered_under_tls_counts(
        self, address: str, authority: CertificateAuthority
    ) -> None:
        clear = b"250-PIPELINING\r\n250-CHUNKING\r\n250-DSN\r\n250-SIZE 1\r\n250 STARTTLS\r\n"
        server = starttls(authority.issue(NAME), *UNDER_TLS, offers=clear)
        async with serving(address, server) as state:
            result = await carry(dialler(authority.authority), hop(address, 2525))
        assert result.kind is Kind.RELAYED
        assert b"SIZE=" not in state.heard
        assert b"BDAT" not in state.heard

    async def test_implicit_tls(self, address: str, authority: CertificateAuthority) -> None:
        files = authority.issue(NAME)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.key)
        server = await asyncio.start_server(script(*ACCEPTS, "221 bye"), address, 4650, ssl=context)
        try:
            for level in ("none", "opportunistic", "encrypt", "verify"):
                result = await carry(dialler(authority.authority), hop(address, 4650, "smtps", level=level))
                assert (result.kind, result.protocol) == (Kind.RELAYED, "smtps")
                assert result.tls.endswith("(private CA)")
            assert (await unmet(dialler(), hop(address, 4650, "smtps", level="verify"))).status == "4.7.5"
        finally:
            server.close()

    async def test_implicit_tls_never_goes_in_the_clear(self, address: str) -> None:
        async with serving(address, script(*ACCEPTS, hold=True)) as server:
            with pytest.raises(ConnectFailed) as failed:
                await dialler().connect(hop(address, 2525, "smtps"), ip_address(address))
            assert failed.value.result.status == "4.7.5"
            assert server.connections == 1
            assert b"EHLO" not in server.heard


class TestLogin:
    @pytest.fixture
    def secret(self, tmp_path: Path) -> str:
        path = tmp_path / "password"
        path.write_text("geheim\nnot this\n")
        return str(path)

    @pytest.mark.covers("SMTP-2b")
    @pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN"])
    async def test_mechanisms_of_postfix(
        self, address: str, authority: CertificateAuthority, secret: str, mechanism: str
    ) -> None:
        server = PostfixServer(
            address,
            tls=authority.issue(NAME),
            accounts={"shop": "geheim"},
            main_cf={"smtpd_sasl_mechanism_filter": mechanism.lower()},
        )
        with server as postfix:
            where = hop(address, protocol="submission", level="verify", username="shop", password_file=secret)
            assert (await carry(dialler(authority.authority), where)).kind is Kind.DELIVERED
            await asyncio.to_thread(postfix.wait_log, f"sasl_method={mechanism}, sasl_username=shop")

    @pytest.mark.covers("SMTP-2b")
    async def test_wrong_password(
        self, address: str, authority: CertificateAuthority, tmp_path: Path, secret: str
    ) -> None:
        wrong = tmp_path / "wrong"
        wrong.write_text("falsch")
        noted = Noted()
        with PostfixServer(address, tls=authority.issue(NAME), accounts={"shop": "geheim"}):
            where = hop(address, level="encrypt", username="shop", password_file=str(wrong))
            result = await unmet(dialler(observer=noted), where)
            assert result.status == "4.7.8"
            assert "falsch" not in result.text
            assert "login failed" in noted.names
            where = hop(address, level="encrypt", username="shop", password_file="/nowhere")
            assert "/nowhere" in (await unmet(dialler(), where)).text

    @pytest.mark.covers("SMTP-2b")
    async def test_no_tls_no_login(self, address: str, secret: str) -> None:
        async with serving(address, script("220 hi", b"250-mx\r\n250 AUTH PLAIN\r\n")) as server:
            for level in ("none", "opportunistic"):
                where = hop(address, 2525, level=level, username="shop", password_file=secret)
                assert "TLS" in (await unmet(dialler(), where)).text
        assert b"AUTH" not in server.heard

    async def test_no_mechanism_in_common(
        self, address: str, authority: CertificateAuthority, secret: str
    ) -> None:
        server = starttls(authority.issue(NAME), b"250-mx\r\n250 AUTH CRAM-MD5 NTLM\r\n")
        async with serving(address, server):
            where = hop(address, 2525, level="encrypt", username="shop", password_file=secret)
            assert "CRAM-MD5 NTLM" in (await unmet(dialler(), where)).text

    async def test_success_without_proof_is_none(
        self, address: str, authority: CertificateAuthority, secret: str
    ) -> None:
        server = starttls(authority.issue(NAME), b"250-mx\r\n250 AUTH SCRAM-SHA-256\r\n", "235 come in")
        async with serving(address, server):
            where = hop(address, 2525, level="encrypt", username="shop", password_file=secret)
            assert "without proving" in (await unmet(dialler(), where)).text
