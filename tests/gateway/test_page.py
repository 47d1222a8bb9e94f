"""docs/protocols/mt2-objects.md says what the code does: examples, tables and schemas are the real ones."""

from __future__ import annotations

import hashlib
import re

import pytest

from outrider.gateway.mapping import mt2_to_smtp, smtp_to_mt2
from outrider.gateway.ride_along import MAX_RIDE_ALONG, Recovered, recover, ride_along
from outrider.gateway.visible import header_section
from outrider.message.objects import envelope as envelopes
from outrider.message.objects import headers as objects
from outrider.message.objects.envelope import ENVELOPE_NAMESPACE, Part, read_envelope, write_envelope
from outrider.message.objects.field_registry import REGISTRY
from outrider.message.objects.field_values import CHARSETS
from outrider.message.objects.headers import HEADERS_NAMESPACE, read_headers, write_headers
from outrider.message.objects.xml import Schema
from outrider.model.layered import MessageObjects
from tests.docs.pages import PROJECT, blocks

PAGE = PROJECT / "docs" / "protocols" / "mt2-objects.md"
TEXT = PAGE.read_text("utf-8")
XML = [block.encode() for block in blocks(PAGE, "xml")]
SECTION, PREFIX, RIDE = (block.replace("\n", "\r\n").encode() for block in blocks(PAGE, "text"))
ENVELOPE, REPORT, HEADERS = XML[:3]
BODY = b"Bring cake.\r\n"
SCHEMAS = [("envelope.rng", XML[3]), ("headers.rng", XML[4])]


@pytest.mark.covers("MT2-2", "MT2-3")
def test_the_documents_are_ours_to_the_octet() -> None:
    for octets in (ENVELOPE, REPORT):
        assert write_envelope(read_envelope(octets)) == octets
    assert write_headers(read_headers(HEADERS)) == HEADERS
    assert read_envelope(REPORT).report is not None


@pytest.mark.covers("MT2-1", "MT2-28a")
def test_the_envelope_lists_the_objects_that_are_shown() -> None:
    listed = read_envelope(ENVELOPE)
    for part, octets in ((Part.HEADERS, HEADERS), (Part.BODY, PREFIX + BODY)):
        entry = listed.object(part)
        assert entry is not None
        assert (entry.sha256, entry.length) == (hashlib.sha256(octets).digest(), len(octets))


@pytest.mark.covers("MT2-28a")
def test_the_section_and_the_objects_are_the_same_message() -> None:
    form = smtp_to_mt2(SECTION)
    shown = read_headers(HEADERS)
    assert (form.headers.entities, form.body_prefix) == (shown.entities, PREFIX)
    assert mt2_to_smtp(shown, PREFIX) == SECTION


@pytest.mark.covers("MT2-28b")
def test_the_objects_ride_along_as_shown() -> None:
    carried = MessageObjects(ENVELOPE, HEADERS, PREFIX)
    assert ride_along(carried) == RIDE
    section = header_section(carried, read_envelope(ENVELOPE), body_follows=True)
    assert section == SECTION
    found = recover(RIDE + section, [BODY])
    assert isinstance(found, Recovered)
    assert found.objects == carried


@pytest.mark.covers("MT2-5")
@pytest.mark.parametrize(("name", "shown"), SCHEMAS)
def test_the_schemas_are_the_shipped_ones(name: str, shown: bytes) -> None:
    assert Schema(name).octets == shown


@pytest.mark.covers("MT2-3")
def test_the_registry_is_listed_whole() -> None:
    rows = re.findall(r"^\| `([A-Z0-9]+)` \| (.*) \| (text|addresses|exact) \|$", TEXT, re.MULTILINE)
    listed = {
        (f"{registry}.{name}", name, reading)
        for registry, names, reading in rows
        for name in re.findall(r"`([^`]+)`", names)
    }
    assert listed == {(entry.entity, entry.name, entry.reading.value) for entry in REGISTRY.values()}


def test_numbers_and_names_are_the_real_ones() -> None:
    for number in (
        envelopes.MAX_ENVELOPE,
        envelopes.MAX_RECIPIENTS,
        objects.MAX_HEADERS,
        objects.MAX_ENTITIES,
        MAX_RIDE_ALONG,
    ):
        assert f"{number:,}" in TEXT
    for number in (envelopes.MAX_CERTIFICATES, envelopes.MAX_SEALS, envelopes.MAX_EXTENSIONS):
        assert f"| 0 to {number} |" in TEXT
    assert f"`{ENVELOPE_NAMESPACE}`" in TEXT
    assert f"`{HEADERS_NAMESPACE}`" in TEXT
    assert {"us-ascii", "utf-8", "koi8-r"} < CHARSETS
    assert {int(name[9:]) for name in CHARSETS if name.startswith("iso-8859-")} == {
        *range(1, 11),
        *range(13, 17),
    }
    assert {int(name[8:]) for name in CHARSETS if name.startswith("windows-")} == {*range(1250, 1259)}
    assert len(CHARSETS) == 3 + 14 + 9
