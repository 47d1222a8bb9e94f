"""Whether each value in the tables of `[amdp]` is of the form that it must have: names, addresses, patterns.

A value that is not would be told at the start, or never: a sender that is `allowed` under a name that no
domain has is simply not allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from outrider.config.schema import Config
from outrider.config.source_map import Path as KeyPath
from outrider.holding.incoming.mhf_check import is_facility_name
from outrider.model.address import AddressError, parse_address, parse_domain
from outrider.protocols.amdp.envelope_fields import HOLDER_ID
from outrider.protocols.amdp.mail_class import ClassError, parse_pattern
from outrider.runtime.amtp_checks import Fault
from outrider.runtime.gateway_checks import command_fault

_HOLDING, _INCOMING, _POSTAGE = ("amdp", "holding"), ("amdp", "incoming"), ("amdp", "postage")


def amdp_value_faults(config: Config) -> Iterator[Fault]:
    """What is wrong."""
    yield from _holding_faults(config)
    yield from _incoming_faults(config)
    postage = config.amdp.postage
    yield from _each((*_POSTAGE, "exempt"), postage.exempt, _listed_domain, _WRITE_DOMAIN)
    yield from _each((*_POSTAGE, "vouched_by"), postage.vouched_by, _host, "write HOST or HOST:PORT")


def _holding_faults(config: Config) -> Iterator[Fault]:
    holding = config.amdp.holding
    for domain, name in holding.names.items():
        yield from _name_faults((*_HOLDING, "names", domain), domain, name, by_service=bool(holding.id))
    if holding.id and not HOLDER_ID.fullmatch(holding.id):
        fault = f"{holding.id!r}: envelopes carry letters, digits and ._- here, at most 64"
        yield Fault((*_HOLDING, "id"), fault, 'write a short id: "holder-7"')
    for name, seconds in (("keep", holding.keep), ("max_keep", holding.max_keep)):
        if not seconds:
            yield Fault(
                (*_HOLDING, name), "what is held expires at once", "write seconds: 1209600 is 14 days"
            )
    if holding.hook:
        fault = command_fault(holding.hook)
        if fault:
            yield Fault((*_HOLDING, "hook"), fault, "write the absolute path of a program, and arguments")


def _name_faults(key: KeyPath, domain: str, name: str, *, by_service: bool) -> Iterator[Fault]:
    for text in (domain, name):
        try:
            parse_domain(text)
        except AddressError as error:
            yield Fault(key, f"{text!r}: {error}", 'write "DOMAIN" = "mhf-2.DOMAIN"')
            return
    if not by_service and not is_facility_name(name, domain):
        fault = f"{name} is none of mhf-1 to mhf-16 of {domain}, and there is no id: nobody would believe it"
        yield Fault(key, fault, f"write mhf-2.{domain}, or set an id that its information service confirms")


def _incoming_faults(config: Config) -> Iterator[Fault]:
    incoming = config.amdp.incoming
    yield from _each((*_INCOMING, "allowed"), incoming.allowed, _listed_domain, _WRITE_DOMAIN)
    yield from _each((*_INCOMING, "denied"), incoming.denied, _listed_domain, _WRITE_DOMAIN)
    patterns = incoming.fetch_classes
    yield from _each(
        (*_INCOMING, "fetch_classes"), patterns, parse_pattern, 'write a pattern: "*::Business::*"'
    )
    for number, wait in enumerate(incoming.retry):
        if not wait:
            yield Fault((*_INCOMING, "retry", number), "it would be tried again at once", "write seconds: 30")
    if incoming.report_to:
        wanted = "write an address: abuse@example.org"
        for fault in _each((*_INCOMING, "report_to"), (incoming.report_to,), _mailbox, wanted):
            yield Fault(fault.key[:-1], fault.fault, fault.remedy)


_WRITE_DOMAIN = "write a domain: example.org, or .example.org for all below it"


def _each(key: KeyPath, texts: Iterable[str], read: Callable[[str], object], remedy: str) -> Iterator[Fault]:
    """Those that cannot be read."""
    for number, text in enumerate(texts):
        try:
            read(text)
        except (AddressError, ClassError, ValueError) as error:
            yield Fault((*key, number), f"{text!r}: {error}", remedy)


def _listed_domain(text: str) -> None:
    """See `deciding.is_listed`."""
    parse_domain(text.removeprefix("."))


def _host(text: str) -> None:
    host, colon, port = text.partition(":")
    parse_domain(host)
    if colon and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65_536):
        raise ValueError("that is no port")


def _mailbox(text: str) -> None:
    if not parse_address(text).domain:
        raise ValueError("there is no domain in it")
