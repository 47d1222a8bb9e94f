"""Who answers the questions of a trace: `identity.mt2_peers`, at the time of each seal (MT2-23c, MT2-24).

An interior gateway's word counts here (MT2-24c): its own seal says that it has found the trace good, and what
came before that seal is sealed with it. Whom we cannot tell ourselves is then vouched for by the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outrider.identity.mt2_identity import Found, GatewayWord, Mt2Identity
from outrider.identity.mt2_peers import Mt2Peers
from outrider.identity.seals import Entry
from outrider.identity.trace import (
    OpenedTrace,
    ProvenSealer,
    SealerAnswer,
    SealerQuestion,
    UnprovenSealer,
)
from outrider.model.facts import Provenance

_TRACE, _GOOD = "trace", "good"
"""What a host says in its seal of those before it (docs/protocols/mt2-seals.md)."""


@dataclass(frozen=True, slots=True)
class PeerPaths:
    """Answers from our own CA sets alone: off line, nobody is asked."""

    peers: Mt2Peers

    def sealer(self, question: SealerQuestion) -> SealerAnswer:
        """See `trace.SealPaths`."""
        if "@" in question.name:
            return _answer(self.peers.user_here(question.chain, question.name, question.at), question)
        return _answer(self.peers.host_here(question.chain, question.name, question.at), question)


async def answers(
    peers: Mt2Peers, questions: Iterable[SealerQuestion], address: str = ""
) -> dict[SealerQuestion, SealerAnswer]:
    """Answers for `trace.judge_trace`, where unknown issuers may be looked up (MT2-24b).

    `address`: the peer's, whose look-ups are counted.
    """
    return {one: _answer(await _asked(peers, one, address), one) for one in questions}


def answers_here(peers: Mt2Peers, opened: OpenedTrace) -> dict[SealerQuestion, SealerAnswer] | None:
    """`trace_answers` for the ordinary trace: our own CAs prove all who have sealed it. None where they do
    not, and somebody may have to be asked."""
    paths = PeerPaths(peers)
    told = {one: paths.sealer(one) for one in opened.questions}
    return told if all(isinstance(one, ProvenSealer) for one in told.values()) else None


async def trace_answers(
    peers: Mt2Peers, opened: OpenedTrace, address: str = ""
) -> dict[SealerQuestion, SealerAnswer]:
    """`answers` for a whole trace, with what interior gateways among its hops vouch for (MT2-24c)."""
    found = {one: await _asked(peers, one, address) for one in opened.questions}
    told = {one: _answer(identity, one) for one, identity in found.items()}
    gateway = _last_gateway(peers, opened, found, told)
    if gateway is None:
        return told
    number, identity = gateway
    for one in opened.seals:
        question = one.question
        if question is not None and one.number < number and isinstance(told[question], UnprovenSealer):
            told[question] = _vouched(peers, identity, question.name) or told[question]
    return told


async def _asked(peers: Mt2Peers, question: SealerQuestion, address: str) -> Found:
    if "@" in question.name:
        return await peers.user(question.chain, question.name, question.at, address)
    return await peers.host(question.chain, question.name, address, question.at)


def _last_gateway(
    peers: Mt2Peers,
    opened: OpenedTrace,
    found: Mapping[SealerQuestion, Found],
    told: Mapping[SealerQuestion, SealerAnswer],
) -> tuple[int, Mt2Identity] | None:
    """The last gateway in its place whose seal says that all before it was good, and its seal's number."""
    for one in reversed(opened.seals):
        if one.question is None or one.number not in opened.links or not isinstance(one.seal, Entry):
            continue
        identity = found[one.question]
        if not isinstance(identity, Mt2Identity) or isinstance(told[one.question], UnprovenSealer):
            continue
        if one.seal.verified.get(_TRACE) == _GOOD and peers.is_gateway(identity):
            return one.number, identity
    return None


def _vouched(peers: Mt2Peers, gateway: Mt2Identity, name: str) -> ProvenSealer | None:
    word = GatewayWord("user" if "@" in name else "host", name, "the trace was good")
    found = peers.by_gateway(gateway, word)
    return ProvenSealer(found.names, found.how) if isinstance(found, Mt2Identity) else None


def _answer(found: Found, question: SealerQuestion) -> SealerAnswer:
    if not isinstance(found, Mt2Identity):
        return UnprovenSealer(str(found))
    if found.provenance is Provenance.CLAIMED:
        return UnprovenSealer(f"its name is only claimed ({found.how})")
    if found.not_after < question.until:
        return UnprovenSealer("the certificate had expired before the next host had the message")
    return ProvenSealer(found.names, found.how)
