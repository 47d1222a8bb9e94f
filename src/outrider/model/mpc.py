"""Mail Policy Codes: who sends, and of which class the mail is (AMTP-9).

A value is ``role/class``. Every component comes from a short closed list; `mpc` is a role for one class only,
mail about mail policy itself, which is never refused for its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

_C = TypeVar("_C")


class Role(Enum):
    """What kind of party sends."""

    PER = "per"
    """A person."""
    COM = "com"
    NGO = "ngo"
    NET = "net"
    GOV = "gov"
    POL = "pol"
    MPC = "mpc"


class MailClass(Enum):
    """Why a message was sent to this recipient."""

    INDIVIDUAL = "individual"
    AUTORESPONSE = "autoresponse"
    CUSTOMER = "customer"
    OPTOUT = "optout"
    OPTIN = "optin"
    CONFIRMED = "confirmed"


class MpcError(ValueError):
    """The text is no Mail Policy Code; the argument says why."""


@dataclass(frozen=True, slots=True)
class Mpc:
    """One value; only legal ones can be made. Raises MpcError."""

    role: Role
    mail_class: MailClass

    def __post_init__(self) -> None:
        if self.role is Role.MPC and self.mail_class is not MailClass.INDIVIDUAL:
            raise MpcError("the role mpc is only for mpc/individual")

    def __str__(self) -> str:
        return f"{self.role.value}/{self.mail_class.value}"


def parse_mpc(text: str) -> Mpc:
    """The code that a text names, in any case (AMTP-9). Raises MpcError."""
    role, slash, mail_class = text.lower().partition("/")
    if not slash:
        raise MpcError("a Mail Policy Code is role/class")
    return Mpc(_component(_ROLES, role, "unknown role"), _component(_CLASSES, mail_class, "unknown class"))


@dataclass(frozen=True, slots=True)
class MpcPattern:
    """Some values at once, as policies and declarations name them: ``com/*``, ``*/optout``, ``*/*``."""

    role: Role | None
    """None is any role, written ``*``."""
    mail_class: MailClass | None
    """None is any class."""

    def matches(self, value: Mpc) -> bool:
        """Whether the value is one of these."""
        return self.role in (None, value.role) and self.mail_class in (None, value.mail_class)

    def __str__(self) -> str:
        role = "*" if self.role is None else self.role.value
        return f"{role}/{'*' if self.mail_class is None else self.mail_class.value}"


def parse_mpc_pattern(text: str) -> MpcPattern:
    """A code in which role, class or both may be ``*``. Raises MpcError, also for what no code can match."""
    role_text, slash, class_text = text.lower().partition("/")
    if not slash:
        raise MpcError("a pattern of Mail Policy Codes is role/class, each of which may be *")
    role = None if role_text == "*" else _component(_ROLES, role_text, "unknown role")
    mail_class = None if class_text == "*" else _component(_CLASSES, class_text, "unknown class")
    if role is not None and mail_class is not None:
        Mpc(role, mail_class)
    return MpcPattern(role, mail_class)


def _component(known: Mapping[str, _C], text: str, fault: str) -> _C:
    if text not in known:
        raise MpcError(fault)
    return known[text]


_ROLES = {role.value: role for role in Role}
_CLASSES = {mail_class.value: mail_class for mail_class in MailClass}

LEGAL = tuple(
    Mpc(role, mail_class)
    for role in Role
    for mail_class in MailClass
    if role is not Role.MPC or mail_class is MailClass.INDIVIDUAL
)
"""Every value there is."""

ABOUT_POLICY = Mpc(Role.MPC, MailClass.INDIVIDUAL)
"""Never refused for its code, and sent even where all is denied."""
BOUNCE = Mpc(Role.NET, MailClass.AUTORESPONSE)
"""What a bounce is sent as (AMTP-13)."""
