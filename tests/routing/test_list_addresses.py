"""The addresses of a mailing list, and who is found behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import Config, Domain, MailingList
from outrider.model.address import MAX_LOCAL_OCTETS, parse_address
from outrider.model.envelope import Recipient
from outrider.routing.list_addresses import (
    MAX_NAME,
    ListAddress,
    Purpose,
    is_list_name,
    list_address,
    list_local,
)
from outrider.routing.local_tables import TableError, load_tables
from outrider.routing.local_users import Deliverable, RecipientTable, UnknownUser
from outrider.routing.routes import LIST_WAY, RouteTable

NAMES = frozenset({"staff", "staff-news"})


def config(**domain: object) -> Config:
    settings = {
        "deliver": "maildir:/var/mail/{user}",
        "users": ("ann", "bob", "postmaster"),
        "lists": {"staff": MailingList(owners=("ann", "bob"))},
        **domain,
    }
    return Config(
        hostname="mx.alpha.example",
        data_dir="/nonexistent",
        domains={
            "alpha.example": Domain(**settings),
            "other.example": Domain(domain_alias_of="alpha.example"),
        },  # type: ignore[arg-type]
    )


def tables(**domain: object) -> RecipientTable:
    return load_tables(config(**domain), lambda _: "")


@pytest.mark.covers("SMTP-8")
@pytest.mark.parametrize(
    ("local", "meaning"),
    [
        ("staff", ListAddress("staff", Purpose.POST)),
        ("STAFF", ListAddress("staff", Purpose.POST)),
        ("staff-news", ListAddress("staff-news", Purpose.POST)),
        ("staff-subscribe", ListAddress("staff", Purpose.SUBSCRIBE)),
        ("staff-news-subscribe", ListAddress("staff-news", Purpose.SUBSCRIBE)),
        ("staff-unsubscribe", ListAddress("staff", Purpose.UNSUBSCRIBE)),
        ("staff-unsubscribe+7-abc", ListAddress("staff", Purpose.UNSUBSCRIBE, "7-abc")),
        ("staff-Confirm+ABC", ListAddress("staff", Purpose.CONFIRM, "abc")),
        ("staff-bounces", ListAddress("staff", Purpose.BOUNCES)),
        ("staff-owner", ListAddress("staff", Purpose.OWNER)),
        ("staff-confirm", None),
        ("staff-approve", None),
        ("staff-subscribe+x", None),
        ("staff+detail", None),
        ("staff-", None),
        ("staff-other", None),
        ("-subscribe", None),
        ("nobody-subscribe", None),
        ("staff-confirm+" + "a" * 41, None),
        ("staff-confirm+a_b", None),
        ("", None),
    ],
)
def test_a_local_part_is_an_address_of_a_list_or_not(local: str, meaning: ListAddress | None) -> None:
    assert list_address(local, NAMES) == meaning


@given(st.sampled_from(Purpose), st.text("abc234567-", min_size=1, max_size=28))
def test_every_address_that_a_list_writes_is_read_back_and_fits(purpose: Purpose, token: str) -> None:
    name = "x" * MAX_NAME
    with_token = purpose not in (Purpose.POST, Purpose.SUBSCRIBE, Purpose.REQUEST, Purpose.OWNER)
    local = list_local(name, purpose, token if with_token else "")
    assert list_address(local, {name}) == ListAddress(name, purpose, token if with_token else "")
    if len(token) <= 23:
        assert len(local) <= MAX_LOCAL_OCTETS


@given(st.text(max_size=80))
def test_no_text_at_all_is_trouble(local: str) -> None:
    found = list_address(local, NAMES)
    assert found is None or found.name in NAMES


@pytest.mark.parametrize("name", ["Staff", "", "x" * (MAX_NAME + 1), "a b", "-a", ".a", "a@b", "ä"])
def test_names_that_no_list_may_have(name: str) -> None:
    assert not is_list_name(name)
    with pytest.raises(TableError):
        tables(lists={name: MailingList(owners=("ann",))})


@pytest.mark.covers("SMTP-8")
def test_a_lists_addresses_are_good_and_its_owners_are_found() -> None:
    table = tables()
    for local in ("staff", "staff-subscribe", "staff-bounces+1-abcdefghijkl", "Staff-Request"):
        found = table.resolve(parse_address(f"{local}@alpha.example"))
        assert isinstance(found, Deliverable)
        [one] = found.recipients
        assert one.list_address == list_address(local, {"staff"})
        assert not one.is_local
    owners = table.resolve(parse_address("staff-owner@alpha.example"))
    assert isinstance(owners, Deliverable)
    assert [one.user for one in owners.recipients] == ["ann", "bob"]
    assert isinstance(table.resolve(parse_address("staff-nothing@alpha.example")), UnknownUser)


def test_a_list_answers_at_every_name_of_its_domain_and_under_its_own() -> None:
    found = tables().resolve(parse_address("staff-subscribe@other.example"))
    assert isinstance(found, Deliverable)
    assert str(found.recipients[0].address) == "staff-subscribe@alpha.example"


def test_a_list_goes_before_a_catch_all_and_any_user() -> None:
    for table in (tables(catch_all="ann"), tables(users="*")):
        found = table.resolve(parse_address("staff-subscribe@alpha.example"))
        assert isinstance(found, Deliverable)
        assert found.recipients[0].list_address is not None


def test_an_alias_may_lead_to_a_list() -> None:
    found = tables(aliases={"everybody": ("staff",)}).resolve(parse_address("everybody@alpha.example"))
    assert isinstance(found, Deliverable)
    assert found.recipients[0].list_address == ListAddress("staff", Purpose.POST)


@pytest.mark.parametrize(
    "domain",
    [
        {"users": ("ann", "bob", "postmaster", "staff")},
        {"aliases": {"staff-subscribe": ("ann",)}},
        {"aliases": {"staff-owner": ("ann",)}},
        {"lists": {"staff": MailingList(owners=())}},
        {"lists": {"staff": MailingList(owners=("nobody",))}},
        {"lists": {"staff": MailingList(owners=("not an address@",))}},
    ],
)
def test_mistakes_are_found_when_the_tables_are_read(domain: dict[str, object]) -> None:
    with pytest.raises(TableError) as caught:
        tables(**domain)
    assert "staff" in caught.value.problems[0]


@pytest.mark.covers("SMTP-8")
def test_mail_for_a_list_goes_to_the_list_and_other_mail_where_it_went() -> None:
    routes = RouteTable(config())
    for local in ("staff", "staff-bounces+1-x"):
        assert routes.find(Recipient(parse_address(f"{local}@alpha.example"))).way == LIST_WAY
    assert str(routes.find(Recipient(parse_address("ann@alpha.example"))).way).startswith("maildir:")
    detour = routes.find(Recipient(parse_address("staff@alpha.example"), route="list:members 1 2"))
    assert str(detour.way) == "list:members 1 2"
