"""Which recipients share one core: those of one destination domain, and no blind copy shows another
(MT2-23a). Pure.

A core names its recipients, and a mailbox may keep it. So a recipient whom To and Cc do not name gets a core
of its own, as long as there are few of them; the many of a mailing list share one among themselves, and no
mailbox keeps that (`mt2_departure`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outrider.message.header_fields import field_values
from outrider.message.mailboxes import mailboxes
from outrider.model.address import Address
from outrider.model.envelope import Recipient

MAX_ALONE = 10
"""Blind recipients of one domain that get a core each."""
_VISIBLE = (b"To", b"Cc", b"Resent-To", b"Resent-Cc")
_MAX_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients who share a core."""

    positions: tuple[int, ...]
    certificates: tuple[bytes, ...] = ()
    """The headers are encrypted for these (DER); () = not at all."""


def named_in(headers: bytes) -> frozenset[tuple[str, str]]:
    """Keys of the addresses that everybody can see in the header section."""
    values = [value for name in _VISIBLE for value in field_values(headers, name)]
    return frozenset(one.key for value in values for one in mailboxes(value, _MAX_NAMED))


def grouped(
    recipients: Sequence[Recipient],
    positions: Sequence[int],
    headers: bytes,
    certificates: Mapping[str, bytes],
) -> tuple[Group, ...]:
    """The job's recipients (`positions` in `recipients`), parted."""
    if len(positions) == 1:
        position = positions[0]
        return (Group((position,), _certificates(recipients[position].address, certificates)),)
    visible = named_in(headers)
    shared: dict[tuple[str, bool, bool], list[int]] = {}
    for position in positions:
        address = recipients[position].address
        is_private = bool(_certificates(address, certificates))
        key = (address.domain, is_private, address.key in visible)
        shared.setdefault(key, []).append(position)
    groups: list[Group] = []
    for (_, is_private, is_visible), members in shared.items():
        alone = not is_visible and len(members) <= MAX_ALONE
        parts = [[one] for one in members] if alone else [members]
        groups += [_group(recipients, part, certificates if is_private else {}) for part in parts]
    return tuple(groups)


def _group(recipients: Sequence[Recipient], part: Sequence[int], known: Mapping[str, bytes]) -> Group:
    every = (_certificates(recipients[one].address, known) for one in part)
    return Group(tuple(part), tuple(dict.fromkeys(der for found in every for der in found)))


def _certificates(address: Address, known: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Of the address itself, else of its domain."""
    if not known:
        return ()
    local, domain = address.key
    found = known.get(f"{local}@{domain}") or known.get(domain)
    return (found,) if found else ()
