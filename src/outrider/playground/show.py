"""`make run`: start the small Internet, play the scenes, print the verdicts, go on until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from outrider.playground.amdp_scenes import AMDP_SCENES
from outrider.playground.amtp_scenes import AMTP_SCENES
from outrider.playground.internet import Internet
from outrider.playground.mt2_scenes import MT2_SCENES
from outrider.playground.people import PASSWORD, settle_in
from outrider.playground.plans import PLANS
from outrider.playground.scenes import SMTP_SCENES, Scene
from outrider.playground.site import AMTP_PORT, SMTP_PORT, SUBMISSION_PORT
from outrider.playground.stage import Outcome, Stage

_THREADS = 16
"""Scenes that wait for a server or a program at the same time."""
SCENES = (*SMTP_SCENES, *AMTP_SCENES, *MT2_SCENES, *AMDP_SCENES)


async def play(*, once: bool) -> bool:
    """The whole show; whether everything came out as it should.

    With `once` it ends after the table, otherwise on SIGINT or SIGTERM. Raises OSError and RuntimeError when
    the Internet cannot be set up; nothing is left running in any case.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    internet = Internet(PLANS)
    try:
        return await _until(ended, _play(internet, once=once))
    finally:
        await internet.stop()


async def _until(ended: asyncio.Event, work: Coroutine[Any, Any, bool]) -> bool:
    """The work's result; False when the visitor ends the show before."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(ended.wait())
    await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if working.done():
        return working.result()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return False


async def _play(internet: Internet, *, once: bool) -> bool:
    began = time.monotonic()
    _say(f"setting up {len(PLANS)} sites, DNS and {len(internet.authorities)} CAs in {internet.folder}")
    await internet.start()
    settle_in(internet)
    await asyncio.gather(*(internet.start_site(plan.name) for plan in PLANS if plan.name != "delta"))
    _say(f"ready after {time.monotonic() - began:.1f} s; now the mail\n")
    outcomes = await _run_scenes(Stage(internet))
    good = all(outcome.good for outcome in outcomes)
    _say(f"\n{sum(outcome.good for outcome in outcomes)} of {len(outcomes)} as they should be")
    if once:
        return good
    _say(_invitation(internet))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return good


async def _run_scenes(stage: Stage) -> list[Outcome]:
    """All at once, as mail is; printed in their order as they are done."""
    tasks = [asyncio.ensure_future(_safely(scene, stage)) for scene in SCENES]
    outcomes = []
    for task in tasks:
        outcome = await task
        outcomes.append(outcome)
        _print(outcome)
    return outcomes


async def _safely(scene: Scene, stage: Stage) -> Outcome:
    try:
        return await scene(stage)
    except Exception as error:
        title = (scene.__doc__ or scene.__name__).split("\n")[0]
        return Outcome(title, good=False, verdict=f"{type(error).__name__}: {error}")


def _print(outcome: Outcome) -> None:
    mark = "ok  " if outcome.good else "FAIL"
    way = f"{outcome.sender} -> {outcome.recipient}" if outcome.sender else ""
    _say(f"{mark} {outcome.title:27} {way}")
    if outcome.hops:
        _say(f"       hops    {'  ->  '.join(outcome.hops)}")
    for number, line in enumerate(outcome.proven):
        _say(f"       {'' if number else 'known':7} {line}")
    _say(f"       verdict {outcome.verdict}" + (f" (id {outcome.id})" if outcome.id else ""))
    for line in outcome.table:
        _say(f"         {line}")


def _invitation(internet: Internet) -> str:
    """Commands to try, ready to be copied."""
    program = Path(sys.argv[0])
    outrider = (
        os.path.relpath(program) if program.name == "outrider" else f"{sys.executable} -m outrider.cli.main"
    )
    alpha, beta, bank, mallory, south = (
        internet.sites[name] for name in ("alpha", "beta", "bank", "mallory", "south")
    )
    return f"""
The sites go on running. Try, in another terminal:

  {outrider} queue list --config {alpha.config}
  {outrider} explain ID --config {alpha.config}
  {outrider} policy test --config {alpha.config} --fact header.subject="lottery win"
  swaks --server {alpha.plan.address}:{SUBMISSION_PORT} --tls --auth-user ann --auth-password "{PASSWORD}" \\
        --from ann@alpha.example --to carol@beta.example
  swaks --server {beta.plan.address}:{SMTP_PORT} --tls --from you@there.example --to carol@beta.example
  ls {beta.folder}/mail/beta.example/carol/new
  {outrider} partner test bank --config {beta.config}
  {outrider} cert check --own --config {mallory.config}
  openssl s_client -quiet -crlf -connect {beta.plan.address}:{AMTP_PORT} -bind {bank.plan.address} \\
        -cert {bank.folder}/host.pem -key {bank.folder}/host.key
        # then: EHLO {bank.plan.hostname}, and MAIL FROM:<teller@bank.example> MPC=com/customer
  {outrider} trace show --config {south.config} {south.folder}/mail/south.example/sven/new/FILE
  {outrider} extension list --config {south.config}
  {outrider} held list --all --config {alpha.config}
  {outrider} amdp policy fetch beta.example --config {alpha.config}
  {outrider} postage ledger alpha --receipts --config {beta.config}
  tail -f {alpha.folder}/log

Ctrl-C ends it and removes everything."""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
