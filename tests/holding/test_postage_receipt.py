"""One receipt has one text, and what is signed is in range (SEC-192, SEC-193)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.holding.postage.receipt import (
    MAX_RECEIPT,
    Receipt,
    ReceiptError,
    UnprovenReceipt,
    write_receipt,
)
from outrider.identity.certificate_authority import CertificateAuthority
from outrider.identity.jws import Signer, encode

NOW = 1_800_000_000
RECEIPT = Receipt("c" * 26, 1, "a.example", "b.example", "b" * 26, 5, "USD", NOW, NOW + 60)


@dataclass
class Issuer:
    signer: Signer = field(init=False)

    def __post_init__(self) -> None:
        made = CertificateAuthority.create("postage", datetime.fromtimestamp(NOW, UTC))
        self.signer = Signer.from_pem(made.certificate_pem, made.key_pem)

    def read(self, text: str) -> Receipt:
        return UnprovenReceipt(text).proven(self.signer.chain[0])

    def signed(self, payload: bytes, typ: str = "amdp-postage") -> str:
        return self.signer.compact(payload, typ)


ISSUER = Issuer()
TEXT = write_receipt(RECEIPT, ISSUER.signer)


@pytest.mark.covers("AMDP-20", "SEC-192")
def test_a_receipt_is_read_as_it_was_written_and_fits_a_header_line() -> None:
    assert ISSUER.read(TEXT) == RECEIPT
    assert len(TEXT) < 900
    assert TEXT.isascii()
    assert not set(TEXT) & set(" \t\r\n")


_HEADER, _PAYLOAD, _SIGNATURE = TEXT.split(".")


@pytest.mark.covers("SEC-192")
@pytest.mark.parametrize(
    "variant",
    [
        f" {TEXT}",
        f"{TEXT}\n",
        f"{TEXT}=",
        f"{TEXT}==",
        TEXT.swapcase(),
        TEXT.replace(".", " . "),
        TEXT.replace(".", "\uff0e"),
        f"{_HEADER}.{_PAYLOAD}.{_SIGNATURE[:-1]}",
        f"{_HEADER}..{_SIGNATURE}",
        f"{_HEADER}.{_PAYLOAD}",
        "",
        ".",
        "..",
        "x" * (MAX_RECEIPT + 1),
        "\ud800",
    ],
)
def test_other_spellings_are_no_receipts(variant: str) -> None:
    with pytest.raises(ReceiptError):
        ISSUER.read(variant)


PLAIN = msgspec.json.encode(RECEIPT).decode()


@pytest.mark.covers("SEC-192", "SEC-193")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"amount":5', '"amount":0'),
        ('"amount":5', '"amount":-1'),
        ('"amount":5', '"amount":05'),
        ('"amount":5', '"amount":5.0'),
        ('"amount":5', '"amount":5e0'),
        ('"amount":5', '"amount":0.1'),
        ('"amount":5', '"amount":0.30000000000000004'),
        ('"amount":5', '"amount":1e308'),
        ('"amount":5', '"amount":NaN'),
        ('"amount":5', '"amount":9223372036854775808'),
        ('"amount":5', '"amount":1000000000001'),
        ('"amount":5', '"amount":"5"'),
        ('"amount":5', '"amount":true'),
        ('"amount":5', '"amount":\u0665'),
        ('"amount":5', '"amount":4,"amount":5'),
        ('"amount":5', '"amount": 5'),
        ('"amount":5', '"amount":5,"more":1'),
        ('"currency":"USD"', '"currency":"usd"'),
        ('"currency":"USD"', '"currency":""'),
        ('"currency":"USD"', '"currency":"\\u0055SD"'),
        ('"epoch":1', '"epoch":0'),
        ('"payer":"a.example"', '"payer":"A.example"'),
        ('"payer":"a.example"', '"payer":"a.example."'),
        ('"domain":"b.example"', '"domain":"[127.0.0.1]"'),
        ('"purpose":"bbb', '"purpose":"BBB'),
        ('"purpose":"bbb', '"purpose":"../'),
        ('"serial":"ccc', '"serial":"CCC'),
        (f'"issued":{NOW}', '"issued":-1'),
        (f'"issued":{NOW}', f'"issued":{NOW + 60}'),
    ],
)
def test_what_is_out_of_range_or_in_another_form_is_refused_even_if_it_is_well_signed(
    old: str, new: str
) -> None:
    assert old in PLAIN
    with pytest.raises(ReceiptError):
        ISSUER.read(ISSUER.signed(PLAIN.replace(old, new, 1).encode("utf-8")))


@pytest.mark.covers("SEC-193")
def test_a_receipt_of_another_issuer_purpose_or_content_is_none() -> None:
    with pytest.raises(ReceiptError, match="another certificate"):
        UnprovenReceipt(TEXT).proven(Issuer().signer.chain[0])
    with pytest.raises(ReceiptError, match="purpose"):
        ISSUER.read(ISSUER.signed(PLAIN.encode(), "mt2-seal"))
    forged = f"{_HEADER}.{encode(PLAIN.replace(':5,', ':9,').encode())}.{_SIGNATURE}"
    with pytest.raises(ReceiptError, match="signature"):
        ISSUER.read(forged)


@pytest.mark.covers("SEC-193")
def test_nothing_is_signed_that_nobody_would_read() -> None:
    for wrong in (
        msgspec.structs.replace(RECEIPT, amount=0),
        msgspec.structs.replace(RECEIPT, expires=NOW),
        msgspec.structs.replace(RECEIPT, purpose="x"),
    ):
        with pytest.raises(ReceiptError):
            write_receipt(wrong, ISSUER.signer)


@pytest.mark.covers("SEC-192")
@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="abcXYZ019_-.=", max_size=300))
def test_anything_else_is_refused_and_raises_nothing_else(text: str) -> None:
    with pytest.raises(ReceiptError):
        ISSUER.read(text)
    parts = [_HEADER, encode(text.encode("utf-8", "replace") or b"x"), _SIGNATURE]
    with pytest.raises(ReceiptError):
        ISSUER.read(".".join(parts))
