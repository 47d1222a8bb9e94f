"""The check of outgoing mail by a command (AMDP-1: the hook for virus scanners).

It reads the message on its standard input. Exit 0: go on; 1: refused, in the first line that it prints.
Whatever else happens - no such command, another exit status, too slow - is a fault of ours: the submission is
deferred.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from outrider.delivery.pipe import COMMAND_PATH, Account, run_command
from outrider.model.content import Content
from outrider.protocols.amdp.values import clean_text
from outrider.routing.ways import split_command

TIMEOUT_S = 60.0
REFUSED = 1
MAX_WORDS = 200
_ENVIRONMENT = {"PATH": COMMAND_PATH, "LANG": "C.UTF-8"}


class CommandScanner:
    """Implements `outgoing.Scanner`."""

    def __init__(self, command: str, account: Account | None, timeout_s: float = TIMEOUT_S) -> None:
        """`account`: whom it runs as where the server is root ([delivery] pipe_user). Raises WayError."""
        self._command = split_command(command)
        self._account = account
        self._timeout_s = timeout_s

    async def refusal(self, headers: bytes, content: Content) -> str | None:
        """See `Scanner`."""
        is_root = os.geteuid() == 0
        if is_root and self._account is None:
            raise PermissionError("commands need [delivery] pipe_user when the server is root")

        def pieces() -> Iterator[bytes]:
            yield headers
            yield from content.body.chunks()

        account = self._account if is_root else None
        status, output = await run_command(self._command, _ENVIRONMENT, account, pieces, self._timeout_s)
        if status == 0:
            return None
        if status != REFUSED:
            raise OSError(f"the scanner ended with {status}")
        first = output.partition(b"\n")[0].decode("ascii", "replace")
        return clean_text(first, MAX_WORDS) or "no reason was given"
