"""Facts that a message itself gives: only those that some rule looks at are made."""

from __future__ import annotations

import re
from collections.abc import Iterator

from outrider.message.encoded_words import decode_text
from outrider.message.header_fields import count_fields, field_values, header_fields
from outrider.message.mailboxes import mailboxes
from outrider.model.content import Content
from outrider.model.facts import Fact, FactValue, Provenance
from outrider.policy.fact_names import HEADER_PREFIX

_SIGNED = re.compile(r"smime-type=\"?(?:signed-data|certs-only|compressed-data)")
MAX_FIELDS = 100
MAX_HEADER_VALUE = 8192


def header_facts(headers: bytes, wanted: frozenset[str]) -> Iterator[Fact]:
    """Facts of the stage HEADERS among `wanted`; all claimed: anybody can write anything into a header."""
    names = {name[len(HEADER_PREFIX) :] for name in wanted if name.startswith(HEADER_PREFIX)}
    if names:
        yield from _field_facts(headers, names)
    if "message.hops" in wanted:
        yield _claimed("message.hops", count_fields(headers, b"received"))
    if wanted & {"from", "from.domain"}:
        senders = [one for value in field_values(headers, b"from", 10) for one in mailboxes(value)]
        yield _claimed("from", tuple(str(sender) for sender in senders))
        yield _claimed("from.domain", tuple(dict.fromkeys(sender.domain for sender in senders)))


def _field_facts(headers: bytes, names: set[str]) -> Iterator[Fact]:
    values: dict[str, list[str]] = {}
    for field in header_fields(headers):
        name = field.name.decode("ascii").lower()
        if name in names:
            found = values.setdefault(name, [])
            if len(found) < MAX_FIELDS:
                found.append(decode_text(field.unfolded[:MAX_HEADER_VALUE]))
    for name, texts in values.items():
        yield _claimed(f"{HEADER_PREFIX}{name}", tuple(texts))


def body_facts(content: Content, wanted: frozenset[str]) -> Iterator[Fact]:
    """Facts of the stage BODY among `wanted`; proven, for we counted."""
    if "body.encryption" in wanted:
        yield _claimed("body.encryption", _encryption(content.headers))
    values: dict[str, FactValue] = {
        "message.size": content.size,
        "body.size": content.body.size,
        "body.eight-bit": not content.is_ascii,
        "body.binary": content.is_binary,
    }
    for name, value in values.items():
        if name in wanted:
            yield Fact(name, value, Provenance.PROVEN, "counted")


def _encryption(headers: bytes) -> str:
    """By what the body is encrypted (RFC 8551 section 3.2, RFC 3156 section 4)."""
    for value in field_values(headers, b"content-type", 1):
        media_type, _, parameters = value[:MAX_HEADER_VALUE].decode("latin-1").lower().partition(";")
        media_type, parameters = media_type.strip(), parameters.replace(" ", "")
        if media_type in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
            return "none" if _SIGNED.search(parameters) else "smime"
        if media_type == "multipart/encrypted" and "application/pgp-encrypted" in parameters:
            return "openpgp"
    return "none"


def _claimed(name: str, value: FactValue) -> Fact:
    return Fact(name, value, Provenance.CLAIMED)
