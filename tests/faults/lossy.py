"""Two hosts with a network between them that loses packets, all within this machine.

Each host is a network namespace with one interface, a tunnel whose other end is a descriptor here. A thread
carries the packets from one to the other, except those that chance takes. So the losses are real: TCP on both
sides sends again, waits, and gives up, as it does on a bad line. Nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.images import PeerSetupError, require_root

ADDRESSES = ("10.99.0.1", "10.99.0.2")
NETWORK = "10.99.0.0/30"

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_LARGEST_PACKET = 65_536
_libc = ctypes.CDLL(None, use_errno=True)


class LossyNetwork:
    """Both hosts, by `with`. `loss` is the share of packets that is lost in each direction; it may change."""

    def __init__(self, loss: float) -> None:
        require_root("making network namespaces")
        if not Path("/dev/net/tun").exists():
            raise PeerSetupError("a network that loses packets needs /dev/net/tun")
        self.loss = loss
        self.carried = 0
        self.lost = 0
        self._chance = random.Random(30)
        self._holders: list[subprocess.Popen[bytes]] = []
        self._tunnels: list[int] = []
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="lossy", daemon=True)

    def __enter__(self) -> Self:
        for address in ADDRESSES:
            # It does nothing but keep a namespace alive; `cat` ends with its input, and so with us.
            holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
            self._holders.append(holder)
            _wait_for_namespace(holder.pid)
            with self.on(len(self._holders) - 1):
                self._tunnels.append(_open_tunnel())
                for command in (f"addr add {address}/30 dev tun0", "link set tun0 up", "link set lo up"):
                    subprocess.run(["ip", *command.split()], check=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._ended)
        self._thread.join()
        for descriptor in (*self._tunnels, self._end):
            os.close(descriptor)
        for holder in self._holders:
            holder.communicate()

    @contextlib.contextmanager
    def on(self, host: int) -> Iterator[None]:
        """Be on a host: sockets, threads and processes that this thread makes meanwhile stay there."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/proc/{self._holders[host].pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
            yield
        finally:
            _enter(before)
            os.close(before)
            os.close(there)

    def _carry(self) -> None:
        first, second = self._tunnels
        other = {first: second, second: first}
        while True:
            ready, _, _ = select.select([first, second, self._end], [], [])
            if self._end in ready:
                return
            for tunnel in ready:
                packet = os.read(tunnel, _LARGEST_PACKET)
                if self._chance.random() < self.loss:
                    self.lost += 1
                else:
                    self.carried += 1
                    os.write(other[tunnel], packet)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _open_tunnel() -> int:
    tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tunnel, _TUNSETIFF, struct.pack("16sH14x", b"tun0", _IFF_TUN | _IFF_NO_PI))
    return tunnel


def _wait_for_namespace(pid: int) -> None:
    ours = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{pid}/ns/net").readlink() == ours:
        pass
