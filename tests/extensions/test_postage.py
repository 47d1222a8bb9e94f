"""The postage extension by itself: options, our own mail, and a site without postage (MT2-21d)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outrider.extensions.interface import Carried, ExtensionUnavailable, OutgoingMail
from outrider.extensions.oids import POSTAGE
from outrider.extensions.postage import MAX_RECEIPTS, Postage
from outrider.extensions.postage_office import Answer, Judged, Presented, purpose_of
from outrider.extensions.setting_up import Place
from outrider.holding.postage.mt2 import GOOD_FOR_S, LedgerPostage
from outrider.holding.postage.provider_interface import Bill, NotPaid, Paid
from outrider.model.address import Address, parse_address
from tests.extensions.support import ANN, BEN, NOW, Site, site

CLAIRE = parse_address("claire@c.example")


@dataclass
class Office:
    """Implements `PostageOffice`; believes everything."""

    takes: bool = True
    currency: str = "USD"
    presented: list[Presented] = field(default_factory=list)
    bought: list[tuple[str, str, int]] = field(default_factory=list)

    async def present(self, one: Presented, now: float) -> Judged:
        self.presented.append(one)
        return Judged(Answer.PAID, "paid", 7)

    async def ended(self, presented: Sequence[Presented], before: float, now: float) -> None:
        self.presented = [one for one in self.presented if one not in presented]

    async def buy(self, purpose: str, sender: Address, recipient: Address, price: int, now: float) -> str:
        self.bought.append((str(sender), str(recipient), price))
        return "" if recipient.local == "poor" else f"receipt-{len(self.bought)}"


async def enabled(here: Site, office: object, **options: object) -> None:
    place = Place("mx.b.example", frozenset({"b.example"}), here.new_token, here.in_thread, office)  # type: ignore[arg-type]
    here.desk.set_up(place, {"postage": options})
    await here.enable("postage")
    await here.desk.refresh(here.now)


def line(recipient: Address = BEN, receipt: str = "r") -> str:
    return f"{purpose_of('m1@mx.a.example', str(recipient))} {receipt}"


def carried(*lines: str) -> tuple[Carried, ...]:
    return (Carried(POSTAGE, "\n".join(lines), critical=True),)


@pytest.mark.covers("MT2-21d")
async def test_what_is_paid_is_a_fact_for_the_policy(tmp_path: Path) -> None:
    async with site(tmp_path, Postage()) as here:
        office = Office()
        await enabled(here, office, price="0.005", require="always")
        facts = dataclasses.replace(here.facts(), positions=(3,))
        verdict = await here.desk.envelope(facts, carried(line()))
        assert verdict.refusal is None
        assert not verdict.recipients
        [fact] = verdict.facts
        assert (fact.name, fact.value) == ("mt2.postage", 7)
        [one] = office.presented
        assert (one.transfer, one.position, one.payer, one.domain, one.price) == (
            "mx.a.example/1",
            3,
            "a.example",
            "b.example",
            5,
        )
        await here.desk.ended(facts, carried(line()))
        assert office.presented == []


@pytest.mark.covers("MT2-21d")
async def test_the_exempt_are_asked_for_nothing_and_their_receipts_stay_theirs(tmp_path: Path) -> None:
    async with site(tmp_path, Postage()) as here:
        office = Office()
        await enabled(here, office, require="always", exempt=[".a.example"])
        facts = dataclasses.replace(here.facts(), positions=(1,))
        assert not (await here.desk.envelope(facts, ())).recipients
        assert not (await here.desk.envelope(facts, carried(line()))).recipients
        assert office.presented == []


@pytest.mark.covers("MT2-21d")
@pytest.mark.parametrize("office", [None, Office(takes=False)], ids=["no postage", "pays only"])
async def test_a_site_without_a_ledger_takes_and_asks_none(tmp_path: Path, office: object) -> None:
    async with site(tmp_path, Postage()) as here:
        await enabled(here, office, require="always")
        facts = dataclasses.replace(here.facts(), positions=(1,))
        for brought in ((), carried(line())):
            verdict = await here.desk.envelope(facts, brought)
            assert verdict.refusal is None
            assert not verdict.recipients


@pytest.mark.covers("MT2-21d")
@pytest.mark.parametrize(
    "data", ["", "x", f"{line()} ", f"{line()}\n", f"{line()}\n{line()}", "\n".join([line()] * 41), "\x00"]
)
async def test_data_that_mean_nothing_are_refused(tmp_path: Path, data: str) -> None:
    async with site(tmp_path, Postage()) as here:
        await enabled(here, Office())
        facts = dataclasses.replace(here.facts(), positions=(1,))
        verdict = await here.desk.envelope(facts, (Carried(POSTAGE, data, critical=True),))
        assert verdict.refusal is not None


@pytest.mark.covers("MT2-21d", "SEC-193")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"price": "0"}, "price"),
        ({"price": "-1"}, "price"),
        ({"price": 0.1}, "price"),
        ({"price": "0.0001"}, "price"),
        ({"require": "sometimes"}, "require"),
        ({"pay": "b.example"}, "pay"),
        ({"pay": {"b.example": "NaN"}}, "pay"),
        ({"exempt": "b.example"}, "exempt"),
    ],
)
async def test_options_that_mean_nothing(tmp_path: Path, options: dict[str, object], name: str) -> None:
    async with site(tmp_path, Postage()) as here:
        place = Place("mx.b.example", frozenset({"b.example"}), here.new_token, here.in_thread)
        with pytest.raises(ValueError, match=rf"^postage\.{name}"):
            here.desk.set_up(place, {"postage": options})


def outgoing(*recipients: Address) -> OutgoingMail:
    return OutgoingMail("ID1", ANN, recipients, NOW, lambda _: ())


@pytest.mark.covers("MT2-21d")
async def test_our_users_mail_is_paid_for_where_the_operator_wants_it(tmp_path: Path) -> None:
    async with site(tmp_path, Postage()) as here:
        office = Office()
        await enabled(here, office, pay={"C.example": "0.005"})
        assert await here.desk.outgoing(outgoing(BEN)) == ((), ())
        [one], _ = await here.desk.outgoing(outgoing(BEN, CLAIRE, parse_address("poor@c.example")))
        purpose = purpose_of("ID1@mx.b.example", "claire@c.example")
        assert one == Carried(POSTAGE, f"{purpose} receipt-1")
        assert office.bought[0] == (str(ANN), "claire@c.example", 5)
        many = tuple(parse_address(f"u{number}@c.example") for number in range(MAX_RECEIPTS + 1))
        [one], _ = await here.desk.outgoing(outgoing(*many))
        assert len(one.data.split("\n")) == MAX_RECEIPTS


class Purse:
    """Implements `Payer`."""

    def __init__(self, answer: Paid | NotPaid) -> None:
        self.answer = answer
        self.asked: list[tuple[Bill, float]] = []

    async def pay(self, bill: Bill, now: float) -> Paid | NotPaid:
        self.asked.append((bill, now))
        return self.answer

    async def take_back(self, receipt: str, bill: Bill, now: float) -> bool:
        raise AssertionError("nothing is taken back")


async def _nothing(peer: str, transfer: str) -> Any:
    del peer, transfer


@pytest.mark.covers("MT2-21d")
async def test_the_same_is_bought_at_each_attempt_and_what_may_come_makes_mail_wait() -> None:
    def office(answer: Paid | NotPaid) -> tuple[LedgerPostage, Purse]:
        purse = Purse(answer)
        return LedgerPostage(None, purse, _nothing, "USD", lambda: NOW + 500), purse

    shop, purse = office(Paid("text", 5))
    assert await shop.buy("mt2-x", ANN, CLAIRE, 5, NOW) == "text"
    await shop.buy("mt2-x", ANN, CLAIRE, 5, NOW)
    assert purse.asked[0] == purse.asked[1]
    bill, at = purse.asked[0]
    assert (bill.expires, at) == (NOW + GOOD_FOR_S, NOW + 500), "asked by the present clock"
    shop, _ = office(NotPaid("we have no account"))
    assert await shop.buy("mt2-x", ANN, CLAIRE, 5, NOW) == ""
    shop, _ = office(NotPaid("the ledger is away", temporary=True))
    with pytest.raises(ExtensionUnavailable):
        await shop.buy("mt2-x", ANN, CLAIRE, 5, NOW)
    assert await LedgerPostage(None, None, _nothing, "USD", lambda: NOW).buy("p", ANN, BEN, 5, NOW) == ""
