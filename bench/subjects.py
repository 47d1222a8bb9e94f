"""The servers that are measured, each configured for the same work."""

from __future__ import annotations

import abc
import contextlib
from types import TracebackType
from typing import Self

from tests.peers.outrider_server import OutriderServer
from tests.peers.postfix import PostfixServer

DOMAIN = "bench.example"
RECIPIENT = f"ann@{DOMAIN}"


class Subject(abc.ABC):
    """A server under measurement: takes mail for `DOMAIN`, and throws it away or passes it to a sink."""

    name: str

    def __init__(self, address: str, sink: tuple[str, int] | None) -> None:
        self.address = address
        self.port = 2525
        self.sink = sink
        self._stack = contextlib.ExitStack()

    @abc.abstractmethod
    def start(self) -> int:
        """Start the server; its process id."""

    @abc.abstractmethod
    def waiting(self) -> int:
        """Messages still in its queue."""

    def __enter__(self) -> Self:
        self.pid = self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class Outrider(Subject):
    """One process, as configured by default: every check, fact, event and log line on."""

    name = "outrider"

    def start(self) -> int:
        way = f'"*" = "smtp:[{self.sink[0]}]:{self.sink[1]}"' if self.sink else '"*" = "discard:"'
        config = f"""
hostname = "mx.outrider.example"
data_dir = "data"
[[listeners]]
protocol = "smtp"
address = "{self.address}"
port = {self.port}
[dns]
servers = []
[relay]
networks = ["127.0.0.0/8"]
[net]
private_destinations = ["127.0.0.0/8"]
[routes]
{way}
[limits]
connections_per_address = 2000
"""
        self._server = self._stack.enter_context(OutriderServer(config))
        return self._server.pid

    def waiting(self) -> int:
        status = self._server.cli_json("queue", "count", "--json")
        return int(status["ready"]) + int(status["active"])


class Postfix(Subject):
    """Debian's Postfix with its defaults, without look-ups that the other does not do either."""

    name = "postfix"

    def start(self) -> int:
        relay = {"*": self.sink} if self.sink else {}
        settings = {"default_transport": "discard", "relay_transport": "discard"} if not self.sink else {}
        limits = {"smtpd_client_connection_count_limit": "0", "smtp_destination_concurrency_limit": "50"}
        self._server = self._stack.enter_context(
            PostfixServer(
                self.address,
                self.port,
                main_cf={**settings, **limits, "default_process_limit": "200"},
                hostname="mx.postfix.example",
                local_domains=("local.example",),
                relay_to=relay,
            )
        )
        return self._server.room.pid

    def waiting(self) -> int:
        return len(self._server.queue())


SUBJECTS: tuple[type[Subject], ...] = (Outrider, Postfix)
