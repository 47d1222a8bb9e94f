"""An AMTP server's session: SMTP's, with the differences of draft-weinman-amtp-03.

- TLS is there from the first octet, so there is no STARTTLS.
- EHLO comes first and decides who the client is: 504 when certificate, address and name do not agree, and
  then nothing but NOOP and QUIT is served (AMTP-3). HELO is refused with 504 (AMTP-4).
- The reply to EHLO carries MPC declarations (AMTP-10); none while a login is due, and those of the login when
  the client says EHLO again after it (AMTP-20).
- MAIL carries exactly one MPC parameter (AMTP-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from outrider.model.mpc import MpcError, parse_mpc
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.protocols.amtp import replies
from outrider.protocols.smtp.commands import (
    MAIL_PARAMETERS,
    CommandError,
    MailParameterReader,
    MailParameters,
    Verb,
    parse_mail,
)
from outrider.protocols.smtp.replies import NOT_IMPLEMENTED
from outrider.protocols.smtp.server import ServerSession
from outrider.protocols.smtp.server_settings import ServerSettings
from outrider.protocols.smtp.server_states import OUT_OF_ORDER, SESSION, TRANSITIONS, State

_NOT_SPOKEN: Final = (Verb.HELO, Verb.LHLO, Verb.STARTTLS)

# A client that was turned away - by 554 in the greeting or by 504 to its EHLO - may still say NOOP and QUIT.
AMTP_TRANSITIONS: Final[Mapping[tuple[State, Verb], State]] = {
    **{pair: to for pair, to in TRANSITIONS.items() if pair[1] not in _NOT_SPOKEN},
    (State.TURNED_AWAY, Verb.NOOP): State.TURNED_AWAY,
}
"""The order of commands: SMTP's without those that AMTP does not speak."""

AMTP_OUT_OF_ORDER: Final[Mapping[tuple[State, Verb], Reply]] = {
    **OUT_OF_ORDER,
    **{(state, Verb.HELO): replies.EHLO_ONLY for state in SESSION},
    **{(state, Verb.STARTTLS): NOT_IMPLEMENTED for state in SESSION},
}

_CODE: Final = re.compile(rb"[A-Za-z]{1,64}/[A-Za-z]{1,64}")


def read_mpc(asked: MailParameters, value: bytes | None) -> None:
    """The MPC parameter. Raises CommandError: 501 for what is no code in form, 550 for what is in no list."""
    if value is None or not _CODE.fullmatch(value):
        raise CommandError(replies.MPC_SYNTAX)
    try:
        asked.mpc = parse_mpc(value.decode("ascii"))
    except MpcError as error:
        raise CommandError(replies.POLICY_VIOLATION) from error


AMTP_MAIL_PARAMETERS: Final[Mapping[bytes, MailParameterReader]] = {**MAIL_PARAMETERS, b"MPC": read_mpc}


class AmtpSession(ServerSession):
    """One client's session. The driver's duties are those of `ServerSession`, and to the hello:

    `HelloReceived` is answered when the client's identity is known. Before a positive `reply` set
    `auth_mechanisms`, `login_required` and `declarations` as they hold for this identity and login. A 504
    (`replies.AUTHENTICATION_FAILED`) turns the client away; after a 451 it may try again.
    """

    __slots__ = ("declarations", "login_required")

    _protocol: ClassVar[str] = "AMTP"
    _help_reply: ClassVar[Reply] = replies.HELP
    _transitions = AMTP_TRANSITIONS
    _out_of_order = AMTP_OUT_OF_ORDER

    def __init__(self, settings: ServerSettings, now: float, *, wall_offset: float = 0.0) -> None:
        """See `SessionCore`. That the connection has TLS is taken for granted."""
        super().__init__(settings, now, wall_offset=wall_offset)
        self.tls_from_start()
        self.declarations: tuple[str, ...] = ()
        """What EHLO announces, each as `declarations.declarations_for` writes it."""
        self.login_required = False
        """Private connections only: no declarations and no MAIL before AUTH (AMTP-19, AMTP-20)."""

    @property
    def _login_due(self) -> bool:
        return self.login_required and not self._authenticated

    def _hello_decided(self, reply: Reply, verb: Verb, name: str) -> None:
        super()._hello_decided(reply, verb, name)
        if reply.code == replies.AUTHENTICATION_FAILED.code and not self.is_closed:
            self._abandon(verb.name)
            self._enter(State.TURNED_AWAY)

    def _further_offers(self) -> tuple[str, ...]:
        return () if self._login_due else tuple(f"MPC {declaration}" for declaration in self.declarations)

    def _parse_mail(self, argument: bytes) -> MailRequest:
        if self._login_due:
            raise CommandError(replies.LOGIN_NEEDED)
        request = parse_mail(argument, extended=True, readers=AMTP_MAIL_PARAMETERS)
        if request.mpc is None:
            raise CommandError(replies.MPC_NEEDED)
        return request
