"""A test that hangs fails and says where it stood, whatever it waits in; the next one runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.peers.images import PROJECT

HANGING = """
import asyncio, threading, time
import pytest

async def wait_for_the_impossible():
    await asyncio.get_running_loop().create_future()

@pytest.mark.limit(1)
async def test_a_task_and_its_helper_wait():
    helper = asyncio.create_task(wait_for_the_impossible(), name="the-helper")
    await asyncio.shield(helper)

@pytest.mark.limit(1)
async def test_a_task_will_not_be_cancelled():
    while True:
        try:
            await wait_for_the_impossible()
        except asyncio.CancelledError:
            pass

@pytest.mark.limit(1)
def test_a_thread_waits():
    loop = asyncio.new_event_loop()
    loop.create_task(wait_for_the_impossible(), name="elsewhere")
    threading.Thread(target=loop.run_forever, name="the-other", daemon=True).start()
    threading.Event().wait()

@pytest.fixture
def stays():
    yield
    time.sleep(60)

@pytest.mark.limit(1)
def test_a_fixture_does_not_end(stays):
    pass

@pytest.mark.limit(60)
async def test_the_next_one():
    assert asyncio.get_running_loop().is_running()
"""


@pytest.fixture(scope="module", params=[(), ("-n", "1")], ids=["here", "in a worker"])
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of those tests."""
    folder = tmp_path_factory.mktemp("hanging")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (folder / "test_hanging.py").write_text(HANGING)
    (folder / "impatient.py").write_text("import tests.limits\ntests.limits.AGAIN_S = 1.0\n")
    path = os.pathsep.join(map(os.fspath, (PROJECT, folder)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.limits", "-p", "impatient"),
            *("-p", "no:cacheprovider", "-v", *request.param, folder),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def section(said: str, test: str) -> str:
    """What is said of one failed test."""
    (found,) = re.findall(rf"(?ms)^_+ (?:ERROR at teardown of )?{test} _+$(.*?)(?=^_{{5,}}|^=====)", said)
    return found


def test_a_hanging_task_is_shown_with_all_that_it_awaits(said: str) -> None:
    shown = section(said, "test_a_task_and_its_helper_wait")
    assert "not done within 1 s" in shown
    helper = shown[shown.index("name='the-helper'") :]
    assert re.search(r"line \d+, in wait_for_the_impossible", helper)


def test_a_hanging_thread_is_shown_with_the_tasks_of_its_loop(said: str) -> None:
    shown = section(said, "test_a_thread_waits")
    assert re.search(r"line \d+, in test_a_thread_waits\n +threading.Event\(\).wait\(\)", shown)
    assert "thread the-other:" in shown
    assert "name='elsewhere'" in shown


def test_a_hanging_cleanup_is_ended_too(said: str) -> None:
    assert re.search(r"line \d+, in stays\n +time.sleep\(60\)", section(said, "test_a_fixture_does_not_end"))
    assert "not done within" in said[said.index("ERROR at teardown of test_a_task_will_not_be_cancelled") :]


def test_what_comes_behind_runs(said: str) -> None:
    assert re.search(r"test_the_next_one PASSED|PASSED test_hanging.py::test_the_next_one", said)
    assert re.search(r"3 failed, 2 passed, 2 errors", said)
