"""A serving process: its parts joined, started in order, reloaded as a whole, stopped without losing mail.

It is the whole server, or one of several workers; `membership.py` knows the difference.

Start: log, spool (and what a crash left in it), delivery, control socket, and last the listeners - mail is
only taken once it can be kept and carried. Stop goes the other way. A reload builds every part anew from the
file; if anything in it is wrong nothing changes, and sessions under way keep what they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from outrider.config.loader import Loaded, load
from outrider.config.problems import ConfigError
from outrider.delivery.background import ended
from outrider.delivery.connections import Connections
from outrider.delivery.item_runner import ItemRunner, Rules
from outrider.delivery.neighbours import SharedQueue
from outrider.delivery.operations import QueueOperations
from outrider.delivery.queue_manager import QueueManager
from outrider.delivery.queue_parts import QueueParts
from outrider.delivery.sharing import LaneSharing
from outrider.dns.resolver import DnsResolver
from outrider.extension_state.office import ExtensionOffice
from outrider.maillog.emitter import Emitter, Level
from outrider.reception.ids import id_maker
from outrider.reception.lookups import FactSource
from outrider.runtime.amdp_entry import AmdpEntry, AmdpParts, AmdpSurroundings
from outrider.runtime.assembly import Assembly, assemble
from outrider.runtime.certificate_watch import CertificateWatch
from outrider.runtime.commands import Commands
from outrider.runtime.control import CommandRefused, Row
from outrider.runtime.extension_parts import extension_commands, make_office, make_post
from outrider.runtime.joining import (
    Core,
    ProtocolDialler,
    Voices,
    make_core,
    make_reception,
    make_reporting,
    make_rules,
    make_sources,
    reception_parts,
    utc_offset,
)
from outrider.runtime.listening import Behind, Health, Listening, Sockets
from outrider.runtime.listing import make_mailing
from outrider.runtime.lookup import DnsLookup
from outrider.runtime.membership import Alone, Hooks, Membership
from outrider.runtime.memory import MemoryGauge
from outrider.runtime.mt2_identities import Mt2Identities, make_mt2_identities
from outrider.runtime.mt2_parts import Mt2World
from outrider.runtime.mt2_siblings import asking, transfer_commands
from outrider.runtime.private_files import write_private
from outrider.runtime.sharing import WorkerLanes
from outrider.spool.factory import open_spool
from outrider.spool.interface import Counts, Recovery, Spool, SpoolError
from outrider.spool.sharded import ShardedSpool

SESSION_GRACE_S = 30.0
"""For sessions and deliveries under way to end after SIGTERM; service managers usually wait 90 s."""
PURGE_INTERVAL_S = 600.0
GC_THRESHOLD = 100_000
"""Container objects made and not yet freed before the youngest generation is looked at."""
COUNT_INTERVAL_S = 2.0
"""How old the queue counts of a scrape may be."""


class Server:
    """One process that serves."""

    def __init__(
        self,
        loaded: Loaded,
        assembly: Assembly,
        sockets: Sockets,
        membership: Membership | None = None,
        latest: tuple[Loaded, Assembly] | None = None,
    ) -> None:
        """`sockets` are open already: opening them may need root. `latest` is what a reload had brought when
        this process was started in the place of a dead one: it begins as that did, then takes it over."""
        self._loaded = loaded
        self._assembly = assembly
        self._sockets = sockets
        self._membership = membership or Alone()
        self._latest = latest
        self.is_ready = False
        """The start has come to its end."""
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._wake: Callable[[], None] = lambda: None
        self._paused_kept: tuple[str, ...] = ()
        self._keeps_pauses = True
        """Pauses are this server's own, and have to outlive it."""
        self._background: set[asyncio.Task[None]] = set()
        self._started_at = time.time()
        self._counts = Counts(0, 0, 0)
        self._to_adopt: list[int] = []
        self._adopted: list[int] = []

    async def run(self) -> None:
        """Serve until asked to stop. Raises SpoolError, OSError when the start fails; all is closed then."""
        config = self._assembly.config
        member = self._membership
        emitter = Emitter(
            form=config.log.format, file=config.log.file, level=config.log.level, marks=member.marks
        )
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._start(emitter, stack)
                await self._stopping.wait()
                member.stopping(emitter)
            member.stopped(emitter)
        finally:
            emitter.close()

    # -- start -------------------------------------------------------------------------------------

    async def _start(self, emitter: Emitter, stack: contextlib.AsyncExitStack) -> None:
        """Everything in its order; the stack takes it down again from the last to the first."""
        voices = Voices(emitter)
        assembly, member = self._assembly, self._membership
        member.attach(
            Hooks(self._stopping.set, self._ask_for_reload, self._ask_to_refresh, self._ask_to_adopt)
        )
        for warning in assembly.warnings if member.number == 1 else ():
            emitter.emit(Level.WARNING, "configuration_warning", text=warning)
        await self._open_spool(voices, stack)
        self._resolver = DnsResolver(assembly.resolver)
        stack.push_async_callback(self._close_resolver)
        await self._start_delivery(stack)
        self._sources = make_sources(assembly, self._core, self._lookup)
        stack.push_async_callback(self._close_sources)
        siblings = asking(lambda: self._everybody) if member.workers > 1 else None
        self._mt2_world = Mt2World(assembly, self._core, siblings)
        stack.callback(self._mt2_world.close)
        stack.push_async_callback(self._mt2_world.give_up_partials)
        self._make_receptions()
        self._start_control(stack)
        self._amdp_parts.start()
        stack.push_async_callback(self._stop_amdp)
        self._in_background(self._keep_house())
        stack.push_async_callback(self._end_background)
        health = Health(self._metrics_of_all, self._why_not_all_ready)
        self._listening = Listening(self._core, self._sockets, member.workers, health)
        stack.push_async_callback(self._listening.stop, SESSION_GRACE_S)
        self._listening.start(self._behind())
        if self._latest is not None:
            self._change_over(*self._latest)
        _calm_collector()
        self.is_ready = True
        member.ready(emitter, self._listening.names)
        for shard in self._to_adopt:
            self._ask_to_adopt(shard)

    async def _open_spool(self, voices: Voices, stack: contextlib.AsyncExitStack) -> None:
        config, member = self._assembly.config, self._membership
        own = self._own_spool = self._new_spool(voices, member.number)
        recovery = await own.start(time.time())
        spool = ShardedSpool(own)
        stack.push_async_callback(spool.close)
        memory = MemoryGauge(config.limits.memory)
        self._core: Core = make_core(self._assembly, voices, spool, memory.is_short, member.connections)
        _log_recovery(voices.emitter, recovery)
        self._sharded = spool
        for shard in member.adopts:
            await self._adopt(shard)
        self._counts = await spool.counts()
        if member.number == 1 or not self._has_shared_queue:  # lest the one queue be summed over workers
            voices.metrics.watch_queue(self._count)
        voices.metrics.worker_restarts.inc(member.restarts)

    @property
    def _has_shared_queue(self) -> bool:
        return self._assembly.config.spool.backend == "postgresql"

    def _new_spool(self, voices: Voices, shard: int) -> Spool:
        config = self._assembly.config
        spool = open_spool(
            config,
            self._spool_name(shard),
            observer=voices.spool,
            shard=shard,
            processes=self._membership.workers,
        )
        on_wake = getattr(spool, "on_wake", None)  # a spool that other nodes share tells of their mail
        if on_wake is not None:
            on_wake(lambda: self._wake())
        return spool

    def _spool_name(self, shard: int) -> str:
        return f"{self._assembly.config.hostname}/{shard}"

    # -- spools of workers that there no longer are ------------------------------------------------

    def _ask_to_adopt(self, shard: int) -> None:
        if self.is_ready:
            self._in_background(self._adopt(shard))
        else:
            self._to_adopt.append(shard)

    async def _adopt(self, shard: int) -> None:
        """Deliver what lies in a further spool. One that cannot be opened is left as it is, and told of."""
        voices = self._core.voices
        if shard in self._adopted:
            return
        self._adopted.append(shard)
        try:
            recovery = await self._sharded.adopt(self._new_spool(voices, shard), time.time())
        except SpoolError as error:
            self._adopted.remove(shard)
            voices.emitter.emit(Level.ERROR, "adoption_failed", shard=shard, text=str(error))
            return
        _log_recovery(voices.emitter, recovery, shard)
        self._membership.adopted(voices.emitter, shard)
        self._wake()

    async def _start_delivery(self, stack: contextlib.AsyncExitStack) -> None:
        core, assembly, lanes = self._core, self._assembly, self._membership.lanes
        # Nodes on one database share slots and pauses there; workers of one machine share slots in memory.
        shared = self._own_spool if isinstance(self._own_spool, SharedQueue) else None
        sharing: LaneSharing | None = WorkerLanes(lanes, random.random) if lanes is not None else None
        if shared is not None:
            sharing = shared.sharing
            self._keeps_pauses = False
        self._lookup = DnsLookup(self._resolver)
        self._identities = self._make_identities()
        stack.push_async_callback(self._close_identities)
        owner = self._spool_name(self._membership.number)
        self._amdp = AmdpEntry(core, owner, self._membership.guesses)
        self._amdp_parts = self._make_amdp()
        self._rules = make_rules(assembly, core, self._lookup, self._amdp_parts)
        self._dialler = ProtocolDialler(assembly, core.voices)
        parts = QueueParts(
            core.spool,
            self._dialler,
            core.clock,
            random.random,
            core.voices.delivery,
            lease_s=assembly.config.spool.lease,
            paused=frozenset(self._paused_before()),
            sharing=sharing,
            shared=shared,
        )
        self._manager = QueueManager(parts, self._rules)
        self._wake = self._manager.wake
        self._amdp.fresh.target = self._manager
        self._operations = QueueOperations(core.spool, self._runner(self._rules), core.clock, self._manager)
        running = asyncio.create_task(self._manager.run())
        stack.push_async_callback(self._stop_delivery, running)

    def _runner(self, rules: Rules) -> ItemRunner:
        """For settling what an operator fails; it connects to nobody."""
        core = self._core
        connections = Connections(self._dialler, core.voices.delivery)
        return ItemRunner(core.spool, rules, connections, core.clock, random.random, core.voices.delivery)

    def _make_amdp(self) -> AmdpParts:
        assembly = self._assembly
        around = AmdpSurroundings(
            self._resolver, self._lookup, make_reporting(assembly), lambda: self._reception
        )
        return self._amdp.parts(assembly, around)

    def _start_control(self, stack: contextlib.AsyncExitStack) -> None:
        member = self._membership
        commands = Commands(
            self._operations,
            reload=self.reload,
            stop=member.stop_everybody,
            status=self._status,
            metrics=self._core.voices.metrics.page,
            further={**extension_commands(self._office), **transfer_commands(self._held_here)},
        )
        data_dir = self._assembly.data_dir
        self._everybody = member.answering(commands.run, data_dir, one_queue=self._has_shared_queue)
        for control in member.open_controls(data_dir, commands.run, self._everybody):
            control.start()
            stack.push_async_callback(control.stop)

    async def _held_here(self, key: tuple[str, str], give_up: bool) -> Mapping[str, int] | None:
        return await self._mt2_reception.held_here(key, give_up=give_up)

    def _office(self) -> ExtensionOffice:
        core, assembly = self._core, self._assembly
        mailing = make_mailing(assembly, id_maker(random.getrandbits), utc_offset)
        parts = core.extensions.of(assembly)
        return make_office(assembly, parts, make_post(mailing, core.spool, self._manager))

    def _make_receptions(self) -> None:
        """What takes mail in, and what carries it by MT2, which takes mail in too (MT2-18e)."""
        assembly, world = self._assembly, self._mt2_world
        parts = reception_parts(assembly, self._core, self._sources, self._manager, self._amdp_parts)
        self._reception = make_reception(assembly, parts)
        peers = self._identities.peers
        self._mt2_reception = world.reception(assembly, self._reception, parts, peers)
        self._dialler.speak_mt2(
            world.client_parts(assembly, self._dialler.common, self._mt2_reception, peers)
        )

    def _behind(self) -> Behind:
        """What sessions meet, of the present settings."""
        assembly, world = self._assembly, self._mt2_world
        peers, reception = self._identities.peers, self._mt2_reception
        return Behind(
            assembly,
            self._reception,
            lambda plan: world.service(plan, assembly, reception, peers),
            self._amdp_parts.services,
        )

    # -- reload ------------------------------------------------------------------------------------

    def _ask_for_reload(self) -> None:
        if self.is_ready:
            self._in_background(self._reload_everybody())

    async def _reload_everybody(self) -> None:
        with contextlib.suppress(CommandRefused):  # it is in the log
            async for _ in self._everybody("server.reload", {}):
                pass

    def _ask_to_refresh(self) -> None:
        self._in_background(self._refresh())

    async def _refresh(self) -> None:
        with contextlib.suppress(ConfigError):  # it is in the log
            await self.reload()

    async def reload(self) -> str:
        """Read the file anew and change over. Raises ConfigError, and changes nothing, if it has faults."""
        emitter = self._core.voices.emitter
        async with self._reloading:
            try:
                loaded = load(self._loaded.path)
                assembly = assemble(loaded)
            except ConfigError as error:
                for problem in error.problems:
                    emitter.emit(Level.ERROR, "reload_refused", text=str(problem))
                raise
            needs_restart = _needs_restart(self._assembly, assembly)
            self._change_over(loaded, assembly)
        emitter.reopen()
        emitter.emit(Level.INFO, "reloaded", needs_restart=needs_restart)
        self._membership.reloaded()
        return (
            f"reloaded; a restart is needed for: {', '.join(needs_restart)}" if needs_restart else "reloaded"
        )

    def _change_over(self, loaded: Loaded, assembly: Assembly) -> None:
        """Nothing here waits or fails: all parts change in one step of the loop."""
        core = self._core
        old = self._resolver, self._rules, self._sources, self._identities, self._amdp_parts
        self._loaded, self._assembly = loaded, assembly
        settings = assembly.config.limits
        core.limits.total, core.limits.per_address = settings.connections, settings.connections_per_address
        core.limits.exempt = assembly.relay_networks
        core.gauge.stress_at = settings.stress_at
        self._resolver = DnsResolver(assembly.resolver)
        self._lookup = DnsLookup(self._resolver)
        self._identities = self._make_identities()
        self._amdp_parts = self._make_amdp()
        self._rules = make_rules(assembly, core, self._lookup, self._amdp_parts)
        self._dialler.reconfigure(assembly)
        self._manager.reconfigure(self._rules)
        self._operations.reconfigure(self._runner(self._rules))
        self._sources = make_sources(assembly, core, self._lookup)
        self._make_receptions()
        self._listening.change_over(self._behind())
        self._amdp_parts.start()
        self._in_background(self._retire(*old))

    async def _retire(
        self,
        resolver: DnsResolver,
        rules: Rules,
        sources: FactSource | None,
        identities: Mt2Identities,
        amdp: AmdpParts,
    ) -> None:
        """What sessions and deliveries under way may still use, closed once they are surely done."""
        await amdp.stop()
        await asyncio.sleep(SESSION_GRACE_S)
        await amdp.aclose()
        if sources is not None:
            await sources.close()
        await identities.aclose()
        await resolver.aclose()
        await _close_transports(rules)

    # -- housekeeping ------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        warns = self._membership.number == 1
        certificates = CertificateWatch(self._core.voices, lambda: self._assembly, warns=warns)
        next_purge = 0.0
        next_look = 0.0
        while True:
            now = time.time()
            self._keep_paused()
            with contextlib.suppress(SpoolError):
                self._counts = await self._core.spool.counts()
                if now >= next_purge:
                    next_purge = now + PURGE_INTERVAL_S
                    await self._mt2_world.tidy()
                    await self._core.spool.purge(now, now - self._assembly.config.spool.keep_finished)
            if now >= next_look:
                next_look = now + self._assembly.config.tls.reload_interval
                certificates.look(now)
            await asyncio.sleep(COUNT_INTERVAL_S)

    def _count(self, what: str) -> float:
        counts = self._counts
        if what == "oldest_s":
            return max(time.time() - counts.oldest_received_at, 0.0) if counts.oldest_received_at else 0.0
        return float({"ready": counts.ready, "active": counts.active, "held": counts.held}[what])

    async def _metrics_of_all(self) -> bytes:
        async for row in self._everybody("server.metrics", {}):
            return str(row["page"]).encode()
        return b""

    async def _why_not_all_ready(self) -> str:
        async for row in self._everybody("server.status", {}):
            return "" if row["ready"] == "yes" else str(row["ready"])
        return "no answer"

    def _why_not_ready(self) -> str:
        if self._stopping.is_set():
            return "stopping"
        try:
            self._core.spool.check_room()
        except SpoolError as error:
            return str(error)
        return ""

    def _status(self) -> Row:
        return {
            "worker": self._membership.number,
            "pid": os.getpid(),
            "restarts": self._membership.restarts,
            "adopted": sorted(self._adopted),
            "hostname": self._assembly.config.hostname,
            "up_s": round(time.time() - self._started_at),
            "connections": self._core.limits.open,
            "listeners": self._listening.rows(),
            "ready": self._why_not_ready() or "yes",
        }

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- stop --------------------------------------------------------------------------------------

    async def _stop_delivery(self, running: asyncio.Task[None]) -> None:
        self._keep_paused()
        await self._manager.stop(SESSION_GRACE_S)
        await running
        await self._amdp_parts.aclose()
        await _close_transports(self._rules)
        await asyncio.to_thread(self._amdp.close)
        await asyncio.to_thread(self._core.lists.close)
        await asyncio.to_thread(self._core.extensions.close)

    async def _stop_amdp(self) -> None:
        await self._amdp_parts.stop()

    async def _close_sources(self) -> None:
        if self._sources is not None:
            await self._sources.close()

    def _make_identities(self) -> Mt2Identities:
        voice = self._core.voices.delegation
        return make_mt2_identities(self._assembly, self._resolver, self._lookup, voice)

    async def _close_identities(self) -> None:
        await self._identities.aclose()

    async def _close_resolver(self) -> None:
        await self._resolver.aclose()

    async def _end_background(self) -> None:
        await ended(list(self._background))

    # -- what outlives the process -----------------------------------------------------------------

    @property
    def _paused_file(self) -> Path:
        return self._assembly.data_dir / "paused.json"

    def _paused_before(self) -> list[str]:
        """Destinations that were paused when the server stopped."""
        if not self._keeps_pauses:
            return []
        try:
            return [str(one) for one in json.loads(self._paused_file.read_text("utf-8"))]
        except (OSError, ValueError):
            return []

    def _keep_paused(self) -> None:
        if self._keeps_pauses and self._manager.paused != self._paused_kept:
            self._paused_kept = self._manager.paused
            write_private(self._paused_file, json.dumps(self._paused_kept).encode())


def _log_recovery(emitter: Emitter, found: Recovery, shard: int | None = None) -> None:
    """What a start found in a spool; `shard` for one that this process has adopted."""
    emitter.emit(
        Level.INFO,
        "recovered",
        shard=shard,
        released=found.released,
        orphans_removed=found.orphans_removed,
        quarantined=found.quarantined,
        held_as_poison=[key.message for key in found.held_as_poison],
    )


async def _close_transports(rules: Rules) -> None:
    """Let those that have threads of their own finish what they are writing."""
    for transport in rules.transports.values():
        close = getattr(transport, "close", None)
        if close is not None:
            await asyncio.to_thread(close)


def _calm_collector() -> None:
    """Have the cycle collector look less often, and never again at what the start has made.

    A message is some hundred short-lived objects without cycles: with the default of 700 the collector runs
    several times for each of them and finds nothing, at about a tenth of all CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def _needs_restart(old: Assembly, new: Assembly) -> list[str]:
    """Settings that a running process cannot take over."""
    fixed = ("hostname", "data_dir", "user", "workers", "event_loop", "spool", "log")
    changed = [name for name in fixed if getattr(old.config, name) != getattr(new.config, name)]
    if {plan.name for plan in old.listeners} != {plan.name for plan in new.listeners}:
        changed.append("listeners")
    return changed
