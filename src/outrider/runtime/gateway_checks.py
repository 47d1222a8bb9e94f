"""What must hold in `[amdp.outgoing]` and of the gateways of `[amdp.holding]`, before anything is served."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_network

from outrider.config.schema import Config
from outrider.holding.outgoing.gateway import facility_route
from outrider.model.address import AddressError, parse_address
from outrider.protocols.amdp.mail_class import ClassError, parse_class
from outrider.routing.ways import WayError, parse_way, split_command
from outrider.runtime.amtp_checks import Fault

_OUTGOING = ("amdp", "outgoing")


def gateway_faults(config: Config) -> Iterator[Fault]:
    """What is wrong."""
    outgoing = config.amdp.outgoing
    for name, text in outgoing.classes.items():
        fault = _class_fault(f"{text}::message")
        if fault:
            yield Fault((*_OUTGOING, "classes", name), fault, "write agent and mail type: Agent::Business")
        if "@" in name and not _is_address(name):
            remedy = "write an account, an address, a domain or *"
            yield Fault((*_OUTGOING, "classes", name), "that is no address", remedy)
    fault = _class_fault(f"Public::Personal::{outgoing.message_type}")
    if fault or "::" in outgoing.message_type:
        yield Fault((*_OUTGOING, "message_type"), fault or "it is one part", "write one word: letter")
    if outgoing.facility:
        try:
            parse_way(facility_route(config.amdp))
        except WayError as error:
            yield Fault((*_OUTGOING, "facility"), str(error), "write HOST, HOST:PORT or [ADDRESS]:PORT")
    if outgoing.scanner:
        fault = command_fault(outgoing.scanner)
        if fault:
            yield Fault((*_OUTGOING, "scanner"), fault, "write the absolute path of a program, and arguments")
    for number, text in enumerate(config.amdp.holding.gateways):
        try:
            ip_network(text)
        except ValueError as error:
            yield Fault(("amdp", "holding", "gateways", number), str(error), "write a network: 192.0.2.0/24")


def _is_address(text: str) -> bool:
    try:
        return bool(parse_address(text).domain)
    except AddressError:
        return False


def _class_fault(text: str) -> str:
    try:
        parse_class(text)
    except ClassError as error:
        return str(error)
    return ""


def command_fault(command: str) -> str:
    """What is wrong with a command that is to be run; "" for nothing."""
    try:
        program = split_command(command)[0]
    except WayError as error:
        return str(error).removeprefix("pipe: ")
    return "" if os.access(program, os.X_OK) else f"{program} is no program that can be run"


def gateway_warnings(config: Config) -> Iterator[str]:
    """What can be served, and surely is not meant."""
    amdp = config.amdp
    roles = set(amdp.roles)
    if "omg" in roles and "mhf" not in roles and not amdp.outgoing.facility:
        yield "[amdp] role omg without mhf, and no [amdp.outgoing] facility: nothing can be held"
    if "mhf" in roles and "omg" not in roles and not amdp.holding.gateways:
        yield "[amdp] role mhf without omg, and no [amdp.holding] gateways: nobody may have mail held"
    takers = [one for one in config.listeners if one.protocol == "smtp"]
    if "img" in roles and not takers:
        yield "[amdp] role img: no listener with protocol smtp, so no envelope ever comes"
