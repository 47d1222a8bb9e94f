"""TRACE: which way a message goes (MT2-21a).

With ``OPT (TRACE=ON)`` the last acknowledgement of every message of that session carries ``(TRACE hop)``. An
envelope-only message with this extension is a probe: every host that accepts it sends its sender one control
message, and the last one drops it. Option: `ask` (our own sessions ask for it; what the next host says
stands in the result).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar

from outrider.extensions.base import TransferBase
from outrider.extensions.interface import (
    EnvelopeFacts,
    ExtensionMessage,
    HopFacts,
    Part,
    Report,
    Rights,
)
from outrider.extensions.oids import TRACE, code_of
from outrider.protocols.mt2.codes import WRONG_OPTION_VALUE

HOP = code_of(TRACE, 2, 1)
"""Result code of a hop's line."""
SWITCHED = code_of(TRACE, 2, 2)


class Trace(TransferBase):
    """See the module."""

    name: ClassVar[str] = "trace"
    oid: ClassVar[str] = TRACE
    summary: ClassVar[str] = "tells senders which hosts their messages pass"
    rights: ClassVar[Rights] = Rights.PROVEN
    enabled_by_default: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = ("TRACE",)

    def read_options(self, options: dict[str, object]) -> None:
        """See `ExtensionBase`."""
        ask = options.pop("ask", False)
        if not isinstance(ask, bool):
            raise ValueError("ask: true or false")
        self.asks_peers = ("TRACE",) if ask else ()

    def option(self, name: str, values: tuple[str, ...]) -> Part:
        """ON or OFF."""
        word = tuple(one.upper() for one in values)
        if word in (("ON",), ("OFF",)):
            return Part(name, f"{word[0].capitalize()}.", "OK", SWITCHED)
        return Part(name, "ON or OFF.", "ERR", WRONG_OPTION_VALUE)

    def final_part(self, hop: HopFacts, chosen: Mapping[str, tuple[str, ...]]) -> Part | None:
        """This host, where it was switched on."""
        if tuple(one.upper() for one in chosen.get("TRACE", ())) != ("ON",):
            return None
        return Part("TRACE", describe(hop))

    async def passed(self, envelope: EnvelopeFacts, data: str, hop: HopFacts) -> tuple[ExtensionMessage, ...]:
        """A probe is an envelope and nothing else: mail that carries this by mistake makes no reports."""
        del data
        if envelope.sender is None or envelope.objects or not envelope.recipients:
            return ()
        report = Report(envelope.message_id, TRACE, HOP, describe(hop), envelope.recipients[0], "passed")
        return (ExtensionMessage(envelope.sender, report=report),)


def describe(hop: HopFacts) -> str:
    """One line: who took it, from whom, how, when, under which queue id."""
    when = datetime.fromtimestamp(hop.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    way = f"{hop.protocol} over {hop.tls}" if hop.tls else f"{hop.protocol} in clear"
    return f"{hop.by} from {hop.peer or 'unknown'} by {way} at {when} as {hop.message}"
