"""Dialogues as files, among them the examples of the RFCs, in three feedings.

The files read like the wire. ``C:`` is a line of the client, ``c:`` octets without a line end (with Python's
escapes), ``S:`` a line of the server. What stands between two server turns is one group, sent at once.
``TLS`` is a handshake, ``END`` says that the server has closed. ``! key value`` in front sets the scene.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.protocols.smtp.server_dialogue import Dialogue

from outrider.protocols.smtp.server_settings import ServerSettings, SessionLimits

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts" / "server").glob("*.txt"))
LOCKSTEP = (b"HELO", b"EHLO", b"LHLO", b"STARTTLS", b"AUTH", b"QUIT")


@dataclass
class Turn:
    """A client's group and what it is answered."""

    client: bytes
    server: bytes


def read_script(text: str) -> tuple[list[str], list[Turn | str]]:
    """What sets the scene, and the turns."""
    scene: list[str] = []
    script: list[Turn | str] = [Turn(b"", b"")]
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        turn = script[-1]
        if kind == "!":
            scene.append(rest)
        elif kind in ("C:", "c:"):
            octets = rest.encode() + b"\r\n" if kind == "C:" else _unescape(rest)
            if isinstance(turn, str) or turn.server:
                turn = Turn(b"", b"")
                script.append(turn)
            turn.client += octets
        elif kind == "S:":
            assert isinstance(turn, Turn), f"a reply to nothing: {line!r}"
            turn.server += rest.encode() + b"\r\n"
        elif kind in ("TLS", "END"):
            script.append(kind)
        else:
            assert not kind or kind == "#", f"no such line: {line!r}"
    return scene, script


def read_transcript(path: Path) -> tuple[Dialogue, list[Turn | str]]:
    """The session as the scene has it, and the turns."""
    settings, auth = ServerSettings("mx.example"), ()
    scene, script = read_script(path.read_text("utf-8"))
    for text in scene:
        settings, auth = _set(settings, text)
    return Dialogue(settings, auth), script


def _set(settings: ServerSettings, text: str) -> tuple[ServerSettings, tuple[str, ...]]:
    key, _, value = text.partition(" ")
    if key == "lmtp":
        return replace(settings, lmtp=True), ()
    if key == "tls":
        return replace(settings, tls_offered=True, auth_after_tls=value == "auth"), ()
    if key == "amdp":
        return replace(settings, amdp=True), ()
    if key == "auth":
        return settings, tuple(value.split())
    return replace(settings, limits=replace(SessionLimits(), **{key: int(value)})), ()


def _unescape(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def _greeting(dialogue: Dialogue, script: list[Turn | str]) -> None:
    first = script.pop(0)
    assert isinstance(first, Turn)
    assert not first.client
    assert dialogue.said == first.server


def _between(dialogue: Dialogue, step: str) -> None:
    if step == "TLS":
        dialogue.core.tls_started(dialogue.now)
        dialogue.core.auth_mechanisms = ("PLAIN",) if dialogue.settings.auth_after_tls else ()
    else:
        assert dialogue.core.is_closed


@pytest.mark.covers("SMTP-1", "SMTP-2a", "SMTP-2b")
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("feeding", ["whole", "bytewise"])
def test_transcript(path: Path, feeding: str) -> None:
    dialogue, script = read_transcript(path)
    _greeting(dialogue, script)
    for step in script:
        if isinstance(step, str):
            _between(dialogue, step)
        elif feeding == "whole":
            assert dialogue.feed(step.client) == step.server
        else:
            assert dialogue.feed_each(step.client[n : n + 1] for n in range(len(step.client))) == step.server


@pytest.mark.covers("SMTP-1", "SMTP-2a")
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript_with_the_first_octet_of_the_next_group(path: Path) -> None:
    """Wherever a client need not wait, the next group may already have begun."""
    dialogue, script = read_transcript(path)
    _greeting(dialogue, script)
    ahead = 0
    for n, step in enumerate(script):
        if isinstance(step, str):
            _between(dialogue, step)
            continue
        following = script[n + 1] if n + 1 < len(script) else "END"
        begun = following.client[:1] if isinstance(following, Turn) and _may_go_on(step) else b""
        assert dialogue.feed(step.client[ahead:] + begun) == step.server
        ahead = len(begun)


def _may_go_on(turn: Turn) -> bool:
    last = turn.client.removesuffix(b"\r\n").rpartition(b"\r\n")[2].upper()
    if last == b"DATA":
        return b"354 " in turn.server
    # An answer to a challenge looks like a command of one word in these files.
    return not last.startswith(LOCKSTEP) and not last.endswith(b"=") and last != b"*"


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 20
