"""Listening sockets: made here, or inherited from systemd."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us until they are accepted."""
UNIX_PREFIX: Final = "unix:"
UNIX_MODE: Final = 0o660
"""Owner and group may connect."""

_FIRST_INHERITED: Final = 3
"""SD_LISTEN_FDS_START."""
_MAX_INHERITED: Final = 256


class ListenError(Exception):
    """A socket cannot be opened. `where` is its address, `problem` the fault, `remedy` what helps."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"cannot listen on {where}: {problem}; {remedy}")
        self.where = where
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A listening socket that systemd opened for us (`sd_listen_fds(3)`)."""

    name: str
    """``FileDescriptorName=`` of the socket unit, else ""."""
    socket: socket.socket

    @property
    def where(self) -> str:
        """Its address, as `describe` writes it."""
        return describe(self.socket)


def open_socket(
    address: str, port: int = 0, *, reuse_port: bool = False, backlog: int = BACKLOG
) -> socket.socket:
    """A listening, non-blocking socket on an IPv4 or IPv6 address and port, or on ``unix:/path``.

    `reuse_port` lets several processes listen on the same port and share its connections (SO_REUSEPORT);
    port 0 takes any that is free. An IPv6 socket takes IPv6 only, so that addresses in logs, limits and
    policy are what they seem. A unix socket left behind by a dead process is replaced.

    Raises :class:`ListenError`.
    """
    if address.startswith(UNIX_PREFIX):
        return _open_unix(Path(address.removeprefix(UNIX_PREFIX)), backlog)
    try:
        ip = ip_address(address)
    except ValueError:
        remedy = "write an IPv4 or IPv6 address, or unix:/path"
        raise ListenError(address, "this is no address", remedy) from None
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    where = f"[{address}]:{port}" if ip.version == 6 else f"{address}:{port}"
    return _listen(family, (address, port), where, reuse_port, backlog)


def _listen(
    family: socket.AddressFamily, address: tuple[str, int], where: str, reuse_port: bool, backlog: int
) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    except OSError as error:
        raise _listen_error(where, error, address[1]) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _listen_error(where, error, address[1]) from None
    return listener


def _listen_error(where: str, error: OSError, port: int) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        remedy = f"stop it (ss -ltnp 'sport = :{port}' shows it) or choose another port"
        return ListenError(where, "another process listens there", remedy)
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "start with CAP_NET_BIND_SERVICE, use systemd's socket activation, or a port above 1023"
        return ListenError(where, "the server may not open this port", remedy)
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(where, "this machine has no such address", "see ip address, or bring it up first")
    return ListenError(where, os.strerror(error.errno or 0), "see the system's log")


def _open_unix(path: Path, backlog: int) -> socket.socket:
    where = f"{UNIX_PREFIX}{path}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path, where)
        listener.bind(str(path))
        path.chmod(UNIX_MODE)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        problem = os.strerror(error.errno) if error.errno else str(error)
        remedy = "check that the folder exists and the server may write to it; a path has at most 107 octets"
        raise ListenError(where, problem, remedy) from None
    except ListenError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path, where: str) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(where, "a file of another kind is there", "choose another path or remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise ListenError(where, "another process listens there", "stop it or choose another path")


def describe(listener: socket.socket) -> str:
    """A socket's own address, as in logs: ``192.0.2.1:25``, ``[2001:db8::1]:25``, ``unix:/run/x``."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"{UNIX_PREFIX}{name}"
    return f"[{name[0]}]:{name[1]}" if listener.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def inherited_sockets(environ: Mapping[str, str], pid: int) -> tuple[InheritedSocket, ...]:
    """The listening sockets that systemd passed to the process `pid` (socket activation).

    `environ` is the environment: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. Call it once and early, before
    anything else takes the descriptors; the caller should then remove the three, so that child processes do
    not believe them. Raises :class:`ListenError` for a descriptor that is no listening stream socket.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return ()
    text = environ.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 3) or int(text) > _MAX_INHERITED:
        raise ListenError("inherited sockets", "LISTEN_FDS is no sensible number", "start under systemd")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(text)
    return tuple(
        _inherit(descriptor, names[position] if len(names) == count else "")
        for position, descriptor in enumerate(range(_FIRST_INHERITED, _FIRST_INHERITED + count))
    )


def _inherit(descriptor: int, name: str) -> InheritedSocket:
    where = f"inherited descriptor {descriptor}"
    remedy = "set ListenStream= and Accept=no in the socket unit"
    try:
        inherited = socket.socket(fileno=descriptor)
    except OSError:
        raise ListenError(where, "it is no socket", remedy) from None
    listening = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if inherited.type != socket.SOCK_STREAM or not listening:
        inherited.detach()  # not ours to close
        raise ListenError(where, "it is no listening stream socket", remedy)
    inherited.set_inheritable(False)
    inherited.setblocking(False)
    return InheritedSocket(name, inherited)
