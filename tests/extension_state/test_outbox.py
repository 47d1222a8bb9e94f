"""What extensions want sent, as objects that can be read back and as letters for people (MT2-2, MT2-22)."""

from __future__ import annotations

import hashlib

import pytest

from outrider.extension_state.outbox import Outbox
from outrider.extensions.interface import Carried, ExtensionMessage, Report
from outrider.lists.mailing import Mailing
from outrider.message.objects.envelope import Part, read_envelope
from outrider.message.objects.headers import read_headers
from outrider.model.address import parse_address
from outrider.model.content import InlineBody
from outrider.model.envelope import Notify, Recipient
from outrider.model.message import MessageId, NewItem, NewMessage

ANN, BEN = parse_address("ann@a.example"), parse_address("ben@b.example")
OID = "2.25.1"
NOW = 1_800_000_000.0


class _Mailing(Mailing):
    """Everybody is elsewhere."""

    def final_recipients(self, to: object, notify: Notify) -> tuple[Recipient, ...]:
        return (Recipient(to, notify),)  # type: ignore[arg-type]

    def items(self, recipients: object, now: float, held: str = "") -> tuple[NewItem, ...]:
        return (NewItem("a.example", (0,)),)


def make(one: ExtensionMessage) -> NewMessage:
    mailing = _Mailing("mx.b.example", None, None, lambda _: MessageId("Q1"))  # type: ignore[arg-type]
    return Outbox(mailing).make(one, NOW, "test")


@pytest.mark.covers("MT2-2", "MT2-22")
def test_a_control_message_is_an_envelope_with_the_null_sender_and_a_report() -> None:
    report = Report("m1@a.example", OID, f"{OID}.2.1", "fine\r\nInjected: yes", BEN, "delivered")
    made = make(ExtensionMessage(ANN, BEN, report=report, delivery=(Carried(OID, "grant x"),)))
    assert made.envelope.sender is None
    assert made.envelope.authenticated_as == ""
    assert made.envelope.recipients[0].notify is Notify.NEVER
    assert made.objects is not None
    assert (made.objects.headers, made.objects.has_body) == (b"", False)
    envelope = read_envelope(made.objects.envelope)
    assert envelope.sender is None
    assert envelope.objects == ()
    assert envelope.seals == (), "it is sealed when it leaves"
    assert [(one.oid, one.data) for one in envelope.extensions] == [(OID, "grant x")]
    assert envelope.report is not None
    assert (envelope.report.about, envelope.report.extension) == ("m1@a.example", OID)
    [said] = envelope.report.recipients
    assert (said.action, said.code, said.text) == ("delivered", f"{OID}.2.1", "fine Injected: yes")
    letter = made.content.headers.decode()
    assert "Auto-Submitted: auto-replied" in letter
    assert "Injected" not in letter


@pytest.mark.covers("MT2-3", "MT2-1")
def test_what_a_user_consented_to_goes_in_his_name_with_a_headers_object() -> None:
    made = make(
        ExtensionMessage(ANN, BEN, recipient=(Carried(OID, "card\nx", recipient=ANN),), subject="My vCard")
    )
    assert made.envelope.sender == BEN
    assert made.envelope.authenticated_as == str(BEN)
    assert made.objects is not None
    headers = read_headers(made.objects.headers)
    assert [(one.oid, one.data, one.recipient) for one in headers.extensions] == [(OID, "card\nx", ANN)]
    assert headers.values("Subject") == ("My vCard",)
    entry = read_envelope(made.objects.envelope).object(Part.HEADERS)
    assert entry is not None
    assert entry.sha256 == hashlib.sha256(made.objects.headers).digest()


@pytest.mark.covers("MT2-1")
def test_a_letter_to_be_read_has_a_body_object() -> None:
    made = make(ExtensionMessage(ANN, subject="Board", text="  8 r n b\n", with_body=True))
    assert made.objects is not None
    assert isinstance(made.content.body, InlineBody)
    body = made.objects.body_prefix + made.content.body.octets
    entry = read_envelope(made.objects.envelope).object(Part.BODY)
    assert entry is not None
    assert (entry.sha256, entry.length) == (hashlib.sha256(body).digest(), len(body))
    assert body.endswith(b"\r\n\r\n  8 r n b\r\n")
