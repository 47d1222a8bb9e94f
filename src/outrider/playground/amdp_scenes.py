"""What happens in the playground by AMDP: mail that stays at its sender's until it is asked for."""

from __future__ import annotations

import asyncio
import json
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from outrider.config.loader import load
from outrider.holding.facility.held_records import CopyState, HeldCopy
from outrider.holding.postage.forms import key_of
from outrider.message.dates import format_date
from outrider.model.address import Domain, parse_address
from outrider.playground.amdp_liar import liar
from outrider.playground.amdp_lies import CAROL, NORA
from outrider.playground.film import FILM_SIZE, ends_in, film
from outrider.playground.held_pages import HeldPage, Page, link_in
from outrider.playground.people import POSTAGE
from outrider.playground.scenes import Scene
from outrider.playground.site import AMDP_PORT
from outrider.playground.stage import Outcome, Stage, diagnosis_of, hops_of, patiently, plain_message
from outrider.protocols.amdp.digest import Digest
from outrider.protocols.amdp.envelope import HeldEnvelope, write_envelope
from outrider.protocols.amdp.mail_class import parse_class
from outrider.runtime.postage_parts import open_ledger

OLGA, NEWS = "olga@alpha.example", "news@alpha.example"
DAVE, ERIN, TELLER = "dave@beta.example", "erin@gamma.example", "teller@bank.example"
MIB = 1_048_576
_SOON_S = 12


def _letter(subject: str, to: str, sender: str = OLGA, text: str = "", **fields: str) -> EmailMessage:
    message = plain_message(subject, to, sender, text)
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


# -- a newsletter ----------------------------------------------------------------------------------------


async def newsletter(stage: Stage) -> Outcome:
    """One newsletter, three sites: one does not take such mail, one wants postage for it, one takes it."""
    outcome = Outcome("a newsletter to three sites", False, "", NEWS, "teller, carol, nora")
    await asyncio.to_thread(_open_account, stage)
    message = _letter("Winter letter", "readers:;", NEWS, "News. " * 20_000, Precedence="bulk")
    outcome.id = await stage.submit(message, NEWS, TELLER, CAROL, NORA)
    refused = await stage.report(NEWS, TELLER)
    paid = await stage.arrival("beta", CAROL, "Winter letter")
    taken = await stage.arrival("north", NORA, "Winter letter")
    if refused is None or paid is None or taken is None:
        missing = [name for name, path in (("bank", refused), ("beta", paid), ("north", taken)) if not path]
        return outcome.now_is(f"nothing came of it at {', '.join(missing)}", good=False)
    spent = await stage.logged("beta", "postage_redeemed", payer="alpha.example")
    outcome.hops = hops_of(taken)
    outcome.proven = [await _called_back(stage, site) for site in ("beta", "north")]
    copies = await _copies(stage, outcome.id)
    size = len(message.as_bytes())
    outcome.table = [
        f"bank   told before anything was sent: {diagnosis_of(refused)}",
        f"beta   an envelope, and {spent['amount'] if spent else 0} thousandth of postage, redeemed once",
        f"north  an envelope of {taken.stat().st_size} octets; the letter of {size} has not moved",
    ]
    states = [one.state for one in copies if one.recipient != TELLER]
    good = spent is not None and states == [CopyState.AUTHENTICATED] * 2
    at_bank = stage.site("bank").mailbox("teller", "bank.example")
    return outcome.now_is("refused, paid for, taken", good=good and not at_bank)


def _open_account(stage: Stage) -> None:
    """What `outrider postage account open` and `credit` do at beta; alpha has the secret."""
    secret = (stage.site("alpha").folder / POSTAGE).read_text("utf-8").strip()
    beta, now = stage.site("beta"), time.time()
    ledger = open_ledger(load(beta.config).config, beta.folder / "data", now)
    try:
        ledger.books.open_account("alpha", (Domain("alpha.example"),), key_of(secret), now)
        ledger.books.credit("alpha", 5, "the playground's gift", now)
    finally:
        ledger.close()


async def _called_back(stage: Stage, site: str) -> str:
    """What the call-back of a newsletter's envelope has proven there."""

    async def look() -> str | None:
        for entry in list(stage.site(site).log_events("amdp_confirmed")):
            known = await stage.known_at(stage.site(site).plan.hostname, str(entry["made"]))
            if "Agent::Bulk" in known:
                return known
        return None

    return await patiently(look) or ""


# -- a large file ----------------------------------------------------------------------------------------


async def large_file(stage: Stage) -> Outcome:
    """A large file for two people: it moves once, to the one who wants it."""
    title = f"{FILM_SIZE // MIB} MiB, for who wants it"
    outcome = Outcome(title, False, "no envelope came", OLGA, "carol and dave")
    outcome.id = await stage.submit(film(OLGA, CAROL, DAVE), OLGA, CAROL, DAVE)
    wanted = await stage.arrival("beta", CAROL, "The film")
    other = await stage.arrival("beta", DAVE, "The film")
    if wanted is None or other is None:
        return outcome
    outcome.hops = hops_of(wanted)
    envelopes = wanted.stat().st_size + other.stat().st_size
    fetched = stage.internet.folder / "film.eml"
    done = await _fetch(stage, wanted, "--output", str(fetched))
    whole = fetched.exists() and await asyncio.to_thread(ends_in, fetched, film(OLGA, CAROL, DAVE))
    states = {one.recipient: one.state for one in await _copies(stage, outcome.id)}
    good = whole and states == {CAROL: CopyState.RETRIEVED, DAVE: CopyState.AUTHENTICATED}
    size = fetched.stat().st_size if fetched.exists() else 0
    verdict = (
        f"two envelopes, {envelopes} octets; carol fetched {size} octets, as told; dave: 0, it waits for him"
    )
    return outcome.now_is(verdict if good else f"{states} {done.get('text', '')}", good=good)


async def _fetch(stage: Stage, envelope: Path, *more: str) -> dict[str, Any]:
    """What `outrider fetch` makes of an envelope in a mailbox, as its reader runs it."""
    words = ("fetch", str(envelope), *more, "--json", "--ca", str(stage.internet.ca_file))
    where = f"mhf-1.alpha.example={stage.site('alpha').plan.address}"
    there = ("--private", "127.0.0.0/8", "--address", where)
    done = await asyncio.to_thread(stage.site("alpha").program, *words, *there)
    lines = done.stdout.splitlines()
    return dict(json.loads(lines[-1])) if lines else {"result": "failed", "text": done.stderr}


async def _copies(stage: Stage, message: str) -> list[HeldCopy]:
    """What alpha's facility knows of a message, as `outrider held show` has it."""
    return await asyncio.to_thread(stage.site("alpha").held, message)


# -- for allowed mail, and against forged mail -----------------------------------------------------------


async def receipt(stage: Stage) -> Outcome:
    """A private letter, for which its class is vouched: the server fetches it, and its writer hears of it."""
    outcome = Outcome("fetched by the server, receipt", False, "did not arrive", OLGA, NORA)
    message = _letter("How are you", NORA, AMDP_Receipt="yes", AMDP_Message_Type="letter")
    outcome.id = await stage.submit(message, OLGA, NORA)
    path = await stage.arrival("north", NORA, "How are you")
    if path is None:
        return outcome
    outcome.hops, outcome.proven = hops_of(path), await stage.knowledge(path)
    told = await stage.report(OLGA, NORA)
    if told is None:
        return outcome.now_is("fetched, but no receipt came", good=False)
    ordinary = b"AMDP-" not in path.read_bytes() and b"A line of text." in path.read_bytes()
    return outcome.now_is(f"nora sees ordinary mail; olga's receipt: {diagnosis_of(told)}", good=ordinary)


async def forged(stage: Stage) -> Outcome:
    """An envelope in olga's name, in order in every field, from an address that is not alpha's."""
    outcome = Outcome("a forged envelope", False, "believed!", OLGA, CAROL)
    now = int(time.time())
    envelope = HeldEnvelope(
        sender=parse_address(OLGA),
        recipient=parse_address(CAROL),
        id="forged" + "a" * 20,
        digest=Digest(bytes(32), 1000),
        mail_class=parse_class("Public::Personal::message"),
        date=now,
        timestamp=now,
        expires=now + 86_400,
        holder=Domain("mhf-1.alpha.example"),
        port=AMDP_PORT,
        subject="The film",
    )
    octets = write_envelope(envelope, message_id="the-film@alpha.example")
    who = ("127.0.9.66", "mhf-1.alpha.example")
    outcome.id = await stage.approach("beta", *who, octets, OLGA, CAROL, ["AMDP"])
    dropped = await stage.logged("beta", "amdp_dropped", id=outcome.id)
    facts = (await stage.facts("beta", outcome.id)).get("facts", ())
    where = next((one for one in facts if one["name"] == "client.address"), None)
    if where is not None:
        outcome.proven = [f"at mx.beta.example: {where['provenance']} client.address {where['value']}"]
    if dropped is None:
        return outcome
    verdict = f"taken with 250, then dropped, and nobody told: {dropped['text']}"
    return outcome.now_is(verdict, good=dropped["why"] == "not-genuine")


# -- what is not to be had any more ----------------------------------------------------------------------


async def withdrawn(stage: Stage) -> Outcome:
    """The wrong price list has gone out; it is taken back before nora opens it."""
    outcome = Outcome("withdrawn", False, "no envelope came", NEWS, NORA)
    message = _letter("Prices, all of them wrong", NORA, NEWS)
    outcome.id = await stage.submit(message, NEWS, NORA)
    path = await stage.arrival("north", NORA, "Prices, all of them wrong")
    if path is None:
        return outcome
    outcome.hops = hops_of(path)
    done = await asyncio.to_thread(stage.site("alpha").outrider, "held", "withdraw", outcome.id)
    row = await _fetch(stage, path, "--output", str(stage.internet.folder / "prices.eml"))
    nothing = not (stage.internet.folder / "prices.eml").exists()
    good = done.returncode == 0 and row["result"] == "failed" and nothing
    return outcome.now_is(f"`outrider held withdraw`; then nora's `outrider fetch`: {row['text']}", good=good)


async def expired(stage: Stage) -> Outcome:
    """An offer that is good for a few seconds."""
    outcome = Outcome("expired", False, "no envelope came", OLGA, ERIN)
    until = int(time.time()) + _SOON_S
    message = _letter("Good for seconds", ERIN, AMDP_Expire_On=format_date(until))
    outcome.id = await stage.submit(message, OLGA, ERIN)
    path = await stage.arrival("gamma", ERIN, "Good for seconds")
    if path is None:
        return outcome
    outcome.hops = hops_of(path)
    page = HeldPage(stage, link_in(path))
    before = await asyncio.to_thread(page.ask)
    await asyncio.sleep(max(0.0, until + 1 - time.time()))
    after = await asyncio.to_thread(page.press, "open")
    verdict = f"its page: {before.status} before, {after.status} after {_SOON_S} s"
    return outcome.now_is(verdict, good=(before.status, after.status) == (200, 404))


async def by_link(stage: Stage) -> Outcome:
    """Gamma speaks SMTP alone. Erin can read the envelope, and opens the link."""
    outcome = Outcome("a link, to a plain SMTP site", False, "no envelope came", OLGA, ERIN)
    outcome.id = await stage.submit(_letter("By its link", ERIN), OLGA, ERIN)
    path = await stage.arrival("gamma", ERIN, "By its link")
    if path is None:
        return outcome
    outcome.hops = hops_of(path)
    page = HeldPage(stage, link_in(path))
    looked = [await asyncio.to_thread(page.ask, method) for method in ("HEAD", "GET", "GET")]
    untouched = await _state(stage, outcome.id, CopyState.NOTIFIED)
    opened = await asyncio.to_thread(page.press, "open")
    whole = await asyncio.to_thread(page.press, "message")
    done = await asyncio.to_thread(page.press, "received")
    copy = next(iter(await _copies(stage, outcome.id)))
    outcome.proven = [f"at mhf-1.alpha.example: {_receiver(copy)}"]
    good = untouched and _shows(looked, opened, whole, done) and copy.state is CopyState.RETRIEVED
    verdict = (
        f"GET {looked[1].status} shows, and changes nothing; POST {opened.status} opens, "
        f"{whole.status} saves, {done.status} confirms"
    )
    return outcome.now_is(verdict, good=good)


def _shows(looked: list[Page], opened: Page, whole: Page, done: Page) -> bool:
    line = b"A line of text."
    quiet = all(one.status == 200 and line not in one.body for one in looked)
    return quiet and line in opened.body and line in whole.body and done.status == 200


async def _state(stage: Stage, message: str, state: CopyState) -> bool:
    """Wait until the one copy of a message is there: alpha may hear of its delivery after its reader."""

    async def look() -> bool | None:
        copies = await _copies(stage, message)
        return True if copies and copies[0].state is state else None

    return bool(await patiently(look))


def _receiver(copy: HeldCopy) -> str:
    who = "unauthenticated receiver" if copy.by_link else f"proven receiver {copy.proven_by}"
    return f"{who}; {copy.state.value}"


AMDP_SCENES: tuple[Scene, ...] = (
    newsletter, large_file, receipt, forged, withdrawn, expired, by_link, liar,
)  # fmt: skip
