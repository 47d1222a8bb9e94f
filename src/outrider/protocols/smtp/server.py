"""An SMTP or LMTP server's session as a pure state machine (RFC 5321, RFC 2033 and their extensions).

Octets and moments go in, events and octets come out; what only others can decide is asked by an event and
answered by a verb. All errors of syntax, order and limits are answered here. `server_states` holds the order
of commands, `commands` their grammar, `server_core` the machine that reads them, `server_content` DATA and
BDAT. What remains is below, one handler a command: hello, the envelope, STARTTLS, AUTH, and the small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.protocols.smtp import replies
from outrider.protocols.smtp.capabilities import ehlo_reply
from outrider.protocols.smtp.commands import (
    AMDP_MAIL_PARAMETERS,
    MAIL_PARAMETERS,
    CommandError,
    Verb,
    no_argument,
    parse_auth,
    parse_hello,
    parse_mail,
    parse_recipient,
)
from outrider.protocols.smtp.server_content import ContentSession
from outrider.protocols.smtp.server_core import AGAIN, STARVED, Outcome, SessionCore
from outrider.protocols.smtp.server_events import (
    AuthAborted,
    AuthAnswered,
    AuthStarted,
    HelloReceived,
    MailReceived,
    QuitReceived,
    RecipientReceived,
    StartTlsReceived,
)
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.protocols.smtp.server_states import State
from outrider.wire.lines import BareLineFeed, LineTooLong

MAX_AUTH_LINE: Final = 12_288 + 2
"""RFC 4954 section 4 bids a server read base64 lines of 12 288 octets."""


class ServerSession(ContentSession):
    """One client's session, from the greeting to the end; see `SessionCore` for the driver's duties."""

    __slots__ = (
        "_authenticated",
        "_extended",
        "_hello_name",
        "_messages",
        "_tls",
        "auth_mechanisms",
    )

    _protocol: ClassVar[str] = "ESMTP"
    """The name in the greeting, where it is not LMTP."""
    _help_reply: ClassVar[Reply] = replies.HELP

    def __init__(self, settings: ServerSettings, now: float, *, wall_offset: float = 0.0) -> None:
        """See `SessionCore`."""
        super().__init__(settings, now, wall_offset=wall_offset)
        self.auth_mechanisms: tuple[str, ...] = ()
        """What EHLO offers; the driver sets it before it answers the hello."""
        self._tls = False
        self._messages = 0
        self._forget_hello()

    def _forget_hello(self) -> None:
        self._hello_name = ""
        self._extended = False
        self._authenticated = False

    # -- hello ---------------------------------------------------------------------------------------------

    def _greeting_decided(self, reply: Reply) -> None:
        if reply.is_positive:
            self._enter(State.GREETED)
            protocol = "LMTP" if self._settings.lmtp else self._protocol
            self._say(Reply(220, "", f"{self._settings.hostname} {protocol} Outrider"))
        elif reply.code == 421:
            self._fail(reply, "refused by 421")
        else:
            # RFC 5321 3.1: after 554 the server waits for QUIT and refuses everything else.
            self._enter(State.TURNED_AWAY)
            self._say(reply)

    def _hello(self, verb: Verb, argument: bytes) -> Outcome:
        if (verb is Verb.LHLO) is not self._settings.lmtp:  # RFC 2033 section 4.1: never both
            return self._refuse(verb, replies.UNKNOWN_COMMAND)
        name = parse_hello(argument)
        if self._hello_name and self._is_junk_over_limit():
            return self._events.popleft()

        def decided(reply: Reply) -> None:
            self._hello_decided(reply, verb, name)

        return self._ask_in_lockstep(HelloReceived(verb.name, name), decided)

    def _hello_decided(self, reply: Reply, verb: Verb, name: str) -> None:
        if not reply.is_positive:
            self._say_decision(reply)
            return
        self._abandon(verb.name)  # RFC 5321 4.1.4: as if by RSET
        self._hello_name = name
        self._extended = verb is not Verb.HELO
        self._enter(State.READY)
        if not self._extended:
            self._say(Reply(250, "", self._settings.hostname))
            return
        self._say(
            ehlo_reply(
                self._settings,
                name,
                starttls=self._settings.tls_offered and not self._tls,
                auth=() if self._authenticated else self.auth_mechanisms,
                wall_time=self._now + self._wall_offset,
                more=self._further_offers(),
            )
        )

    def _further_offers(self) -> tuple[str, ...]:
        """Lines of a protocol built on this one."""
        return ()

    def _helo(self, argument: bytes) -> Outcome:
        return self._hello(Verb.HELO, argument)

    def _ehlo(self, argument: bytes) -> Outcome:
        return self._hello(Verb.EHLO, argument)

    def _lhlo(self, argument: bytes) -> Outcome:
        return self._hello(Verb.LHLO, argument)

    # -- the envelope ----------------------------------------------------------------------------------------

    def _mail(self, argument: bytes) -> Outcome:
        if self._messages >= self.limits.messages:
            self._fail(replies.TOO_MANY_MESSAGES, "too many messages")
            return self._events.popleft()
        request = self._parse_mail(argument)
        if request.size > self.limits.message_size:
            return self._refuse(Verb.MAIL, replies.MESSAGE_TOO_BIG)
        if request.hold_for or request.hold_until:
            self._check_hold(request)

        def decided(reply: Reply) -> None:
            self._mail_decided(reply, request)

        return self._ask(MailReceived(request), decided)

    def _parse_mail(self, argument: bytes) -> MailRequest:
        """The command as a value. Raises CommandError."""
        readers = AMDP_MAIL_PARAMETERS if self._settings.amdp else MAIL_PARAMETERS
        return parse_mail(argument, extended=self._extended, readers=readers)

    def _check_hold(self, request: MailRequest) -> None:
        most = self._settings.max_hold_s
        if not most:
            raise CommandError(replies.UNKNOWN_PARAMETER)
        if max(request.hold_for, request.hold_until - self._now - self._wall_offset) > most:
            raise CommandError(replies.HOLD_TOO_LONG)

    def _mail_decided(self, reply: Reply, request: MailRequest) -> None:
        if reply.is_positive:
            self._messages += 1
            self._in_transaction = True
            self._smtputf8 = request.smtputf8
            self._body_type = request.body_type
            self._enter(State.SENDER_GIVEN)
        self._say_decision(reply)

    def _rcpt(self, argument: bytes) -> Outcome:
        if self._recipients >= self.limits.recipients:
            return self._refuse(Verb.RCPT, replies.TOO_MANY_RECIPIENTS)
        request = parse_recipient(argument, extended=self._extended, smtputf8=self._smtputf8)
        return self._ask(RecipientReceived(request), self._rcpt_decided)

    def _rcpt_decided(self, reply: Reply) -> None:
        if reply.is_positive:
            self._recipients += 1
            self._enter(State.RECIPIENT_GIVEN)
        elif self._state is State.SENDER_GIVEN:
            self._enter(State.RECIPIENTS_REFUSED)
        self._say_decision(reply)

    def _rset(self, argument: bytes) -> Outcome:
        no_argument(argument)
        if self._is_junk_over_limit():
            return self._events.popleft()
        self._enter(self._transitions[self._state, Verb.RSET])
        self._abandon("RSET")
        self._say(replies.OK)
        return self._events.popleft() if self._events else AGAIN

    # -- STARTTLS ------------------------------------------------------------------------------------------

    def tls_from_start(self) -> None:
        """The connection came with TLS (implicit TLS); to be called before the greeting is decided."""
        self._tls = True

    def _starttls(self, argument: bytes) -> Outcome:
        no_argument(argument)
        refusal = self._why_no_tls()
        if refusal is not None:
            return self._refuse(Verb.STARTTLS, refusal)
        if self._input:
            # TLS-1, SEC-32: what came in the clear behind the command must never be read as said under TLS.
            self._fail(replies.OUT_OF_STEP, "octets behind STARTTLS")
            return self._events.popleft()
        self._say(replies.READY_FOR_TLS)
        self._enter(State.TLS_STARTING)
        self._lockstep = True
        self._reader = SessionCore._wait
        return StartTlsReceived()

    def _why_no_tls(self) -> Reply | None:
        if self._tls:
            return replies.TLS_ACTIVE
        if not self._settings.tls_offered:
            return replies.TLS_NOT_AVAILABLE
        if self._authenticated:
            return replies.TLS_AFTER_AUTH
        return None if self._extended else replies.HELLO_FIRST

    def tls_started(self, now: float) -> None:
        """The handshake is done: everything said before is forgotten (TLS-1, RFC 3207 section 4.2)."""
        if self._state is not State.TLS_STARTING:
            raise RuntimeError("no TLS was started")
        self._now = now
        self._tls = True
        self._input.clear()
        self._lockstep = False
        self._forget_hello()
        self._enter(State.GREETED)
        self._begin_phase()
        self._reader = SessionCore._read_command

    # -- AUTH ----------------------------------------------------------------------------------------------

    def _auth(self, argument: bytes) -> Outcome:
        refusal = self._why_no_auth()
        if refusal is not None:
            return self._refuse(Verb.AUTH, refusal)
        mechanism, initial = parse_auth(argument)
        return self._ask_in_lockstep(AuthStarted(mechanism, initial), self._auth_decided)

    def _why_no_auth(self) -> Reply | None:
        if self._authenticated:
            return replies.AUTHENTICATED_ALREADY
        if not self._extended:
            return replies.HELLO_FIRST
        if self.auth_mechanisms:
            return None
        needs_tls = self._settings.auth_after_tls and not self._tls
        return replies.AUTH_NEEDS_TLS if needs_tls else replies.AUTH_NOT_AVAILABLE

    def challenge(self, line: bytes, now: float) -> None:
        """Answer `AuthStarted` or `AuthAnswered` with a further challenge, already base64."""
        if self._take_answer(now) is not None:
            self._out.append(b"334 " + line + b"\r\n")
            self._reader = ServerSession._read_auth_line

    def _read_auth_line(self) -> Outcome:
        try:
            line = self._input.maybe_line(MAX_AUTH_LINE)
        except LineTooLong:
            self._begin_skipping(replies.ANSWER_TOO_LONG)
            return AuthAborted()
        except BareLineFeed:
            self._fail(replies.BARE_LINE_FEED, "line ended by a bare LF")
            return self._events.popleft()
        if line is None:
            return STARVED
        return self._ask_in_lockstep(AuthAnswered(line), self._auth_decided)

    def _auth_decided(self, reply: Reply) -> None:
        if reply.code == 235:
            self._authenticated = True
        self._say_decision(reply)

    # -- the rest ----------------------------------------------------------------------------------------

    def _noop(self, _argument: bytes) -> Outcome:
        return self._answer_junk(replies.OK)

    def _help(self, _argument: bytes) -> Outcome:
        return self._answer_junk(self._help_reply)

    def _vrfy(self, argument: bytes) -> Outcome:
        if not argument:
            raise CommandError(replies.ARGUMENT_NEEDED)
        return self._answer_junk(replies.CANNOT_VERIFY)

    def _expn(self, _argument: bytes) -> Outcome:
        return self._refuse(Verb.EXPN, replies.NO_LISTS)

    def _answer_junk(self, reply: Reply) -> Outcome:
        if self._is_junk_over_limit():
            return self._events.popleft()
        self._say(reply)
        return AGAIN

    def _quit(self, argument: bytes) -> Outcome:
        no_argument(argument)
        self._say(replies.GOODBYE)
        self._end("QUIT", QuitReceived())
        return self._events.popleft()

    _handlers: ClassVar[Mapping[Verb, Callable[[Any, bytes], Outcome]]] = {
        Verb.HELO: _helo,
        Verb.EHLO: _ehlo,
        Verb.LHLO: _lhlo,
        Verb.MAIL: _mail,
        Verb.RCPT: _rcpt,
        Verb.DATA: ContentSession._data_command,
        Verb.BDAT: ContentSession._bdat,
        Verb.RSET: _rset,
        Verb.NOOP: _noop,
        Verb.QUIT: _quit,
        Verb.VRFY: _vrfy,
        Verb.EXPN: _expn,
        Verb.HELP: _help,
        Verb.STARTTLS: _starttls,
        Verb.AUTH: _auth,
    }
