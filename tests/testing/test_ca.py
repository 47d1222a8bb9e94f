"""The authority's certificates against independent verifiers, and the flawed ones that must not pass."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from outrider.identity.certificate_authority import (
    CertificateAuthority,
    Issued,
    KeyType,
    NameConstraints,
    Purpose,
    Revocation,
)
from outrider.testing import ca

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def root() -> CertificateAuthority:
    return CertificateAuthority.create("Test root", NOW - DAY)


def policy(root: CertificateAuthority, at: datetime = NOW) -> PolicyBuilder:
    return PolicyBuilder().store(Store([root.certificate])).time(at)


def verify_server(root: CertificateAuthority, issued: Issued, name: str, at: datetime = NOW) -> None:
    verifier = policy(root, at).build_server_verifier(x509.DNSName(name))
    verifier.verify(issued.certificate, list(issued.chain))


def verify_client(root: CertificateAuthority, issued: Issued) -> list[x509.GeneralName]:
    verified = policy(root).build_client_verifier().verify(issued.certificate, list(issued.chain))
    assert verified.subjects is not None
    return verified.subjects


# -- what is good passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("kind", ["public", "private"])
def test_a_host_is_known_by_each_of_its_names(kind: str, key: KeyType) -> None:
    root = CertificateAuthority.create("Root", NOW, kind=kind, key=key)  # type: ignore[arg-type]
    issued = root.issue_host(["MX.Alpha.example", "alpha.example", "bücher.example"], NOW, key=key)
    for name in ("mx.alpha.example", "alpha.example", "xn--bcher-kva.example"):
        verify_server(root, issued, name)
    with pytest.raises(VerificationError):
        verify_server(root, issued, "other.example")


def test_purposes_follow_the_kind_of_authority_unless_stated(root: CertificateAuthority) -> None:
    def purposes(issued: Issued) -> set[x509.ObjectIdentifier]:
        extensions = issued.certificate.extensions
        return set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)

    public = CertificateAuthority.create("Public root", NOW, kind="public")
    assert purposes(public.issue_host(["a.example"], NOW)) == {ExtendedKeyUsageOID.SERVER_AUTH}
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert purposes(root.issue_host(["a.example"], NOW)) == both
    client_only = root.issue_host(["a.example"], NOW, purposes=[Purpose.CLIENT])
    assert verify_client(root, client_only) == [x509.DNSName("a.example")]
    with pytest.raises(VerificationError):
        verify_server(root, client_only, "a.example")


def test_addresses_are_addresses_not_names(root: CertificateAuthority) -> None:
    issued = root.issue_host(["a.example"], NOW, addresses=["127.0.1.1", "2001:db8::1"])
    for text in ("127.0.1.1", "2001:db8::1"):
        verifier = policy(root).build_server_verifier(x509.IPAddress(ip_address(text)))
        verifier.verify(issued.certificate, [])
    only_address = root.issue_host([], NOW, addresses=["127.0.1.1"])
    alternative = only_address.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.critical  # its subject is empty
    policy(root).build_server_verifier(x509.IPAddress(ip_address("127.0.1.1"))).verify(
        only_address.certificate, []
    )


def test_the_alternative_names_are_not_critical_beside_a_subject(root: CertificateAuthority) -> None:
    issued = root.issue_host(["a.example"], NOW)
    assert not issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_a_name_too_long_for_the_subject_is_left_to_the_alternatives(root: CertificateAuthority) -> None:
    name = ".".join(["a" * 60, "b" * 60, "example"])
    issued = root.issue_host([name], NOW)
    assert list(issued.certificate.subject) == []
    verify_server(root, issued, name)


def test_a_person_is_known_by_the_mail_address(root: CertificateAuthority) -> None:
    issued = root.issue_user("Ann.Lee@Alpha.Example", NOW)
    assert verify_client(root, issued) == [x509.RFC822Name("Ann.Lee@alpha.example")]
    with pytest.raises(VerificationError):
        verify_server(root, issued, "alpha.example")


def test_a_host_may_say_whose_it_is(root: CertificateAuthority) -> None:
    issued = root.issue_host(["laptop.alpha.example"], NOW, mailboxes=["ann@Alpha.Example"])
    verify_server(root, issued, "laptop.alpha.example")
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["ann@alpha.example"]
    with pytest.raises(ValueError, match="not an ASCII mail address"):
        root.issue_host(["laptop.alpha.example"], NOW, mailboxes=["nobody"])


def test_a_chain_through_intermediate_authorities(root: CertificateAuthority) -> None:
    first = root.issue_authority("First", NOW, path_length=1)
    second = first.issue_authority("Second", NOW)
    issued = second.issue_host(["a.example"], NOW)
    assert issued.chain == (second.certificate, first.certificate)
    verify_server(root, issued, "a.example")
    assert len(x509.load_pem_x509_certificates(issued.certificate_pem)) == 3


def test_serials_and_keys_are_never_the_same_twice(root: CertificateAuthority) -> None:
    issued = [root.issue_host(["a.example"], NOW) for _ in range(5)]
    assert len({item.certificate.serial_number for item in issued}) == 5
    assert len({item.key_pem for item in issued}) == 5


def test_no_certificate_outlives_its_authority(root: CertificateAuthority) -> None:
    issued = root.issue_host(["a.example"], NOW, days=100_000)
    assert issued.certificate.not_valid_after_utc == root.certificate.not_valid_after_utc


@pytest.mark.covers("SEC-139")
def test_the_edges_of_validity(root: CertificateAuthority) -> None:
    issued = root.issue_host(["a.example"], NOW, days=1)
    second = timedelta(seconds=1)
    verify_server(root, issued, "a.example", NOW)
    verify_server(root, issued, "a.example", NOW + DAY)
    for outside in (NOW - second, NOW + DAY + second):
        with pytest.raises(VerificationError):
            verify_server(root, issued, "a.example", outside)


def test_openssl_agrees(root: CertificateAuthority, tmp_path: Path) -> None:
    intermediate = root.issue_authority("Intermediate", NOW)
    issued = intermediate.issue_host(["a.example"], NOW)
    files = ca.write_tls_files(tmp_path, root, issued)
    assert files.key.stat().st_mode & 0o777 == 0o600
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "a.example"]
    command += ["-attime", str(int(NOW.timestamp())), "-CAfile", str(files.authority)]
    command += ["-untrusted", str(files.certificate), str(files.certificate)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- PEM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_an_authority_survives_a_trip_through_pem(key: KeyType) -> None:
    root = CertificateAuthority.create("Root", NOW, key=key)
    intermediate = root.issue_authority("Intermediate", NOW)
    loaded = CertificateAuthority.from_pem(intermediate.bundle_pem, intermediate.key_pem, "public")
    assert loaded.kind == "public"
    issued = loaded.issue_host(["a.example"], NOW)
    verify_server(root, issued, "a.example")
    again = CertificateAuthority.from_pem(root.certificate_pem, root.key_pem)
    verify_server(root, again.issue_host(["b.example"], NOW), "b.example")


def test_what_is_no_authority_is_not_loaded_as_one(root: CertificateAuthority) -> None:
    other = CertificateAuthority.create("Other", NOW)
    leaf = root.issue_host(["a.example"], NOW)
    with pytest.raises(ValueError, match="does not belong"):
        CertificateAuthority.from_pem(root.certificate_pem, other.key_pem)
    with pytest.raises(ValueError, match="not an authority"):
        CertificateAuthority.from_pem(leaf.certificate_pem, leaf.key_pem)
    with pytest.raises(ValueError):
        CertificateAuthority.from_pem(b"", root.key_pem)


def test_keys_do_not_show_when_printed(root: CertificateAuthority) -> None:
    issued = root.issue_host(["a.example"], NOW)
    assert "PrivateKey" not in repr(issued) + repr(root)


# -- what is bad is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [[], ["a..example"], ["a b.example"], ["*.*.example"], ["a.*.example"], ["a" * 64 + ".example"],
              ["a\0.example"], [""], ["*"], ["x" * 300], ["-a.example"], ["\u200b.example"]]
)  # fmt: skip
def test_bad_host_names_are_not_certified(root: CertificateAuthority, names: list[str]) -> None:
    with pytest.raises(ValueError):
        root.issue_host(names, NOW)


@pytest.mark.parametrize(
    "address", ["", "ann", "@a.example", "ann@", "änn@a.example", "a\nb@a.example", "a@*.example"]
)
def test_bad_mail_addresses_are_not_certified(root: CertificateAuthority, address: str) -> None:
    with pytest.raises(ValueError):
        root.issue_user(address, NOW)


def test_a_time_without_a_zone_is_refused(root: CertificateAuthority) -> None:
    with pytest.raises(ValueError):
        root.issue_host(["a.example"], NOW.replace(tzinfo=None))


FLAWED: dict[str, Callable[[CertificateAuthority], Issued]] = {
    "expired": lambda root: ca.issue_expired(root, "a.example", NOW),
    "not yet valid": lambda root: ca.issue_not_yet_valid(root, "a.example", NOW),
    "wrong purpose": lambda root: ca.issue_wrong_purpose(root, "a.example", NOW),
    "common name only": lambda root: ca.issue_common_name_only(root, "a.example", NOW),
    "nameless": lambda root: ca.issue_nameless(root, NOW),
    "unknown critical": lambda root: ca.issue_unknown_critical(root, "a.example", NOW),
    "issued by a host": lambda root: ca.issue_by_leaf(root.issue_host(["b.example"], NOW), "a.example", NOW),
    "self-signed": lambda _: ca.issue_self_signed("a.example", NOW),
}


@pytest.mark.covers("SEC-142", "SEC-144", "SEC-145")
@pytest.mark.parametrize("issue", FLAWED.values(), ids=FLAWED)
def test_each_flaw_alone_makes_a_certificate_fail(
    root: CertificateAuthority, issue: Callable[[CertificateAuthority], Issued]
) -> None:
    with pytest.raises(VerificationError):
        verify_server(root, issue(root), "a.example")
    verify_server(root, root.issue_host(["a.example"], NOW), "a.example")


def test_the_flaw_is_the_one_it_is_named_for(root: CertificateAuthority) -> None:
    verify_server(root, ca.issue_expired(root, "a.example", NOW), "a.example", NOW - DAY)
    verify_server(root, ca.issue_not_yet_valid(root, "a.example", NOW), "a.example", NOW + 2 * DAY)


def test_a_weak_key_is_for_the_caller_of_the_verifier_to_notice(root: CertificateAuthority) -> None:
    """The verifier measures the authorities' keys only; whoever calls it has to look at the host's."""
    issued = ca.issue_weak_key(root, "a.example", NOW)
    verify_server(root, issued, "a.example")
    key = issued.certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 1024


@pytest.mark.covers("SEC-141")
def test_a_wildcard_stands_for_one_label(root: CertificateAuthority) -> None:
    issued = ca.issue_wildcard(root, "alpha.example", NOW)
    verify_server(root, issued, "mx.alpha.example")
    for name in ("alpha.example", "a.mx.alpha.example"):
        with pytest.raises(VerificationError):
            verify_server(root, issued, name)


@pytest.mark.covers("SEC-140")
def test_an_authority_can_be_bound_to_domains(root: CertificateAuthority) -> None:
    constraints = NameConstraints(permitted=("alpha.example",), excluded=("secret.alpha.example",))
    bound = root.issue_authority("Alpha's", NOW, constraints=constraints)
    verify_server(root, bound.issue_host(["mx.alpha.example"], NOW), "mx.alpha.example")
    for name in ("mx.beta.example", "x.secret.alpha.example", "notalpha.example"):
        with pytest.raises(VerificationError):
            verify_server(root, bound.issue_host([name], NOW), name)
    with pytest.raises(ValueError):
        NameConstraints().extension()


@pytest.mark.covers("SEC-146")
def test_the_length_of_the_path_is_bounded(root: CertificateAuthority) -> None:
    last = root.issue_authority("Last", NOW, path_length=0)
    one_more = last.issue_authority("One more", NOW)
    with pytest.raises(VerificationError):
        verify_server(root, one_more.issue_host(["a.example"], NOW), "a.example")


# -- revocation -------------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-150")
def test_a_revocation_list_names_what_is_revoked_and_is_signed(root: CertificateAuthority) -> None:
    good, bad = (root.issue_host([name], NOW) for name in ("good.example", "bad.example"))
    entry = Revocation(bad.certificate.serial_number, NOW, x509.ReasonFlags.key_compromise)
    revoked = root.revocation_list([entry], NOW, days=7, number=3)
    assert revoked.is_signature_valid(root.key.public_key())
    assert not revoked.is_signature_valid(CertificateAuthority.create("Other", NOW).key.public_key())
    assert revoked.issuer == good.certificate.issuer
    assert revoked.next_update_utc == NOW + 7 * DAY
    assert revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3
    assert revoked.get_revoked_certificate_by_serial_number(good.certificate.serial_number) is None
    found = revoked.get_revoked_certificate_by_serial_number(bad.certificate.serial_number)
    assert found is not None
    reason = found.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
