"""The AMTP client without I/O: SMTP's, with the differences of draft-weinman-amtp-03.

- TLS is there from the first octet; STARTTLS is never said, and nobody is greeted with HELO.
- The server's reply to EHLO declares which Mail Policy Codes it takes. What it denies is not sent to it: the
  driver asks `denied_by` before each message, and goes where that leads (AMTP-12).
- MAIL carries the message's code (AMTP-11).
- On a private connection `say_hello_again` after a login learns what holds for that login (AMTP-20).
- 504 to EHLO is an ending of its own, `End.NOT_BELIEVED`: mail waits and the operator hears of it (AMTP-8).

That the server is who it should be (AMTP-5) is the driver's to see to, before `send_mail`.
"""

from __future__ import annotations

from typing import NoReturn

from outrider.model.mpc import Mpc
from outrider.model.reply import Reply
from outrider.protocols.amtp.declarations import Declaration, evaluate, read_declarations
from outrider.protocols.amtp.replies import AUTHENTICATION_FAILED
from outrider.protocols.smtp.client import SmtpClient
from outrider.protocols.smtp.client_commands import mail_command
from outrider.protocols.smtp.client_events import ClientSettings, Mail
from outrider.protocols.smtp.client_offers import Offers
from outrider.protocols.smtp.client_states import End, LocalProtocolError, Move, Stage
from outrider.protocols.smtp.reply_reader import one_line


class AmtpClient(SmtpClient):
    """The core; made when the TLS handshake is done, `now` being that moment. See `SmtpClient`."""

    def __init__(self, settings: ClientSettings, now: float) -> None:
        super().__init__(settings, now, under_tls=True)
        self.declarations: tuple[Declaration, ...] = ()
        """The server's, of its last reply to EHLO."""

    def denied_by(self, code: Mpc) -> str | None:
        """The server's policy that denies a code, in words for the bounce; None when it takes it."""
        verdict = evaluate(self.declarations, code)
        return None if verdict.allowed else f"the server's policy denies {code} ({verdict.because})"

    def say_hello_again(self, now: float) -> None:
        """EHLO once more, after a login; answered by SessionOpened as the first was."""
        self._begin(Move.HELLO_AGAIN, now)
        self._say_hello()

    def send_mail(self, mail: Mail, now: float) -> None:
        """As `SmtpClient.send_mail`. The mail has a code, and one that the server does not deny."""
        if mail.mpc is None or self.denied_by(mail.mpc) is not None:
            raise LocalProtocolError(f"mail of the code {mail.mpc} cannot be sent to this server")
        super().send_mail(mail, now)

    def start_tls(self, now: float) -> NoReturn:
        """There is no STARTTLS in AMTP."""
        raise LocalProtocolError("STARTTLS over AMTP")

    def _read_offers(self, reply: Reply) -> Offers:
        self.declarations = read_declarations(reply)
        return super()._read_offers(reply)

    def _hello_refused(self, reply: Reply) -> None:
        if reply.code == AUTHENTICATION_FAILED.code:
            text = f"the server does not believe our certificate, name and address: {one_line(reply)}"
            self._end(End.NOT_BELIEVED, text, reply, Stage.HELLO)
        else:
            self._end(End.REFUSED, one_line(reply), reply, Stage.HELLO)

    def _mail_command(self, mail: Mail) -> bytes:
        return mail_command(mail, self.offers, f"MPC={mail.mpc}")
