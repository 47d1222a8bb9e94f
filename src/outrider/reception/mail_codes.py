"""Which Mail Policy Code a message has when it is taken (AMTP-11, AMTP-14, AMTP-15).

A code comes from one of four places, never out of nothing:

- an account that is bound to one submits with that one, whatever way it comes: proven;
- MAIL over AMTP names it: claimed by the peer;
- a header field of an SMTP peer whose word is taken (`[mpc] field_from`): claimed, known only with the header
  section, where it leaves the message for the envelope;
- `[mpc] assigned`, for mail that comes by another protocol without one: claimed, and marked as ours.

Who submits is somebody who logged in with addresses of his own. A login that may send as anybody
(`senders=*`) is a relay: what it brings was submitted elsewhere and keeps its code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from outrider.config.schema import MpcAssignment, MpcCodes
from outrider.identity.credentials import User
from outrider.message.mpc_field import mpc_fields, read_mpc_field
from outrider.model.address import Address, AddressError, parse_address, parse_domain
from outrider.model.facts import Fact, Provenance
from outrider.model.mpc import ABOUT_POLICY, Mpc, MpcError, parse_mpc
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest
from outrider.protocols.amtp.replies import MPC_FIELD
from outrider.reception import replies
from outrider.reception.interface import Session
from outrider.reception.settings import Networks, ReceptionSettingsError


@dataclass(frozen=True, slots=True)
class Code:
    """A message's code, and what it is worth."""

    mpc: Mpc
    provenance: Provenance
    how: str
    is_binding: bool = False
    """The account may use no other."""

    def fact(self, at: float) -> Fact:
        """The fact `mpc`."""
        return Fact("mpc", str(self.mpc), self.provenance, self.how, at)


@dataclass(frozen=True, slots=True)
class _Assignment:
    mpc: Mpc
    networks: Networks | None
    protocols: frozenset[str]
    domains: frozenset[str]

    def fits(self, session: Session, sender: Address | None) -> bool:
        """Whether all that the setting names holds."""
        if self.networks is not None and session.client_address not in self.networks:
            return False
        if self.protocols and session.protocol not in self.protocols:
            return False
        return not self.domains or (sender is not None and sender.domain in self.domains)


class MailCodes:
    """`[mpc]` of the configuration, in the form in which it is asked."""

    def __init__(
        self, settings: MpcCodes, find_user: Callable[[str], User | None] = lambda _login: None
    ) -> None:
        """Raises ReceptionSettingsError naming the key."""
        self._find_user = find_user
        self._logins, self._senders = _bindings(settings.accounts)
        self._assignments = tuple(
            _assignment(f"mpc.assigned[{number}]", one) for number, one in enumerate(settings.assigned)
        )
        self._field_from = Networks.of("mpc.field_from", settings.field_from)
        self._believes_fields = bool(settings.field_from)
        self.is_idle = not (settings.accounts or settings.assigned or settings.field_from)
        """Nothing is configured: mail that does not come by AMTP has no code."""

    def code_of(self, session: Session, request: MailRequest) -> Code | Reply | None:
        """The code known at MAIL, or the refusal of one that the account may not use."""
        bound = self._bound(session, request.sender) if session.login else None
        if bound is not None:
            if request.mpc not in (None, bound.mpc):
                return replies.mpc_not_yours(f"this account submits as {bound.mpc}")
            return bound
        if request.mpc is not None:
            if request.mpc == ABOUT_POLICY and self._submits(session):
                return replies.mpc_not_yours("this account is not bound to it")
            how = "the MT2 envelope" if session.protocol == "mt2" else "MAIL over AMTP"
            return Code(request.mpc, Provenance.CLAIMED, how)
        return self._assigned(session, request.sender)

    def _bound(self, session: Session, sender: Address | None) -> Code | None:
        """The login goes before the address (AMTP-15)."""
        mpc = self._logins.get(session.login.casefold())
        if mpc is not None:
            return Code(mpc, Provenance.PROVEN, f"bound to the login {session.login}", is_binding=True)
        mpc = self._senders.get(sender.key) if sender is not None else None
        if mpc is None:
            return None
        return Code(mpc, Provenance.PROVEN, f"bound to the address {sender}", is_binding=True)

    def _submits(self, session: Session) -> bool:
        """Whether the client brings mail of its own, and not what others have submitted."""
        if not session.login:
            return False
        user = self._find_user(session.login)
        return user is None or "*" not in user.senders

    def _assigned(self, session: Session, sender: Address | None) -> Code | None:
        for one in self._assignments:
            if one.fits(session, sender):
                return Code(one.mpc, Provenance.CLAIMED, "assigned by [mpc]")
        return None

    def reads_field(self, session: Session, code: Code | None) -> bool:
        """Whether an MPC field in the header section means anything; else it is content like any other."""
        if session.protocol == "amtp" or (code is not None and code.is_binding):
            return True
        if session.login:
            return not self.is_idle and self._submits(session)
        return self._believes_fields and session.client_address in self._field_from

    def code_in(self, session: Session, headers: bytes, code: Code | None) -> Code | Reply | None:
        """What the header section makes of the code: the same object when it changes nothing; a new one when
        the field goes into the envelope (`message.mpc_field.without_mpc` then takes it out)."""
        if not mpc_fields(headers):
            return code
        if session.protocol == "amtp":
            return MPC_FIELD
        named = _only_code(headers)
        if session.login:
            return self._submitted_field(named, code)
        if named is None:
            return code
        return Code(named, Provenance.CLAIMED, "MPC field of a peer in [mpc] field_from")

    def _submitted_field(self, named: Mpc | None, code: Code | None) -> Code | Reply | None:
        """A field is how a mail program asks for a code: an account gets its own or none (AMTP-15)."""
        if code is not None and code.is_binding:
            if named != code.mpc:
                return replies.mpc_not_yours(f"this account submits as {code.mpc}")
            return Code(code.mpc, code.provenance, code.how, is_binding=True)
        if named == ABOUT_POLICY:
            return replies.mpc_not_yours("this account is not bound to it")
        return code


def _only_code(headers: bytes) -> Mpc | None:
    """The code in the only MPC field; None for several fields, or one that holds none."""
    try:
        return read_mpc_field(headers)
    except MpcError:
        return None


def _bindings(accounts: Mapping[str, str]) -> tuple[dict[str, Mpc], dict[tuple[str, str], Mpc]]:
    logins: dict[str, Mpc] = {}
    senders: dict[tuple[str, str], Mpc] = {}
    for account, value in accounts.items():
        mpc = _code(f'mpc.accounts."{account}"', value)
        logins[account.casefold()] = mpc
        if "@" in account:
            try:
                senders[parse_address(account).key] = mpc
            except AddressError as error:
                raise ReceptionSettingsError(f'mpc.accounts."{account}": no address: {error}') from error
    return logins, senders


def _assignment(where: str, one: MpcAssignment) -> _Assignment:
    mpc = _code(f"{where}.value", one.value)
    if mpc == ABOUT_POLICY:
        raise ReceptionSettingsError(
            f"{where}.value: {mpc} is only for accounts that are bound to it; name them in [mpc] accounts"
        )
    if not (one.networks or one.listeners or one.sender_domains):
        raise ReceptionSettingsError(f"{where}: names no source; add networks, listeners or sender_domains")
    unknown = sorted(set(one.listeners) - {"smtp", "submission", "qmtp", "lmtp"})
    if unknown:
        raise ReceptionSettingsError(
            f"{where}.listeners: {unknown[0]!r} is none; one of: smtp, submission, qmtp, lmtp"
        )
    try:
        domains = frozenset(parse_domain(name) for name in one.sender_domains)
    except AddressError as error:
        raise ReceptionSettingsError(f"{where}.sender_domains: {error}") from error
    networks = Networks.of(f"{where}.networks", one.networks) if one.networks else None
    return _Assignment(mpc, networks, frozenset(one.listeners), domains)


def _code(where: str, value: str) -> Mpc:
    try:
        return parse_mpc(value)
    except MpcError as error:
        raise ReceptionSettingsError(f"{where}: {value!r}: {error}; write it like net/individual") from error
