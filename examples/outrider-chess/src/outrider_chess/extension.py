"""Chess by mail: moves travel in the headers object, and each side's server knows the rules.

Data of the extension, words parted by single spaces; GAME is a name of up to 32 letters, digits and hyphens
that the inviter chooses:

- ``invite GAME white`` or ``invite GAME black``: let us play, and this is my colour.
- ``accept GAME``: the answer, once the invited user has said yes.
- ``move GAME NUMBER MOVE``: half-move NUMBER, counted from 1 for white's first, is ``e2e4``.
- ``resign GAME``

A user makes his own move by ``outrider extension send chess PEER --from USER --data "move GAME e2e4"``: the
number is put in here. Both servers keep the list of moves; a move that is against the rules is never sent,
and one that comes in is ignored, in silence unless its sender asked.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from outrider.extensions.base import RecipientBase
from outrider.extensions.choices import user_key
from outrider.extensions.interface import (
    Carried,
    ExtensionError,
    ExtensionMessage,
    OutgoingMail,
    RecipientRequest,
)
from outrider.model.address import Address
from outrider_chess.rules import IllegalMove, Position, played

OID = "2.25.171395638524138585176868024513829735522"
"""Made once from a UUID, as anybody may: `python3 -c "import uuid; print(f'2.25.{uuid.uuid4().int}')"`."""
KEPT_S = 366 * 86_400.0
"""A game that rests for a year is forgotten."""
MAX_MOVES = 1000
_DATA = re.compile(
    r"(?P<word>invite|accept|move|resign) (?P<game>[A-Za-z0-9-]{1,32})"
    r"(?: (?P<number>[0-9]{1,4}))?(?: (?P<rest>white|black|[a-h][1-8][a-h][1-8][qrbn]?))?"
)


@dataclass(frozen=True, slots=True)
class Game:
    """One user's view of a game."""

    plays_white: bool
    moves: tuple[str, ...] = ()
    state: str = "invited"
    """invited (we have asked), playing, over."""

    @property
    def is_our_turn(self) -> bool:
        """Whether this user is to move."""
        return (len(self.moves) % 2 == 0) is self.plays_white

    def with_move(self, move: str) -> tuple[Game, Position]:
        """After one more move. Raises ExtensionError for one against the rules."""
        if self.state != "playing" or len(self.moves) >= MAX_MOVES:
            raise ExtensionError("this game is not being played")
        try:
            position = played([*self.moves, move])
        except IllegalMove as error:
            raise ExtensionError(str(error)) from error
        state = "over" if position.outcome else "playing"
        return replace(self, moves=(*self.moves, move), state=state), position


class Chess(RecipientBase):
    """See the module."""

    name: ClassVar[str] = "chess"
    oid: ClassVar[str] = OID
    summary: ClassVar[str] = "plays chess by mail"

    def describe(self, request: RecipientRequest) -> str:
        """What the user reads before he says yes."""
        word, game, _, rest = read(request.data)
        if word == "invite":
            return f"{request.sender} invites you to a game of chess, {game}, and plays {rest}"
        return f"{request.sender}: {word} {game} {rest}"

    async def needs_consent(self, request: RecipientRequest) -> bool:
        """An invitation does. In a game that the user plays, his opponent's moves do not: he said yes to
        them."""
        word, name, _, _ = read(request.data)
        if word == "invite" or not request.proven:
            return True
        return await self._find(request.user, request.sender, name) is None

    async def act(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """Keep what came, and tell the user. The same message twice leads to the same."""
        word, name, number, rest = read(request.data)
        user, peer = request.user, request.sender
        game = await self._find(user, peer, name)
        if word == "invite":
            if game is None:
                await self._keep(user, peer, name, Game(rest == "black", (), "playing"), request.at)
            answer = Carried(OID, f"accept {name}", recipient=peer)
            return (
                ExtensionMessage(
                    peer, user, recipient=(answer,), subject=f"Chess: {name}", text="I accept.\n"
                ),
            )
        if game is None:
            raise ExtensionError(f"there is no game {name}")
        if word == "accept":
            if game.state == "invited":
                game = replace(game, state="playing")
                await self._keep(user, peer, name, game, request.at)
            return (self._letter(user, f"{peer} accepts the game {name}", Position(), game),)
        if word == "resign":
            game = replace(game, state="over")
            await self._keep(user, peer, name, game, request.at)
            return (self._letter(user, f"{peer} resigns the game {name}", played(list(game.moves)), game),)
        return await self._moved(request, game, name, number, rest)

    async def _moved(
        self, request: RecipientRequest, game: Game, name: str, number: int, move: str
    ) -> tuple[ExtensionMessage, ...]:
        if number == len(game.moves) and game.moves[-1:] == (move,):
            moved, position = game, played(list(game.moves))  # it came before
        elif number != len(game.moves) + 1 or game.is_our_turn:
            raise ExtensionError(f"half-move {number} is not your opponent's next")
        else:
            moved, position = game.with_move(move)
            await self._keep(request.user, request.sender, name, moved, request.at)
        subject = f"{request.sender} plays {move} in {name}"
        if position.outcome:
            subject = f"{subject}: {position.outcome}"
        return (self._letter(request.user, subject, position, moved),)

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """The user's own invitation, move or resignation, also as a field ``MT2-Chess`` of his mail. Raises
        ExtensionError for a move against the rules: it is not sent."""
        said = next(iter(mail.fields("MT2-Chess")), "")
        if not said or len(mail.recipients) != 1:
            return None
        word, name, _, rest = read(said)
        user, peer = mail.sender, mail.recipients[0]
        game = await self._find(user, peer, name)
        if word == "invite":
            if rest not in ("white", "black") or game is not None:
                raise ExtensionError("invite GAME white|black, with a name that is not in use")
            await self._keep(user, peer, name, Game(rest == "white"), mail.now)
            return Carried(OID, f"invite {name} {rest}", recipient=peer)
        if game is None or word == "accept":
            raise ExtensionError(f"there is no game {name} with {peer}")
        if word == "resign":
            await self._keep(user, peer, name, replace(game, state="over"), mail.now)
            return Carried(OID, f"resign {name}", recipient=peer)
        if not game.is_our_turn:
            raise ExtensionError(f"it is {peer}'s turn")
        moved, _ = game.with_move(rest)
        await self._keep(user, peer, name, moved, mail.now)
        return Carried(OID, f"move {name} {len(moved.moves)} {rest}", recipient=peer)

    def _letter(self, user: Address, subject: str, position: Position, game: Game) -> ExtensionMessage:
        turn = (
            "The game is over." if game.state == "over" else ("Your move." if game.is_our_turn else "Wait.")
        )
        text = f"{position.drawn()}\n\n{turn}\n"
        return ExtensionMessage(user, subject=subject, text=text, with_body=True)

    async def _find(self, user: Address, peer: Address, name: str) -> Game | None:
        kept = await self.context.memory.get(_key(user, peer, name))
        if kept is None:
            return None
        value = json.loads(kept)
        return Game(bool(value["plays_white"]), tuple(value["moves"]), str(value["state"]))

    async def _keep(self, user: Address, peer: Address, name: str, game: Game, now: float) -> None:
        await self.context.memory.put(_key(user, peer, name), json.dumps(asdict(game)), now + KEPT_S)


def read(data: str) -> tuple[str, str, int, str]:
    """(word, game, number, rest). Raises ExtensionError."""
    found = _DATA.fullmatch(data)
    if found is None or (found["word"] == "move" and not found["rest"]):
        raise ExtensionError("one of: invite GAME white|black, accept GAME, move GAME MOVE, resign GAME")
    return found["word"], found["game"], int(found["number"] or 0), found["rest"] or ""


def _key(user: Address, peer: Address, name: str) -> str:
    """Addresses may be longer than a key."""
    parts = "\0".join((user_key(user), user_key(peer), name))
    return f"game/{hashlib.sha256(parts.encode()).hexdigest()}"
