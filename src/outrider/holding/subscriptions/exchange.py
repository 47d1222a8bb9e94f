"""What subscription services say to other servers (AMDP-19): senders synchronise their lists of addresses,
peers take over each other's changes.

A sender that this site has listed submits addresses, and learns which of them accept its mail - those whose
people have said so, by a rule that they confirmed. Of all others it learns nothing, not even that they exist;
and nothing at all when too few have subscribed, as then its list is a harvester's. Who submits such lists
again and again is turned away.

Peers are subscription servers that the operator of each has named. A peer is told what was confirmed here
about the domains that it serves, and never what came from others: each vouches for its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from outrider.holding.classification.directory import Classes
from outrider.holding.policies.host_documents import MOST_SKEW_S, HostCheck, HostKey, Signed, read_signed
from outrider.holding.policies.peers import Peer
from outrider.holding.subscriptions.forms import (
    CHANGES_KIND,
    CHANGES_PATH,
    MOST_CHANGES,
    SYNCHRONISE_KIND,
    Accepting,
    AskChanges,
    Changes,
    OneChange,
    Synchronise,
    Synchronised,
)
from outrider.holding.subscriptions.observer import SubscriptionObserver
from outrider.holding.subscriptions.office import SubscriptionOffice, TooMany, until_next
from outrider.holding.subscriptions.request_counts import DAY_S, HOUR_S
from outrider.holding.subscriptions.store import (
    Change,
    SubscriptionStore,
    SubscriptionStoreThread,
)
from outrider.holding.subscriptions.wishes import (
    ANYBODY,
    Rule,
    RuleError,
    Standing,
    decide,
    parse_subject,
    senders_of,
)
from outrider.holding.web import CallFailed, IPAddress, WebCaller
from outrider.lists.store import key_of
from outrider.model.address import Address, AddressError, Domain, parse_address
from outrider.protocols.amdp.identifiers import OCTETS, identifier
from outrider.protocols.amdp.json_forms import decode
from outrider.tables.database import StoreUnavailable

T = TypeVar("T")
P = TypeVar("P", bound=Signed)

REFUSALS_PER_DAY = 3
"""Submissions of one sender of which too few had subscribed."""
PULL_EVERY_S = 300.0
PAGES_AT_ONCE = 200
"""Of a peer's changes, taken over in one go."""


class Refused(Exception):
    """Not for him; the text may be shown."""


@dataclass(frozen=True, slots=True)
class ExchangeParts:
    """What the exchange works with; made anew by a reload."""

    office: SubscriptionOffice
    store: SubscriptionStoreThread
    check: HostCheck
    observer: SubscriptionObserver
    clock: Callable[[], float]
    chance: Callable[[int], bytes]
    base: Callable[[Domain], str]
    """As `OfficeParts.base`."""
    synch_clients: frozenset[Domain] = frozenset()
    peers: tuple[Peer, ...] = ()
    domains: tuple[Domain, ...] = ()
    """Those that are ours."""
    min_ratio: int = 10
    """Percent."""
    requests_per_hour: int = 60
    key: HostKey | None = None
    """What we sign with when we ask peers; None: we ask none."""
    caller: WebCaller | None = None
    classes: Classes | None = None


class SubscriptionExchange:
    """See the module."""

    def __init__(self, parts: ExchangeParts) -> None:
        self._parts = parts

    # --- senders --------------------------------------------------------------------------------------------

    async def synchronise(self, document: bytes, host: str, client: IPAddress) -> Synchronised:
        """Which of the addresses accept the sender's mail of that class.

        Raises DocumentError, Refused, RuleError, TooMany, StoreUnavailable.
        """
        asked = await self._read(document, SYNCHRONISE_KIND, Synchronise, host, client)
        sender = _sender(asked.sender)
        domain = sender.domain
        if domain not in self._parts.synch_clients or not speaks_for(asked.signer, domain):
            await self._parts.office.wrong(client, f"{asked.signer} may not synchronise for {domain}")
            raise Refused("this server synchronises with senders that its operator has named")
        await self._count(f"synchronise {domain}")
        wanted = _addresses(asked.addresses)
        found = await self._accepting(wanted, sender, asked.mail_class)
        told = bool(found) and len(found) * 100 >= self._parts.min_ratio * len(wanted)
        about, observer = f"{asked.sender} {asked.mail_class}", self._parts.observer
        observer.addresses_synchronised(str(domain), about, len(wanted), len(found), told=told)
        if not told:
            now = self._parts.clock()
            await self._call(lambda store: store.counts.add(f"refused {domain}", now, DAY_S))
            return Synchronised(told=False)
        return Synchronised(told=True, accepting=tuple([await self._answer(*one) for one in found]))

    async def _count(self, who: str) -> None:
        now, limit = self._parts.clock(), self._parts.requests_per_hour
        refused = f"refused {who.partition(' ')[2]}"
        if await self._call(lambda store: store.counts.of(refused, now, DAY_S)) >= REFUSALS_PER_DAY:
            raise TooMany(until_next(now, DAY_S))
        if limit and await self._call(lambda store: store.counts.add(who, now, HOUR_S)) > limit:
            raise TooMany(until_next(now, HOUR_S))

    async def _accepting(
        self, wanted: Sequence[Address], sender: Address, mail_class: str
    ) -> list[tuple[Address, Rule]]:
        vouched = False
        if self._parts.classes is not None:
            vouched = (await self._parts.classes.vouched(sender.domain)).covers(mail_class)
        names = senders_of(sender)
        rules = await self._call(lambda store: store.rules_towards(wanted, names))
        found: list[tuple[Address, Rule]] = []
        for address in wanted:
            rule = decide(rules.get(key_of(address), ()), sender, mail_class, vouched=vouched)
            if rule is not None and rule.standing is Standing.ACCEPT:
                found.append((address, rule))
        return found

    async def _answer(self, address: Address, rule: Rule) -> Accepting:
        if rule.subject.sender == ANYBODY:
            # The person's word about a class is not one sender's to end.
            return Accepting(str(address))
        path = await self._parts.office.leave_path(rule)
        return Accepting(str(address), f"{self._parts.base(address.domain)}{path}")

    # --- peers ----------------------------------------------------------------------------------------------

    async def changes(self, document: bytes, host: str, client: IPAddress) -> Changes:
        """What was confirmed here about the domains that a peer serves. Raises as `synchronise`."""
        asked = await self._read(document, CHANGES_KIND, AskChanges, host, client)
        if asked.signer not in {one.host for one in self._parts.peers}:
            await self._parts.office.wrong(client, f"{asked.signer} is no peer")
            raise Refused("this server exchanges changes with peers that its operator has named")
        domains = frozenset(asked.domains)
        found = await self._call(lambda store: store.changes(asked.after, MOST_CHANGES))
        told = tuple(_told(one) for one in found if _concerns(one, domains))
        seen = found[-1].number if found else asked.after
        return Changes(seen, len(found) == MOST_CHANGES, told)

    async def run(self) -> None:
        """Take over the peers' changes again and again, until cancelled."""
        while True:
            for peer in self._parts.peers:
                try:
                    if await self._is_ours(peer):
                        await self.pull(peer)
                except (CallFailed, ValueError, StoreUnavailable) as error:
                    self._parts.observer.subscriptions_failed(f"asking {peer.host}", error)
            # Chance keeps servers that were started together apart.
            await asyncio.sleep(PULL_EVERY_S * (0.75 + self._parts.chance(1)[0] / 512))

    async def _is_ours(self, peer: Peer) -> bool:
        """Of all workers and nodes one asks a peer in each period."""
        who, now = f"pull {peer.host}", self._parts.clock()
        return await self._call(lambda store: store.counts.add(who, now, PULL_EVERY_S)) == 1

    async def pull(self, peer: Peer) -> int:
        """Take over what is new at a peer; how many rules of ours changed by it. Raises CallFailed,
        FormError, StoreUnavailable."""
        changed = 0
        for _ in range(PAGES_AT_ONCE):
            after = await self._call(lambda store: store.seen_of(peer.host))
            answer = await self._ask(peer, after)
            changed += await self._take_over(peer, answer)
            if not answer.more or answer.seen == after:
                break
        return changed

    async def _ask(self, peer: Peer, after: int) -> Changes:
        parts = self._parts
        if parts.key is None or parts.caller is None:
            raise CallFailed("there is no key to sign with", temporary=False)
        asked = AskChanges(
            signer=parts.key.host,
            audience=peer.host,
            at=int(parts.clock()),
            nonce=identifier(parts.chance(OCTETS)),
            after=after,
            domains=tuple(parts.domains),
        )
        document = parts.key.sign(asked, CHANGES_KIND)
        answer = await parts.caller.post(peer.host, peer.port, CHANGES_PATH, document, limit=1_048_576)
        if answer.status != 200:
            raise CallFailed(f"{peer.host} answers {answer.status}")
        return decode(answer.body, Changes)

    async def _take_over(self, peer: Peer, answer: Changes) -> int:
        now, rules, lists = self._parts.clock(), [], 0
        for one in answer.changes:
            rule = read_change(one, now)
            if rule is None:
                continue
            if rule.subject.sender in self._parts.office.lists:
                lists += await self._list_change(peer, rule)
            elif self._parts.office.is_person_here(rule.address):
                rules.append(rule)
        new = await self._call(lambda store: store.take_over(peer.host, rules, answer.seen))
        if new or lists:
            self._parts.observer.peer_synchronised(peer.host, len(new), lists)
        return len(new) + lists

    async def _list_change(self, peer: Peer, rule: Rule) -> bool:
        joins = rule.standing is Standing.ACCEPT
        how = f"confirmed at {peer.host}"
        return await self._parts.office.list_changed(rule.subject.sender, rule.address, joins=joins, how=how)

    # --- both -----------------------------------------------------------------------------------------------

    async def _read(self, document: bytes, kind: str, form: type[P], host: str, client: IPAddress) -> P:
        await self._parts.office.guard(client)
        now = self._parts.clock()
        try:
            asked = read_signed(
                document, kind, form, self._parts.check, audience=host, now=now, age_s=MOST_SKEW_S
            )
        except ValueError as error:
            await self._parts.office.wrong(client, str(error))
            raise
        nonce, until = f"{asked.signer} {asked.nonce[:64]}", now + 3 * MOST_SKEW_S
        if not await self._call(lambda store: store.counts.is_first(nonce, now, until)):
            await self._parts.office.wrong(client, "a document shown again")
            raise Refused("this document was shown before")
        return asked

    async def _call(self, work: Callable[[SubscriptionStore], T]) -> T:
        return await self._parts.store.call(work)


def speaks_for(host: str, domain: Domain) -> bool:
    """Whether a host of this name is one of the domain's AMDP services, or the domain itself."""
    if host in (domain, f"amdp-mis.{domain}"):
        return True
    number = host.removeprefix("mhf-").removesuffix(f".{domain}")
    return host == f"mhf-{number}.{domain}" and number in {str(one) for one in range(1, 17)}


def read_change(one: OneChange, now: float) -> Rule | None:
    """A peer's change; None for one that is none. Its time is not believed beyond now: nobody's word of
    tomorrow stands above today's."""
    try:
        address = parse_address(one.address)
        subject = parse_subject(one.sender, one.mail_class)
        return Rule(0, address, subject, Standing(one.standing), min(one.at, now), "")
    except (AddressError, RuleError, ValueError):
        return None


def _sender(text: str) -> Address:
    """The sender whose addresses they are; a domain stands for all its addresses."""
    subject = parse_subject(text, ANYBODY)
    local, at, domain = subject.sender.rpartition("@")
    return parse_address(subject.sender) if at else Address(local, Domain(domain))


def _addresses(texts: Sequence[str]) -> list[Address]:
    """Each once; what is no address counts for nothing."""
    found: dict[str, Address] = {}
    for text in texts:
        try:
            address = parse_address(text.strip())
        except AddressError:
            continue
        found.setdefault(key_of(address), address)
    return list(found.values())


def _concerns(one: Change, domains: frozenset[str]) -> bool:
    sender = one.rule.subject.sender
    return str(one.rule.address.domain) in domains or sender.rpartition("@")[2] in domains


def _told(one: Change) -> OneChange:
    rule = one.rule
    return OneChange(
        str(rule.address), rule.subject.sender, rule.subject.pattern, rule.standing.value, rule.changed_at
    )
