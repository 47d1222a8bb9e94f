"""What each side grants the other, and OPT (MT2-11, MT2-18c, MT2-18d).

Options are about the requests of the one who asks for them: the client's ``OPT (PIPE=ON)`` lets the client
pipeline towards the server; a server that sends its own mail on the connection asks for its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, Word
from outrider.protocols.mt2.lines import Extension

DEFAULT_WINDOW: Final = 65536
DEFAULT_MAXPART: Final = 65536
DEFAULT_INFLIGHT: Final = 16
"""All three in force until OPT says otherwise, or what is offered where that is less."""
MAX_OPTION_NUMBER: Final = 2**31 - 1

CORE_OPTIONS: Final = frozenset({"PIPE", "TRACE", "URG", "TLS", "WINDOW", "MAXPART", "INFLIGHT"})


@dataclass(frozen=True, slots=True)
class Offer:
    """What one side is ready to grant the other: its option list. Sizes in octets."""

    pipe: bool = False
    """Requests may be pipelined (MT2-18d)."""
    window: int = DEFAULT_WINDOW
    """At most so many granted and not yet answered."""
    maxpart: int = DEFAULT_MAXPART
    """At most so many in one fragment; never more than `window`."""
    inflight: int = DEFAULT_INFLIGHT
    """Requests outstanding, with `pipe`."""
    trace: bool = False
    """TRACE=ON is granted (MT2-21a)."""
    tls: bool = False
    """TLS may be begun by OPT (MT2-9)."""
    others: tuple[Extension, ...] = ()
    """Options of extensions, as they are to stand in the list."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What is in force for one side's requests."""

    pipe: bool = False
    window: int = DEFAULT_WINDOW
    maxpart: int = DEFAULT_MAXPART
    inflight: int = DEFAULT_INFLIGHT
    trace: bool = False

    @property
    def requests(self) -> int:
        """Requests that may be outstanding."""
        return self.inflight if self.pipe else 1


def first_grant(offer: Offer) -> Grant:
    """What is in force before any OPT, and again after each HELO: the defaults, or what is offered if
    less."""
    window = min(DEFAULT_WINDOW, offer.window)
    maxpart = min(DEFAULT_MAXPART, offer.maxpart, window)
    return Grant(window=window, maxpart=maxpart, inflight=min(DEFAULT_INFLIGHT, offer.inflight))


# -- the option list ---------------------------------------------------------------------------------


def option_list(offer: Offer) -> tuple[Extension, ...]:
    """An offer as the greeting and the answer to HELO carry it."""
    listed = [Extension("WINDOW", (str(offer.window),)), Extension("MAXPART", (str(offer.maxpart),))]
    if offer.pipe:
        listed += [Extension("PIPE", ("ON",)), Extension("INFLIGHT", (str(offer.inflight),))]
    if offer.trace:
        listed.append(Extension("TRACE", ("ON",)))
    if offer.tls:
        listed.append(Extension("TLS", ("ON",)))
    return (*listed, *offer.others)


_NOT_OPTIONS: Final = frozenset({"VER", "HOST", "NONCE", "STATUS"})


def read_option_list(extensions: Iterable[Extension]) -> Offer:
    """The other side's offer; what is not understood is kept among `others`."""
    offer = Offer()
    others: list[Extension] = []
    for extension in extensions:
        name = extension.name
        if name in ("PIPE", "TRACE", "TLS"):
            on = extension.values == ("ON",)
            offer = _with_switch(offer, name, on)
        elif name in ("WINDOW", "MAXPART", "INFLIGHT"):
            offer = _with_number(offer, name, _number(extension))
        elif name not in _NOT_OPTIONS:
            others.append(extension)
    return replace(offer, others=tuple(others))


def _with_switch(offer: Offer, name: str, on: bool) -> Offer:
    if name == "PIPE":
        return replace(offer, pipe=on)
    return replace(offer, trace=on) if name == "TRACE" else replace(offer, tls=on)


def _with_number(offer: Offer, name: str, number: int | None) -> Offer:
    if number is None:
        return offer
    if name == "WINDOW":
        return replace(offer, window=number)
    return replace(offer, maxpart=number) if name == "MAXPART" else replace(offer, inflight=number)


def _number(extension: Extension) -> int | None:
    """The one value of an option that is a number from 1; None for anything else."""
    if len(extension.values) != 1:
        return None
    digits = extension.values[0]
    if not digits.isascii() or not digits.isdigit() or len(digits) > 10:
        return None
    number = int(digits)
    return number if 1 <= number <= MAX_OPTION_NUMBER else None


# -- OPT, answering ----------------------------------------------------------------------------------


def negotiate(grant: Grant, offer: Offer, option: Extension, *, busy: bool) -> tuple[Grant, Extension]:
    """One of the core's options asked by the other side: what is in force then, and the answer to it.

    `busy`: transfers of theirs are under way, so that nothing changes below their feet.
    """
    match option.name:
        case "PIPE" | "TRACE":
            return _negotiate_switch(grant, offer, option, busy=busy)
        case "WINDOW" | "MAXPART" | "INFLIGHT":
            return _negotiate_number(grant, offer, option, busy=busy)
        case _:  # URG: TCP urgent data has no place in a TLS stream; TLS beside other options
            return grant, refusal(option, codes.NOT_OVER_TLS if option.name == "URG" else codes.WRONG_ORDER)


def refusal(option: Extension, code: str) -> Extension:
    return Extension(option.name, result=Result(Word.ERR, code))


def _setting(name: str, value: str) -> Extension:
    return Extension(name, (value,), result=Result(Word.OK, codes.OPTION_SET))


def _negotiate_switch(
    grant: Grant, offer: Offer, option: Extension, *, busy: bool
) -> tuple[Grant, Extension]:
    value = option.values[0].upper() if len(option.values) == 1 else ""
    if value not in ("ON", "OFF"):
        return grant, refusal(option, codes.WRONG_OPTION_VALUE)
    on = value == "ON"
    if option.name == "TRACE":
        if on and not offer.trace:
            return grant, refusal(option, codes.OPTION_NOT_GRANTED)
        return replace(grant, trace=on), _setting("TRACE", value)
    if busy:
        return grant, refusal(option, codes.WRONG_ORDER)
    if on and not offer.pipe:
        return grant, refusal(option, codes.OPTION_NOT_GRANTED)
    return replace(grant, pipe=on), _setting("PIPE", value)


def _negotiate_number(
    grant: Grant, offer: Offer, option: Extension, *, busy: bool
) -> tuple[Grant, Extension]:
    wanted = _number(option)
    if wanted is None:
        return grant, refusal(option, codes.WRONG_OPTION_VALUE)
    if busy:
        return grant, refusal(option, codes.WRONG_ORDER)
    if option.name == "INFLIGHT":
        if not offer.pipe:
            return grant, refusal(option, codes.OPTION_NOT_GRANTED)
        given = min(wanted, offer.inflight)
        return replace(grant, inflight=given), _setting("INFLIGHT", str(given))
    if option.name == "WINDOW":
        given = min(wanted, offer.window)
        grant = replace(grant, window=given, maxpart=min(grant.maxpart, given))
        return grant, _setting("WINDOW", str(given))
    given = min(wanted, offer.maxpart, grant.window)
    return replace(grant, maxpart=given), _setting("MAXPART", str(given))


# -- OPT, asking -------------------------------------------------------------------------------------


def wanted_options(wanted: Offer) -> tuple[Extension, ...]:
    """The options to ask for to have what `wanted` says: in the order in which they build on each other."""
    asked = [Extension("PIPE", ("ON",))] if wanted.pipe else []
    if wanted.pipe:
        asked.append(Extension("INFLIGHT", (str(wanted.inflight),)))
    asked += [Extension("WINDOW", (str(wanted.window),)), Extension("MAXPART", (str(wanted.maxpart),))]
    if wanted.trace:
        asked.append(Extension("TRACE", ("ON",)))
    return tuple(asked)


def granted(grant: Grant, asked: Iterable[Extension], answers: Iterable[Extension]) -> Grant:
    """What is in force for us after an answer to OPT: an answer without a value grants what was asked."""
    wanted = {option.name: option for option in asked}
    for answer in answers:
        if answer.result is None or not answer.result.is_ok or answer.name not in wanted:
            continue
        option = answer if answer.values else wanted[answer.name]
        grant = _apply(grant, option)
    return replace(grant, maxpart=min(grant.maxpart, grant.window))


def _apply(grant: Grant, option: Extension) -> Grant:
    on = option.values[:1] == ("ON",)
    if option.name == "PIPE":
        return replace(grant, pipe=on)
    if option.name == "TRACE":
        return replace(grant, trace=on)
    number = _number(option)
    if number is None:
        return grant
    if option.name == "WINDOW":
        return replace(grant, window=number)
    if option.name == "MAXPART":
        return replace(grant, maxpart=number)
    return replace(grant, inflight=number) if option.name == "INFLIGHT" else grant


def opt_result(answers: tuple[Extension, ...]) -> Result:
    """The whole answer to OPT: ERR when one option was refused, though the others take effect."""
    refused = any(answer.result is not None and not answer.result.is_ok for answer in answers)
    word, code = (Word.ERR, codes.REFUSED) if refused else (Word.OK, codes.OPTION_SET)
    return Result(word, code, "", answers)
