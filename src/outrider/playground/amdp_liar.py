"""Mallory, who lies in each field of an envelope in turn (docs/protocols/amdp-fields.md), and what he gains.

He has all that a liar can have: a domain of his own with records in order, a certificate for it, and a
holding facility that says yes to whatever it is asked, under whatever id, and serves what he likes. The class
*Personal* is even vouched for him. So nothing that he is refused is refused for a trifle.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from outrider.model.address import Domain, parse_address
from outrider.playground.amdp_lies import CAROL, MALLORY, NORA, TRUTH, End, Lie, lies
from outrider.playground.internet import Internet, lay_down
from outrider.playground.site import AMDP_PORT
from outrider.playground.stage import Outcome, Refused, Stage, patiently
from outrider.protocols.amdp.callback import ACKNOWLEDGE_PATH, GENUINE_PATH, QUERY_PATH
from outrider.protocols.amdp.digest import Digest
from outrider.protocols.amdp.envelope import HeldEnvelope, write_envelope
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.retrieval import MESSAGE_PATH, RECEIPT_PATH

HIS_ADDRESS: Final = "127.0.9.77"
HIS_NAMES: Final = ("mhf-1.mallory.example", "amdp-mis.mallory.example")
_TRIES: Final = 40
_SHOWN: Final = 110
_FIELD: Final = rb"^%b:.*?\r\n(?![ \t])"


async def liar(stage: Stage) -> Outcome:
    """Mallory lies in each field in turn: a table of what that gained."""
    outcome = Outcome("a lie in every field", False, "", MALLORY, NORA)
    async with _facility(stage.internet) as facility:
        rows = [await _Try(stage, facility, lie).made() for lie in lies(int(time.time()))]
    bad = [row.lie.name for row in rows if row.gained or row.end is not row.lie.end]
    outcome.table = [f"{'field':20} {'the lie':38} {'gained':9} what became of it", *map(str, rows)]
    told = sum(row.lie.name != TRUTH for row in rows)
    verdict = f"{told} lies; gained: {', '.join(bad) or 'nothing'}"
    return outcome.now_is(verdict, good=not bad)


@dataclass(slots=True)
class _Row:
    lie: Lie
    end: End
    words: str
    gained: str = ""

    def __str__(self) -> str:
        gained = self.gained or ("-" if self.lie.name == TRUTH else "nothing")
        return f"{self.lie.name:20} {self.lie.says:38} {gained:9} {self.end.value}: {self.words[:_SHOWN]}"


# -- one envelope ----------------------------------------------------------------------------------------


class _Try:
    """One lie being told."""

    def __init__(self, stage: Stage, facility: _Facility, lie: Lie) -> None:
        self._stage = stage
        self._facility = facility
        self._lie = lie
        self._site = "beta" if lie.to == CAROL else "north"
        fresh = identifier(secrets.token_bytes(OCTETS))
        self._id = facility.first_id if lie.used_id else fresh
        self._subject = f"An offer {fresh[:8]}"

    async def made(self) -> _Row:
        """Tell it, and see."""
        try:
            queue_id = await self._sent(self._octets())
        except Refused as refusal:
            words = str(refusal).partition("taken: ")[2] or str(refusal)
            return self._judged(_Row(self._lie, End.REFUSED, words))
        row = await self._seen(queue_id)
        return await self._with_mail(row)

    def _octets(self) -> bytes:
        lie, now = self._lie, int(time.time())
        fields = f"From: <{MALLORY}>\r\nTo: <{lie.to}>\r\nSubject: {self._subject}\r\n"
        honest = f"{fields}\r\nThis is true.\r\n".encode()
        served = lie.serves(honest) if lie.serves else honest
        self._facility.first_id = self._facility.first_id or self._id
        self._facility.holds[self._id] = (str(lie.values.get("recipient", lie.to)), served)
        return envelope_of(lie, self._id, self._subject, served if lie.announces else honest, now)

    async def _sent(self, octets: bytes) -> str:
        """Whoever has not passed has one envelope under way, so that some come back later."""
        for left in reversed(range(_TRIES)):
            try:
                return await self._stage.approach(
                    self._site, HIS_ADDRESS, "mx.mallory.example", octets, MALLORY, self._lie.to, ["AMDP"]
                )
            except Refused as refusal:
                if not str(refusal).startswith("45") or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _seen(self, queue_id: str) -> _Row:
        async def look() -> _Row | None:
            entries = await asyncio.to_thread(_told_of_amdp, self._stage.site(self._site).folder / "log")
            return _row_of(self._lie, queue_id, entries)

        return await patiently(look) or _Row(self._lie, End.DROPPED, "nothing was heard of it", "unknown")

    async def _with_mail(self, row: _Row) -> _Row:
        """What the mailbox has of it, where it has anything."""
        if row.end not in (End.FETCHED, End.ENVELOPE):
            return self._judged(row)
        path = await self._stage.arrival(self._site, self._lie.to, self._subject)
        if path is None:
            row.gained = "not seen"
            return row
        proven = await self._proven(row.words)
        row.gained = "" if proven == {"mallory.example"} else "another domain"
        words = "as of mallory.example"
        if self._lie.bait and self._lie.bait.encode() in path.read_bytes().partition(b"\n\n")[2]:
            row.gained = "its text"
        if self._lie.told:
            entry = await self._stage.logged(self._site, "amdp_untrue", domain="mallory.example")
            words += f"; the lie is told: {entry['text'] if entry else 'not at all'}"
            row.gained = row.gained or ("" if entry else "belief")
        elif row.end is End.ENVELOPE:
            words += ", in a text of north's own"
        row.words = words
        return row

    async def _proven(self, message_id: str) -> set[str]:
        facts = (await self._stage.facts(self._site, message_id)).get("facts", ())
        named = (one for one in facts if one["name"] == "amdp.domain" and one["provenance"] == "proven")
        return {str(one["value"]) for one in named}

    def _judged(self, row: _Row) -> _Row:
        """Mail that was not taken must not be in the mailbox."""
        user, _, domain = self._lie.to.partition("@")
        subject = f"\nSubject: {self._subject}\n".encode()
        mailbox = self._stage.site(self._site).mailbox(user, domain)
        there = any(subject in _octets_of(path).partition(b"\n\n")[0] + b"\n" for path in mailbox)
        row.gained = row.gained or ("a place" if there else "")
        return row


def envelope_of(lie: Lie, message_id: str, subject: str, told: bytes, now: int) -> bytes:
    """An envelope that is in order but for its lie; it tells of the message `told`."""
    honest = HeldEnvelope(
        sender=parse_address(MALLORY),
        recipient=parse_address(lie.to),
        id=message_id,
        digest=Digest(hashlib.sha256(told).digest(), len(told)),
        mail_class=parse_class("Direct::Personal::letter"),
        date=now,
        timestamp=now,
        expires=now + 600,
        holder=Domain(HIS_NAMES[0]),
        port=AMDP_PORT,
        subject=subject,
    )
    written = write_envelope(
        replace(honest, **lie.values), message_id=f"{secrets.token_hex(6)}@mallory.example"
    )
    for name, value in lie.fields.items():
        written = _with_field(written, name, value)
    return written.replace(b"https://mhf-1.", b"https://evil.example/mhf-1.") if lie.link else written


def _octets_of(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _with_field(octets: bytes, name: str, value: str) -> bytes:
    """An envelope whose field says something else; on top where it had none."""
    line = f"{name}: {value}\r\n".encode()
    pattern = re.compile(_FIELD % re.escape(name.encode()), re.MULTILINE | re.DOTALL)
    changed, count = pattern.subn(lambda _: line, octets, count=1)
    return changed if count else line + octets


def _told_of_amdp(log: Path) -> list[dict[str, Any]]:
    """What a server says of envelopes."""
    lines = [line for line in log.read_bytes().split(b"\n") if b'"event":"amdp_' in line]
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def _row_of(lie: Lie, queue_id: str, entries: list[dict[str, Any]]) -> _Row | None:
    """What a log says of an envelope; None as long as it is not at its end."""
    made = ""
    for entry in entries:
        event, about = entry.get("event"), entry.get("id")
        if event == "amdp_dropped" and about == queue_id:
            return _Row(lie, End.DROPPED, str(entry["text"]))
        if event == "amdp_confirmed" and about == queue_id:
            made = str(entry["made"])
            if entry["fate"] == "hand over":
                return _Row(lie, End.ENVELOPE, made)
        if made and about == made and event == "amdp_fetched":
            return _Row(lie, End.FETCHED, str(entry["fetched"]))
        if made and about == made and event == "amdp_lost":
            return _Row(lie, End.NOT_TAKEN, str(entry["text"]))
    return None


# -- his facility ----------------------------------------------------------------------------------------


class _Facility:
    """Says yes."""

    def __init__(self) -> None:
        self.holds: dict[str, tuple[str, bytes]] = {}
        """By id: for whom, and what is served."""
        self.first_id = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Whatever is asked."""
        asked = await request.json() if request.method == "POST" else {}
        if request.path == GENUINE_PATH:
            return web.json_response({"genuine": True})
        if request.path == QUERY_PATH:
            return web.json_response({"answers": [self._known(one["id"]) for one in asked["queries"]]})
        if request.path == ACKNOWLEDGE_PATH:
            done = [{"done": True, "confirmation": one["confirmation"]} for one in asked["acknowledgements"]]
            return web.json_response({"answers": done})
        if request.path == MESSAGE_PATH:
            return web.Response(body=self.holds[asked["id"]][1], content_type="message/rfc822")
        return web.json_response({"done": True}, status=200 if request.path == RECEIPT_PATH else 404)

    def _known(self, message_id: str) -> dict[str, Any]:
        to = self.holds[message_id][0]
        return {"known": True, "to": to, "confirmation": identifier(secrets.token_bytes(OCTETS))}


@contextlib.asynccontextmanager
async def _facility(internet: Internet) -> AsyncIterator[_Facility]:
    """It serves; DNS knows it."""
    for name in HIS_NAMES:
        internet.zones.put(name, "A", HIS_ADDRESS)
    lay_down(internet.folder, "mallory-holds", internet.issue(list(HIS_NAMES)))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(internet.folder / "mallory-holds.pem", internet.folder / "mallory-holds.key")
    facility = _Facility()
    runner = web.ServerRunner(web.Server(facility.answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, HIS_ADDRESS, AMDP_PORT, ssl_context=tls).start()
        yield facility
    finally:
        await runner.cleanup()
