"""What commands about extensions find by the names they are given."""

from __future__ import annotations

from outrider.cli.output import fail
from outrider.cli.tables import address_or_fail
from outrider.extensions.choices import user_key
from outrider.extensions.registry import Available, Registry
from outrider.model.address import Address
from outrider.routing.local_users import Deliverable
from outrider.runtime.assembly import Assembly
from outrider.runtime.extension_finding import find_extensions


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
