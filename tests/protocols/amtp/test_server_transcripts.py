"""Dialogues as files, the draft's among them, fed whole and octet by octet.

Their form is that of `tests/protocols/smtp/test_server_transcripts.py`; ``S: 250-...`` stands for what SMTP
offers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.protocols.amtp.server_dialogue import Dialogue
from tests.protocols.smtp.test_server_transcripts import Turn, read_script

from outrider.protocols.amtp import replies
from outrider.protocols.smtp.server_settings import ServerSettings, SessionLimits

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
COVERS = {
    "another_name": ("AMTP-3",),
    "command_order": ("AMTP-4",),
    "declarations": ("AMTP-9", "AMTP-10", "AMTP-11"),
    "draft_four_recipients": ("AMTP-11",),
    "draft_not_authenticated": ("AMTP-3",),
    "draft_not_now": ("AMTP-3",),
    "draft_refused_at_mail": ("AMTP-10", "AMTP-11"),
    "parameter": ("AMTP-9", "AMTP-11"),
    "private_login": ("AMTP-20",),
    "private_login_offered": ("AMTP-20",),
}
CASES = [
    pytest.param(path, id=path.stem, marks=pytest.mark.covers(*COVERS[path.stem])) for path in TRANSCRIPTS
]
OFFERS = (
    "PIPELINING",
    "SIZE 52428800",
    "8BITMIME",
    "SMTPUTF8",
    "CHUNKING",
    "BINARYMIME",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "LIMITS MAILMAX=10000 RCPTMAX=1000",
    "FUTURERELEASE 2592000 2023-12-14T22:13:20Z",
)
ALL_OFFERS = "\n".join(f"S: 250-{offer}" for offer in OFFERS)


def read_transcript(path: Path) -> tuple[Dialogue, list[Turn | str]]:
    """The session as the scene has it, and the turns."""
    scene, script = read_script(path.read_text("utf-8").replace("S: 250-...", ALL_OFFERS))
    dialogue = Dialogue(ServerSettings("mx.beatles.example"), certified="mail.example.com")
    for text in scene:
        key, _, value = text.partition(" ")
        SCENE[key](dialogue, value)
    return dialogue, script


def _errors(dialogue: Dialogue, value: str) -> None:
    dialogue.core.limits = replace(SessionLimits(), errors=int(value))


def _certified(dialogue: Dialogue, value: str) -> None:
    dialogue.certified = value


def _hello(dialogue: Dialogue, value: str) -> None:
    assert value == "451"
    dialogue.hello_decision = replies.IDENTITY_UNKNOWN


def _declare(dialogue: Dialogue, value: str) -> None:
    dialogue.declarations += (value,)


def _after_login(dialogue: Dialogue, value: str) -> None:
    dialogue.after_login += (value,)


def _takes(dialogue: Dialogue, value: str) -> None:
    address, _, code = value.partition(" ")
    dialogue.takes[address] = code


def _auth(dialogue: Dialogue, value: str) -> None:
    dialogue.auth = (value,)


def _login(dialogue: Dialogue, value: str) -> None:
    dialogue.login_required = value == "required"


SCENE = {
    "errors": _errors,
    "certified": _certified,
    "hello": _hello,
    "declare": _declare,
    "after-login": _after_login,
    "takes": _takes,
    "auth": _auth,
    "login": _login,
}


@pytest.mark.parametrize("path", CASES)
@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["whole", "bytewise"])
def test_transcript(path: Path, piece: int) -> None:
    dialogue, script = read_transcript(path)
    greeting = script.pop(0)
    assert isinstance(greeting, Turn)
    assert dialogue.said == greeting.server
    for step in script:
        if isinstance(step, str):
            assert dialogue.core.is_closed
            continue
        pieces = (step.client[n : n + piece] for n in range(0, len(step.client), piece))
        assert dialogue.feed_each(pieces).decode() == step.server.decode()


def test_there_are_transcripts() -> None:
    assert len(CASES) == len(COVERS)
