"""A mailing list as configured: read, checked, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outrider.config.schema import Config
from outrider.config.schema import MailingList as ListSettings
from outrider.model.address import Address, AddressError, Domain, parse_address, parse_domain
from outrider.model.mpc import MailClass, Mpc, MpcError, Role, parse_mpc
from outrider.routing.list_addresses import Purpose, list_local

SENT_AS = (MailClass.OPTIN, MailClass.OPTOUT, MailClass.CONFIRMED, MailClass.CUSTOMER)
"""The classes that a list may send as (AMTP-16)."""


@dataclass(frozen=True, slots=True)
class MailList:
    """One list."""

    address: Address
    """Where posts go."""
    owners: tuple[Address, ...]
    mpc: Mpc
    settings: ListSettings
    moderators: frozenset[tuple[str, str]] = frozenset()
    """Their addresses' keys."""
    moderator_addresses: tuple[Address, ...] = ()

    @property
    def name(self) -> str:
        """``name@domain``: what store, log and command line call it."""
        return f"{self.address.local}@{self.address.domain}"

    @property
    def list_id(self) -> str:
        """RFC 2919: ``name.domain``, never to change."""
        return f"{self.address.local}.{self.address.domain}"

    @property
    def answers_as(self) -> Mpc:
        """What the list's own letters are sent as: answers of a program."""
        return Mpc(self.mpc.role, MailClass.AUTORESPONSE)

    def at(self, purpose: Purpose, token: str = "") -> Address:
        """One of its addresses."""
        return Address(list_local(self.address.local, purpose, token), self.address.domain)


def load_lists(config: Config) -> Mapping[str, MailList]:
    """All lists by ``name@domain``. Raises ValueError that begins with the key of the first mistake."""
    found: dict[str, MailList] = {}
    for domain_name, domain in config.domains.items():
        for name, settings in domain.lists.items():
            one = _read(f'domains."{domain_name}".lists."{name}"', name, parse_domain(domain_name), settings)
            found[one.name] = one
    return found


def _read(key: str, name: str, domain: Domain, settings: ListSettings) -> MailList:
    moderators = tuple(_address(f"{key}.moderators", one, domain) for one in settings.moderators)
    if (settings.moderated or settings.posting == "moderators") and not moderators:
        raise ValueError(f"{key}.moderators: somebody must be there to approve")
    return MailList(
        Address(name, domain),
        tuple(_address(f"{key}.owners", one, domain) for one in settings.owners),
        _mpc(f"{key}.mpc", settings.mpc),
        settings,
        frozenset(one.key for one in moderators),
        moderators,
    )


def _mpc(key: str, text: str) -> Mpc:
    try:
        mpc = parse_mpc(text)
    except MpcError as error:
        raise ValueError(f"{key}: {text!r}: {error}") from error
    if mpc.mail_class not in SENT_AS or mpc.role is Role.MPC:
        classes = ", ".join(one.value for one in SENT_AS)
        raise ValueError(f"{key}: a list sends as one of the classes {classes} (AMTP-16), not {text!r}")
    return mpc


def _address(key: str, text: str, domain: Domain) -> Address:
    try:
        return parse_address(text if "@" in text else f"{text}@{domain}")
    except AddressError as error:
        raise ValueError(f"{key}: {text!r} is no address: {error}") from error
