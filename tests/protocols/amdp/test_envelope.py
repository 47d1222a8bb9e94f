"""Envelopes: every field survives, no value ends its field, what is malformed is refused with its name."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.amdp.examples import FULL, PLAIN, UTF8, envelopes
from tests.protocols.amdp.vectors import vectors

from outrider.message.header_fields import field_values, header_fields
from outrider.model.address import Address, Domain, parse_address
from outrider.model.content import InlineBody, inline_content, split_content
from outrider.protocols.amdp.attachments import MAX_NAME, MOST, HeldAttachment
from outrider.protocols.amdp.digest import Digest
from outrider.protocols.amdp.envelope import (
    MAX_HEADERS,
    EnvelopeError,
    HeldEnvelope,
    fields_digest,
    read_envelope,
    retrieval_link,
    verified,
    with_link_token,
    without_verified,
    write_envelope,
)
from outrider.protocols.amdp.mail_class import MailClass

MESSAGE_ID = "q1@mhf-1.alpha.example"
TOKEN = "t" * 26
NUMBER = "c" * 26


def written(envelope: HeldEnvelope, *, utf8: bool = False) -> bytes:
    return write_envelope(envelope, message_id=MESSAGE_ID, utf8=utf8)


def section(envelope: HeldEnvelope, *, utf8: bool = False) -> bytes:
    return split_content(written(envelope, utf8=utf8))[0]


def changed(old: bytes, new: bytes, envelope: HeldEnvelope = PLAIN) -> bytes:
    """The header section with one line otherwise."""
    headers = section(envelope)
    assert headers.count(old) == 1, old
    return headers.replace(old, new)


# -- what is written is read ---------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize("envelope", [PLAIN, FULL], ids=["plain", "full"])
@pytest.mark.parametrize("utf8", [False, True])
def test_every_field_survives(envelope: HeldEnvelope, utf8: bool) -> None:
    assert read_envelope(section(envelope, utf8=utf8)) == envelope


def test_the_full_example_leaves_no_field_at_its_default() -> None:
    """Guards the test above: a field that is added must be put into the example."""
    assert all(
        getattr(FULL, one.name) != getattr(PLAIN, one.name) for one in fields(FULL) if one.name in OPTIONAL
    )
    assert {one.name for one in fields(FULL)} == OPTIONAL | REQUIRED


REQUIRED = {"sender", "recipient", "id", "digest", "mail_class", "date", "timestamp", "expires"}
OPTIONAL = {
    "holder", "port", "subject", "sender_name", "recipient_name", "attachments", "language", "encoding",
    "holder_id", "keys", "postage", "about", "version",
}  # fmt: skip


@pytest.mark.covers("AMDP-4a")
@settings(max_examples=150, deadline=None)
@given(envelopes(), st.booleans())
def test_whatever_can_legally_be_said_survives(envelope: HeldEnvelope, utf8: bool) -> None:
    octets = written(envelope, utf8=utf8)
    assert utf8 or split_content(octets)[0].isascii()
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    assert read_envelope(split_content(octets)[0]) == envelope


@pytest.mark.covers("AMDP-4a")
def test_every_field_of_the_draft_is_there() -> None:
    names = {field.name.decode() for field in header_fields(section(FULL)) if field.name.startswith(b"AMDP-")}
    assert names == {
        f"AMDP-{name}"
        for name in (
            "About", "From", "From-Name", "To", "To-Name", "Subject", "Attachments", "Mail-Class", "Language",
            "Encoding", "Date", "Msg-Id", "Size", "MHF-Name", "MHF-Id", "Auth-Port", "Timestamp", "Expire-On",
            "Auth-Keys", "Version", "Payment-Rcpt", "Digest",
        )
    }  # fmt: skip


@pytest.mark.covers("AMDP-4a")
def test_raw_utf8_only_where_it_may_stand() -> None:
    assert section(FULL).isascii()
    raw = section(UTF8, utf8=True)
    assert b"AMDP-From: <j\xc3\xbcrgen@xn--mnchen-3ya.example>\r\n" in raw
    assert read_envelope(raw) == UTF8
    assert UTF8.needs_utf8
    with pytest.raises(EnvelopeError, match="SMTPUTF8"):
        written(UTF8)


@pytest.mark.covers("AMDP-4a")
def test_a_domain_is_in_a_labels_whoever_writes_it() -> None:
    assert b"<ann@xn--mnchen-3ya.example>" in section(FULL, utf8=True)
    headers = section(FULL, utf8=True).replace(b"xn--mnchen-3ya", "münchen".encode())
    read = read_envelope(headers.replace("mhf-1.münchen".encode(), b"mhf-1.xn--mnchen-3ya"))
    assert read.domain == "xn--mnchen-3ya.example"


@pytest.mark.covers("AMDP-4a")
def test_the_largest_envelope_is_one_that_is_read() -> None:
    """At every bound at once: the writer never makes what the reader refuses."""
    text = "\U0001f600" * 998
    name = "\U0001f600" * (MAX_NAME // 4)
    largest = replace(
        FULL,
        subject=text, sender_name=text, recipient_name=text, about=text, postage="x" * 8192, keys="k" * 500,
        attachments=tuple(HeldAttachment(name, "x" * 127 + "/" + "y" * 127, 10**15 - 1) for _ in range(MOST)),
    )  # fmt: skip
    headers = section(largest)
    assert len(headers) < MAX_HEADERS
    assert read_envelope(headers) == largest


# -- nothing ends its field ----------------------------------------------------------------------------------

EVIL = [
    "\r\nBcc: <x@x.example>",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\x0bb",
    "a\x1bb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
]
INJECTED: dict[str, Any] = {
    "sender": lambda text: Address(f"a{text}", Domain("alpha.example")),
    "recipient": lambda text: Address(f"a{text}", Domain("beta.example")),
    "id": lambda text: PLAIN.id[:-1] + text,
    "mail_class": lambda text: MailClass(("Agent", "Bulk", f"x{text}")),
    "holder": lambda text: Domain(f"mhf-1.alpha.example{text}"),
    "subject": str, "sender_name": str, "recipient_name": str, "language": str, "encoding": str,
    "holder_id": str, "keys": str, "postage": str, "about": str, "version": str,
    "attachments": lambda text: (HeldAttachment(text, "text/plain", 1),),
}  # fmt: skip
NUMBERS = {"digest", "date", "timestamp", "expires", "port"}


@pytest.mark.covers("AMDP-4a", "AMDP-7")
@pytest.mark.parametrize("evil", EVIL, ids=[repr(one) for one in EVIL])
@pytest.mark.parametrize("field", sorted(INJECTED))
def test_no_value_is_written_that_would_end_its_field(field: str, evil: str) -> None:
    with pytest.raises(EnvelopeError):
        written(replace(FULL, **{field: INJECTED[field](evil)}), utf8=True)


def test_every_field_is_among_those_tried() -> None:
    assert set(INJECTED) | NUMBERS == {one.name for one in fields(HeldEnvelope)}


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize("media_type", ["text/plain\r\nX: y", "text/plain; x=y", "TEXT/plain", "text", ""])
def test_a_media_type_ends_no_field_either(media_type: str) -> None:
    with pytest.raises(EnvelopeError, match="AMDP-Attachments"):
        written(replace(PLAIN, attachments=(HeldAttachment("a", media_type, 1),)))


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize("message_id", ["a\r\nb", "a b", "<a@b>", "", "a>\r\n"])
def test_a_message_id_ends_no_field_either(message_id: str) -> None:
    with pytest.raises(EnvelopeError, match="Message-ID"):
        write_envelope(PLAIN, message_id=message_id)


@pytest.mark.covers("AMDP-7")
@pytest.mark.parametrize(
    "name", [b"Subject", b"AMDP-Subject", b"AMDP-From-Name", b"AMDP-To-Name", b"AMDP-About"]
)
@pytest.mark.parametrize(
    "value", [b"=?utf-8?Q?a=0D=0ABcc:_x?=", b"=?utf-8?Q?a=00?=", b"a\x00b", b"a\nb", b"a\rb", b"\xff\xfe"]
)
def test_what_encoded_words_hide_is_refused_too(name: bytes, value: bytes) -> None:
    headers = name + b": " + value + b"\r\n"
    headers += b"".join(
        section(PLAIN)[one.start : one.end] for one in header_fields(section(PLAIN)) if one.name != name
    )
    with pytest.raises(EnvelopeError):
        read_envelope(headers + b"\r\n")


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-7")
@pytest.mark.parametrize(
    "name",
    [
        b"From", b"To", b"Mail-Class", b"Date", b"Msg-Id", b"Size", b"MHF-Name", b"Auth-Port", b"Timestamp",
        b"Expire-On", b"Version", b"Digest",
    ],
)  # fmt: skip
def test_a_field_that_must_be_there(name: bytes) -> None:
    headers = section(PLAIN)
    field = next(one for one in header_fields(headers) if one.name == b"AMDP-" + name)
    without = headers[: field.start] + headers[field.end :]
    with pytest.raises(EnvelopeError, match=f"AMDP-{name.decode()} is missing"):
        read_envelope(without)
    with pytest.raises(EnvelopeError, match="stands twice"):
        read_envelope(headers[: field.end] + headers[field.start :])


WRONG = [
    (b"AMDP-From: <ann@alpha.example>", b"AMDP-From: ann@alpha.example"),
    (b"AMDP-From: <ann@alpha.example>", b"AMDP-From: <ann@alpha.example><x@y.example>"),
    (b"AMDP-From: <ann@alpha.example>", b"AMDP-From: <>"),
    (b"AMDP-From: <ann@alpha.example>", b"AMDP-From: <postmaster>"),
    (b"AMDP-From: <ann@alpha.example>", b"AMDP-From: <ann@alpha.example >"),
    (b"AMDP-From: <ann@alpha.example>", b"AMDP-From: <ann@other.example>"),
    (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <bob@beta.example>, <c@beta.example>"),
    (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <eve@beta.example>"),
    (b"AMDP-Mail-Class: Direct::Personal::letter", b"AMDP-Mail-Class: Direct::*"),
    (b"AMDP-Mail-Class: Direct::Personal::letter", b"AMDP-Mail-Class: letter"),
    (b"AMDP-Date: Tue, 14 Nov 2023 22:13:20 +0000", b"AMDP-Date: Tue, 14 Nov 2023 22:13:20 +0100"),
    (b"AMDP-Date: Tue, 14 Nov 2023 22:13:20 +0000", b"AMDP-Date: Tue, 31 Feb 2023 22:13:20 +0000"),
    (b"AMDP-Date: Tue, 14 Nov 2023 22:13:20 +0000", b"AMDP-Date: yesterday"),
    (b"AMDP-Msg-Id: " + PLAIN.id.encode(), b"AMDP-Msg-Id: ../../../../etc/passwd"),
    (b"AMDP-Msg-Id: " + PLAIN.id.encode(), b"AMDP-Msg-Id: " + PLAIN.id.upper().encode()),
    (b"AMDP-Msg-Id: " + PLAIN.id.encode(), b"AMDP-Msg-Id: " + PLAIN.id.encode() + b"a"),
    (b"AMDP-Size: 25 bytes", b"AMDP-Size: 26 bytes"),
    (b"AMDP-Size: 25 bytes", b"AMDP-Size: 25"),
    (b"AMDP-Size: 25 bytes", b"AMDP-Size: -25 bytes"),
    (b"AMDP-Size: 25 bytes", b"AMDP-Size: \xd9\xa2\xd9\xa5 bytes"),
    (b"length=25", b"length=26"),
    (b"length=25", b"length=99999999999999999999"),
    (b"AMDP-MHF-Name: mhf-1.alpha.example", b"AMDP-MHF-Name: [127.0.0.1]"),
    (b"AMDP-MHF-Name: mhf-1.alpha.example", b"AMDP-MHF-Name: 127.0.0.1"),
    (b"AMDP-MHF-Name: mhf-1.alpha.example", b"AMDP-MHF-Name: localhost"),
    (b"AMDP-MHF-Name: mhf-1.alpha.example", b"AMDP-MHF-Name: a.example/x"),
    (b"AMDP-MHF-Name: mhf-1.alpha.example", b"AMDP-MHF-Name: good@a.example"),
    (b"AMDP-MHF-Name: mhf-1.alpha.example", b"AMDP-MHF-Name: a.example:80"),
    (b"AMDP-Auth-Port: 443", b"AMDP-Auth-Port: 25"),
    (b"AMDP-Auth-Port: 443", b"AMDP-Auth-Port: 1023"),
    (b"AMDP-Auth-Port: 443", b"AMDP-Auth-Port: 65536"),
    (b"AMDP-Auth-Port: 443", b"AMDP-Auth-Port: 0x1bb"),
    (b"AMDP-Timestamp: 1700000060", b"AMDP-Timestamp: 1e9"),
    (b"AMDP-Timestamp: 1700000060", b"AMDP-Timestamp: 999999999999999"),
    (b"AMDP-Timestamp: 1700000060", b"AMDP-Timestamp: 1800000000"),
    (b"AMDP-Version: 1.0", b"AMDP-Version: 2.0"),
    (b"AMDP-Version: 1.0", b"AMDP-Version: one"),
    (b"From: <ann@alpha.example>\r\nTo:", b"From: <ann@other.example>\r\nTo:"),
    (b"From: <ann@alpha.example>\r\nTo:", b"From: <ann@alpha.example>\r\nFrom: <ann@alpha.example>\r\nTo:"),
    (b"From: <ann@alpha.example>\r\nTo:", b"From: <a@alpha.example>, <b@alpha.example>\r\nTo:"),
    (b"From: <ann@alpha.example>\r\nTo:", b"From: team: <a@alpha.example>;\r\nTo:"),
    (b"From: <ann@alpha.example>\r\nTo:", b"From: (<x@y.example>) <a@alpha.example>\r\nTo:"),
    (b"From: <ann@alpha.example>\r\nTo:", b"From: a@other.example <a@alpha.example>\r\nTo:"),
    (b"From: <ann@alpha.example>\r\nTo:", b"X-From: <ann@alpha.example>\r\nTo:"),
    (b"To: <bob@beta.example>\r\nSubject", b"To: <eve@beta.example>\r\nSubject"),
    (b"\r\nSubject: \r\n", b"\r\nSubject: other than said\r\n"),
]  # fmt: skip


@pytest.mark.covers("AMDP-7", "AMDP-8", "SEC-186")
@pytest.mark.parametrize(("old", "new"), WRONG, ids=[repr(new)[2:60] for _, new in WRONG])
def test_what_is_malformed_or_contradicts_itself(old: bytes, new: bytes) -> None:
    headers = section(PLAIN)
    assert old in headers
    with pytest.raises(EnvelopeError) as refused:
        read_envelope(headers.replace(old, new, 1))
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@pytest.mark.covers("AMDP-4a")
@pytest.mark.parametrize(
    "entry",
    [
        b"x",
        b"text/plain",
        b'text/plain; size=1; name="a";',
        b'text/plain; size=-1; name="a"',
        b",",
        b"a/b; size=1; ",
        b"a/b; size=1; name*=utf-8''%FF",
        b"a/b; size=1; name*=utf-8''a%0D%0Ab",
        b'a/b; size=1; name="a"b"',
    ],
)
def test_attachments_that_are_malformed(entry: bytes) -> None:
    headers = changed(b"AMDP-Version: 1.0\r\n", b"AMDP-Version: 1.0\r\nAMDP-Attachments: " + entry + b"\r\n")
    with pytest.raises(EnvelopeError, match="AMDP-Attachments"):
        read_envelope(headers)


@pytest.mark.covers("AMDP-7")
def test_a_header_section_that_is_too_long() -> None:
    with pytest.raises(EnvelopeError, match="too long"):
        read_envelope(section(PLAIN)[:-2] + b"X: " + b"y" * MAX_HEADERS + b"\r\n\r\n")


@pytest.mark.covers("AMDP-7")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_envelope_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    headers = bytearray(section(FULL))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(headers) - 1))
        headers[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        envelope = read_envelope(bytes(headers))
    except EnvelopeError:
        return
    again = section(envelope, utf8=True)
    assert read_envelope(again) == envelope


# -- the canonical form --------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-9")
@pytest.mark.parametrize("case", vectors("canonical"), ids=lambda case: case["name"])
def test_the_canonical_form(case: Any) -> None:
    assert hashlib.sha256(case["canonical"].encode()).hexdigest() == case["fields"]
    for form in case["forms"]:
        assert fields_digest(form.encode()) == case["fields"]


@pytest.mark.covers("AMDP-9", "SEC-182")
def test_every_changed_field_changes_the_digest() -> None:
    known = fields_digest(section(FULL))
    for field in header_fields(section(FULL)):
        if field.name.startswith(b"AMDP-") or field.name in (b"From", b"To", b"Subject"):
            headers = section(FULL)
            assert fields_digest(headers[: field.end - 2] + b"x\r\n" + headers[field.end :]) != known
    assert fields_digest(section(FULL) + b"") == known
    assert fields_digest(b"Received: from x\r\n" + section(FULL)) == known


@pytest.mark.covers("AMDP-9")
def test_the_link_is_not_among_what_is_digested() -> None:
    """So that the envelope with a link token and the one without are one to the call-back."""
    content = inline_content(written(FULL))
    assert fields_digest(with_link_token(content, TOKEN).headers) == fields_digest(content.headers)


# -- links ---------------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-5a")
def test_the_token_stands_in_the_link_and_nowhere_else() -> None:
    content = inline_content(written(FULL))
    linked = with_link_token(content, TOKEN)
    body = b"".join(linked.body.chunks())
    assert b"\r\n" + retrieval_link(FULL, TOKEN).encode() + b"\r\n" in body
    assert body.count(TOKEN.encode()) == 1
    assert linked.headers == content.headers
    assert with_link_token(content, TOKEN) == linked


@pytest.mark.covers("AMDP-5a")
def test_a_subject_that_looks_like_the_link_gets_no_token() -> None:
    envelope = replace(PLAIN, subject=retrieval_link(PLAIN))
    linked = with_link_token(inline_content(written(envelope)), TOKEN)
    body = b"".join(linked.body.chunks())
    assert body.count(TOKEN.encode()) == 1
    assert retrieval_link(PLAIN, TOKEN).encode() + b"\r\n" in body


@pytest.mark.covers("AMDP-5a")
def test_what_is_no_envelope_is_left_as_it_is() -> None:
    for octets in (b"Subject: x\r\n\r\nhttps://a.example/m/x\r\n", section(PLAIN) + b"no link"):
        content = inline_content(octets)
        assert with_link_token(content, TOKEN) is content


@pytest.mark.covers("AMDP-4a")
def test_the_text_tells_what_is_held() -> None:
    text = split_content(written(replace(FULL, sender_name="\u202eAnn")))[1].decode()
    for told in (
        "Grüße", "ann@xn--mnchen-3ya.example", "Direct::Personal::letter", "25 bytes", "117.7 MB",
        "Tue, 21 Nov 2023", "https://mhf-1.xn--mnchen-3ya.example:8443/m/" + FULL.id, "nothing yet",
    ):  # fmt: skip
        assert told in text
    assert "\\u202eAnn" in text
    assert "\u202e" not in text


@pytest.mark.covers("AMDP-4a")
def test_the_port_is_left_out_of_the_link_where_it_is_443() -> None:
    assert retrieval_link(PLAIN) == f"https://mhf-1.alpha.example/m/{PLAIN.id}"


# -- after the call-back -------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-10", "AMDP-14")
def test_a_verified_envelope_is_not_one_to_call_back_for() -> None:
    content = inline_content(written(FULL))
    link = retrieval_link(FULL, NUMBER)
    done = verified(content, NUMBER, link)
    names = [field.name for field in header_fields(done.headers)]
    assert not [
        name for name in names if name.startswith(b"AMDP-") and not name.startswith(b"AMDP-Verified-")
    ]
    assert field_values(done.headers, b"AMDP-Verified-Confirmation") == (NUMBER.encode(),)
    assert field_values(done.headers, b"AMDP-Verified-Link") == (f"<{link}>".encode(),)
    for field in header_fields(content.headers):
        if field.name.startswith(b"AMDP-"):
            assert field_values(done.headers, b"AMDP-Verified-" + field.name[5:]) == (field.unfolded,)
    with pytest.raises(EnvelopeError, match="missing"):
        read_envelope(done.headers)
    assert f"\r\n{link}\r\n".encode() in b"".join(done.body.chunks())
    assert verified(content, NUMBER, link) == done


@pytest.mark.covers("AMDP-8", "AMDP-10")
def test_nothing_that_a_sender_forged_as_verified_is_kept() -> None:
    forged = b"AMDP-Verified-From: <ceo@bank.example>\r\nAMDP-Verified-Link : <https://evil.example/>\r\n"
    content = inline_content(forged + section(PLAIN) + b"Your bank writes:\r\nhttps://evil.example/\r\n")
    done = verified(content, NUMBER, retrieval_link(PLAIN, NUMBER))
    whole = done.headers + b"".join(done.body.chunks())
    assert b"evil" not in whole
    assert b"bank" not in whole
    assert b"Proven:      alpha.example" in whole


@pytest.mark.covers("AMDP-10")
def test_a_foreign_body_format_does_not_hide_the_text() -> None:
    headers = changed(b"MIME-Version: 1.0\r\n", b"mime-version: 1.0\r\nnot a field\r\n").replace(
        b"Content-Type: text/plain; charset=utf-8",
        b'CONTENT-TYPE: multipart/mixed; boundary="x"\r\nContent-ID: <y>',
    )
    done = verified(inline_content(headers + b"--x\r\n"), NUMBER, retrieval_link(PLAIN, NUMBER))
    assert field_values(done.headers, b"Content-Type") == (b"text/plain; charset=utf-8",)
    assert field_values(done.headers, b"Content-ID") == ()
    assert b"not a field" not in done.headers
    assert isinstance(done.body, InlineBody)


@pytest.mark.covers("AMDP-10")
def test_strangers_lose_what_only_a_gateway_may_say() -> None:
    headers = b"Subject: x\r\nAMDP-verified-From: <a@b>\r\n folded\r\nAMDP-VERIFIED-To: <c@d>\r\nX: y\r\n\r\n"
    assert without_verified(headers) == b"Subject: x\r\nX: y\r\n\r\n"
    assert without_verified(b"Subject: x\r\n\r\n") == b"Subject: x\r\n\r\n"


def test_a_digest_says_the_size() -> None:
    envelope = replace(PLAIN, digest=Digest(b"\x00" * 32, 7), sender=parse_address("ann@alpha.example"))
    assert envelope.size == 7
    assert b"AMDP-Size: 7 bytes\r\n" in section(envelope)
