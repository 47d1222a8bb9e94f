"""From open sockets to a server that serves: in this process, or in worker processes below it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from outrider.runtime.assembly import Assembly
from outrider.runtime.control import socket_path
from outrider.runtime.control_server import open_control
from outrider.runtime.joining import auth_secret
from outrider.runtime.membership import Alone
from outrider.runtime.server import Server
from outrider.runtime.starting import StartFailed
from outrider.runtime.supervisor import GroupFailed, Supervisor
from outrider.runtime.worker import Orders, start_failure
from outrider.spool.factory import shards_on_disk
from outrider.spool.interface import SpoolError


def serve(orders: Orders) -> None:
    """Run until asked to stop, in as many processes as the settings say. Raises StartFailed."""
    with _data_dir_held(orders.assembly) as alone_here:
        try:
            if orders.assembly.workers == 1:
                _serve_alone(orders)
            elif alone_here:
                _serve_with_workers(orders)
            else:
                remedy = "ask it (outrider status), or stop it first"
                raise StartFailed(f"{orders.assembly.data_dir} is in use by another server: {remedy}")
        except (SpoolError, OSError) as error:
            raise StartFailed(start_failure(orders.loaded, error)) from error


def _serve_alone(orders: Orders) -> None:
    surplus = tuple(shard for shard in shards_on_disk(orders.assembly.config) if shard > 1)
    orders.runner(Server(orders.loaded, orders.assembly, orders.sockets, Alone(surplus)).run)


def _serve_with_workers(orders: Orders) -> None:
    auth_secret(orders.assembly)  # made here, lest each worker make its own
    path = socket_path(orders.assembly.data_dir)
    try:
        Supervisor(orders, open_control(path), path).run()
    except GroupFailed as error:
        raise StartFailed(str(error)) from error


@contextmanager
def _data_dir_held(assembly: Assembly) -> Iterator[bool]:
    """Hold the data folder for this server and its workers, to the last of them; False if another has it.

    The locks of the spools tell too, and by which process. But a supervisor opens none, and must know before
    it takes over the control socket.
    """
    folder = os.open(assembly.data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except BlockingIOError:
        held = False
    try:
        yield held
    finally:
        os.close(folder)
