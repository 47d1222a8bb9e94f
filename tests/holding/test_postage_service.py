"""Payer and ledger over what stands for HTTPS: bought once, proven, bounded, no purse left open (AMDP-20)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from outrider.holding.postage import forms
from outrider.holding.postage.ledger import LedgerThread
from outrider.holding.postage.observer import SilentPostage
from outrider.holding.postage.payer import LedgerPayer, PayingAccount
from outrider.holding.postage.provider import LedgerProvider
from outrider.holding.postage.provider_interface import (
    Bill,
    NotPaid,
    Paid,
    PostageUnavailable,
    Redeemed,
    Refused,
    payee_of,
)
from outrider.holding.postage.service import GUESSES_A_MINUTE, PostageService
from outrider.holding.web import CallAnswer, CallFailed, StreamedAnswer, WebRequest
from outrider.protocols.amdp.json_forms import FormError
from outrider.tables.database import SqliteDatabase
from tests.holding.postage_rig import DAY, ID, KEY, NOW, SECRET, ledger_on

CLIENT = ip_address("192.0.2.7")
BILL = Bill(ID, "a.example", "b.example", 5, NOW + DAY, "USD", "AMDP-LEDGER", payee_of("b.example", 443))


class Heard(SilentPostage):
    """Keeps what matters here."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def postage_asked_in_vain(self, client: str, account: str, text: str) -> None:
        self.said.append(("in vain", client, account))

    def postage_returned(self, serial: str, account: str, amount: int, why: str) -> None:
        self.said.append(("returned", account, str(amount), why))


@dataclass
class Line:
    """Implements `WebCaller`: calls arrive at the service, unless something is to happen to them."""

    service: PostageService
    now: float = NOW
    asked: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    instead: CallAnswer | CallFailed | None = None
    drops_answers: bool = False

    async def post(self, host: str, port: int, path: str, body: bytes, *, limit: int) -> CallAnswer:
        self.asked.append((host, port, path, body))
        if isinstance(self.instead, CallFailed):
            raise self.instead
        if self.instead is not None:
            return self.instead
        assert self.service.serves(host, path)
        answer = await self.service.answer(request(path, body, self.now, host))
        assert len(answer.body) <= limit
        if self.drops_answers:
            raise CallFailed("the connection broke")
        return CallAnswer(answer.status, answer.body, answer.content_type, CLIENT)

    async def get(self, host: str, port: int, path: str, *, limit: int) -> CallAnswer:
        raise AssertionError("nothing is got")

    def stream(
        self, host: str, port: int, path: str, body: bytes, *, limit: int
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        raise AssertionError("nothing is streamed")


def request(path: str, body: bytes, now: float = NOW, host: str = "amdp-mis.b.example") -> WebRequest:
    return WebRequest("POST", host, path, {}, {}, body, CLIENT, now)


@dataclass
class Both:
    provider: LedgerProvider
    service: PostageService
    line: Line
    payer: LedgerPayer
    heard: Heard


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    """A ledger with its service, and somebody with an account there."""
    heard = Heard()
    thread = LedgerThread(lambda: ledger_on(SqliteDatabase(tmp_path / "postage.sqlite")), "postage")
    provider = LedgerProvider(thread, "AMDP-LEDGER", "USD", heard)
    service = PostageService(provider, frozenset({"b.example"}), heard)
    line = Line(service)
    payer = LedgerPayer({"b.example": PayingAccount("alpha", KEY)}, line, "USD", 10, heard)
    yield Both(provider, service, line, payer, heard)
    await asyncio.to_thread(thread.close)


async def redeemed(both: Both, receipt: str, cause: str = "E1") -> Redeemed | Refused:
    return await both.provider.redeem(
        receipt, cause=cause, message_id=ID, recipient_domain="b.example", payer="a.example", price=5, now=NOW
    )


@pytest.mark.covers("AMDP-20")
async def test_mail_is_paid_for_redeemed_and_refunded(both: Both) -> None:
    paid = await both.payer.pay(BILL, NOW)
    assert isinstance(paid, Paid)
    assert both.line.asked[0][:3] == ("amdp-mis.b.example", 443, "/amdp/v1/postage/receipt")
    assert isinstance(await redeemed(both, paid.receipt), Redeemed)
    assert not await both.payer.take_back(paid.receipt, BILL, NOW), "it is spent"
    assert not await both.provider.refund(paid.receipt, cause="E2", now=NOW)
    assert await both.provider.refund(paid.receipt, cause="E1", now=NOW)
    assert await both.provider.refund(paid.receipt, cause="E1", now=NOW), "repeated"
    assert both.heard.said == [("returned", "alpha", "5", "refunded")]
    balance = await both.payer.balance("b.example", "", NOW)
    assert balance == forms.Balance(1000, "USD")


@pytest.mark.covers("AMDP-20", "SEC-190")
async def test_a_lost_answer_costs_nothing(both: Both) -> None:
    both.line.drops_answers = True
    lost = await both.payer.pay(BILL, NOW)
    assert isinstance(lost, NotPaid)
    assert lost.temporary
    both.line.drops_answers = False
    first, second = await both.payer.pay(BILL, NOW), await both.payer.pay(BILL, NOW + 1)
    assert first == second
    assert await both.payer.balance("b.example", "", NOW) == forms.Balance(995, "USD")


@pytest.mark.covers("AMDP-20")
async def test_mail_that_was_not_sent_gets_its_postage_back(both: Both) -> None:
    paid = await both.payer.pay(BILL, NOW)
    assert isinstance(paid, Paid)
    assert await both.payer.take_back(paid.receipt, BILL, NOW)
    assert await both.payer.take_back(paid.receipt, BILL, NOW)
    assert await both.payer.balance("b.example", "", NOW) == forms.Balance(1000, "USD")
    assert isinstance(await redeemed(both, paid.receipt), Refused)
    both.line.instead = CallFailed("away")
    assert not await both.payer.take_back(paid.receipt, BILL, NOW)
    assert await both.payer.balance("b.example", "", NOW) == NotPaid(
        "the ledger at amdp-mis.b.example could not be asked: away", temporary=True
    )


@pytest.mark.covers("AMDP-20", "SEC-185")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipient_domain": "c.example"}, "no account at c.example"),
        ({"method": "CARRIER-PIGEON"}, "method"),
        ({"currency": "EUR"}, "another currency"),
        ({"price": 11}, "more than the 0.010"),
        ({"price": 0}, "cannot be paid"),
        ({"message_id": "../x"}, "cannot be paid"),
        ({"payee": "127.0.0.1"}, "names no ledger"),
        ({"payee": "ledger.evil.example"}, "names no ledger"),
        ({"payee": "xb.example"}, "names no ledger"),
        ({"payee": "amdp-mis.b.example@evil.example"}, "names no ledger"),
        ({"payee": "amdp-mis.b.example:25"}, "names no ledger"),
        ({"payee": "amdp-mis.b.example:99999"}, "names no ledger"),
        ({"payee": "amdp-mis.b.example/x"}, "names no ledger"),
        ({"payee": "DE89 3704 0044"}, "names no ledger"),
    ],
)
async def test_the_purse_is_opened_for_nothing_else(
    both: Both, changes: dict[str, object], words: str
) -> None:
    outcome = await both.payer.pay(replace(BILL, **changes), NOW)  # type: ignore[arg-type]
    assert isinstance(outcome, NotPaid)
    assert words in outcome.words
    assert not outcome.temporary
    assert both.line.asked == []


@pytest.mark.covers("AMDP-20", "SEC-207")
@pytest.mark.parametrize(
    ("status", "body", "temporary"),
    [
        (200, b"\xff", False),
        (200, b'{"receipt": 5}', False),
        (200, b'{"receipt": "a\\r\\nX: y", "balance": 1}', False),
        (200, b'{"receipt": "", "balance": 1}', False),
        (200, b'{"receipt": "%s", "balance": 1}' % (b"x" * 1501), False),
        (402, b'{"problem": "too little"}', True),
        (403, b"{}", False),
        (409, b'{"problem": "\\u0000\\u202e\\r\\n<script>"}', False),
        (429, b"", True),
        (503, b"[" * 3000, True),
    ],
)
async def test_whatever_a_ledger_answers_is_no_more_than_words(
    both: Both, status: int, body: bytes, temporary: bool
) -> None:
    both.line.instead = CallAnswer(status, body, "application/json", CLIENT)
    outcome = await both.payer.pay(BILL, NOW)
    assert isinstance(outcome, NotPaid)
    assert outcome.temporary is temporary
    assert outcome.words.isprintable()
    assert len(outcome.words) < 250


@pytest.mark.covers("AMDP-20")
async def test_what_the_ledger_does_not_sell_is_said_with_its_reason(both: Both) -> None:
    foreign = await both.payer.pay(replace(BILL, sender_domain="c.example"), NOW)
    assert foreign == NotPaid(
        "the ledger at amdp-mis.b.example answered 409: the account does not pay in the name of this domain"
    )
    await both.provider.call(lambda ledger: ledger.books.close_account("alpha", NOW))
    closed = await both.payer.pay(BILL, NOW)
    assert isinstance(closed, NotPaid)
    assert "403" in closed.words


@pytest.mark.covers("AMDP-20")
async def test_an_empty_account_makes_mail_wait(both: Both) -> None:
    def empty(ledger: object) -> None:
        books = ledger.books  # type: ignore[attr-defined]
        books.close_account("alpha", NOW)
        books.open_account("alpha", ("a.example",), KEY, NOW)

    await both.provider.call(empty)
    outcome = await both.payer.pay(BILL, NOW)
    assert isinstance(outcome, NotPaid)
    assert outcome.temporary
    assert "too little" in outcome.words


BUY = forms.Buy("a.example", "b.example", ID, 5, "USD", int(NOW + DAY))


def problem(body: bytes) -> str:
    return str(json.loads(body)["problem"])


@pytest.mark.covers("SEC-207", "AMDP-20")
async def test_who_proves_nothing_is_told_nothing_and_then_waits(both: Both) -> None:
    good = forms.prove(forms.RECEIPT_PATH, "alpha", BUY, KEY, NOW)
    changed = msgspec.json.decode(good, type=dict)
    changed["request"] = changed["request"].replace('"amount":5', '"amount":6')
    bad = [
        forms.prove(forms.RECEIPT_PATH, "alpha", BUY, bytes(32), NOW),
        forms.prove(forms.RECEIPT_PATH, "nobody", BUY, bytes(32), NOW),
        forms.prove(forms.RECEIPT_PATH, "ALPHA", BUY, KEY, NOW),
        forms.prove(forms.RECEIPT_PATH, "x" * 3000, BUY, KEY, NOW),
        forms.prove(forms.RECEIPT_PATH, "alpha", BUY, KEY, NOW - 301),
        forms.prove(forms.RECEIPT_PATH, "alpha", BUY, KEY, NOW + 301),
        forms.prove(forms.BALANCE_PATH, "alpha", BUY, KEY, NOW),
        msgspec.json.encode(changed),
    ]
    answers = [await both.service.answer(request(forms.RECEIPT_PATH, one)) for one in bad]
    assert {(one.status, one.body) for one in answers} == {(403, answers[0].body)}
    assert all(len(one[2]) <= 64 for one in both.heard.said)
    for _ in range(GUESSES_A_MINUTE - len(bad)):
        await both.service.answer(request(forms.RECEIPT_PATH, bad[0]))
    waiting = await both.service.answer(request(forms.RECEIPT_PATH, good))
    assert waiting.status == 429
    assert int(waiting.headers["Retry-After"]) > 0
    later = await both.service.answer(request(forms.RECEIPT_PATH, good, NOW + 61))
    assert later.status == 200


@pytest.mark.covers("SEC-193", "SEC-204")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"[" * 5000,
        b"\xff\xfe",
        b'{"account": 1, "time": 2, "request": "", "mac": ""}',
        b'{"account": "alpha", "time": 1e308, "request": "", "mac": ""}',
        b'{"account": "alpha", "time": %s, "request": "", "mac": ""}' % (b"9" * 5000),
        b"x" * 9000,
    ],
)
async def test_what_is_no_request_is_answered_400(both: Both, body: bytes) -> None:
    answer = await both.service.answer(request(forms.RECEIPT_PATH, body))
    assert answer.status == 400
    assert problem(answer.body)


@pytest.mark.covers("SEC-193")
@pytest.mark.parametrize("amount", ["-1", "0", "1e308", "9223372036854775808", "0.1", '"5"', "true", "NaN"])
async def test_no_amount_but_a_whole_number_of_thousandths_is_sold(both: Both, amount: str) -> None:
    text = msgspec.json.encode(BUY).decode().replace('"amount":5', f'"amount":{amount}')
    mac = forms._mac(forms.RECEIPT_PATH, "alpha", int(NOW), text, KEY)
    body = msgspec.json.encode(forms.Proven("alpha", int(NOW), text, mac))
    answer = await both.service.answer(request(forms.RECEIPT_PATH, body))
    assert answer.status in (400, 409)
    assert await both.payer.balance("b.example", "", NOW) == forms.Balance(1000, "USD")


@pytest.mark.covers("AMDP-20", "SEC-195")
async def test_only_posts_at_its_own_names_are_answered(both: Both) -> None:
    get = replace(request(forms.BALANCE_PATH, b""), method="GET")
    assert (await both.service.answer(get)).status == 405
    assert not both.service.serves("mhf-1.b.example", forms.BALANCE_PATH)
    assert not both.service.serves("amdp-mis.c.example", forms.BALANCE_PATH)
    assert not both.service.serves("amdp-mis.b.example", "/amdp/v1/postage/other")
    other = forms.prove(
        forms.RECEIPT_PATH, "alpha", msgspec.structs.replace(BUY, domain="c.example"), KEY, NOW
    )
    answer = await both.service.answer(request(forms.RECEIPT_PATH, other))
    assert (answer.status, problem(answer.body)) == (409, "the ledger takes nothing for this domain")


@pytest.mark.covers("AMDP-20")
async def test_a_ledger_that_cannot_be_used_says_not_now(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a folder")
    thread = LedgerThread(lambda: ledger_on(SqliteDatabase(path / "postage.sqlite")), "postage")
    provider = LedgerProvider(thread, "AMDP-LEDGER", "USD", Heard())
    service = PostageService(provider, frozenset({"b.example"}), Heard())
    body = forms.prove(forms.BALANCE_PATH, "alpha", forms.Ask(), KEY, NOW)
    answer = await service.answer(request(forms.BALANCE_PATH, body))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    with pytest.raises(PostageUnavailable):
        await provider.settle("E1", NOW)
    await asyncio.to_thread(thread.close)


@pytest.mark.covers("SEC-211")
def test_a_secret_has_one_form_and_is_not_shown() -> None:
    assert forms.key_of(SECRET) == KEY
    for wrong in ("", SECRET.upper(), SECRET + "a", SECRET[:-1] + "1", SECRET + "\n"):
        with pytest.raises(FormError):
            forms.key_of(wrong)
    assert "key" not in repr(PayingAccount("alpha", KEY))
