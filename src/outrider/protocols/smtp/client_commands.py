"""The commands of a client as octets (RFC 5321 section 4.1.1), with the parameters that the server offers.

What the server has not offered is left out where that is harmless (DSN, SIZE) and never sent in hope.
"""

from __future__ import annotations

import re
from typing import Final

from outrider.model.address import Address
from outrider.model.envelope import BodyType, Notify, Recipient, Return
from outrider.protocols.smtp.client_events import Mail
from outrider.protocols.smtp.client_offers import Offers
from outrider.wire.xtext import XtextError, encode_utf8_address, encode_xtext

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TYPE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_NOTIFY: Final = (
    (Notify.SUCCESS, "SUCCESS"),
    (Notify.FAILURE, "FAILURE"),
    (Notify.DELAY, "DELAY"),
)


def fits_in_path(address: Address) -> bool:
    """Whether the address can stand in MAIL or RCPT at all.

    Whatever brought it here has been parsed before; but one control character that slips in would end the
    command and begin another (SEC-59), so it is looked at once more where it leaves.
    """
    return not _UNFIT.search(f"{address.local}@{address.domain}")


def mail_command(mail: Mail, offers: Offers, *more: str) -> bytes:
    """MAIL FROM with what is offered of SIZE, BODY, SMTPUTF8, AMDP, RET and ENVID, and `more` parameters."""
    words = [f"MAIL FROM:<{'' if mail.sender is None else mail.sender}>"]
    if "SIZE" in offers:
        words.append(f"SIZE={mail.size}")
    if mail.body_type is not BodyType.SEVEN_BIT:
        words.append(f"BODY={mail.body_type.value}")
    if mail.smtputf8:
        words.append("SMTPUTF8")
    if mail.amdp:
        words.append("AMDP")
    if "DSN" in offers:
        words += _sender_notification(mail)
    return _line([*words, *more])


def _sender_notification(mail: Mail) -> list[str]:
    words = [f"RET={mail.ret.value}"] if mail.ret is not Return.UNSPECIFIED else []
    if mail.envelope_id:
        words += _parameter("ENVID", mail.envelope_id)
    return words


def rcpt_command(recipient: Recipient, offers: Offers, *, smtputf8: bool) -> bytes:
    """RCPT TO with NOTIFY and ORCPT where DSN is offered (RFC 3461 section 4)."""
    words = [f"RCPT TO:<{recipient.address}>"]
    if "DSN" in offers:
        if recipient.notify is not Notify.UNSPECIFIED:
            words.append(f"NOTIFY={notify_words(recipient.notify)}")
        if recipient.original:
            words += _original(recipient.original, smtputf8)
    return _line(words)


def notify_words(notify: Notify) -> str:
    """``NEVER`` or a list such as ``SUCCESS,DELAY``."""
    words = [word for flag, word in _NOTIFY if flag in notify]
    return ",".join(words) if words else "NEVER"


def _original(original: str, smtputf8: bool) -> list[str]:
    kind, separator, address = original.partition(";")
    if not separator:
        kind, address = "rfc822", original
    if not _TYPE.fullmatch(kind) or not address:
        return []
    try:
        if address.isascii() and kind.lower() != "utf-8":
            return [f"ORCPT={kind};{encode_xtext(address)}"]
        if smtputf8 and not re.search(r"[\s=+\\]", address) and not _UNFIT.search(address):
            return [f"ORCPT=utf-8;{address}"]  # utf-8-addr-unitext (RFC 6533 section 3)
        return [f"ORCPT=utf-8;{encode_utf8_address(address)}"]
    except XtextError:
        return []  # advice for reports only: it is better to leave it out than not to send the mail


def _parameter(name: str, value: str) -> list[str]:
    try:
        return [f"{name}={encode_xtext(value)}"]
    except XtextError:
        return []


def _line(words: list[str]) -> bytes:
    return " ".join(words).encode("utf-8") + b"\r\n"
