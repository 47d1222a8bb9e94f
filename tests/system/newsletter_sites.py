"""A newsletter's way to a site that takes envelopes and to one that knows SMTP only, and what it costs the
first: every octet between the two sites passes a relay that counts."""

from __future__ import annotations

import http.client
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.certificates import CertificateAuthority
from tests.peers.counting_relay import CountingRelay
from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer
from tests.peers.rooms import PATIENCE_S
from tests.system.sites import Settings, site

HOLDER = "mhf-1.alpha.example"
_BLOCK = 512
"""Octets, of st_blocks."""
LINE = b"All the news of the week, and what it means, in a line that is as long as lines are in letters.\r\n"


@dataclass(frozen=True, slots=True)
class Sites:
    """Alpha writes and holds, beta takes envelopes, gamma is Postfix."""

    alpha: OutriderServer
    beta: OutriderServer
    gamma: PostfixServer
    alpha_address: str
    relays: tuple[CountingRelay, ...]
    """All that lies between alpha and beta; the first is beta's port for mail."""
    authority: Path

    def octets(self) -> int:
        """Between alpha and beta so far."""
        return sum(relay.octets for relay in self.relays)

    def disk(self) -> int:
        """What beta's mailboxes, spool and tables take, in octets, without the databases' journals: they are
        used again and again, and are no larger with more mail."""
        folders = (self.beta.folder / "mail", self.beta.folder / "data")
        files = (one for folder in folders for one in folder.rglob("*") if one.is_file())
        return sum(one.stat().st_blocks * _BLOCK for one in files if not one.name.endswith(("-wal", "-shm")))


def letter(size: int) -> bytes:
    """A newsletter of about that size, lines ending CRLF."""
    head = (
        b"From: The News <news@alpha.example>\r\nTo: readers@alpha.example\r\n"
        b"Subject: The week in review\r\n"
        b"Message-ID: <week-47@alpha.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain\r\n\r\n"
    )
    return head + LINE * ((size - len(head)) // len(LINE))


def _settings(name: str, address: str, authority: CertificateAuthority, names: BindServer) -> Settings:
    made = site(
        f"{name}.example",
        address,
        tls=authority.issue(*(f"{host}.{name}.example" for host in ("mx", "mhf-1", "amdp-mis"))),
        dns={"servers": [f"{names.address}:{names.port}"]},
        limits={"recipients": 10_000},
    )
    made["listeners"].append({"protocol": "amdp", "address": address})
    return made


@contextmanager
def newsletter_sites(authority: CertificateAuthority, readers: Sequence[str]) -> Iterator[Sites]:
    """All of it, running; beta's users are the readers, gamma's is bob."""
    alpha_at, beta_at, gamma_at, alpha_seen, beta_seen = (loopback_address() for _ in range(5))
    relays = (
        # Beta sees mail come from the address that alpha's facility has in DNS.
        CountingRelay(beta_seen, 25, beta_at, source=alpha_seen),
        CountingRelay(beta_seen, 443, beta_at),
        CountingRelay(alpha_seen, 443, alpha_at),
    )
    zones = {
        "alpha.example": f"@ MX 10 mx\nmx A {alpha_at}\nmhf-1 A {alpha_seen}\namdp-mis A {alpha_seen}",
        "beta.example": f"@ MX 10 mx\nmx A {beta_seen}\namdp-mis A {beta_seen}",
        "gamma.example": f"@ MX 10 mx\nmx A {gamma_at}",
    }
    with ExitStack() as stack:
        enter = stack.enter_context
        names = enter(BindServer(zones))
        for relay in relays:
            enter(relay)
        beta = _settings("beta", beta_at, authority, names)
        beta["domains"]["beta.example"]["users"] = list(readers)
        beta["amdp"] = {"roles": ["img", "mis"]}
        alpha = _settings("alpha", alpha_at, authority, names)
        alpha["domains"]["alpha.example"]["users"] = ["news"]
        alpha["amdp"] = {
            "roles": ["omg", "mhf", "mis"],
            "outgoing": {"hold": "all", "classes": {"*": "Agent::Bulk"}, "message_type": "newsletter"},
        }
        yield Sites(
            enter(OutriderServer(alpha, title="alpha")),
            enter(OutriderServer(beta, title="beta")),
            enter(PostfixServer(gamma_at, local_domains=("gamma.example",), users=("bob",))),
            alpha_at,
            relays,
            authority.authority,
        )


def send(
    address: str,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
    connection: smtplib.SMTP | None = None,
) -> None:
    """Hand a message over by SMTP, in one transaction. Raises smtplib.SMTPException."""
    with ExitStack() as stack:
        link = connection or stack.enter_context(smtplib.SMTP(address, 25, timeout=4 * PATIENCE_S))
        refused = link.sendmail(sender, recipients, content)
        assert not refused, refused


class ReaderBrowser:
    """What a reader's browser says to the holder's page, over TLS that is verified."""

    def __init__(self, link: str, address: str, authority: Path) -> None:
        host, _, self._path = link.removeprefix("https://").partition("/")
        context = ssl.create_default_context(cafile=str(authority))
        self._connection = http.client.HTTPSConnection(host, timeout=PATIENCE_S, context=context)
        raw = socket.create_connection((address, 443), timeout=PATIENCE_S)
        self._connection.sock = context.wrap_socket(raw, server_hostname=host)

    def __enter__(self) -> ReaderBrowser:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self) -> tuple[int, bytes]:
        """Look at the page."""
        return self._ask("GET", None)

    def press(self, button: str) -> tuple[int, bytes]:
        """What a form on it asks for."""
        return self._ask("POST", f"do={button}")

    def _ask(self, method: str, body: str | None) -> tuple[int, bytes]:
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        self._connection.request(method, f"/{self._path}", body, kind)
        answer = self._connection.getresponse()
        return answer.status, answer.read()
