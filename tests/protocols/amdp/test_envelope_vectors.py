"""The envelopes of tests/vectors/amdp/envelope.json, octet for octet in both directions."""

from __future__ import annotations

from typing import Any

import pytest
from tests.protocols.amdp.vectors import vectors

from outrider.message.header_fields import header_fields
from outrider.model.address import Domain, parse_address
from outrider.model.content import inline_content, split_content
from outrider.protocols.amdp.attachments import HeldAttachment
from outrider.protocols.amdp.digest import parse_digest
from outrider.protocols.amdp.envelope import (
    EnvelopeError,
    HeldEnvelope,
    fields_digest,
    read_envelope,
    verified,
    with_link_token,
    write_envelope,
)
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.submission import HeldRecipient, Submission, read_submission, write_submission

CASES = vectors("envelope")


def envelope_of(values: Any) -> HeldEnvelope:
    """An envelope of the vectors' form."""
    return HeldEnvelope(
        **values
        | {
            "sender": parse_address(values["sender"]),
            "recipient": parse_address(values["recipient"]),
            "digest": parse_digest(values["digest"]),
            "mail_class": parse_class(values["mail_class"]),
            "holder": Domain(values["holder"]),
            "attachments": tuple(HeldAttachment(*one) for one in values.get("attachments", ())),
        }
    )


@pytest.mark.covers("AMDP-4a", "AMDP-9")
@pytest.mark.parametrize("case", CASES["envelopes"], ids=lambda case: case["name"])
def test_an_envelope(case: Any) -> None:
    envelope, message = envelope_of(case["values"]), case["message"].encode()
    assert write_envelope(envelope, message_id=case["message_id"], utf8=case["utf8"]) == message
    headers, _ = split_content(message)
    assert read_envelope(headers) == envelope
    assert fields_digest(headers) == case["fields"]


@pytest.mark.covers("AMDP-5a", "AMDP-14")
@pytest.mark.parametrize("case", CASES["envelopes"], ids=lambda case: case["name"])
def test_what_becomes_of_it(case: Any) -> None:
    content = inline_content(case["message"].encode())
    linked = with_link_token(content, case["token"])
    assert (linked.headers + b"".join(linked.body.chunks())).decode() == case["linked"]
    done = verified(content, case["confirmation"], case["link"])
    assert (done.headers + b"".join(done.body.chunks())).decode() == case["verified"]


@pytest.mark.covers("AMDP-7")
@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["name"])
def test_what_is_refused(case: Any) -> None:
    headers, _ = split_content(CASES["envelopes"][0]["message"].encode())
    changed = b"".join(
        case["line"].encode()
        if field.name.decode() == case["instead_of"]
        else headers[field.start : field.end]
        for field in header_fields(headers)
    )
    with pytest.raises(EnvelopeError) as refused:
        read_envelope(changed + b"\r\n")
    assert str(refused.value) == case["words"]


@pytest.mark.covers("AMDP-2")
@pytest.mark.parametrize("case", CASES["submissions"], ids=lambda case: case["name"])
def test_a_submission(case: Any) -> None:
    values = case["values"]
    submission = Submission(
        **values
        | {
            "sender": parse_address(values["sender"]),
            "recipients": tuple(
                HeldRecipient(parse_address(address), name) for address, name in values["recipients"]
            ),
            "mail_class": parse_class(values["mail_class"]),
        }
    )
    assert write_submission(submission, utf8=case["utf8"]).decode() == case["fields"]
    assert read_submission(case["fields"].encode() + b"Subject: x\r\n\r\n") == (
        submission,
        b"Subject: x\r\n\r\n",
    )
