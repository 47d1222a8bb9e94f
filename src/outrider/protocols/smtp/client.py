"""The SMTP and LMTP client without I/O (RFC 5321, 2033, 1870, 2920, 3030, 3207, 4954).

One session with one server. The driver's loop::

    core.receive(octets, now)            # whatever the server sent; receive_eof when it closed
    while (event := core.next_event()):  # see `client_events`; some want an answer by a verb
        ...
    transport.write(core.bytes_to_send())
    # and when core.deadline() passes: core.timed_out(now)

Commands go in groups where the server offers PIPELINING; content goes by BDAT where it offers CHUNKING, else
by DATA. Each command sent is entered in a queue of what is awaited, and each reply answers the oldest entry.
A reply that nobody awaits - early, doubled, or injected behind the 220 to STARTTLS - ends the session and
never counts for a later command (SEC-45, SEC-54).
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable, Container, Iterator
from enum import Enum
from typing import Final

from outrider.model.reply import Reply
from outrider.protocols.smtp.client_commands import mail_command, rcpt_command
from outrider.protocols.smtp.client_content import DotStuffer
from outrider.protocols.smtp.client_events import (
    ChallengeReceived,
    ClientSettings,
    ContentWanted,
    Event,
    LoginEnded,
    Mail,
    SessionEnded,
    SessionOpened,
    StartTlsAccepted,
    StartTlsRefused,
)
from outrider.protocols.smtp.client_offers import Offers, read_offers
from outrider.protocols.smtp.client_states import (
    TRANSITIONS,
    End,
    Ending,
    LocalProtocolError,
    Move,
    Stage,
    State,
)
from outrider.protocols.smtp.client_transaction import ClientTransaction
from outrider.protocols.smtp.reply_reader import MalformedReply, ReplyReader, one_line

CHUNKS_UNDER_WAY: Final = 4
"""BDAT chunks sent and not yet answered, where the server pipelines: enough to keep a long line busy."""
QUIT_TIMEOUT_S: Final = 5.0
"""Nothing depends on the answer to QUIT; RFC 5321 4.1.1.10 wants us to wait for it all the same."""
_BROKE: Final = "the server broke the protocol"


class _Awaited(Enum):
    """A reply that is due: its stage, and the codes that mean yes.

    4yz and 5yz mean no; any other answer breaks the protocol (SEC-48, SEC-50, SEC-55).
    """

    GREETING = (Stage.GREETING, range(220, 221))
    HELLO = (Stage.HELLO, range(250, 251))
    STARTTLS = (Stage.STARTTLS, range(220, 221))
    AUTH = (Stage.LOGIN, (235, 334))
    RSET = (Stage.IDLE, range(250, 260))
    MAIL = (Stage.MAIL, range(250, 260))
    RCPT = (Stage.RECIPIENT, range(250, 260))
    DATA = (Stage.DATA, range(354, 355))
    CHUNK = (Stage.CONTENT, range(250, 260))
    LAST = (Stage.VERDICT, range(250, 260))
    NOTHING = (Stage.DATA, range(200, 400))
    """To the lone dot after a 354 although every recipient was refused (RFC 2920 section 3.1)."""
    QUIT = (Stage.QUIT, range(200, 400))

    def __init__(self, stage: Stage, positive: Container[int]) -> None:
        self.stage = stage
        self.positive = positive

    def may_be(self, code: int) -> bool:
        return code >= 400 or code in self.positive


_STAGES: Final = {
    State.CONTENT: Stage.CONTENT,
    # The content may have gone together with the envelope: while any of it is unanswered, all is open.
    State.VERDICT: Stage.VERDICT,
    State.HANDSHAKE: Stage.STARTTLS,
    State.LOGIN: Stage.LOGIN,
    State.QUITTING: Stage.QUIT,
}


class SmtpClient:
    """The core; see the module. Made when the connection stands, `now` being that moment."""

    def __init__(self, settings: ClientSettings, now: float, *, under_tls: bool = False) -> None:
        self.settings = settings
        self.under_tls = under_tls
        self.offers = Offers()
        self.transactions = 0
        """Messages sent or tried in this session."""
        self._state = State.CONNECTED
        self._plain_hello = False
        self._reader = ReplyReader()
        self._awaited: deque[tuple[_Awaited, int]] = deque([(_Awaited.GREETING, -1)])
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._now = now
        self._deadline: float | None = now + settings.greeting_timeout_s
        self._transaction: ClientTransaction | None = None
        self._transaction_deadline = 0.0
        self._unnamed: Iterator[int] = iter(())  # recipients for whom no RCPT has been sent
        self._stuffer: DotStuffer | None = None  # None: the content goes by BDAT
        self._rest = 0  # octets of the content that are still to be sent
        self._content_asked = False
        self._reset_due = False

    # -- what the driver asks ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def takes_mail(self) -> bool:
        """Whether another message may follow in this session (RFC 9422: MAILMAX)."""
        most = self.offers.limit("MAILMAX")
        return self._state is State.READY and not (most and self.transactions >= most)

    def next_event(self) -> Event | None:
        """The next thing that happened; None until more octets or time have passed."""
        return self._events.popleft() if self._events else None

    def bytes_to_send(self) -> bytes:
        """Everything for the wire since the last call. Call it after every other call."""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    def deadline(self) -> float | None:
        """When `timed_out` is to be called, on the clock of `now`; None while nothing is awaited."""
        if self._deadline is not None and self._transaction is not None:
            return min(self._deadline, self._transaction_deadline)
        return self._deadline

    # -- what happens --------------------------------------------------------------------------------

    def receive(self, octets: bytes, now: float) -> None:
        """Octets from the server."""
        if self._state is State.CLOSED or not octets:
            return
        self._now = now
        self._reader.append(octets)
        try:
            self._read_replies()
        except MalformedReply as error:
            self._end(End.MALFORMED, f"{_BROKE}: {error}")

    def receive_eof(self, now: float, why: str = "the server closed the connection") -> None:
        """The connection has ended. `why` is for the result's text, in words of ours."""
        self._now = now
        self._end(End.QUIT if self._state is State.QUITTING else End.LOST, why)

    def timed_out(self, now: float) -> None:
        """`deadline` has passed; harmless when it has not."""
        self._now = now
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            waited = "waiting for the answer to" if self._awaited else "sending the"
            self._end(End.TIMED_OUT, f"timed out {waited} {self._stage().value}")

    def abandon(self, why: str) -> None:
        """Our side cannot go on; recipients without an outcome get this sentence."""
        self._end(End.ABANDONED, why)

    def _read_replies(self) -> None:
        while self._state is not State.CLOSED:
            reply = self._reader.maybe_reply()
            if reply is None:
                break
            if reply.code == 421 and self._state is not State.QUITTING:
                self._end(End.CLOSING, one_line(reply), reply)
            elif self._awaited:
                self._answered(reply, *self._awaited.popleft())
            else:
                self._spoke_unasked(reply)
        if self._state is not State.CLOSED and not self._awaited and self._reader.has_octets:
            self._spoke_unasked(None)

    def _spoke_unasked(self, reply: Reply | None) -> None:
        # In state HANDSHAKE an attacker put this behind the 220: nothing may come before our hello (TLS-1).
        # While content is on its way by DATA a server may give up on it, and it cannot have taken it yet: a
        # refusal in that place is about this message. Anything positive is about nothing (SEC-54).
        if self._state is State.CONTENT and reply is not None and not reply.is_positive:
            self._open_transaction().content_answered(Stage.CONTENT, reply)
        self._end(End.MALFORMED, f"{_BROKE}: it spoke unasked")

    def _answered(self, reply: Reply, awaited: _Awaited, position: int) -> None:
        if not awaited.may_be(reply.code):
            text = f"{_BROKE}: {reply.code} in answer to {awaited.stage.value}"
            self._end(End.MALFORMED, text, stage=awaited.stage)
        elif not self._awaited and self._reader.has_octets and not self._stands_alone(awaited):
            # What stands behind the last reply that is due must not be read as the answer to what comes next.
            self._end(End.MALFORMED, f"{_BROKE}: it spoke unasked", stage=awaited.stage)
        else:
            _ON_REPLY[awaited](self, reply, position)
            self._wait_anew()

    def _stands_alone(self, awaited: _Awaited) -> bool:
        """Whether a reply counts whatever stands behind it. The one to the end of DATA does; one to BDAT sent
        with the envelope may be a doubled reply to RCPT, unless a farewell follows it."""
        if awaited is not _Awaited.LAST:
            return awaited is _Awaited.QUIT
        return self._stuffer is not None or self.settings.lmtp or self._reader.starts_with(b"421")

    # -- opening -------------------------------------------------------------------------------------

    def _greeted(self, reply: Reply, _position: int) -> None:
        if not reply.is_positive:
            return self._end(End.REFUSED, one_line(reply), reply, Stage.GREETING)
        self._move(Move.GREETED)
        return self._say_hello()

    def _say_hello(self) -> None:
        verb = "LHLO" if self.settings.lmtp else "HELO" if self._plain_hello else "EHLO"
        self._send(f"{verb} {self.settings.hello_name}\r\n".encode("ascii"), _Awaited.HELLO)

    def _hello_answered(self, reply: Reply, _position: int) -> None:
        if reply.is_positive:
            self._move(Move.HELLO_ACCEPTED)
            self.offers = Offers() if self._plain_hello else self._read_offers(reply)
            self._events.append(SessionOpened(self.offers))
        else:
            self._hello_refused(reply)

    def _read_offers(self, reply: Reply) -> Offers:
        return read_offers(reply)

    def _hello_refused(self, reply: Reply) -> None:
        if reply.is_permanent and not self._plain_hello and not self.settings.lmtp:
            self._plain_hello = True  # RFC 5321 3.2: who does not know EHLO is greeted with HELO
            self._say_hello()
        else:
            self._end(End.REFUSED, one_line(reply), reply, Stage.HELLO)

    # -- STARTTLS ------------------------------------------------------------------------------------

    def start_tls(self, now: float) -> None:
        """Ask for TLS; answered by StartTlsAccepted or StartTlsRefused."""
        self._begin(Move.STARTTLS_SENT, now)
        self._send(b"STARTTLS\r\n", _Awaited.STARTTLS)

    def _starttls_answered(self, reply: Reply, _position: int) -> None:
        if reply.is_positive:
            self._move(Move.STARTTLS_ACCEPTED)
            self.offers = Offers()  # RFC 3207 4.2: what was learnt in the clear is forgotten
            self._events.append(StartTlsAccepted())
        else:
            self._move(Move.STARTTLS_REFUSED)
            self._events.append(StartTlsRefused(reply))

    def tls_begun(self, now: float) -> None:
        """The handshake is done and the policy is met: the session begins anew with EHLO (TLS-1)."""
        self._begin(Move.TLS_BEGUN, now)
        self.under_tls = True
        self._plain_hello = False
        self._say_hello()

    # -- AUTH ----------------------------------------------------------------------------------------

    def authenticate(self, mechanism: str, initial: bytes | None, now: float) -> None:
        """Begin a login; `initial` is the initial response, None where the mechanism has none.

        Answered by ChallengeReceived as often as the mechanism has it, and in the end by LoginEnded. Only
        under TLS (SMTP-2b): a password is never shown to the path.
        """
        if not self.under_tls:
            raise LocalProtocolError("login without TLS")
        self._begin(Move.AUTH_SENT, now)
        words = [b"AUTH", mechanism.encode("ascii")]
        if initial is not None:
            words.append(base64.b64encode(initial) or b"=")  # RFC 4954 4: "=" is the empty response
        self._send(b" ".join(words) + b"\r\n", _Awaited.AUTH)

    def respond(self, response: bytes | None, now: float) -> None:
        """Answer a challenge; None cancels the exchange."""
        if self._state is State.CLOSED:
            return
        if self._state is not State.LOGIN or self._awaited:
            raise LocalProtocolError("no challenge to respond to")
        self._now = now
        self._send((b"*" if response is None else base64.b64encode(response)) + b"\r\n", _Awaited.AUTH)

    def _auth_answered(self, reply: Reply, _position: int) -> None:
        if reply.code != 334:
            self._move(Move.AUTH_ENDED)
            self._events.append(LoginEnded(reply))
            return
        try:
            octets = base64.b64decode(reply.text.strip(), validate=True)
        except (binascii.Error, ValueError):
            self._end(End.MALFORMED, f"{_BROKE}: its challenge is not base64")
        else:
            self._events.append(ChallengeReceived(octets))

    # -- the envelope --------------------------------------------------------------------------------

    def send_mail(self, mail: Mail, now: float) -> None:
        """Begin a transaction; it ends with TransactionEnded, whatever happens.

        The driver has seen to it that the server offers what the mail needs (`client_plan`) and that the
        content has passed the guard (`client_content.survey`).
        """
        self._begin(Move.MAIL_SENT, now)
        self.transactions += 1
        self._transaction = ClientTransaction(mail)
        self._transaction_deadline = (
            now + self.settings.transaction_timeout_s + mail.size / self.settings.slowest_rate
        )
        self._unnamed = iter(mail.recipients)
        self._stuffer = None if self.offers.takes_chunks else DotStuffer()
        self._rest = mail.size
        self._content_asked = False
        if self._reset_due:
            self._send(b"RSET\r\n", _Awaited.RSET)
        if self.offers.pipelining:
            self._send_group(mail)
        elif not self._reset_due:
            self._send(self._mail_command(mail), _Awaited.MAIL)
        self._reset_due = False

    def _mail_command(self, mail: Mail) -> bytes:
        return mail_command(mail, self.offers)

    def _send_group(self, mail: Mail) -> None:
        """The envelope, and behind it what may share its group: DATA, or a small content whole."""
        self._send(self._mail_command(mail), _Awaited.MAIL)
        while self._send_recipient(mail):
            pass
        if self._stuffer is not None:
            self._send(b"DATA\r\n", _Awaited.DATA)
        elif mail.content is not None:
            self._send_whole(mail.content)

    def _send_recipient(self, mail: Mail) -> bool:
        """RCPT for the next recipient; False when all are named."""
        position = next(self._unnamed, None)
        if position is None:
            return False
        command = rcpt_command(mail.recipients[position], self.offers, smtputf8=mail.smtputf8)
        self._send(command, _Awaited.RCPT, position)
        return True

    def _reset_answered(self, reply: Reply, _position: int) -> None:
        if not reply.is_positive:
            self._end(End.MALFORMED, f"{_BROKE}: it refuses RSET")
        elif not self._awaited:
            self._send(self._mail_command(self._open_transaction().mail), _Awaited.MAIL)

    def _mail_answered(self, reply: Reply, _position: int) -> None:
        transaction = self._open_transaction()
        transaction.sender_answered(reply)
        if not self._awaited:
            self._after_reply(transaction)

    def _rcpt_answered(self, reply: Reply, position: int) -> None:
        transaction = self._open_transaction()
        transaction.recipient_answered(position, reply)
        if not self._awaited:
            self._after_reply(transaction)

    def _after_reply(self, transaction: ClientTransaction) -> None:
        """Nothing is awaited: name the next recipient, or go on to the content."""
        if transaction.sender_accepted and self._send_recipient(transaction.mail):
            return
        if not transaction.accepted:
            self._transaction_over()
        elif self._stuffer is not None:
            self._send(b"DATA\r\n", _Awaited.DATA)
        elif transaction.mail.content is not None:
            self._send_whole(transaction.mail.content)
        else:
            self._move(Move.CONTENT_WANTED)
            self._ask_content()

    # -- the content ---------------------------------------------------------------------------------

    def _data_answered(self, reply: Reply, _position: int) -> None:
        transaction = self._open_transaction()
        if not reply.is_positive:
            transaction.content_answered(Stage.DATA, reply)
            return self._transaction_over()
        if not transaction.accepted and (self.settings.lmtp or not transaction.sender_accepted):
            return self._end(End.MALFORMED, f"{_BROKE}: 354 without an envelope")
        if not transaction.accepted:
            # RFC 2920 3.1: a pipelined DATA may be accepted all the same; an empty message ends it.
            return self._send(b".\r\n", _Awaited.NOTHING)
        if transaction.mail.content is not None:
            return self._send_whole(transaction.mail.content)
        self._move(Move.CONTENT_WANTED)
        return self._ask_content()

    def _ask_content(self) -> None:
        under_way = CHUNKS_UNDER_WAY if self.offers.pipelining else 1
        if not self._content_asked and len(self._awaited) < under_way:
            self._content_asked = True
            self._events.append(ContentWanted())

    def send_content(self, octets: bytes, *, last: bool, now: float) -> None:
        """The next piece of the content, in answer to ContentWanted. It is dropped when the server has
        refused the rest meanwhile."""
        if self._state is not State.CONTENT or self._open_transaction().content_refused:
            return
        self._now = now
        self._content_asked = False
        if last:
            self._send_whole(octets)
            return
        self._account(octets, last=False)
        if self._stuffer is not None:
            self._out.append(self._stuffer.feed(octets))
            self._deadline = now + self.settings.command_timeout_s
        else:
            # RFC 3030 section 2: the octets follow their count; nothing is doubled and nothing ends them.
            self._send(b"BDAT %d\r\n%b" % (len(octets), octets), _Awaited.CHUNK)
        self._ask_content()

    def _send_whole(self, octets: bytes) -> None:
        """All of the content, or all that was left of it."""
        self._account(octets, last=True)
        self._move(Move.CONTENT_SENT)
        if self._stuffer is None:
            self._send(b"BDAT %d LAST\r\n%b" % (len(octets), octets), _Awaited.LAST)
        else:
            self._out.append(self._stuffer.feed(octets))
            self._send(self._stuffer.finish(), _Awaited.LAST)

    def _account(self, octets: bytes, *, last: bool) -> None:
        self._rest -= len(octets)
        if self._rest < 0 or (last and self._rest):
            raise LocalProtocolError("the content is not of the size that was declared")

    def _chunk_answered(self, reply: Reply, _position: int) -> None:
        transaction = self._open_transaction()
        if not reply.is_positive:
            transaction.content_answered(Stage.CONTENT, reply)
        if not transaction.content_refused:
            self._ask_content_if_due()
        elif not self._awaited:
            self._transaction_over()

    def _ask_content_if_due(self) -> None:
        if self._state is State.CONTENT:
            self._ask_content()

    def _content_answered(self, reply: Reply, _position: int) -> None:
        transaction = self._open_transaction()
        if self.settings.lmtp and transaction.unanswered:
            transaction.accepted_answered(reply)
            if transaction.unanswered:
                self._awaited.appendleft((_Awaited.LAST, -1))
                return
        else:
            transaction.content_answered(Stage.VERDICT, reply)
        self._transaction_over()

    def _nothing_answered(self, _reply: Reply, _position: int) -> None:
        self._transaction_over()

    def _transaction_over(self) -> None:
        transaction = self._open_transaction()
        # What came to no good end may still be open at the server (RFC 3030 4.1, RFC 5321 4.1.1.5).
        self._reset_due = transaction.sender_accepted and not transaction.content_taken
        self._transaction = None
        self._move(Move.TRANSACTION_ENDED)
        self._events.append(transaction.ended())

    def _open_transaction(self) -> ClientTransaction:
        if self._transaction is None:
            raise AssertionError("asked for only while a transaction is open")
        return self._transaction

    # -- the end -------------------------------------------------------------------------------------

    def quit(self, now: float) -> None:
        """Say goodbye; SessionEnded follows soon."""
        self._begin(Move.QUIT_SENT, now)
        self._send(b"QUIT\r\n", _Awaited.QUIT)

    def _quit_answered(self, reply: Reply, _position: int) -> None:
        self._end(End.QUIT, one_line(reply), reply)

    def _end(self, how: End, text: str, reply: Reply | None = None, stage: Stage | None = None) -> None:
        if self._state is State.CLOSED:
            return
        ending = Ending(how, stage or self._stage(), text, reply)
        self._state = State.CLOSED
        self._awaited.clear()
        self._out.clear()
        self._deadline = None
        if self._transaction is not None:
            self._transaction.broken(ending)
            self._events.append(self._transaction.ended())
            self._transaction = None
        self._events.append(SessionEnded(ending))

    # -- inside --------------------------------------------------------------------------------------

    def _stage(self) -> Stage:
        if self._state in _STAGES:
            return _STAGES[self._state]
        return self._awaited[0][0].stage if self._awaited else Stage.IDLE

    def _begin(self, move: Move, now: float) -> None:
        self._move(move)
        self._now = now

    def _move(self, move: Move) -> None:
        try:
            self._state = TRANSITIONS[self._state, move]
        except KeyError:
            raise LocalProtocolError(f"{move.name} in state {self._state.name}") from None

    def _send(self, octets: bytes, awaited: _Awaited, position: int = -1) -> None:
        self._out.append(octets)
        self._awaited.append((awaited, position))
        self._wait_anew()

    def _wait_anew(self) -> None:
        """The clock starts again with each command sent and each reply that came whole: a server that sends
        its replies octet by octet gains nothing (SEC-88)."""
        if self._state is State.CLOSED or not (self._awaited or self._state is State.CONTENT):
            self._deadline = None
            return
        due = self._awaited[0][0] if self._awaited else None
        if due is _Awaited.LAST:
            self._deadline = self._now + self.settings.data_timeout_s
        elif due is _Awaited.QUIT:
            self._deadline = self._now + min(QUIT_TIMEOUT_S, self.settings.command_timeout_s)
        else:
            self._deadline = self._now + self.settings.command_timeout_s


_ON_REPLY: Final[dict[_Awaited, Callable[[SmtpClient, Reply, int], None]]] = {
    _Awaited.GREETING: SmtpClient._greeted,
    _Awaited.HELLO: SmtpClient._hello_answered,
    _Awaited.STARTTLS: SmtpClient._starttls_answered,
    _Awaited.AUTH: SmtpClient._auth_answered,
    _Awaited.RSET: SmtpClient._reset_answered,
    _Awaited.MAIL: SmtpClient._mail_answered,
    _Awaited.RCPT: SmtpClient._rcpt_answered,
    _Awaited.DATA: SmtpClient._data_answered,
    _Awaited.CHUNK: SmtpClient._chunk_answered,
    _Awaited.LAST: SmtpClient._content_answered,
    _Awaited.NOTHING: SmtpClient._nothing_answered,
    _Awaited.QUIT: SmtpClient._quit_answered,
}
