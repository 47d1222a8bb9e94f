"""TLS as the drivers of clients need it: contexts by certificate, judgement by policy, memory of offers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from outrider.identity.authorities import CaStores, read_authorities
from outrider.identity.host_identity import HostRefusal, ServerIdentity, ServerJudge, ServerQuestion
from outrider.identity.server_tls import ProvenServer, TlsRefusal, match_fingerprint, verify_server
from outrider.net.tls_context import ClientContext
from outrider.net.tls_files import CertificateFiles, TlsConfigError
from outrider.net.tls_info import TlsInfo
from outrider.routing.tls_policy import TlsRequirement

MAX_REMEMBERED: Final = 10_000
"""Hosts of which is known that they have offered STARTTLS."""


@dataclass(slots=True)
class ClientTls:
    """What is ours: CA sets and certificates. A reload makes a new one."""

    stores: CaStores = field(default_factory=CaStores)
    own: CertificateFiles | None = None
    """Presented under the policy `mutual` where the way names no other."""
    _contexts: dict[CertificateFiles | None, ClientContext] = field(default_factory=dict, repr=False)
    _judges: dict[tuple[str, ...], ServerJudge] = field(default_factory=dict, repr=False)
    """By the files of the CAs that may vouch; () = all that are configured. They remember what they have
    seen."""

    def context(self, requirement: TlsRequirement) -> ClientContext:
        """How to speak TLS for this requirement. Raises :class:`TlsConfigError`.

        A certificate is presented only where the operator asks for it: by the level `mutual`, or by naming
        one for the way.
        """
        files = self._files(requirement)
        if files not in self._contexts:
            self._contexts[files] = ClientContext(files)
        return self._contexts[files]

    def amtp_context(self, requirement: TlsRequirement) -> ClientContext:
        """How to speak TLS for AMTP: a certificate is always presented (AMTP-1). Raises TlsConfigError."""
        return self.context(replace(requirement, level="mutual"))

    def _files(self, requirement: TlsRequirement) -> CertificateFiles | None:
        if requirement.certificate:
            return CertificateFiles(Path(requirement.certificate), Path(requirement.key))
        if requirement.level != "mutual":
            return None
        if self.own is None:
            path = Path("[tls] certificate")
            raise TlsConfigError(
                path, "none is set, and the policy is mutual", "set one there or for the route"
            )
        return self.own

    def reload(self) -> None:
        """Read the certificates anew; a bad one keeps its old version. Raises the first TlsConfigError."""
        errors: list[TlsConfigError] = []
        for context in self._contexts.values():
            try:
                context.reload()
            except TlsConfigError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def judge(
        self, requirement: TlsRequirement, name: str, info: TlsInfo, now: float
    ) -> ProvenServer | TlsRefusal:
        """Who the server has proven to be, by the means that the requirement names.

        For levels that ask for no proof the answer is for the record only.
        """
        if requirement.level == "fingerprint":
            return match_fingerprint(info.peer_chain, requirement.fingerprints)
        return verify_server(info.peer_chain, name, self.judge_by(requirement.authorities).stores, now)

    def judge_amtp(
        self, requirement: TlsRequirement, question: ServerQuestion, info: TlsInfo, now: float
    ) -> ServerIdentity | HostRefusal | ProvenServer | TlsRefusal:
        """Whether it is the server that an AMTP client wants (AMTP-5); by its fingerprint where one is
        pinned. Raises TlsConfigError for CA files that cannot be read."""
        if requirement.level == "fingerprint":
            return match_fingerprint(info.peer_chain, requirement.fingerprints)
        return self.judge_by(requirement.authorities).judge(info.peer_chain, question, now)

    def believe(self, files: tuple[str, ...], stores: CaStores) -> None:
        """These files have been read already, while they could be: what is in them."""
        self._judges[files] = ServerJudge(stores)

    def judge_by(self, files: tuple[str, ...]) -> ServerJudge:
        """Who judges servers by the CAs in these PEM files. Raises TlsConfigError."""
        judge = self._judges.get(files)
        if judge is None:
            judge = ServerJudge(self._authorities(files) if files else self.stores)
            self._judges[files] = judge
        return judge

    def _authorities(self, files: tuple[str, ...]) -> CaStores:
        found = []
        for name in files:
            try:
                found += read_authorities(Path(name).read_bytes())
            except OSError as error:
                problem = (error.strerror or "cannot be read").lower()
                raise TlsConfigError(Path(name), problem, "give the path of a PEM file") from error
            except ValueError as error:
                raise TlsConfigError(Path(name), "holds no PEM certificates", "convert it to PEM") from error
        return CaStores.of(private=found, revocations=self.stores.revocations)


class SeenStartTls:
    """Which hosts have offered STARTTLS, as far as memory goes (TLS-5): for counting, never for refusing."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._hosts: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def offered(self, host: str) -> None:
        """It does."""
        self._hosts[host] = None
        self._hosts.move_to_end(host)
        if len(self._hosts) > self._most:
            self._hosts.popitem(last=False)

    def has_vanished(self, host: str) -> bool:
        """It does not; whether it did before."""
        return host in self._hosts
