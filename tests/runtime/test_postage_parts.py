"""Postage joined from its settings (AMDP-20, MT2-21d)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.holding.postage_rig import DAY, ID, KEY, NOW, ORDER, SECRET

from outrider.config.schema import Config
from outrider.holding.postage.ledger import PostageLedger
from outrider.holding.postage.observer import SilentPostage
from outrider.holding.postage.provider_interface import Bill, NotPaid, Redeemed, Spending
from outrider.holding.web import WebCaller
from outrider.runtime.assembly import Assembly
from outrider.runtime.payment_plugins import NoCaller
from outrider.runtime.postage_parts import PostageHouse, new_secret, open_ledger
from outrider.runtime.postage_settings import check_postage, paying_accounts
from outrider.spool.interface import SpoolUnavailable


def configured(postage: Mapping[str, object], extensions: Mapping[str, object] | None = None) -> Config:
    settings = {
        "hostname": "mx.b.example",
        "data_dir": "",
        "domains": {"b.example": {"deliver": "discard:"}},
        "amdp": {"postage": dict(postage)},
        "mt2": {"extensions": {"options": {"postage": dict(extensions or {})}}},
    }
    return msgspec.convert(settings, Config)


@dataclass
class Assembled:
    """What of an assembly is looked at."""

    config: Config
    data_dir: Path


@pytest.mark.covers("AMDP-20")
async def test_with_a_ledger_mail_is_sold_taken_and_swept(tmp_path: Path) -> None:
    config = configured({"provider": "ledger"})
    assembly = cast(Assembly, Assembled(config, tmp_path))
    clock = [NOW]
    house = PostageHouse(assembly, lambda: clock[0])

    async def find(peer: str, transfer: str) -> Any:
        raise AssertionError(f"nothing is reserved: {peer}/{transfer}")

    parts = house.parts(assembly, cast(WebCaller, None), find, SilentPostage())
    assert parts.provider is not None
    assert parts.office.takes
    [service] = parts.services
    assert service.serves("amdp-mis.b.example", "/amdp/v1/postage/balance")

    def begin(ledger: PostageLedger) -> str:
        ledger.books.open_account("alpha", ("a.example",), KEY, NOW)
        ledger.books.credit("alpha", 10, "r", NOW)
        return ledger.sell(ORDER, NOW)

    ledger = open_ledger(config, tmp_path, NOW)
    receipt = begin(ledger)
    taken = await parts.provider.redeem(
        receipt, cause="E1", message_id=ID, recipient_domain="b.example", payer="a.example", price=5, now=NOW
    )
    assert isinstance(taken, Redeemed)
    clock[0] = NOW + 3 * DAY
    ledger.sell(replace(ORDER, purpose="d" * 26), NOW)
    await parts.sweep()
    assert ledger.balance("alpha") == 5, "what expired is paid back"
    ledger.close()
    await asyncio.to_thread(house.close)


@pytest.mark.covers("AMDP-20", "MT2-21d")
async def test_off_by_default_nothing_is_taken_served_or_paid(tmp_path: Path) -> None:
    assembly = cast(Assembly, Assembled(configured({}), tmp_path))
    house = PostageHouse(assembly, lambda: NOW)
    parts = house.parts(assembly, cast(WebCaller, None), cast(Any, None), SilentPostage())
    assert (parts.provider, parts.services, parts.office.takes) == (None, (), False)
    await parts.sweep()
    await asyncio.to_thread(house.close)
    assert not (tmp_path / "postage").exists()


@pytest.mark.covers("MT2-21d", "SEC-191")
async def test_a_spool_that_cannot_be_asked_leaves_reservations_as_they_are(tmp_path: Path) -> None:
    config = configured({"provider": "ledger"})
    assembly = cast(Assembly, Assembled(config, tmp_path))
    house = PostageHouse(assembly, lambda: NOW + 10 * DAY)

    async def away(peer: str, transfer: str) -> Any:
        raise SpoolUnavailable(f"{peer}/{transfer}")

    parts = house.parts(assembly, cast(WebCaller, None), away, SilentPostage())
    ledger = open_ledger(config, tmp_path, NOW)
    ledger.books.open_account("alpha", ("a.example",), KEY, NOW)
    ledger.books.credit("alpha", 10, "r", NOW)
    receipt = ledger.sell(ORDER, NOW)
    spending = Spending("mt2:mx.a.example/t1#1", ID, "b.example", "a.example", 5)
    ledger.spend(receipt, spending, NOW, for_good=False)
    await parts.sweep()
    assert ledger.books.audit().reserved == 5
    ledger.close()
    await asyncio.to_thread(house.close)


@pytest.mark.covers("AMDP-20")
def test_our_accounts_at_others_are_read_from_their_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    [(domain, account)] = paying_accounts(configured({"accounts": {"B.example": f"alpha:{file}"}})).items()
    assert (domain, account.name, account.key) == ("b.example", "alpha", KEY)
    assert new_secret() != new_secret()
    file.write_text(new_secret())
    check_postage(configured({"accounts": {"b.example": f"alpha:{file}"}}))


@pytest.mark.covers("AMDP-20", "SEC-193")
@pytest.mark.parametrize(
    ("postage", "extension", "key"),
    [
        ({"currency": "usd"}, {}, "amdp.postage.currency"),
        ({"most": "much"}, {}, "amdp.postage.most"),
        ({"most": "-1"}, {}, "amdp.postage.most"),
        ({"accounts": {"b.example": "alpha"}}, {}, 'amdp.postage.accounts."b.example"'),
        ({"accounts": {"b.example": "alpha:/nowhere/key"}}, {}, 'amdp.postage.accounts."b.example"'),
        ({"accounts": {"b.example": "alpha:/dev/null"}}, {}, 'amdp.postage.accounts."b.example"'),
        ({"accounts": {"..": "alpha:/dev/null"}}, {}, 'amdp.postage.accounts.".."'),
        ({}, {"require": "always"}, "mt2.extensions.options.postage.require"),
    ],
)
def test_settings_that_do_not_fit(postage: dict[str, object], extension: dict[str, object], key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(key)) as caught:
        check_postage(configured(postage, extension))
    assert str(caught.value).startswith(key)


PACKAGE = """
from outrider.holding.postage.provider_interface import NotPaid

class Payer:
    async def pay(self, bill, now):
        return NotPaid(f"pigeons carry no {bill.price}")
    async def take_back(self, receipt, bill, now):
        return True

class Pigeons:
    def __init__(self, options, caller):
        if set(options) - {"loft"}:
            raise ValueError("loft is all there is")
        self.payer = Payer()
        self.provider = None

class Loft(Pigeons):
    def __init__(self, options, caller):
        super().__init__(options, caller)
        self.provider, self.payer = object(), None
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that has two ways of paying."""
    (tmp_path / "pigeon_post.py").write_text(PACKAGE)
    about = tmp_path / "pigeon_post-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon-post\nVersion: 1\n")
    points = "[outrider.postage]\npigeons = pigeon_post:Pigeons\nloft = pigeon_post:Loft\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.covers("AMDP-20")
@pytest.mark.usefixtures("package")
async def test_other_ways_of_paying_are_plugged_in(tmp_path: Path) -> None:
    config = configured(
        {"provider": "loft", "payers": {"Pigeon": "pigeons"}, "options": {"loft": {"loft": 3}}}
    )
    check_postage(config)
    house = PostageHouse(cast(Assembly, Assembled(config, tmp_path)), lambda: NOW)
    parts = house.parts(
        cast(Assembly, Assembled(config, tmp_path)), NoCaller(), cast(Any, None), SilentPostage()
    )
    assert parts.provider is not None
    assert parts.services == ()
    bill = Bill(ID, "a.example", "b.example", 5, NOW + DAY, method="PIGEON")
    assert await parts.payer.pay(bill, NOW) == NotPaid("pigeons carry no 5")
    assert await parts.payer.take_back("x", bill, NOW)
    unpaid = await parts.payer.pay(replace(bill, method=""), NOW)
    assert unpaid == NotPaid("we have no account at b.example to pay postage from")
    await asyncio.to_thread(house.close)


@pytest.mark.covers("AMDP-20")
@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("postage", "words"),
    [
        ({"provider": "owls"}, "amdp.postage.provider: no installed package has the entry point owls"),
        ({"provider": "pigeons"}, "amdp.postage.provider: pigeons pays, but takes nothing"),
        ({"payers": {"X": "loft"}}, "amdp.postage.payers.X: loft takes payments, but makes none"),
        (
            {"payers": {"X": "pigeons"}, "options": {"pigeons": {"speed": 1}}},
            "amdp.postage.payers.X: pigeons cannot be used: ValueError: loft is all there is",
        ),
    ],
)
def test_a_plug_in_that_does_not_fit(postage: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_postage(configured(postage))
