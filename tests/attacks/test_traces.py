"""SEC-80, SEC-209, SEC-210: what strangers say, in our log, in our header fields, and in the terminal."""

from __future__ import annotations

import json

import pytest

from tests.attacks.target import Target

NASTY = [
    b'"a\\"b"@client.example',
    b"a%s%n{0}$(x)`x`@client.example",
    b"'<script>alert(1)</script>'@client.example",
    b'"},{\\"event\\":\\"relayed\\""@client.example',
    "\u202egnp.exe@client.example".encode(),
    b"=?utf-8?b?DQpCY2M6?=@client.example",
]


@pytest.mark.covers("SEC-210")
@pytest.mark.parametrize("sender", NASTY)
def test_one_event_is_one_line(target: Target, sender: bytes) -> None:
    target.new_log()
    with target.session() as wire:
        parameter = b"" if sender.isascii() else b" SMTPUTF8"
        wire.command(b"MAIL FROM:<" + sender + b">" + parameter)
        wire.command(b"RCPT TO:<" + sender + b">")
        wire.command(b"RCPT TO:<ann@open.example>")
        wire.command(b"DATA")
        wire.command(b"Subject: \x1b[2J" + sender + b"\r\n\r\nx\r\n.")
    assert_clean(target.new_log())


@pytest.mark.covers("SEC-210")
@pytest.mark.parametrize(
    "line",
    [
        b"\x1b[2J\x07",
        b"EHLO \x1b]0;x\x07",
        b"\r{}",
        b"AUTH \x00",
        b"x" * 4000,
        b"\xff\xfe\xfd",
        b'{"event":"x"}',
    ],
)
def test_commands_never_break_the_log(target: Target, line: bytes) -> None:
    target.new_log()
    with target.session() as wire:
        assert wire.command(line)[:1] == b"5"
    assert_clean(target.new_log())


def assert_clean(log: bytes) -> None:
    """Every line is one JSON object of a bounded size, without control characters or bidirectional marks."""
    assert log
    for line in log.removesuffix(b"\n").split(b"\n"):
        assert len(line) < 20_000
        assert isinstance(json.loads(line), dict)
    assert not any(octet < 32 and octet != 10 for octet in log)
    assert "\u202e".encode() not in log


@pytest.mark.covers("SEC-210")
def test_the_command_line_escapes_what_it_shows(target: Target) -> None:
    with target.session(source=target.friend) as wire:
        wire.begin(
            b'"later \\\\ <b>"@far.example', "\u202egnp.exe".encode().hex().encode() + b"@client.example"
        )
        wire.expect(b"250", after=b"Subject: \x1b[31mred\x07\r\n\r\nx\r\n.")
    message_id = target.server.wait_event("received")[-1]["id"]
    shown = target.server.cli("queue", "show", str(message_id)).stdout
    shown += target.server.cli("explain", str(message_id)).stdout
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    target.server.cli("queue", "drop", str(message_id), check=False)


@pytest.mark.covers("SEC-209")
def test_what_the_server_makes_is_its_own(target: Target) -> None:
    data = target.server.folder / "data"
    for path in (data, *data.rglob("*")):
        mode = path.lstat().st_mode
        assert not path.is_symlink()
        assert mode & 0o077 == 0 or path.parent != data.parent, f"{path} is open to others: {mode:o}"
    assert data.stat().st_mode & 0o777 == 0o700
