"""What MT2's reception takes out of the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from outrider.config.schema import Config
from outrider.identity.certificates import normal_host
from outrider.reception.settings import ReceptionSettingsError

EVERYBODY = "*"
DAY_S = 86_400.0
LEAST_RESUME_S = 3600.0
"""MT2-18b: partial objects are kept an hour at least."""


@dataclass(frozen=True, slots=True)
class HostNames:
    """Names of hosts, `.domains` with all below them, or everybody."""

    exact: frozenset[str] = frozenset()
    below: tuple[str, ...] = ()
    """With their leading dot."""
    all: bool = False

    @classmethod
    def of(cls, key: str, texts: Iterable[str]) -> HostNames:
        """From the configuration. Raises ReceptionSettingsError."""
        exact: set[str] = set()
        below: list[str] = []
        is_all = False
        for text in texts:
            if text == EVERYBODY:
                is_all = True
                continue
            name = normal_host(text.removeprefix("."))
            if not name:
                raise ReceptionSettingsError(f"{key}: {text!r} is not a host name")
            if text.startswith("."):
                below.append(f".{name}")
            exact.add(name)
        return cls(frozenset(exact), tuple(below), is_all)

    def cover(self, names: Iterable[str]) -> bool:
        """Whether one of the names (lower-case A-labels) is meant."""
        return self.all or any(name in self.exact or name.endswith(self.below) for name in names)


@dataclass(frozen=True, slots=True)
class Mt2ReceptionSettings:
    """Frozen; a reload makes new ones. Sizes in octets, times in seconds."""

    hostname: str
    message_size: int
    """Of all objects of a message together; a large number for no limit."""
    hops: int
    inline_limit: int
    window: int = 16_777_216
    max_part: int = 1_048_576
    in_flight: int = 768
    pipe: HostNames = field(default_factory=HostNames)
    resume_for: float = 3 * 3600.0
    partial_space: int = 1_073_741_824
    remember_for: float = 8 * 86_400.0
    keep_finished: float = 7 * 86_400.0
    """How long the trail of a finished message is kept."""
    verify_seals: bool = True

    @classmethod
    def of(cls, config: Config, message_size: int, hops: int) -> Mt2ReceptionSettings:
        """From the whole configuration; the limits as `ReceptionSettings` has them. Raises
        ReceptionSettingsError."""
        mt2 = config.mt2
        if mt2.max_part > mt2.window:
            raise ReceptionSettingsError(
                f"mt2.max_part: {mt2.max_part} is more than the window of {mt2.window}"
            )
        if mt2.resume_for < LEAST_RESUME_S:
            raise ReceptionSettingsError("mt2.resume_for: peers rely on an hour at least (MT2-18b)")
        return cls(
            hostname=config.hostname,
            message_size=message_size,
            hops=hops,
            inline_limit=config.spool.inline_limit,
            window=mt2.window,
            max_part=mt2.max_part,
            in_flight=mt2.in_flight,
            pipe=HostNames.of("mt2.pipe", mt2.pipe),
            resume_for=mt2.resume_for,
            partial_space=mt2.partial_space,
            # A transfer that is forgotten while its sender still tries would be taken twice (MT2-18a).
            remember_for=max(mt2.remember_for, config.delivery.max_age + DAY_S),
            keep_finished=config.spool.keep_finished,
            verify_seals=mt2.verify_seals,
        )
