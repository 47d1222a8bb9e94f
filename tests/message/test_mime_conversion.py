"""8-bit, binary and long-lined content encoded anew: the library parser must find every part as it was."""

from __future__ import annotations

import email
import email.policy
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.message.mime_conversion import (
    MAX_DEPTH,
    MAX_PARTS,
    CannotConvert,
    Converted,
    encode_for_transport,
)
from outrider.model.content import split_content
from outrider.wire.line_ends import has_stray_octets

GREETING = "Grüße aus der Ferne, und noch etwas mehr Text dazu".encode()


def convert(message: bytes, *, eight_bit: bool = False) -> bytes:
    headers, body = split_content(message)
    made = encode_for_transport(headers, body, eight_bit=eight_bit)
    assert isinstance(made, Converted), made
    whole = made.headers + made.body
    assert split_content(whole) == (made.headers, made.body)
    assert eight_bit or whole.isascii()
    assert not has_stray_octets(whole)
    assert all(len(line) <= 998 for line in whole.split(b"\r\n"))
    return whole


def refusal(message: bytes) -> str:
    made = encode_for_transport(*split_content(message))
    assert isinstance(made, CannotConvert)
    return made.reason


def leaves(message: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every part, by the standard library."""
    found: list[tuple[str, bytes]] = []

    def walk(part: Message) -> None:
        payload = part.get_payload()
        if isinstance(payload, list):
            for inner in payload:
                assert isinstance(inner, Message)
                walk(inner)
            return
        # Text is what stands between the lines of boundaries, whatever the library makes of line ends.
        decoded = part.get_payload(decode=True)
        assert isinstance(decoded, bytes)
        found.append((part.get_content_type(), decoded))

    walk(email.message_from_bytes(message, policy=email.policy.compat32))
    return found


def part(content: bytes, *fields: bytes) -> bytes:
    return b"".join(field + b"\r\n" for field in fields) + b"\r\n" + content


def multipart(kind: bytes, boundary: bytes, *parts: bytes) -> bytes:
    head = part(b"", b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"')
    inner = b"".join(b"--" + boundary + b"\r\n" + one + b"\r\n" for one in parts)
    return head + inner + b"--" + boundary + b"--\r\n"


TEXT = b"Content-Type: text/plain; charset=utf-8"
HTML = b"Content-Type: text/html; charset=utf-8"
BINARY = b"Content-Type: image/png"
INLINE = b"Content-Disposition: inline"
EIGHT_BIT = b"Content-Transfer-Encoding: 8bit"


class TestExamples:
    @pytest.mark.covers("SMTP-3", "SEC-28")
    def test_text_becomes_quoted_printable(self) -> None:
        made = convert(
            part(GREETING + b"\r\n", b"MIME-Version: 1.0", TEXT, b"Content-Transfer-Encoding: 8bit")
        )
        assert b"Content-Transfer-Encoding: quoted-printable\r\n" in made
        assert made.count(b"Content-Transfer-Encoding") == 1
        assert b"Gr=C3=BC=C3=9Fe aus" in made
        assert leaves(made) == [("text/plain", GREETING + b"\r\n")]

    def test_other_types_become_base64(self) -> None:
        octets = bytes(range(256)) * 20
        made = convert(part(octets, BINARY))
        assert b"base64" in made
        assert leaves(made) == [("image/png", octets)]

    def test_text_from_before_mime(self) -> None:
        made = convert(part(GREETING, b"Subject: x"))
        assert b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n" in made
        assert leaves(made) == [("text/plain", GREETING)]

    def test_only_the_parts_that_need_it_change(self) -> None:
        plain = part(b"plain = as =3D it is\r\n", b"Content-Type: text/plain", b"X-Odd:yes")
        html = part(b"<b>" + GREETING, HTML, INLINE)
        message = multipart(b"mixed", b"b1", plain, html)
        made = convert(message)
        assert plain in made
        assert b"Content-Disposition: inline\r\n" in made
        assert leaves(made) == [("text/plain", b"plain = as =3D it is\r\n"), ("text/html", b"<b>" + GREETING)]

    def test_nested_messages_and_multiparts(self) -> None:
        inner = b"Content-Type: message/rfc822\r\n\r\n" + part(
            GREETING, b"Subject: inner", b"MIME-Version: 1.0", TEXT
        )
        deeper = multipart(b"alternative", b"b2", part(GREETING, TEXT), part(b"plain", TEXT))
        made = convert(multipart(b"mixed", b"b1", inner, deeper, part(b"\xff\0", BINARY)))
        assert [content for _, content in leaves(made)] == [GREETING, GREETING, b"plain", b"\xff\0"]

    def test_containers_are_labelled_anew(self) -> None:
        message = b"Content-Transfer-Encoding: 8bit\r\n" + multipart(b"mixed", b"b", part(GREETING, TEXT))
        assert b"Content-Transfer-Encoding: 7bit\r\n" in convert(message)
        message = b"Content-Transfer-Encoding: binary\r\n" + multipart(b"mixed", b"b", part(b"a\nb", TEXT))
        assert b"Content-Transfer-Encoding: 8bit\r\n" in convert(message, eight_bit=True)

    def test_digest_parts_are_messages(self) -> None:
        message = multipart(b"digest", b"b", b"\r\n" + part(GREETING, b"Subject: inner"))
        made = convert(message)
        assert b"Subject: inner" in made
        assert leaves(made) == [("text/plain", GREETING)]

    @pytest.mark.covers("SEC-29")
    def test_long_lines(self) -> None:
        text = b"word " * 1000 + b"\r\n.dot\r\nFrom me\r\n"
        made = convert(part(text, TEXT), eight_bit=True)
        assert leaves(made) == [("text/plain", text)]
        encoded = b"QUJD" * 1000
        made = convert(part(encoded, BINARY, b"Content-Transfer-Encoding: base64"))
        assert leaves(made) == [("image/png", b"ABC" * 1000)]
        quoted = b"=41" * 1000
        made = convert(part(quoted, TEXT, b"Content-Transfer-Encoding: Quoted-Printable"))
        assert leaves(made) == [("text/plain", b"A" * 1000)]

    def test_eight_bit_stays_where_it_may(self) -> None:
        message = multipart(b"mixed", b"b", part(GREETING, TEXT), part(b"\xff" * 1000, BINARY))
        made = convert(message, eight_bit=True)
        assert GREETING in made
        assert b"\xff" not in made

    def test_long_header_lines_are_folded(self) -> None:
        references = b"References: " + b" ".join(b"<%d@x.example>" % n for n in range(200))
        made = convert(part(GREETING, references, b"Subject: x"))
        assert email.message_from_bytes(made)["References"].replace("\r\n", "") == references[12:].decode()

    def test_binary_text_keeps_its_line_ends(self) -> None:
        made = convert(part(b"a\nb\rc\0d", TEXT), eight_bit=True)
        assert leaves(made) == [("text/plain", b"a\nb\rc\0d")]

    @pytest.mark.parametrize("tail", [b"", b"\r\n", b"epilogue\r\n", b"\r\n\r\n"])
    @pytest.mark.parametrize("preamble", [b"", b"preamble\r\n", b"--other\r\n"])
    def test_text_around_the_parts_stays(self, preamble: bytes, tail: bytes) -> None:
        head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        message = head + preamble + b"--b  \r\n" + part(GREETING, TEXT) + b"\r\n--b--\t" + tail
        made = convert(message)
        new_head = b"Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n"
        assert made.startswith(new_head + preamble)
        assert made.endswith(b"\r\n--b--\t" + tail)

    def test_an_empty_part_and_one_without_body(self) -> None:
        message = multipart(b"mixed", b"b", b"", b"Content-Type: text/x\r\n", b"\r\n", part(GREETING, TEXT))
        assert leaves(convert(message))[-1] == ("text/plain", GREETING)


SIGNATURE = part(b"sig", b"Content-Type: application/pgp-signature")
SIGNED = multipart(b"signed", b"s", part(GREETING, TEXT), SIGNATURE)
SIGNED_INSIDE = b"Content-Type: message/rfc822\r\n\r\n" + part(GREETING, b"DKIM-Signature: v=1")
LONG = b"x" * 2000


class TestImpossible:
    @pytest.mark.covers("SMTP-3")
    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (part(GREETING, b"DKIM-Signature: v=1"), "signed"),
            (part(GREETING, b"ARC-Seal: i=1"), "signed"),
            (SIGNED, "signed"),
            (multipart(b"encrypted", b"s", part(GREETING)), "signed or encrypted"),
            (part(GREETING, b"Content-Type: application/pkcs7-mime"), "signed"),
            (multipart(b"mixed", b"b", SIGNED), "signed"),
            (multipart(b"mixed", b"b", part(LONG, b"Content-Type: application/pkcs7-mime")), "signed"),
            (multipart(b"mixed", b"b", SIGNED_INSIDE), "signed"),
            (part(b"x", b"Subject: gr\xfc\xdfe"), "header fields"),
            (
                multipart(b"mixed", b"b", part(b"x", b"Content-Disposition: x; filename=\xff")),
                "header fields",
            ),
            (part(LONG, b"X-Long: " + LONG), "cannot be folded"),
            (part(GREETING, TEXT, b"Content-Transfer-Encoding: base64"), "not in the encoding"),
            (part(GREETING, TEXT, b"Content-Transfer-Encoding: quoted-printable"), "not in the encoding"),
            (part(b"*" * 1000, TEXT, b"Content-Transfer-Encoding: base64"), "not in the encoding"),
            (part(LONG, TEXT, b"Content-Transfer-Encoding: x-uuencode"), "unknown transfer encoding"),
            (part(GREETING, TEXT, TEXT), "two content-type"),
            (part(GREETING, b"Content-Type: multipart/mixed"), "may not be encoded"),
            (part(GREETING, b"Content-Type: message/partial; id=x"), "may not be encoded"),
            (multipart(b"mixed", b"b", part(b"x")) + GREETING, "outside of the parts"),
            (multipart(b"mixed", b"b", multipart(b"mixed", b"b", part(GREETING))), "uses the boundary"),
            (b"Content-Type: multipart/mixed; boundary=" + b"b" * 300 + b"\r\n\r\n" + GREETING, "may not be"),
        ],
    )
    def test_reasons(self, message: bytes, reason: str) -> None:
        assert reason in refusal(message)

    def test_signed_parts_beside_others_stay_untouched(self) -> None:
        signed = SIGNED.replace(GREETING, b"plain text")
        nested = b"Content-Type: message/rfc822\r\n\r\n" + part(b"plain", b"DKIM-Signature: v=1", TEXT)
        made = convert(multipart(b"mixed", b"b", signed, part(GREETING, TEXT), nested))
        assert signed in made
        assert nested in made
        assert b"=C3" in made


class TestHostile:
    @pytest.mark.covers("SEC-112")
    @pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH + 1, 1000])
    def test_nesting(self, depth: int) -> None:
        message = part(GREETING, TEXT)
        for number in range(depth):
            message = multipart(b"mixed", b"b%d" % number, message)
        if depth < MAX_DEPTH:
            assert leaves(convert(message))[0][1].startswith(GREETING[:3])
        else:
            assert "nested" in refusal(message)
        message = b"Content-Type: message/rfc822\r\n\r\n" * depth + part(GREETING)
        if depth < MAX_DEPTH:
            convert(message)
        else:
            assert "nested" in refusal(message)

    @pytest.mark.covers("SEC-113")
    @pytest.mark.parametrize(
        "body",
        [
            b"--b\r\n" * 1_000_000,
            b"--b\r\n\r\n" * (MAX_PARTS + 1),
            b"--b\r\n" + b"X: y\r\n" * 1_000_000,
            b"--c\r\n" * 1_000_000 + GREETING,
            b"--b" + b" " * 3_000_000 + b"x\r\n" + GREETING,
            (b"--b\r\n" + b"X: y\r\n" * 100) * 9_000 + GREETING,
        ],
    )
    def test_many_and_odd_parts_take_linear_time(self, body: bytes) -> None:
        """Quadratic would be hours."""
        encode_for_transport(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", body)

    @pytest.mark.covers("SEC-113")
    def test_boundaries_with_special_characters(self) -> None:
        for boundary in (b".*", b"(a|b)+", b"a b", b"=_?:/"):
            message = multipart(b"mixed", boundary, part(GREETING, TEXT), part(b"x", TEXT))
            assert [content for _, content in leaves(convert(message))] == [GREETING, b"x"]

    def test_header_fields_that_take_time_elsewhere(self) -> None:
        odd = (b"text/plain" + b";" * 500_000, b"(" * 500_000, b"multipart/x;" + b' a="\\' * 100_000)
        for value in odd:
            encode_for_transport(b"Content-Type: " + value + b"\r\n\r\n", GREETING)

    @settings(max_examples=300)
    @given(
        st.lists(
            st.sampled_from(
                [b"--b", b"--b--", b"--c", b"\r\n", b"\r\n\r\n", b"\n", b"\0", b"Content-Type: ",
                 b"text/plain",
                 b"multipart/mixed; boundary=b", b"multipart/mixed; boundary=c", b"message/rfc822", b"\xff",
                 b"Content-Transfer-Encoding: base64", b"QUI=", b"=41", b": ", b"x" * 999, b" "]
            ),
            max_size=40,
        ).map(b"".join),
        st.booleans(),
    )  # fmt: skip
    def test_anything_is_converted_cleanly_or_refused(self, message: bytes, eight_bit: bool) -> None:
        made = encode_for_transport(*split_content(message), eight_bit=eight_bit)
        if isinstance(made, Converted):
            whole = made.headers + made.body
            assert eight_bit or whole.isascii()
            assert not has_stray_octets(whole)
            assert all(len(line) <= 998 for line in whole.split(b"\r\n"))


LINES = st.text(alphabet="ab .=_-é€\t", max_size=120).map(lambda line: line.encode())
TEXTS = st.lists(LINES, max_size=8).map(b"\r\n".join)
LEAVES = st.one_of(
    TEXTS.map(lambda text: ("text/plain", text)),
    st.binary(max_size=300).map(lambda octets: ("image/png", octets)),
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=8)


def build(tree: object, number: list[int]) -> bytes:
    if isinstance(tree, tuple):
        kind, octets = tree
        return part(octets, b"Content-Type: " + kind.encode())
    number[0] += 1
    boundary = b"=_boundary%d" % number[0]
    assert isinstance(tree, list)
    return multipart(b"mixed", boundary, *(build(one, number) for one in tree))


def flat(tree: object) -> list[tuple[str, bytes]]:
    if isinstance(tree, tuple):
        return [tree]
    assert isinstance(tree, list)
    return [leaf for one in tree for leaf in flat(one)]


@pytest.mark.covers("SMTP-3", "SEC-28")
@settings(max_examples=200)
@given(
    st.recursive(LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=8), st.booleans()
)
def test_decoded_every_part_is_what_it_was(tree: object, eight_bit: bool) -> None:
    made = convert(b"MIME-Version: 1.0\r\n" + build(tree, [0]), eight_bit=eight_bit)
    found = leaves(made)
    expected = flat(tree)
    assert [kind for kind, _ in found] == [kind for kind, _ in expected]
    for (_, decoded), (_, original) in zip(found, expected, strict=True):
        # The library takes an empty line off the end of some unencoded parts.
        assert decoded == original or decoded == original.removesuffix(b"\r\n")
