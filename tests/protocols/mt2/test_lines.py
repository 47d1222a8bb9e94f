"""The grammar of line frames (MT2-7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import ROWS, TABLE, Result, Word, code_class, err, ok, status_of
from outrider.protocols.mt2.lines import (
    MAX_LINE,
    PLAIN_RESPONSE,
    XFER,
    Extension,
    MalformedLine,
    Pair,
    Request,
    Response,
    format_request,
    format_response,
    parse_line,
)

TEXT = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=30)
ATOM = st.text("abcXYZ019@./+-_", min_size=1, max_size=12)  # none of the three words can be made of these
PARAM = st.one_of(
    TEXT,
    st.integers(0, 10**10 - 1),
    st.builds(Pair, ATOM.map(str.upper), st.lists(TEXT, min_size=1, max_size=3).map(tuple)),
)
OID = st.lists(st.integers(0, 2**64), min_size=3, max_size=5).map(lambda arcs: ".".join(map(str, arcs)))
SAID = st.builds(Result, st.sampled_from(Word), OID, TEXT.filter(lambda text: not set(text) & set("()")))
NAME = ATOM.map(str.upper)
EXTENSION = st.builds(
    Extension, NAME, st.lists(TEXT, max_size=2).map(tuple), st.lists(PARAM, max_size=2).map(tuple), st.none()
)


@pytest.mark.covers("MT2-7")
@given(
    tag=st.integers(1, 2**31 - 1),
    verb=st.sampled_from(["HELO", "XFER", "HINT"]),
    params=st.lists(PARAM, max_size=4).map(tuple),
    extensions=st.lists(EXTENSION, max_size=3).map(tuple),
)
def test_a_request_reads_as_it_was_written(
    tag: int, verb: str, params: tuple[str | int | Pair, ...], extensions: tuple[Extension, ...]
) -> None:
    request = Request(tag, verb, params, extensions)
    frame = format_request(request)
    assert frame[:1] + frame[-3:] == b"[]\r\n"
    assert parse_line(frame[1:-3]) == request


@pytest.mark.covers("MT2-7", "MT2-8")
@given(
    tag=st.integers(0, 2**31 - 1),
    word=st.sampled_from(Word),
    code=OID,
    said=st.lists(st.tuples(EXTENSION, st.none() | SAID), max_size=3),
    text=TEXT,
)
def test_a_response_reads_as_it_was_written(
    tag: int, word: Word, code: str, said: list[tuple[Extension, Result | None]], text: str
) -> None:
    extensions = tuple(
        Extension(extension.name, extension.values, extension.params, result) for extension, result in said
    )
    text = text.lstrip("(")
    result = Result(word, code, text, extensions)
    assert parse_line(format_response(tag, result)[1:-3]) == Response(tag, result)


@pytest.mark.covers("MT2-7")
@given(
    st.text('[]{}()";=\\ 019aOKERTMPXF*.é\x00\t', max_size=40),
    st.sampled_from(["", "1 XFER a b {5} {0}", "7 OK 99.0.2.1 Done.", "3 OPT (A=B;C)"]),
    st.integers(0, 20),
)
def test_any_line_is_read_or_malformed(noise: str, line: str, at: int) -> None:
    octets = (line[:at] + noise + line[at:]).encode()
    try:
        parsed = parse_line(octets)
    except MalformedLine:
        parsed = None
    match = XFER.fullmatch(octets)
    if match is not None and int(match[1]) < 2**31:  # read at one stroke, it reads as by the grammar
        params = (match[2].decode(), match[3].decode(), int(match[4]), int(match[5]))
        assert parsed == Request(int(match[1]), "XFER", params)
    match = PLAIN_RESPONSE.fullmatch(octets)
    if match is not None and int(match[1]) < 2**31:
        result = Result(Word(match[2].decode()), match[3].decode(), (match[4] or b"").decode())
        assert parsed == Response(int(match[1]), result)


@pytest.mark.covers("MT2-7")
def test_both_spellings_of_a_verb_with_its_parameter() -> None:
    assert parse_line(b"4 ABOR 3") == Request(4, "ABOR", ("3",))
    assert parse_line(b"4 abor=3") == Request(4, "ABOR", (Pair("ABOR", ("3",)),))


@pytest.mark.covers("MT2-7", "MT2-16")
def test_an_answer_with_many_extensions_comes_in_several_lines() -> None:
    extensions = [Extension("RCPT", (str(n),), result=err(codes.UNKNOWN_RECIPIENT)) for n in range(1, 1001)]
    octets = format_response(7, ok(codes.ENVELOPE_ACCEPTED, *extensions))
    lines = octets.split(b"\r\n")[:-1]
    assert all(len(line) + 2 <= MAX_LINE for line in lines)
    parsed = [parse_line(line[1:-1]) for line in lines]
    said = [item for line in parsed if isinstance(line, Response) for item in line.result.extensions]
    assert [item.values for item in said] == [(str(n),) for n in range(1, 1001)]
    words = [(line.result.word, line.result.code) for line in parsed if isinstance(line, Response)]
    assert set(words[:-1]) == {(Word.TMP, codes.MORE_RESULTS)}
    assert words[-1] == (Word.OK, codes.ENVELOPE_ACCEPTED)


@pytest.mark.covers("MT2-7")
def test_what_cannot_be_written_is_our_own_fault() -> None:
    with pytest.raises(ValueError, match="control"):
        format_request(Request(1, "STAT", ("a\r\nb",)))
    with pytest.raises(ValueError, match="longer"):
        format_request(Request(1, "STAT", ("a" * 9000,)))
    with pytest.raises(ValueError, match="longer"):
        format_response(1, ok(codes.DONE, Extension("A", ("b" * 9000,))))
    assert format_response(1, ok(codes.DONE, text="(a\r\nb")) == b"[1 OK 99.0.2.0 <a  b]\r\n"


@pytest.mark.covers("MT2-8")
def test_every_code_is_one_of_the_table() -> None:
    assert len(ROWS) == len(TABLE)
    named = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    named -= {codes.CORE_BRANCH, codes.STAT_BRANCH}
    assert named == set(ROWS)
    assert {code_class(row.code) for row in TABLE} == {2, 3, 4, 5}


@pytest.mark.covers("MT2-8")
def test_the_status_of_a_result() -> None:
    assert status_of(err(codes.UNKNOWN_RECIPIENT)) == "5.1.1"
    assert status_of(err(codes.UNKNOWN_RECIPIENT, Extension("STATUS", ("5.1.6",)))) == "5.1.6"
    assert status_of(err("2.25.7.4.9")) == "4.0.0"
    assert status_of(err("1.2.3")) == "4.0.0"  # nothing known of it: mail waits
    assert err("2.25.7.4.9").is_transient
    assert not err("2.25.7.5.9").is_transient
