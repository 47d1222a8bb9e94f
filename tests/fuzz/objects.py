"""Envelope, headers object, and both riding along in SMTP: read whole, or refused as ObjectError."""

from __future__ import annotations

import base64
import hashlib
import random
import re

from outrider.gateway.ride_along import Plain, Recovered, recover, restore, ride_along
from outrider.gateway.visible import header_section
from outrider.message.header_fields import header_fields
from outrider.message.objects.envelope import Part, read_envelope, write_envelope
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import BodyFields, read_headers, write_headers
from outrider.model.content import split_content
from tests.fuzz import damage
from tests.fuzz.recorded import recorded
from tests.fuzz.running import Target, refused


def _damaged(kind: str, chance: random.Random) -> bytes:
    given, others = (
        chance.choice(recorded().all(kind)),
        recorded().all("envelopes") + recorded().all("headers"),
    )
    kind_of_damage = chance.random()
    if kind_of_damage < 0.03:
        return given
    if kind_of_damage < 0.4:
        return damage.octets(given, others, chance)
    return damage.xml(given, others, chance)


def envelope(chance: random.Random) -> bool:
    """What is read is written again and read as the same."""
    given = _damaged(chance.choice(("envelopes", "envelopes", "sealed")), chance)
    try:
        found = read_envelope(given)
    except ObjectError as error:
        return refused(error)
    written = write_envelope(found)
    assert read_envelope(written) == found
    assert write_envelope(read_envelope(written)) == written
    return True


def headers(chance: random.Random) -> bool:
    """The same; and every entity is one field or line of a header section."""
    given = _damaged("headers", chance)
    try:
        found = read_headers(given)
    except ObjectError as error:
        return refused(error)
    assert read_headers(write_headers(found)) == found
    for entity in found.entities:
        if not isinstance(entity, BodyFields):
            (entry,) = header_fields(entity.octets)
            assert entry.end == len(entity.octets)
    return True


_DIGEST = re.compile(rb"sha256=[A-Za-z0-9+/]{43}=")
_BLANKS = re.compile(rb"\s")


def riding(chance: random.Random) -> bool:
    """What comes out is what the envelope lists, and what was to be seen of it; all else is plain mail."""
    given = chance.choice(recorded().all("riding"))
    if chance.random() >= 0.05:
        given = _forged(given, chance) if chance.random() < 0.4 else damage.octets(given, [given], chance)
    section, body = split_content(given)
    found = recover(section, [body[:7], body[7:]])
    if isinstance(found, Plain):
        assert found.reason.isprintable(), found.reason
        return False
    _check_recovered(found, body)
    return True


def _check_recovered(found: Recovered, body: bytes) -> None:
    envelope = read_envelope(found.objects.envelope)
    assert found.envelope == envelope
    whole = found.objects.body_prefix + b"".join(restore(found, [body]))
    for part, octets in ((Part.HEADERS, found.objects.headers), (Part.BODY, whole)):
        entry = envelope.object(part)
        if entry is not None:
            assert (entry.length, entry.sha256) == (len(octets), hashlib.sha256(octets).digest())
    shown = header_section(found.objects, envelope, body_follows=found.body_length > 0)
    seen = [_plain(one.name, one.value) for one in header_fields(found.header_section)]
    for one in header_fields(shown):
        if one.name.lower() != b"content-transfer-encoding":
            assert _plain(one.name, one.value) in seen, one.name


def _plain(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name.lower(), _BLANKS.sub(b"", value)


def _forged(given: bytes, chance: random.Random) -> bytes:
    """Other objects under a recipe that fits them: whoever sends mail can write that."""
    own = recorded().all("envelopes") + recorded().all("headers")
    found = recover(*_cut(given))
    assert isinstance(found, Recovered)
    objects = found.objects
    fields = ride_along(objects)
    envelope, headers_object = objects.envelope, objects.headers
    if chance.random() < 0.6:
        envelope = damage.xml(envelope, own, chance)
    else:
        headers_object = damage.xml(headers_object or b"<x/>", own, chance)
        old = hashlib.sha256(objects.headers).hexdigest().encode()
        envelope = envelope.replace(old, hashlib.sha256(headers_object).hexdigest().encode())
        envelope = envelope.replace(
            b'length="%d"' % len(objects.headers), b'length="%d"' % len(headers_object)
        )
    octets = envelope + headers_object + objects.body_prefix
    lines = b"\r\n ".join(base64.b64encode(octets[at : at + 54]) for at in range(0, len(octets), 54))
    recipe = (
        b"MT2-Recipe: v=1; envelope=%d; headers=%d; prefix=%d; body=1;\r\n"
        b" type=message/headers;\r\n sha256=%b\r\n"
        % (
            len(envelope),
            len(headers_object),
            len(objects.body_prefix),
            base64.b64encode(hashlib.sha256(octets).digest()),
        )
    )
    return given.replace(fields, b"MT2-Object: 1;\r\n " + lines + b"\r\n" + recipe)


def _cut(given: bytes) -> tuple[bytes, list[bytes]]:
    section, body = split_content(given)
    return section, [body]


TARGETS = (
    Target("envelope", envelope, short=500, long=120_000),
    Target("headers", headers, short=500, long=120_000),
    Target("riding", riding, short=300, long=100_000),
)
