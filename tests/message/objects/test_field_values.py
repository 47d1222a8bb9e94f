"""What a field says, by rules that every reader can repeat (MT2-28a)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.message.objects.field_registry import Reading
from outrider.message.objects.field_values import field_value, line_text


@pytest.mark.covers("MT2-28a", "MT2-3")
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b" plain", "plain"),
        (b"\t a \t", "a"),
        (b" a\r\n b\r\n\tc", "a b\tc"),
        (b" a\r b\nc", "a\ufffd b\ufffdc"),
        (b" Gr\xc3\xbc\xc3\x9fe", "Grüße"),
        (b" \xc3\xbc caf\xe9", "\ufffd\ufffd caf\ufffd"),
        (b" \x00\x1b\x7f\xc2\x85", "\ufffd\ufffd\ufffd\ufffd"),
        (b" \xef\xbf\xbe", "\ufffd"),
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b" =?UTF-8*de?B?w6TDtsO8?=", "äöü"),
        (b" =?iso-8859-1?Q?a=E4_b?=", "aä b"),
        (b" =?us-ascii?q?a?= \r\n =?us-ascii?q?b?= c", "ab c"),
        (b" =?us-ascii?q?a?= x =?us-ascii?q?b?=", "a x b"),
        (b" =?us-ascii?q?_a_?=", " a "),
        (b" =?utf-8?q?=FF?=", "=?utf-8?q?=FF?="),
        (b" =?utf-8?q?=0?=", "=?utf-8?q?=0?="),
        (b" =?utf-8?b?YQ?=", "=?utf-8?b?YQ?="),
        (b" =?utf-8?b?YR==?=", "=?utf-8?b?YR==?="),
        (b" =?utf-8?q?=00?= =?utf-8?q?b?=", "=?utf-8?q?=00?= b"),
        (b" =?utf-8?q?a=0D=0Ab?=", "=?utf-8?q?a=0D=0Ab?="),
        (b" =?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "=?iso-2022-jp?b?GyRCRnxLXBsoQg==?="),
        (b" =?zip?b?YQ==?= =?rot13?q?a?=", "=?zip?b?YQ==?= =?rot13?q?a?="),
        (b" =?windows-1252?q?=81?=", "=?windows-1252?q?=81?="),
    ],
)
def test_text_fields(raw: bytes, said: str) -> None:
    assert field_value(raw, Reading.TEXT) == said


@pytest.mark.covers("MT2-28a", "MT2-3")
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe?= <a@b>", "Grüße <a@b>"),
        (b" =?utf-8?q?Ann=2C?= =?utf-8?q?_Bob?= <a@b>", '"Ann, Bob" <a@b>'),
        (b" =?utf-8?q?evil=40x=3E=2C?= <a@b>", '"evil@x>," <a@b>'),
        (b" =?utf-8?q?=22=5C?= <a@b>", '"\\"\\\\" <a@b>'),
        (b' "=?utf-8?q?a?=" <a@b>', '"=?utf-8?q?a?=" <a@b>'),
        (b" <=?utf-8?q?a?=@b>", "<=?utf-8?q?a?=@b>"),
        (b' "never closed =?utf-8?q?a?=', '"never closed =?utf-8?q?a?='),
        (b' "x\\" =?utf-8?q?a?= \\', '"x\\" =?utf-8?q?a?= \\'),
    ],
)
def test_decoding_never_changes_who_is_addressed(raw: bytes, said: str) -> None:
    assert field_value(raw, Reading.ADDRESSES) == said


def test_fields_for_machines_stay_as_they_are() -> None:
    assert field_value(b" =?utf-8?q?a?=\r\n b", Reading.EXACT) == "=?utf-8?q?a?= b"
    assert line_text(b" a =?utf-8?q?a?= \r") == " a =?utf-8?q?a?= \ufffd"


@pytest.mark.covers("MT2-28a")
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(Reading))
def test_a_value_is_always_text_that_xml_and_terminals_can_hold(raw: bytes, reading: Reading) -> None:
    value = field_value(raw, reading)
    assert all(character == "\t" or character >= " " for character in value)
    assert not set(value) & set(map(chr, (*range(0x7F, 0xA0), 0xFFFE, 0xFFFF)))
    value.encode("utf-8")
