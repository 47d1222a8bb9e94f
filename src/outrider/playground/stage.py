"""What scenes do with the sites: hand mail in, as its writers would, and look where it has come to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, TypeVar

from outrider.playground.film import Pieces
from outrider.playground.internet import Internet
from outrider.playground.people import PASSWORD, Laptop
from outrider.playground.site import PRIVATE_PORT, SMTP_PORT, SUBMISSION_PORT, Site

ARRIVAL_LIMIT_S = 90.0
POLL_S = 0.25
_CONNECT_LIMIT_S = 30.0
_PROOFS = (
    "login", "host", "amtp.connection", "partner", "amdp.domain", "amdp.class", "client.ptr",
    "tls.client.name", "mpc",
)  # fmt: skip
"""Facts that say who somebody is, or what they say of their mail."""
_IN_HOST = ("client.ptr", "tls.client.name")
"""What a proven host rests on, so that it need not be told beside it."""
_REASON = re.compile(r"(?:[2-5][0-9]{2} )?[245]\.[0-9]{1,3}\.[0-9]{1,3} .*")
_COMMENT = re.compile(r"\([^()]*\)")
_Found = TypeVar("_Found")


@dataclass(slots=True)
class Outcome:
    """What came of one scene."""

    title: str
    good: bool
    verdict: str
    sender: str = ""
    recipient: str = ""
    hops: list[str] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    """Who knew what of whom, a line for each host that did."""
    id: str = ""
    table: list[str] = field(default_factory=list)

    def now_is(self, verdict: str, *, good: bool) -> Outcome:
        """The same with its end known."""
        self.good, self.verdict = good, verdict
        return self


class Refused(Exception):
    """A server said no; the argument is what it said."""


class Stage:
    """The sites, and what scenes do with them."""

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        self._waiting_for_delta = asyncio.Barrier(2)

    def site(self, name: str) -> Site:
        """By short name."""
        return self.internet.sites[name]

    # -- handing in --------------------------------------------------------------------------------

    async def submit(self, message: EmailMessage | bytes | Pieces, sender: str, *recipients: str) -> str:
        """Send through alpha's submission port, as any mail client would; the queue id.

        The login is the part before the @. Raises Refused when alpha says no.
        """
        return await asyncio.to_thread(self._submit, message, sender, recipients)

    def _submit(
        self, message: EmailMessage | bytes | Pieces, sender: str, recipients: tuple[str, ...]
    ) -> str:
        alpha = self.site("alpha").plan
        with smtplib.SMTP(
            alpha.address, SUBMISSION_PORT, local_hostname="laptop.alpha.example", timeout=_CONNECT_LIMIT_S
        ) as client:
            client.starttls(context=self._trust())
            client.ehlo()
            client.login(sender.partition("@")[0], PASSWORD)
            if not isinstance(message, EmailMessage | bytes):
                return transact(client, sender, recipients, message, [])
            octets = octets_of(message)
            wide = not "".join((sender, *recipients)).isascii() or not octets.split(b"\r\n\r\n")[0].isascii()
            options = ["SMTPUTF8", "BODY=8BITMIME"] if wide else ["BODY=8BITMIME"]
            client.ehlo_or_helo_if_needed()
            return transact(client, sender, recipients, octets, options)

    async def hand_in(self, at: str, message: EmailMessage | bytes, sender: str, recipient: str) -> str:
        """Give mail to a site from its own office; the queue id. Raises Refused."""
        office = self.site(at).plan.office
        return await self.approach(at, office, f"office.{at}.example", message, sender, recipient)

    async def approach(
        self,
        at: str,
        source: str,
        name: str,
        message: EmailMessage | bytes,
        sender: str,
        recipient: str,
        options: Sequence[str] = (),
    ) -> str:
        """Send by plain SMTP from any address, under any name; the queue id. Raises Refused."""

        def send() -> str:
            address = self.site(at).plan.address
            with smtplib.SMTP(
                address,
                SMTP_PORT,
                local_hostname=name,
                timeout=_CONNECT_LIMIT_S,
                source_address=(source, 0),
            ) as client:
                client.ehlo_or_helo_if_needed()
                return transact(client, sender, (recipient,), octets_of(message), list(options))

        return await asyncio.to_thread(send)

    def connect(self, laptop: Laptop) -> smtplib.SMTP_SSL:
        """A private AMTP connection from somebody's laptop to their provider; blocks. Raises OSError."""
        trust = self._trust()
        trust.load_cert_chain(*laptop.files(self.internet))
        return smtplib.SMTP_SSL(
            self.site(laptop.network).plan.address,
            PRIVATE_PORT,
            local_hostname=laptop.hostname,
            timeout=_CONNECT_LIMIT_S,
            source_address=(laptop.address, 0),
            context=trust,
        )

    def _trust(self) -> ssl.SSLContext:
        trust = ssl.create_default_context(cafile=str(self.internet.ca_file))
        trust.check_hostname = False  # the visitor's resolver does not know these names; the CA does
        return trust

    # -- looking -----------------------------------------------------------------------------------

    async def arrival(self, site: str, mailbox: str, subject: str) -> Path | None:
        """Wait for a message with that subject."""
        user, _, domain = mailbox.partition("@")
        return await self._found(site, user, domain, lambda path: headers_of(path)["Subject"] == subject)

    async def report(self, mailbox: str, about: str) -> Path | None:
        """Wait for a delivery status notification in a mailbox at alpha that names a recipient."""
        user, _, domain = mailbox.partition("@")

        def is_it(path: Path) -> bool:
            octets = path.read_bytes()
            return b"message/delivery-status" in octets and about.encode() in octets

        return await self._found("alpha", user, domain, is_it)

    async def _found(self, site: str, user: str, domain: str, is_it: Callable[[Path], bool]) -> Path | None:
        async def look() -> Path | None:
            for path in reversed(self.site(site).mailbox(user, domain)):
                with contextlib.suppress(FileNotFoundError):
                    if is_it(path):
                        return path
            return None

        return await patiently(look)

    async def event(self, site: str, message_id: str, kind: str) -> dict[str, Any] | None:
        """Wait for an event in a message's trail at a site."""

        async def look() -> dict[str, Any] | None:
            for event in (await self.facts(site, message_id)).get("events", ()):
                if event["kind"] == kind:
                    return dict(event)
            return None

        return await patiently(look)

    async def logged(self, site: str, event: str, **fields: str) -> dict[str, Any] | None:
        """Wait for a line of a site's log."""

        async def look() -> dict[str, Any] | None:
            for entry in self.site(site).log_events(event):
                if entry.items() >= fields.items():
                    return entry
            return None

        return await patiently(look)

    async def facts(self, site: str, message_id: str) -> dict[str, Any]:
        """What a site knows of a message, as `outrider explain --json` has it."""
        return await asyncio.to_thread(self.site(site).explain, message_id)

    async def knowledge(self, path: Path) -> list[str]:
        """What each host that a message came through knew of its peer, the first host first."""
        lines = [await self.known_at(host, queue_id) for host, queue_id in trace_of(path)]
        return [line for line in lines if line]

    async def known_at(self, host: str, queue_id: str) -> str:
        """What a host knew of a message's origin, in a line; "" for nothing."""
        site = next((one for one in self.internet.sites.values() if one.plan.hostname == host), None)
        known = await asyncio.to_thread(site.explain, queue_id) if site is not None else {}
        facts = [fact for fact in known.get("facts", ()) if fact["name"] in _PROOFS and fact["value"]]
        if any(fact["name"] == "host" for fact in facts):
            facts = [fact for fact in facts if fact["name"] not in _IN_HOST]
        by_worth = {
            worth: ", ".join(_shown(fact) for fact in facts if fact["provenance"] == worth)
            for worth in ("proven", "vouched", "claimed")
        }
        told = "; ".join(f"{worth} {which}" for worth, which in by_worth.items() if which)
        return f"at {host}: {told}" if told else ""

    async def delta_may_come(self) -> None:
        """Delta is started once everybody who wants to see it absent has seen it. Raises RuntimeError."""
        async with asyncio.timeout(ARRIVAL_LIMIT_S):
            turn = await self._waiting_for_delta.wait()
        if turn == 0:
            await self.internet.start_site("delta")


async def patiently(look: Callable[[], Awaitable[_Found | None]]) -> _Found | None:
    """What `look` finds, as soon as it finds anything."""
    for _ in range(int(ARRIVAL_LIMIT_S / POLL_S)):
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(POLL_S)
    return None


def transact(
    client: smtplib.SMTP,
    sender: str,
    recipients: tuple[str, ...],
    octets: bytes | Pieces,
    options: list[str],
) -> str:
    """MAIL, RCPT, DATA; the queue id. smtplib's own sendmail() does not give the final reply back.

    Raises Refused.
    """
    if "SMTPUTF8" in options:
        client.command_encoding = "utf-8"
    expect(client.mail(sender, options), 250)
    for recipient in recipients:
        expect(client.rcpt(recipient), 250)
    try:
        reply = client.data(octets) if isinstance(octets, bytes) else _data(client, octets)
    except smtplib.SMTPDataError as refused:
        reply = (refused.smtp_code, _octets(refused.smtp_error))
    return expect(reply, 250).rsplit(" ", 1)[-1].strip()


def _data(client: smtplib.SMTP, pieces: Pieces) -> tuple[int, bytes]:
    """DATA of what is too large for smtplib, which would copy it three times. Raises Refused."""
    expect(client.docmd("DATA"), 354)
    assert client.sock is not None, "it has just been heard"
    for piece in pieces():
        client.sock.sendall(piece)
    return client.docmd(".")


def expect(reply: tuple[int, bytes], code: int) -> str:
    """A reply's text. Raises Refused when it is another one than was hoped for."""
    text = reply[1].decode("utf-8", "replace").replace("\n", " / ")
    if reply[0] != code:
        raise Refused(f"{reply[0]} {text}")
    return text


def _octets(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def octets_of(message: EmailMessage | bytes) -> bytes:
    """As it goes over the wire."""
    return message if isinstance(message, bytes) else message.as_bytes(policy=policy.SMTP)


def headers_of(path: Path) -> Any:
    """A delivered message's header section."""
    with contextlib.suppress(FileNotFoundError):
        return BytesHeaderParser(policy=policy.default).parsebytes(path.read_bytes()[:65_536])
    return EmailMessage()


def hops_of(path: Path) -> list[str]:
    """From the Received fields, oldest first: ``mx.beta.example ESMTPS TLSv1.3``."""
    return [_hop(field) for field in _received(path)]


def trace_of(path: Path) -> list[tuple[str, str]]:
    """The hosts that a message came through and the id it had there, oldest first."""
    fields = map(_plain, _received(path))
    return [(_word_after(field, " by "), _word_after(field, " id ")) for field in fields]


def reason_in(text: str) -> str:
    """The end of an event's text that says why: codes and sentence."""
    found = _REASON.search(text)
    return found[0] if found else text


def diagnosis_of(path: Path) -> str:
    """Why it was not delivered, from a status report."""
    unfolded = re.sub(r"\r?\n[ \t]", " ", path.read_bytes().decode("utf-8", "replace"))
    for line in unfolded.split("\n"):
        if line.lower().startswith("diagnostic-code:"):
            return " ".join(line.partition(";")[2].split())
    return "no reason given"


def _plain(received: str) -> str:
    """Without comments, in which peers and their certificates are described."""
    return " ".join(_COMMENT.sub(" ", received).split())


def _received(path: Path) -> list[str]:
    fields = headers_of(path).get_all("Received", [])
    return [" ".join(str(field).split()) for field in reversed(fields)]


def _hop(received: str) -> str:
    words = (word.strip("(,") for word in received.split())
    version = next((word for word in words if word.startswith("TLSv")), "in clear")
    plain = _plain(received)
    return f"{_word_after(plain, ' by ')} {_word_after(plain, ' with ')} {version}"


def _word_after(text: str, before: str) -> str:
    return text.partition(before)[2].split(" ", 1)[0].rstrip(";")


def _shown(fact: dict[str, Any]) -> str:
    value = fact["value"]
    text = ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
    return f"{fact['name']} {text}"


def plain_message(
    subject: str, to: str, sender: str = "Ann <ann@alpha.example>", text: str = ""
) -> EmailMessage:
    """A message of one line."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message.set_content(text or "A line of text.\n")
    return message
