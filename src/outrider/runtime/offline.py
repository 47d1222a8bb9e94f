"""Queue commands while no server runs: the spool, with all its shards, is opened here for one command."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from typing import Any

from outrider.config.loader import Loaded
from outrider.config.schema import Config
from outrider.delivery.clock import SystemClock
from outrider.delivery.connections import Connections
from outrider.delivery.item_runner import ItemRunner
from outrider.delivery.operations import QueueOperations
from outrider.dns.resolver import DnsResolver
from outrider.maillog.emitter import Emitter
from outrider.reception.ids import id_maker
from outrider.runtime.assembly import assemble
from outrider.runtime.commands import Commands
from outrider.runtime.control import CommandRefused, Row
from outrider.runtime.extension_parts import extension_commands, make_office, make_post
from outrider.runtime.joining import NoAmdp, ProtocolDialler, Voices, make_core, make_rules, utc_offset
from outrider.runtime.listing import make_mailing
from outrider.runtime.lookup import DnsLookup
from outrider.runtime.starting import drop_privileges
from outrider.spool.factory import open_spool, shards_on_disk
from outrider.spool.interface import Spool, SpoolError
from outrider.spool.sharded import ShardedSpool


def run_offline(loaded: Loaded, command: str, arguments: dict[str, Any]) -> Iterator[Row]:
    """The rows of one command. Raises CommandRefused, also when the spool cannot be opened."""
    if command.startswith("server."):
        raise CommandRefused("no server runs with this configuration")
    os.chdir(loaded.path.absolute().parent)
    yield from asyncio.run(_run(loaded, command, arguments))


async def _run(loaded: Loaded, command: str, arguments: dict[str, Any]) -> list[Row]:
    assembly = assemble(loaded)
    if not assembly.data_dir.exists():
        raise CommandRefused(
            f"{assembly.data_dir} does not exist: nothing has been served with this configuration"
        )
    # The spool belongs to the server's account; files that root left in it would keep the server out.
    drop_privileges(assembly)
    emitter = Emitter(form="text", level="error")
    voices = Voices(emitter)
    try:
        spool = await _open_all(assembly.config, voices)
    except SpoolError as error:
        emitter.close()
        raise CommandRefused(str(error)) from error
    try:
        core = make_core(assembly, voices, spool, lambda: False)
        rules = make_rules(assembly, core, DnsLookup(DnsResolver(assembly.resolver)), NoAmdp())
        dialler = ProtocolDialler(assembly, voices)
        connections = Connections(dialler, voices.delivery)
        runner = ItemRunner(spool, rules, connections, core.clock, random.random, voices.delivery)
        mailing = make_mailing(assembly, id_maker(random.getrandbits), utc_offset)
        office = make_office(assembly, core.extensions.of(assembly), make_post(mailing, spool, None))
        further = extension_commands(lambda: office)
        commands = Commands(QueueOperations(spool, runner, SystemClock()), further=further)
        try:
            return [row async for row in commands.run(command, arguments)]
        finally:
            core.extensions.close()
    finally:
        await spool.close()
        emitter.close()


async def _open_all(config: Config, voices: Voices) -> Spool:
    """The spools of all workers as one. Raises SpoolError, and holds none then, if one cannot be opened."""
    first, *others = shards_on_disk(config) or (1,)
    spool = ShardedSpool(open_spool(config, config.hostname, observer=voices.spool, shard=first))
    now = time.time()
    try:
        await spool.start(now)
        for shard in others:
            await spool.adopt(open_spool(config, config.hostname, observer=voices.spool, shard=shard), now)
    except SpoolError:
        await spool.close()
        raise
    return spool
