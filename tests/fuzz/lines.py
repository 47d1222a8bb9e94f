"""What stands within frames: option lists, and the data of extensions and control messages. The frames
themselves are fuzzed in `tests/protocols/mt2/test_peer_properties.py`."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from outrider.extensions.hashcash_stamp import StampError, mint, parse_stamp
from outrider.extensions.interface import (
    Context,
    EnvelopeFacts,
    Extension,
    ExtensionError,
    ExtensionUnavailable,
    RecipientRequest,
)
from outrider.extensions.registry import is_delivery, is_recipient, is_transfer
from outrider.extensions.shipped import shipped
from outrider.model.address import parse_address
from outrider.protocols.mt2.lines import (
    MAX_LINE,
    MalformedLine,
    Request,
    format_extension,
    format_request,
    parse_line,
)
from outrider.protocols.mt2.options import (
    CORE_OPTIONS,
    MAX_OPTION_NUMBER,
    Grant,
    Offer,
    first_grant,
    granted,
    negotiate,
    option_list,
    read_option_list,
)
from tests.fuzz import damage
from tests.fuzz.running import Target, refused

T = TypeVar("T")
_OURS = Offer(pipe=True, window=100_000, maxpart=9_000, inflight=24, trace=True, tls=True)
_LISTS = " ".join(map(format_extension, option_list(_OURS)))
_LINES = tuple(
    line.encode()
    for line in (
        f"* OK 99.0.2.1 (VER=2) (HOST=mx.b.example) (NONCE=abc) {_LISTS} ready",
        f"1 OK 99.0.2.2 {_LISTS} welcome",
        "2 OPT (PIPE=ON) (INFLIGHT=24) (WINDOW=100000) (MAXPART=9000) (TRACE=ON)",
        "3 ERR 99.0.5.1 (PIPE=ON OK 99.0.2.5 set) (WINDOW=1 OK 99.0.2.5) (2.25.7 a=b;c {12} ERR 99.0.5.9) x",
        '4 XFER m1@a.example message/headers {100} {0} (1.3.6.1.4.1.99999 token="a b\\"c" {7})',
        '5 TRAC "m 1" (TRACE=ON) (2.25.77 x=1;"2";3)',
        "6 ABOR=3",
    )
)
_TOKENS = (b"(", b")", b" ", b"=", b";", b'"', b"\\", b"{9999999999}", b"{00}", b"OK", b"99.0.2.1",
           b"PIPE=ON",
           b"WINDOW=0", b"WINDOW=2147483648", b"MAXPART=1;2", b"(TLS=on)", b"(A OK 1.2.3)", b"(=x)",
           b"a" * 9000)  # fmt: skip


def options(chance: random.Random) -> bool:
    """A line of the grammar or none; whatever is asked for, no more is granted than was offered."""
    line = chance.choice(_LINES)
    if chance.random() >= 0.03:
        line = (
            damage.octets(line, (*_LINES, *_TOKENS), chance)
            if chance.random() < 0.5
            else _pieced(line, chance)
        )
    try:
        found = parse_line(line)
    except MalformedLine as error:
        return refused(error)
    extensions = found.extensions if isinstance(found, Request) else found.result.extensions
    offer = read_option_list(extensions)
    assert all(1 <= one <= MAX_OPTION_NUMBER for one in (offer.window, offer.maxpart, offer.inflight))
    grant = first_grant(_OURS)
    for extension in extensions:
        if extension.name in CORE_OPTIONS:
            grant, answer = negotiate(grant, _OURS, extension, busy=chance.random() < 0.1)
            format_extension(answer)
            assert _is_within(grant)
    theirs = granted(Grant(), extensions, extensions)
    assert 1 <= theirs.maxpart <= theirs.window
    assert 1 <= theirs.inflight <= MAX_OPTION_NUMBER
    if isinstance(found, Request) and len(line) < MAX_LINE // 4:
        written = format_request(found)
        assert parse_line(written[1:-3]) == found
    return True


def _is_within(grant: Grant) -> bool:
    return (
        1 <= grant.window <= _OURS.window
        and 1 <= grant.maxpart <= min(_OURS.maxpart, grant.window)
        and 1 <= grant.inflight <= _OURS.inflight
    )


def _pieced(line: bytes, chance: random.Random) -> bytes:
    """The words of a line, some exchanged, repeated or put in."""
    words = line.split(b" ")
    for _ in range(chance.choice((1, 2, 4))):
        at = chance.randrange(len(words) + 1)
        other = chance.choice((*_TOKENS, *chance.choice(_LINES).split(b" ")))
        words[at : at + chance.choice((0, 1, 2))] = [other] * chance.choice((1, 1, 2, 600))
    return b" ".join(words)[: damage.MAX_INPUT]


# -- extensions ------------------------------------------------------------------------------------------

_NOW = 1_795_350_000.0
_ANN, _BEN = parse_address("ann@a.example"), parse_address("ben@b.example")


class _Memory:
    """What an extension remembers during one case."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def _check(self, key: str, value: str = "") -> None:
        assert len(key) <= 512, key[:80]
        assert len(value) <= 65_536, key

    async def get(self, key: str) -> str | None:
        self._check(key)
        return self.entries.get(key)

    async def put(self, key: str, value: str, expires: float) -> None:
        self._check(key, value)
        assert expires > 0
        self.entries[key] = value

    async def add(self, key: str, value: str, expires: float) -> str:
        self._check(key, value)
        assert expires > 0
        return self.entries.setdefault(key, value)

    async def replace(self, key: str, old: str, new: str, expires: float) -> bool:
        assert expires > 0
        if await self.get(key) != old:
            return False
        await self.put(key, new, expires)
        return True

    async def drop(self, key: str) -> bool:
        self._check(key)
        return self.entries.pop(key, None) is not None

    async def find(self, prefix: str, limit: int = 100) -> list[tuple[str, str]]:
        self._check(prefix)
        return sorted(one for one in self.entries.items() if one[0].startswith(prefix))[:limit]


@cache
def _stamp() -> str:
    return mint("ben@b.example", 8, _NOW, "abcdef0123456789")


_DATA = (
    "request", "grant " + "a1" * 16, "token " + "a1" * 16, "end", "challenge " + "b2" * 16,
    "answer " + "b2" * 16,
    "request\nPlease, I am Ann.", "delivered", "read", "subscribe", "unsubscribe",
    "1795350000 " + "a" * 64, "a" * 64,
    "card\nBEGIN:VCARD\nVERSION:4.0\nFN:Ann\nN;CHARSET=utf-8:A;B\nEND:VCARD\n", "receipt abc ben@b.example",
    "1:20:260101:ben@b.example::a:b", "ann@a.example " + "a1" * 16, "trap " + "c" * 64, "known 1900000000",
)  # fmt: skip


def extensions(chance: random.Random) -> bool:
    """Data of an extension are taken, or complained of as ExtensionError; what is remembered is bounded."""
    own = (*_DATA, _stamp())
    text = chance.choice(own)
    if chance.random() >= 0.1:
        octets = damage.octets(text.encode(), [one.encode() for one in own], chance)
        text = octets.decode("utf-8", chance.choice(("ignore", "replace", "surrogateescape")))
        text = "".join(one for one in text if not "\ud800" <= one <= "\udfff")  # XML has none
    try:
        assert parse_stamp(text).text == text
    except StampError as error:
        refused(error)
    extension = chance.choice(shipped()).extension
    extension.set_up(
        Context("mx.b.example", frozenset({"b.example"}), {}, _Memory(), lambda: "c3" * 13, _in_thread)
    )
    try:
        _offered(extension, text, chance)
    except (ExtensionError, ExtensionUnavailable):
        return False
    return True


def _offered(extension: Extension, text: str, chance: random.Random) -> None:
    if is_delivery(extension):
        facts = EnvelopeFacts(
            "m1@mx.a.example", "t1", chance.choice((_ANN, _ANN, None)), (_BEN,), _NOW, _NOW,
            peer="mx.a.example",
            identities=frozenset({"mx.a.example", "ann@a.example"}), objects=(),
            report=chance.random() < 0.3, sender_is_claimed=False,
        )  # fmt: skip
        _now(extension.check(facts, text))
        _now(extension.delivered(facts, text, _BEN))
        _now(extension.ended(facts, text))
    if is_recipient(extension):
        request = RecipientRequest(_BEN, _ANN, "m", text, _NOW, proven=chance.random() < 0.8)
        line = extension.describe(request)
        assert isinstance(line, str)  # the desk makes it one printable line
        _now(extension.needs_consent(request))
        _now(extension.act(request))
    if is_transfer(extension):
        extension.option("TRACE", tuple(text.split()[:4]))


async def _in_thread(work: Any) -> str:
    return str(work())


def _now(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that waits for nothing returns."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


TARGETS = (
    Target("options", options, short=600, long=150_000),
    Target("extensions", extensions, short=600, long=150_000),
)
