"""From the text of `outrider.toml` to a frozen `Config`, or to all its faults.

Relative paths in the file are taken from the file's own folder, so that a server can be started
from anywhere. Partners may stand in files of their own, one each, in the partner folder: `load` adds them
to the configuration, and their faults name their own lines.
"""

from __future__ import annotations

import difflib
import re
import threading
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from outrider.config.problems import ConfigError, Problem
from outrider.config.schema import Config, Partner
from outrider.config.source_map import Path as KeyPath
from outrider.config.source_map import SourceMap

S = TypeVar("S", bound=msgspec.Struct)

_ONE_AT_A_TIME = threading.Lock()
"""msgspec 0.22 crashes the process when two threads convert to a type that it has not seen before."""

_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_AT = re.compile(r" - at `.*`$")

PARTNER_FOLDER = "partners"
"""Beside the configuration; used if it is there."""
MAX_PARTNERS = 10_000
_PARTNER_FILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\.toml")

MAX_FILE_OCTETS = 8 * 1024 * 1024
"""Far above any real configuration; keeps a wrong path (a disk image, a log) from being read whole."""


@dataclass(frozen=True, slots=True)
class Part:
    """A further file that is a part of the configuration."""

    key: KeyPath
    """The table that it fills."""
    path: Path
    source: SourceMap


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with the place of each of its keys."""

    config: Config
    path: Path
    source: SourceMap
    parts: tuple[Part, ...] = ()

    def problem(self, key: KeyPath, fault: str, remedy: str = "") -> Problem:
        """A fault found later, placed at its line."""
        for part in self.parts:
            if key[: len(part.key)] == part.key:
                below = key[len(part.key) :]
                line = part.source.line(below) or 1  # the file is the table
                return Problem(str(part.path), line, key_text(below), fault, remedy)
        return Problem(str(self.path), self.source.line(key), key_text(key), fault, remedy)

    def problem_from(self, text: str) -> Problem:
        """A fault that another room put as ``key: what; remedy``, placed at its key's line."""
        key, _, rest = text.partition(": ")
        path = parse_key_text(key)
        if not rest or path is None:
            return Problem(str(self.path), 0, "", text)
        return self.problem(path, rest)

    def resolve(self, name: str) -> Path:
        """A path from the file, relative to the file's folder."""
        return (self.path.parent / Path(name).expanduser()).resolve()


def load(path: Path) -> Loaded:
    """Read and check a configuration's syntax, keys and types, with its partner files.

    Raises ConfigError with every problem found.
    """
    return _with_partners(parse(_read(path), path))


def _with_partners(loaded: Loaded) -> Loaded:
    """The same with what stands in the partner folder. Raises ConfigError."""
    partners = dict(loaded.config.partners)
    parts: list[Part] = []
    problems: list[Problem] = []
    for path in _partner_files(loaded):
        try:
            partner, source = load_as(Partner, path)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        if path.stem in partners:
            problems.append(Problem(str(path), 0, "", "the configuration has this partner too", "keep one"))
        ca = tuple(str(path.parent / Path(name).expanduser()) for name in partner.ca)
        partners[path.stem] = msgspec.structs.replace(partner, ca=ca)
        parts.append(Part(("partners", path.stem), path, source))
    if problems:
        raise ConfigError(problems)
    config = msgspec.structs.replace(loaded.config, partners=partners)
    return Loaded(config, loaded.path, loaded.source, tuple(parts))


def _partner_files(loaded: Loaded) -> list[Path]:
    folder = loaded.resolve(loaded.config.partner_folder or PARTNER_FOLDER)
    if not loaded.config.partner_folder and not folder.is_dir():
        return []
    try:
        found = sorted(path for path in folder.iterdir() if _PARTNER_FILE.fullmatch(path.name))
    except OSError as error:
        fault, remedy = f"{folder}: {error.strerror}", "create it, or remove the key"
        raise ConfigError([loaded.problem(("partner_folder",), fault, remedy)]) from None
    if len(found) > MAX_PARTNERS:
        raise ConfigError([loaded.problem(("partner_folder",), f"{folder} has over {MAX_PARTNERS} files")])
    return found


def parse(text: str, path: Path) -> Loaded:
    """As :func:`load`, from text at hand. Raises ConfigError."""
    config, source = parse_as(Config, text, path)
    return Loaded(config, path, source)


def load_as(kind: type[S], path: Path) -> tuple[S, SourceMap]:
    """One of the further files that a configuration names, as `kind`, with its lines. Raises ConfigError."""
    return parse_as(kind, _read(path), path)


def parse_as(kind: type[S], text: str, path: Path) -> tuple[S, SourceMap]:
    """The text as `kind`, with its lines. Raises ConfigError with every problem found."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(error, path)]) from error
    source = SourceMap(text)
    try:
        with _ONE_AT_A_TIME:
            return msgspec.convert(data, kind), source
    except msgspec.ValidationError as error:
        problems = [
            Problem(str(path), source.line(key), key_text(key), fault, remedy)
            for key, fault, remedy in _faults(data, kind, ())
        ]
        raise ConfigError(problems or [Problem(str(path), 0, "", str(error))]) from error


def key_text(key: KeyPath) -> str:
    """``listeners[0].port``: how a key is named to people."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
            text += f".{name}" if text else name
    return text


_KEY_TEXT = re.compile(r'(?:^|\.)([A-Za-z0-9_-]+|"[^"]*")|\[(\d+)\]')


def parse_key_text(text: str) -> KeyPath | None:
    """The path that :func:`key_text` wrote; None when the text is not one."""
    path: list[str | int] = []
    end = 0
    for match in _KEY_TEXT.finditer(text):
        if match.start() != end:
            return None
        path.append(int(match[2]) if match[2] else match[1].strip('"'))
        end = match.end()
    return tuple(path) if path and end == len(text) else None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_OCTETS:
            raise ConfigError([Problem(str(path), 0, "", "larger than 8 MiB", "is this the right file?")])
        return path.read_text("utf-8")
    except FileNotFoundError:
        remedy = "give the right path with --config"
        raise ConfigError([Problem(str(path), 0, "", "no such file", remedy)]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), 0, "", "not UTF-8", "save the file as UTF-8")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, "", error.strerror or str(error))]) from None


def _syntax_problem(error: tomllib.TOMLDecodeError, path: Path) -> Problem:
    text = str(error)
    place = _TOML_PLACE.search(text)
    line = int(place[1]) if place else 0
    return Problem(str(path), line, "", f"not TOML: {_TOML_PLACE.sub('', text)}", "mend the syntax there")


def _faults(value: object, kind: object, key: KeyPath) -> list[tuple[KeyPath, str, str]]:
    """Every fault below `key`: msgspec stops at the first and names no index, so ask part by part."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        inner = _inner_faults(value, kind, key)
        return inner or [_translate(str(error), key, kind)]
    return []


def _inner_faults(value: object, kind: object, key: KeyPath) -> list[tuple[KeyPath, str, str]]:
    struct = _struct_of(kind)
    if struct is not None and isinstance(value, dict):
        fields = {field.name: field for field in msgspec.structs.fields(struct)}
        faults = [_unknown_key((*key, name), name, list(fields)) for name in value if name not in fields]
        faults += [
            (key, f"`{name}` is missing", f"add `{name} = ...`")
            for name, field in fields.items()
            if field.required and name not in value
        ]
        for name, field in fields.items():
            if name in value:
                faults += _faults(value[name], field.type, (*key, name))
        return faults
    part_kind = _part_of(kind, type(value))
    if part_kind is not None and isinstance(value, list):
        return [f for n, part in enumerate(value) for f in _faults(part, part_kind, (*key, n))]
    if part_kind is not None and isinstance(value, dict):
        return [f for name, part in value.items() for f in _faults(part, part_kind, (*key, str(name)))]
    return []


def _alternatives(kind: object) -> tuple[object, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _struct_of(kind: object) -> type[msgspec.Struct] | None:
    for one in _alternatives(kind):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def _part_of(kind: object, container: type) -> object | None:
    """The type of a list's elements or a dict's values."""
    for one in _alternatives(kind):
        origin, arguments = typing.get_origin(one), typing.get_args(one)
        if container is list and origin is tuple:
            return typing.cast("object", arguments[0])
        if container is dict and origin is dict:
            return typing.cast("object", arguments[1])
    return None


def _unknown_key(key: KeyPath, name: str, known: list[str]) -> tuple[KeyPath, str, str]:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    remedy = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(sorted(known))}"
    return key, "unknown key", remedy


def _translate(text: str, key: KeyPath, kind: object) -> tuple[KeyPath, str, str]:
    if match := _MISSING.search(text):
        return key, f"`{match[1]}` is missing", f"add `{match[1]} = ...`"
    if match := _UNKNOWN.search(text):
        return (*key, match[1]), "unknown key", "remove it"
    return key, _TYPE_NAME.sub(_in_words, _AT.sub("", text)), _allowed(kind)


_TYPE_NAME = re.compile(r"`([a-z |]+)`")
_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _in_words(match: re.Match[str]) -> str:
    """Types as the reader of a configuration knows them: ``int | null`` is "a whole number"."""
    names = [name for name in match[1].split(" | ") if name != "null"]
    return " or ".join(_TYPE_WORDS.get(name, name) for name in names)


def _allowed(kind: object) -> str:
    for one in _alternatives(kind):
        if typing.get_origin(one) is typing.Literal:
            return "one of: " + ", ".join(str(value) for value in typing.get_args(one))
    return "see the configuration reference"
