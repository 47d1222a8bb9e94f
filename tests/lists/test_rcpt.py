"""Who may write to a list, as RCPT asks it."""

from __future__ import annotations

import pytest

from outrider.lists.rcpt import ListGate
from outrider.lists.store import ListStore, ListStoreThread
from outrider.model.address import parse_address
from outrider.model.transaction import MailRequest
from outrider.routing.list_addresses import list_address
from outrider.tables.database import StoreUnavailable
from tests.lists.conftest import MakeRig
from tests.lists.support import Rig


async def refusal(rig: Rig, local: str, sender: str | None = "eve@far.example", *, size: int = 0) -> str:
    """The reply, "" for none."""
    gate = ListGate(rig.lists, rig.store, rig.observer)
    address, of_list = parse_address(f"{local}@alpha.example"), list_address(local, {"staff", "gone"})
    assert of_list is not None
    request = MailRequest(None if sender is None else parse_address(sender), size=size)
    found = await gate.refusal(address, of_list, request)
    return "" if found is None else str(found)


@pytest.mark.covers("SMTP-8", "SEC-166")
async def test_strangers_are_refused_at_rcpt_and_members_are_not(rig: Rig) -> None:
    assert (await refusal(rig, "staff")).startswith("550 5.7.2 ")
    await rig.join("Eve@far.example")
    assert await refusal(rig, "staff") == ""
    assert await refusal(rig, "staff", None) == ""
    assert (await refusal(rig, "staff", size=2_000_000)).startswith("552 5.3.4 ")


async def test_wishes_and_reports_are_taken_from_anybody(rig: Rig) -> None:
    for local in ("staff-subscribe", "staff-bounces+1-x", "staff-request", "staff-confirm+x"):
        assert await refusal(rig, local) == ""
    assert await refusal(rig, "gone") == ""


async def test_where_members_do_not_matter_they_are_not_looked_up(make_rig: MakeRig) -> None:
    rig = make_rig(posting="anyone")
    rig.store = ListStoreThread(_broken, "lists")
    assert await refusal(rig, "staff") == ""


@pytest.mark.covers("SMTP-6")
async def test_a_store_that_cannot_be_used_is_temporary(rig: Rig) -> None:
    rig.store = ListStoreThread(_broken, "lists")
    assert (await refusal(rig, "staff")).startswith("451 4.3.0 ")
    assert len(rig.observer.named("lists_failed")) == 1


def _broken() -> ListStore:
    raise StoreUnavailable("gone")
