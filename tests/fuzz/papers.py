"""Certificates and lists of revocations: nothing is raised, and nobody believed whom no authority signed."""

from __future__ import annotations

import base64
import random
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from outrider.identity.authorities import CaStores, read_authorities
from outrider.identity.certificate_report import certificate_report
from outrider.identity.certificates import (
    fingerprints_of,
    is_host_name,
    names_of,
    normal_mailbox,
    read_chain,
)
from outrider.identity.checks import Fault
from outrider.identity.client_certificate import identify_client
from outrider.identity.delegated_authorities import is_authority, issuer_names, read_published
from outrider.identity.header_encryption import EncryptionError, encrypt_headers
from outrider.identity.host_identity import ServerIdentity, ServerQuestion
from outrider.identity.jws import JwsError, Signer, check_certificates, check_signature
from outrider.identity.mt2_identity import MT2_SERVICE, Mt2Identity
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.revocation import RevocationList, RevocationSet, read_revocation_list
from outrider.identity.user_certificates import addresses_of, descriptions_of, normal_address
from outrider.model.facts import Provenance
from outrider.trust.issuers import issuer_domains
from tests.fuzz import damage, der
from tests.fuzz.recorded import AT, recorded
from tests.fuzz.running import Target, refused
from tests.identity.mt2_source import Source, published

T = TypeVar("T")


@cache
def _root(name: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(recorded().one("roots", name))


@cache
def _stores() -> CaStores:
    return CaStores.of(public=[_root("openssl"), _root("library")], private=[_root("ours"), _root("rsa")])


def _peers() -> Mt2Peers:
    """Anew each time: what is remembered of a chain would hide how the next one is judged."""
    return Mt2Peers(_stores(), source=Source({"c.example": published("c.example", [_root("delegated")])}))


@cache
def _key(name: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(recorded().one("authority", name), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _certificates(chain: bytes) -> list[bytes]:
    return [one.octets() for one in der.parse(chain)]


@cache
def _all() -> tuple[bytes, ...]:
    chains = recorded().all("chains") + recorded().all("roots")
    return tuple(one for chain in chains for one in _certificates(chain))


@cache
def _signed() -> frozenset[bytes]:
    """What the authorities have signed."""
    return frozenset(x509.load_der_x509_certificate(one).tbs_certificate_bytes for one in _all())


def _changed(octets: bytes, others: Sequence[bytes], chance: random.Random, key: str | None = None) -> bytes:
    """A certificate or list with changes; `key` signs what comes of it."""
    root = der.parse(octets)[0]
    elements = root.content
    assert isinstance(elements, list)
    target = elements[0] if key is not None else root
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        der.change(target, others, chance)
    if key is not None:
        signature = _key(key).sign(elements[0].octets(), ec.ECDSA(hashes.SHA256()))
        elements[2] = der.Node(0x03, b"\x00" + signature)
    return root.octets()[: damage.MAX_INPUT]


def certificates(chance: random.Random) -> bool:
    """Every reader of a chain answers; who is believed is one whom an authority has signed."""
    chain = _certificates(chance.choice(recorded().all("chains")))
    at = 0 if chance.random() < 0.7 else chance.randrange(len(chain))
    draw = chance.random()
    key = None
    if 0.03 < draw < 0.25:
        chain[at] = damage.octets(chain[at], _all(), chance)
    elif draw < 0.5:
        chain[at] = _changed(chain[at], _all(), chance)
    elif draw < 0.85:
        chain, at = _certificates(recorded().one("chains", chance.choice(("host", "user", "several")))), 0
        key = "issuing"
        chain[0] = _changed(chain[0], _all(), chance, key)
    elif draw < 0.95:
        chain, key = (
            _certificates(recorded().one("chains", chance.choice(("host", "user", "limited")))),
            "issuing",
        )
        chain[1] = _changed(chain[1], _all(), chance, "key")
    else:
        chain = chance.choices(_all(), k=chance.choice((0, 1, 3, 11)))
    _read_all(tuple(chain))
    return _judged(tuple(chain), is_signed_anew=key is not None)


def _read_all(chain: tuple[bytes, ...]) -> None:
    """Nothing here may raise but what is caught."""
    for one in chain[:2]:
        fingerprints_of(one)
        issuer_domains(one)
        certificate_report(one)
        for refusal, work in (
            (JwsError, lambda one=one: check_signature(one, "ES256", b"x", b"\x01" * 64)),
            (EncryptionError, lambda one=one: encrypt_headers(b"x", [one])),
        ):
            try:
                work()
            except refusal as error:
                refused(error)
    try:
        check_certificates(chain)
    except JwsError as error:
        refused(error)
    _, wrong = read_published(chain)
    assert wrong.isprintable(), wrong
    read = read_chain(chain)
    if isinstance(read, Fault):
        return
    for certificate in read:
        names, addresses = names_of(certificate), addresses_of(certificate)
        assert isinstance(names, Fault) or all(map(is_host_name, names.hosts))
        assert isinstance(names, Fault) or all(one == normal_mailbox(one) for one in names.mailboxes)
        assert isinstance(addresses, Fault) or all(one == normal_address(one) for one in addresses)
        assert all(one.value.isprintable() for one in descriptions_of(certificate, Provenance.CLAIMED))
        assert all(map(is_host_name, issuer_names(certificate)))
        is_authority(certificate)


def _judged(chain: tuple[bytes, ...], *, is_signed_anew: bool) -> bool:
    peers = _peers()
    question = ServerQuestion("a.example", "mx.a.example", service=MT2_SERVICE)
    answers = [
        _now(peers.host(chain, None, "192.0.2.1", AT)),
        _now(peers.host(chain, "mx.a.example", "192.0.2.1", AT)),
        _now(peers.user(chain, "alice@a.example", AT)),
        _now(peers.user(chain, None, AT)),
        _now(peers.server(chain, question, AT)),
    ]
    identify_client(chain, _stores(), AT)
    believed = False
    for answer in answers:
        if isinstance(answer, Mt2Identity):
            believed = True
            assert set(answer.names) <= _named(chain[0]), answer
            assert answer.how.isprintable(), answer
        elif isinstance(answer, ServerIdentity):
            believed = True
        else:
            assert str(answer).isprintable(), str(answer)
            assert len(str(answer)) < 1_500, str(answer)
    if believed and not is_signed_anew:
        assert x509.load_der_x509_certificate(chain[0]).tbs_certificate_bytes in _signed()
    return believed


def _named(leaf: bytes) -> set[str]:
    certificate = x509.load_der_x509_certificate(leaf)
    names, addresses = names_of(certificate), addresses_of(certificate)
    hosts = () if isinstance(names, Fault) else names.hosts
    return {*hosts, *(() if isinstance(addresses, Fault) else addresses)}


def _now(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that waits for nothing returns."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


# -- lists of revocations ----------------------------------------------------------------------------------


@cache
def _list_authorities() -> tuple[x509.Certificate, ...]:
    issuing = _certificates(recorded().one("chains", "host"))[1]
    return (_root("openssl"), _root("ours"), x509.load_der_x509_certificate(issuing))


@cache
def _signed_lists() -> frozenset[bytes]:
    ders = [one for one in recorded().all("lists") if one.startswith(b"\x30")]
    return frozenset(x509.load_der_x509_crl(one).tbs_certlist_bytes for one in ders)


@cache
def _path() -> tuple[x509.Certificate, ...]:
    chain = map(x509.load_der_x509_certificate, _certificates(recorded().one("chains", "host")))
    return (*chain, _root("ours"))


def revocations(chance: random.Random) -> bool:
    """A list is one that its authority has signed, or none, with a sentence."""
    given, key = chance.choice(recorded().all("lists")), None
    others = [one for one in recorded().all("lists") if one.startswith(b"\x30")]
    draw = chance.random()
    if 0.03 < draw < 0.3:
        given = damage.octets(given, recorded().all("lists"), chance)
    elif draw < 0.6:
        given = _changed(chance.choice(others), (*others, *_all()), chance)
    elif draw >= 0.6:
        name, key = chance.choice((("root", "key"), ("issuing", "issuing")))
        given = _changed(recorded().one("lists", name), (*others, *_all()), chance, key)
    if chance.random() < 0.05:
        lines = base64.encodebytes(given)
        given = b"-----BEGIN X509 CRL-----\n" + lines + b"-----END X509 CRL-----\n"
    authorities = _list_authorities()
    try:
        found = read_revocation_list(given, "list", authorities)
    except ValueError as error:
        return refused(error, "list: ")
    _check_list(found, is_signed_anew=key is not None)
    return True


def _check_list(found: RevocationList, *, is_signed_anew: bool) -> None:
    vouching = [one for one in _list_authorities() if found.is_signed_by(one)]
    if vouching and not is_signed_anew:
        assert found.crl.tbs_certlist_bytes in _signed_lists()
    known = RevocationSet([found])
    fault = known.fault(_path(), AT)
    assert fault is None or (vouching and fault.reason.isprintable())
    assert known.next_change(AT) > AT


# -- PEM -------------------------------------------------------------------------------------------------


def pem(chance: random.Random) -> bool:
    """Files of certificates and keys: read, or refused in one way."""
    found = recorded()
    certificate, key = found.one("signer", "certificate"), found.one("signer", "key")
    sources = [certificate, key, *found.all("proofs"), found.one("lists", "openssl")]
    if chance.random() > 0.03:
        certificate = damage.octets(certificate, sources, chance)
    if chance.random() < 0.3:
        key = damage.octets(key, sources, chance)
    with suppress(ValueError):
        read_authorities(certificate)
    try:
        signer = Signer.from_pem(certificate, key)
    except JwsError as error:
        return refused(error)
    check_signature(signer.chain[0], "ES256", b"x", signer.sign(b"x"))
    return True


TARGETS = (
    Target("certificates", certificates, short=200, long=100_000),
    Target("revocations", revocations, short=300, long=100_000),
    Target("pem", pem, short=300, long=100_000),
)
