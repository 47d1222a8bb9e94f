"""What came, compared with what the envelope told (AMDP-4b)."""

from __future__ import annotations

import pytest

from outrider.protocols.amdp.attachments import MOST, HeldAttachment, differences

PDF = HeldAttachment("a.pdf", "application/pdf", 10)
TEXT = HeldAttachment("b.txt", "text/plain", 20)


@pytest.mark.covers("AMDP-4b")
def test_what_differs_is_told() -> None:
    assert differences((PDF, TEXT), (PDF, TEXT)) == ()
    assert differences((PDF,), (HeldAttachment("a.pdf", "application/pdf", 11),)) == (
        "attachment 1: told of a.pdf (application/pdf, 10 octets), came a.pdf (application/pdf, 11 octets)",
    )
    assert differences((PDF, TEXT), (PDF,)) == ("told of 2 attachments, came 1",)
    assert differences((), (PDF,)) == ("told of 0 attachments, came 1",)
    evil = HeldAttachment("../\r\nx", "text/html", 1)
    (line,) = differences((evil,), (TEXT,))
    assert line.isprintable()


@pytest.mark.covers("AMDP-4b")
def test_more_attachments_than_an_envelope_tells_of() -> None:
    assert differences((PDF,) * MOST, (PDF,) * (MOST + 7)) == ()
    assert differences((PDF,) * 3, (PDF,) * (MOST + 7)) != ()
