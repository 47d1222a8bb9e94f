"""A store beside the spool from the command line: opened directly, beside a running server or without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from outrider.cli.output import fail
from outrider.config.problems import ConfigError
from outrider.config.schema import Config
from outrider.model.address import Address, AddressError, parse_address
from outrider.runtime.assembly import Assembly
from outrider.runtime.starting import drop_privileges, prepare
from outrider.tables.database import StoreUnavailable
from outrider.tables.serial_thread import Closeable

S = TypeVar("S", bound=Closeable)


def prepared(config_path: Path) -> Assembly:
    """The parts of a configuration without faults; its faults on standard error and exit 1."""
    try:
        return prepare(config_path)[1]
    except ConfigError as error:
        fail(str(error))


@contextmanager
def opened(assembly: Assembly, opener: Callable[[Config, Path], S]) -> Iterator[S]:
    """The store; the account becomes the server's, as files that root left in it would keep the server
    out."""
    if not assembly.data_dir.exists():
        fail(f"{assembly.data_dir} does not exist: nothing has been served with this configuration")
    drop_privileges(assembly)
    try:
        store = opener(assembly.config, assembly.data_dir)
    except StoreUnavailable as error:
        fail(str(error))
    try:
        yield store
    except StoreUnavailable as error:
        fail(str(error))
    finally:
        store.close()


def address_or_fail(text: str) -> Address:
    """An address of the command line; exit 2 for what is none."""
    try:
        address = parse_address(text)
    except AddressError as error:
        fail(f"{text!r} is no address: {error}", 2)
    if not address.domain:
        fail(f"{text!r} has no domain", 2)
    return address
