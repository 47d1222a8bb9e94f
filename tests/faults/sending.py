"""Single messages, sent by hand."""

from __future__ import annotations

from tests.attacks.wire import Wire
from tests.faults.sites import PORT


def send(address: str, content: bytes, recipient: str) -> bytes:
    """One message; the reply to it."""
    with Wire(address, PORT) as wire:
        wire.ehlo()
        wire.begin(recipient.encode(), b"s@client.example")
        wire.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return wire.reply()


def try_to_send(address: str, content: bytes, recipient: str) -> bytes:
    """One message; the first reply that is no 2yz or 354, else the last."""
    with Wire(address, PORT) as wire:
        wire.ehlo()
        for line in (b"MAIL FROM:<s@client.example>", b"RCPT TO:<" + recipient.encode() + b">", b"DATA"):
            answer = wire.command(line)
            if not answer.startswith((b"2", b"354")):
                return answer
        wire.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return wire.reply()
