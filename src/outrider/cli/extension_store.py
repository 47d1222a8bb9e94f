"""The extensions' store from the command line: opened directly, beside a running server or without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from outrider.cli.list_store import address_or_fail
from outrider.cli.output import fail
from outrider.extension_state.choices import open_store
from outrider.extension_state.store import ExtensionStore
from outrider.extensions.choices import user_key
from outrider.extensions.registry import Available, Registry
from outrider.lists.database import StoreUnavailable
from outrider.model.address import Address
from outrider.routing.local_users import Deliverable
from outrider.runtime.assembly import Assembly
from outrider.runtime.extension_finding import find_extensions
from outrider.runtime.starting import drop_privileges


@contextmanager
def opened(assembly: Assembly) -> Iterator[ExtensionStore]:
    """The store; the account becomes the server's, as files that root left in it would keep the server
    out."""
    if not assembly.data_dir.exists():
        fail(f"{assembly.data_dir} does not exist: nothing has been served with this configuration")
    drop_privileges(assembly)
    try:
        store = open_store(assembly.config, assembly.data_dir)
    except StoreUnavailable as error:
        fail(str(error))
    try:
        yield store
    except StoreUnavailable as error:
        fail(str(error))
    finally:
        store.close()


def registry_or_fail() -> Registry:
    """What is installed; exit 1 where a package's extension cannot be used."""
    try:
        return find_extensions()
    except ValueError as error:
        fail(str(error))


def extension_or_fail(name: str) -> Available:
    """One of them; exit 1 for a name that is none's."""
    found = next((one for one in registry_or_fail() if one.extension.name == name), None)
    if found is None:
        fail(f"there is no extension {name}; `outrider extension list` names them all")
    return found


def user_or_fail(assembly: Assembly, text: str) -> str:
    """A user as choices name him: by his mailbox, under whichever address he is given. Exit 1 for a
    stranger."""
    found = assembly.recipients.resolve(address_or_fail(text))
    mailbox = None
    if isinstance(found, Deliverable) and len(found.recipients) == 1 and found.recipients[0].is_local:
        mailbox = assembly.recipients.mailbox_of(found.recipients[0].address)
    if mailbox is None:
        fail(f"{text} is no single user's mailbox here")
    return user_key(Address(mailbox.user, mailbox.domain))
