"""Users, aliases, detail, catch-all, domain aliases, postmaster, loops; and nothing else is an address."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import Config, Delivery, Domain
from outrider.model.address import Address, parse_address
from outrider.model.address import Domain as DomainName
from outrider.routing.local_tables import TableError, load_tables
from outrider.routing.local_users import (
    AliasLoop,
    Deliverable,
    DomainTable,
    Mailbox,
    NotLocal,
    RecipientTable,
    UnknownUser,
    is_mailbox_name,
)

MAILDIR = "maildir:/mail/{user}"


def load(
    domains: dict[str, Domain], files: dict[str, str] | None = None, postmaster: str = ""
) -> RecipientTable:
    def read_file(path: str) -> str:
        try:
            return (files or {})[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    config = Config(
        hostname="mx.alpha.example",
        data_dir="/nonexistent",
        domains=domains,
        delivery=Delivery(postmaster=postmaster),
    )
    return load_tables(config, read_file)


def alpha(**settings: Any) -> Domain:
    return Domain(**{"deliver": MAILDIR, "users": ("ann", "bob"), **settings})


def finals(table: RecipientTable, text: str) -> list[str]:
    resolution = table.resolve(parse_address(text))
    assert isinstance(resolution, Deliverable), resolution
    return [str(one.address) for one in resolution.recipients]


# --- users ------------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-8")
@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("ann@alpha.example", Mailbox("ann", "", DomainName("alpha.example"))),
        ("ANN@Alpha.Example", Mailbox("ann", "", DomainName("alpha.example"))),
        ("ann+Shop@alpha.example", Mailbox("ann", "Shop", DomainName("alpha.example"))),
        ("ann+a+b@alpha.example", Mailbox("ann", "a+b", DomainName("alpha.example"))),
        ("Postmaster@alpha.example", Mailbox("postmaster", "", DomainName("alpha.example"))),
    ],
)
def test_known_users_have_a_mailbox(address: str, mailbox: Mailbox) -> None:
    table = load({"alpha.example": alpha()})
    assert table.mailbox_of(parse_address(address)) == mailbox
    resolution = table.resolve(parse_address(address))
    assert isinstance(resolution, Deliverable)
    assert [(one.user, one.detail) for one in resolution.recipients] == [(mailbox.user, mailbox.detail)]
    assert resolution.via == ()


@pytest.mark.covers("SMTP-8", "SEC-166")
@pytest.mark.parametrize("address", ["eve@alpha.example", "+shop@alpha.example", "eve+ann@alpha.example"])
def test_unknown_users_are_unknown(address: str) -> None:
    table = load({"alpha.example": alpha()})
    assert isinstance(table.resolve(parse_address(address)), UnknownUser)
    assert table.mailbox_of(parse_address(address)) is None


def test_another_domain_is_not_local() -> None:
    table = load({"alpha.example": alpha()})
    assert isinstance(table.resolve(parse_address("ann@b.example")), NotLocal)
    assert not table.is_local("b.example")


@pytest.mark.covers("SMTP-8", "SEC-69")
def test_an_address_elsewhere_that_a_route_brings_here_is_named_by_itself() -> None:
    table = load({"alpha.example": alpha()})
    mailbox = table.mailbox_of(parse_address("Ann+x@b.example"))
    assert mailbox == Mailbox("ann+x", "", DomainName("b.example"))
    assert table.mailbox_of(Address("../etc", DomainName("b.example"))) is None


def test_no_separator_means_no_detail() -> None:
    table = load({"alpha.example": alpha(separator="")})
    assert isinstance(table.resolve(parse_address("ann+x@alpha.example")), UnknownUser)


def test_a_user_whose_name_holds_the_separator_is_meant_whole() -> None:
    table = load({"alpha.example": alpha(users=("ann", "ann+vip"))})
    mailbox = table.mailbox_of(parse_address("ann+vip@alpha.example"))
    assert mailbox is not None
    assert (mailbox.user, mailbox.detail) == ("ann+vip", "")


@pytest.mark.covers("SEC-69")
@pytest.mark.parametrize(
    "local",
    [
        "../../etc/passwd",
        "..",
        ".hidden",
        "a/b",
        "/etc/passwd",
        "-rf",
        "a b",
        'a"b',
        "x\x00y",
        "\n",
        "a\u202eb",
    ],
)
def test_a_name_that_could_be_a_path_or_an_option_is_nobody_even_where_any_user_goes(local: str) -> None:
    table = load({"alpha.example": alpha(users="*")})
    domain = DomainName("alpha.example")
    assert isinstance(table.resolve(Address(local, domain)), UnknownUser)
    assert isinstance(table.resolve(Address(f"ann+{local}", domain)), UnknownUser)
    assert table.mailbox_of(Address(local, domain)) is None


@given(st.text(min_size=1, max_size=64))
@pytest.mark.covers("SEC-69")
def test_a_mailbox_name_is_always_one_harmless_path_component(name: str) -> None:
    if is_mailbox_name(name):
        assert "/" not in name
        assert "\x00" not in name
        assert not name.startswith((".", "-"))
        assert name.isprintable()


def test_users_come_from_a_file_with_comments() -> None:
    files = {"/users": "# staff\nann   # boss\n\nBob@alpha.example\r\n"}
    table = load({"alpha.example": alpha(users="/users")}, files)
    assert table.mailbox_of(parse_address("bob@alpha.example")) is not None
    assert table.mailbox_of(parse_address("ann@alpha.example")) is not None


# --- aliases ----------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-8")
def test_aliases_lead_to_users_to_aliases_and_abroad_each_once() -> None:
    aliases = {
        "all": ("ann", "team", "carol@b.example"),
        "team": ("bob", "ann@alpha.example"),
    }
    table = load({"alpha.example": alpha(aliases=aliases)})
    assert finals(table, "All@alpha.example") == ["ann@alpha.example", "bob@alpha.example", "carol@b.example"]
    resolution = table.resolve(parse_address("all@alpha.example"))
    assert isinstance(resolution, Deliverable)
    assert resolution.via == ("all@alpha.example", "team@alpha.example")
    assert [one.is_local for one in resolution.recipients] == [True, True, False]


def test_an_alias_to_itself_keeps_a_copy() -> None:
    table = load({"alpha.example": alpha(aliases={"ann": ("ann", "bob")})})
    assert finals(table, "ann@alpha.example") == ["ann@alpha.example", "bob@alpha.example"]


def test_an_alias_wins_over_the_user_and_takes_its_details() -> None:
    table = load({"alpha.example": alpha(aliases={"ann": "bob"})})
    assert finals(table, "ann@alpha.example") == ["bob@alpha.example"]
    assert finals(table, "ann+x@alpha.example") == ["bob@alpha.example"]
    assert table.mailbox_of(parse_address("ann@alpha.example")) is not None, "final recipients stay final"


def test_a_catch_all_takes_the_unknown_and_only_them() -> None:
    table = load({"alpha.example": alpha(catch_all="bob")})
    assert finals(table, "whoever@alpha.example") == ["bob@alpha.example"]
    assert finals(table, "ann@alpha.example") == ["ann@alpha.example"]


def test_a_domain_alias_is_another_name_for_the_domain() -> None:
    table = load({"alpha.example": alpha(), "a.example": Domain(domain_alias_of="alpha.example")})
    assert finals(table, "ann+x@a.example") == ["ann+x@alpha.example"]
    assert isinstance(table.resolve(parse_address("eve@a.example")), UnknownUser)
    assert table.is_local("a.example")


def test_a_domain_of_aliases_only_has_no_mailboxes() -> None:
    table = load({"alpha.example": Domain(aliases={"info": "x@b.example", "postmaster": "y@b.example"})})
    assert finals(table, "info@alpha.example") == ["x@b.example"]
    assert isinstance(table.resolve(parse_address("ann@alpha.example")), UnknownUser)


# --- postmaster -------------------------------------------------------------------------------------


@pytest.mark.covers("SMTP-8")
@pytest.mark.parametrize(
    ("settings", "postmaster", "leads_to"),
    [
        ({}, "", "postmaster@alpha.example"),
        ({}, "boss@b.example", "boss@b.example"),
        ({"aliases": {"postmaster": "ann"}}, "boss@b.example", "ann@alpha.example"),
        ({"users": ("ann", "postmaster")}, "boss@b.example", "postmaster@alpha.example"),
        ({"catch_all": "ann"}, "boss@b.example", "ann@alpha.example"),
        ({}, "ann@alpha.example", "ann@alpha.example"),
    ],
)
def test_postmaster_is_always_somebody(settings: dict[str, Any], postmaster: str, leads_to: str) -> None:
    table = load({"alpha.example": alpha(**settings)}, postmaster=postmaster)
    assert [one.lower() for one in finals(table, "PostMaster@alpha.example")] == [leads_to]
    assert finals(table, "postmaster") == [leads_to]


def test_without_local_domains_a_bare_postmaster_is_the_configured_one() -> None:
    assert finals(load({}, postmaster="boss@b.example"), "postmaster") == ["boss@b.example"]
    assert isinstance(load({}).resolve(Address("postmaster", DomainName(""))), NotLocal)


# --- loops and bounds -------------------------------------------------------------------------------


def bare(aliases: dict[str, tuple[str, ...]]) -> RecipientTable:
    """A table that nobody has checked."""
    name = DomainName("alpha.example")
    targets = {key: tuple(Address(one, name) for one in value) for key, value in aliases.items()}
    return RecipientTable({name: DomainTable(name, users=frozenset({"ann"}), aliases=targets)})


@pytest.mark.covers("SEC-168")
def test_a_circle_of_aliases_ends() -> None:
    loop = bare({"a": ("b",), "b": ("c",), "c": ("a",)}).resolve(parse_address("a@alpha.example"))
    assert isinstance(loop, AliasLoop)
    assert loop.trail == ("a@alpha.example", "b@alpha.example", "c@alpha.example", "a@alpha.example")


@pytest.mark.covers("SEC-168")
def test_a_chain_too_long_ends() -> None:
    chain = {f"u{n}": (f"u{n + 1}",) for n in range(40)}
    assert isinstance(bare({**chain, "u40": ("ann",)}).resolve(parse_address("u0@alpha.example")), AliasLoop)


@pytest.mark.covers("SEC-168")
def test_aliases_that_multiply_are_bounded() -> None:
    """Ten wide and ten deep would be ten thousand million; each name is expanded once."""
    layers = {f"l{n}x{m}": tuple(f"l{n + 1}x{k}" for k in range(10)) for n in range(10) for m in range(10)}
    ends = {f"l10x{m}": ("ann",) for m in range(10)}
    resolution = bare({**layers, **ends}).resolve(parse_address("l0x0@alpha.example"))
    assert isinstance(resolution, Deliverable)
    assert len(resolution.recipients) == 1


@pytest.mark.covers("SEC-168")
def test_one_address_does_not_become_more_than_a_thousand() -> None:
    name = DomainName("alpha.example")
    many = tuple(Address(f"u{n}", DomainName("b.example")) for n in range(1001))
    table = RecipientTable({name: DomainTable(name, aliases={"all": many})})
    assert isinstance(table.resolve(parse_address("all@alpha.example")), AliasLoop)


# --- what is wrong with tables ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"aliases": {"a": "b", "b": "a"}}, ["aliases.a", "circle"]),
        ({"aliases": {"x": "ghost"}}, ["aliases.x", "ghost@alpha.example is no user"]),
        ({"aliases": {"ghost": ("ghost", "ann")}}, []),
        ({"aliases": {"x": "no such @@"}}, ["aliases.x", "no address"]),
        ({"users": ("a/b",)}, ["users", "mailbox name"]),
        ({"catch_all": "ghost"}, ["catch_all", "no user"]),
        ({"aliases": "/missing"}, ["aliases", "cannot read /missing"]),
        ({"users": "/missing"}, ["users", "cannot read /missing"]),
        ({"deliver": None}, ["needs deliver"]),
        ({"deliver": None, "aliases": {"x": "y@b.example"}}, ["postmaster"]),
        ({"domain_alias_of": "nowhere.example"}, ["domain_alias_of", "not in [domains]"]),
    ],
)
def test_mistakes_are_found_at_load(settings: dict[str, Any], words: list[str]) -> None:
    if not words:
        load({"alpha.example": alpha(**settings)})
        return
    with pytest.raises(TableError) as caught:
        load({"alpha.example": alpha(**settings)})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.covers("SEC-69")
@pytest.mark.parametrize(
    "target",
    [
        "|/bin/sh",
        '"|/bin/sh -c x"',
        "/var/mail/x",
        ":include:/etc/passwd",
        ":INCLUDE:/x",
        '" /x"',
        "| x@b.example",
    ],
)
def test_programs_files_and_includes_are_never_addresses(target: str) -> None:
    with pytest.raises(TableError, match="programs, files and includes are not addresses"):
        load({"alpha.example": alpha(aliases={"x": target})})


def test_an_alias_file_has_comments_continuations_and_quoted_names() -> None:
    text = '# lists\nteam: ann,\n   bob, "odd, name"@b.example\n\n"info": team # all\n'
    table = load({"alpha.example": alpha(aliases="/aliases")}, {"/aliases": text})
    assert finals(table, "info@alpha.example") == [
        "ann@alpha.example",
        "bob@alpha.example",
        '"odd, name"@b.example',
    ]


def test_all_mistakes_of_a_file_are_told_with_their_lines() -> None:
    text = "good: ann\nno colon here\nbad: |x\nworse: @@\ngood: bob\n"
    with pytest.raises(TableError) as caught:
        load({"alpha.example": alpha(aliases="/aliases")}, {"/aliases": text})
    starts = [problem.partition(": ")[0] for problem in caught.value.problems]
    assert starts == ["/aliases:2", "/aliases:3", "/aliases:4", "/aliases:5"]


def test_a_file_that_is_not_utf8_is_told() -> None:
    def read_file(path: str) -> str:
        return b"\xff".decode()

    config = Config(hostname="m.example", data_dir="/x", domains={"a.example": alpha(users="/u")})
    with pytest.raises(TableError, match="UTF-8"):
        load_tables(config, read_file)
