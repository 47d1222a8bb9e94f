"""The house rules that a machine can keep: imports run downward, cores stay free of sockets and clocks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "outrider"

FLOORS = {
    "model": 0, "wire": 0, "config": 0,
    "protocols": 1, "message": 1, "gateway": 1,
    "policy": 2, "trust": 2, "identity": 2, "routing": 2, "extensions": 2, "tables": 2,
    "delivery": 3, "reception": 3, "lists": 3, "extension_state": 3, "holding": 3,
    "net": 4, "dns": 4, "maillog": 4, "spool": 4,
    "runtime": 5,
    "cli": 6, "playground": 6, "benchmark": 6,
}  # fmt: skip
FLOOR_FOUR = {"net", "dns", "maillog", "spool"}
PURE = {
    "model", "wire", "protocols", "message", "gateway",
    "policy", "trust", "identity", "routing", "extensions",
}  # fmt: skip
IMPURE_MODULES = {
    "asyncio", "socket", "ssl", "OpenSSL", "sqlite3", "psycopg", "aiohttp", "time", "random", "secrets",
    "os", "subprocess", "threading", "tempfile", "urllib", "http",
}  # fmt: skip
INTERFACES = {
    "spool": {"outrider.spool.interface"},
}
"""A floor may use what a room above it *promises* (an interface module), never what it is made of."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imported_names(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names if alias.name.islower())
    return names


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def _allowed(room: str, name: str) -> bool:
    target = name.split(".")[1] if name.startswith("outrider.") and "." in name else ""
    if target not in FLOORS or target == room:
        return target != "testing"
    if any(name == module or name.startswith(module + ".") for module in INTERFACES.get(target, set())):
        return True
    if name == f"outrider.{target}" and target in INTERFACES:
        return True
    if room in FLOOR_FOUR and target in FLOOR_FOUR:
        return False
    return FLOORS[target] <= FLOORS[room]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downward(path: Path) -> None:
    room = room_of(path)
    if room in ("", "testing"):
        return
    wrong = [name for name in imported_names(path) if not _allowed(room, name)]
    assert not wrong, f"{room} (floor {FLOORS[room]}) imports upward or sideways: {sorted(wrong)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_cores_are_free_of_sockets_clocks_and_chance(path: Path) -> None:
    if room_of(path) not in PURE:
        return
    wrong = {name.split(".")[0] for name in imported_names(path)} & IMPURE_MODULES
    assert not wrong, f"a sans-I/O room imports {sorted(wrong)}"


UNPACKERS = {"gzip", "bz2", "lzma", "zipfile", "tarfile", "shutil.unpack_archive"}


@pytest.mark.covers("SEC-114")
@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_that_came_by_mail_is_ever_unpacked(path: Path) -> None:
    """No decompression anywhere: a bomb is carried like any other octets."""
    assert not imported_names(path) & UNPACKERS
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not {name for name in names if name.startswith("decompress")}
