"""A sender with a domain, records and certificates in order, and a holder that says yes to everything, at a
running incoming gateway: replays, messages that are not what was told of, answers that never end, postage
that is forged, copied or spent twice (SEC-182 to SEC-194)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import secrets
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from outrider.holding.postage.forms import key_of
from outrider.model.address import parse_address, parse_domain
from outrider.protocols.amdp.callback import QUERY_PATH
from outrider.protocols.amdp.digest import Digest
from outrider.protocols.amdp.envelope import HeldEnvelope, write_envelope
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.mail_class import parse_class
from outrider.protocols.amdp.retrieval import MESSAGE_PATH
from tests.attacks.evil_holder import EvilHolder, Held, Speak, drips, endless, head, says, serves
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.amdp_role_sites import amdp_server
from tests.system.sites import headers_of, json_rows, mailbox

EVE, HOLDER, GATEWAY = "eve@evil.example", "mhf-1.evil.example", "amdp-mis.beta.example"
READERS = ["bob", "carl"]
PRICED = "Agent::Business::offer"
FREE = "Agent::Personal::letter"
PRICE = 5
LATE_S = 2.0
"""[amdp.incoming] timeout."""


@dataclass
class Site:
    """Beta's gateway, which asks a price for business, and Eve's holder."""

    server: OutriderServer
    address: str
    eve: EvilHolder
    authority: CertificateAuthority
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def hold(self, speaks: Speak | None = None, size: int = 0, **changes: Any) -> tuple[HeldEnvelope, bytes]:
        """An envelope of Eve's, and the message that it tells of. Her holder serves that, or `speaks`."""
        number = next(self.numbers)
        message = f"From: <{EVE}>\r\nSubject: n{number}\r\n\r\nbegin {number}\r\n".encode()
        message += b"0123456789\r\n" * (size // 12)
        now = int(time.time())
        usual = HeldEnvelope(
            sender=parse_address(EVE),
            recipient=parse_address("bob@beta.example"),
            id=identifier(secrets.token_bytes(OCTETS)),
            digest=Digest(hashlib.sha256(message).digest(), len(message)),
            mail_class=parse_class(FREE),
            date=now,
            timestamp=now,
            expires=now + 9999,
            holder=parse_domain(HOLDER),
            subject=f"n{number}",
        )
        envelope = replace(usual, **changes)
        self.eve.holds[envelope.id] = Held(str(envelope.recipient), speaks or serves(message))
        return envelope, message

    def bring(self, octets: bytes, recipient: str = "bob@beta.example") -> str:
        """Deliver an envelope; its queue id. An address that nobody has proven yet comes back."""
        for _ in range(200):
            with smtplib.SMTP(
                self.address, 25, timeout=PATIENCE_S, source_address=(self.eve.address, 0)
            ) as link:
                link.ehlo(HOLDER)
                link.docmd("MAIL", f"FROM:<{EVE}> AMDP")
                link.docmd("RCPT", f"TO:<{recipient}>")
                code, words = link.data(octets)
            if code != 450:
                break
            time.sleep(0.1)
        assert code == 250, words
        return words.split()[-1].decode()

    def send(self, envelope: HeldEnvelope) -> str:
        return self.bring(octets_of(envelope), str(envelope.recipient))

    def end(self, queue_id: str) -> dict[str, Any]:
        """What the log says became of an envelope: confirmed or dropped."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [
                one
                for one in self.server.log_events()
                if one["event"] in ("amdp_confirmed", "amdp_dropped") and one["id"] == queue_id
            ]
            return bool(found)

        wait_until(look, f"an end of {queue_id}")
        return found[0]

    def dropped(self, queue_id: str) -> str:
        """Why."""
        end = self.end(queue_id)
        assert end["event"] == "amdp_dropped", end
        return str(end["why"])

    def lost(self, queue_id: str) -> str:
        """Why the message of a confirmed envelope cannot be had."""
        made = self.end(queue_id)["made"]
        [event] = self.server.wait_event("amdp_lost", id=made)
        return str(event["why"])

    def waits(self, queue_id: str) -> str:
        """Why it is tried again."""
        made = self.end(queue_id)["made"]
        return str(self.server.wait_event("amdp_waits", id=made)[0]["text"])

    def subjects(self, reader: str = "bob") -> list[str]:
        """Subjects of what is in a mailbox."""
        heads = [headers_of(one) for one in mailbox(self.server, reader)]
        return [re.findall(rb"(?m)^Subject: (.*)$", one)[0].decode() for one in heads]

    def arrived(self, envelope: HeldEnvelope) -> int:
        """How often its message is in the mailbox, once an ordinary one that was sent after it is."""
        later, _ = self.hold()
        self.send(later)
        wait_until(lambda: later.subject in self.subjects(), "the next message")
        return self.subjects().count(envelope.subject)

    def queue_is_empty(self) -> None:
        wait_until(lambda: not json_rows(self.server, "queue", "list"), "an empty queue")


def octets_of(envelope: HeldEnvelope) -> bytes:
    return write_envelope(envelope, message_id=f"{secrets.token_hex(8)}@evil.example")


@contextmanager
def eves_site(folder: Path, **running: Any) -> Iterator[Site]:
    """Both of them; `running` is how beta's server is run."""
    authority = CertificateAuthority(folder)
    here, eve_at = loopback_address(), loopback_address()
    zones = {
        "beta.example": f"@ MX 10 mx\nmx A {here}\namdp-mis A {here}",
        "evil.example": f"@ MX 10 mhf-1\nmhf-1 A {eve_at}",
    }
    with ExitStack() as stack:
        names = stack.enter_context(BindServer(zones))
        settings = amdp_server(
            "beta.example",
            here,
            names,
            authority,
            ["mx.beta.example", GATEWAY],
            {
                "roles": ["img", "mis"],
                "policy": {"accept": {"*": "", "*::Business::*": "0.005"}},
                "postage": {"provider": "ledger", "unvouched": "claimed"},
                "incoming": {"window": 0, "retry": [0.5], "timeout": LATE_S},
            },
            users=READERS,
        )
        eve = stack.enter_context(EvilHolder(eve_at, authority.issue(HOLDER)))
        server = stack.enter_context(OutriderServer(settings, **running))
        yield Site(server, here, eve, authority)
        server.stop()
        assert "Traceback" not in server.log()
        assert not server.log_events("amdp_incoming_failed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with eves_site(tmp_path_factory.mktemp("authority")) as made:
        yield made


# --- replays (SEC-182) --------------------------------------------------------------------------------------


@pytest.mark.covers("SEC-182", "SEC-187")
def test_of_a_hundred_replays_one_is_asked_about_and_none_is_fetched(site: Site) -> None:
    envelope, _ = site.hold()
    octets = octets_of(envelope)
    first = site.bring(octets)
    assert site.end(first)["event"] == "amdp_confirmed"
    wait_until(lambda: envelope.subject in site.subjects(), "the message")
    with ThreadPoolExecutor(8) as threads:
        replays = list(threads.map(site.bring, [octets] * 100))
    assert {site.dropped(one) for one in replays} == {"replayed"}
    site.queue_is_empty()
    assert site.eve.count(MESSAGE_PATH, envelope.id) == 1
    assert site.subjects().count(envelope.subject) == 1


@pytest.mark.covers("SEC-182", "AMDP-10")
def test_a_replay_to_another_recipient_or_in_another_name_is_none(site: Site) -> None:
    envelope, _ = site.hold()
    carls = replace(envelope, recipient=parse_address("carl@beta.example"))
    assert site.dropped(site.send(carls)) == "recipient"
    assert site.end(site.send(envelope))["event"] == "amdp_confirmed"
    for changed in (carls, replace(envelope, sender=parse_address("other@evil.example"))):
        assert site.dropped(site.send(changed)) == "replayed"
    assert envelope.subject not in site.subjects("carl")


@pytest.mark.covers("SEC-182", "AMDP-9")
def test_what_was_withdrawn_meanwhile_is_nothing(site: Site) -> None:
    """Withdrawn before it is asked about, and between question and acknowledgement."""
    for withdraw in ("knows", "acknowledges"):
        envelope, _ = site.hold()
        setattr(site.eve, withdraw, False)
        try:
            assert site.dropped(site.send(envelope)) == "unknown"
        finally:
            setattr(site.eve, withdraw, True)
        assert site.arrived(envelope) == 0


# --- what is served (SEC-183, SEC-184, SEC-188) -------------------------------------------------------------


@pytest.mark.covers("SEC-183", "SEC-184")
@pytest.mark.parametrize("size", [0, 300_000], ids=["small", "large"])
@pytest.mark.parametrize("lie", ["swapped", "longer", "shorter", "another's From"])
def test_what_is_not_what_was_told_is_not_delivered(site: Site, lie: str, size: int) -> None:
    envelope, message = site.hold(size=size)
    octets, length = {
        "swapped": (message.replace(b"begin", b"never"), len(message)),
        "longer": (message + b"x", len(message) + 1),
        "shorter": (message[:-2], len(message) - 2),
        "another's From": (message.replace(b"eve@", b"bob@"), len(message)),
    }[lie]
    if lie == "another's From":
        octets = octets.replace(b"@evil.example", b"@beta.example")
        envelope = replace(envelope, digest=Digest(hashlib.sha256(octets).digest(), len(octets)))
        length = len(octets)
    site.eve.holds[envelope.id].speaks = says(head(f"Content-Length: {length}") + octets)
    assert site.lost(site.send(envelope)) == "swapped"
    assert site.arrived(envelope) == 0
    assert f"Not received: {envelope.subject}" in site.subjects(), "its reader is told"


def bad_answers(message: bytes) -> dict[str, bytes]:
    """That say nothing of a message: it is asked again."""
    length = f"Content-Length: {len(message)}"
    chunked = "Transfer-Encoding: chunked"
    bomb = f"Content-Length: {len(message)}"
    return {
        "no length": head() + message,
        "a bad chunk": head(chunked) + b"zz\r\n" + message,
        "both lengths": head(length, chunked) + message,
        "two lengths": head(length, "Content-Length: 3") + message,
        "gzip": head(bomb, "Content-Encoding: gzip") + message,
        "206": head(length, status="206 Partial Content") + message,
        "304": head(status="304 Not Modified"),
        "401": head("Content-Length: 0", status="401 Unauthorized"),
        "500": head("Content-Length: 0", status="500 Oh"),
        "a redirect": head(f"Location: https://{HOLDER}/x", "Content-Length: 0", status="302 Found"),
        "a redirect elsewhere": head("Location: http://127.0.0.1/", "Content-Length: 0", status="307 There"),
        "more than it says": head(length) + message + message,
        "half of it": head(length) + message[: len(message) // 2],
        "no HTTP": b"220 mx.evil.example ESMTP\r\n",
        "many fields": head(*["X: y"] * 5_000, length) + message,
    }


@pytest.mark.covers("SEC-184", "SEC-188")
@pytest.mark.parametrize("how", bad_answers(b"x"))
def test_an_answer_that_is_none_is_asked_for_again_and_delivered_once(site: Site, how: str) -> None:
    envelope, message = site.hold()
    site.eve.holds[envelope.id].speaks = says(bad_answers(message)[how])
    queue_id = site.send(envelope)
    assert site.waits(queue_id)
    assert envelope.subject not in site.subjects()
    site.eve.holds[envelope.id].speaks = serves(message)
    wait_until(lambda: envelope.subject in site.subjects(), "the message")
    site.queue_is_empty()
    assert site.subjects().count(envelope.subject) == 1
    assert site.eve.count(QUERY_PATH, envelope.id) == 1, "the id was burnt long since"


@pytest.mark.covers("SEC-184", "SEC-188")
@pytest.mark.parametrize("how", ["drips", "endless", "silent"])
def test_an_answer_that_never_ends_is_given_up_while_others_come(site: Site, how: str) -> None:
    envelope, message = site.hold(size=200_000)
    octets = head(f"Content-Length: {len(message)}") + message
    site.eve.holds[envelope.id].speaks = {
        "drips": drips(octets, 0.05),
        "endless": endless(bytes(65_536), 1_000_000_000),
        "silent": lambda _: time.sleep(4 * LATE_S),
    }[how]
    queue_id = site.send(envelope)
    assert site.arrived(envelope) == 0, "another of the same holder came meanwhile"
    assert site.waits(queue_id)
    site.eve.holds[envelope.id].speaks = serves(message)
    wait_until(lambda: envelope.subject in site.subjects(), "the message")


@pytest.mark.covers("SEC-189", "SEC-182")
def test_a_holder_that_has_lost_everything_is_told_to_the_readers(site: Site) -> None:
    envelope, _ = site.hold(says(head("Content-Length: 0", status="404 Not Found")))
    assert site.lost(site.send(envelope)) == "gone"
    wait_until(lambda: f"Not received: {envelope.subject}" in site.subjects(), "a letter")


@dataclass(slots=True)
class Crowd:
    """How many are within at once. They leave before they answer: who is answered may come again at once."""

    within: int = 0
    most: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """One more, for the time of a `with`."""
        with self.guard:
            self.within += 1
            self.most = max(self.most, self.within)
        try:
            yield
        finally:
            with self.guard:
                self.within -= 1


@pytest.mark.covers("SEC-187", "AMDP-12")
def test_a_victim_is_called_by_few_at_a_time(site: Site) -> None:
    """Forty envelopes at once are forty fetches, one for each, and never more than four under way."""
    fetches = Crowd()

    def slowly(message: bytes) -> Speak:
        def speak(link: Any) -> None:
            with fetches.joined():
                time.sleep(0.1)
            serves(message)(link)

        return speak

    made = []
    for _ in range(40):
        envelope, message = site.hold()
        site.eve.holds[envelope.id].speaks = slowly(message)
        made.append(envelope)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(site.send, made))
    wait_until(lambda: {one.subject for one in made} <= set(site.subjects()), "all of them")
    assert 1 <= fetches.most <= 4
    assert {site.eve.count(MESSAGE_PATH, one.id) for one in made} == {1}


# --- postage (SEC-190 to SEC-193) ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Purse:
    """Eve's account at beta's ledger, and what it says."""

    site: Site
    key: bytes

    def ask(self, path: str, request: object) -> tuple[int, dict[str, Any]]:
        """An order, proven by the account's key; status and answer."""
        text, now = json.dumps(request), int(time.time())
        account = "evil"
        mac = hmac.new(self.key, f"{path}\n{account}\n{now}\n{text}".encode(), "sha256").hexdigest()
        body = json.dumps({"account": account, "time": now, "request": text, "mac": mac}).encode()
        status, answer = https_post(self.site, path, body)
        return status, json.loads(answer) if answer.startswith(b"{") else {}

    def order(self, envelope: HeldEnvelope, **changes: object) -> tuple[int, dict[str, Any]]:
        """Buy a receipt for an envelope."""
        usual: dict[str, object] = {
            "payer": "evil.example",
            "domain": "beta.example",
            "purpose": envelope.id,
            "amount": PRICE,
            "currency": "USD",
            "expires": int(time.time()) + 9999,
        }
        return self.ask("/amdp/v1/postage/receipt", usual | changes)

    def receipt(self, envelope: HeldEnvelope, **changes: object) -> str:
        status, answer = self.order(envelope, **changes)
        assert status == 200, answer
        return str(answer["receipt"])

    def spent(self) -> str:
        [row] = json_rows(self.site.server, "postage", "ledger", "evil")
        return str(row["spent"])


def https_post(site: Site, path: str, body: bytes) -> tuple[int, bytes]:
    """By a connection of its own."""
    context = ssl.create_default_context(cafile=str(site.authority.authority))
    head = f"POST {path} HTTP/1.1\r\nHost: {GATEWAY}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        socket.create_connection((site.address, 443), PATIENCE_S) as raw,
        context.wrap_socket(raw, server_hostname=GATEWAY) as link,
    ):
        link.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def purse(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Purse:
    return filled_purse(site, tmp_path_factory.mktemp("purse") / "secret")


def filled_purse(site: Site, secret: Path) -> Purse:
    """An account with a hundred dollars."""
    site.server.cli("postage", "account", "open", "evil", "evil.example", "--key-file", str(secret))
    site.server.cli("postage", "credit", "evil", "100.000", "--reference", "first")
    return Purse(site, key_of(secret.read_text().strip()))


def offer(site: Site, **changes: Any) -> tuple[HeldEnvelope, bytes]:
    """An envelope of a class that has a price."""
    return site.hold(mail_class=parse_class(PRICED), **changes)


@pytest.mark.covers("SEC-190", "SEC-182", "AMDP-20")
def test_one_receipt_in_many_sessions_is_spent_once(site: Site, purse: Purse) -> None:
    """As copies of its envelope, and in other envelopes."""
    before = Decimal(purse.spent())
    envelope, _ = offer(site)
    paid = replace(envelope, postage=purse.receipt(envelope))
    thieves = [replace(offer(site)[0], postage=paid.postage) for _ in range(20)]
    with ThreadPoolExecutor(10) as threads:
        ids = list(threads.map(site.send, [paid, *thieves, *[paid] * 20]))
    ends = [site.end(one) for one in ids]
    assert [one["event"] for one in ends].count("amdp_confirmed") == 1
    assert {one["why"] for one in ends if one["event"] == "amdp_dropped"} == {"postage", "replayed"}
    wait_until(lambda: envelope.subject in site.subjects(), "the paid one")
    site.queue_is_empty()
    assert not {one.subject for one in thieves} & set(site.subjects())
    assert Decimal(purse.spent()) - before == Decimal("0.005")


@pytest.mark.covers("SEC-191", "AMDP-20")
def test_what_is_not_taken_in_the_session_spends_nothing(site: Site, purse: Purse) -> None:
    """RSET, a broken connection, a refusal: then it is spent by the one that is taken."""
    before = purse.spent()
    envelope, _ = offer(site)
    paid = replace(envelope, postage=purse.receipt(envelope))
    octets = octets_of(paid)
    for ending in (b"RSET\r\nQUIT\r\n", b"", b"DATA\r\n" + octets[: len(octets) // 2], b"DATA\r\n" + octets):
        with socket.create_connection((site.address, 25), PATIENCE_S, (site.eve.address, 0)) as link:
            begin = f"EHLO {HOLDER}\r\nMAIL FROM:<{EVE}> AMDP\r\nRCPT TO:<bob@beta.example>\r\n"
            for line in begin.splitlines():
                link.recv(4096)
                link.sendall(f"{line}\r\n".encode())
            link.recv(4096)
            link.sendall(ending)
    spoilt = octets.replace(b"AMDP-Version: 1.0", b"AMDP-Version: 9.0")
    with pytest.raises(AssertionError, match="Not an envelope"):
        site.bring(spoilt)
    assert purse.spent() == before
    assert site.end(site.send(paid))["event"] == "amdp_confirmed"
    assert purse.spent() != before


def spellings(receipt: str) -> dict[str, str]:
    """That a careless reader would take for the same, and some that were never signed."""
    head, body, signature = receipt.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))

    def again(**changes: object) -> str:
        text = json.dumps(claims | changes, separators=(",", ":")).encode()
        return f"{head}.{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{signature}"

    unsigned = json.dumps({"alg": "none", "typ": "amdp-postage"}).encode()
    return {
        "padded": f"{receipt}==",
        "upper case": receipt.upper(),
        "swapped case": receipt.swapcase(),
        "a fourth part": f"{receipt}.",
        "no signature": f"{head}.{body}.",
        "algorithm none": f"{base64.urlsafe_b64encode(unsigned).rstrip(b'=').decode()}.{body}.",
        "minus one": again(amount=-1),
        "two to the 63": again(amount=2**63),
        "a float": again(amount=0.1 + 0.2),
        "not a number": again(amount=float("nan")),
        "1e308": again(amount=1e308),
        "a text": again(amount="5"),
        "leading zeros": receipt.replace(body, base64.urlsafe_b64encode(
            base64.urlsafe_b64decode(body + "==").replace(b'"amount":5', b'"amount":005')
        ).rstrip(b"=").decode()),
        "another currency": again(currency="EUR"),
        "another recipient": again(domain="gamma.example"),
        "for ever": again(expires=2**62),
        "of the future": again(issued=int(time.time()) + 9999),
    }  # fmt: skip


@pytest.mark.covers("SEC-192", "SEC-193", "AMDP-20")
def test_a_receipt_has_one_form_and_is_signed(site: Site, purse: Purse) -> None:
    before = purse.spent()
    for how in spellings("e30.e30.e30"):
        envelope, _ = offer(site)
        other = spellings(purse.receipt(envelope))[how]
        assert site.dropped(site.send(replace(envelope, postage=other))) == "postage", how
    assert purse.spent() == before


@pytest.mark.covers("SEC-193", "SEC-192")
def test_what_is_ordered_is_counted_in_whole_thousandths(site: Site, purse: Purse) -> None:
    envelope, _ = offer(site)
    for wrong in (-1, 0, 2**63, 1e308, 0.1 + 0.2, float("nan"), "5", "٥", None, [5]):
        status, answer = purse.order(envelope, amount=wrong)
        assert status in (400, 409), (wrong, answer)
    for name, value in (("currency", "EUR"), ("payer", "beta.example"), ("expires", 1), ("purpose", "")):
        assert purse.order(envelope, **{name: value})[0] in (400, 409), name
    assert site.server.cli("postage", "ledger", check=False).returncode == 0, "the books add up"


@pytest.mark.covers("SEC-193", "SEC-194")
def test_a_receipt_for_another_sender_time_or_epoch_is_none(site: Site, purse: Purse) -> None:
    envelope, _ = offer(site)
    short = purse.receipt(envelope, amount=PRICE - 1)
    assert site.dropped(site.send(replace(envelope, postage=short))) == "postage"
    soon, _ = offer(site)
    brief = purse.receipt(soon, expires=int(time.time()) + 1)
    time.sleep(2)
    assert site.dropped(site.send(replace(soon, postage=brief))) == "postage"
    old, _ = offer(site)
    receipt = purse.receipt(old)
    site.server.cli("postage", "renew")
    assert site.dropped(site.send(replace(old, postage=receipt))) == "postage"
    new, _ = offer(site)
    assert site.end(site.send(replace(new, postage=purse.receipt(new))))["event"] == "amdp_confirmed"
