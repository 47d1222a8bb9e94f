"""The form for several recipients between outgoing gateway and holding facility."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.amdp.examples import classes, local_parts, texts

from outrider.model.address import Address, Domain, parse_address
from outrider.protocols.amdp.mail_class import MailClass, parse_class
from outrider.protocols.amdp.submission import (
    MOST_RECIPIENTS,
    HeldRecipient,
    Submission,
    read_submission,
    without_amdp,
    write_submission,
)
from outrider.protocols.amdp.values import EnvelopeError

MESSAGE = b"DKIM-Signature: v=1;\r\n\tb=x\r\nFrom: <ann@alpha.example>\r\nSubject:  odd   blanks \r\n\r\n"
PLAIN = Submission(
    parse_address("ann@alpha.example"),
    (HeldRecipient(parse_address("bob@beta.example")),),
    parse_class("Agent::Bulk::news"),
)
FULL = Submission(
    sender=parse_address("ann@münchen.example"),
    recipients=(
        HeldRecipient(parse_address("bob@beta.example"), "Bob"),
        HeldRecipient(parse_address('"a>, <b"@beta.example')),
        HeldRecipient(parse_address("eve@gamma.example"), "Ève <the> first"),
    ),
    mail_class=parse_class("Agent::Bulk::news"),
    sender_name="Ann Großmann",
    language="de",
    expires=1_700_600_000,
    gateway="omg-1",
    receipt=True,
)


def read(submission: Submission, *, utf8: bool = False) -> Submission:
    said, rest = read_submission(write_submission(submission, utf8=utf8) + MESSAGE)
    assert rest == MESSAGE
    return said


@pytest.mark.covers("AMDP-2")
@pytest.mark.parametrize("submission", [PLAIN, FULL], ids=["plain", "full"])
def test_every_field_survives_and_the_message_is_untouched(submission: Submission) -> None:
    assert read(submission) == submission
    assert read(submission, utf8=True) == submission


@pytest.mark.covers("AMDP-2")
def test_the_form_for_several_recipients() -> None:
    written = write_submission(FULL).replace(b"\r\n <", b"<")
    assert b'AMDP-To: <bob@beta.example><"a>, <b"@beta.example><eve@gamma.example>\r\n' in written
    assert b"AMDP-To-Name: <Bob><><=?utf-8?B?" in written
    assert b"AMDP-OMG-Id: omg-1\r\n" in written


@pytest.mark.covers("AMDP-2")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(local_parts, texts), min_size=1, max_size=6), classes, texts,
    st.sampled_from(["", "en", "pt-BR"]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_whatever_can_legally_be_said_survives(
    people: list[tuple[str, str]], mail_class: MailClass, name: str, language: str, receipt: bool, utf8: bool
) -> None:
    recipients = tuple(HeldRecipient(Address(local, Domain("beta.example")), one) for local, one in people)
    submission = replace(
        PLAIN,
        recipients=recipients, mail_class=mail_class, sender_name=name, language=language, receipt=receipt,
    )  # fmt: skip
    assert read(submission, utf8=utf8) == submission


@pytest.mark.covers("AMDP-2")
def test_ten_thousand_recipients() -> None:
    one = HeldRecipient(Address("a" * 64, Domain("beta.example")), "A B")
    assert len(read(replace(PLAIN, recipients=(one,) * MOST_RECIPIENTS)).recipients) == MOST_RECIPIENTS
    with pytest.raises(EnvelopeError, match="10000"):
        write_submission(replace(PLAIN, recipients=(one,) * (MOST_RECIPIENTS + 1)))
    with pytest.raises(EnvelopeError, match="AMDP-To"):
        write_submission(replace(PLAIN, recipients=()))


INJECTED: dict[str, Any] = {
    "sender": lambda text: Address(f"a{text}", Domain("alpha.example")),
    "recipients": lambda text: (HeldRecipient(PLAIN.sender, f"x{text}"),),
    "mail_class": lambda text: MailClass(("Agent", "Bulk", f"x{text}")),
    "sender_name": str, "language": str, "gateway": str,
}  # fmt: skip


@pytest.mark.covers("AMDP-2", "AMDP-1")
@pytest.mark.parametrize("evil", ["\r\nBcc: <x@x.example>", "a\nb", "a\rb", "a\x00b", "a\x85b"], ids=repr)
@pytest.mark.parametrize("field", sorted(INJECTED))
def test_no_value_ends_its_field(field: str, evil: str) -> None:
    with pytest.raises(EnvelopeError):
        write_submission(replace(FULL, **{field: INJECTED[field](evil)}), utf8=True)
    assert set(INJECTED) | {"expires", "receipt"} == {one.name for one in fields(Submission)}


@pytest.mark.covers("AMDP-2")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"AMDP-From: <ann@alpha.example>\r\n", b""),
        (b"AMDP-To: <bob@beta.example>\r\n", b""),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: "),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <bob@beta.example"),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <bob@beta.example>,<c@d.example>"),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <>"),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: bob@beta.example"),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <bob@beta.example>\r\nAMDP-To: <c@d.example>"),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <bob@beta.example>\r\nAMDP-To-Name: <a><b>"),
        (b"AMDP-To: <bob@beta.example>", b"AMDP-To: <bob@beta.example>\r\nAMDP-To-Name: a"),
        (b"AMDP-Mail-Class: Agent::Bulk::news", b"AMDP-Mail-Class: *"),
        (b"AMDP-Mail-Class: Agent::Bulk::news\r\n", b""),
        (b"AMDP-From:", b"AMDP-Expire-On: soon\r\nAMDP-From:"),
        (b"AMDP-From:", b"AMDP-OMG-Id: a b\r\nAMDP-From:"),
        (b"AMDP-From:", b"AMDP-Language: english\r\nAMDP-From:"),
    ],
)
def test_what_is_refused(old: bytes, new: bytes) -> None:
    written = write_submission(PLAIN)
    assert old in written
    with pytest.raises(EnvelopeError):
        read_submission(written.replace(old, new) + MESSAGE)


@pytest.mark.covers("AMDP-1")
def test_what_a_user_wrote_of_amdp_is_taken_out() -> None:
    forged = b"amdp-From : <ceo@bank.example>\r\nAMDP-Verified-From: <x@y.example>\r\n\tfolded\r\n"
    assert without_amdp(forged + MESSAGE + forged) == MESSAGE + forged
    assert without_amdp(MESSAGE) == MESSAGE
