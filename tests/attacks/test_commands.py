"""SEC-65 to SEC-80: commands, addresses, and what is made of them."""

from __future__ import annotations

import re

import pytest

from tests.attacks.target import Target
from tests.attacks.wire import Wire


@pytest.mark.covers("SEC-65", "SEC-66")
@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a@b.example>\x00",
        b"MAIL FROM:<a\x00@b.example>",
        b"RCPT TO:<a\x00b@open.example>",
        b"RCPT TO:<a@open.example\x00.evil>",
        b'RCPT TO:<"a\rb"@open.example>',
        b'RCPT TO:<"a\x1b[2J"@open.example>',
        b"RCPT TO:<a\x7f@open.example>",
    ],
)
def test_control_octets_in_commands(target: Target, line: bytes) -> None:
    with target.session() as wire:
        if line.startswith(b"RCPT"):
            wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.expect(b"501", b"500", after=line)
        assert wire.is_in_step()


@pytest.mark.covers("SEC-66")
def test_a_line_feed_within_quotes_ends_the_session(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.send(b'RCPT TO:<"a\nDATA\n"@open.example>\r\n')
        wire.expect(b"500")
        assert wire.until_closed() == b""


@pytest.mark.covers("SEC-67")
@pytest.mark.parametrize(
    "xtext", [b"+0D+0ABcc:+20x", b"+00", b"+zz", b"+4", b"a=b", b"\xc3\xbc", b"x" * 5000]
)
def test_xtext_is_decoded_and_then_judged(target: Target, xtext: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"501", b"500", after=b"MAIL FROM:<s@client.example> ENVID=" + xtext)
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.expect(b"501", b"500", after=b"RCPT TO:<a@open.example> ORCPT=rfc822;" + xtext)


# Local parts that some program might run, look up, or fill in. They are names, nothing else.
NAMES = [
    *(b"\"x'/**/UNION/**/SELECT/**/X'41'--\"", b"\"'';DROP TABLE messages;--\"", b'"a\\\\b"'),
    *(b'";sleep 66;"', b"`touch/tmp/outrider-was-here`", b'"$(touch /tmp/outrider-was-here)"', b'"|cat"'),
    *(b"/etc/passwd", b'":include:/etc/passwd"', b'"../../../etc/x"', b"-bs", b"--option=x", b"_"),
    *(b"${run{/bin/false}}", b'"{0.__class__}"', b"{{7*7}}", b"#{7*7}", b'"<script>"'),
]


@pytest.mark.covers("SEC-68", "SEC-69", "SEC-70")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_data(target: Target, name: bytes) -> None:
    token = b"name-" + name.hex().encode()
    plain = name.decode().replace('"', "")
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<" + name + b"@client.example>")
        wire.expect(b"250", after=b"RCPT TO:<" + name + b"@open.example>")
        wire.expect(b"550", after=b"RCPT TO:<" + name + b"@here.example>")
        wire.expect(b"354", after=b"DATA")
        wire.expect(b"250", after=b"Subject: " + token + b"\r\nX-Name: " + name + b"\r\n\r\nx\r\n.")
    assert b"X-Name: " + name + b"\r\n" in target.arrival(token)
    (arrival,) = [one for one in target.sink.arrivals if token in one.content]
    # Quotes that are not needed are not written again.
    assert [one.replace('"', "") for one in arrival.recipients] == [plain + "@open.example"]
    assert arrival.sender.replace('"', "") == plain + "@client.example"


@pytest.mark.covers("SEC-72", "SEC-73")
@pytest.mark.parametrize(
    "recipient",
    [
        *(b"<victim@far.example>", b'<"victim@far.example"@here.example>'),
        *(
            b"<victim%far.example@here.example>",
            b"<far.example!victim@here.example>",
            b"<far.example!victim>",
        ),
        *(b"<@here.example:victim@far.example>", b"<@here.example,@open.example:victim@far.example>"),
        *(b"<victim@far.example.>", b"<victim@FAR.example>", b"<victim@[127.0.0.1]>", b"<victim@127.0.0.1>"),
        *(b"<victim@[IPv6:::1]>", b"<victim@[10.0.0.1]>", b"<victim@here.example.far.example>"),
        *(
            b"<@>",
            b"<>",
            b"<victim@far.example@here.example>",
            b"victim@far.example",
            b"< victim@far.example>",
        ),
        *(b"<victim@here.example\xe3\x80\x82far.example>", b"<victim>"),
        *(b"<victim@localhost>", b"<victim@[127.1]>", b"<victim@xn--.example>", b'<"victim@far.example">'),
    ],
)
@pytest.mark.parametrize("sender", [b"<>", b"<ann@here.example>", b"<s@client.example>"])
def test_no_spelling_relays(target: Target, recipient: bytes, sender: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:" + sender)
        wire.expect(b"550", b"501", b"553", b"500", after=b"RCPT TO:" + recipient)
        wire.expect(b"250", after=b"RSET")


@pytest.mark.covers("SEC-73")
@pytest.mark.parametrize(
    "recipient", [b"<ANN@HERE.EXAMPLE>", b"<ann@here.example.>", b"<@x.example:ann@here.example>"]
)
def test_other_spellings_of_our_own_domain(target: Target, recipient: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        assert wire.command(b"RCPT TO:" + recipient)[:3] in (b"250", b"501", b"550")


LABEL = b"d" * 63
LENGTHS = [
    (b"RCPT TO:<" + b"x" * 64 + b"@open.example>", b"250"),
    (b"RCPT TO:<" + b"x" * 65 + b"@open.example>", b"5"),
    (b"RCPT TO:<" + b"x" * 1000 + b"@open.example>", b"5"),
    (b"MAIL FROM:<a@" + LABEL + b".example>", b"250"),
    (b"MAIL FROM:<a@d" + LABEL + b".example>", b"501"),
    (b"MAIL FROM:<a@" + b".".join([LABEL] * 4) + b".d>", b"501"),
    (b"MAIL FROM:<" + b"x" * 64 + b"@" + b".".join([LABEL[:60]] * 4) + b">", b"250"),
    (b"RCPT TO:<a@" + b"d." * 2000 + b"example>", b"50"),
    (b"RCPT TO:<a@" + b"d" * 1_000_000 + b">", b"500"),
]


@pytest.mark.covers("SEC-74")
@pytest.mark.parametrize(("line", "answer"), LENGTHS, ids=[f"{len(line)}" for line, _ in LENGTHS])
def test_lengths(target: Target, line: bytes, answer: bytes) -> None:
    with target.session() as wire:
        if line.startswith(b"RCPT"):
            wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.expect(answer, after=line)
        assert wire.is_in_step()


@pytest.mark.covers("SEC-75")
@pytest.mark.parametrize(
    ("address", "parameter", "answer"),
    [
        ("jürgen@open.example".encode(), b"", b"553"),
        ("jürgen@open.example".encode(), b" SMTPUTF8", b"250"),
        (b"\xc0\xafx@open.example", b" SMTPUTF8", b"501"),
        (b"\xed\xa0\x80@open.example", b" SMTPUTF8", b"501"),
        (b"\xff@open.example", b" SMTPUTF8", b"501"),
        ("a\u202eb@open.example".encode(), b" SMTPUTF8", b""),
        ("a\u200bb@open.example".encode(), b" SMTPUTF8", b""),
        ("a\x85b@open.example".encode(), b" SMTPUTF8", b"501"),
    ],
)
def test_addresses_beyond_ascii(target: Target, address: bytes, parameter: bytes, answer: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>" + parameter)
        said = wire.expect(answer, after=b"RCPT TO:<" + address + b">")
        assert said[:1] in (b"2", b"5")
        assert wire.is_in_step()


@pytest.mark.covers("SEC-76")
@pytest.mark.parametrize(
    "name",
    [b"x" * 10_000, b"a\x00b", b"a\x1bb", b"<script>alert(1)</script>", b"", b"a b", b"[127.0.0.1)"],
)
def test_names_in_the_hello(target: Target, name: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"501", b"500", after=b"EHLO " + name)
        assert wire.is_in_step()


@pytest.mark.covers("SEC-76")
def test_a_second_hello_resets(target: Target) -> None:
    with target.session() as wire:
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.ehlo()
        wire.expect(b"503", after=b"RCPT TO:<ann@here.example>")


@pytest.mark.covers("SEC-77")
@pytest.mark.parametrize(
    ("parameters", "answer"),
    [
        *((b"SIZE=" + size, b"501") for size in (b"-1", b"1e9", b"1_000", b"", b"\xd9\xa3", b"+5", b"0x10")),
        (b"SIZE=99999999999999999999", b"5"),
        (b"SIZE=1 SIZE=1", b"501"),
        (b"BODY=FOO", b"501"),
        (b"X-UNKNOWN=1", b"555"),
        (b"=", b"5"),
        (b"SIZE", b"501"),
        (b"RET=ALL", b"501"),
    ],
)
def test_parameters(target: Target, parameters: bytes, answer: bytes) -> None:
    with target.session() as wire:
        wire.expect(answer, after=b"MAIL FROM:<s@client.example> " + parameters)
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")


@pytest.mark.covers("SEC-78")
def test_order(target: Target) -> None:
    with target.session() as wire:
        for line in (b"RCPT TO:<ann@here.example>", b"DATA"):
            wire.expect(b"503", after=line)
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        for line in (b"MAIL FROM:<t@client.example>", b"DATA"):
            answer = wire.command(line)
            assert answer[:3] in (b"503", b"354", b"554")
            if answer.startswith(b"354"):
                wire.send(b".\r\n")
                wire.expect(b"554")
                wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.expect(b"250", after=b"RCPT TO:<ann@here.example>")
        wire.expect(b"503", after=b"MAIL FROM:<t@client.example>")
        wire.expect(b"354", after=b"DATA")
        wire.expect(b"250", after=b"Subject: x\r\n\r\nx\r\n.")


@pytest.mark.covers("SEC-79")
@pytest.mark.parametrize(
    "line",
    [
        *(b"VRFY ann", b"EXPN list", b"TURN", b"DEBUG", b"WIZ", b"ETRN x'", b"ATRN", b"BURL imap://x 1"),
        *(
            b"XCLIENT ADDR=127.0.0.1 NAME=mx.here.example",
            b"XFORWARD ADDR=10.0.0.1",
            b"SAML FROM:<a@b.example>",
        ),
    ],
)
def test_commands_of_other_days(target: Target, line: bytes) -> None:
    with target.session() as wire:
        wire.expect(b"252", b"500", b"502", b"550", after=line)
        assert wire.is_in_step()
        wire.expect(b"250", after=b"MAIL FROM:<s@client.example>")
        wire.expect(b"550", after=b"RCPT TO:<victim@far.example>")


HELLOS = [
    *(b"(comment", b"a(b)c.example", b"x;y", b"[1.2.3.4](x", b"x\\", b'"q"', b"a..b", b"-x-", b"x_y.example"),
    *(b"[IPv6:::1]", b"spf=pass", b"x.example;d=bank.example", b"'", b"=?utf-8?q?x?="),
]


@pytest.mark.covers("SEC-80")
@pytest.mark.parametrize("name", HELLOS)
def test_the_hello_puts_nothing_into_the_trace(target: Target, name: bytes) -> None:
    token = b"hello-" + name.hex().encode()
    with target.connect() as wire:
        if not wire.command(b"EHLO " + name).startswith(b"250"):
            assert wire.is_in_step()
            return
        send_traced(wire, token)
    received = re.match(rb"Received: ((?:[^\r]|\r\n[ \t])*)\r\n", target.arrival(token))
    assert received is not None
    trace = received[1].replace(b"\r\n", b"")
    # One name, one comment that closes; its date is the last thing in the field.
    assert trace.count(b"(") == trace.count(b")")
    assert trace.count(b";") == 1
    assert re.search(rb";\s+\w{3}, \d{1,2} \w{3} \d{4} [\d:]{8} [+-]\d{4}$", trace)


def send_traced(wire: Wire, token: bytes) -> None:
    """One message to the next hop."""
    wire.begin(b"ann@open.example")
    wire.expect(b"250", after=b"Subject: " + token + b"\r\n\r\nx\r\n.")
