"""The worked example: a game of chess between two desks (MT2-21c)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from outrider.extensions.interface import (
    Carried,
    Consent,
    ExtensionError,
    ExtensionMessage,
    OutgoingMail,
    RecipientRequest,
)
from outrider.model.address import Address
from tests.extensions.support import ANN, BEN, Site, site

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "outrider-chess" / "src"
sys.path.insert(0, str(EXAMPLE))

from outrider_chess.extension import OID, Chess  # noqa: E402


async def _says(here: Site, user: Address, peer: Address, data: str) -> Carried:
    """The user sends it, by his own server."""
    extension = here.desk.registry.by_oid(OID)
    assert isinstance(extension, Chess)
    carried = await extension.outgoing(OutgoingMail("Q", user, (peer,), here.now, lambda _: (data,)))
    assert carried is not None
    return carried


async def _gets(here: Site, user: Address, peer: Address, *carried: Carried) -> tuple[ExtensionMessage, ...]:
    mail = here.mail()
    facts = here.facts(sender=peer, recipients=(user,), identities=frozenset({f"mx.{peer.domain}"}))
    return await here.desk.received(type(mail)(facts, user, (), carried, has_body=False))


@pytest.mark.covers("MT2-21c", "MT2-20")
async def test_a_game_from_the_invitation_to_mate(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with site(tmp_path, Chess()) as b, site(tmp_path / "a", Chess()) as a:
        await a.enable("chess", ANN)
        await b.enable("chess", BEN)
        # The invitation waits for Ben's word; nothing is played without it.
        invitation = await _says(a, ANN, BEN, "invite spring white")
        assert await _gets(b, BEN, ANN, invitation) == ()
        (waiting,) = await b.thread.call(lambda store: store.waiting(b.now))
        assert waiting.text == "ann@a.example invites you to a game of chess, spring, and plays white"
        request = RecipientRequest(BEN, ANN, "m", waiting.data, b.now, True, Consent.ASK)
        (accepted,) = await b.desk.consented(waiting, request)
        (letter,) = await _gets(a, ANN, BEN, *accepted.recipient)
        assert (letter.to, letter.sender) == (ANN, None)
        assert "R N B Q K B N R" in letter.text
        # Fool's mate.
        moves = [(a, ANN, b, BEN, "f2f3"), (b, BEN, a, ANN, "e7e5")]
        moves += [(a, ANN, b, BEN, "g2g4"), (b, BEN, a, ANN, "d8h4")]
        for here, user, there, peer, move in moves:
            carried = await _says(here, user, peer, f"move spring {move}")
            (letter,) = await _gets(there, peer, user, carried)
            again = await _gets(there, peer, user, carried)
            assert again == (letter,), "a message that is handled twice moves once"
        assert letter.subject == "ben@b.example plays d8h4 in spring: checkmate"
        with pytest.raises(ExtensionError, match=r"turn|played"):
            await _says(a, ANN, BEN, "move spring a2a3")


@pytest.mark.covers("MT2-21c")
async def test_a_move_against_the_rules_is_neither_sent_nor_taken(tmp_path: Path) -> None:
    async with site(tmp_path, Chess()) as b:
        await b.enable("chess", BEN)
        await _gets(b, BEN, ANN, Carried(OID, "invite spring white"))
        (waiting,) = await b.thread.call(lambda store: store.waiting(b.now))
        await b.desk.consented(waiting, RecipientRequest(BEN, ANN, "m", waiting.data, b.now, True))
        for wrong in ("move spring 1 e2e5", "move spring 2 e7e5", "move spring 1 zz", "checkmate"):
            assert await _gets(b, BEN, ANN, Carried(OID, wrong)) == ()
            assert b.told.heard[-1][:2] == ("ignored", "chess")
        with pytest.raises(ExtensionError, match="turn"):
            await _says(b, BEN, ANN, "move spring e7e5")
