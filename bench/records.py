"""The figures of a run as they are kept: JSON that a later run, or a reader, can work with."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.work import Figure


class Server(msgspec.Struct, frozen=True):
    """One of those that took part."""

    name: str
    version: str
    durability: str


class Record(msgspec.Struct, frozen=True):
    """One run of the benchmark."""

    machine: dict[str, str | int]
    began: str
    """UTC."""
    minutes: float
    rounds: int
    servers: list[Server]
    figures: list[Figure]
    failures: list[str]
    """Measurements that could not be made, and why."""


def read_record(path: Path) -> Record:
    """Raises OSError or msgspec.DecodeError."""
    return msgspec.json.decode(path.read_bytes(), type=Record)


def write_record(record: Record, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    new.replace(path)
