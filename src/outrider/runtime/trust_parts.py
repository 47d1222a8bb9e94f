"""`[trust]` of the configuration as the parts that a server, or `outrider trust`, asks lists with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from outrider.config.loader import Loaded
from outrider.config.problems import ConfigError, Problem
from outrider.config.schema import Config
from outrider.reception.trust_files import ReadList, WatchedList, read_list
from outrider.reception.trust_lookups import ListLookup, TrustParts, TrustSource
from outrider.routing.partners import PartnerTable
from outrider.trust.brokers import GROUP, Broker
from outrider.trust.list_files import ListFileError
from outrider.trust.lists import NamedList, TrustError, compile_lists
from outrider.trust.observer import TrustObserver


@dataclass(frozen=True, slots=True)
class TrustLists:
    """All lists, checked, those in files as they were read."""

    lists: tuple[NamedList, ...] = ()
    files: Mapping[str, ReadList] | None = None
    brokers: Mapping[str, Broker] = field(default_factory=dict)


def read_trust(loaded: Loaded) -> TrustLists:
    """Check `[trust.lists]` and read the files that it names. Raises ConfigError with every problem found."""
    try:
        lists = compile_lists(loaded.config.trust)
    except TrustError as error:
        raise ConfigError([loaded.problem_from(str(error))]) from error
    files: dict[str, ReadList] = {}
    brokers: dict[str, Broker] = {}
    problems: list[Problem] = []
    for one in lists:
        if one.is_broker:
            try:
                brokers[one.name] = load_broker(one)
            except BrokerError as error:
                key = ("trust", "lists", one.name, "source")
                problems.append(loaded.problem(key, str(error), error.remedy))
        if not one.is_file:
            continue
        try:
            files[one.name] = read_list(loaded.resolve(one.source))
        except (OSError, ListFileError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            key = ("trust", "lists", one.name, "source")
            problems.append(loaded.problem(key, f"{one.source}: {why}", "create it, or mend the line"))
    if problems:
        raise ConfigError(problems)
    return TrustLists(lists, files, brokers)


class BrokerError(Exception):
    """A broker that cannot be used; `remedy` says what helps."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


def load_broker(one: NamedList) -> Broker:
    """The plug-in that a list names, with the list's options. Raises BrokerError."""
    found = entry_points(group=GROUP, name=one.source)
    if not found:
        known = ", ".join(sorted(point.name for point in entry_points(group=GROUP))) or "there is none"
        text = f"no installed package has a broker {one.source!r} (known: {known})"
        raise BrokerError(text, f"install the package beside Outrider; its entry point is in {GROUP!r}")
    try:
        broker: Broker = next(iter(found)).load()(one.options)
    except ValueError as error:
        raise BrokerError(
            f"the broker {one.source!r} refuses its options: {error}", "mend `options`"
        ) from error
    except Exception as error:  # a stranger's program: whatever it is, it is said in one line
        text = f"the broker {one.source!r} cannot be loaded: {type(error).__name__}: {error}"
        raise BrokerError(text, "see its documentation") from error
    return broker


def trust_source(
    trust: TrustLists, config: Config, partners: PartnerTable, lookup: ListLookup, observer: TrustObserver
) -> TrustSource:
    """What asks these lists."""
    files = {
        name: WatchedList(name, read, observer, time.monotonic) for name, read in (trust.files or {}).items()
    }

    def owner_of(domain: str) -> str:
        entry = partners.by_sender_domain(domain)
        return entry.name if entry is not None else ""

    parts = TrustParts(
        trust.lists, files, lookup, observer, time.monotonic, config.trust.cache, owner_of, trust.brokers
    )
    return TrustSource(parts)
