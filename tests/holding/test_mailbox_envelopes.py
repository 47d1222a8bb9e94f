"""What in a mailbox is an envelope, and may be used (AMDP-10, AMDP-15)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.holding.incoming.mailbox_envelopes import MAX_ENVELOPE, Announced, read_announced
from outrider.model.address import Domain, parse_address
from outrider.model.content import Content, inline_content
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.envelope import (
    HeldEnvelope,
    retrieval_link,
    verified,
    with_link_token,
    write_envelope,
)
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.values import EnvelopeError

SECRET = "zyxwvutsrqponmlkjihgfedc76"
ENVELOPE = HeldEnvelope(
    sender=parse_address("ann@alpha.example"),
    recipient=parse_address("bob@beta.example"),
    id="abcdefghijklmnopqrstuvwx23",
    digest=digest_of([b"hello"]),
    mail_class=parse_class("Direct::Personal::letter"),
    date=1_800_000_000,
    timestamp=1_800_000_060,
    expires=1_800_600_000,
    holder=Domain("mhf-1.alpha.example"),
    port=8443,
    subject="Grüße",
)
WRITTEN = inline_content(write_envelope(ENVELOPE, message_id="a@alpha.example"))


def octets(content: Content) -> bytes:
    return content.headers + b"".join(content.body.chunks())


PROVEN = octets(verified(WRITTEN, SECRET, retrieval_link(ENVELOPE, SECRET)))
BY_LINK = octets(with_link_token(WRITTEN, SECRET))


@pytest.mark.covers("AMDP-15", "AMDP-10")
def test_both_kinds_are_read_and_told_apart() -> None:
    assert read_announced(PROVEN) == Announced(ENVELOPE, SECRET, proven=True)
    assert read_announced(BY_LINK) == Announced(ENVELOPE, SECRET, proven=False)
    assert SECRET not in repr(read_announced(PROVEN))


@pytest.mark.covers("AMDP-15")
@pytest.mark.parametrize(
    "mail", [b"", b"Subject: x\r\n\r\nAMDP-Msg-Id: y\r\n", b"AMDP-Msg-Id: y" + b"x" * MAX_ENVELOPE]
)
def test_ordinary_mail_is_none(mail: bytes) -> None:
    assert read_announced(mail) is None


@pytest.mark.covers("AMDP-10", "AMDP-15")
@pytest.mark.parametrize(
    "change",
    [
        lambda mail: mail.replace(b"AMDP-Verified-Confirmation: " + SECRET.encode(), b"X: y"),
        lambda mail: mail.replace(SECRET.encode(), b"short"),
        lambda mail: b"AMDP-Verified-Msg-Id: " + b"a" * 26 + b"\r\n" + mail,
        lambda mail: mail.replace(
            b"AMDP-Verified-MHF-Name: mhf-1.alpha", b"AMDP-Verified-MHF-Name: http://x"
        ),
        lambda mail: mail.replace(b"AMDP-Verified-Auth-Port: 8443", b"AMDP-Verified-Auth-Port: 25"),
        lambda mail: mail.replace(b"AMDP-Verified-Digest", b"AMDP-Digest"),
        lambda mail: mail.replace(b"From: <ann@alpha.example>", b"From: <ann@evil.example>", 1),
    ],
    ids=["no number", "no such number", "twice", "no name", "bad port", "not verified", "other sender"],
)
def test_an_envelope_that_was_tampered_with_is_not_used(change: Callable[[bytes], bytes]) -> None:
    changed = change(PROVEN)
    assert changed != PROVEN
    with pytest.raises(EnvelopeError):
        read_announced(changed)


@pytest.mark.covers("AMDP-5a")
@pytest.mark.parametrize(
    "text",
    [
        b"https://mhf-1.alpha.example:8443/m/abcdefghijklmnopqrstuvwx23\r\n",
        b"https://mhf-1.evil.example:8443/m/abcdefghijklmnopqrstuvwx23/" + SECRET.encode() + b"\r\n",
        b"https://mhf-1.alpha.example:8443/m/abcdefghijklmnopqrstuvwx23/" + SECRET.encode() + b"x\r\n",
        b"https://mhf-1.alpha.example:8443/m/abcdefghijklmnopqrstuvwx23/" + SECRET.encode() + b"\r\n"
        b"https://mhf-1.alpha.example:8443/m/abcdefghijklmnopqrstuvwx23/"
        + SECRET[::-1].replace("1", "a").encode(),
    ],
    ids=["no token", "elsewhere", "longer", "two"],
)
def test_a_link_is_the_one_of_the_envelope(text: bytes) -> None:
    with pytest.raises(EnvelopeError):
        read_announced(WRITTEN.headers + text)


@pytest.mark.covers("AMDP-15")
@given(st.sampled_from([PROVEN, BY_LINK]), st.integers(0, 3000), st.integers(0, 40), st.binary(max_size=60))
def test_whatever_is_put_into_it_is_read_or_refused(mail: bytes, at: int, cut: int, put: bytes) -> None:
    try:
        found = read_announced(mail[:at] + put + mail[at + cut :])
    except EnvelopeError:
        return
    assert found is None or len(found.secret) == 26
