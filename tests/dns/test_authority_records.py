"""CA certificates in CERT and TLSA records: what counts, and that nothing does without DNSSEC (MT2-24b)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from dns.rdtypes.ANY.CERT import CERT
from dns.rdtypes.ANY.TLSA import TLSA

from outrider.dns.answers import DnsError, DnsTemporary, NoData, NoSuchDomain, RecordsAnswer
from outrider.dns.authority_records import AuthorityRecords
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.delegated_authorities import AuthorityLookupFailed, DelegatedAuthorities

DOMAIN = "bank.example"
CA = CertificateAuthority.create("Bank CA", datetime.now(UTC))
DER = CA.certificate.public_bytes(Encoding.DER)
LEAF = CA.issue_host(["mx.bank.example"], datetime.now(UTC)).certificate.public_bytes(Encoding.DER)
DIGEST = hashlib.sha256(DER).digest()


def cert(data: bytes = DER, kind: int = 1) -> CERT:
    return CERT(dns.rdataclass.IN, dns.rdatatype.CERT, kind, 0, 0, data)


def tlsa(data: bytes = DIGEST, usage: int = 2, selector: int = 0, matching: int = 1) -> TLSA:
    return TLSA(dns.rdataclass.IN, dns.rdatatype.TLSA, usage, selector, matching, data)


class Records:
    """A resolver that knows two names. `secure`: what its validating server says."""

    def __init__(
        self, *records: dns.rdata.Rdata, secure: bool = True, error: type[DnsError] = NoData
    ) -> None:
        self._records = records
        self._secure = secure
        self._error = error
        self.asked: set[tuple[str, str]] = set()

    async def query(self, name: str, rdtype: str) -> RecordsAnswer:
        self.asked.add((name, rdtype))
        found = tuple(one for one in self._records if dns.rdatatype.to_text(one.rdtype) == rdtype)
        if not found:
            raise self._error(name, rdtype, "no such record")
        return RecordsAnswer(found, name, self._secure, 77)


async def find(records: Records) -> DelegatedAuthorities:
    return await AuthorityRecords(records).find(DOMAIN)  # type: ignore[arg-type]


async def failure(records: Records) -> AuthorityLookupFailed:
    with pytest.raises(AuthorityLookupFailed) as caught:
        await find(records)
    return caught.value


@pytest.mark.covers("MT2-24b")
async def test_a_cert_record_holds_the_ca() -> None:
    records = Records(cert())
    found = await find(records)
    assert found.certificates == (CA.certificate,)
    assert (found.how, found.secure, found.via, found.ttl_s) == ("DNS CERT, DNSSEC-secure", True, "dns", 77.0)
    assert records.asked == {(DOMAIN, "CERT"), (f"_mt2._tcp.{DOMAIN}", "TLSA")}


@pytest.mark.covers("MT2-24b")
async def test_a_tlsa_record_holds_the_ca_or_means_it() -> None:
    whole = await find(Records(tlsa(DER, matching=0)))
    assert whole.certificates == (CA.certificate,)
    assert whole.how == "DNS TLSA, DNSSEC-secure"
    meant = await find(Records(tlsa(), tlsa(bytes(64), selector=1, matching=2)))
    assert meant.certificates == ()
    assert [(one.selector, one.matching) for one in meant.anchors] == [(0, 1), (1, 2)]
    assert meant.for_chain([CA.certificate]) == (CA.certificate,)


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize("record", [cert(), tlsa(), tlsa(DER, matching=0)])
async def test_without_dnssec_a_record_proves_nothing(record: dns.rdata.Rdata) -> None:
    error = await failure(Records(record, secure=False))
    assert not error.temporary
    assert "not DNSSEC-secure" in error.reason


@pytest.mark.covers("MT2-24b")
@pytest.mark.parametrize(
    "record",
    [
        cert(kind=3),  # OpenPGP
        cert(LEAF),
        cert(b"junk"),
        cert(bytes(20_000)),
        tlsa(usage=0),
        tlsa(usage=1),
        tlsa(usage=3),  # an end entity's
        tlsa(selector=2),
        tlsa(matching=3),
        tlsa(LEAF, matching=0),
    ],
)
async def test_records_of_other_kinds_are_not_taken(record: dns.rdata.Rdata) -> None:
    error = await failure(Records(record))
    assert not error.temporary
    assert "no usable CA" in error.reason


@pytest.mark.covers("MT2-24b")
async def test_one_bad_record_hides_no_good_one() -> None:
    found = await find(Records(cert(b"junk"), cert(LEAF), cert()))
    assert found.certificates == (CA.certificate,)
    found = await find(Records(cert(b"junk"), tlsa()))
    assert len(found.anchors) == 1


@pytest.mark.covers("MT2-24b")
async def test_silence_is_not_absence() -> None:
    assert (await failure(Records(error=DnsTemporary))).temporary
    assert (await failure(Records(cert(), secure=False, error=DnsTemporary))).temporary
    for error in (NoData, NoSuchDomain):
        none = await failure(Records(error=error))
        assert not none.temporary
        assert none.reason == "bank.example has no CERT or TLSA records"


@pytest.mark.covers("MT2-24b")
async def test_only_a_few_are_looked_at() -> None:
    many = [tlsa(bytes([number]) * 32) for number in range(50)]
    assert len((await find(Records(*many))).anchors) == 8
