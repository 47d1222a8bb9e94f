"""MT2's sessions: who the host is, and what it is offered (MT2-10a, MT2-11, MT2-18d, ITP-4d).

Facts are the session's, as in every protocol; rules on them are asked by `MailReception` at the same stages.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Final

from outrider.extensions.desk import Desk
from outrider.extensions.interface import Part
from outrider.identity.mt2_identity import Found, Mt2Identity
from outrider.model.facts import Facts, Provenance
from outrider.model.reply import Reply
from outrider.model.verdict import Stage
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, err, ok
from outrider.protocols.mt2.lines import Extension, Pair, Param
from outrider.protocols.mt2.options import DEFAULT_MAXPART, DEFAULT_WINDOW, Offer
from outrider.reception import mt2_results as results
from outrider.reception.interface import Decision, Session
from outrider.reception.mt2_settings import Mt2ReceptionSettings
from outrider.reception.parts import ReceptionParts
from outrider.reception.reception import MailReception
from outrider.reception.session_facts import SessionFacts, facts_of

TRACE: Final = "TRACE"
PIPE: Final = "PIPE"


class Mt2SessionReception:
    """The methods of :class:`outrider.reception.mt2_interface.Mt2Reception` that are about sessions."""

    def __init__(
        self, settings: Mt2ReceptionSettings, mail: MailReception, parts: ReceptionParts, desk: Desk | None
    ) -> None:
        self._settings = settings
        self._mail = mail
        self._parts = parts
        self._desk = desk

    def connected(self, session: Session) -> Result | Awaitable[Result]:
        """See the interface."""
        return _told(self._mail.connected(session), Stage.CONNECT)

    def identified(
        self, session: Session, found: Found, chain: tuple[bytes, ...] = ()
    ) -> Result | Awaitable[Result]:
        """See the interface. A proof that fails refuses the host (MT2-26); in the clear, where the operator
        has it so, nothing can be proven and nothing is refused for that (MT2-9)."""
        if not isinstance(found, Mt2Identity) and session.tls is not None:
            self._facts(session).mt2_identified(found, self._parts.clock())
            return results.not_identified(found)
        facts = self._facts(session)
        if facts.mt2 is not None and facts.mt2 != found:
            # Another name: nothing that was concluded from the first may stay (SEC-152).
            session.facts = Facts(facts)
            facts = self._facts(session)
        session.proof_chain = chain
        if session.tls is not None:
            facts.mt2_identified(found, self._parts.clock())
        if self._parts.partners is not None:
            self._parts.partners.arrived(session, facts, self._parts.clock())
        return _told(self._mail.greeted(session, "HELO", session.hello_name), Stage.HELLO)

    def _facts(self, session: Session) -> SessionFacts:
        return facts_of(session, self._parts.clock(), wants_time=False)

    def may_pipeline(self, session: Session) -> bool:
        """Whether PIPE is granted: to hosts that the operator names, and to partners' (MT2-18d)."""
        facts = self._facts(session)
        if facts.mt2 is None:
            return False
        is_partner = facts.get("partner", Provenance.PROVEN) is not None
        return is_partner or self._settings.pipe.cover(facts.mt2.names)

    def offer(self, session: Session) -> Offer:
        """See the interface."""
        facts, settings = self._facts(session), self._settings
        of_extensions = dict(self._desk.options()) if self._desk is not None else {}
        names = [PIPE, *of_extensions]
        granted = set(
            self._parts.policy.taken("mt2.options", [one.lower() for one in names], facts, many=True)
        )
        others = [
            Extension(name, values)
            for name, values in of_extensions.items()
            if name != TRACE and name.lower() in granted
        ]
        others += self._declared(facts)
        is_known = facts.mt2 is not None
        return Offer(
            pipe=self.may_pipeline(session) and PIPE.lower() in granted,
            window=settings.window if is_known else min(DEFAULT_WINDOW, settings.window),
            maxpart=settings.max_part if is_known else min(DEFAULT_MAXPART, settings.max_part),
            inflight=settings.in_flight,
            trace=TRACE in of_extensions and TRACE.lower() in granted,
            others=tuple(others),
        )

    def _declared(self, facts: SessionFacts) -> list[Extension]:
        """What is taken of which the policy does not take everything (ITP-4d): encryption, Mail Policy Codes,
        and the delivery extensions in use."""
        policy = self._parts.policy
        declared: list[Extension] = []
        levels = policy.taken("mt2.encryption", ("none", "headers"), facts, many=False)
        if len(levels) == 1:
            declared.append(Extension("ENCRYPTION", levels))
        known = self._delivery_extensions()
        taken = policy.taken("mt2.extensions", known, facts, many=True) if known else ()
        if taken:
            declared.append(Extension("EXT", taken))
        codes_ = policy.announced(facts)
        if codes_:
            declared.append(Extension("MPC", codes_))
        return declared

    def _delivery_extensions(self) -> tuple[str, ...]:
        return () if self._desk is None else self._desk.delivery()

    def options_asked(self, session: Session, options: tuple[Extension, ...]) -> tuple[Extension, ...]:
        """See the interface."""
        granted = {option.name for option in self.offer(session).others}
        answers = tuple(self._option_answer(option, granted) for option in options)
        for option, answer in zip(options, answers, strict=True):
            if answer.result is not None and answer.result.is_ok:
                is_off = results.option_values(option)[:1] == ("OFF",)
                session.options = (
                    session.options - {option.name} if is_off else session.options | {option.name}
                )
        return answers

    def _option_answer(self, option: Extension, granted: set[str]) -> Extension:
        part = None
        if self._desk is not None and option.name in granted:
            part = self._desk.option(option.name, results.option_values(option))
        if part is None:
            return Extension(option.name, result=err(codes.UNKNOWN_OPTION))
        (answer,) = results.extension_parts((replace(part, name=option.name),))
        return answer

    @property
    def verbs(self) -> frozenset[str]:
        """See the interface."""
        if self._desk is None:
            return frozenset()
        return frozenset(word for one in self._desk.registry for word in getattr(one.extension, "verbs", ()))

    async def verb_asked(
        self,
        session: Session,
        verb: str,
        params: tuple[Param, ...],
        extensions: tuple[Extension, ...],
    ) -> Result:
        """See the interface."""
        del extensions
        part: Part | None = None
        if self._desk is not None:
            words = tuple(_word(param) for param in params)
            part = await self._desk.verb(verb, words, self._peer(session))
        if part is None or not part.word:
            return err(codes.UNKNOWN_VERB)
        answer = results.extension_parts((part,))[0].result
        return answer or err(codes.UNKNOWN_VERB)

    def _peer(self, session: Session) -> str:
        """The proven name, "" for none."""
        identity = self._facts(session).mt2
        return "" if identity is None else identity.name


def _told(decision: Decision, stage: Stage) -> Result | Awaitable[Result]:
    """A session's reply as a result, at once if it is there."""
    if isinstance(decision, Reply):
        return _session_result(decision, stage)

    async def later() -> Result:
        return _session_result(await decision, stage)

    return later()


def _session_result(reply: Reply, stage: Stage) -> Result:
    return ok(codes.IDENTIFIED) if reply.is_positive else results.refusal(reply, stage)


def _word(param: Param) -> str:
    return f"{param.key}={';'.join(param.values)}" if isinstance(param, Pair) else str(param)
