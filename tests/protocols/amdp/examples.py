"""Envelopes to test with, and Hypothesis strategies of all that can legally stand in one."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from outrider.model.address import Address, Domain, parse_address
from outrider.protocols.amdp.attachments import HeldAttachment
from outrider.protocols.amdp.digest import digest_of
from outrider.protocols.amdp.envelope import HeldEnvelope
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.mail_class import MailClass, parse_class

PLAIN = HeldEnvelope(
    sender=parse_address("ann@alpha.example"),
    recipient=parse_address("bob@beta.example"),
    id=identifier(b"\x01" * OCTETS),
    digest=digest_of([b"Subject: hello\r\n\r\nhello\r\n"]),
    mail_class=parse_class("Direct::Personal::letter"),
    date=1_700_000_000,
    timestamp=1_700_000_060,
    expires=1_700_600_000,
    holder=Domain("mhf-1.alpha.example"),
)
FULL = replace(
    PLAIN,
    sender=parse_address("ann@münchen.example"),
    holder=Domain("mhf-1.xn--mnchen-3ya.example"),
    port=8443,
    subject='Grüße, "Bob" =?utf-8?Q?x?=',
    sender_name="Ann <the> Großmann",
    recipient_name='Bob "B." \\ Jones',
    attachments=(
        HeldAttachment("../../etc/pass wd", "application/octet-stream", 0),
        HeldAttachment('über, "quoted"; 100%.pdf', "application/pdf", 123_456_789),
        HeldAttachment("plain name.txt", "text/plain", 1),
        HeldAttachment("", "image/png", 10),
    ),
    language="de-AT",
    encoding="iso-8859-15",
    holder_id="holder-7",
    keys="k1=abc;k2=def",
    postage="eyJhbGciOiJFZERTQSJ9." * 20 + "x",
    about="Über AMDP",
    version="1.7",
)
UTF8 = replace(FULL, sender=Address("jürgen", FULL.sender.domain))

texts = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffd"), max_size=60
)
tokens = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789", min_size=1, max_size=12)
classes = st.builds(
    lambda first, rest, last: parse_class("::".join([first, *rest, last])),
    st.sampled_from(["Agent", "direct", "PUBLIC", "Robot"]),
    st.lists(st.sampled_from(["Bulk", "gov", "Personal", "commerce", "x1"]), min_size=1, max_size=4),
    tokens,
)
attachments = st.builds(
    HeldAttachment, texts, st.sampled_from(["text/plain", "image/svg+xml"]), st.integers(0, 10**15 - 1)
)
local_parts = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20
)  # what needs quotes is quoted


@st.composite
def envelopes(draw: st.DrawFn) -> HeldEnvelope:
    timestamp = draw(st.integers(0, 4_000_000_000))
    domain = draw(st.sampled_from(["alpha.example", "xn--mnchen-3ya.example", "a.b.c.d.example"]))
    return HeldEnvelope(
        sender=Address(draw(local_parts), Domain(domain)),
        recipient=Address(draw(local_parts), Domain("beta.example")),
        id=identifier(draw(st.binary(min_size=OCTETS, max_size=OCTETS))),
        digest=digest_of([draw(st.binary(max_size=10))]),
        mail_class=MailClass(draw(classes).parts),
        date=draw(st.integers(0, 253_402_300_799)),
        timestamp=timestamp,
        expires=timestamp + draw(st.integers(0, 10_000_000)),
        holder=Domain(f"mhf-{draw(st.integers(1, 16))}.{domain}"),
        port=draw(st.sampled_from([443, 1024, 8443, 65_535])),
        subject=draw(texts),
        sender_name=draw(texts),
        recipient_name=draw(texts),
        attachments=tuple(draw(st.lists(attachments, max_size=4))),
        language=draw(st.sampled_from(["", "en", "pt-BR", "zh-Hant-TW"])),
        encoding=draw(st.sampled_from(["UTF-8", "us-ascii"])),
        holder_id=draw(st.sampled_from(["", "h1"])),
        keys=draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=500)),
        postage=draw(st.text("abc.-_=0", max_size=300)),
        about=draw(texts.filter(bool)),
        version=draw(st.sampled_from(["1.0", "1.12"])),
    )
