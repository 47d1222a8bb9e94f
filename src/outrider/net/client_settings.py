"""What all outgoing sessions work with: settings, TLS, somebody to tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from outrider.config.schema import Config
from outrider.net.client_observer import ClientObserver
from outrider.net.client_tls import ClientTls, SeenStartTls
from outrider.net.dialling import Dialling
from outrider.protocols.smtp.client_content import LongLines
from outrider.protocols.smtp.client_events import ClientSettings


@dataclass(frozen=True, slots=True)
class SmtpClientSettings:
    """What holds for all connections. Times in seconds."""

    hostname: str
    dialling: Dialling = field(default_factory=Dialling)
    command_timeout_s: float = 300.0
    data_timeout_s: float = 600.0
    handshake_timeout_s: float = 30.0
    recipients_per_message: int = 100
    long_lines: LongLines = LongLines.ENCODE

    @classmethod
    def of(cls, config: Config) -> SmtpClientSettings:
        """As configured."""
        delivery, net = config.delivery, config.net
        return cls(
            hostname=config.hostname,
            dialling=Dialling(delivery.connect_timeout, net.source_address, net.source_address6),
            command_timeout_s=delivery.command_timeout,
            data_timeout_s=delivery.data_timeout,
            handshake_timeout_s=config.limits.handshake_timeout,
            recipients_per_message=delivery.recipients_per_message,
            long_lines=LongLines(delivery.long_lines),
        )

    def for_core(self, *, lmtp: bool = False) -> ClientSettings:
        """What of it concerns one session."""
        return ClientSettings(
            hello_name=self.hostname,
            lmtp=lmtp,
            greeting_timeout_s=self.command_timeout_s,
            command_timeout_s=self.command_timeout_s,
            data_timeout_s=self.data_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class SmtpClientParts:
    """What all sessions work with."""

    settings: SmtpClientSettings
    tls: ClientTls
    observer: ClientObserver
    clock: Callable[[], float]
    """The time of day, for certificates."""
    seen_starttls: SeenStartTls = field(default_factory=SeenStartTls)


def loop_time() -> float:
    """The clock of the cores."""
    return asyncio.get_running_loop().time()
