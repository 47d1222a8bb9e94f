"""What happens in the playground by AMTP: who proves what, which mail is wanted, and what lies gain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from outrider.playground.people import PASSWORD, ROSA, SAM, Laptop
from outrider.playground.plans import site_of
from outrider.playground.scenes import Scene
from outrider.playground.stage import (
    Outcome,
    Refused,
    Stage,
    diagnosis_of,
    expect,
    headers_of,
    hops_of,
    octets_of,
    plain_message,
    reason_in,
    transact,
)

BOB, OFFERS, PARTY = "bob@alpha.example", "offers@shop.example", "party@alpha.example"
DESK = "desk@customer.example"
CAROL, DAVE = "carol@beta.example", "dave@beta.example"
LEA, TELLER, BRANCH = "lea@late.example", "teller@bank.example", "clerk@branch.bank.example"

FIVE_HOPS = (
    "mx.alpha.example",
    "out.alpha.example",
    "mx.isp.example",
    "gate.customer.example",
    "inner.customer.example",
)


async def _arrives(stage: Stage, outcome: Outcome, subject: str) -> Path | None:
    """Wait for it where the outcome's recipient is at home, and note how it came."""
    path = await stage.arrival(site_of(outcome.recipient.partition("@")[2]), outcome.recipient, subject)
    if path is not None:
        outcome.hops = hops_of(path)
        outcome.proven = await stage.knowledge(path)
    return path


def _by(outcome: Outcome, *protocols: str) -> bool:
    """Whether the last hops were made by these protocols."""
    return [hop.split(" ")[1] for hop in outcome.hops][-len(protocols) :] == list(protocols)


async def five_hops(stage: Stage) -> Outcome:
    """User, provider in, provider out, ISP, customer's gate, server inside: only one hop is public."""
    outcome = Outcome("five hops to a company", False, "did not arrive", BOB, DESK)
    message = plain_message("Across five hosts", DESK, BOB)
    outcome.id = await stage.submit(message, BOB, DESK)
    path = await _arrives(stage, outcome, "Across five hosts")
    if path is None:
        return outcome
    hosts = tuple(hop.split(" ")[0] for hop in outcome.hops)
    code = str(headers_of(path)["MPC"])
    good = hosts == FIVE_HOPS and code == "per/individual" and _by(outcome, *["AMTP"] * 4)
    return outcome.now_is(f"delivered, still {code}", good=good)


async def unwanted_inside(stage: Stage) -> Outcome:
    """Three hosts take the shop's offer, the last one does not: its gate reports that to the shop."""
    outcome = Outcome("the innermost says no", False, "no report came", OFFERS, DESK)
    outcome.id = await stage.submit(plain_message("An offer for the desk", DESK, OFFERS), OFFERS, DESK)
    path = await stage.report(OFFERS, DESK)
    if path is None:
        return outcome
    outcome.hops = hops_of(path)
    said = diagnosis_of(path)
    arrived = stage.site("inner").mailbox("desk", "customer.example")
    uninvited = any(headers_of(one)["Subject"] == "An offer for the desk" for one in arrived)
    return outcome.now_is(f"reported to the shop: {said}", good="DENY=com/optin" in said and not uninvited)


async def shop(stage: Stage) -> Outcome:
    """The same offer for two people: carol asked for such mail, dave wants none."""
    outcome = Outcome("a shop's offer", False, "did not arrive", OFFERS, CAROL)
    outcome.id = await stage.submit(plain_message("An offer for you", CAROL, OFFERS), OFFERS, CAROL, DAVE)
    path, report = await asyncio.gather(
        _arrives(stage, outcome, "An offer for you"), stage.report(OFFERS, DAVE)
    )
    if path is None or report is None:
        return outcome
    said = diagnosis_of(report)
    good = _by(outcome, "AMTP") and str(headers_of(path)["MPC"]) == "com/optin"
    return outcome.now_is(f"carol has it; for dave: {said}", good=good and "MPC policy violation" in said)


async def not_even_asked(stage: Stage) -> Outcome:
    """Beta announces that it takes no political mail, so alpha leaves again and tells the writer."""
    outcome = Outcome("announced as unwanted", False, "no report came", PARTY, CAROL)
    outcome.id = await stage.submit(plain_message("Vote for us", CAROL, PARTY), PARTY, CAROL)
    path = await stage.report(PARTY, CAROL)
    if path is None:
        return outcome
    said = diagnosis_of(path)
    return outcome.now_is(f"returned to its writer: {said}", good="DENY=pol/*" in said)


async def strict_backup(stage: Stage) -> Outcome:
    """The backup takes no such mail, but only its primary may say so for good: the mail waits for it."""
    outcome = Outcome("backup stricter than primary", False, "did not wait", PARTY, LEA)
    outcome.id = await stage.submit(plain_message("News from the party", LEA, PARTY), PARTY, LEA)
    waited = await stage.event("alpha", outcome.id, "deferred")
    await stage.delta_may_come()
    if waited is None:
        return outcome
    path = await _arrives(stage, outcome, "News from the party")
    if path is None:
        return outcome.now_is(f"never arrived: {reason_in(waited['text'])}", good=False)
    return outcome.now_is(f"waited ({reason_in(waited['text'])}), then delivered", good=_by(outcome, "AMTP"))


async def bank(stage: Stage) -> Outcome:
    """A bank writes to its partner, which knows the host and by which door it comes."""
    outcome = Outcome("a bank to its partner", False, "did not arrive", TELLER, CAROL)
    message = plain_message("Your statement", CAROL, TELLER)
    outcome.id = await stage.hand_in("bank", message, TELLER, CAROL)
    path = await _arrives(stage, outcome, "Your statement")
    if path is None:
        return outcome
    proven = any("host mx.bank.example" in line for line in outcome.proven)
    return outcome.now_is("delivered", good=proven and _by(outcome, "AMTP"))


async def forger(stage: Stage) -> Outcome:
    """Somebody writes in the bank's name to port 25 of its partner."""
    outcome = Outcome("forger of the bank", False, "taken!", "security@bank.example", CAROL)
    message = plain_message("Your account is blocked", CAROL, "Security <security@bank.example>")
    try:
        await stage.approach("beta", "127.0.9.66", "mx.bank.example", message, "security@bank.example", CAROL)
    except Refused as refusal:
        outcome.now_is(f"refused: {refusal}", good=str(refusal).startswith("550"))
    return outcome


async def wrong_name(stage: Stage) -> Outcome:
    """A good certificate, but the address belongs to another name: the EHLO is answered 504."""
    outcome = Outcome("certificate is not the PTR's", False, "was not deferred", "m@mallory.example", CAROL)
    message = plain_message("Let me in", CAROL, "m@mallory.example")
    outcome.id = await stage.hand_in("mallory", message, "m@mallory.example", CAROL)
    event = await stage.event("mallory", outcome.id, "deferred")
    if event is None:
        return outcome
    said = reason_in(event["text"])
    delivered = any(
        headers_of(path)["Subject"] == "Let me in"
        for path in stage.site("beta").mailbox("carol", "beta.example")
    )
    outcome.proven = await _why_refused(stage, "beta", "127.0.9.1")
    return outcome.now_is(f"waits: {said}", good="504" in said and not delivered)


async def _why_refused(stage: Stage, at: str, address: str) -> list[str]:
    """The sentence for the operator in a site's log, which its peer does not get to see."""
    entry = await stage.logged(at, "amtp_refused", client=address)
    if entry is None:
        return []
    return [f"at {stage.site(at).plan.hostname}: nothing ({entry.get('check')}: {entry.get('text')})"]


async def forged_srv(stage: Stage) -> Outcome:
    """DNS leads to a host with a good certificate for its own name: that proves nothing to a partner."""
    outcome = Outcome("forged SRV record", False, "was not deferred", CAROL, BRANCH)
    message = plain_message("For the branch only", BRANCH, CAROL)
    outcome.id = await stage.hand_in("beta", message, CAROL, BRANCH)
    event = await stage.event("beta", outcome.id, "deferred")
    stolen = stage.site("mallory").mailbox("clerk", "branch.bank.example")
    if stolen:
        return outcome.now_is("mallory has it!", good=False)
    if event is None:
        return outcome
    return outcome.now_is(f"waits: {reason_in(event['text'])}", good="mx.mallory.example" in event["text"])


async def without_amtp(stage: Stage) -> Outcome:
    """To a site that has no SRV record: by SMTP at once, with the code in the message."""
    outcome = Outcome("to a plain SMTP site", False, "did not arrive", BOB, "erin@gamma.example")
    message = plain_message("The old way", "erin@gamma.example", BOB)
    outcome.id = await stage.submit(message, BOB, "erin@gamma.example")
    path = await _arrives(stage, outcome, "The old way")
    if path is None:
        return outcome
    code = str(headers_of(path)["MPC"])
    return outcome.now_is(f"delivered by SMTP, marked {code}", good=code == "per/individual")


# -- the roaming user ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Visit:
    """What a laptop was told, and what became of its message."""

    before_login: list[str]
    after_login: list[str]
    queue_id: str = ""
    refusal: str = ""


async def roaming_user(stage: Stage) -> Outcome:
    """Rosa's laptop at her provider: certificate and login name her, and then she is told her own list."""
    outcome = Outcome("roaming user", False, "did not arrive", ROSA.owner, CAROL)
    visit = await asyncio.to_thread(_visit, stage, ROSA)
    outcome.id = visit.queue_id
    if visit.refusal:
        return outcome.now_is(f"refused: {visit.refusal}", good=False)
    path = await _arrives(stage, outcome, f"From {ROSA.hostname}")
    if path is None:
        return outcome
    told = f"told {_list(visit.before_login)} before the login, {_list(visit.after_login)} after it"
    return outcome.now_is(f"delivered; {told}", good=not visit.before_login and _by(outcome, "AMTPA", "AMTP"))


async def another_tariff(stage: Stage) -> Outcome:
    """Sam's laptop, same provider, another contract: another list, and his private letter is not taken."""
    outcome = Outcome("another user's list", False, "taken!", SAM.owner, CAROL)
    visit = await asyncio.to_thread(_visit, stage, SAM)
    if not visit.refusal:
        return outcome
    verdict = f"refused: {visit.refusal}; told {_list(visit.after_login)}"
    announced = any("per/*" in line for line in visit.after_login)
    return outcome.now_is(verdict, good="MPC policy violation" in visit.refusal and announced)


def _visit(stage: Stage, laptop: Laptop) -> _Visit:
    """Certificate, EHLO, AUTH, EHLO again (AMTP-20), then one private letter whatever the list says."""
    with stage.connect(laptop) as client:
        expect(client.ehlo(), 250)
        before = _announced(client.ehlo_resp)
        client.login(laptop.owner, PASSWORD)
        expect(client.ehlo(), 250)
        visit = _Visit(before, _announced(client.ehlo_resp))
        octets = octets_of(plain_message(f"From {laptop.hostname}", CAROL, laptop.owner))
        try:
            visit.queue_id = transact(client, laptop.owner, (CAROL,), octets, ["MPC=per/individual"])
        except Refused as refusal:
            visit.refusal = str(refusal)
    return visit


def _announced(reply: bytes | None) -> list[str]:
    """The MPC lines of an EHLO reply."""
    lines = (reply or b"").decode("ascii", "replace").split("\n")
    return [line for line in lines if line.upper().startswith("MPC")]


def _list(lines: list[str]) -> str:
    return " ".join(f'"{line}"' for line in lines) or "nothing"


AMTP_SCENES: tuple[Scene, ...] = (
    five_hops, unwanted_inside, shop, not_even_asked, strict_backup, bank, forger, roaming_user,
    another_tariff, wrong_name, forged_srv, without_amtp,
)  # fmt: skip
