"""The envelope object: who, to whom, which objects, under which seals (MT2-2).

Written octets are a function of the value alone, and reading them gives the value back. An envelope that came
from elsewhere is kept and passed on as the octets that came, never written anew.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Final

from outrider.message.objects.errors import ObjectError
from outrider.message.objects.field_values import exact_base64
from outrider.message.objects.writing import attribute, character_data, optional
from outrider.message.objects.xml import Element, Schema, parse
from outrider.model.address import Address, AddressError, parse_address
from outrider.model.envelope import Notify, Return
from outrider.model.mpc import Mpc, MpcError, parse_mpc
from outrider.model.transaction import RecipientRequest

ENVELOPE_TYPE: Final = "message/envelope"
ENVELOPE_NAMESPACE: Final = "urn:oid:2.25.142621449478723633738367890471353828951.1"
MAX_ENVELOPE: Final = 1_048_576
"""Octets of an envelope that is read."""
MAX_RECIPIENTS: Final = 5_000
MAX_EXTENSIONS: Final = 64
MAX_CERTIFICATES: Final = 256
MAX_SEALS: Final = 128
MAX_REPORTED: Final = MAX_RECIPIENTS


class Part(Enum):
    """Which of a message's objects is meant (MT2-1). The envelope does not list itself."""

    HEADERS = "headers"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object that belongs to the message."""

    part: Part
    media_type: str
    """As in XFER: ``message/headers``, ``message/body``; another where it is encrypted (MT2-4)."""
    sha256: bytes
    """32 octets, of the object as it is transferred (of the ciphertext, where it is encrypted)."""
    length: int
    """Octets."""


@dataclass(frozen=True, slots=True)
class DeliveryExtension:
    """Processed for the recipients' domain after the last hop, in clear (MT2-19)."""

    oid: str
    data: str = ""
    critical: bool = False
    """Whoever does not know it refuses the whole message."""


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """What became of one recipient."""

    address: Address
    action: str
    """``failed``, ``delayed``, ``delivered``, ``relayed``, ``expanded`` (RFC 3464 section 2.3.3), or
    another word of an extension."""
    code: str = ""
    """The result code of MT2 (dotted), "" where the failure was another protocol's."""
    status: str = ""
    """The enhanced status code (RFC 3463), "" for none."""
    said_by: str = ""
    """The host that said it; "" for the reporting one."""
    original: str = ""
    """ORCPT as it stood in the envelope reported on."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Error-report metadata: this envelope is a control message about another (MT2-2)."""

    kind: str
    """A short lower-case word: ``delivery``, ``extension``, ``trace``, ..."""
    about: str
    """The id of the envelope reported on."""
    reporter: str
    """The host that reports."""
    arrived: int = 0
    """When it took that message, seconds since the epoch; 0 = not said."""
    envelope_id: str = ""
    """The ENVID of the sender (RFC 3461)."""
    extension: str = ""
    """OID of the extension that reports, "" for none."""
    recipients: tuple[ReportedRecipient, ...] = ()


@dataclass(frozen=True, slots=True)
class LayeredEnvelope:
    """The envelope object as a value."""

    id: str
    """The message's own id, the same on every hop and for every copy: not the transfer id (MT2-18a). 1 to 255
    visible ASCII characters."""
    sender: Address | None
    """None is the null sender of control messages."""
    recipients: tuple[RecipientRequest, ...]
    """With what the sender wants to hear of each (RFC 3461)."""
    date: int
    """When it was made, seconds since the epoch."""
    expiry: int = 0
    """When to give up, seconds since the epoch; 0 = as the hosts see fit."""
    ret: Return = Return.UNSPECIFIED
    envelope_id: str = ""
    """ENVID, decoded (RFC 3461)."""
    hold_until: int = 0
    """Not to be delivered before, seconds since the epoch (RFC 4865); 0 = at once."""
    mpc: Mpc | None = None
    """Its Mail Policy Code (AMTP-9)."""
    objects: tuple[ObjectEntry, ...] = ()
    """At most one of each part, the headers first; none for a control message (MT2-2)."""
    extensions: tuple[DeliveryExtension, ...] = ()
    """At most one of each OID."""
    report: ReportData | None = None
    certificates: tuple[bytes, ...] = ()
    """DER, each held once; seals name them by ``x5t#S256``."""
    seals: tuple[str, ...] = ()
    """Compact JWS: the core's first, then one for each hop (MT2-23b)."""

    def object(self, part: Part) -> ObjectEntry | None:
        """The entry of that part; None where the message has none."""
        return next((entry for entry in self.objects if entry.part is part), None)


def read_envelope(octets: bytes) -> LayeredEnvelope:
    """The value of an envelope object. Raises ObjectError for what schema and rules do not allow."""
    try:
        return _read(octets)
    except ObjectError as error:
        raise ObjectError(f"envelope: {error}") from None


def write_envelope(envelope: LayeredEnvelope) -> bytes:
    """The octets of an envelope object. Raises ObjectError where they could not be read back."""
    _check_counts(envelope)
    lines = [f'<envelope xmlns="{ENVELOPE_NAMESPACE}"{_own_attributes(envelope)}>']
    lines.append(_sender_line(envelope.sender))
    lines.extend(map(_recipient_line, envelope.recipients))
    lines.extend(map(_object_line, envelope.objects))
    lines.extend(map(_extension_line, envelope.extensions))
    if envelope.report is not None:
        lines.extend(_report_lines(envelope.report))
    lines.extend(f"<certificate>{_base64(der)}</certificate>" for der in envelope.certificates)
    lines.extend(f"<seal>{character_data(seal)}</seal>" for seal in envelope.seals)
    lines.append("</envelope>\n")
    return "\n".join(lines).encode("utf-8")


# Reading


def _read(octets: bytes) -> LayeredEnvelope:
    root = parse(octets, _SCHEMA, largest=MAX_ENVELOPE, elements=_MAX_ELEMENTS)
    found: dict[str, list[Element]] = {}
    for child in root:
        found.setdefault(child.tag[_PREFIX:], []).append(child)
    reports = found.get("report")
    code = root.get("mpc")
    envelope = LayeredEnvelope(
        id=_must(root, "id"),
        sender=_sender(found["from"][0]),
        recipients=tuple(map(_recipient, found.get("to", ()))),
        date=_moment(_must(root, "date")),
        expiry=_maybe_moment(root, "expires"),
        ret=Return(root.get("return") or ""),
        envelope_id=root.get("envid") or "",
        hold_until=_maybe_moment(root, "hold"),
        mpc=_mpc(code) if code is not None else None,
        objects=tuple(map(_object, found.get("object", ()))),
        extensions=tuple(map(_extension, found.get("extension", ()))),
        report=_report(reports[0]) if reports else None,
        certificates=tuple(map(_certificate, found.get("certificate", ()))),
        seals=tuple(map(_seal, found.get("seal", ()))),
    )
    _check_counts(envelope)
    return envelope


def _check_counts(envelope: LayeredEnvelope) -> None:
    """What the schema cannot say, or says only of the octets."""
    oids = {extension.oid for extension in envelope.extensions}
    if len(oids) < len(envelope.extensions):
        raise ObjectError("two extensions with the same OID")
    parts = [entry.part for entry in envelope.objects]
    if parts and parts not in _ORDERS:
        raise ObjectError("objects are listed once each, the headers first")
    if len(set(envelope.certificates)) < len(envelope.certificates):
        raise ObjectError("a certificate is held twice")
    reported = envelope.report.recipients if envelope.report else ()
    for what, number, most in (
        ("recipients", len(envelope.recipients), MAX_RECIPIENTS),
        ("extensions", len(envelope.extensions), MAX_EXTENSIONS),
        ("certificates", len(envelope.certificates), MAX_CERTIFICATES),
        ("seals", len(envelope.seals), MAX_SEALS),
        ("reported recipients", len(reported), MAX_REPORTED),
    ):
        if number > most:
            raise ObjectError(f"more than {most} {what}")


def _must(element: Element, name: str) -> str:
    value = element.get(name)
    assert value is not None, "the schema wants it"
    return value


def _sender(element: Element) -> Address | None:
    text = element.get("address")
    return None if text is None else _address(text)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except AddressError as error:
        raise ObjectError(f"an address is none: {error}") from None


def _recipient(element: Element) -> RecipientRequest:
    notify = element.get("notify")
    return RecipientRequest(
        _address(_must(element, "address")),
        Notify.UNSPECIFIED if notify is None else _NOTIFY_OF[notify],
        element.get("original") or "",
    )


def _object(element: Element) -> ObjectEntry:
    return ObjectEntry(
        Part(_must(element, "part")),
        _media_type(_must(element, "type")),
        _digest(_must(element, "sha256")),
        _length(_must(element, "length")),
    )


@lru_cache(maxsize=64)
def _media_type(text: str) -> str:
    if _MEDIA_TYPE.fullmatch(text) is None:
        raise ObjectError("an object's type is no media type")
    return text


def _digest(text: str) -> bytes:
    octets = bytes.fromhex(text)
    if octets.hex() != text:
        raise ObjectError("a digest is not in lower case")
    return octets


def _length(text: str) -> int:
    if _LENGTH.fullmatch(text) is None:
        raise ObjectError("a length is not a number as it should be written")
    return int(text)


def _extension(element: Element) -> DeliveryExtension:
    return DeliveryExtension(
        _must(element, "oid"), element.text or "", critical=element.get("critical") is not None
    )


def _report(element: Element) -> ReportData:
    return ReportData(
        kind=_must(element, "kind"),
        about=_must(element, "about"),
        reporter=_must(element, "reporter"),
        arrived=_maybe_moment(element, "arrived"),
        envelope_id=element.get("envid") or "",
        extension=element.get("extension") or "",
        recipients=tuple(map(_reported, element)),
    )


def _reported(element: Element) -> ReportedRecipient:
    return ReportedRecipient(
        address=_address(_must(element, "address")),
        action=_must(element, "action"),
        code=element.get("code") or "",
        status=element.get("status") or "",
        said_by=element.get("said-by") or "",
        original=element.get("original") or "",
        text=element.text or "",
    )


def _certificate(element: Element) -> bytes:
    try:
        return exact_base64((element.text or "").encode())
    except binascii.Error:
        raise ObjectError("a certificate is not base64 without blanks") from None


def _seal(element: Element) -> str:
    text = element.text or ""
    if _SEAL.fullmatch(text) is None:
        raise ObjectError("a seal is no compact JWS")
    return text


def _mpc(text: str) -> Mpc:
    try:
        return parse_mpc(text)
    except MpcError as error:
        raise ObjectError(str(error)) from None


def _maybe_moment(element: Element, name: str) -> int:
    text = element.get(name)
    return 0 if text is None else _moment(text)


@lru_cache(maxsize=256)
def _moment(text: str) -> int:
    if _MOMENT.fullmatch(text) is None:
        raise ObjectError("a date is not written YYYY-MM-DDThh:mm:ssZ")
    try:
        moment = int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise ObjectError("there is no such date") from None
    if moment < 0:
        raise ObjectError("a date before 1970")
    return moment


# Writing


def _own_attributes(envelope: LayeredEnvelope) -> str:
    return "".join(
        (
            attribute("id", envelope.id),
            attribute("date", _moment_text(envelope.date)),
            _optional_moment("expires", envelope.expiry),
            _optional_moment("hold", envelope.hold_until),
            optional("return", envelope.ret.value),
            optional("envid", envelope.envelope_id),
            optional("mpc", "" if envelope.mpc is None else str(envelope.mpc)),
        )
    )


def _sender_line(sender: Address | None) -> str:
    return "<from/>" if sender is None else f"<from{attribute('address', str(sender))}/>"


def _recipient_line(recipient: RecipientRequest) -> str:
    address = attribute("address", str(recipient.address))
    notify = attribute("notify", _NOTIFY_TEXT[recipient.notify]) if recipient.notify.value else ""
    return f"<to{address}{notify}{optional('original', recipient.original)}/>"


def _object_line(entry: ObjectEntry) -> str:
    media_type = attribute("type", entry.media_type)
    digest = f' sha256="{entry.sha256.hex()}" length="{entry.length}"'
    return f'<object part="{entry.part.value}"{media_type}{digest}/>'


def _extension_line(extension: DeliveryExtension) -> str:
    critical = ' critical="true"' if extension.critical else ""
    return (
        f"<extension{attribute('oid', extension.oid)}{critical}>{character_data(extension.data)}</extension>"
    )


def _report_lines(report: ReportData) -> Iterator[str]:
    yield "".join(
        (
            "<report",
            attribute("kind", report.kind),
            attribute("about", report.about),
            attribute("reporter", report.reporter),
            _optional_moment("arrived", report.arrived),
            optional("envid", report.envelope_id),
            optional("extension", report.extension),
            ">",
        )
    )
    yield from map(_reported_line, report.recipients)
    yield "</report>"


def _reported_line(recipient: ReportedRecipient) -> str:
    return "".join(
        (
            "<recipient",
            attribute("address", str(recipient.address)),
            attribute("action", recipient.action),
            optional("code", recipient.code),
            optional("status", recipient.status),
            optional("said-by", recipient.said_by),
            optional("original", recipient.original),
            f">{character_data(recipient.text)}</recipient>",
        )
    )


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _optional_moment(name: str, moment: int) -> str:
    return attribute(name, _moment_text(moment)) if moment else ""


@lru_cache(maxsize=256)
def _moment_text(moment: int) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise ObjectError("a date that cannot be written") from None


def _notify_text(notify: Notify) -> str:
    return ",".join(flag.name or "" for flag in _ASKED if flag in notify)


_SCHEMA: Final = Schema("envelope.rng")
_PREFIX: Final = len(ENVELOPE_NAMESPACE) + 2
_MAX_ELEMENTS: Final = MAX_RECIPIENTS + MAX_REPORTED + MAX_EXTENSIONS + MAX_CERTIFICATES + MAX_SEALS + 8
_ORDERS: Final = ([Part.HEADERS, Part.BODY], [Part.HEADERS], [Part.BODY])
_SEAL: Final = re.compile(r"[A-Za-z0-9_-]{1,65536}\.[A-Za-z0-9_-]{1,1048576}\.[A-Za-z0-9_-]{1,65536}")
_MEDIA_TYPE: Final = re.compile(r"[!#$&+.^_0-9A-Za-z-]{1,63}/[!#$&+.^_0-9A-Za-z-]{1,63}")
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_ASKED: Final = (Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)
_NOTIFY_TEXT: Final = {Notify(value): _notify_text(Notify(value)) for value in (1, *range(2, 16, 2))}
_NOTIFY_OF: Final = {text: notify for notify, text in _NOTIFY_TEXT.items()}
