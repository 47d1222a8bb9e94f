"""What happens in the playground by plain SMTP: mail from a client library, and what must come of it."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Awaitable, Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from pathlib import Path

from outrider.playground.plans import site_of
from outrider.playground.site import SMTP_PORT
from outrider.playground.stage import Outcome, Refused, Stage, hops_of, plain_message

ANN = "ann@alpha.example"

Scene = Callable[[Stage], Awaitable[Outcome]]


async def _deliver(
    stage: Stage, title: str, message: EmailMessage | bytes, to: tuple[str, ...], at: tuple[str, ...] = ()
) -> Outcome:
    """The usual scene: submit at alpha, wait for it in every mailbox of `at` (by default those of `to`)."""
    outcome = Outcome(title, True, "delivered", ANN, to[0] if len(to) == 1 else f"{len(to)} people")
    outcome.id = await stage.submit(message, ANN, *to)
    for mailbox in at or to:
        path = await stage.arrival(site_of(mailbox.partition("@")[2]), mailbox, _subject(message))
        if path is None:
            return outcome.now_is(f"did not arrive at {mailbox}", good=False)
        outcome.hops, outcome.proven = hops_of(path), await stage.knowledge(path)
    return outcome


def _subject(message: EmailMessage | bytes) -> str:
    if isinstance(message, EmailMessage):
        return str(message["Subject"])
    return str(BytesHeaderParser(policy=policy.default).parsebytes(message)["Subject"])


async def plain(stage: Stage) -> Outcome:
    """A plain message."""
    message = plain_message("Plain and simple", "carol@beta.example")
    return await _deliver(stage, "plain text", message, ("carol@beta.example",))


async def attachment(stage: Stage) -> Outcome:
    """With an attachment that must come out octet for octet."""
    content = bytes(range(256)) * 200
    message = plain_message("With an attachment", "carol@beta.example")
    message.add_attachment(content, maintype="application", subtype="octet-stream", filename="all-octets.bin")
    outcome = await _deliver(stage, "attachment", message, ("carol@beta.example",))
    path = await stage.arrival("beta", "carol@beta.example", "With an attachment")
    if path is not None and _attachment(path) != content:
        outcome.now_is("the attachment was changed", good=False)
    return outcome


def _attachment(path: Path) -> bytes:
    parsed = message_from_bytes(path.read_bytes(), policy=policy.default)
    part = next(parsed.iter_attachments(), None)
    return bytes(part.get_payload(decode=True)) if part is not None else b""


async def international(stage: Stage) -> Outcome:
    """Addresses and subject beyond ASCII (SMTPUTF8)."""
    head = "From: ann@alpha.example\r\nTo: jürgen@beta.example\r\nSubject: Grüße aus Köln\r\n\r\n"
    octets = (head + "Schöne Grüße.\r\n").encode()
    return await _deliver(stage, "SMTPUTF8", octets, ("jürgen@beta.example",))


async def eight_bit(stage: Stage) -> Outcome:
    """A body of 8-bit text to the site without TLS."""
    head = (
        b"From: ann@alpha.example\r\nTo: erin@gamma.example\r\nSubject: Eight bits\r\nMIME-Version: 1.0\r\n"
    )
    kind = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    octets = head + kind + "Fünf Öre für 1 €.\r\n".encode()
    return await _deliver(stage, "8-bit, plain SMTP site", octets, ("erin@gamma.example",))


async def large(stage: Stage) -> Outcome:
    """Five mebibytes."""
    text = ("0123456789abcdef" * 4 + "\n") * (5 * 1024 * 1024 // 65)
    message = plain_message("Five mebibytes", "dave@beta.example", text=text)
    return await _deliver(stage, "5 MiB", message, ("dave@beta.example",))


async def alias(stage: Stage) -> Outcome:
    """One address, two people."""
    message = plain_message("To the whole team", "team@beta.example")
    at = ("carol@beta.example", "dave@beta.example")
    return await _deliver(stage, "alias", message, ("team@beta.example",), at)


async def crowd(stage: Stage) -> Outcome:
    """Two hundred recipients of one message."""
    to = tuple(f"guest{number}@many.example" for number in range(200))
    return await _deliver(stage, "200 recipients", plain_message("To everybody", "guests:;"), to)


async def switched(stage: Stage) -> Outcome:
    """To a site whose MX preference says: QMTP."""
    message = plain_message("By QMTP", "grace@quick.example")
    return await _deliver(stage, "QMTP by MXPS", message, ("grace@quick.example",))


async def unknown_user(stage: Stage) -> Outcome:
    """To nobody: refused at RCPT by beta, and a status report comes back to ann."""
    message = plain_message("Is anybody there", "nobody@beta.example")
    outcome = Outcome("unknown user", False, "no report came", ANN, "nobody@beta.example")
    outcome.id = await stage.submit(message, ANN, "nobody@beta.example")
    path = await stage.report(ANN, "nobody@beta.example")
    if path is not None:
        outcome.hops = hops_of(path)
        outcome.now_is("5.1.1 reported back to ann (DSN)", good=True)
    return outcome


async def site_down(stage: Stage) -> Outcome:
    """To a site that is not there yet: the mail waits, the site comes up, the mail arrives."""
    message = plain_message("When you are back", "frank@delta.example")
    outcome = Outcome("site down, comes back", False, "did not wait", ANN, "frank@delta.example")
    outcome.id = await stage.submit(message, ANN, "frank@delta.example")
    waited = await stage.event("alpha", outcome.id, "deferred")
    await stage.delta_may_come()
    path = await stage.arrival("delta", "frank@delta.example", "When you are back")
    if path is None:
        return outcome.now_is("did not arrive", good=False)
    outcome.hops = hops_of(path)
    return outcome.now_is("deferred, then delivered", good=True) if waited else outcome


async def unmet_requirement(stage: Stage) -> Outcome:
    """Alpha demands a verified server for that domain; gamma has no TLS, so the mail waits and says why."""
    message = plain_message("For the vault only", "keeper@vault.example")
    outcome = Outcome("TLS required, none there", False, "was not deferred", ANN, "keeper@vault.example")
    outcome.id = await stage.submit(message, ANN, "keeper@vault.example")
    event = await stage.event("alpha", outcome.id, "deferred")
    arrived = stage.site("gamma").mailbox("keeper", "vault.example")
    if event is not None:
        outcome.now_is(f"waits: {event['text']}", good=not arrived)
    return outcome


async def stranger(stage: Stage) -> Outcome:
    """A stranger asks beta to relay to somebody else's domain."""
    outcome = Outcome(
        "relaying for a stranger", False, "relayed!", "mallory@stranger.example", "erin@gamma.example"
    )
    reply = await asyncio.to_thread(_ask_to_relay, stage.site("beta").plan.address)
    if reply[0] in (530, 550, 554):
        outcome.now_is(f"refused: {reply[0]} {reply[1].decode(errors='replace')}", good=True)
    return outcome


def _ask_to_relay(address: str) -> tuple[int, bytes]:
    with smtplib.SMTP(address, SMTP_PORT, local_hostname="stranger.example", timeout=30) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("mallory@stranger.example")
        return client.rcpt("erin@gamma.example")


async def against_policy(stage: Stage) -> Outcome:
    """Alpha's own rule refuses it, by name."""
    outcome = Outcome("refused by a rule", False, "taken", ANN, "carol@beta.example")
    try:
        message = plain_message("You won the lottery", "carol@beta.example")
        await stage.submit(message, ANN, "carol@beta.example")
    except Refused as refusal:
        outcome.now_is(f"refused: {refusal}", good=True)
    return outcome


SMTP_SCENES: tuple[Scene, ...] = (
    plain, attachment, international, eight_bit, large, alias, crowd, switched, unknown_user, site_down,
    unmet_requirement, stranger, against_policy,
)  # fmt: skip
