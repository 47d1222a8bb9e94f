"""Hostile XML is refused before anything is stored, expanded or opened (MT2-5, SEC-120 to SEC-133)."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

import pytest
from lxml import etree

from outrider.message.objects.envelope import ENVELOPE_NAMESPACE, MAX_ENVELOPE, read_envelope
from outrider.message.objects.errors import ObjectError
from outrider.message.objects.headers import HEADERS_NAMESPACE, MAX_HEADERS, read_headers
from outrider.message.objects.xml import _PARSER

SUBJECT = b"<RFC822.Subject>hello</RFC822.Subject>"


def headers(inside: bytes = SUBJECT, *, before: bytes = b"", attributes: bytes = b"") -> bytes:
    return b'%b<headers xmlns="%b"%b>%b</headers>' % (before, HEADERS_NAMESPACE.encode(), attributes, inside)


def envelope(inside: bytes = b"", attributes: bytes = b"") -> bytes:
    return (
        b'<envelope xmlns="%b" id="m1" date="2026-11-22T10:00:00Z"%b><from/>'
        b'<to address="bob@b.example"/>%b</envelope>'
    ) % (ENVELOPE_NAMESPACE.encode(), attributes, inside)


def refused(octets: bytes) -> str:
    """Both readers refuse it, in one printable sentence."""
    for read in (read_headers, read_envelope):
        with pytest.raises(ObjectError) as caught:
            read(octets)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 200
    return str(caught.value)


def test_what_the_attacks_are_built_of_is_good() -> None:
    assert read_headers(headers()).values("subject") == ("hello",)
    assert read_headers(headers(before=b'<?xml version="1.0" encoding="UTF-8"?>\n')).values("subject") == (
        "hello",
    )
    assert read_envelope(envelope()).id == "m1"


ENTITY_BOMBS = {
    "laughs": b'<!DOCTYPE lolz [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "&%c;&%c;&%c;&%c;&%c;">' % (at + 1, at, at, at, at, at) for at in range(0x61, 0x7A)
    ) + b"]>",
    "cyclic": b'<!DOCTYPE x [<!ENTITY a "&b;"><!ENTITY b "&a;">]>',
    "parameter": b"<!DOCTYPE x [<!ENTITY % a 'b'><!ENTITY % c '%a;%a;%a;'>%c;]>",
    "quadratic": b'<!DOCTYPE x [<!ENTITY a "' + b"A" * 50_000 + b'">]>',
    "bare": b"<!DOCTYPE headers>",
    "lower case": b"<!doctype headers>",
    "after the declaration": b'<?xml version="1.0"?><!DOCTYPE headers [<!ELEMENT headers ANY>]>',
    "external": b'<!DOCTYPE headers SYSTEM "file:///etc/passwd">',
    "public": b'<!DOCTYPE headers PUBLIC "-//x//y" "http://127.0.0.1/x.dtd">',
    "default attributes": b'<!DOCTYPE headers [<!ATTLIST headers ending CDATA "open">]>',
}  # fmt: skip


@pytest.mark.covers("SEC-120", "SEC-121", "SEC-122")
@pytest.mark.parametrize("name", ENTITY_BOMBS)
def test_any_document_type_is_refused(name: str) -> None:
    uses = b"<RFC822.Subject>" + b"&a;" * 1000 + b"&z;</RFC822.Subject>"
    assert "document type" in refused(headers(uses, before=ENTITY_BOMBS[name]))


@pytest.mark.covers("SEC-121", "SEC-128")
@pytest.mark.parametrize(
    "text",
    [b"&a;", b"&nbsp;", b"&#0;", b"&#xFFFE;", b"&#xD800;", b"&#x110000;", b"&", b"&#;", b"&amp", b"%a;&b;"],
)
def test_references_to_what_is_no_character_are_refused(text: bytes) -> None:
    refused(headers(b"<RFC822.Subject>" + text + b"</RFC822.Subject>"))


class Watch:
    """Sees every opening of some files in this machine, by whatever code."""

    IN_OPEN = 0x20

    def __init__(self, *paths: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle: int = self._libc.inotify_init1(os.O_NONBLOCK)
        for path in paths:
            assert self._libc.inotify_add_watch(self._handle, os.fsencode(path), self.IN_OPEN) >= 0

    def opened(self) -> bool:
        try:
            return bool(os.read(self._handle, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._handle)


@pytest.mark.covers("SEC-123", "SEC-124")
def test_no_file_is_opened_and_nobody_is_called(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = str(secret).encode()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = b"http://127.0.0.1:%d/x" % server.getsockname()[1]
        watch = Watch(secret)
        for target in (
            b"file://" + path,
            path,
            url,
            b"//127.0.0.1/share",
            b"php://filter/x",
            b"jar:" + url + b"!/x",
        ):
            for attack in (
                headers(
                    b"<RFC822.Subject>&x;</RFC822.Subject>",
                    before=b'<!DOCTYPE a [<!ENTITY x SYSTEM "%b">]>' % target,
                ),
                headers(before=b'<!DOCTYPE a SYSTEM "%b">' % target),
                headers(before=b'<!DOCTYPE a [<!ENTITY %% x SYSTEM "%b"> %%x;]>' % target),
                headers(before=b'<?xml-stylesheet href="%b"?>' % target),
                headers(
                    attributes=b' xmlns:s="http://www.w3.org/2001/XMLSchema-instance" s:schemaLocation="a %b"'
                    % target
                ),
                headers(attributes=b' xml:base="%b"' % target),
                headers(
                    b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="%b" parse="text"/>' % target
                ),
            ):
                refused(attack)
                # The parser alone, without the checks before it, opens nothing either.
                try:
                    etree.fromstring(attack, _PARSER)
                except etree.XMLSyntaxError:
                    continue
        assert not watch.opened()
        with pytest.raises(BlockingIOError):
            server.accept()
        secret.read_text()
        assert watch.opened(), "the watch would have seen it"
        watch.close()


@pytest.mark.covers("SEC-126", "SEC-127")
@pytest.mark.parametrize(
    "attack",
    [
        headers(b"<a>" * 100_000),
        headers(b"<a>" * 100_000 + b"</a>" * 100_000),
        headers(b"<field>" * 101_000 + b"</field>" * 101_000),
        headers(b"<x>" * 300 + b"</x>" * 300),
        headers(attributes=b"".join(b' a%d="x"' % at for at in range(150_000))),
        headers(attributes=b"".join(b' xmlns:a%d="x"' % at for at in range(100_000))),
        headers(b'<field name="' + b"a" * MAX_HEADERS + b'"/>'),
        headers(b"<!-- never closed " + b"a" * 100_000),
        headers(b"<RFC822.Subject>" + b"a" * MAX_HEADERS),
        headers(b"<" + b"a" * 200_000 + b"/>"),
        headers(b"<line>a</line>" * 100_001),
        envelope(b'<to address="bob@b.example"/>' * 5_001),
        envelope(b"<seal>a.b.c</seal>" * 129),
        envelope(b'<extension oid="1.2"/>' * 65),
        envelope(b"<seal>" + b"a" * MAX_ENVELOPE + b"</seal>"),
    ],
    ids=lambda attack: attack[100:130].decode(),
)
def test_depth_counts_and_sizes_are_bounded(attack: bytes) -> None:
    refused(attack)


ENCODINGS = {
    "UTF-16 with a mark": headers().decode().encode("utf-16"),
    "UTF-16 without": headers().decode().encode("utf-16-le"),
    "UTF-32": headers().decode().encode("utf-32"),
    "UTF-7": headers(before=b'<?xml version="1.0" encoding="UTF-7"?>'),
    "EBCDIC": headers().decode().encode("cp037"),
    "declared UTF-16": headers(before=b'<?xml version="1.0" encoding="UTF-16"?>'),
    "declared Latin-1": headers(before=b'<?xml version="1.0" encoding="ISO-8859-1"?>'),
    "XML 1.1": headers(before=b'<?xml version="1.1"?>'),
    "byte order mark": headers(before=b"\xef\xbb\xbf"),
    "mark and declaration": headers(before=b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-16"?>'),
    "overlong": headers(b"<RFC822.Subject>\xc0\xbc</RFC822.Subject>"),
    "surrogate": headers(b"<RFC822.Subject>\xed\xa0\x80</RFC822.Subject>"),
    "beyond Unicode": headers(b"<RFC822.Subject>\xf4\x90\x80\x80</RFC822.Subject>"),
    "Latin-1": headers(b"<RFC822.Subject>\xe4</RFC822.Subject>"),
    "cut": headers(b"<RFC822.Subject>\xe2\x82</RFC822.Subject>"),
    "NUL": headers(b"<RFC822.Subject>\x00</RFC822.Subject>"),
    "control": headers(b"<RFC822.Subject>\x1b</RFC822.Subject>"),
    "no character": headers(b"<RFC822.Subject>\xef\xbf\xbe</RFC822.Subject>"),
    "second declaration": headers(b'<?xml version="1.0"?>'),
    "blank in front": headers(before=b" "),
}


@pytest.mark.covers("SEC-128")
@pytest.mark.parametrize("name", ENCODINGS)
def test_everything_but_utf_8_is_refused(name: str) -> None:
    refused(ENCODINGS[name])


NOT_WELL_FORMED = [
    b"",
    b" ",
    b"headers",
    b"<",
    b"<>",
    b"</headers>",
    b"<headers",
    b"<headers>",
    b"<headers/",
    b"<headers/></headers>",
    b"<headers/><headers/>",
    b"<headers></Headers>",
    b"<headers><field></headers></field>",
    b"<headers a/>",
    b"<headers a=b/>",
    b"<headers a='b\"/>",
    b"<headers a='b'c='d'/>",
    b"<headers a='b' a='c'/>",
    b"<headers a='<'/>",
    b"<headers a='&'/>",
    b"<headers xmlns:a='x' xmlns:b='x' a:c='1' b:c='1'/>",
    b"<a:headers/>",
    b"<headers a:b='c'/>",
    b"<headers xmlns:xml='x'/>",
    b"<headers xmlns:a=''/>",
    b"<headers>]]></headers>",
    b"<headers><![CDATA[x]]></headers>",
    b"<headers><![CDATA[x</headers>",
    b"<headers><!-- x -- y --></headers>",
    b"<headers><!-- admin --></headers>",
    b"<headers><?pi?></headers>",
    b"<headers><?xml version='1.0'?></headers>",
    b"<?xml?><headers/>",
    b"<?xml version='1.0' encoding='utf-8' encoding='utf-8'?><headers/>",
    b"<?xml version='1.0' standalone='maybe'?><headers/>",
    b"<headers/>text",
    b"text<headers/>",
    b"<headers/>&amp;",
    b"<1headers/>",
    b"<-headers/>",
    b"< headers/>",
    b"<headers / >",
    b"<headers><field/ ></headers>",
    b"<headers>&#x;</headers>",
    b"<headers>&lt</headers>",
    b"<headers>\x00</headers>",
    b"<headers\x00/>",
    b"<headers a='\x01'/>",
    b"<!ENTITY a 'b'><headers/>",
    b"<%headers/>",
]  # fmt: skip


@pytest.mark.covers("SEC-129", "SEC-132")
@pytest.mark.parametrize("octets", NOT_WELL_FORMED, ids=repr)
def test_what_is_not_well_formed_is_refused_and_the_reader_goes_on(octets: bytes) -> None:
    refused(octets)
    refused(octets.replace(b"<headers", b'<headers xmlns="%b"' % HEADERS_NAMESPACE.encode(), 1))
    assert read_headers(headers()).values("subject") == ("hello",)


@pytest.mark.covers("SEC-125", "SEC-131", "SEC-133")
@pytest.mark.parametrize(
    "attack",
    [
        headers(b'<RFC822.Subject xml:id="a">x</RFC822.Subject>'),
        headers(b'<RFC822.Subject Id="a">x</RFC822.Subject>'),
        headers(b'<RFC822.Subject xml:space="preserve">x</RFC822.Subject>'),
        headers(b'<RFC822.Subject xmlns="urn:other">x</RFC822.Subject>'),
        headers(b'<RFC822.Subject xmlns="">x</RFC822.Subject>'),
        headers(b'<x:RFC822.Subject xmlns:x="urn:other">x</x:RFC822.Subject>'),
        headers(b"<RFC822.Subject>ad<b/>min</RFC822.Subject>"),
        headers(b"<headers/>"),
        headers(b'<field name="X"><field name="Y"/></field>'),
        headers(b"stray text"),
        envelope(b'<object part="body" type="cid:x" sha256="%b" length="1"/>' % (b"0" * 64)),
        envelope(b"<seal>a.b</seal>"),
        envelope(b"<seal>a.b.c <x/></seal>"),
        envelope(b"<Signature><Transform>document('x')</Transform></Signature>"),
        envelope(envelope()),
        envelope(b"<from/>"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(attack: bytes) -> None:
    refused(attack)


@pytest.mark.covers("SEC-137", "MT2-2")
def test_objects_are_listed_once_each_and_never_by_reference() -> None:
    one = b'<object part="%b" type="%b" sha256="' + b"0" * 64 + b'" length="1"/>'
    body, header = one % (b"body", b"message/body"), one % (b"headers", b"message/headers")
    assert len(read_envelope(envelope(header + body)).objects) == 2
    for wrong in (
        body * 2,
        body * 1_000,
        body + header,
        one % (b"body", b"cid:x"),
        body.replace(b"type", b"href"),
    ):
        refused(envelope(wrong))
