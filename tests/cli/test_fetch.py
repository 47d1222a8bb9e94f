"""`outrider fetch` against a real holding facility over real TLS (AMDP-14, AMDP-15)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outrider.cli.fetch import fetch
from outrider.config.amdp_schema import AmdpHolding
from outrider.holding.facility.held_upkeep import withdraw
from outrider.holding.web import WebRequest, WebResponse
from outrider.protocols.amdp.envelope import retrieval_link, verified, with_link_token
from outrider.protocols.amdp.retrieval import MESSAGE_PATH, RECEIPT_PATH
from tests.holding.facility_rig import FacilityRig, Sent, octets_of, submitted
from tests.net.web_harness import PORT, web_site
from tests.peers.certificates import CertificateAuthority

HOST = "mhf-1.alpha.example"
ORDINARY = b"From: x@gamma.example\nSubject: ordinary\n\nhello\n"
ON_TOP = b"Return-Path: <ann@alpha.example>\r\nDelivered-To: bob@beta.example\r\n"


@dataclass
class Holder:
    """The facility, and what a test does to its answers."""

    rig: FacilityRig
    asked: list[str] = field(default_factory=list)
    instead: dict[str, WebResponse] = field(default_factory=dict)

    def serves(self, host: str, path: str) -> bool:
        return self.rig.facility.serves(host, path)

    async def answer(self, request: WebRequest) -> WebResponse:
        self.asked.append(request.path)
        return self.instead.get(request.path) or await self.rig.facility.answer(request)


@dataclass
class Scene:
    """A holder in the net, and a Maildir."""

    holder: Holder
    options: list[str]
    maildir: Path

    async def fetch(self, *arguments: str | Path, stdin: bytes = b"") -> Result:
        given = [*map(str, arguments), *self.options]
        return await asyncio.to_thread(CliRunner().invoke, fetch, given, input=stdin)

    async def rows(self, *arguments: str | Path, stdin: bytes = b"", code: int = 0) -> list[dict[str, Any]]:
        result = await self.fetch(*arguments, "--json", stdin=stdin)
        assert result.exit_code == code, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def put(self, octets: bytes, name: str = "1.first:2,S") -> Path:
        path = self.maildir / "cur" / name
        path.write_bytes(octets.replace(b"\r\n", b"\n"))
        return path

    def mail(self) -> list[bytes]:
        return [
            one.read_bytes() for part in ("new", "cur") for one in sorted((self.maildir / part).iterdir())
        ]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[FacilityRig]:
    made = FacilityRig(tmp_path / "held", AmdpHolding(guesses_per_minute=0), port=PORT)
    yield made
    made.close()


@pytest.fixture
async def here(rig: FacilityRig, authority: CertificateAuthority, tmp_path: Path) -> AsyncIterator[Scene]:
    await rig.spool.start(rig.now)
    async with scene(rig, authority, tmp_path) as made:
        yield made


@asynccontextmanager
async def scene(rig: FacilityRig, authority: CertificateAuthority, folder: Path) -> AsyncIterator[Scene]:
    maildir = folder / "Maildir"
    for part in ("new", "cur", "tmp"):
        (maildir / part).mkdir(parents=True)
    holder = Holder(rig)
    async with web_site(authority, [holder], HOST) as site:
        options = [
            "--ca",
            str(authority.authority),
            "--private",
            "127.0.0.0/8",
            "--address",
            f"{HOST}={site.address}",
        ]
        yield Scene(holder, options, maildir)


async def envelope(
    rig: FacilityRig, name: str = "0123456789ABCDE", body: bytes = b"hello\r\n"
) -> tuple[Sent, bytes, bytes]:
    """An envelope as it lies in a mailbox after the call-back; and the octets it announces."""
    message = submitted("bob@beta.example", name=name, body=body)
    [sent] = await rig.hold(message)
    number = await rig.authenticate(sent)
    content = verified(sent.message.content, number, retrieval_link(sent.held, number))
    return sent, ON_TOP + content.headers + b"".join(content.body.chunks()), octets_of(message)


async def unproven(rig: FacilityRig) -> tuple[bytes, bytes]:
    """An envelope that came by a server without AMDP."""
    message = submitted("bob@beta.example")
    [sent] = await rig.hold(message)
    token = sent.message.envelope.link_token
    assert token
    content = with_link_token(sent.message.content, token)
    return ON_TOP + content.headers + b"".join(content.body.chunks()), octets_of(message)


def unwrapped(octets: bytes) -> bytes:
    """Without what was put on top, with CRLF."""
    octets = octets.replace(b"\n", b"\r\n")
    top, _, rest = octets.partition(b"Received: from client by")
    assert top.startswith(ON_TOP + f"Received: from {HOST} by ".encode())
    return b"Received: from client by" + rest


@pytest.mark.covers("AMDP-15", "AMDP-14", "AMDP-22")
async def test_in_a_maildir_envelopes_become_messages(here: Scene, rig: FacilityRig) -> None:
    sent, told, octets = await envelope(rig, body=b"line\r\n" * 100_000)
    path = here.put(told)
    here.put(ORDINARY, "2.second")
    here.put(b"AMDP-Msg-Id: nonsense\n\n", "3.third")
    [row, broken] = await here.rows(here.maildir, "--dry-run", code=1)
    assert (row["result"], row["sender"], broken["result"]) == (
        "would be fetched",
        "ann@alpha.example",
        "failed",
    )
    assert here.holder.asked == []
    [row, broken] = await here.rows(here.maildir, code=1)
    assert (row["result"], row["text"]) == ("fetched", "")
    assert not path.exists()
    message, *others = here.mail()
    assert unwrapped(message) == octets
    assert others == [ORDINARY, b"AMDP-Msg-Id: nonsense\n\n"]
    assert list((here.maildir / "tmp").iterdir()) == []
    assert here.holder.asked == [MESSAGE_PATH, RECEIPT_PATH]
    found = await rig.store.read(lambda store: store.copy("0123456789ABCDE", 0))
    assert found is not None
    assert found.state.value == "retrieved"
    assert len(await here.rows(here.maildir, code=1)) == 1
    assert here.holder.asked == [MESSAGE_PATH, RECEIPT_PATH]
    assert sent.held.id not in "".join(one.name for one in (here.maildir / "new").iterdir())


@pytest.mark.covers("AMDP-15")
async def test_one_envelope_gives_exactly_the_octets_announced(
    here: Scene, rig: FacilityRig, tmp_path: Path
) -> None:
    _, told, octets = await envelope(rig)
    result = await here.fetch(stdin=told)
    assert (result.exit_code, result.stdout_bytes) == (0, octets)
    _, told, octets = await envelope(rig, "ANOTHERMESSAGE1")
    [row] = await here.rows("-", "--output", tmp_path / "out.eml", "--no-receipt", stdin=told)
    assert (row["result"], (tmp_path / "out.eml").read_bytes()) == ("fetched", octets)
    assert here.holder.asked == [MESSAGE_PATH, RECEIPT_PATH, MESSAGE_PATH]
    assert (await here.fetch(stdin=ORDINARY)).exit_code == 1
    assert (await here.fetch("--into", "x", "--output", "y", stdin=told)).exit_code == 2


@pytest.mark.covers("AMDP-15", "SEC-188")
async def test_an_interruption_anywhere_is_made_good_by_doing_it_again(here: Scene, rig: FacilityRig) -> None:
    """Killed behind the message's storing, behind the receipt, before the envelope went: each leaves what a
    run that is told to stop there leaves."""
    _, told, octets = await envelope(rig)
    path = here.put(told)
    here.holder.instead = {MESSAGE_PATH: WebResponse(200, stream=breaking_off(octets), length=len(octets))}
    [row] = await here.rows(here.maildir, code=75)
    assert (row["result"], len(here.mail()), list((here.maildir / "tmp").iterdir())) == ("waits", 1, [])
    here.holder.instead = {RECEIPT_PATH: WebResponse(503)}
    [row] = await here.rows(here.maildir, code=75)
    assert (row["result"], path.exists(), len(here.mail())) == ("waits", True, 2)
    here.holder.instead = {}
    # Its reader has looked at it meanwhile, so that it has another name.
    [stored] = (here.maildir / "new").iterdir()
    stored.rename(here.maildir / "cur" / f"{stored.name}:2,S")
    for _ in range(2):
        here.put(told)
        [row] = await here.rows(here.maildir)
        assert (row["result"], path.exists()) == ("fetched", False)
        assert [unwrapped(one) for one in here.mail()] == [octets]
    assert here.holder.asked.count(MESSAGE_PATH) == 2


async def breaking_off(octets: bytes) -> AsyncIterator[bytes]:
    yield octets[:-5]
    raise LookupError("gone")


@pytest.mark.covers("AMDP-14", "AMDP-15", "AMDP-23")
async def test_as_a_hook_nothing_is_lost_or_doubled(here: Scene, rig: FacilityRig) -> None:
    _, told, octets = await envelope(rig)
    busy = WebResponse(503, b"not now\n")
    # The holder is away, then only the receipt fails, then all is well: as a queue tries again and again.
    for instead, stored in (({MESSAGE_PATH: busy}, 0), ({RECEIPT_PATH: busy}, 1), ({}, 1), ({}, 1)):
        here.holder.instead = dict(instead)
        [row] = await here.rows("--into", here.maildir, stdin=told, code=75 if instead else 0)
        assert row["result"] == ("waits" if instead else "fetched")
        assert len(here.mail()) == stored
    assert unwrapped(here.mail()[0]) == octets
    assert here.holder.asked.count(MESSAGE_PATH) == 2
    [row] = await here.rows("--into", here.maildir, stdin=ORDINARY)
    assert row["result"] == "kept"
    assert ORDINARY in here.mail()


@pytest.mark.covers("AMDP-23", "SEC-189")
async def test_what_is_not_to_be_had_leaves_its_envelope(here: Scene, rig: FacilityRig) -> None:
    _, told, _ = await envelope(rig)
    await rig.store.write(lambda store: withdraw(store, "0123456789ABCDE", (0,), rig.now))
    path = here.put(told)
    [row] = await here.rows(here.maildir, code=1)
    assert row["result"] == "failed"
    assert path.exists()
    [row] = await here.rows("--into", here.maildir, stdin=told)
    assert row["result"] == "kept"
    assert len(here.mail()) == 2


@pytest.mark.covers("AMDP-22", "SEC-183", "SEC-184")
@pytest.mark.parametrize("change", ["other", "short", "long"])
async def test_another_message_than_announced_is_not_taken(
    here: Scene, rig: FacilityRig, change: str
) -> None:
    _, told, octets = await envelope(rig)
    swapped = {"other": octets[:-3] + b"!\r\n", "short": octets[:-9], "long": octets + b"more\r\n"}[change]
    here.holder.instead = {MESSAGE_PATH: WebResponse(200, swapped, "message/rfc822")}
    path = here.put(told)
    [row] = await here.rows(here.maildir, code=1)
    assert row["result"] == "failed"
    assert path.exists()
    assert len(here.mail()) == 1
    result = await here.fetch(stdin=told)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert RECEIPT_PATH not in here.holder.asked


@pytest.mark.covers("AMDP-5a", "AMDP-15")
async def test_an_envelope_that_nobody_has_checked_is_fetched_only_when_one_says_so(
    here: Scene, rig: FacilityRig
) -> None:
    told, octets = await unproven(rig)
    path = here.put(told)
    [row] = await here.rows(here.maildir)
    assert (row["result"], path.exists(), here.holder.asked) == ("left", True, [])
    assert "--unproven" in row["text"]
    [row] = await here.rows(here.maildir, "--unproven")
    assert row["result"] == "fetched"
    assert unwrapped(here.mail()[0]) == octets
    assert b"nobody has called its holder back" in here.mail()[0]


@pytest.mark.covers("SEC-185", "AMDP-15")
async def test_it_goes_to_no_private_address_unless_told(here: Scene, rig: FacilityRig) -> None:
    _, told, _ = await envelope(rig)
    here.put(told)
    place = here.options.index("--private")
    del here.options[place : place + 2]
    result = await here.fetch(here.maildir)
    assert result.exit_code in (1, 75)
    assert "private" in result.output
    assert here.holder.asked == []


@pytest.mark.covers("AMDP-15")
async def test_what_is_too_large_stays_where_it_is(here: Scene, rig: FacilityRig) -> None:
    _, told, _ = await envelope(rig)
    path = here.put(told)
    [row] = await here.rows(here.maildir, "--max-size", "10")
    assert (row["result"], path.exists(), here.holder.asked) == ("too large", True, [])
