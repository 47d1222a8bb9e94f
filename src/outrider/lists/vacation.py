"""The vacation responder: who gets an answer, and what it looks like (RFC 3834, AMTP-17). Pure.

One letter to one person: the envelope sender of a message of class `individual` (or of none, by other
protocols) that names the user himself in To or Cc. Never to a program, a list or a report. The answer has
the null sender and the class `autoresponse`, so that nothing answers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from outrider.config.schema import Config
from outrider.lists.automatic import came_by_list, is_no_person, why_automatic
from outrider.lists.letters import Letter
from outrider.lists.store import Away
from outrider.message.encoded_words import decode_text
from outrider.message.header_fields import field_values
from outrider.message.mailboxes import mailboxes
from outrider.model.address import Address, AddressError, Domain, parse_address, parse_domain
from outrider.model.message import StoredMessage
from outrider.model.mpc import MailClass, Mpc, MpcError, Role, parse_mpc

MAX_REFERENCES = 20
_ADDRESSED = (b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc")
_MESSAGE_ID = re.compile(r"<[^<>\s\x00-\x1f\x7f-\uffff]{1,250}>")


@dataclass(frozen=True, slots=True)
class VacationTerms:
    """A domain's settings for answers."""

    role: Role
    interval_s: float


@dataclass(frozen=True, slots=True)
class VacationSettings:
    """Whose answers may be given, and as what."""

    by_domain: dict[Domain, VacationTerms]
    roles: dict[tuple[str, str], Role]
    """Roles that [mpc] accounts binds to addresses, by their keys."""

    def answers_as(self, user: Address) -> Mpc:
        """The code of a user's answers (AMTP-17): the role that his own mail has."""
        role = self.roles.get(user.key) or self.by_domain[user.domain].role
        return Mpc(role, MailClass.AUTORESPONSE)


def vacation_settings(config: Config) -> VacationSettings:
    """From the configuration. Raises ValueError that begins with the key of a mistake."""
    by_domain: dict[Domain, VacationTerms] = {}
    for name, domain in config.domains.items():
        if domain.vacation is None:
            continue
        key = f'domains."{name}".vacation'
        if (domain.deliver or "").partition(":")[0] not in ("maildir", "pipe"):
            raise ValueError(f"{key}: users have answers only where deliver is maildir: or pipe:")
        by_domain[parse_domain(name)] = VacationTerms(
            _role(f"{key}.role", domain.vacation.role), domain.vacation.interval
        )
    return VacationSettings(by_domain, _bound_roles(config))


def _role(key: str, text: str) -> Role:
    try:
        return parse_mpc(f"{text}/{MailClass.AUTORESPONSE.value}").role
    except MpcError as error:
        raise ValueError(f"{key}: {text!r} cannot be the role of an answer: {error}") from error


def _bound_roles(config: Config) -> dict[tuple[str, str], Role]:
    """Logins are no addresses; what cannot be read is reported where [mpc] is checked."""
    found: dict[tuple[str, str], Role] = {}
    for account, value in config.mpc.accounts.items():
        try:
            address, mpc = parse_address(account), parse_mpc(value)
        except (AddressError, MpcError):
            continue
        if mpc.role is not Role.MPC:  # mpc/autoresponse does not exist
            found[address.key] = mpc.role
    return found


def why_no_answer(message: StoredMessage, user: Address, is_user: Callable[[Address], bool]) -> str:
    """Why a user who is away does not answer this message; "" when he does.

    `is_user` tells of an address in To or Cc whether it leads to this user and nobody else.
    """
    sender = message.envelope.sender
    why = why_automatic(message)
    if why or sender is None or message.content is None:
        return why or "it has the null sender"
    if is_no_person(sender.local):
        return f"{sender} is no person's address"
    if sender.key == user.key or is_user(sender):
        return "it is the user's own"
    mpc = message.envelope.mpc
    if mpc is not None and mpc.mail_class is not MailClass.INDIVIDUAL:
        return f"it is of class {mpc.mail_class.value}"
    headers = message.content.headers
    if came_by_list(headers):
        return "a mailing list sent it"
    if not any(is_user(address) for name in _ADDRESSED for address in _named(headers, name)):
        return "neither To nor Cc names the user"
    return ""


def _named(headers: bytes, name: bytes) -> list[Address]:
    return [address for value in field_values(headers, name, 10) for address in mailboxes(value)]


def answer(away: Away, user: Address, message: StoredMessage) -> Letter:
    """The letter; the message has been found fit for one."""
    sender, content = message.envelope.sender, message.content
    assert sender is not None, "why_no_answer has looked"
    assert content is not None, "why_no_answer has looked"
    original = _first(content.headers, b"subject")
    ids = _MESSAGE_ID.findall(_first(content.headers, b"message-id"))
    references = _MESSAGE_ID.findall(_first(content.headers, b"references"))[-MAX_REFERENCES:]
    return Letter(
        user,
        sender,
        away.subject or f"Auto: {original}",  # RFC 3834 section 3.1.5
        away.text,
        in_reply_to=ids[0] if ids else "",
        references="\r\n ".join(references) + ("\r\n" if references else ""),
        detail="vacation",
    )


def _first(headers: bytes, name: bytes) -> str:
    values = field_values(headers, name, 1)
    return decode_text(values[0]) if values else ""
