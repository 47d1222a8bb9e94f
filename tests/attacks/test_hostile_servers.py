"""SEC-45 to SEC-55: next hops that lie, stall and babble; what becomes of the mail, and of their words.

Every test has a domain with a next hop of its own, so that none suffers from the back-off of another. A
message that is to be tried again later waits an hour, so the first result is the one that counts.
"""

from __future__ import annotations

import itertools
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.attacks.hostile import Dialogue, HostileServer, Script
from tests.attacks.target import NEXT_HOP, Target
from tests.peers.addresses import loopback_address
from tests.peers.certificates import DAY, CertificateAuthority, TlsFiles
from tests.peers.rooms import wait_until

PLACES = 80
LEVELS = ("opportunistic", "encrypt", "verify")


@dataclass(frozen=True, slots=True)
class Place:
    """A domain and its next hop."""

    domain: str
    address: str


class Places:
    """Unused domains by TLS level."""

    def __init__(self) -> None:
        self._free = {
            level: [Place(f"{level}{number}.example", loopback_address()) for number in range(PLACES)]
            for level in LEVELS
        }

    def routes(self) -> dict[str, object]:
        """For the configuration."""
        return {
            place.domain: {
                "to": f"smtp:[{place.address}]:{NEXT_HOP}",
                "tls": level,
                "tls_name": "hop.example",
            }
            for level, places in self._free.items()
            for place in places
        }

    def take(self, level: str) -> Place:
        """One that no test has used."""
        return self._free[level].pop()


@pytest.fixture(scope="module")
def places() -> Places:
    """The domains of this module."""
    return Places()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Whom the server believes."""
    return CertificateAuthority(tmp_path_factory.mktemp("hops"), "Hops")


@pytest.fixture(scope="module")
def module_target(
    tmp_path_factory: pytest.TempPathFactory, places: Places, authority: CertificateAuthority
) -> Iterator[Target]:
    """One server for this module, whose patience with next hops is short."""
    delivery = {
        "retry": [3600],
        "connect_timeout": 2,
        "command_timeout": 2,
        "data_timeout": 2,
        "idle_reuse": 0,
    }
    changes: dict[str, dict[str, object]] = {
        "delivery": delivery,
        "routes": places.routes(),
        "tls": {"private_ca": [str(authority.authority)]},
    }
    with Target(tmp_path_factory.mktemp("target"), **changes) as target:
        yield target


_numbers = itertools.count(1)


def deliver(target: Target, place: Place, script: Script) -> tuple[dict[str, object], bytes]:
    """Send a message by way of that server; the first result, and all that the next hop heard."""
    name = f"r{os.getpid()}-{next(_numbers)}@{place.domain}"
    with HostileServer(place.address, NEXT_HOP, script) as server:
        with target.session(source=target.friend) as wire:
            wire.begin(name.encode(), b"ann@here.example")
            wire.expect(b"250", after=b"Subject: to a hostile server\r\n\r\nx\r\n.")
        result = wait_result(target, name)
        return result, server.heard()


def wait_result(target: Target, recipient: str) -> dict[str, object]:
    """The log's first word on a recipient."""

    def found() -> list[dict[str, object]]:
        events = ("relayed", "deferred", "failed")
        entries = target.server.log_events()
        return [one for one in entries if one.get("event") in events and one.get("recipient") == recipient]

    wait_until(lambda: bool(found()), f"a result for {recipient}")
    return found()[0]


def context(files: TlsFiles) -> ssl.SSLContext:
    """A server's."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files.certificate, files.key)
    return made


WITH_TLS = b"250-hop.example\r\n250 STARTTLS\r\n"


@pytest.mark.covers("SEC-45", "SEC-46")
@pytest.mark.parametrize(
    "extra", [b"250-evil\r\n250 AUTH PLAIN\r\n", b"250 evil", b"\r\n", b"250 8BITMIME\r\n" * 100]
)
@pytest.mark.parametrize("level", ["opportunistic", "encrypt"])
def test_octets_behind_the_220(
    target: Target, places: Places, authority: CertificateAuthority, extra: bytes, level: str
) -> None:
    files = authority.issue("hop.example")

    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(WITH_TLS)
        line = peer.hear()
        if line != b"STARTTLS\r\n":
            peer.obey(heard=line)  # a second session, in the clear: opportunistic says so
        peer.say(b"220 go\r\n" + extra)
        peer.start_tls(context(files))
        peer.obey()

    result, heard = deliver(target, places.take(level), script)
    # Whether the session is given up or the octets are dropped: they were never taken for an answer.
    assert result["event"] in ("relayed", "deferred")
    assert b"AUTH" not in heard
    if level == "encrypt" and result["event"] == "deferred":
        assert b"MAIL" not in heard


@pytest.mark.covers("SEC-47")
@pytest.mark.parametrize("level", ["encrypt", "verify"])
def test_no_mail_without_the_tls_that_is_demanded(target: Target, places: Places, level: str) -> None:
    result, heard = deliver(target, places.take(level), lambda peer: peer.obey(greet=True))
    assert result["event"] == "deferred"
    assert b"MAIL" not in heard


STARTTLS_ANSWERS = [
    *(
        b"454 no\r\n",
        b"500 no\r\n",
        b"501 no\r\n",
        b"502 no\r\n",
        b"530 no\r\n",
        b"354 go\r\n",
        b"221 bye\r\n",
    ),
    *(b"250 ok\r\n", b"22\r\n", b"\r\n", b"220" + b"x" * 100_000 + b"\r\n", b"220-" + b"x\r\n220-" * 10_000),
]


@pytest.mark.covers("SEC-48")
@pytest.mark.parametrize("answer", STARTTLS_ANSWERS, ids=lambda octets: repr(octets[:12]))
@pytest.mark.parametrize("level", ["opportunistic", "encrypt"])
def test_answers_to_starttls(target: Target, places: Places, answer: bytes, level: str) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(WITH_TLS, answer)
        peer.obey()

    result, heard = deliver(target, places.take(level), script)
    assert result["event"] in (("deferred",) if level == "encrypt" else ("deferred", "relayed"))
    if level == "encrypt" or answer.startswith(b"354"):
        assert b"Subject:" not in heard.partition(b"DATA")[0]
    if level == "encrypt":
        assert b"MAIL" not in heard


@pytest.mark.covers("SEC-49")
@pytest.mark.parametrize(
    ("answer", "level", "events"),
    [
        (b"250 hop\r\n", "opportunistic", ("relayed",)),
        (b"250 hop\r\n", "encrypt", ("deferred",)),
        (b"220 hop\r\n", "opportunistic", ("deferred", "relayed")),
        (b"354 hop\r\n", "opportunistic", ("deferred",)),
        (b"421 hop\r\n", "opportunistic", ("deferred",)),
        (b"500 hop\r\n", "opportunistic", ("failed", "deferred")),
    ],
)
def test_ehlo_refused_and_helo_answered(
    target: Target, places: Places, answer: bytes, level: str, events: tuple[str, ...]
) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(b"500 what?\r\n", answer)
        peer.obey()

    result, heard = deliver(target, places.take(level), script)
    assert result["event"] in events
    if result["event"] != "relayed":
        assert b"Subject:" not in heard


GREETINGS = [
    (b"354 go\r\n", ("deferred",)),
    (b"221 bye\r\n", ("deferred",)),
    (b"421 later\r\n", ("deferred",)),
    (b"500 no\r\n", ("failed", "deferred")),
    (b"530 no\r\n", ("failed", "deferred")),
    (b"554 no\r\n", ("failed",)),
    (b"220-x\r\n" * 100_000, ("deferred",)),
    (b"220" + b"x" * 1_000_000, ("deferred",)),
    (b"", ("deferred",)),
    (b"\x16\x03\x01\x00\x05hello", ("deferred",)),
]


@pytest.mark.covers("SEC-50")
@pytest.mark.parametrize(("greeting", "events"), GREETINGS, ids=[repr(one[:10]) for one, _ in GREETINGS])
def test_greetings(target: Target, places: Places, greeting: bytes, events: tuple[str, ...]) -> None:
    target.serves()
    before = target.resident_octets()

    def script(peer: Dialogue) -> None:
        peer.say(greeting)
        peer.listen()

    result, heard = deliver(target, places.take("opportunistic"), script)
    assert result["event"] in events
    assert b"MAIL" not in heard
    assert target.resident_octets() < before + 16 * 1024 * 1024


CERTIFICATES = ["good", "other name", "expired", "unknown authority"]


@pytest.mark.covers("SEC-51")
@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.parametrize("level", LEVELS)
def test_certificates(
    target: Target,
    places: Places,
    authority: CertificateAuthority,
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    level: str,
) -> None:
    if kind == "unknown authority":
        authority = CertificateAuthority(tmp_path_factory.mktemp("unknown"), "Unknown")
    files = authority.issue(
        "other.example" if kind == "other name" else "hop.example",
        valid_until=-DAY if kind == "expired" else 30 * DAY,
    )

    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(WITH_TLS, b"220 go\r\n")
        peer.start_tls(context(files))
        peer.obey()

    result, heard = deliver(target, places.take(level), script)
    if level == "verify" and kind != "good":
        assert result["event"] == "deferred"
        assert b"MAIL" not in heard
    else:
        assert result["event"] == "relayed"


@pytest.mark.covers("SEC-52")
def test_only_what_is_said_under_tls_counts(
    target: Target, places: Places, authority: CertificateAuthority
) -> None:
    files = authority.issue("hop.example")

    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(b"250-hop.example\r\n250-SIZE 1\r\n250-CHUNKING\r\n250 STARTTLS\r\n", b"220 go\r\n")
        peer.start_tls(context(files))
        peer.obey(b"250 hop.example\r\n")

    result, heard = deliver(target, places.take("encrypt"), script)
    assert result["event"] == "relayed"
    assert b"BDAT" not in heard
    assert b"SIZE=" not in heard


MALFORMED = [
    *(
        b"250-a\r\n550 b\r\n",
        b"250no space\r\n",
        b"999 what\r\n",
        b"2x0 ok\r\n",
        b"250 a\x00b\r\n",
        b"-250 x\r\n",
    ),
    *(b"25\r\n", b"250 ok\n", b"\xff\xfe\r\n", b"250-" + b"a\r\n250-" * 100_000, b"250 " + b"x" * 3_000_000),
]


@pytest.mark.covers("SEC-53")
@pytest.mark.parametrize("reply", MALFORMED, ids=lambda octets: repr(octets[:14]))
def test_malformed_replies_defer(target: Target, places: Places, reply: bytes) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(b"250 hop.example\r\n", reply)
        peer.obey()

    result, heard = deliver(target, places.take("opportunistic"), script)
    if reply == b"250 a\x00b\r\n" or reply == b"250 ok\n":
        assert result["event"] in ("deferred", "relayed")
    else:
        assert result["event"] == "deferred"
        assert b"Subject:" not in heard


NASTY = b'550-5.1.1 <b>\x1b[31m \xff\xfe \xc3\xa9\r\n550-5.1.1 "quote" %s \\\r\n550 5.1.1 Bcc: x@y\tz\x07\r\n'


@pytest.mark.covers("SEC-53", "SEC-171", "SEC-210")
def test_the_words_of_a_server_are_quoted_safely(target: Target, places: Places) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(b"250 hop.example\r\n", b"250 ok\r\n", NASTY)
        peer.obey()

    target.new_log()
    already = len(target.mailbox("ann"))
    result, _ = deliver(target, places.take("opportunistic"), script)
    assert result["event"] in ("failed", "deferred")
    log = target.new_log()
    assert not any(octet < 32 and octet != 10 for octet in log), "control characters in the log"
    for line in log.strip().split(b"\n"):
        assert isinstance(json.loads(line), dict)
    if result["event"] == "failed":
        wait_until(lambda: len(target.mailbox("ann")) > already, "the report")
        report = target.mailbox("ann")[-1]
        assert b"\x1b" not in report
        assert b"\x07" not in report
        assert b"\nBcc:" not in report


@pytest.mark.covers("SEC-54")
def test_replies_that_nobody_asked_for(target: Target, places: Places) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        # Four answers at once to MAIL alone: as if the whole transaction had been heard.
        peer.answer(b"250-hop.example\r\n250 SIZE\r\n")
        peer.answer(b"250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 taken before it was sent\r\n")
        peer.listen()

    result, _ = deliver(target, places.take("opportunistic"), script)
    assert result["event"] == "deferred"


@pytest.mark.covers("SEC-54")
def test_a_250_before_the_content_has_ended(target: Target, places: Places) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(b"250 hop.example\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n250 2.0.0 early\r\n")
        peer.listen()

    result, _ = deliver(target, places.take("opportunistic"), script)
    assert result["event"] == "deferred"


@pytest.mark.covers("SEC-55")
@pytest.mark.parametrize(
    "replies",
    [
        (b"250 ok\r\n", b"250 ok\r\n", b"250 not 354\r\n"),
        (b"250 ok\r\n", b"354 to RCPT\r\n", b"354 go\r\n"),
        (b"354 to MAIL\r\n", b"250 ok\r\n", b"354 go\r\n"),
        (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"354 again\r\n"),
        (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"220 what\r\n"),
    ],
)
def test_intermediate_and_final_replies_confused(
    target: Target, places: Places, replies: tuple[bytes, ...]
) -> None:
    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(b"250 hop.example\r\n", *replies[:3])
        if len(replies) > 3:
            peer.hear_content()
            peer.say(replies[3])
        peer.listen()

    result, heard = deliver(target, places.take("opportunistic"), script)
    assert result["event"] in ("deferred", "relayed")
    if len(replies) == 3:
        assert result["event"] == "deferred"
        assert b"Subject:" not in heard


@pytest.mark.covers("SEC-89", "SEC-50")
@pytest.mark.parametrize("step", range(5))
def test_silence_at_each_step_defers(target: Target, places: Places, step: int) -> None:
    replies = (b"250 hop.example\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")

    def script(peer: Dialogue) -> None:
        peer.say(b"220 hop.example\r\n")
        peer.answer(*replies[:step])
        peer.listen()

    result, _ = deliver(target, places.take("opportunistic"), script)
    assert result["event"] == "deferred"


@pytest.mark.covers("SEC-50", "SEC-55")
@pytest.mark.parametrize("step", range(6))
def test_hanging_up_at_each_step_defers(target: Target, places: Places, step: int) -> None:
    replies = (b"250 hop.example\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")

    def script(peer: Dialogue) -> None:
        if step == 0:
            return
        peer.say(b"220 hop.example\r\n")
        peer.answer(*replies[: step - 1])
        if step == 5:
            peer.hear_content()
        else:
            peer.hear()

    result, _ = deliver(target, places.take("opportunistic"), script)
    assert result["event"] == "deferred"
