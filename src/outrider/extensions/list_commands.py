"""Mailing-list commands: what is asked of a list stands in the headers object and not in a Subject (MT2-21c).

The data are one of the words ``subscribe``, ``unsubscribe``, ``help``; the message goes to the list's
address for requests. The list's owner is its site's operator, whose enabling is the consent. What a proven
sender asks for himself is done at once: his address needs no confirmation by a letter. Anybody else is asked
as ever.
"""

from __future__ import annotations

from typing import ClassVar

from outrider.extensions.base import RecipientBase
from outrider.extensions.interface import (
    Carried,
    ExtensionError,
    ExtensionMessage,
    OutgoingMail,
    RecipientRequest,
    Rights,
)
from outrider.extensions.oids import LIST_COMMAND

COMMANDS = ("subscribe", "unsubscribe", "help")


class ListCommands(RecipientBase):
    """See the module. The lists' own transport reads the command by `command_of`; a user has none to give."""

    name: ClassVar[str] = "list-command"
    oid: ClassVar[str] = LIST_COMMAND
    summary: ClassVar[str] = "mailing lists take commands from the headers object"
    rights: ClassVar[Rights] = Rights.EVERYBODY

    def describe(self, request: RecipientRequest) -> str:
        """See `interface.RecipientExtension`."""
        return f"{request.sender} sends the list command {command_of(request.data)}"

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """A person is no list."""
        raise ExtensionError(f"{request.user} is no mailing list")

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """Given by the field ``MT2-List-Command: subscribe``."""
        for one in mail.fields("MT2-List-Command"):
            if one.strip().lower() in COMMANDS:
                return Carried(LIST_COMMAND, one.strip().lower())
        return None


def command_of(data: str) -> str:
    """The command. Raises ExtensionError."""
    word = data.strip().lower()
    if word not in COMMANDS:
        raise ExtensionError(f"one of {', '.join(COMMANDS)}")
    return word
