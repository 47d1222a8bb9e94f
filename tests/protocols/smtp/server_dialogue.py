"""Drives a `ServerSession` in tests: takes its events, decides for it, keeps what it made of the octets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_events import (
    AuthAnswered,
    AuthStarted,
    ContentEnded,
    ContentReceived,
    ContentStarted,
    Event,
    HelloReceived,
    MailReceived,
    RecipientReceived,
    StartTlsReceived,
)
from outrider.protocols.smtp.server_settings import ServerSettings, SessionLimits

WELCOME = Reply(220, "", "welcome")
HELLO = Reply(250, "", "hello")
SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient ok")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")
GO_AHEAD = Reply(354, "", "go ahead")
QUEUED = Reply(250, "2.0.0", "Ok: queued")
LOGGED_IN = Reply(235, "2.7.0", "Authentication succeeded")
BAD_LOGIN = Reply(535, "5.7.8", "Authentication credentials invalid")

MX = ServerSettings("mx.example")
UNKNOWN_USERS = ("green", "jones", "nobody")
WALL_TIME = 1_700_000_000.0

# What RFC 4954's examples send: user "test", password "1234" (with a NUL in front, for PLAIN).
GOOD_PLAIN = b"AHRlc3QAMTIzNA=="


def no_such_user_for(request: RecipientRequest) -> Reply:
    """The decision of most tests: a few local parts are unknown."""
    return NO_SUCH_USER if request.address.local.lower() in UNKNOWN_USERS else RECIPIENT_OK


@dataclass
class Taken:
    """One message that was accepted."""

    request: MailRequest
    recipients: list[RecipientRequest]
    content: bytes
    is_ascii: bool
    is_binary: bool


@dataclass
class Dialogue:
    """A session with someone who decides at once."""

    settings: ServerSettings = MX
    auth: tuple[str, ...] = ()
    recipient_decision: Callable[[RecipientRequest], Reply] = no_such_user_for
    content_decision: Reply = GO_AHEAD
    message_decision: Reply = QUEUED
    greet: Reply | None = WELCOME
    now: float = 1000.0
    kind: type[ServerSession] = ServerSession
    events: list[Event] = field(default_factory=list)
    messages: list[Taken] = field(default_factory=list)
    said: bytes = b""

    def __post_init__(self) -> None:
        self.core = self.kind(self.settings, self.now, wall_offset=WALL_TIME - self.now)
        self.core.auth_mechanisms = self.auth
        self._request: MailRequest | None = None
        self._recipients: list[RecipientRequest] = []
        self._content = b""
        if self.greet is not None:
            self.core.reply(self.greet, self.now)
            self.pump()

    def feed(self, octets: bytes) -> bytes:
        """Octets in; what was said in answer, out."""
        self.core.receive(octets, self.now)
        return self.pump()

    def feed_each(self, pieces: Iterable[bytes]) -> bytes:
        """The same in pieces."""
        return b"".join(self.feed(piece) for piece in pieces)

    def hello(self, *commands: bytes) -> bytes:
        """EHLO (or LHLO), then the commands, each with its line end; gives what was said to the last."""
        verb = b"LHLO" if self.settings.lmtp else b"EHLO"
        said = self.feed(verb + b" client.example\r\n")
        for command in commands:
            said = self.feed(command + b"\r\n")
        return said

    def pump(self) -> bytes:
        """Take all events and decide them."""
        while (event := self.core.next_event()) is not None:
            self.events.append(event)
            self.decide(event)
        out = self.core.bytes_to_send()
        self.said += out
        return out

    def decide(self, event: Event) -> None:
        """Answer one event, if it wants an answer."""
        match event:
            case HelloReceived():
                self._answer(HELLO)
            case MailReceived(request):
                self._request, self._recipients, self._content = request, [], b""
                self._answer(SENDER_OK)
            case RecipientReceived(request):
                reply = self.recipient_decision(request)
                if reply.is_positive:
                    self._recipients.append(request)
                self._answer(reply)
            case ContentStarted():
                self._answer(self.content_decision)
            case ContentReceived(octets):
                self._content += octets
            case ContentEnded():
                self._take(event)
                self._answer(self.message_decision)
            case AuthStarted(mechanism, initial):
                self._authenticate(mechanism, initial)
            case AuthAnswered(line):
                self._answer(LOGGED_IN if line == GOOD_PLAIN else BAD_LOGIN)
            case StartTlsReceived():
                pass  # the test does it
            case _:
                pass

    def _take(self, event: ContentEnded) -> None:
        assert self._request is not None
        if self.message_decision.is_positive:
            taken = Taken(self._request, self._recipients, self._content, event.is_ascii, event.is_binary)
            self.messages.append(taken)

    def _authenticate(self, mechanism: str, initial: bytes | None) -> None:
        if mechanism != "PLAIN":
            self._answer(Reply(504, "5.5.4", "Authentication mechanism not offered"))
        elif initial is None:
            self.core.challenge(b"", self.now)
        else:
            self._answer(LOGGED_IN if initial == GOOD_PLAIN else BAD_LOGIN)

    def _answer(self, reply: Reply) -> None:
        self.core.reply(reply, self.now)

    def of_type(self, kind: type[Event]) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def with_limits(**limits: float) -> ServerSettings:
    """Settings with some limits changed."""
    return ServerSettings("mx.example", replace(SessionLimits(), **limits))


def codes(said: bytes) -> list[int]:
    """The codes of the replies, one for each reply, however many lines it has."""
    return [int(line[:3]) for line in said.split(b"\r\n") if line[3:4] == b" "]
