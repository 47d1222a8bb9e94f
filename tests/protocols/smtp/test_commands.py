"""Command lines become values, or a reply; hostile text stays text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.model.address import parse_address
from outrider.model.envelope import BodyType, Notify, Return
from outrider.protocols.smtp.commands import (
    CommandError,
    Verb,
    is_text,
    parse_auth,
    parse_chunk,
    parse_hello,
    parse_mail,
    parse_recipient,
    split_command,
)

Value = TypeVar("Value")


def maybe(parse: Callable[[], Value]) -> Value | None:
    """The value, or None where the answer was a proper refusal."""
    try:
        return parse()
    except CommandError as error:
        refusal = error.reply
    assert refusal.is_permanent
    assert refusal.status
    return None


def code_of(caught: pytest.ExceptionInfo[CommandError]) -> int:
    return caught.value.reply.code


@pytest.mark.covers("SMTP-2a")
def test_all_parameters_of_mail() -> None:
    request = parse_mail(
        b"FROM:<ann@a.example> SIZE=12 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb"
        b" HOLDUNTIL=2023-11-14T22:13:20Z AUTH=e+3Dmc2@a.example",
        extended=True,
    )
    assert str(request.sender) == "ann@a.example"
    assert (request.size, request.body_type, request.smtputf8) == (12, BodyType.EIGHT_BIT, True)
    assert (request.ret, request.envelope_id) == (Return.HEADERS, "a+b")
    assert (request.hold_for, request.hold_until) == (0, 1_700_000_000.0)
    assert request.auth == "e=mc2@a.example"
    assert parse_mail(b"FROM:<> AUTH=<>", extended=True).auth == "<>"
    assert parse_mail(b"FROM:<>", extended=False).sender is None


@pytest.mark.covers("SMTP-2a")
def test_all_parameters_of_rcpt() -> None:
    request = parse_recipient(
        b"TO:<bob@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@b.example",
        extended=True,
        smtputf8=False,
    )
    assert request.notify == Notify.SUCCESS | Notify.DELAY
    assert request.original == "rfc822;b+x@b.example"


@pytest.mark.covers("SEC-68", "SEC-69", "SEC-70")
@pytest.mark.parametrize(
    "local",
    [
        "\"x'/**/UNION/**/SELECT/**/X'41'--\"",
        "'';DROP",
        "a%b_c",
        '"a\\\\b"',
        '";sleep 66;"',
        "`id`",
        '"$(id)"',
        "|id",
        "/etc/x",
        '":include:/etc/passwd"',
        "${run{id}}",
        "%n%n",
        '"{0.__class__}"',
        "{{7*7}}",
        '"%(x)s"',
    ],
)
def test_hostile_local_parts_are_data_or_refused(local: str) -> None:
    request = maybe(lambda: parse_mail(f"FROM:<{local}@a.example>".encode(), extended=True))
    if request is None:
        return
    assert request.sender is not None
    assert request.sender.local == local.strip('"').replace("\\\\", "\\")
    assert parse_address(str(request.sender)) == request.sender


@pytest.mark.covers("SEC-70", "SEC-76", "SEC-80")
@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"two names",
        b"<script>",
        b"${run{id}}",
        b"%n%n",
        b"{0.__class__}",
        b"{{7*7}}",
        b"a(b",
        b"a'b",
        b'a"b',
        b"x" * 256,
        "ü.example".encode(),
        b"a\0b",
        b"a\tb",
        b"[",
        b"[127.0.0.1",
        b"127.0.0.1]",
        b"[127.0.0.1)",
    ],
)
def test_hello_names_are_host_names_in_form(name: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        parse_hello(name)
    assert code_of(caught) == 501


@pytest.mark.parametrize("name", [b"mx.a.example", b"[192.0.2.1]", b"[IPv6:2001:db8::1]", b"WIN_HOST", b"x"])
def test_odd_but_harmless_hello_names_are_taken(name: bytes) -> None:
    assert parse_hello(name) == name.decode()


@pytest.mark.covers("SEC-75", "SEC-65")
@pytest.mark.parametrize(
    "line",
    [
        b"NOOP \0",
        b"NOOP \x7f",
        b"NOOP\t",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        "\u202e".encode(),
        "\u200b".encode(),
        "\u2028".encode(),
        "\u0085".encode(),
    ],
)
def test_lines_of_invisible_or_broken_characters_are_no_text(line: bytes) -> None:
    assert not is_text(line)


@pytest.mark.covers("SEC-75")
@pytest.mark.parametrize(("smtputf8", "code"), [(False, 553), (True, 0)])
def test_utf8_addresses_need_smtputf8(smtputf8: bool, code: int) -> None:
    octets = "TO:<δοκιμή@παράδειγμα.δοκιμή>".encode()
    if code:
        with pytest.raises(CommandError) as caught:
            parse_recipient(octets, extended=True, smtputf8=smtputf8)
        assert code_of(caught) == code
    else:
        address = parse_recipient(octets, extended=True, smtputf8=smtputf8).address
        assert address.domain == "xn--hxajbheg2az3al.xn--jxalpdlp"


@pytest.mark.covers("SEC-74")
@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("a" * 64 + "@b.example", True),
        ("a" * 65 + "@b.example", False),
        ("a" * 1000 + "@b.example", False),
        ("a@" + "b" * 63 + ".example", True),
        ("a@" + "b" * 64 + ".example", False),
        ("a@" + "b." * 125 + "example", False),
    ],
)
def test_sizes_of_addresses(address: str, fits: bool) -> None:
    if fits:
        parse_recipient(f"TO:<{address}>".encode(), extended=True, smtputf8=False)
        return
    with pytest.raises(CommandError) as caught:
        parse_recipient(f"TO:<{address}>".encode(), extended=True, smtputf8=False)
    assert code_of(caught) == 501


def test_verbs_in_any_case_with_blanks_around_the_argument() -> None:
    assert split_command(b"mAiL   FROM:<a>  ") == (Verb.MAIL, b"FROM:<a>")
    assert split_command(b"RCPT") == (Verb.RCPT, b"")
    assert split_command(b"") == (Verb.UNKNOWN, b"")
    assert split_command(b"XCLIENT a")[0] is Verb.UNKNOWN
    assert split_command(b"ETRN a")[0] is Verb.NOT_IMPLEMENTED
    assert split_command(b"get /")[0] is Verb.HTTP


@pytest.mark.covers("SMTP-2b")
def test_auth_keeps_the_response_as_it_came() -> None:
    assert parse_auth(b"plain AGEAYg==") == ("PLAIN", b"AGEAYg==")
    assert parse_auth(b"SCRAM-SHA-256-PLUS") == ("SCRAM-SHA-256-PLUS", None)
    assert parse_auth(b"PLAIN =") == ("PLAIN", b"=")
    for argument in (b"", b"PLAIN a b", b"PL,AIN", b"X" * 21):
        with pytest.raises(CommandError):
            parse_auth(argument)


@pytest.mark.covers("SMTP-2a", "SEC-97")
def test_chunks() -> None:
    assert parse_chunk(b"0") == (0, False)
    assert parse_chunk(b"86 LAST") == (86, True)
    assert parse_chunk(b"9223372036854775807 last") == (2**63 - 1, True)


@given(st.binary(max_size=120))
def test_whatever_stands_there_is_a_value_or_a_reply(octets: bytes) -> None:
    parsers = (
        parse_hello,
        parse_auth,
        parse_chunk,
        lambda argument: parse_mail(argument, extended=True),
        lambda argument: parse_mail(b"FROM:<" + argument, extended=True),
        lambda argument: parse_mail(b"FROM:<a@b.example> " + argument, extended=True),
        lambda argument: parse_recipient(b"TO:<" + argument + b">", extended=True, smtputf8=True),
        lambda argument: parse_recipient(b"TO:<a@b> ORCPT=" + argument, extended=True, smtputf8=True),
    )
    if not is_text(octets):
        return
    for parse in parsers:
        maybe(lambda parse=parse: parse(octets))  # type: ignore[misc]
