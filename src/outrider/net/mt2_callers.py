"""Connections that proven peers have opened, on which mail of our own may go back (MT2-18e)."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.identity.mt2_identity import Mt2Identity
from outrider.model.facts import Provenance
from outrider.net.mt2_connection import Mt2Connection


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """A peer that has opened a connection, and proven who it is."""

    line: Mt2Connection
    identity: Mt2Identity
    proven_by: tuple[bytes, ...]
    """The certificates of its proof, DER, leaf first."""
    where: str
    """``[192.0.2.1]:40000``."""
    tls: str
    """Its TLS, for results."""

    @property
    def can_be_sent_mail(self) -> bool:
        """Whether a transfer of ours may begin."""
        return not self.line.outgoing.is_over and self.line.core.can_transfer


class Callers:
    """All that are connected now, by proven name."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Caller]] = {}

    def came(self, caller: Caller) -> None:
        """It has proven who it is."""
        if caller.identity.kind == "host" and caller.identity.provenance is Provenance.PROVEN:
            for name in caller.identity.names:
                self._by_name.setdefault(name, []).append(caller)

    def went(self, caller: Caller) -> None:
        """Nothing more can be sent to it. Safe to call again."""
        for name in caller.identity.names:
            rest = [one for one in self._by_name.get(name, ()) if one is not caller]
            if rest:
                self._by_name[name] = rest
            else:
                self._by_name.pop(name, None)

    def find(self, name: str) -> Caller | None:
        """One that has proven this name and can be sent mail; the last that came."""
        for caller in reversed(self._by_name.get(name, ())):
            if caller.can_be_sent_mail:
                return caller
        return None
