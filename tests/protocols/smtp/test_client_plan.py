"""Who can be sent to, in which company, and what results are made of."""

from __future__ import annotations

import pytest

from outrider.model.address import Address, Domain, parse_address
from outrider.model.envelope import BodyType, Envelope, Recipient
from outrider.model.reply import Reply
from outrider.model.result import Kind
from outrider.protocols.smtp.client_content import Survey
from outrider.protocols.smtp.client_events import Outcome
from outrider.protocols.smtp.client_offers import Offers
from outrider.protocols.smtp.client_plan import (
    BatchLimits,
    Sortable,
    batch_limits,
    next_batch,
    prepare_mail,
    too_large,
    unsendable_for_all,
    unsendable_recipients,
)
from outrider.protocols.smtp.client_results import ServerView, outcome_result
from outrider.protocols.smtp.client_states import End, Ending, Stage

UTF8 = Offers(True, {"SMTPUTF8": "", "8BITMIME": ""})
NONE = Offers()
FOUND = Survey(100, False, True, False, False, True)


def envelope(*recipients: str, sender: str = "ann@a.example") -> Envelope:
    people = tuple(Recipient(parse_address(one)) for one in recipients)
    return Envelope(parse_address(sender) if sender else None, people)


class TestSmtpUtf8:
    @pytest.mark.covers("SMTP-3")
    def test_only_those_who_need_it_are_returned(self) -> None:
        mail = Sortable(envelope("bob@b.example", "jörg@b.example"), False)
        assert unsendable_for_all(mail, NONE) is None
        refused = unsendable_recipients(mail, (0, 1), NONE)
        assert {position: why.status for position, why in refused.items()} == {1: "5.6.7"}
        assert not unsendable_recipients(mail, (0, 1), UTF8)

    def test_sender_and_headers_concern_everybody(self) -> None:
        sender = unsendable_for_all(Sortable(envelope("b@b.example", sender="jörg@a.example"), False), NONE)
        headers = unsendable_for_all(Sortable(envelope("b@b.example"), True), NONE)
        assert sender is not None
        assert headers is not None
        assert (sender.status, headers.status) == ("5.6.7", "5.6.9")
        assert unsendable_for_all(Sortable(envelope("b@b.example"), True), UTF8) is None

    def test_it_is_declared_where_it_is_needed(self) -> None:
        people = envelope("bob@b.example", "jörg@b.example")
        for batch, declared in (((0,), False), ((1,), True), ((0, 1), True)):
            assert prepare_mail(people, batch, FOUND, UTF8, binary=False, content=None).smtputf8 is declared

    @pytest.mark.covers("SEC-59")
    def test_addresses_with_control_characters(self) -> None:
        evil = Address("a\r\nDATA", Domain("b.example"))
        mail = Sortable(Envelope(None, (Recipient(evil),)), False)
        assert unsendable_recipients(mail, (0,), UTF8)[0].status == "5.1.3"
        from_evil = unsendable_for_all(Sortable(Envelope(evil, ()), False), UTF8)
        assert from_evil is not None
        assert from_evil.status == "5.1.7"


@pytest.mark.covers("SMTP-3")
@pytest.mark.parametrize(("size", "offer", "fits"), [(10, "10", True), (11, "10", False), (11, "0", True)])
def test_size_is_honoured(size: int, offer: str, fits: bool) -> None:
    refusal = too_large(size, Offers(True, {"SIZE": offer}))
    assert (refusal is None) is fits
    assert refusal is None or refusal.status == "5.3.4"


@pytest.mark.parametrize("offer", ["", "x", "-5", "1_0", "9" * 50, "+1"])
def test_size_that_is_none(offer: str) -> None:
    assert too_large(10**9, Offers(True, {"SIZE": offer})) is None


def test_batches() -> None:
    people = envelope("a@x.example", "b@y.example", "c@x.example", "d@z.example")
    everybody = (0, 1, 2, 3)
    assert next_batch(people, everybody, BatchLimits(0)) == everybody
    assert next_batch(people, everybody, BatchLimits(2)) == (0, 1)
    assert next_batch(people, everybody, BatchLimits(0, 1)) == (0, 2)
    assert next_batch(people, (1, 3), BatchLimits(1, 1)) == (1,)
    limits = Offers(True, {"LIMITS": "RCPTMAX=5 rcptdomainmax=2 FOO BAR=x"})
    assert batch_limits(100, limits) == BatchLimits(5, 2)
    assert batch_limits(3, limits) == BatchLimits(3, 2)
    assert batch_limits(0, NONE) == BatchLimits(0, 0)


def test_body_types() -> None:
    people = envelope("a@x.example")
    for offers, binary, expected in (
        (UTF8, False, BodyType.EIGHT_BIT),
        (NONE, False, BodyType.SEVEN_BIT),
        (UTF8, True, BodyType.BINARY),
    ):
        assert prepare_mail(people, (0,), FOUND, offers, binary=binary, content=None).body_type is expected


@pytest.mark.covers("SMTP-6")
@pytest.mark.parametrize(
    ("outcome", "server", "kind", "status"),
    [
        (Outcome(Stage.VERDICT, Reply(250, "", "ok")), ServerView(), Kind.RELAYED, "2.0.0"),
        (
            Outcome(Stage.VERDICT, Reply(250, "2.6.0", "ok")),
            ServerView(promises_reports=True),
            Kind.DELIVERED,
            "2.6.0",
        ),
        (Outcome(Stage.RECIPIENT, Reply(450, "", "later")), ServerView(), Kind.DEFERRED, "4.0.0"),
        (Outcome(Stage.RECIPIENT, Reply(550, "5.1.1", "no")), ServerView(), Kind.FAILED, "5.1.1"),
        (Outcome(Stage.MAIL, Reply(530, "5.7.0", "TLS")), ServerView(), Kind.FAILED, "5.7.0"),
        (
            Outcome(Stage.MAIL, Reply(530, "5.7.0", "TLS")),
            ServerView(tls_failed=True),
            Kind.DEFERRED,
            "4.7.0",
        ),
        (
            Outcome(Stage.MAIL, ending=Ending(End.CLOSING, Stage.MAIL, "x", Reply(421, "4.3.2", "down"))),
            ServerView(),
            Kind.DEFERRED,
            "4.3.2",
        ),
        (Outcome(Stage.MAIL, ending=Ending(End.LOST, Stage.MAIL, "x")), ServerView(), Kind.DEFERRED, "4.4.2"),
    ],
)
def test_results(outcome: Outcome, server: ServerView, kind: Kind, status: str) -> None:
    result = outcome_result(outcome, server)
    assert (result.kind, result.status) == (kind, status)


@pytest.mark.covers("SEC-31")
def test_only_what_was_sent_whole_may_have_been_delivered() -> None:
    for stage in Stage:
        for how in (End.LOST, End.TIMED_OUT, End.MALFORMED):
            result = outcome_result(Outcome(stage, ending=Ending(how, stage, "gone")), ServerView())
            assert result.kind is Kind.DEFERRED
            assert ("may have been delivered" in result.text) is (stage is Stage.VERDICT)
