"""What policy decided, and which rule decided it (ITP-4a)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from outrider.model.reply import Reply


class Stage(Enum):
    """When a decision is taken; in the order in which a session reaches them."""

    CONNECT = "connect"
    HELLO = "hello"
    SENDER = "sender"
    RECIPIENT = "recipient"
    HEADERS = "headers"
    BODY = "body"


class Action(Enum):
    """What a rule does."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    DEFER = "defer"
    HOLD = "hold"
    TAG = "tag"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one stage.

    `reason` is the one sentence that reply, log, header and explain all use. `reply` is set for REFUSE
    and DEFER. `tags` are fields to add or labels to keep; `route` overrides the way to the recipient.
    """

    action: Action
    rule: str
    reason: str
    reply: Reply | None = None
    tags: tuple[str, ...] = ()
    route: str = ""

    @property
    def admits(self) -> bool:
        """Whether the session goes on."""
        return self.action not in (Action.REFUSE, Action.DEFER)


ACCEPTED = Verdict(Action.ACCEPT, "", "")
"""No rule spoke: the ordinary case."""
