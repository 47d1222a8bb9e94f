"""`amdp-hold:`: what is kept, what goes out, what the receivers' policies forbid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outrider.config.amdp_schema import AmdpHolding
from outrider.delivery.interface import Expansion
from outrider.holding.facility.held_records import CopyState
from outrider.holding.facility.held_upkeep import withdraw
from outrider.holding.outgoing.outgoing_terms import OutgoingTerms
from outrider.holding.postage.provider_interface import Bill, NotPaid, Paid
from outrider.model.address import parse_address
from outrider.model.content import inline_content
from outrider.model.envelope import Notify
from outrider.model.facts import Fact, Provenance
from outrider.model.result import DeliveryResult, Kind
from outrider.protocols.amdp.digest import digest_of
from outrider.tables.database import StoreUnavailable
from tests.holding.facility_rig import HEADERS, FacilityRig, Sent, octets_of, submitted
from tests.holding.held_support import DAY, NOW

MakeRig = Callable[..., FacilityRig]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    rigs: list[FacilityRig] = []

    def make(**settings: Any) -> FacilityRig:
        rigs.append(FacilityRig(tmp_path, **settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: MakeRig) -> FacilityRig:
    return make_rig()


def kinds(done: Expansion) -> list[Kind]:
    """In the order of the recipients."""
    return [done.results[number].kind for number in sorted(done.results)]


def multipart(*parts: bytes) -> tuple[bytes, bytes]:
    """Header section and body."""
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return HEADERS + b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n', body


@pytest.mark.covers("AMDP-2", "AMDP-4a")
async def test_a_message_is_held_once_and_each_recipient_gets_an_envelope_of_his_own(
    rig: FacilityRig,
) -> None:
    message = submitted("bob@beta.example", "carl@beta.example", "dora@gamma.example")
    done = await rig.deliver(message)
    assert kinds(done) == [Kind.DELIVERED] * 3
    assert "held as 0123456789ABCDE until " in done.results[0].text
    assert "its envelope is MADE00000000001" in done.results[0].text
    sent = [Sent(one) for one in done.messages]
    helds = [one.held for one in sent]
    assert [str(one.recipient) for one in helds] == [
        "bob@beta.example",
        "carl@beta.example",
        "dora@gamma.example",
    ]
    assert len({one.id for one in helds}) == 3
    bob = helds[0]
    assert (str(bob.sender), bob.sender_name, bob.recipient_name) == (
        "ann@alpha.example",
        "Ann of Alpha",
        "Bob Beta",
    )
    assert (bob.subject, str(bob.mail_class), bob.language) == ("Grüße", "Direct::Business::newsletter", "en")
    assert (bob.holder, bob.port, bob.timestamp) == ("mhf-1.alpha.example", 443, int(NOW))
    assert bob.expires == int(NOW + 14 * DAY)
    assert bob.digest == digest_of([octets_of(message)])
    for one in sent:
        envelope = one.message.envelope
        assert [str(each.address) for each in envelope.recipients] == [str(one.held.recipient)]
        assert str(envelope.sender) == "ann@alpha.example"
        assert envelope.link_token
        assert envelope.link_token.encode() not in b"".join(one.message.content.chunks())
        assert envelope.recipients[0].notify is Notify.FAILURE
    assert [one.message.items[0].destination for one in sent] == [
        "beta.example",
        "beta.example",
        "gamma.example",
    ]
    assert await rig.query(*(one.query for one in sent)) == [
        {"known": True, "to": str(one.held.recipient), "confirmation": answer["confirmation"]}
        for one, answer in zip(sent, await rig.query(*(one.query for one in sent)), strict=True)
    ]


@pytest.mark.covers("AMDP-2")
async def test_only_mail_of_our_gateways_is_held(rig: FacilityRig) -> None:
    came = (Fact("listener", "smtp 192.0.2.1:25", Provenance.PROVEN),)
    strangers = replace(submitted("bob@beta.example", from_gateway=False), facts=came)
    done = await rig.deliver(strangers)
    assert (done.results[0].kind, done.results[0].status, done.messages) == (Kind.FAILED, "5.7.1", ())


@pytest.mark.covers("AMDP-2")
async def test_mail_that_this_server_made_itself_goes_on_unheld(make_rig: MakeRig) -> None:
    """A report of a failure, or a copy of a mailing list, whose way is amdp: nobody submitted it."""
    rig = make_rig(routes={"beta.example": "amdp"})
    report = submitted("bob@beta.example", "ann@gamma.example", from_gateway=False)
    done = await rig.deliver(report)
    assert {result.kind for result in done.results.values()} == {Kind.RELAYED}
    (onward,) = done.messages
    assert onward.content == report.content
    assert [(str(one.address), one.route) for one in onward.envelope.recipients] == [
        ("bob@beta.example", "mx"),
        ("ann@gamma.example", ""),
    ]
    assert not onward.envelope.link_token


@pytest.mark.covers("AMDP-2", "SMTP-5")
async def test_an_attempt_that_a_crash_cut_off_comes_to_the_same_ids(rig: FacilityRig) -> None:
    message = submitted("bob@beta.example", "carl@beta.example")
    first = await rig.hold(message)
    rig.now += 500
    again = await rig.hold(message)
    assert [one.held for one in again] == [one.held for one in first]
    assert [one.message.id for one in again] == [one.message.id for one in first]
    assert [one.message.content for one in again] == [one.message.content for one in first]
    assert [one["known"] for one in await rig.query(*(one.query for one in again))] == [True, True]
    await rig.store.write(lambda store: withdraw(store, message.id, [1], rig.now))
    done = await rig.deliver(message)
    assert len(done.messages) == 1
    assert "withdrawn" in done.results[1].text


@pytest.mark.covers("AMDP-3")
async def test_what_a_policy_refuses_is_not_sent_and_the_sender_is_told_the_rule(rig: FacilityRig) -> None:
    rig.policies.publish("beta.example", "DENY-CLASS: *::Business::*\n")
    rig.policies.publish("gamma.example", "ACCEPT-CLASS: *::Business::*\n")
    done = await rig.deliver(submitted("bob@beta.example", "dora@gamma.example", "eve@nopolicy.example"))
    assert kinds(done) == [Kind.FAILED, Kind.DELIVERED, Kind.DELIVERED]
    assert "DENY-CLASS" in done.results[0].text
    assert [str(Sent(one).held.recipient) for one in done.messages] == [
        "dora@gamma.example",
        "eve@nopolicy.example",
    ]
    assert rig.observer.named("holding_refused")[0][1] == "beta.example"


@pytest.mark.covers("AMDP-3")
async def test_size_is_no_reason_not_to_notify(rig: FacilityRig) -> None:
    rig.policies.publish("beta.example", "MAX-MAIL-SIZE: 10\nACCEPT-CLASS: *\n")
    [sent] = await rig.hold(submitted("bob@beta.example", body=b"x" * 5000 + b"\r\n"))
    assert sent.held.size > 5000


@pytest.mark.covers("AMDP-3", "AMDP-16")
async def test_a_domain_that_takes_two_a_minute_gets_two_and_the_rest_waits(rig: FacilityRig) -> None:
    rig.policies.publish("beta.example", "MSG-PER-MIN: 2\n")
    message = submitted(*(f"r{number}@beta.example" for number in range(5)))
    done = await rig.deliver(message)
    assert kinds(done) == [Kind.DELIVERED] * 2 + [Kind.DEFERRED] * 3
    assert "MSG-PER-MIN" in done.results[2].text
    assert done.schedule is not None
    assert 15 <= done.schedule.waits[0] <= 3600
    rig.now += 61
    rest = await rig.deliver(message, "", 2, 3, 4)
    assert kinds(rest) == [Kind.DELIVERED] * 2 + [Kind.DEFERRED]


@pytest.mark.covers("AMDP-3")
async def test_mail_waits_while_a_policy_cannot_be_fetched(rig: FacilityRig) -> None:
    rig.policies.away.add("beta.example")
    done = await rig.deliver(submitted("bob@beta.example", "dora@gamma.example"))
    assert kinds(done) == [Kind.DEFERRED, Kind.DELIVERED]


@pytest.mark.covers("AMDP-4a")
async def test_attachments_are_told_with_their_decoded_sizes(rig: FacilityRig) -> None:
    headers, body = multipart(
        b"Content-Type: text/plain\r\n\r\nhello",
        b'Content-Type: image/png; name="a.png"\r\nContent-Disposition: attachment; filename="a.png"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8gd29ybGQ=",
        b"Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=b.pdf\r\n\r\n12345",
    )
    [sent] = await rig.hold(submitted("bob@beta.example", headers=headers, body=body))
    told = [(one.name, one.media_type, one.size) for one in sent.held.attachments]
    assert told == [("a.png", "image/png", 11), ("b.pdf", "application/pdf", 5)]


@pytest.mark.covers("AMDP-6", "AMDP-23")
@pytest.mark.parametrize(("asked", "days"), [(0, 14), (3, 3), (100, 60)])
async def test_the_sender_says_how_long_within_what_is_allowed(
    rig: FacilityRig, asked: int, days: int
) -> None:
    terms = OutgoingTerms(
        parse_address("ann@alpha.example"),
        "Direct::Business::x",
        expires=(NOW + asked * DAY) if asked else 0,
    )
    [sent] = await rig.hold(submitted("bob@beta.example", terms=terms))
    assert sent.held.expires == int(NOW + days * DAY)


async def test_what_has_expired_before_it_could_be_held_is_returned(rig: FacilityRig) -> None:
    terms = OutgoingTerms(parse_address("ann@alpha.example"), "Direct::Business::x", expires=NOW - 1)
    done = await rig.deliver(submitted("bob@beta.example", terms=terms))
    assert (done.results[0].kind, done.results[0].status) == (Kind.FAILED, "5.4.7")


@pytest.mark.covers("AMDP-2")
async def test_fields_of_the_gateway_are_not_served(rig: FacilityRig) -> None:
    message = submitted("bob@beta.example", headers=b"AMDP-To: <bob@beta.example>\r\n" + HEADERS)
    [sent] = await rig.hold(message)
    number = await rig.authenticate(sent)
    assert await rig.fetch(sent, number) == octets_of(submitted("bob@beta.example"))


@pytest.mark.covers("AMDP-2")
async def test_names_are_as_configured_and_the_way_does_not_lead_back(make_rig: MakeRig) -> None:
    rig = make_rig(
        holding=AmdpHolding(names={"alpha.example": "mhf-3.alpha.example"}, id="x7"),
        routes={"beta.example": "amdp", "gamma.example": "smtp:relay.example:25"},
    )
    message = submitted("bob@beta.example", "dora@gamma.example")
    sent = await rig.hold(message)
    assert [one.message.envelope.recipients[0].route for one in sent] == ["mx", ""]
    assert (sent[0].held.holder, sent[0].held.holder_id) == ("mhf-3.alpha.example", "x7")
    other = await rig.deliver(submitted("bob@beta.example", name="OTHER0000000001"), "smtp:mx.example:2525")
    assert other.messages[0].envelope.recipients[0].route == "smtp:mx.example:2525"


@pytest.mark.covers("AMDP-5a")
async def test_who_has_no_amdp_gets_the_message_where_links_are_not_wanted(make_rig: MakeRig) -> None:
    rig = make_rig(holding=AmdpHolding(unauthenticated=False), routes={"beta.example": "amdp"})
    rig.policies.publish("gamma.example", "ACCEPT-CLASS: *\n")
    message = submitted("bob@beta.example", "dora@gamma.example")
    done = await rig.deliver(message)
    envelope, whole = done.messages
    assert Sent(envelope).held.recipient == parse_address("dora@gamma.example")
    assert (whole.envelope.link_token, whole.envelope.recipients[0].route) == ("", "mx")
    assert whole.trace + b"".join(whole.content.chunks()) == octets_of(message)


class Purse:
    """Pays, or not."""

    def __init__(self) -> None:
        self.bills: list[Bill] = []
        self.back: list[Bill] = []
        self.answer: NotPaid | None = None

    async def pay(self, bill: Bill, now: float) -> Paid | NotPaid:
        self.bills.append(bill)
        return self.answer or Paid(f"receipt.for.{bill.message_id}", bill.price)

    async def take_back(self, receipt: str, bill: Bill, now: float) -> bool:
        assert receipt == f"receipt.for.{bill.message_id}"
        self.back.append(bill)
        return True


PRICED = "PAY: yes\nPAY-METHOD: AMDP-LEDGER\nACCEPT-CLASS: *::Business::* 0.001\n"


@pytest.mark.covers("AMDP-20", "AMDP-3")
async def test_what_costs_is_paid_for_and_the_receipt_stands_in_the_envelope(make_rig: MakeRig) -> None:
    purse = Purse()
    rig = make_rig(payer=purse)
    rig.policies.publish("beta.example", PRICED)
    message = submitted("bob@beta.example", "dora@gamma.example")
    sent = {str(one.held.recipient): one for one in await rig.hold(message)}
    bob = sent["bob@beta.example"]
    assert bob.held.postage == f"receipt.for.{bob.held.id}"
    assert sent["dora@gamma.example"].held.postage == ""
    [bill] = purse.bills
    assert (bill.message_id, bill.recipient_domain, bill.price) == (bob.held.id, "beta.example", 1)
    assert (await rig.query(bob.query))[0]["known"]
    again = {str(one.held.recipient): one for one in await rig.hold(message)}
    assert again["bob@beta.example"].held == bob.held
    assert purse.bills[1].message_id == bill.message_id, "a repetition pays for the same"
    # Refused at the door: it may be had back.
    await rig.settled(bob, DeliveryResult(Kind.FAILED, "5.7.1", "no"))
    assert await rig.runner.run_due() == 1
    assert [one.message_id for one in purse.back] == [bob.held.id]


@pytest.mark.covers("AMDP-20")
async def test_what_cannot_be_paid_now_waits_unannounced_and_what_is_too_dear_is_returned(
    make_rig: MakeRig,
) -> None:
    purse = Purse()
    rig = make_rig(payer=purse)
    rig.policies.publish("beta.example", PRICED)
    message = submitted("bob@beta.example")
    purse.answer = NotPaid("the ledger is away", temporary=True)
    done = await rig.deliver(message)
    assert (done.results[0].kind, done.messages) == (Kind.DEFERRED, ())
    copy = await rig.store.read(lambda store: store.copy(message.id, 0))
    assert copy is not None
    assert copy.state is CopyState.PREPARED
    purse.answer = NotPaid("more than the operator allows")
    done = await rig.deliver(message)
    assert (done.results[0].kind, done.messages) == (Kind.FAILED, ())
    assert "more than the operator allows" in done.results[0].text
    copy = await rig.store.read(lambda store: store.copy(message.id, 0))
    assert copy is not None
    assert copy.state is CopyState.REFUSED


@pytest.mark.covers("AMDP-20")
async def test_without_a_payer_what_costs_is_refused(rig: FacilityRig) -> None:
    rig.policies.publish("beta.example", PRICED)
    done = await rig.deliver(submitted("bob@beta.example"))
    assert done.results[0].kind is Kind.FAILED
    assert "0.001" in done.results[0].text


async def test_a_full_facility_lets_mail_wait(make_rig: MakeRig) -> None:
    rig = make_rig(holding=AmdpHolding(space=3000))
    assert len(await rig.hold(submitted("bob@beta.example", body=b"x" * 2000))) == 1
    done = await rig.deliver(submitted("bob@beta.example", name="SECOND000000001", body=b"x" * 2000))
    assert (done.results[0].kind, done.results[0].status) == (Kind.DEFERRED, "4.3.1")


async def test_a_store_that_is_away_lets_mail_wait(rig: FacilityRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: object) -> None:
        raise StoreUnavailable("disk")

    monkeypatch.setattr(rig.store, "write", away)
    done = await rig.deliver(submitted("bob@beta.example"))
    assert (done.results[0].kind, done.messages) == (Kind.DEFERRED, ())


@pytest.mark.covers("SEC-80", "AMDP-4a")
async def test_nothing_in_a_message_becomes_a_field_of_its_envelope(rig: FacilityRig) -> None:
    hostile = (
        b"From: =?utf-8?q?Ann=0D=0AAMDP-To=3A_=3Ceve=40x.example=3E?= <ann@alpha.example>\r\n"
        b"To: =?utf-8?b?Qm9iDQpCY2M6IGV2ZUB4LmV4YW1wbGU=?= <bob@beta.example>\r\n"
        b"Subject: =?utf-8?q?a=0D=0ABcc=3A_eve=40x.example=00?=\r\n"
        b"Date: nonsense\r\nMessage-ID: <<>>\r\nReferences: \x00<a@b> <\xff@x>\r\n"
    )
    [sent] = await rig.hold(submitted("bob@beta.example", headers=hostile))
    headers = sent.message.content.headers
    assert b"\nBcc:" not in headers
    assert headers.lower().count(b"\namdp-to:") == 1
    assert sent.held.date == int(NOW)
    assert inline_content(headers).is_ascii
