"""Which line of a TOML file a key stands on.

`tomllib` keeps no positions. This scanner does not judge the file - `tomllib` has, before it is asked - it
only remembers where tables and keys begin, so that a fault found later can name its line.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = rf"{_KEY_PART}(?:\s*\.\s*{_KEY_PART})*"
_ARRAY_TABLE = re.compile(rf"\s*\[\[\s*({_KEY})\s*\]\]")
_TABLE = re.compile(rf"\s*\[\s*({_KEY})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEY})\s*=")
_PART = re.compile(_KEY_PART)
_MULTILINE = re.compile(r'"""|\'\'\'')


class SourceMap:
    """Lines by path: ``("listeners", 0, "port")`` -> 12."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._scan(text)

    def line(self, path: Path) -> int:
        """The line of that key, or of the nearest table around it; 0 when nothing is known."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 0

    def _scan(self, text: str) -> None:
        table: Path = ()
        quote = ""
        for number, line in enumerate(text.split("\n"), 1):
            if quote:
                quote = "" if quote in line else quote
                continue
            if match := _ARRAY_TABLE.match(line):
                table = self._array_entry(_parts(match[1]))
                self._lines.setdefault(table[:-1], number)  # the array as such begins with its first entry
                self._lines.setdefault(table, number)
            elif match := _TABLE.match(line):
                table = self._resolve(_parts(match[1]))
                self._lines.setdefault(table, number)
            elif match := _ASSIGNMENT.match(line):
                self._lines.setdefault(table + _parts(match[1]), number)
                quote = _open_quote(line[match.end() :])

    def _array_entry(self, path: Path) -> Path:
        parent = self._resolve(path[:-1]) + path[-1:]
        index = self._counts.get(parent, 0)
        self._counts[parent] = index + 1
        return (*parent, index)

    def _resolve(self, path: Path) -> Path:
        """A table under an array of tables belongs to the array's latest entry."""
        resolved: Path = ()
        for part in path:
            resolved = (*resolved, part)
            if resolved in self._counts:
                resolved = (*resolved, self._counts[resolved] - 1)
        return resolved


def _parts(key: str) -> Path:
    return tuple(part.strip("\"'") if part[0] in "\"'" else part for part in _PART.findall(key))


def _open_quote(rest: str) -> str:
    """The multi-line quote that begins on this line and does not end on it."""
    quote = ""
    for match in _MULTILINE.finditer(rest):
        quote = "" if quote == match[0] else quote or match[0]
    return quote
