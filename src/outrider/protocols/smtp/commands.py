"""Command lines as values: verbs, MAIL and RCPT with their parameters, BDAT, AUTH, hello names.

Every function takes what stood after the verb, without line end and surrounding blanks, and either gives a
value or raises :class:`CommandError` with the reply for the client; nothing else can happen. The session has
already made sure that the line is printable UTF-8 (`is_text`) and bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from outrider.model.address import Address, AddressError, parse_path
from outrider.model.envelope import BodyType, Notify, Return
from outrider.model.mpc import Mpc
from outrider.model.reply import Reply
from outrider.model.transaction import MailRequest, RecipientRequest
from outrider.protocols.smtp import replies
from outrider.wire.numbers import maybe_number
from outrider.wire.xtext import XtextError, decode_utf8_address, decode_utf8_xtext, decode_xtext

MAX_SIZE_DIGITS: Final = 20  # RFC 1870 section 4
MAX_CHUNK_DIGITS: Final = 19  # below 2**63; nobody can send more in a session's time
MAX_HOLD_DIGITS: Final = 9  # RFC 4865 section 4
MAX_ENVID_OCTETS: Final = 100  # RFC 3461 section 4.4
MAX_ORCPT_OCTETS: Final = 500  # RFC 3461 section 4.2


class Verb(IntEnum):
    """The commands a session knows by name."""

    UNKNOWN = 0
    HELO = 1
    EHLO = 2
    LHLO = 3
    MAIL = 4
    RCPT = 5
    DATA = 6
    BDAT = 7
    RSET = 8
    NOOP = 9
    QUIT = 10
    VRFY = 11
    EXPN = 12
    HELP = 13
    STARTTLS = 14
    AUTH = 15
    NOT_IMPLEMENTED = 16
    """Defined somewhere, not offered here."""
    HTTP = 17
    """A web client, or somebody who makes one talk to us (SEC-42)."""


_NOT_IMPLEMENTED: Final = (b"TURN", b"ATRN", b"ETRN", b"SEND", b"SOML", b"SAML", b"BURL")
_HTTP: Final = b"GET POST CONNECT HEAD PUT DELETE OPTIONS PATCH TRACE PRI".split()
_VERBS: Final[dict[bytes, Verb]] = {
    **{verb.name.encode(): verb for verb in Verb if Verb.UNKNOWN < verb < Verb.NOT_IMPLEMENTED},
    **dict.fromkeys(_NOT_IMPLEMENTED, Verb.NOT_IMPLEMENTED),
    **dict.fromkeys(_HTTP, Verb.HTTP),
}

_HELLO_NAME: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,255}|\[[A-Za-z0-9_.:-]{1,253}\]")
"""Wider than RFC 5321 4.1.1.1, as harmless misconfigured clients are many; nothing that HTML, SQL, a shell or
a header comment could take for its own."""
_MECHANISM: Final = re.compile(rb"[A-Za-z0-9_-]{1,20}")  # RFC 4422 section 3.1
_PATH: Final = re.compile(rb'<([^"<>]*(?:"(?:[^"\\]|\\.)*"[^"<>]*)*)>')
_ADDRESS_TYPE: Final = re.compile(rb"[A-Za-z0-9-]{1,50}")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


class CommandError(ValueError):
    """The client's command is wrong; `reply` tells it how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def is_text(line: bytes) -> bool:
    """Whether a command line is printable UTF-8: no control octets, no invisible or direction-changing
    characters (SEC-65, SEC-75)."""
    try:
        return line.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def split_command(line: bytes) -> tuple[Verb, bytes]:
    """The verb, in any case, and its argument without surrounding blanks (RFC 5321 section 2.4, 4.1.1)."""
    name, _, argument = line.partition(b" ")
    return _VERBS.get(name.upper(), Verb.UNKNOWN), argument.strip(b" ")


def parse_hello(argument: bytes) -> str:
    """The name after HELO, EHLO or LHLO."""
    if not _HELLO_NAME.fullmatch(argument):
        raise CommandError(replies.BAD_HELLO_NAME)
    return argument.decode("ascii")


def parse_auth(argument: bytes) -> tuple[str, bytes | None]:
    """Mechanism in upper case, and the initial response as it stands, if any (RFC 4954 section 4)."""
    mechanism, blank, initial = argument.partition(b" ")
    if not _MECHANISM.fullmatch(mechanism) or (blank and (not initial or b" " in initial)):
        raise CommandError(replies.AUTH_SYNTAX)
    return mechanism.decode("ascii").upper(), initial if blank else None


def no_argument(argument: bytes) -> None:
    """Raises CommandError unless there is none."""
    if argument:
        raise CommandError(replies.NO_ARGUMENT_ALLOWED)


def parse_chunk(argument: bytes) -> tuple[int, bool]:
    """Octets of the chunk, and whether it is the last (RFC 3030 section 2)."""
    digits, blank, last = argument.partition(b" ")
    size = maybe_number(digits, MAX_CHUNK_DIGITS)
    if size is None or (blank and last.upper() != b"LAST"):
        raise CommandError(replies.BAD_CHUNK)
    return size, bool(blank)


# -- paths and parameters ------------------------------------------------------------------------------


def _split_path(argument: bytes, keyword: bytes, syntax: Reply) -> tuple[bytes, bytes]:
    """What is between the angle brackets, and what follows them."""
    prefix = len(keyword)
    if argument[:prefix].upper() != keyword:
        raise CommandError(syntax)
    # RFC 5321 3.3 allows no blank after the colon; many clients send one and mean no harm.
    rest = argument[prefix:].lstrip(b" ")
    if b'"' in rest:
        found = _PATH.match(rest)
        end = found.end() - 1 if found else -1
    else:
        end = rest.find(b">")
    if end < 0 or not rest.startswith(b"<"):
        raise CommandError(syntax)
    parameters = rest[end + 1 :]
    if parameters and not parameters.startswith(b" "):
        raise CommandError(syntax)
    return rest[1:end], parameters


def _parse_path(octets: bytes, *, smtputf8: bool, status: str) -> Address | None:
    if not smtputf8 and not octets.isascii():
        raise CommandError(replies.NON_ASCII_ADDRESS)
    try:
        return parse_path(octets, smtputf8=smtputf8)
    except AddressError as error:
        raise CommandError(Reply(501, status, f"Bad address: {error}")) from error


def _each_parameter(parameters: bytes) -> list[tuple[bytes, bytes | None]]:
    """Keyword in upper case and value, None for a keyword without one. No keyword twice (SEC-77)."""
    found: dict[bytes, bytes | None] = {}
    for parameter in parameters.split():
        keyword, equals, value = parameter.partition(b"=")
        keyword = keyword.upper()
        if keyword in found:
            raise CommandError(replies.PARAMETER_TWICE)
        found[keyword] = value if equals else None
    return list(found.items())


@dataclass(slots=True)
class MailParameters:
    """What MAIL asks for, while it is being read."""

    size: int = 0
    body_type: BodyType = BodyType.SEVEN_BIT
    smtputf8: bool = False
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""
    hold_for: int = 0
    hold_until: float = 0.0
    auth: str = ""
    mpc: Mpc | None = None
    amdp: bool = False


MailParameterReader = Callable[[MailParameters, bytes | None], None]
"""Takes the value of one parameter, None for a keyword without one. Raises CommandError."""


def parse_mail(
    argument: bytes, *, extended: bool, readers: Mapping[bytes, MailParameterReader] | None = None
) -> MailRequest:
    """``FROM:<path> parameters``. `extended`: EHLO (or LHLO) was said, so that parameters are allowed.

    `readers` are the parameters that there are, by keyword; those of SMTP by default.
    """
    readers = MAIL_PARAMETERS if readers is None else readers
    path, parameters = _split_path(argument, b"FROM:", replies.MAIL_SYNTAX)
    if not parameters:
        return MailRequest(_sender(path, smtputf8=False))
    if not extended:
        raise CommandError(replies.PARAMETERS_NEED_EHLO)
    asked = MailParameters()
    for keyword, value in _each_parameter(parameters):
        read = readers.get(keyword)
        if read is None:
            raise CommandError(replies.UNKNOWN_PARAMETER)
        read(asked, value)
    if asked.hold_for and asked.hold_until:
        raise CommandError(replies.HOLD_TWICE)
    return MailRequest(
        _sender(path, smtputf8=asked.smtputf8),
        asked.size,
        asked.body_type,
        asked.smtputf8,
        asked.ret,
        asked.envelope_id,
        asked.hold_for,
        asked.hold_until,
        asked.auth,
        asked.mpc,
        asked.amdp,
    )


def _sender(path: bytes, *, smtputf8: bool) -> Address | None:
    sender = _parse_path(path, smtputf8=smtputf8, status="5.1.7")
    if sender is not None and not sender.domain:
        # Only RCPT knows a bare <postmaster> (RFC 5321 section 4.5.1).
        raise CommandError(Reply(501, "5.1.7", "Bad address: no domain"))
    return sender


def _read_size(asked: MailParameters, value: bytes | None) -> None:
    size = maybe_number(value or b"", MAX_SIZE_DIGITS)
    if size is None:
        raise CommandError(replies.BAD_SIZE)
    asked.size = size


_BODY_TYPES: Final = {kind.value.encode(): kind for kind in BodyType}


def _read_body(asked: MailParameters, value: bytes | None) -> None:
    kind = _BODY_TYPES.get((value or b"").upper())
    if kind is None:
        raise CommandError(replies.BAD_BODY)
    asked.body_type = kind


def _read_smtputf8(asked: MailParameters, value: bytes | None) -> None:
    if value is not None:
        raise CommandError(replies.NO_VALUE_ALLOWED)
    asked.smtputf8 = True


_RETURNS: Final = {b"FULL": Return.FULL, b"HDRS": Return.HEADERS}


def _read_ret(asked: MailParameters, value: bytes | None) -> None:
    ret = _RETURNS.get((value or b"").upper())
    if ret is None:
        raise CommandError(replies.BAD_RET)
    asked.ret = ret


def _read_envid(asked: MailParameters, value: bytes | None) -> None:
    if not value or len(value) > MAX_ENVID_OCTETS:
        raise CommandError(replies.BAD_ENVID)
    asked.envelope_id = _xtext(value, replies.BAD_ENVID)


def _read_auth(asked: MailParameters, value: bytes | None) -> None:
    if not value:
        raise CommandError(replies.BAD_AUTH_PARAMETER)
    asked.auth = _xtext(value, replies.BAD_AUTH_PARAMETER) if value != b"<>" else "<>"


def _read_hold_for(asked: MailParameters, value: bytes | None) -> None:
    seconds = maybe_number(value or b"", MAX_HOLD_DIGITS)
    if not seconds:
        raise CommandError(replies.BAD_HOLD)
    asked.hold_for = seconds


def _read_hold_until(asked: MailParameters, value: bytes | None) -> None:
    text = (value or b"").decode("ascii", "replace").upper()
    if not _DATE_TIME.fullmatch(text):
        raise CommandError(replies.BAD_HOLD)
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise CommandError(replies.BAD_HOLD) from error
    # 0 means "none" in MailRequest; a moment before the epoch is as past as the first second after it.
    asked.hold_until = max(moment, 1.0)


def _read_amdp(asked: MailParameters, value: bytes | None) -> None:
    if value is not None:
        raise CommandError(replies.NO_AMDP_VALUE)
    asked.amdp = True


MAIL_PARAMETERS: Final[Mapping[bytes, MailParameterReader]] = {
    b"SIZE": _read_size,
    b"BODY": _read_body,
    b"SMTPUTF8": _read_smtputf8,
    b"RET": _read_ret,
    b"ENVID": _read_envid,
    b"AUTH": _read_auth,
    b"HOLDFOR": _read_hold_for,
    b"HOLDUNTIL": _read_hold_until,
}
AMDP_MAIL_PARAMETERS: Final[Mapping[bytes, MailParameterReader]] = {**MAIL_PARAMETERS, b"AMDP": _read_amdp}
"""Where envelopes of AMDP are taken; elsewhere the keyword is an unknown one (AMDP-5a)."""


def parse_recipient(argument: bytes, *, extended: bool, smtputf8: bool) -> RecipientRequest:
    """``TO:<path> parameters``. `smtputf8`: MAIL asked for it."""
    path, parameters = _split_path(argument, b"TO:", replies.RCPT_SYNTAX)
    address = _parse_path(path, smtputf8=smtputf8, status="5.1.3")
    if address is None:
        raise CommandError(Reply(501, "5.1.3", "Bad address: empty"))
    if not parameters:
        return RecipientRequest(address)
    if not extended:
        raise CommandError(replies.PARAMETERS_NEED_EHLO)
    notify, original = Notify.UNSPECIFIED, ""
    for keyword, value in _each_parameter(parameters):
        if keyword == b"NOTIFY":
            notify = _read_notify(value or b"")
        elif keyword == b"ORCPT":
            original = _read_orcpt(value or b"")
        else:
            raise CommandError(replies.UNKNOWN_PARAMETER)
    return RecipientRequest(address, notify, original)


_NOTIFY: Final = {b"SUCCESS": Notify.SUCCESS, b"FAILURE": Notify.FAILURE, b"DELAY": Notify.DELAY}


def _read_notify(value: bytes) -> Notify:
    if value.upper() == b"NEVER":
        return Notify.NEVER
    wanted = Notify.UNSPECIFIED
    for word in value.upper().split(b","):
        if word not in _NOTIFY:
            raise CommandError(replies.BAD_NOTIFY)
        wanted |= _NOTIFY[word]
    return wanted


def _read_orcpt(value: bytes) -> str:
    kind, semicolon, encoded = value.partition(b";")
    if len(value) > MAX_ORCPT_OCTETS or not _ADDRESS_TYPE.fullmatch(kind) or not semicolon or not encoded:
        raise CommandError(replies.BAD_ORCPT)
    name = kind.decode("ascii").lower()
    try:
        if name == "utf-8":  # RFC 6533 section 3
            return f"{name};{decode_utf8_address(encoded)}"
        if name == "rfc822":
            address = decode_utf8_xtext(encoded)
            return f"{name if address.isascii() else 'utf-8'};{address}"
    except XtextError as error:
        raise CommandError(replies.BAD_ORCPT) from error
    return f"{name};{_xtext(encoded, replies.BAD_ORCPT)}"


def _xtext(value: bytes, refusal: Reply) -> str:
    try:
        return decode_xtext(value)
    except XtextError as error:
        raise CommandError(refusal) from error
