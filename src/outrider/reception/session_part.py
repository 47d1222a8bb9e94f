"""Reception's first half: what happens to a session before its first message.

Connect and hello are judged by policy. Over AMTP the hello also proves who the client is, on which depends
what is announced to it and whether it must log in first (AMTP-3, AMTP-19, AMTP-20).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from outrider.identity.host_identity import HostCertificate, HostRefusal, ProvenHost
from outrider.model.envelope import Arrival
from outrider.model.facts import Facts
from outrider.model.reply import Reply
from outrider.model.verdict import Stage, Verdict
from outrider.reception import replies
from outrider.reception.hosts import HostProver, RefusedHost, is_login_of
from outrider.reception.interface import Decision, Session
from outrider.reception.judging import Inquiry, Judge
from outrider.reception.parts import ReceptionParts
from outrider.reception.session_facts import SessionFacts, facts_of
from outrider.reception.settings import ReceptionSettings


class SessionReception:
    """The methods of :class:`outrider.reception.interface.Reception` that are about sessions."""

    def __init__(self, settings: ReceptionSettings, parts: ReceptionParts) -> None:
        self._settings = settings
        self._parts = parts
        self._observer = parts.observer
        self._judge = Judge(parts.policy, parts.sources)
        self._wants_time = bool(parts.policy.needs_anywhere & {"time.hour", "time.weekday"})

    def connected(self, session: Session) -> Decision:
        """See the interface."""
        return self._guarded(session, Stage.CONNECT, lambda: self._connected(session))

    def _connected(self, session: Session) -> Decision:
        self._observer.session_opened(session)
        facts = self._begun_facts(session)
        if not self._parts.policy.asks(Stage.CONNECT):
            return replies.CONNECTION_TAKEN
        conclude = self._concluder(session, Stage.CONNECT, replies.CONNECTION_TAKEN)
        return self._judge.ask(Inquiry(Stage.CONNECT, session, facts, conclude))

    def greeted(self, session: Session, verb: str, name: str) -> Decision:
        """See the interface."""
        del verb
        if session.protocol == "amtp":
            return self._guarded(session, Stage.HELLO, lambda: self._host_greeted(session, name))
        return self._guarded(session, Stage.HELLO, lambda: self._greeted(session, name))

    def _host_greeted(self, session: Session, name: str) -> Decision:
        """AMTP: who it is comes first, what policy thinks of it afterwards (AMTP-3)."""
        hosts = self._parts.hosts
        if hosts is None:
            raise AssertionError("AMTP is spoken without knowing hosts")
        session.hello_name, session.connection = name, Arrival.OTHER
        certificate = hosts.certificate(session, name, self._parts.clock())
        if hosts.needs_reverse(certificate):
            return self._host_with_reverse(hosts, session, certificate, name)
        return self._host_judged(session, hosts.judge(session, certificate, name, None))

    async def _host_with_reverse(
        self, hosts: HostProver, session: Session, certificate: HostCertificate | HostRefusal, name: str
    ) -> Reply:
        reverse = await hosts.reverse(session)
        decision = self._host_judged(session, hosts.judge(session, certificate, name, reverse))
        return decision if isinstance(decision, Reply) else await decision

    def _host_judged(self, session: Session, judged: ProvenHost | RefusedHost) -> Decision:
        if isinstance(judged, RefusedHost):
            self._observer.host_refused(session, judged.check, judged.reason, judged.reply)
            return judged.reply
        now = self._parts.clock()
        facts = facts_of(session, now, self._wants_time)
        if facts.host is not None and facts.host != judged:
            # Another of the certificate's names: nothing concluded from the first may stay (SEC-152).
            session.facts = Facts(facts)
            facts = facts_of(session, now, self._wants_time)
        if facts.host is None:
            self._observer.host_proven(session, judged.name, judged.how)
        facts.host_proven(judged, now)
        if self._parts.partners is not None:
            self._parts.partners.arrived(session, facts, now)
        session.connection = judged.connection
        return self._greeted(session, session.hello_name)

    def announced(self, session: Session) -> tuple[str, ...]:
        """See the interface."""
        if session.protocol != "amtp" or self.login_is_owed(session):
            return ()
        facts = facts_of(session, self._parts.clock(), self._wants_time)
        return self._parts.policy.announced(facts)

    def login_is_owed(self, session: Session) -> bool:
        """See the interface."""
        is_private = session.connection is Arrival.AMTP_PRIVATE
        return is_private and self._settings.private_auth_required and not session.login

    def login_refusal(self, session: Session, login: str) -> Reply | None:
        """See the interface."""
        if session.protocol != "amtp" or not self._settings.private_auth_match:
            return None
        facts = facts_of(session, self._parts.clock(), self._wants_time)
        if facts.host is not None and is_login_of(facts.host, login, self._parts.users):
            return None
        return replies.LOGIN_NOT_OF_CERTIFICATE

    def _greeted(self, session: Session, name: str) -> Decision:
        session.hello_name = name
        facts = self._begun_facts(session)
        if not self._parts.policy.asks(Stage.HELLO):
            return replies.HELLO_TAKEN
        conclude = self._concluder(session, Stage.HELLO, replies.HELLO_TAKEN, about=name)
        return self._judge.ask(Inquiry(Stage.HELLO, session, facts, conclude))

    def _begun_facts(self, session: Session) -> SessionFacts:
        """The session's facts; the look-up of a stranger's name is begun and not waited for."""
        facts = facts_of(session, self._parts.clock(), self._wants_time)
        sources = self._parts.sources
        if sources is not None and self._is_stranger(session):
            sources.begin(session)
        return facts

    def _is_stranger(self, session: Session) -> bool:
        """Whether the name of the client's address will be of interest."""
        if session.client_address in self._settings.relay_networks:
            return False
        hosts = self._parts.hosts
        # The address of a private host may have any name (AMTP-19).
        return (
            session.protocol != "amtp" or hosts is None or not hosts.is_private(session, self._parts.clock())
        )

    def _concluder(
        self, session: Session, stage: Stage, taken: Reply, about: str = ""
    ) -> Callable[[Verdict], Reply]:
        """From a verdict on a session to its reply."""

        def conclude(verdict: Verdict) -> Reply:
            if verdict.reply is None:
                return taken
            return self._refused(session, stage, verdict.reply, rule=verdict.rule, about=about)

        return conclude

    # --- refusing -------------------------------------------------------------------------------------------

    def _refused(
        self,
        session: Session,
        stage: Stage,
        reply: Reply,
        *,
        rule: str = "",
        about: str = "",
        message_id: str = "",
    ) -> Reply:
        self._observer.refused(session, stage.value, reply, rule=rule, about=about, message_id=message_id)
        return reply

    def _guarded(self, session: Session, stage: Stage, decide: Callable[[], Decision]) -> Decision:
        """Our own faults become 451, whether they come at once or after waiting."""
        try:
            decision = decide()
        except Exception as error:
            return self._failed(session, stage, error)
        return decision if isinstance(decision, Reply) else self._guarded_wait(session, stage, decision)

    async def _guarded_wait(self, session: Session, stage: Stage, decision: Awaitable[Reply]) -> Reply:
        try:
            return await decision
        except Exception as error:
            return self._failed(session, stage, error)

    def _failed(self, session: Session, stage: Stage, error: Exception) -> Reply:
        self._observer.reception_failed(session, stage.value, error)
        return replies.LOCAL_ERROR
