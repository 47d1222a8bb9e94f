"""`outrider serve`: from a path to a running server, or to one clear line and exit 1."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import warnings
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from pathlib import Path

from outrider.config.loader import Loaded, load
from outrider.config.problems import ConfigError, Problem
from outrider.net.listener_sockets import UNIX_PREFIX, ListenError, inherited_sockets, open_socket
from outrider.runtime.assembly import Assembly, assemble
from outrider.runtime.loading import many_modules


class StartFailed(Exception):
    """The server did not start; the text is for the operator, a line for each reason."""


def prepare(path: Path) -> tuple[Loaded, Assembly]:
    """Read and check the file; its folder becomes the working directory. Raises ConfigError."""
    loaded = load(path.absolute())
    os.chdir(loaded.path.parent)
    return loaded, assemble(loaded)


def serve(path: Path) -> None:
    """Run a server until it is asked to stop. Raises StartFailed, with nothing left running."""
    silence_libraries()
    try:
        loaded, assembly = prepare(path)
        sockets = open_sockets(loaded, assembly)
        make_data_dir(loaded, assembly)
    except ConfigError as error:
        raise StartFailed(str(error)) from error
    # Loaded before the account changes: the new one may not be able to read where the programs lie.
    with many_modules():
        from outrider.runtime import serving
        from outrider.runtime.worker import Orders

    runner = _runner_for(assembly)
    drop_privileges(assembly)
    serving.serve(Orders(loaded, assembly, sockets, runner))


def silence_libraries() -> None:
    """No warnings on standard error about what a peer's certificate has in it: it is judged, and the verdict
    is logged. Each other number in it would be another line, and be remembered for ever."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(outrider|cryptography)\.")


def _runner_for(assembly: Assembly) -> Callable[[Callable[[], Coroutine[None, None, None]]], None]:
    """What runs the server: uvloop or asyncio. Raises StartFailed when uvloop is demanded and missing."""
    wanted = assembly.config.event_loop
    if wanted != "asyncio":
        try:
            import uvloop
        except ImportError as error:
            if wanted == "uvloop":
                remedy = "install outrider[fast], or write event_loop = auto"
                raise StartFailed(f"event_loop: uvloop is not installed; {remedy}") from error
        else:
            return lambda main: uvloop.run(main())
    return lambda main: asyncio.run(main())


def open_sockets(loaded: Loaded, assembly: Assembly) -> dict[int, socket.socket]:
    """The listening sockets by the listener's number; those passed by a service manager are used where they
    fit. Raises ConfigError with every one that cannot be opened; none stays open then."""
    passed = _passed_sockets(loaded)
    opened: dict[int, socket.socket] = {}
    problems: list[Problem] = []
    for plan in assembly.listeners:
        where = _where(plan.settings.address, plan.port)
        try:
            opened[plan.number] = passed.get(where) or open_socket(plan.settings.address, plan.port)
        except ListenError as error:
            key = ("listeners", plan.number, "port" if "unix:" not in plan.settings.address else "address")
            problems.append(loaded.problem(key, f"{error.where}: {error.problem}", error.remedy))
    if problems:
        for one in opened.values():
            one.close()
        raise ConfigError(problems)
    return opened


def _passed_sockets(loaded: Loaded) -> dict[str, socket.socket]:
    """What a service manager opened for us, by address. Raises ConfigError for what does not listen."""
    try:
        passed = inherited_sockets(os.environ, os.getpid())
    except ListenError as error:
        fault = f"{error.where}: {error.problem}"
        raise ConfigError([loaded.problem(("listeners",), fault, error.remedy)]) from error
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # child processes must not believe them
    return {one.where: one.socket for one in passed}


def _where(address: str, port: int) -> str:
    """A listener's address as `InheritedSocket.where` writes it."""
    if address.startswith(UNIX_PREFIX):
        return address
    ip = ip_address(address)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def make_data_dir(loaded: Loaded, assembly: Assembly) -> None:
    """The data folder, 0700, owned by whom the server will run as. Raises ConfigError."""
    try:
        assembly.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if assembly.config.user and os.geteuid() == 0:
            account = pwd.getpwnam(assembly.config.user)
            os.chown(assembly.data_dir, account.pw_uid, account.pw_gid)
    except OSError as error:
        remedy = "give another folder, or change its owner"
        problem = loaded.problem(("data_dir",), f"{assembly.data_dir}: {error.strerror}", remedy)
        raise ConfigError([problem]) from error


def drop_privileges(assembly: Assembly) -> None:
    """Become the account of `user` for good (least privilege); nothing when not started as root."""
    if not assembly.config.user or os.geteuid() != 0:
        return
    account = pwd.getpwnam(assembly.config.user)
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
