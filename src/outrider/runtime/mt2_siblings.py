"""How workers ask each other about transfers of MT2: at their control sockets (MT2-18b)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from outrider.reception.mt2_saved import Key
from outrider.reception.mt2_shared import AskSiblings
from outrider.runtime.control import CommandRefused, Handler, Row

COMMAND: Final = "mt2.transfer"
"""Asked by a worker of the others; `group.GroupCommands` brings it to all of them."""

Answer = Callable[[Key, bool], Awaitable[Mapping[str, int] | None]]


def transfer_commands(answer: Answer) -> dict[str, Callable[[dict[str, Any]], AsyncIterator[Row]]]:
    """For a worker's own control socket: a row with what it holds, or none."""

    async def transfer(arguments: dict[str, Any]) -> AsyncIterator[Row]:
        key = str(arguments["peer"]), str(arguments["id"])
        held = await answer(key, bool(arguments.get("give_up")))
        if held is not None:
            yield {"held": dict(held)}

    return {COMMAND: transfer}


def asking(everybody: Callable[[], Handler]) -> AskSiblings:
    """Asks all other workers. One that is not there or does not answer has said nothing: what it has claimed
    stays claimed as long as it lives, and no longer."""

    async def ask(key: Key, give_up: bool) -> Mapping[str, int] | None:
        arguments = {"peer": key[0], "id": key[1], "give_up": give_up}
        held: Mapping[str, int] | None = None
        try:
            async for row in everybody()(COMMAND, arguments):
                held = {str(kind): int(size) for kind, size in row["held"].items()}
        except CommandRefused:
            return None
        return held

    return ask
