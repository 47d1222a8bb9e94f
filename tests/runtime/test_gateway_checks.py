"""[amdp.outgoing] and the gateways of [amdp.holding]: mistakes are told before anything is served."""

from __future__ import annotations

import pytest

from outrider.config.amdp_schema import Amdp, AmdpHolding, AmdpOutgoing, AmdpRole
from outrider.config.schema import Config, Listener
from outrider.runtime.gateway_checks import gateway_faults, gateway_warnings

pytestmark = pytest.mark.covers("AMDP-1", "AMDP-2")


def config(
    *roles: AmdpRole,
    holding: AmdpHolding | None = None,
    listeners: tuple[Listener, ...] = (),
    **outgoing: object,
) -> Config:
    amdp = Amdp(
        roles=roles,
        outgoing=AmdpOutgoing(**outgoing),  # type: ignore[arg-type]
        holding=holding or AmdpHolding(),
    )
    return Config(hostname="mx.a.example", data_dir="/nowhere", amdp=amdp, listeners=listeners)


@pytest.mark.parametrize(
    ("outgoing", "key"),
    [
        ({"classes": {"ann": "Business"}}, ("amdp", "outgoing", "classes", "ann")),
        ({"classes": {"ann": "Agent::*"}}, ("amdp", "outgoing", "classes", "ann")),
        ({"message_type": "a::b"}, ("amdp", "outgoing", "message_type")),
        ({"message_type": ""}, ("amdp", "outgoing", "message_type")),
        ({"facility": "mhf.a.example:many"}, ("amdp", "outgoing", "facility")),
        ({"facility": "192.0.2.1:25"}, ("amdp", "outgoing", "facility")),
        ({"scanner": "scan"}, ("amdp", "outgoing", "scanner")),
        ({"scanner": "/nowhere/scan --all"}, ("amdp", "outgoing", "scanner")),
        ({"holding": AmdpHolding(gateways=("::1/128", "x"))}, ("amdp", "holding", "gateways", 1)),
    ],
)
def test_what_is_wrong_is_named(outgoing: dict[str, object], key: tuple[object, ...]) -> None:
    (fault,) = gateway_faults(config("omg", "mhf", **outgoing))  # type: ignore[arg-type]
    assert fault.key == key


def test_what_is_right_is_not() -> None:
    right: dict[str, object] = {
        "classes": {"ann": "Agent::GOV", "*": "public::personal"},
        "facility": "[192.0.2.1]:2525",
        "scanner": "/bin/cat -u",
        "holding": AmdpHolding(gateways=("192.0.2.0/24", "2001:db8::1")),
    }
    assert list(gateway_faults(config("omg", **right))) == []  # type: ignore[arg-type]


def test_roles_that_lack_each_other() -> None:
    assert "nothing can be held" in next(gateway_warnings(config("omg")))
    assert "nobody may" in next(gateway_warnings(config("mhf")))
    assert "no envelope" in next(gateway_warnings(config("img")))
    smtp = Listener(address="127.0.0.1", protocol="smtp")
    assert not list(gateway_warnings(config("omg", "mhf", "img", listeners=(smtp,))))
    assert not list(gateway_warnings(config()))
