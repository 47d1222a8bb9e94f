"""What the server says of its mail, asked over the socket that the command line uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from outrider.cli.asking import ask
from tests.peers.outrider_server import OutriderServer
from tests.peers.rooms import wait_until

Row = dict[str, Any]


def counts(server: OutriderServer) -> Row:
    """`outrider queue count`."""
    (row,) = ask(server.config_path, "queue.count", {})
    return row


def wait_drained(server: OutriderServer, patience_s: float = 60.0) -> None:
    """Wait until nothing is ready or under way."""
    wait_until(
        lambda: counts(server)["ready"] + counts(server)["active"] == 0,
        f"the queue of {server.title} to drain",
        patience_s,
    )


def queue_list(server: OutriderServer, *, done: bool = False) -> list[Row]:
    """`outrider queue list`, with `--done` if asked."""
    wanted = {"ids": [], "states": [], "limit": 0, "older_s": 0.0, "sender": "", "recipient": ""}
    request = {**wanted, "destination": "", "reason": "", "include_done": done}
    return list(cast(Iterable[Row], ask(server.config_path, "queue.list", request)))


def show(server: OutriderServer, message_id: str) -> Row:
    """`outrider queue show`."""
    (row,) = ask(server.config_path, "queue.show", {"id": message_id})
    return row


def recipient_states(server: OutriderServer, message_ids: Iterable[str]) -> Counter[tuple[str, str]]:
    """How often each (recipient, state) stands in the ledger of those messages.

    The state is the recipient's (delivered, failed, pending), or `held` while its item is.
    """
    found: Counter[tuple[str, str]] = Counter()
    for message_id in message_ids:
        for item in show(server, message_id)["items"]:
            for recipient in item["recipients"]:
                state = "held" if item["state"] == "held" else recipient["state"]
                found[recipient["address"], state] += 1
    return found
