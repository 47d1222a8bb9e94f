"""`outrider queue show ID --object`: each object of a message readable alone (MT2-1)."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outrider.cli.main import main
from outrider.config.loader import load
from outrider.model.content import Content, InlineBody
from outrider.model.layered import MessageObjects
from outrider.spool.factory import open_spool
from outrider.testing.spool_samples import message
from tests.minimal_site import HOSTNAME, make_minimal_site

PREFIX = b"Content-Type: text/plain\r\n\r\n"
TEXT = b"8-bit \xff and no final line end"
OBJECTS = MessageObjects(b"<envelope/>", b"<headers/>", PREFIX)
SECTION = b"Subject: x\r\n" + PREFIX


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration; no server runs."""
    monkeypatch.chdir(tmp_path)
    make_minimal_site(tmp_path)
    return tmp_path


async def _store(folder: Path, objects: MessageObjects | None) -> None:
    spool = open_spool(load(folder / "outrider.toml").config, HOSTNAME, shard=1)
    now = time.time()
    await spool.start(now)
    new = message(id_="QUEUED1", received_at=now, content=Content(SECTION, InlineBody(TEXT), is_ascii=False))
    await spool.store(replace(new, objects=objects))
    await spool.close()


def show(*words: str) -> Result:
    """`outrider queue show`."""
    return CliRunner().invoke(main, ["queue", "show", "QUEUED1", "-c", "outrider.toml", *words])


@pytest.mark.covers("MT2-1", "MT2-29")
def test_each_object_can_be_read_alone(here: Path) -> None:
    asyncio.run(_store(here, OBJECTS))
    assert show("--object", "envelope").stdout_bytes == OBJECTS.envelope
    assert show("--object", "headers").stdout_bytes == OBJECTS.headers
    assert show("--object", "body").stdout_bytes == PREFIX + TEXT
    assert show("--object", "content").stdout_bytes.endswith(SECTION + TEXT)
    row = json.loads(show("--json").stdout)
    assert row["objects"] == {"envelope": 11, "message/headers": 10, "body": len(PREFIX + TEXT)}
    assert "message/headers: 10 octets" in show().stdout


@pytest.mark.covers("MT2-1", "MT2-2")
def test_an_envelope_alone_has_no_body(here: Path) -> None:
    asyncio.run(_store(here, MessageObjects(b"<envelope/>", b"", b"", has_body=False)))
    assert show("--object", "envelope").stdout_bytes == b"<envelope/>"
    refused = show("--object", "body")
    assert refused.exit_code == 1
    assert "has no body object" in refused.stderr


def test_other_mail_is_shown_as_ever(here: Path) -> None:
    asyncio.run(_store(here, None))
    assert json.loads(show("--object", "envelope").stdout)["sender"] == "ann@a.example"
    assert show("--object", "headers").stdout_bytes.endswith(SECTION)
    assert show("--object", "body").stdout_bytes == TEXT
    assert "objects" not in json.loads(show("--json").stdout)
