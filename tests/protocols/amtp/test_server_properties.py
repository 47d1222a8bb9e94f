"""Whatever a client says, in whatever order: no mail from who is not proven, and none without a code."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.protocols.smtp.test_server_properties import REPLIES

from outrider.model.mpc import LEGAL
from outrider.model.reply import Reply
from outrider.protocols.amtp import replies
from outrider.protocols.amtp.server import AmtpSession
from outrider.protocols.smtp.server_events import (
    AuthAnswered,
    AuthStarted,
    ContentEnded,
    ContentStarted,
    Event,
    HelloReceived,
    MailReceived,
    QuitReceived,
    RecipientReceived,
    SessionFailed,
    StartTlsReceived,
)
from outrider.protocols.smtp.server_settings import ServerSettings, SessionLimits
from outrider.protocols.smtp.server_states import State

LIMITS = SessionLimits(line_length=200, errors=40, junk_commands=40)
YES = Reply(250, "2.0.0", "ok")
HELLO_ANSWERS = [
    YES,
    replies.AUTHENTICATION_FAILED,
    replies.IDENTITY_UNKNOWN,
    Reply(550, "5.7.1", "no"),
    Reply(421, "4.3.2", "bye"),
]
codes = st.sampled_from([str(code) for code in LEGAL])
lines = st.one_of(
    st.sampled_from(
        [
            "HELO a.example", "LHLO a.example", "STARTTLS", "NOOP", "RSET", "HELP", "VRFY a", "QUIT",
            "DATA", "BDAT 3 LAST", "BDAT 2", "AUTH PLAIN", "AUTH PLAIN =", "RCPT TO:<b@b.example>", "", ".",
            "x" * 300, "MAIL FROM:<a@a.example>", "MAIL FROM:<a@a.example> MPC=com/optin MPC=com/optin",
            "MAIL FROM:<a@a.example> MPC=com", "MAIL FROM:<a@a.example> MPC=org/optin",
        ]
    ),
    codes.map(lambda code: f"MAIL FROM:<a@a.example> SIZE=3 MPC={code}"),
    codes.map(lambda code: f"MAIL FROM:<> MPC={code.upper()}"),
    st.text(max_size=20),
)  # fmt: skip


class Client(RuleBasedStateMachine):
    """Any commands, any decisions; what may not be is checked when it happens."""

    @initialize(required=st.booleans(), mechanisms=st.sampled_from([(), ("PLAIN",)]))
    def connect(self, required: bool, mechanisms: tuple[str, ...]) -> None:
        self.core = AmtpSession(ServerSettings("mx.example", LIMITS), 0.0)
        self.core.auth_mechanisms = mechanisms
        self.core.login_required = required
        self.core.declarations = ("ALLOW=com/*",)
        self.said = b""
        self.ends = 0
        self.proven = self.refused = self.logged_in = False
        self.core.reply(Reply(220, "", ""), 0.0)
        self.core.next_event()
        self.said += self.core.bytes_to_send()

    @rule(hello=st.sampled_from(HELLO_ANSWERS))
    def say_hello(self, hello: Reply) -> None:
        self._feed(b"EHLO a.example\r\n", hello)

    @rule(line=lines, other=st.sampled_from([YES, Reply(550, "5.7.1", "no"), Reply(451, "4.7.1", "later")]))
    def say(self, line: str, other: Reply) -> None:
        self._feed(line.encode("utf-8", "replace") + b"\r\n", other)

    @rule(octets=st.binary(max_size=8))
    def babble(self, octets: bytes) -> None:
        self._feed(octets, YES)

    @rule()
    def log_in(self) -> None:
        self._feed(b"AUTH PLAIN =\r\n", Reply(235, "2.7.0", "ok"))

    def _feed(self, octets: bytes, answer: Reply) -> None:
        self.core.receive(octets, 1.0)
        for _ in range(100):
            event = self.core.next_event()
            if event is None:
                break
            self._see(event, answer)
        else:
            raise AssertionError("the session never comes to rest")
        said = self.core.bytes_to_send()
        self.said += said
        if b"250-MPC" in said:
            assert self.logged_in or not self.core.login_required

    def _see(self, event: Event, answer: Reply) -> None:
        match event:
            case HelloReceived(verb, _):
                assert verb == "EHLO"
                assert not self.refused
                self.proven = self.proven or answer.is_positive
                self.refused = answer is replies.AUTHENTICATION_FAILED
            case MailReceived(request):
                assert request.mpc in LEGAL
                assert self.proven
                assert not self.refused
                assert self.logged_in or not self.core.login_required
            case RecipientReceived() | ContentStarted() | ContentEnded():
                assert self.proven
                assert not self.refused
            case AuthStarted() | AuthAnswered():
                assert self.proven
                assert self.core.auth_mechanisms
                answer = answer if answer.code in (235, 421, 550, 451) else Reply(535, "5.7.8", "no")
                self.logged_in = self.logged_in or answer.code == 235
            case StartTlsReceived():
                raise AssertionError("STARTTLS over AMTP")
            case QuitReceived() | SessionFailed():
                self.ends += 1
            case _:
                pass
        if self.core.is_waiting:
            self.core.reply(answer, 1.0)

    @invariant()
    def is_in_order(self) -> None:
        assert self.core.state in State
        assert self.core.state is not State.TLS_STARTING
        assert REPLIES.fullmatch(self.said)
        assert self.ends == self.core.is_closed


Client.TestCase.settings = settings(max_examples=100, stateful_step_count=30)


@pytest.mark.covers("AMTP-3", "AMTP-11", "AMTP-20")
class TestClient(Client.TestCase):  # type: ignore[name-defined,misc]
    """Hypothesis runs it."""
