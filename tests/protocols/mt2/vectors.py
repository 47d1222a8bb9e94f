"""Runs the conformance vectors of tests/vectors/mt2; their form is in docs/protocols/mt2.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from tests.protocols.mt2.pair import NO_NONCE, NOW, bare, events

from outrider.protocols.mt2.codes import Result, Word
from outrider.protocols.mt2.events import Limits, OutgoingObject, PeerSettings, Takes
from outrider.protocols.mt2.lines import Extension
from outrider.protocols.mt2.options import Offer
from outrider.protocols.mt2.peer import Mt2Peer
from outrider.protocols.mt2.status import TransferState, TransferStatus

FOLDER = Path(__file__).parent.parent.parent / "vectors" / "mt2"


def cases() -> list[dict[str, Any]]:
    """Those about the wire; the folder holds others."""
    found = [case for path in sorted(FOLDER.glob("*.json")) for case in json.loads(path.read_text())]
    return [case for case in found if isinstance(case, dict) and "steps" in case]


class Runner:
    """One case."""

    def __init__(self, case: Mapping[str, Any]) -> None:
        self.now = NOW
        settings = PeerSettings(
            Takes(case.get("takes", "anybody")),
            case.get("over_tls", True),
            Limits(**case.get("limits", {})),
            frozenset(case.get("verbs", ())),
        )
        self.offer = offer_of(case.get("offer", {}))
        if case["side"] == "server":
            self.peer = Mt2Peer.server(settings, "mx.b.example", NO_NONCE, self.offer, self.now)
        else:
            self.peer = Mt2Peer.client(settings, self.offer, self.now)

    def step(self, step: Mapping[str, Any]) -> None:
        if "receive" in step:
            self.peer.receive(step["receive"].encode(), self.now)
        elif "receive_hex" in step:
            self.peer.receive(bytes.fromhex(step["receive_hex"]), self.now)
        elif "events" in step:
            assert self.said_events(step["events"]) == step["events"]
        elif "written" in step:
            assert self.written() == step["written"]
        elif "do" in step:
            self.do(*step["do"])
        elif "eof" in step:
            self.peer.receive_eof(self.now)
        else:
            self.now += step["time"]
            self.peer.timed_out(self.now)

    def said_events(self, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events, each with the fields that the vector asks for."""
        found = [as_json(event) for event in events(self.peer)]
        for at, said in enumerate(found):
            asked = wanted[at] if at < len(wanted) else {"event": ""}
            found[at] = {key: value for key, value in said.items() if key in asked or key == "event"}
        return found

    def written(self) -> list[str]:
        return frames(self.peer.bytes_to_send())

    def do(self, verb: str, *args: Any) -> None:
        peer, now = self.peer, self.now
        match verb:
            case "grant" | "taken" | "abort" | "stat":
                getattr(peer, verb)(args[0], now)
            case "noop" | "quit" | "leave":
                getattr(peer, verb)(now)
            case "answer":
                tag, word, code, *parts = args
                listed = [(name, length) for name, length in parts[0]] if parts else []
                peer.answer(tag, Result(Word(word), code), now, parts=listed)
            case "welcome":
                peer.welcome(args[0], offer_of(args[1]), now)
            case "options":
                peer.answer_options(args[0], [option(*said) for said in args[1]], now)
            case "status":
                peer.answer_status(args[0], TransferStatus(TransferState(args[1]), args[2]), now)
            case "transfer":
                peer.transfer(args[0], [outgoing(*part) for part in args[1]], now)
            case "send":
                peer.send_octets(args[0], args[1].encode(), now)
            case "helo":
                peer.helo(args[0].encode(), "mx.a.example", now, nonce=args[1], prove=bool(args[1]))
            case "opt":
                peer.opt_grant(offer_of(args[0]), now)
            case "start_tls":
                peer.start_tls(now)
            case "tls_started":
                peer.tls_started(now, host="mx.b.example", nonce="bmV4dA", offer=self.offer)
            case _:
                raise AssertionError(f"no such verb: {verb}")


def offer_of(values: Mapping[str, Any]) -> Offer:
    others = tuple(Extension(name, tuple(said)) for name, said in values.get("others", []))
    return Offer(**{**values, "others": others})


def option(name: str, word: str, code: str) -> Extension:
    return Extension(name, result=Result(Word(word), code))


def outgoing(media_type: str, octets: str | int, offset: int = 0) -> OutgoingObject:
    if isinstance(octets, int):
        return OutgoingObject(media_type, octets, None, offset)
    return OutgoingObject(media_type, len(octets.encode()), octets.encode(), offset)


def as_json(event: object) -> dict[str, Any]:
    said: dict[str, Any] = {"event": type(event).__name__}
    for field in fields(event):  # type: ignore[arg-type]
        said |= plain(field.name, getattr(event, field.name))
    return said


def plain(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {name: value.decode("latin-1"), f"{name}_hex": value.hex()}
    if isinstance(value, Result):
        return {name: f"{value.word.value} {value.code}"}
    if isinstance(value, Enum):
        return {name: value.value}
    if isinstance(value, Offer):
        return {name: {"pipe": value.pipe, "window": value.window, "inflight": value.inflight}}
    if isinstance(value, tuple):
        return {name: [said.name if isinstance(said, Extension) else said for said in value]}
    return {name: value}


def frames(octets: bytes) -> list[str]:
    """What was written, a frame at a time; lines without their text."""
    found = []
    while octets:
        head, _, octets = octets.partition(b"\r\n")
        if head[:1] == b"{":
            length = int(head[1:-1].split(b" ")[1])
            found.append(head.decode() + octets[:length].decode("latin-1"))
            octets = octets[length:]
        else:
            found.append(bare(head.decode()))
    return found
