"""What happens in the playground by MT2: sealed objects, hosts that lie about them, extensions."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa

from outrider.extensions.asking import FRESH_S
from outrider.extensions.base import SETTING_KEPT_S, setting_key
from outrider.extensions.choices import Waiting
from outrider.extensions.oids import VCARD
from outrider.gateway.ride_along import RideAlong, open_ride_along
from outrider.identity.seals import Handover, Sealer
from outrider.message.objects.envelope import LayeredEnvelope, read_envelope, write_envelope
from outrider.model.address import parse_address
from outrider.playground import dkim
from outrider.playground.mt2_caller import Mt2Caller, Parcel, calling, entries_of, sealed
from outrider.playground.packages import CHESS
from outrider.playground.people import LAB, LAB_ADDRESS, VERA
from outrider.playground.plans import site_of
from outrider.playground.scenes import Scene
from outrider.playground.stage import Outcome, Stage, hops_of, octets_of, patiently, plain_message
from outrider.protocols.mt2.codes import INVALID_TRACE, TRANSFER_KILLED, Result
from outrider.protocols.mt2.events import BODY_TYPE, ENVELOPE_TYPE, HEADERS_TYPE
from outrider.protocols.mt2.status import TransferState
from outrider.runtime.control import CommandRefused

NORA, TINA, SVEN = "nora@north.example", "tina@transit.example", "sven@south.example"
ERIN = "erin@gamma.example"
MIB = 1_048_576
_LINE = b"0123456789abcdef" * 4 + b"\r\n"
T = TypeVar("T")


async def _sent(
    stage: Stage, message: EmailMessage | bytes, to: str, outcome: Outcome, subject: str
) -> Path | None:
    """Nora hands it in at north by SMTP; where it has come to."""
    outcome.id = await stage.hand_in("north", message, NORA, to)
    path = await stage.arrival(site_of(to.partition("@")[2]), to, subject)
    if path is not None:
        outcome.hops = hops_of(path)
    return path


async def sealed_hops(stage: Stage) -> Outcome:
    """A message with an attachment over two hops: what each host has sealed can be shown and verified."""
    outcome = Outcome("sealed on every hop", False, "did not arrive", NORA, SVEN)
    message = plain_message("Sealed, with an attachment", SVEN, NORA)
    content = bytes(range(256)) * 200
    message.add_attachment(content, maintype="application", subtype="octet-stream", filename="all-octets.bin")
    path = await _sent(stage, message, SVEN, outcome, "Sealed, with an attachment")
    if path is None:
        return outcome
    parsed = message_from_bytes(path.read_bytes(), policy=policy.default)
    part = next(parsed.iter_attachments(), None)
    whole = part is not None and part.get_payload(decode=True) == content
    shown = await asyncio.to_thread(stage.site("south").outrider, "trace", "show", str(path), "--json")
    seals = json.loads(shown.stdout)["seals"] if shown.returncode == 0 else []
    outcome.proven = [_told(one) for one in seals]
    verified = await asyncio.to_thread(stage.site("south").outrider, "trace", "verify", str(path))
    good = whole and verified.returncode == 0 and [one["by"] for one in seals] == _SEALERS
    return outcome.now_is(f"delivered; {_first_line(verified.stdout)}", good=good)


_SEALERS = ["mx.north.example", "mx.transit.example"]


def _told(seal: dict[str, Any]) -> str:
    peer = f"{seal.get('peer')} ({'proven' if seal.get('peer_proven') else 'claimed'})"
    return f"sealed by {seal['by']}: had it from {peer} by {seal.get('protocol')}, handed it to {seal['to']}"


def _first_line(text: str) -> str:
    return " ".join(text.partition("\n")[0].split())


# -- hosts that lie --------------------------------------------------------------------------------------


async def tampering(stage: Stage) -> Outcome:
    """Transit itself changes the sum in a letter, and puts its own good seal under it."""
    outcome = Outcome("a hop that changes the mail", False, "taken!", NORA, SVEN)
    path = await _sent(stage, _bill("The bill"), SVEN, outcome, "The bill")
    if path is None:
        return outcome.now_is("did not arrive", good=False)
    parcel = _changed(path, _sealer(stage, "transit"))
    said = await _brought(stage, "transit", "127.0.11.66", parcel)
    caught = said.startswith(INVALID_TRACE) and "objects: not as the sender sealed it" in said
    return outcome.now_is(f"the changed copy was refused: {said}", good=caught)


async def cutting(stage: Stage) -> Outcome:
    """Mallory has a copy, cuts off transit's seal, and brings it as if he had it from the sender."""
    outcome = Outcome("a hop that cuts the trace", False, "taken!", NORA, SVEN)
    path = await _sent(stage, _bill("Another bill"), SVEN, outcome, "Another bill")
    if path is None:
        return outcome.now_is("did not arrive", good=False)
    came, headers, body = _objects(path)
    transits = _sealer(stage, "transit").signer.chain
    certificates = tuple(one for one in came.certificates if one not in transits)
    envelope = replace(came, seals=came.seals[:-1], certificates=certificates)
    parcel = Parcel(f"cut-{time.time_ns()}@mx.mallory.example", write_envelope(envelope), headers, body)
    said = await _brought(stage, "mallory", "127.0.9.66", parcel)
    caught = said.startswith(INVALID_TRACE) and "seals were cut from the tail" in said
    return outcome.now_is(f"the cut copy was refused: {said}", good=caught)


async def _brought(stage: Stage, by: str, source: str, parcel: Parcel) -> str:
    """What south says to a message that a host of that site brings, under its own name and certificate."""
    call = _calling(stage, "south", source, stage.site(by).plan.hostname, _files(stage, by))
    return _said(await _in_thread(call, lambda caller: caller.carry(parcel)))


def _said(result: Result | None) -> str:
    return f"{result.code} {result.text}" if result is not None else "nothing"


def _bill(subject: str) -> EmailMessage:
    return plain_message(subject, SVEN, NORA, "Please pay 100 crowns.\n")


def _changed(path: Path, sealer: Sealer) -> Parcel:
    """What a host on the way would make of a message, if its word on the content counted."""
    came, headers, body = _objects(path)
    body = body.replace(b"100 crowns", b"900 crowns")
    as_it_came = replace(came, seals=came.seals[:-1], objects=entries_of(headers, body))
    by = sealer.names[0]
    handover = Handover(by, "mx.south.example", "mx.north.example", peer_proven=True, protocol="mt2")
    forged = sealer.seal_hop(as_it_came, came.recipients, handover, time.time())
    return Parcel(f"changed-{time.time_ns()}@{by}", write_envelope(forged), headers, body)


def _objects(path: Path) -> tuple[LayeredEnvelope, bytes, bytes]:
    """Envelope, headers object and body object of a message in a mailbox."""
    section, _, body = path.read_bytes().replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    found = open_ride_along(section + b"\r\n\r\n")
    if not isinstance(found, RideAlong):
        raise ValueError("the message in the mailbox carries no objects")
    objects = found.objects
    return read_envelope(objects.envelope), objects.headers, objects.body_prefix + body


# -- transfers, by hand ----------------------------------------------------------------------------------


async def refused_envelope(stage: Stage) -> Outcome:
    """All three objects are asked for at once; the envelope is refused, and nothing else was ever sent."""
    outcome = Outcome("refused by its envelope", False, "taken!", NORA, "nobody@south.example")
    parcel = _large(stage, "refused", "nobody@south.example", 50 * MIB)

    def call(caller: Mt2Caller) -> str:
        result = caller.carry(parcel)
        sent = caller.sent
        outcome.good = result is not None and not result.is_ok and set(sent) == {ENVELOPE_TYPE}
        octets = ", ".join(
            f"{kind.partition('/')[2]} {sent[kind]}" for kind in (ENVELOPE_TYPE, HEADERS_TYPE, BODY_TYPE)
        )
        return f"refused: {_said(result)}; octets sent: {octets}"

    outcome.verdict = await _in_thread(_from_lab(stage), call)
    return outcome


async def aborted(stage: Stage) -> Outcome:
    """Half of fifty mebibytes has gone when the sender thinks better of it; the session goes on."""
    outcome = Outcome("50 MiB, killed half-way", False, "not killed", NORA, SVEN)
    parcel = _large(stage, "aborted", SVEN, 50 * MIB)

    def call(caller: Mt2Caller) -> str:
        caller.carry(parcel, until=25 * MIB)
        killed = caller.abort(parcel)
        status, alive = caller.status(parcel), caller.is_alive()
        forgotten = status is not None and status.state is TransferState.UNKNOWN
        outcome.good = killed.code == TRANSFER_KILLED and forgotten and alive
        state = status.state.value if status is not None else "no answer"
        held = "the session goes on" if alive else "the session is over"
        sent = caller.sent[BODY_TYPE] // MIB
        return f"{sent} MiB sent, then ABOR: {killed.code} killed; STAT: {state}; {held}"

    outcome.verdict = await _in_thread(_from_lab(stage), call)
    return outcome


async def resumed(stage: Stage) -> Outcome:
    """The connection breaks after half of the body; the next one goes on where it stood."""
    outcome = Outcome("8 MiB, resumed", False, "not resumed", NORA, SVEN)
    parcel = _large(stage, "resumed", SVEN, 8 * MIB)
    await _in_thread(_from_lab(stage), lambda caller: caller.carry(parcel, until=4 * MIB + 1000))

    async def held() -> int | None:
        status = await _in_thread(_from_lab(stage), lambda caller: caller.status(parcel))
        return status.held.get(BODY_TYPE) if status is not None else None

    found = await patiently(held)
    if found is None:
        return outcome.now_is("nothing was kept", good=False)

    def call(caller: Mt2Caller) -> tuple[bool, int]:
        result = caller.carry(parcel, held=found)
        return result is not None and result.is_ok, caller.sent[BODY_TYPE]

    taken, rest = await _in_thread(_from_lab(stage), call)
    path = await stage.arrival("south", SVEN, "resumed") if taken else None
    if path is None:
        return outcome
    outcome.hops = hops_of(path)
    whole = path.read_bytes().endswith(_lines(8 * MIB).replace(b"\r\n", b"\n"))
    verdict = f"{found} octets were held, the next connection sent the other {rest}; delivered whole"
    return outcome.now_is(verdict, good=whole and found + rest == len(parcel.body))


def _large(stage: Stage, name: str, to: str, size: int) -> Parcel:
    sealer = Sealer.from_pem(*(path.read_bytes() for path in _lab_files(stage)))
    section = f"From: {NORA}\r\nTo: {to}\r\nSubject: {name}\r\n\r\n".encode()
    return sealed(sealer, "mx.south.example", (NORA, to), (section, _lines(size)), name)


def _lines(size: int) -> bytes:
    return _LINE * (size // len(_LINE))


def _from_lab(stage: Stage) -> AbstractContextManager[Mt2Caller]:
    return _calling(stage, "south", LAB_ADDRESS, LAB, _lab_files(stage))


def _calling(
    stage: Stage, at: str, source: str, name: str, files: tuple[Path, Path]
) -> AbstractContextManager[Mt2Caller]:
    return calling(stage.site(at).plan.address, source, name, files, stage.internet.ca_file)


async def _in_thread(call: AbstractContextManager[Mt2Caller], work: Callable[[Mt2Caller], T]) -> T:
    def run() -> T:
        with call as caller:
            return work(caller)

    return await asyncio.to_thread(run)


def _lab_files(stage: Stage) -> tuple[Path, Path]:
    folder = stage.internet.folder
    return folder / f"{LAB}.pem", folder / f"{LAB}.key"


def _files(stage: Stage, site: str) -> tuple[Path, Path]:
    folder = stage.site(site).folder
    return folder / "host.pem", folder / "host.key"


def _sealer(stage: Stage, site: str) -> Sealer:
    return Sealer.from_pem(*(path.read_bytes() for path in _files(stage, site)))


# -- extensions ------------------------------------------------------------------------------------------


async def chess(stage: Stage) -> Outcome:
    """Nora and Tina play by an extension that is a package of its own, and knows the rules."""
    outcome = Outcome("a game of chess", False, "no game", NORA, TINA)
    await _enable(stage, "north", "chess", NORA)
    await _enable(stage, "transit", "chess", TINA)
    await asyncio.sleep(FRESH_S)
    await _speak(stage, "north", "chess", NORA, TINA, "invite spring white")
    asked = await _waiting(stage, "transit", TINA)
    if asked is None:
        return outcome.now_is("the invitation did not come", good=False)
    await _allow(stage, "transit", asked)
    if await stage.arrival("north", NORA, f"{TINA} accepts the game spring") is None:
        return outcome.now_is("the invitation was not answered", good=False)
    for site, player, opponent, move in (
        ("north", NORA, TINA, "e2e4"), ("transit", TINA, NORA, "e7e5"), ("north", NORA, TINA, "g1f3"),
    ):  # fmt: skip
        await _speak(stage, site, "chess", player, opponent, f"move spring {move}")
        subject = f"{player} plays {move} in spring"
        letter = await stage.arrival(site_of(opponent.partition("@")[2]), opponent, subject)
        if letter is None:
            return outcome.now_is(f"{move} did not come", good=False)
    refused = ""
    try:
        await _speak(stage, "transit", "chess", TINA, NORA, "move spring e5e4")
    except CommandRefused as refusal:
        refused = str(refusal)
    verdict = f"{asked.text}; e2e4 e7e5 g1f3 played; e5e4 is not sent: {refused}"
    return outcome.now_is(verdict, good=bool(refused))


async def vcard(stage: Stage) -> Outcome:
    """Nora asks for Sven's vCard: nothing is answered before he has said yes."""
    outcome = Outcome("a vCard, with consent", False, "no request came", NORA, SVEN)
    await _enable(stage, "north", "vcard", NORA)
    await _enable(stage, "south", "vcard", SVEN)
    await asyncio.to_thread(_remember_card, stage)
    await asyncio.sleep(FRESH_S)
    await _speak(stage, "north", "vcard", NORA, SVEN, "request you are not in my address book")
    asked = await _waiting(stage, "south", SVEN)
    if asked is None:
        return outcome
    before = list(stage.site("north").log_events("extension_acted"))
    await _allow(stage, "south", asked)
    came = await stage.logged("north", "extension_acted", extension="vcard")
    verdict = f'it waited ("{asked.text}"), he said yes, and she has it'
    return outcome.now_is(
        verdict, good=came is not None and not [one for one in before if one["extension"] == "vcard"]
    )


def _remember_card(stage: Stage) -> None:
    card = f"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Sven of South\r\nEMAIL:{SVEN}\r\nEND:VCARD\r\n"
    now = time.time()
    with stage.site("south").extension_choices() as store:
        store.remember(VCARD, setting_key(parse_address(SVEN), "card"), card, now + SETTING_KEPT_S, now)


async def _enable(stage: Stage, site: str, extension: str, user: str) -> None:
    """What `outrider extension enable` does; the server looks again after `FRESH_S`."""

    def work() -> None:
        with stage.site(site).extension_choices() as store:
            store.set_enabled(extension, user, enabled=True)

    await asyncio.to_thread(work)


async def _speak(stage: Stage, site: str, extension: str, sender: str, to: str, data: str) -> None:
    """What `outrider extension send` does. Raises CommandRefused."""
    arguments = {"extension": extension, "to": to, "sender": sender, "data": data, "critical": False}
    await asyncio.to_thread(stage.site(site).ask, "extension.send", arguments)


async def _waiting(stage: Stage, site: str, user: str) -> Waiting | None:
    """Wait until something waits for a user's word."""

    def find() -> Waiting | None:
        with stage.site(site).extension_choices() as store:
            return next(iter(store.waiting(time.time(), user)), None)

    return await patiently(lambda: asyncio.to_thread(find))


async def _allow(stage: Stage, site: str, asked: Waiting) -> None:
    """What `outrider consent allow` does."""
    await asyncio.to_thread(stage.site(site).ask, "extension.allow", {"number": asked.number})


# -- to other worlds -------------------------------------------------------------------------------------


async def signature_survives(stage: Stage) -> Outcome:
    """SMTP in, MT2 between, SMTP out: below our own fields every octet is the writer's."""
    outcome = Outcome("a DKIM signature, by MT2", False, "did not arrive", NORA, ERIN)
    key = await asyncio.to_thread(rsa.generate_private_key, 65537, 2048)
    record = dkim.record_of(key)
    stage.internet.zones.put("play._domainkey.north.example", "TXT", record)
    message = plain_message("Signed by its writer", ERIN, NORA, "Every octet  counts.\n")
    message["Date"] = "Sun, 22 Nov 2026 12:00:00 +0000"
    message["X-Odd"] = "one"
    octets = dkim.signed(octets_of(message), "north.example", "play", key)
    path = await _sent(stage, octets, ERIN, outcome, "Signed by its writer")
    if path is None:
        return outcome
    arrived = path.read_bytes().replace(b"\n", b"\r\n")
    same, verified = arrived.endswith(octets), dkim.verifies(arrived, record)
    verdict = f"delivered; the signature {'verifies' if verified else 'does not verify'}"
    by = [hop.split(" ")[1] for hop in outcome.hops]
    return outcome.now_is(verdict, good=same and verified and by == ["ESMTP", "MT2", "ESMTP"])


async def hidden_headers(stage: Stage) -> Outcome:
    """North knows Vera's certificate: no host on the way, and not even her own, sees the subject."""
    outcome = Outcome("encrypted headers", False, "did not arrive", NORA, VERA)
    subject_sent = "Between the two of us"
    message = plain_message(subject_sent, VERA, NORA)
    path = await _sent(stage, message, VERA, outcome, "(encrypted)")
    if path is None:
        return outcome
    hidden = subject_sent.encode() not in path.read_bytes()
    files = [str(stage.site("north").folder / name) for name in ("vera.key", "vera.pem")]
    words = ("trace", "show", str(path), "--key", files[0], "--certificate", files[1], "--json")
    shown = await asyncio.to_thread(stage.site("south").outrider, *words)
    row: dict[str, Any] = json.loads(shown.stdout) if shown.returncode == 0 else {}
    subject = dict(row.get("fields", ())).get("Subject", "nothing")
    verdict = f'delivered with the subject "(encrypted)"; her key reads "{subject}"'
    return outcome.now_is(verdict, good=hidden and row.get("good") is True and subject == subject_sent)


MT2_SCENES: tuple[Scene, ...] = (
    sealed_hops, tampering, cutting, refused_envelope, aborted, resumed,
    *((chess,) if CHESS.is_dir() else ()), vcard, signature_survives, hidden_headers,
)  # fmt: skip
