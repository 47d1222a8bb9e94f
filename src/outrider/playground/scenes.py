"""What happens in the playground: mail from an ordinary client library, and what must come of each one."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from outrider.playground.internet import SMTP_PORT, SUBMISSION_PORT, Internet, Site, SitePlan

PASSWORD = "the playground's only secret"  # noqa: S105 - printed for the visitor, good for loopback alone
ARRIVAL_LIMIT_S = 40.0
POLL_S = 0.1

PLANS = (
    SitePlan(
        "alpha",
        "127.0.1.1",
        {"alpha.example": 'users = ["ann", "bob"]'},
        submission=True,
        extra='[auth]\nusers_file = "users"\n\n'
        '[routes]\n"vault.example" = { to = "mx", tls = "verify" }\n\n'
        "[[policy.rules]]\n"
        'name = "no-lottery"\naction = "refuse"\nwhen = { "header.subject" = "*lottery*" }\n'
        'reason = "lottery mail is not taken here"\n',
    ),
    SitePlan(
        "beta",
        "127.0.2.1",
        {"beta.example": 'users = ["carol", "dave", "jürgen"]\naliases = { team = ["carol", "dave"] }',
         "many.example": 'users = "*"'},
    ),
    SitePlan(
        "gamma", "127.0.3.1", {"gamma.example": 'users = ["erin"]', "vault.example": 'users = "*"'}, tls=False
    ),
    SitePlan("delta", "127.0.4.1", {"delta.example": 'users = ["frank"]'}),
    SitePlan("quick", "127.0.5.1", {"quick.example": 'users = ["grace"]'}, tls=False, qmtp=True),
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What came of one scene."""

    title: str
    good: bool
    verdict: str
    sender: str = ""
    recipient: str = ""
    hops: list[str] = field(default_factory=list)
    proven: str = ""
    id: str = ""


class Stage:
    """The sites, and what scenes do with them."""

    def __init__(self, internet: Internet) -> None:
        self.internet = internet

    def site(self, name: str) -> Site:
        """By short name."""
        return self.internet.sites[name]

    async def submit(self, message: EmailMessage | bytes, sender: str, *recipients: str) -> str:
        """Send as ann through alpha's submission port, as any mail client would; the queue id.

        Raises smtplib.SMTPException when alpha refuses.
        """
        return await asyncio.to_thread(self._submit, message, sender, recipients)

    def _submit(self, message: EmailMessage | bytes, sender: str, recipients: tuple[str, ...]) -> str:
        alpha = self.site("alpha").plan
        trust = ssl.create_default_context(cafile=str(self.internet.ca_file))
        trust.check_hostname = False  # the visitor's resolver does not know mx.alpha.example; the CA does
        with smtplib.SMTP(
            alpha.address, SUBMISSION_PORT, local_hostname="laptop.alpha.example", timeout=30
        ) as client:
            client.starttls(context=trust)
            client.ehlo()
            client.login("ann", PASSWORD)
            octets = message if isinstance(message, bytes) else message.as_bytes(policy=policy.SMTP)
            wide = not "".join((sender, *recipients)).isascii() or not octets.split(b"\r\n\r\n")[0].isascii()
            options = ["SMTPUTF8", "BODY=8BITMIME"] if wide else ["BODY=8BITMIME"]
            client.ehlo_or_helo_if_needed()
            return _queue_id(_transact(client, sender, recipients, octets, options))

    async def arrival(self, site: str, user: str, domain: str, subject: str) -> Path | None:
        """Wait for a message with that subject."""
        for _ in range(int(ARRIVAL_LIMIT_S / POLL_S)):
            for path in reversed(self.site(site).mailbox(user, domain)):
                if _headers(path)["Subject"] == subject:
                    return path
            await asyncio.sleep(POLL_S)
        return None

    async def report(self, user: str, about: str) -> Path | None:
        """Wait for a delivery status notification at alpha that names a recipient."""
        for _ in range(int(ARRIVAL_LIMIT_S / POLL_S)):
            for path in self.site("alpha").mailbox(user, "alpha.example"):
                octets = path.read_bytes()
                if b"message/delivery-status" in octets and about.encode() in octets:
                    return path
            await asyncio.sleep(POLL_S)
        return None

    async def event(self, message_id: str, kind: str) -> dict[str, Any] | None:
        """Wait for an event in a message's trail at alpha."""
        for _ in range(int(ARRIVAL_LIMIT_S)):
            known = await self.facts("alpha", message_id)
            for event in known.get("events", ()):
                if event["kind"] == kind:
                    return dict(event)
            await asyncio.sleep(0.5)
        return None

    def hops(self, path: Path) -> list[str]:
        """From the Received fields, oldest first: ``mx.beta.example ESMTPS TLSv1.3``."""
        fields = _headers(path).get_all("Received", [])
        return [_hop(" ".join(str(field).split())) for field in reversed(fields)]

    async def facts(self, site: str, message_id: str) -> dict[str, Any]:
        """What a site knows of a message."""
        rows = await asyncio.to_thread(self.site(site).ask, "explain", message_id)
        return rows[0] if rows else {}


def _transact(
    client: smtplib.SMTP, sender: str, recipients: tuple[str, ...], octets: bytes, options: list[str]
) -> str:
    """MAIL, RCPT, DATA; smtplib's own sendmail() does not give the final reply back."""
    if "SMTPUTF8" in options:
        client.command_encoding = "utf-8"
    _expect(client.mail(sender, options), 250)
    for recipient in recipients:
        _expect(client.rcpt(recipient), 250)
    return _expect(client.data(octets), 250)


def _expect(reply: tuple[int, bytes], code: int) -> str:
    text = reply[1].decode("utf-8", "replace")
    if reply[0] != code:
        raise smtplib.SMTPResponseException(reply[0], text)
    return text


def _queue_id(reply: str) -> str:
    return reply.rsplit(" ", 1)[-1].strip()


def _headers(path: Path) -> Any:
    with contextlib.suppress(FileNotFoundError):
        return BytesHeaderParser(policy=policy.default).parsebytes(path.read_bytes()[:65_536])
    return EmailMessage()


def _hop(received: str) -> str:
    host = received.partition(" by ")[2].split(" ", 1)[0]
    protocol = received.partition(" with ")[2].split(" ", 1)[0]
    version = next(
        (word.strip("(,") for word in received.split() if word.strip("(,").startswith("TLSv")), "in clear"
    )
    return f"{host} {protocol} {version}"


def _plain(subject: str, to: str, text: str = "A line of text.\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@alpha.example>", to, subject
    message.set_content(text)
    return message


async def _deliver(
    stage: Stage, title: str, message: EmailMessage | bytes, to: tuple[str, ...], at: tuple[str, ...] = ()
) -> Outcome:
    """The usual scene: submit at alpha, wait for it in every mailbox of `at` (by default those of `to`)."""
    subject = _subject(message)
    outcome = Outcome(
        title, True, "delivered", "ann@alpha.example", to[0] if len(to) == 1 else f"{len(to)} people"
    )
    outcome.id = await stage.submit(message, "ann@alpha.example", *to)
    for mailbox in at or to:
        user, _, domain = mailbox.partition("@")
        path = await stage.arrival(domain_site(domain), user, domain, subject)
        if path is None:
            outcome.good, outcome.verdict = False, f"did not arrive at {mailbox}"
            return outcome
        outcome.hops = stage.hops(path)
    outcome.proven = await _proven(stage, outcome.id)
    return outcome


def domain_site(domain: str) -> str:
    """The short name of the site that serves a domain."""
    return next(plan.name for plan in PLANS if domain in plan.domains)


async def _proven(stage: Stage, message_id: str) -> str:
    """Who was proven to whom at alpha: the login, and the server's name where its certificate was checked."""
    known = await stage.facts("alpha", message_id)
    return ", ".join(
        f"{fact['name']} {fact['value']}"
        for fact in known.get("facts", ())
        if fact["provenance"] == "proven" and fact["name"] in ("login", "client.ptr", "tls.client.name")
    )


def _subject(message: EmailMessage | bytes) -> str:
    if isinstance(message, EmailMessage):
        return str(message["Subject"])
    return str(BytesHeaderParser(policy=policy.default).parsebytes(message)["Subject"])


async def plain(stage: Stage) -> Outcome:
    """A plain message."""
    return await _deliver(
        stage, "plain text", _plain("Plain and simple", "carol@beta.example"), ("carol@beta.example",)
    )


async def attachment(stage: Stage) -> Outcome:
    """With an attachment that must come out octet for octet."""
    content = bytes(range(256)) * 200
    message = _plain("With an attachment", "carol@beta.example")
    message.add_attachment(content, maintype="application", subtype="octet-stream", filename="all-octets.bin")
    outcome = await _deliver(stage, "attachment", message, ("carol@beta.example",))
    path = await stage.arrival("beta", "carol", "beta.example", "With an attachment")
    if path is not None and _attachment(path) != content:
        outcome.good, outcome.verdict = False, "the attachment was changed"
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
    message = _plain("Five mebibytes", "dave@beta.example", text)
    return await _deliver(stage, "5 MiB", message, ("dave@beta.example",))


async def alias(stage: Stage) -> Outcome:
    """One address, two people."""
    message = _plain("To the whole team", "team@beta.example")
    at = ("carol@beta.example", "dave@beta.example")
    return await _deliver(stage, "alias", message, ("team@beta.example",), at)


async def crowd(stage: Stage) -> Outcome:
    """Two hundred recipients of one message."""
    to = tuple(f"guest{number}@many.example" for number in range(200))
    return await _deliver(stage, "200 recipients", _plain("To everybody", "guests:;"), to)


async def switched(stage: Stage) -> Outcome:
    """To a site whose MX preference says: QMTP."""
    message = _plain("By QMTP", "grace@quick.example")
    return await _deliver(stage, "QMTP by MXPS", message, ("grace@quick.example",))


async def unknown_user(stage: Stage) -> Outcome:
    """To nobody: refused at RCPT by beta, and a status report comes back to ann."""
    message = _plain("Is anybody there", "nobody@beta.example")
    outcome = Outcome("unknown user", False, "no report came", "ann@alpha.example", "nobody@beta.example")
    outcome.id = await stage.submit(message, "ann@alpha.example", "nobody@beta.example")
    path = await stage.report("ann", "nobody@beta.example")
    if path is not None:
        outcome.good, outcome.verdict = True, "5.1.1 reported back to ann (DSN)"
        outcome.hops = stage.hops(path)
    return outcome


async def site_down(stage: Stage) -> Outcome:
    """To a site that is not there yet: the mail waits, the site comes up, the mail arrives."""
    message = _plain("When you are back", "frank@delta.example")
    outcome = Outcome("site down, comes back", False, "", "ann@alpha.example", "frank@delta.example")
    outcome.id = await stage.submit(message, "ann@alpha.example", "frank@delta.example")
    waited = await stage.event(outcome.id, "deferred")
    await stage.internet.start_site("delta")
    path = await stage.arrival("delta", "frank", "delta.example", "When you are back")
    outcome.good = path is not None and waited is not None
    outcome.verdict = "deferred, then delivered" if outcome.good else "did not wait and arrive"
    outcome.hops = stage.hops(path) if path else []
    return outcome


async def unmet_requirement(stage: Stage) -> Outcome:
    """Alpha demands a verified server for that domain; gamma has no TLS, so the mail waits and says why."""
    message = _plain("For the vault only", "keeper@vault.example")
    outcome = Outcome("TLS required, none there", False, "", "ann@alpha.example", "keeper@vault.example")
    outcome.id = await stage.submit(message, "ann@alpha.example", "keeper@vault.example")
    event = await stage.event(outcome.id, "deferred")
    arrived = stage.site("gamma").mailbox("keeper", "vault.example")
    outcome.good = event is not None and not arrived
    outcome.verdict = f"waits: {event['text']}" if event else "was not deferred"
    return outcome


async def stranger(stage: Stage) -> Outcome:
    """A stranger asks beta to relay to somebody else's domain."""
    outcome = Outcome(
        "relaying for a stranger", False, "relayed!", "mallory@stranger.example", "erin@gamma.example"
    )
    reply = await asyncio.to_thread(_ask_to_relay, stage.site("beta").plan.address)
    if reply[0] in (530, 550, 554):
        outcome.good, outcome.verdict = True, f"refused: {reply[0]} {reply[1].decode(errors='replace')}"
    return outcome


def _ask_to_relay(address: str) -> tuple[int, bytes]:
    with smtplib.SMTP(address, SMTP_PORT, local_hostname="stranger.example", timeout=30) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("mallory@stranger.example")
        return client.rcpt("erin@gamma.example")


async def against_policy(stage: Stage) -> Outcome:
    """Alpha's own rule refuses it, by name."""
    outcome = Outcome("refused by a rule", False, "taken", "ann@alpha.example", "carol@beta.example")
    try:
        message = _plain("You won the lottery", "carol@beta.example")
        await stage.submit(message, "ann@alpha.example", "carol@beta.example")
    except smtplib.SMTPResponseException as refusal:
        outcome.good = True
        outcome.verdict = f"refused: {refusal.smtp_code} {refusal.smtp_error!s}"
    return outcome


Scene = Callable[[Stage], Awaitable[Outcome]]

SCENES: tuple[Scene, ...] = (
    plain, attachment, international, eight_bit, large, alias, crowd, switched, unknown_user, site_down,
    unmet_requirement, stranger, against_policy,
)  # fmt: skip
