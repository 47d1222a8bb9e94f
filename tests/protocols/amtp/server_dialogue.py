"""Drives an `AmtpSession` in tests: who says EHLO as somebody else is not believed, and there are codes."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.protocols.smtp import server_dialogue
from tests.protocols.smtp.server_dialogue import HELLO, LOGGED_IN, RECIPIENT_OK

from outrider.model.mpc import Mpc
from outrider.model.reply import Reply
from outrider.protocols.amtp import replies
from outrider.protocols.amtp.declarations import evaluate, parse_declarations
from outrider.protocols.amtp.server import AmtpSession
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_events import Event, HelloReceived, MailReceived, RecipientReceived


@dataclass
class Dialogue(server_dialogue.Dialogue):
    """A session whose client's certificate is for `certified`."""

    kind: type[ServerSession] = AmtpSession
    certified: str = "client.example"
    hello_decision: Reply = HELLO
    declarations: tuple[str, ...] = ()
    """Announced, and enforced at MAIL."""
    after_login: tuple[str, ...] = ()
    login_required: bool = False
    takes: dict[str, str] = field(default_factory=dict)
    """The only code that a recipient takes, by address; others take all."""

    @property
    def session(self) -> AmtpSession:
        assert isinstance(self.core, AmtpSession)
        return self.core

    def decide(self, event: Event) -> None:
        match event:
            case HelloReceived(_, name):
                self._hello(name)
            case MailReceived(request) if not self._wants(request.mpc):
                self._answer(replies.POLICY_VIOLATION)
            case RecipientReceived(request) if str(request.address) in self.takes:
                assert self._request is not None
                wanted = self.takes[str(request.address)] == str(self._request.mpc)
                if wanted:
                    self._recipients.append(request)
                self._answer(RECIPIENT_OK if wanted else replies.POLICY_VIOLATION)
            case _:
                super().decide(event)

    def _hello(self, name: str) -> None:
        logged_in = LOGGED_IN.encode() in self.said
        self.session.auth_mechanisms = self.auth
        self.session.login_required = self.login_required
        self.session.declarations = self.after_login if logged_in else self.declarations
        if name != self.certified:
            self._answer(replies.AUTHENTICATION_FAILED)
        else:
            self._answer(self.hello_decision)

    def _wants(self, code: Mpc | None) -> bool:
        announced = parse_declarations(f"MPC {one}" for one in self.session.declarations)
        return code is not None and evaluate(announced, code).allowed
