"""What a message's own fields give for its envelope, and what its attachments are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outrider.holding.outgoing.sender_fields import SenderFields, sender_fields
from outrider.holding.pages.attachment_list import attachments_of
from outrider.model.address import parse_address

ANN, BOB, CARL = (parse_address(f"{name}@alpha.example") for name in ("ann", "bob", "carl"))
RECEIVED = 1_800_000_000.5


def read(headers: bytes) -> SenderFields:
    return sender_fields(headers + b"\r\n", ANN, [BOB, CARL], RECEIVED)


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"Bob <bob@alpha.example>", "Bob"),
        (b'"Bob, the \\"builder\\"" <bob@alpha.example>', "Bob, the  builder"),
        (b"=?utf-8?q?B=C3=B6b?= <bob@alpha.example>", "Böb"),
        ("Böb <bob@alpha.example>".encode(), "Böb"),
        (b"bob@alpha.example", ""),
        (b"<bob@alpha.example>", ""),
        (b"Carl <carl@alpha.example>, Bob <BOB@Alpha.example>", "Bob"),
        (b"Friends: Carl <carl@alpha.example>, Bob <bob@alpha.example>;", "Bob"),
        (b'"Carl, Bob" <carl@alpha.example>, <bob@alpha.example>', ""),
        (b'"president@bank.example" <bob@alpha.example>', ""),
        (b"=?utf-8?q?x=3Cy=40z=3E?= <bob@alpha.example>", ""),
        (b'"' + b"\\" * 9001 + b'" <bob@alpha.example>', ""),
        (b'"""""""" <bob@alpha.example>', ""),
    ],
)
def test_names_are_found_where_to_tells_them(field: bytes, name: str) -> None:
    found = read(b"To: " + field + b"\r\n").names[0]
    assert found == name or set(found) <= {"\\"}


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize(
    ("field", "moment"),
    [
        (b"Tue, 14 Nov 2023 22:13:20 +0000", 1_700_000_000),
        (b"14 Nov 2023 23:13:20 +0100", 1_700_000_000),
        (b"", int(RECEIVED)),
        (b"yesterday", int(RECEIVED)),
        (b"Tue, 14 Nov 99999 22:13:20 +0000", int(RECEIVED)),
        (b"Thu, 01 Jan 1960 00:00:00 +0000", int(RECEIVED)),
        (b"1" * 100_000, int(RECEIVED)),
        (b"Tue, 31 Feb 2023 99:99:99 +9999", int(RECEIVED)),
    ],
)
def test_a_date_is_one_or_the_moment_of_reception(field: bytes, moment: int) -> None:
    found = read(b"Date: " + field + b"\r\n").date
    assert found == moment or (moment == int(RECEIVED) and 0 <= found <= 253_402_300_799)


@pytest.mark.covers("AMDP-21")
def test_threads_are_told_by_three_fields() -> None:
    found = read(
        b"Message-ID: <me@x>\r\nReferences: <a@x> junk\r\n <b@x> <a@x> <me@x>\r\nIn-Reply-To: <b@x> <c@x>\r\n"
    )
    assert (found.message_id, found.references) == ("me@x", ("a@x", "b@x", "c@x"))


def test_a_subject_is_one_line() -> None:
    assert read(b"Subject: =?utf-8?q?a=0D=0Ab?=\r\n").subject == "a  b"
    assert len(read(b"Subject: " + b"x" * 20_000 + b"\r\n").subject) <= 998


# --- attachments --------------------------------------------------------------------------------------------

MESSAGE = (
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    b'--b\r\nContent-Type: image/png; name="../../a.png"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    b"aGVsbG8g\r\nd29ybGQ=\r\n"
    b"--b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=q.csv\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\na=3Db=\r\nc\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nside\r\n"
    b"--b--\r\n"
)
COUNTED = [("../../a.png", "image/png", 11), ("q.csv", "text/csv", 4), ("", "message/rfc822", 19)]


@pytest.mark.covers("AMDP-4a", "AMDP-4b")
@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_attachments_are_counted_the_same_in_pieces_of_any_size(size: int) -> None:
    def chunks() -> Iterator[bytes]:
        return (MESSAGE[at : at + size] for at in range(0, len(MESSAGE), size))

    assert [(one.name, one.media_type, one.size) for one in attachments_of(chunks)] == COUNTED


@pytest.mark.covers("AMDP-4b", "SEC-113")
def test_what_cannot_be_taken_apart_has_none_and_many_are_cut() -> None:
    endless = b"X: y\r\n" * 400_000
    assert attachments_of(lambda: (endless,)) == ()
    part = b"--b\r\nContent-Type: image/png; name=%d.png\r\n\r\nx\r\n"
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(part % at for at in range(80))
    found = attachments_of(lambda: (many + b"--b--\r\n",))
    assert [one.name for one in found] == [f"{at}.png" for at in range(50)]
    long_name = b'Content-Type: image/png; name="' + "ü".encode() * 500 + b'"\r\n\r\nx'
    [one] = attachments_of(lambda: (long_name,))
    assert len(one.name.encode()) <= 240
