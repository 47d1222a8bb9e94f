"""What an extension does where it says nothing else: derive from these, and write only what is your own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar

from outrider.extensions.choices import user_key
from outrider.extensions.interface import (
    PASSED,
    Carried,
    Context,
    EnvelopeFacts,
    ExtensionMessage,
    ExtensionVerdict,
    HopFacts,
    OutgoingMail,
    Part,
    RecipientRequest,
    Rights,
)
from outrider.model.address import Address
from outrider.protocols.mt2.codes import UNKNOWN_VERB


class ExtensionBase:
    """Common to all kinds."""

    name: ClassVar[str]
    oid: ClassVar[str]
    summary: ClassVar[str]
    rights: ClassVar[Rights] = Rights.EVERYBODY
    enabled_by_default: ClassVar[bool] = False

    context: Context

    def set_up(self, context: Context) -> None:
        """Keep the context; options are refused unless `read_options` takes them."""
        self.context = context
        left = dict(context.options)
        self.read_options(left)
        if left:
            raise ValueError(f"{min(left)}: there is no such option")

    def read_options(self, options: dict[str, object]) -> None:
        """Take (pop) what is known. Raises ValueError that begins with the option's name."""

    async def outgoing(self, mail: OutgoingMail) -> Carried | None:
        """See `interface.DeliveryExtension` and `interface.RecipientExtension`."""
        del mail
        return None


class DeliveryBase(ExtensionBase):
    """A delivery extension that lets everything pass."""

    screens: ClassVar[bool] = False

    async def check(self, envelope: EnvelopeFacts, data: str) -> ExtensionVerdict:
        """See `interface.DeliveryExtension`."""
        del envelope, data
        return PASSED

    async def screen(self, envelope: EnvelopeFacts) -> ExtensionVerdict:
        """See `interface.DeliveryExtension`."""
        del envelope
        return PASSED

    async def delivered(
        self, envelope: EnvelopeFacts, data: str, recipient: Address
    ) -> tuple[ExtensionMessage, ...]:
        """See `interface.DeliveryExtension`."""
        del envelope, data, recipient
        return ()

    async def ended(self, envelope: EnvelopeFacts, data: str) -> None:
        """See `interface.DeliveryExtension`."""
        del envelope, data

    async def consented(self, request: RecipientRequest) -> tuple[ExtensionMessage, ...]:
        """See `interface.DeliveryExtension`; not called as long as nobody is asked."""
        raise AssertionError(f"{self.name} has asked {request.user} nothing")


class RecipientBase(ExtensionBase):
    """A recipient extension for which the user is always asked."""

    rights: ClassVar[Rights] = Rights.PROVEN

    async def needs_consent(self, request: RecipientRequest) -> bool:
        """See `interface.RecipientExtension`."""
        del request
        return True


class TransferBase(ExtensionBase):
    """A transfer extension without options and verbs."""

    options: ClassVar[tuple[str, ...]] = ()
    verbs: ClassVar[tuple[str, ...]] = ()
    asks_peers: tuple[str, ...] = ()

    def option(self, name: str, values: tuple[str, ...]) -> Part:
        """See `interface.TransferExtension`; not called as long as there are no options."""
        del values
        raise AssertionError(f"{self.name} has no option {name}")

    async def verb(self, verb: str, parameters: tuple[str, ...], peer: str) -> Part:
        """See `interface.TransferExtension`."""
        del verb, parameters, peer
        return Part(self.name, "No verb of this extension.", "ERR", UNKNOWN_VERB)

    def final_part(self, hop: HopFacts, chosen: Mapping[str, tuple[str, ...]]) -> Part | None:
        """See `interface.TransferExtension`."""
        del hop, chosen
        return None

    async def passed(self, envelope: EnvelopeFacts, data: str, hop: HopFacts) -> tuple[ExtensionMessage, ...]:
        """See `interface.TransferExtension`."""
        del envelope, data, hop
        return ()


SETTING_KEPT_S = 100 * 366 * 86_400.0


def setting_key(user: Address, setting: str) -> str:
    """Where an extension finds in its memory what a user has set for it: `outrider extension set` writes it.
    The address is digested, as it may be longer than a key."""
    return f"set/{setting}/{hashlib.sha256(user_key(user).encode()).hexdigest()}"


def whole_number(options: dict[str, object], name: str, default: int, low: int, high: int) -> int:
    """Take a number from the options. Raises ValueError for one out of bounds, or none."""
    value = options.pop(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}: a whole number from {low} to {high}")
    return value


def word_of(options: dict[str, object], name: str, default: str, words: tuple[str, ...]) -> str:
    """Take one of some words from the options. Raises ValueError."""
    value = options.pop(name, default)
    if value not in words:
        raise ValueError(f"{name}: one of {', '.join(words)}")
    return str(value)


def texts(options: dict[str, object], name: str) -> tuple[str, ...]:
    """Take a list of texts from the options. Raises ValueError."""
    value = options.pop(name, ())
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name}: a list of texts")
    return tuple(str(one) for one in value)
