"""A client core on one side, the test as the server on the other; time stands still unless moved."""

from __future__ import annotations

from typing import TypeVar

from outrider.model.address import parse_address
from outrider.model.envelope import Recipient
from outrider.protocols.smtp.client import SmtpClient
from outrider.protocols.smtp.client_events import (
    ClientSettings,
    Event,
    Mail,
    SessionEnded,
    TransactionEnded,
)
from outrider.protocols.smtp.client_states import Ending

E = TypeVar("E")

SETTINGS = ClientSettings(hello_name="client.example")
LMTP = ClientSettings(hello_name="client.example", lmtp=True)
ALL = ("PIPELINING", "SIZE 10000000", "8BITMIME", "CHUNKING", "BINARYMIME", "SMTPUTF8", "DSN")
BODY = b"Subject: hi\r\n\r\n.dot\r\nend\r\n"


def ehlo_reply(*keywords: str) -> bytes:
    lines = ["mx.example greets you", *keywords]
    return "".join(
        f"250{' ' if n == len(lines) - 1 else '-'}{line}\r\n" for n, line in enumerate(lines)
    ).encode()


class Dialogue:
    """`say` speaks as the server; `heard` is what the client has said since the last look."""

    def __init__(self, settings: ClientSettings = SETTINGS, *, under_tls: bool = False) -> None:
        self.now = 1000.0
        self.core: SmtpClient = SmtpClient(settings, self.now, under_tls=under_tls)
        self.events: list[Event] = []

    def say(self, *texts: str | bytes) -> Dialogue:
        for text in texts:
            self.core.receive(text.encode() + b"\r\n" if isinstance(text, str) else text, self.now)
        self._collect()
        return self

    def drip(self, octets: bytes) -> Dialogue:
        for octet in octets:
            self.core.receive(bytes((octet,)), self.now)
        self._collect()
        return self

    def _collect(self) -> None:
        while (event := self.core.next_event()) is not None:
            self.events.append(event)

    def heard(self) -> bytes:
        return self.core.bytes_to_send()

    def opened(self, *keywords: str) -> Dialogue:
        self.say("220 mx.example ESMTP", ehlo_reply(*keywords))
        self.heard()
        self.events.clear()
        return self

    def send(self, mail: Mail) -> bytes:
        self.core.send_mail(mail, self.now)
        self._collect()
        return self.heard()

    def give(self, octets: bytes, *, last: bool) -> bytes:
        self.core.send_content(octets, last=last, now=self.now)
        self._collect()
        return self.heard()

    def wait(self, seconds: float) -> Dialogue:
        self.now += seconds
        deadline = self.core.deadline()
        if deadline is not None and deadline <= self.now:
            self.core.timed_out(self.now)
        self._collect()
        return self

    def lose(self) -> Dialogue:
        self.core.receive_eof(self.now)
        self._collect()
        return self

    def only(self, kind: type[E]) -> E:
        found = [event for event in self.events if isinstance(event, kind)]
        assert len(found) == 1, self.events
        return found[0]

    @property
    def result(self) -> TransactionEnded:
        return self.only(TransactionEnded)

    @property
    def ending(self) -> Ending:
        return self.only(SessionEnded).ending


def mail(*recipients: str, content: bytes | None = BODY, size: int | None = None, **options: object) -> Mail:
    people = {n: Recipient(parse_address(one)) for n, one in enumerate(recipients or ("bob@b.example",))}
    return Mail(
        sender=parse_address("ann@a.example"),
        recipients=people,
        size=len(content or b"") if size is None else size,
        content=content,
        **options,  # type: ignore[arg-type]
    )
