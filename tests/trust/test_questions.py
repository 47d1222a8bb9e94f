"""Questions to lists in DNS, and which answers count (RFC 5782, RFC 5518)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import Trust, TrustList
from outrider.trust.lists import NamedList, TrustError, compile_lists
from outrider.trust.questions import (
    Answer,
    Said,
    control_question,
    judge_addresses,
    judge_vouching,
    probe_questions,
    question_about,
    reversed_address,
)
from outrider.trust.subjects import Role, Subject


def a_list(kind: str = "dnsbl", source: str = "bl.example", **settings: object) -> NamedList:
    (one,) = compile_lists(Trust(lists={"x": TrustList(kind=kind, source=source, **settings)}))  # type: ignore[arg-type]
    return one


def about(role: Role, name: str, *, proven: bool = True) -> Subject:
    return Subject(role, name, proven)


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("kind", "subject", "name", "is_txt"),
    [
        ("dnsbl", about(Role.CLIENT, "192.0.2.99"), "99.2.0.192.bl.example", False),
        ("dnswl", about(Role.CLIENT, "::ffff:192.0.2.99"), "99.2.0.192.bl.example", False),
        (
            "dnsbl",
            about(Role.CLIENT, "2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example",
            False,
        ),
        ("rhsbl", about(Role.DOMAIN, "bad.example"), "bad.example.bl.example", False),
        ("rhswl", about(Role.HOST, "mx.good.example"), "mx.good.example.bl.example", False),
        ("issuer", about(Role.ISSUER, "ca.example"), "ca.example.bl.example", False),
        ("vbr", about(Role.DOMAIN, "good.example"), "good.example._vouch.bl.example", True),
    ],
)
def test_the_name_that_is_asked_for(kind: str, subject: Subject, name: str, is_txt: bool) -> None:
    asked = a_list(kind)
    assert asked.asks_about(subject)
    question = question_about(asked, subject)
    assert question is not None
    assert (question.name, question.is_txt) == (name, is_txt)


@given(st.ip_addresses())
def test_reversal_agrees_with_reverse_dns(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert f"{reversed_address(address)}." in address.reverse_pointer + "."
    assert address.reverse_pointer.rpartition(".")[0].rpartition(".")[0] == reversed_address(address)


@pytest.mark.covers("ITP-3")
def test_lists_are_asked_about_what_they_list_and_nothing_else() -> None:
    client, host = about(Role.CLIENT, "192.0.2.1"), about(Role.HOST, "mx.a.example")
    claimed, proven = about(Role.DOMAIN, "a.example", proven=False), about(Role.DOMAIN, "a.example")
    issuer, sender = about(Role.ISSUER, "ca.example"), about(Role.SENDER, "ann@a.example")
    asked = {
        kind: [one for one in (client, host, claimed, proven, issuer, sender) if a_list(kind).asks_about(one)]
        for kind in ("dnsbl", "rhsbl", "rhswl", "vbr", "issuer", "block-file")
    }
    assert asked == {
        "dnsbl": [client],
        "rhsbl": [host, claimed, proven],
        "rhswl": [host, claimed, proven],
        "vbr": [proven],
        "issuer": [issuer],
        "block-file": [client, host, claimed, proven, sender],
    }


def test_a_name_too_long_for_dns_is_not_asked_for() -> None:
    long = ".".join(["a" * 60] * 4)
    assert question_about(a_list("rhsbl"), about(Role.DOMAIN, long)) is None


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("answers", "codes", "said"),
    [
        (["127.0.0.2"], (), Said.HIT),
        (["127.0.1.4", "127.0.0.2"], (), Said.HIT),
        (["127.0.0.1"], (), Said.REFUSED),
        (["127.0.0.1"], ("127.0.0.1",), Said.HIT),
        (["127.255.255.254"], (), Said.REFUSED),
        (["127.0.0.2", "127.255.255.252"], (), Said.REFUSED),
        (["127.255.0.3"], (), Said.MISS),
        (["203.0.113.80"], (), Said.MISS),
        (["10.0.0.2", "192.168.1.1"], (), Said.MISS),
        (["127.0.0.2"], ("127.0.0.4",), Said.MISS),
        (["127.0.0.77"], ("127.0.0.64/27",), Said.HIT),
        ([], (), Said.MISS),
    ],
)
def test_which_answers_count(answers: list[str], codes: tuple[str, ...], said: Said) -> None:
    assert judge_addresses(a_list(codes=codes), answers).said is said


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("texts", "codes", "said"),
    [
        ((b"all",), (), Said.HIT),
        ((b"list transaction ALL",), (), Said.HIT),
        ((b"transaction",), (), Said.MISS),
        ((b"transaction",), ("transaction",), Said.HIT),
        ((b"small",), (), Said.MISS),
        ((b"all", b"all"), (), Said.MISS),
        ((b"\xff\x00all",), (), Said.MISS),
        ((b"",), (), Said.MISS),
        ((), (), Said.MISS),
        ((b"x" * 5000 + b" all",), (), Said.MISS),
    ],
)
def test_what_a_vouching_service_says(texts: tuple[bytes, ...], codes: tuple[str, ...], said: Said) -> None:
    assert judge_vouching(a_list("vbr", codes=codes), texts).said is said


def test_the_detail_names_the_codes() -> None:
    assert judge_addresses(a_list(), ["127.0.0.4", "127.0.0.2"]) == Answer(Said.HIT, "127.0.0.2, 127.0.0.4")


@pytest.mark.covers("ITP-3")
def test_behind_a_hit_the_list_is_asked_for_what_it_may_not_list() -> None:
    cases = [
        ("dnsbl", about(Role.CLIENT, "192.0.2.1"), "1.0.0.127.bl.example"),
        ("rhsbl", about(Role.DOMAIN, "a.example"), "invalid.bl.example"),
        ("vbr", about(Role.DOMAIN, "a.example"), None),
        ("dnsbl", about(Role.CLIENT, "127.0.0.1"), None),
    ]
    for kind, subject, name in cases:
        question = control_question(a_list(kind), subject)
        assert (question.name if question else None) == name
    v6 = control_question(a_list("dnsbl"), about(Role.CLIENT, "2001:db8::1"))
    assert v6 is not None
    assert v6.name.startswith("1.0.0.0.0.0.f.7.f.f.f.f.0.")
    assert [one.name for one in probe_questions(a_list("rhswl"))] == ["test.bl.example", "invalid.bl.example"]


@pytest.mark.covers("ITP-3")
@pytest.mark.parametrize(
    ("name", "settings", "because"),
    [
        ("x", {"kind": "dnsbl", "source": ""}, r"trust.lists.x.source: is empty; give the zone"),
        ("x", {"kind": "dnsbl", "source": "no zone"}, "is no zone"),
        ("x", {"kind": "dnsbl", "source": "localhost"}, "write it like bl.example.org"),
        ("x", {"kind": "dnsbl", "source": "a." * 80 + "example"}, "is no zone"),
        ("x", {"kind": "dnsbl", "source": "bl.example", "codes": ("127.0.0.300",)}, "trust.lists.x.codes"),
        ("x", {"kind": "dnsbl", "source": "bl.example", "codes": ("10.0.0.1",)}, "within 127.0.0.0/8"),
        ("x", {"kind": "vbr", "source": "v.example", "codes": ("two words",)}, "no type of mail"),
        ("x", {"kind": "block-file", "source": "f", "codes": ("127.0.0.2",)}, "gives no answers"),
        ("a b", {"kind": "block-file", "source": "f"}, "a list's name has"),
        ("", {"kind": "block-file", "source": "f"}, "a list's name has"),
    ],
)
def test_mistakes_are_named_with_their_key(name: str, settings: dict[str, object], because: str) -> None:
    with pytest.raises(TrustError, match=because):
        compile_lists(Trust(lists={name: TrustList(**settings)}))  # type: ignore[arg-type]


def test_an_issuer_list_is_a_file_when_its_source_is_a_path() -> None:
    assert a_list("issuer", "lists/issuers").is_file
    assert not a_list("issuer", "issuers.example").is_file
