"""The end comes while something is under way, at running servers over sockets: a message expires or is
withdrawn while it is being sent, its holder dies in the middle of it or loses all that it held, a holder is
gone until the envelope expires, and a server dies about the 250 to an envelope that has paid (SEC-188 to
SEC-191)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import smtplib
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from outrider.protocols.amdp.envelope import HeldEnvelope
from outrider.protocols.amdp.retrieval import MESSAGE_PATH
from tests.attacks.evil_holder import head, says
from tests.attacks.test_amdp_incoming import EVE, PRICE, Purse, eves_site, filled_purse, octets_of, offer
from tests.attacks.test_amdp_incoming import HOLDER as EVES_HOLDER
from tests.attacks.test_amdp_incoming import Site as EvesSite
from tests.attacks.test_amdp_web import HOLDER, OWN, Site, alphas_site, newest, request, status_of
from tests.faults.test_clock import DAY, HOUR, Clock
from tests.faults.wire_of_holders import AFTER, ENVELOPE, SmtpWire
from tests.peers.addresses import loopback_address
from tests.peers.rooms import PATIENCE_S, wait_until
from tests.system.amdp_role_sites import letter
from tests.system.sites import json_rows, mailbox

MORTAL = Path(__file__).parents[1] / "faults" / "mortal.py"
LARGE = 40_000_000
"""More than all buffers between the two hold: while nobody reads on, it is under way."""


# --- a holder (SEC-188) -------------------------------------------------------------------------------------


@contextmanager
def holding(folder: Path, clock: Clock) -> Iterator[Site]:
    """Alpha with a clock that can be set."""
    amdp = {"roles": ["omg", "mhf", "mis"]}
    with alphas_site(folder, amdp, ["ann", "bob"], environment=clock.environment) as made:
        yield made


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    with Clock(tmp_path) as made:
        yield made


@pytest.fixture
def holder(tmp_path: Path, clock: Clock) -> Iterator[Site]:
    with holding(tmp_path / "authority", clock) as made:
        yield made


def by_program(page: str) -> bytes:
    """A request for the message of a page, by somebody who has its link only."""
    message_id, token = page.split("/")[2:]
    body = json.dumps({"id": message_id, "confirmation": token}).encode()
    return request("POST", MESSAGE_PATH, HOLDER, "Content-Type: application/json", body=body)


def by_person(page: str) -> bytes:
    return request("POST", page, HOLDER, *OWN, body=b"do=message")


def all_of(link: ssl.SSLSocket, began: bytes) -> tuple[int, bytes]:
    """What was said that there is, and what came of it until the connection ended."""
    pieces = [began]
    with contextlib.suppress(OSError):
        while more := link.recv(1 << 20):
            pieces.append(more)
    top, _, content = b"".join(pieces).partition(b"\r\n\r\n")
    said = re.search(rb"(?i)content-length: (\d+)", top)
    assert said is not None, top
    return int(said[1]), content


@pytest.mark.covers("SEC-188", "AMDP-23", "AMDP-6")
@pytest.mark.parametrize("end", ["expires", "is withdrawn"])
def test_what_ends_while_it_is_being_sent_comes_to_nobody_whole(holder: Site, clock: Clock, end: str) -> None:
    """By the page and by the way of programs, both under way at once; afterwards there is nothing."""
    page = holder.held(letter("ann@alpha.example", "large", LARGE))
    with holder.connect() as person, holder.connect() as program:
        person.sendall(by_person(page))
        program.sendall(by_program(page))
        under_way = [(link, link.recv(65_536)) for link in (person, program)]
        assert [status_of(began) for _, began in under_way] == [200, 200]
        if end == "expires":
            clock.jump(15 * DAY)
        else:
            holder.server.cli("held", "withdraw", newest(holder))
        for link, began in under_way:
            length, content = all_of(link, began)
            assert length > LARGE
            assert len(content) < length
    for again in (by_person(page), by_program(page), request("GET", page, HOLDER)):
        answer = holder.say(again)
        assert status_of(answer) == 404
        assert b"0123456789" not in answer
    holder.mail_goes_on()


@pytest.mark.covers("SEC-188", "AMDP-13")
def test_a_holder_that_dies_while_it_sends_sends_it_whole_afterwards(holder: Site) -> None:
    content = letter("ann@alpha.example", "large", LARGE)
    page = holder.held(content)
    with holder.connect() as link:
        link.sendall(by_program(page))
        began = link.recv(65_536)
        holder.server.kill()
        length, piece = all_of(link, began)
        assert len(piece) < length
    holder.server.start()
    fetched = []
    for asked in (by_program(page), by_person(page)):
        with holder.connect() as link:
            link.sendall(asked)
            fetched.append(all_of(link, b"")[1])
    assert {len(one) for one in fetched} == {length}
    assert len({hashlib.sha256(one).digest() for one in fetched}) == 1
    assert fetched[0].endswith(content)
    assert status_of(holder.say(request("POST", page, HOLDER, *OWN, body=b"do=received"))) == 200
    assert status_of(holder.say(by_program(page))) == 404


@pytest.mark.covers("SEC-189", "AMDP-12")
def test_a_holder_that_has_lost_its_store_says_that_there_is_nothing(holder: Site) -> None:
    """Its links are out; what it answers is what it answers to guesses."""
    page = holder.held(letter("ann@alpha.example", "lost"))
    holder.server.stop()
    shutil.rmtree(holder.server.folder / "data" / "amdp")
    holder.server.start()
    unknown = f"/m/{'a' * 26}/{'b' * 26}"
    for make in (by_person, by_program):
        answers = [holder.say(make(one)) for one in (page, unknown)]
        assert [status_of(one) for one in answers] == [404, 404]
        assert len({one.partition(b"\r\n\r\n")[2] for one in answers}) == 1
    assert json_rows(holder.server, "held", "list") == []
    holder.held(letter("ann@alpha.example", "next"))
    holder.mail_goes_on()


# --- a receiver whose holder is gone (SEC-189) --------------------------------------------------------------


@pytest.mark.covers("SEC-189", "AMDP-11")
@pytest.mark.parametrize("since", ["the envelope", "the acknowledgement"])
def test_a_holder_that_is_gone_is_not_asked_for_ever(tmp_path: Path, clock: Clock, since: str) -> None:
    """Until the envelope has expired, and the five minutes have passed that clocks may differ by. The reader
    is told of what was proven, and of nothing else."""
    with eves_site(tmp_path / "authority", environment=clock.environment) as site:
        envelope, _ = site.hold(says(head("Content-Length: 0", status="503 Not now")))
        site.eve.away = since == "the envelope"
        queue_id = site.send(envelope)
        if site.eve.away:
            wait_until(lambda: len(site.eve.asked) > 1, "another try")
        else:
            assert site.waits(queue_id)
        clock.jump(3 * HOUR)
        # Unless its turn comes before this command does, and nothing is left in the queue.
        site.server.cli("queue", "retry", "--all", check=False)
        if site.eve.away:
            assert site.dropped(queue_id) == "expired"
        else:
            assert site.lost(queue_id) == "expired"
            wait_until(lambda: f"Not received: {envelope.subject}" in site.subjects(), "a letter")
        site.queue_is_empty()
        asked = len(site.eve.asked)
        time.sleep(1.5)  # three times [amdp.incoming] retry
        assert len(site.eve.asked) == asked
        assert site.subjects() == ([] if site.eve.away else [f"Not received: {envelope.subject}"])


# --- a receiver that dies about the 250 to an envelope that has paid (SEC-191) ------------------------------


def paid(site: EvesSite, purse: Purse) -> HeldEnvelope:
    envelope, _ = offer(site)
    return replace(envelope, postage=purse.receipt(envelope))


def hand_over(address: str, source: str, octets: bytes) -> bool:
    """Whether the 250 came."""
    try:
        with smtplib.SMTP(address, 25, timeout=PATIENCE_S, source_address=(source, 0)) as link:
            link.ehlo(EVES_HOLDER)
            link.docmd("MAIL", f"FROM:<{EVE}> AMDP")
            link.docmd("RCPT", "TO:<bob@beta.example>")
            code, _ = link.data(octets)
            return code == 250
    except (OSError, smtplib.SMTPException):
        return False


def hand_over_again(site: EvesSite, octets: bytes) -> None:
    """As a sender does who has heard no 250, until one comes."""
    wait_until(lambda: hand_over(site.address, site.eve.address, octets), "a 250", 3 * PATIENCE_S)


def one_came(site: EvesSite, envelope: HeldEnvelope, purse: Purse, before: str) -> None:
    """Exactly one message, and exactly one price. What was delivered by a server that died before it could
    note it is delivered again under the same id (FAULT-F10), and is no second message."""
    wait_until(lambda: envelope.subject in site.subjects(), "the message", 3 * PATIENCE_S)
    site.queue_is_empty()
    mine = [one for one in mailbox(site.server, "bob") if f"Subject: {envelope.subject}\n".encode() in one]
    ids = {re.findall(rb"(?ms)^Received: .*?\bid (\w+)", one)[0] for one in mine}
    assert len(ids) == 1, mine
    assert Decimal(purse.spent()) - Decimal(before) == Decimal(PRICE) / 1000
    assert site.server.cli("postage", "ledger", check=False).returncode == 0, "the books add up"


@pytest.mark.covers("SEC-191", "AMDP-20", "FAULT-F2")
def test_a_250_that_is_lost_pays_once(tmp_path: Path) -> None:
    """It is durable, and its server dies before the sender hears of it; the sender says it again."""
    with eves_site(tmp_path / "authority") as site:
        purse = filled_purse(site, tmp_path / "secret")
        envelope = paid(site, purse)
        dead: list[int] = []

        def die(step: str, moment: str) -> bool:
            if (step, moment) != (ENVELOPE, AFTER) or dead:
                return False
            dead.append(site.server.pid)
            site.server.kill()
            return True

        before = purse.spent()
        wire = loopback_address()
        with SmtpWire((wire, 25), (site.address, 25), die, site.eve.address):
            assert not hand_over(wire, "127.0.0.1", octets_of(envelope))
        assert dead
        site.server.start()
        hand_over_again(site, octets_of(envelope))
        one_came(site, envelope, purse, before)


def dies_at(site: EvesSite, dies: Path, number: int, envelope: HeldEnvelope) -> bool:
    """Bring it to a server that dies at its so many-th transaction from now; whether it came to that."""
    dies.with_suffix(".new").write_text(str(number))
    dies.with_suffix(".new").rename(dies)
    is_taken = hand_over(site.address, site.eve.address, octets_of(envelope))

    def ended() -> bool:
        return not site.server.is_running() or (is_taken and envelope.subject in site.subjects())

    wait_until(ended, "an end", 3 * PATIENCE_S)
    if site.server.is_running():
        time.sleep(1)  # what is noted after the delivery
    dies.unlink(missing_ok=True)
    has_died = not site.server.is_running()
    if has_died:
        site.server.start()
    if not is_taken:
        hand_over_again(site, octets_of(envelope))
    return has_died


@contextmanager
def mortal_site(folder: Path) -> Iterator[tuple[EvesSite, Purse, Path]]:
    """Its server dies when the file says so."""
    dies = folder / "dies"
    command = (sys.executable, str(MORTAL))
    with eves_site(folder / "authority", command=command, environment={"OUTRIDER_DIES": str(dies)}) as site:
        yield site, filled_purse(site, folder / "secret"), dies


def pays_once_at(folder: Path, numbers: Callable[[], Iterator[int]]) -> int:
    """The last transaction at which it died."""
    last = 0
    with mortal_site(folder) as (site, purse, dies):
        for number in numbers():
            envelope, before = paid(site, purse), purse.spent()
            has_died = dies_at(site, dies, number, envelope)
            one_came(site, envelope, purse, before)
            if not has_died:
                break
            last = number
    return last


@pytest.mark.covers("SEC-191", "AMDP-20", "FAULT-F2")
def test_a_server_that_dies_before_its_250_has_taken_no_postage_twice(tmp_path: Path) -> None:
    assert pays_once_at(tmp_path, lambda: iter((1, 3))) == 3


@pytest.mark.long
@pytest.mark.covers("SEC-191", "AMDP-20", "FAULT-F2")
def test_a_server_that_dies_at_any_transaction_takes_postage_once(tmp_path: Path) -> None:
    """From the envelope to its message in the mailbox."""
    assert pays_once_at(tmp_path, lambda: iter(range(1, 60))) > 5
