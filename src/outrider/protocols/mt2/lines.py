"""Line frames: requests, responses and unsolicited responses, read and written (MT2-7).

::

    request     [tag VERB params (extension) ...]
    response    [tag OK|ERR|TMP result (extension) ... text]
    unsolicited [* OK|ERR|TMP result (extension) ... text]

Functions here work on what stands between the brackets; `frames` finds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from outrider.protocols.mt2.codes import MORE_RESULTS, Result, Word, text_of

MAX_LINE: Final = 8192
"""Octets of a line frame, brackets and CRLF included (MT2-7)."""
MAX_TAG: Final = 2**31 - 1
MAX_NUMBER: Final = 10
"""Digits of a size or a count."""
MAX_TRANSFER_ID: Final = 255
MAX_MEDIA_TYPE: Final = 127
MAX_OID: Final = 128

UNSOLICITED: Final = 0
"""The tag of a `Response` that answers no request; written ``*``."""


class MalformedLine(Exception):
    """Not a line of this grammar: answer ``[* ERR 99.0.5.1]`` and close. Its text is ours and names the
    fault."""


@dataclass(frozen=True, slots=True)
class Pair:
    """``key=value;value``; the key in capitals."""

    key: str
    values: tuple[str, ...]


Param = str | int | Pair
"""A word or quoted string; a number in braces; a key with its values."""


@dataclass(frozen=True, slots=True)
class Extension:
    """``(name params)``, ``(name=value;value params)``, and in a response ``(name params OK code text)``."""

    name: str
    """In capitals; an option's name or an extension's OID."""
    values: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    result: Result | None = None
    """What was said of it; only in responses, and itself without extensions."""

    def pair(self, key: str) -> tuple[str, ...]:
        """The values of ``key=...`` among the parameters; () without one."""
        return next((item.values for item in self.params if isinstance(item, Pair) and item.key == key), ())


@dataclass(frozen=True, slots=True)
class Request:
    tag: int
    verb: str
    """In capitals."""
    params: tuple[Param, ...] = ()
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    tag: int
    """`UNSOLICITED` for ``*``."""
    result: Result


def find(extensions: Iterable[Extension], name: str) -> Extension | None:
    """The first extension of a name (in capitals)."""
    return next((extension for extension in extensions if extension.name == name), None)


# -- reading -----------------------------------------------------------------------------------------

_ATOM: Final = rb"[!#-'*-:<>-Z^-z|~]"
"""Printable ASCII but for space ( ) [ ] { } " ; = and the backslash."""
_QUOTED: Final = rb'"(?:[^"\\\x00-\x1f\x7f]|\\["\\])*"'
_VALUE: Final = rb"(?:" + _ATOM + rb"+|" + _QUOTED + rb")"
_ITEM: Final = re.compile(
    rb"(?:(?P<atom>" + _ATOM + rb"+)(?:=(?P<values>" + _VALUE + rb"(?:;" + _VALUE + rb")*))?"
    rb"|(?P<quoted>" + _QUOTED + rb")"
    rb"|\{(?P<size>[0-9]{1,10})\})(?=[ )]|\Z)"
)
_ONE_VALUE: Final = re.compile(_VALUE)
_OID: Final = rb"(?:0|[1-9][0-9]{0,39})(?:\.(?:0|[1-9][0-9]{0,39})){2,}"
_HEAD: Final = re.compile(rb"(\*|[1-9][0-9]{0,9}) (" + _ATOM + rb"+)(?==| |\Z)")
_CODE: Final = re.compile(rb" (" + _OID + rb")(?=[ )]|\Z)")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_TEXT_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED: Final = re.compile(r"\\(.)")
_WORDS: Final = {word.value.encode(): word for word in Word}

XFER: Final = re.compile(
    rb"([1-9][0-9]{0,9}) XFER (?!(?:OK|ERR|TMP) )(" + _ATOM + rb"{1,255})"
    rb" (?!(?:OK|ERR|TMP) )(" + _ATOM + rb"{1,127})"
    rb" \{([0-9]{1,10})\} \{([0-9]{1,10})\}"
)
"""The usual XFER, read at one stroke: tag, transfer id, type, size, fragments to come."""
PLAIN_RESPONSE: Final = re.compile(
    rb"([1-9][0-9]{0,9}) (OK|ERR|TMP) (99\.0\.[2-5]\.(?:0|[1-9][0-9]{0,2}))(?: ([ -'*-~][ -~]*)?)?"
)
"""The usual response, without extensions: tag, word, code, text."""


def parse_line(line: bytes) -> Request | Response:
    """What stands between ``[`` and ``]``.

    Raises `MalformedLine`.
    """
    head = _HEAD.match(line)
    if head is None:
        raise MalformedLine("no tag and verb")
    if _CONTROL.search(line):
        raise MalformedLine("a control character")
    tag = UNSOLICITED if head[1] == b"*" else int(head[1])
    if tag > MAX_TAG:
        raise MalformedLine("a tag out of range")
    name = head[2]
    if name in _WORDS:
        return _response(tag, _WORDS[name], line, head.end())
    if name.upper() in _WORDS or tag == UNSOLICITED:
        raise MalformedLine("a reserved word where none may stand")
    return _request(tag, head, line)


def _request(tag: int, head: re.Match[bytes], line: bytes) -> Request:
    # The verb may itself be ``KEY=value`` (the slides' ``ABOR=3``): then it is its own first parameter.
    params, position = _items(line, head.start(2))
    if isinstance(params[0], Pair):
        verb = params[0].key
    else:
        verb = head[2].decode("ascii").upper()
        params = params[1:]
    extensions, position = _extensions(line, position, in_response=False)
    if position != len(line):
        raise MalformedLine("parameters behind an extension, or a space too many")
    return Request(tag, verb, tuple(params), extensions)


def _response(tag: int, word: Word, line: bytes, position: int) -> Response:
    code, position = _code(line, position)
    extensions, position = _extensions(line, position, in_response=True)
    return Response(tag, Result(word, code, _text(line[position:]), extensions))


def _code(line: bytes, position: int) -> tuple[str, int]:
    match = _CODE.match(line, position)
    if match is None or match.end(1) - match.start(1) > MAX_OID:
        raise MalformedLine("no result code behind the response word")
    return match[1].decode("ascii"), match.end()


def _text(octets: bytes) -> str:
    if octets and octets[:1] != b" ":
        raise MalformedLine("no space before the text")
    return _decode(octets[1:])


def _decode(octets: bytes) -> str:
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedLine("octets that are no UTF-8") from None
    if not octets.isascii() and _TEXT_CONTROL.search(text):
        raise MalformedLine("a control character")
    return text


def _items(line: bytes, position: int) -> tuple[list[Param], int]:
    """Items with one space between them, up to an extension, a closing parenthesis or the end."""
    items: list[Param] = []
    while True:
        match = _ITEM.match(line, position)
        if match is None:
            raise MalformedLine("a parameter of no known form")
        items.append(_param(match))
        position = match.end()
        if line[position : position + 1] != b" " or line[position + 1 : position + 2] in (b"(", b""):
            return items, position
        position += 1


def _param(match: re.Match[bytes]) -> Param:
    if match["size"] is not None:
        return int(match["size"])
    if match["quoted"] is not None:
        return _value(match["quoted"])
    atom = match["atom"]
    if match["values"] is None:
        if atom in _WORDS:
            raise MalformedLine("a reserved word where none may stand")
        return atom.decode("ascii")
    return Pair(atom.decode("ascii").upper(), tuple(map(_value, _ONE_VALUE.findall(match["values"]))))


def _value(octets: bytes) -> str:
    if octets[:1] != b'"':
        return octets.decode("ascii")
    text = _decode(octets[1:-1])
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _extensions(line: bytes, position: int, *, in_response: bool) -> tuple[tuple[Extension, ...], int]:
    found: list[Extension] = []
    while line.startswith(b" (", position):
        extension, position = _extension(line, position + 2, in_response=in_response)
        found.append(extension)
    return tuple(found), position


def _extension(line: bytes, position: int, *, in_response: bool) -> tuple[Extension, int]:
    """One extension, from behind its parenthesis to behind its other one."""
    items: list[Param] = []
    result: Result | None = None
    while True:
        match = _ITEM.match(line, position)
        if match is None:
            raise MalformedLine("an extension of no known form")
        if not items and match["atom"] is None:
            raise MalformedLine("an extension without a name")
        position = match.end()
        if in_response and items and match["values"] is None and match["atom"] in _WORDS:
            result, position = _extension_result(_WORDS[match["atom"]], line, position)
        else:
            items.append(_param(match))
        if line[position : position + 1] == b")":
            break
        if line[position : position + 1] != b" ":
            raise MalformedLine("an extension without its end")
        position += 1
    return _as_extension(items, result), position + 1


def _extension_result(word: Word, line: bytes, position: int) -> tuple[Result, int]:
    code, position = _code(line, position)
    end = line.find(b")", position)
    if end < 0 or b"(" in line[position:end]:
        raise MalformedLine("an extension without its end")
    return Result(word, code, _text(line[position:end])), end


def _as_extension(items: Sequence[Param], result: Result | None) -> Extension:
    first, params = items[0], tuple(items[1:])
    if isinstance(first, Pair):
        return Extension(first.key, first.values, params, result)
    return Extension(str(first).upper(), (), params, result)


# -- writing -----------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"[!#-'*-:<>-Z^-z|~]+")


def format_value(text: str) -> str:
    """As a bare word where it is one, quoted otherwise.

    Raises `ValueError` for control characters: there is no way to write them.
    """
    if _PLAIN.fullmatch(text) and text.upper() not in ("OK", "ERR", "TMP"):
        return text
    if _TEXT_CONTROL.search(text):
        raise ValueError("a control character in a value")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def format_param(param: Param) -> str:
    if isinstance(param, int):
        return f"{{{param}}}"
    if isinstance(param, str):
        return format_value(param)
    return f"{param.key}={';'.join(map(format_value, param.values))}"


def format_extension(extension: Extension) -> str:
    """With its parentheses."""
    head = extension.name
    if extension.values:
        head += "=" + ";".join(map(format_value, extension.values))
    parts = [head, *map(format_param, extension.params)]
    if extension.result is not None:
        said = extension.result
        text = _clean(said.text or text_of(said.code)).replace("(", "<").replace(")", ">")
        parts += [said.word.value, said.code, *([text] if text else [])]
    return f"({' '.join(parts)})"


def format_request(request: Request) -> bytes:
    """The whole frame.

    Raises `ValueError` when it is longer than `MAX_LINE`, or holds what cannot be written.
    """
    parts = [str(request.tag), request.verb, *map(format_param, request.params)]
    parts += map(format_extension, request.extensions)
    frame = f"[{' '.join(parts)}]\r\n".encode()
    if len(frame) > MAX_LINE:
        raise ValueError("a request longer than a line may be")
    return frame


def format_response(tag: int, result: Result) -> bytes:
    """The whole frame; or several, when its extensions are many: those before the last say `MORE_RESULTS`.

    Raises `ValueError` when one extension alone is longer than a line may be.
    """
    name = str(tag) if tag else "*"
    text = _clean(result.text or text_of(result.code))[:500]
    last = f"{name} {result.word.value} {result.code}"
    tail = (f" {'<' + text[1:] if text[0] == '(' else text}" if text else "") + "]\r\n"
    room = MAX_LINE - len(last) - 4 * len(tail) - 16
    *before, final = _portions(list(map(format_extension, result.extensions)), room)
    frames = [f"[{name} TMP {MORE_RESULTS}{portion}]\r\n" for portion in before]
    return "".join([*frames, f"[{last}{final}{tail}"]).encode()


def _portions(extensions: Sequence[str], room: int) -> Iterator[str]:
    """The extensions, each with a space before it, in runs of at most `room` octets; at least one run."""
    run: list[str] = []
    used = 0
    for extension in extensions:
        size = len(extension.encode()) + 1
        if size > room:
            raise ValueError("an extension longer than a line may be")
        if used + size > room:
            yield "".join(run)
            run, used = [], 0
        run.append(" " + extension)
        used += size
    yield "".join(run)


def _clean(text: str) -> str:
    return _TEXT_CONTROL.sub(" ", text) if not text.isascii() or not text.isprintable() else text
