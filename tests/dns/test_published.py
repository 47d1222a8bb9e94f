"""What a site has to publish, and whether it does: what is printed is never complained about."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from outrider.cli.main import main
from outrider.config.schema import Config
from outrider.dns.answers import DnsTemporary
from outrider.dns.published import Publication, Status, check, publication, zone_text
from outrider.testing.dns import StaticResolver
from tests.peers.addresses import loopback_address
from tests.peers.bind import BindServer
from tests.peers.outrider_server import to_toml
from tests.peers.rooms import wait_until

SETTINGS: dict[str, Any] = {
    "hostname": "mx.us.example",
    "data_dir": "/tmp/x",
    "listeners": [
        {"protocol": "smtp", "address": "198.51.100.1"},
        {"protocol": "amtp", "address": "198.51.100.1"},
        {"protocol": "amtp", "address": "198.51.100.1", "port": 10127, "private": True},
        {"protocol": "mt2", "address": "198.51.100.1"},
        {"protocol": "mt2", "address": "198.51.100.1", "port": 10128, "tls": "none"},
        {"protocol": "submission", "address": "2001:4860::25", "tls": "implicit"},
        {"protocol": "smtp", "address": "127.0.0.1", "port": 2525},
        {"protocol": "lmtp", "address": "unix:/run/lmtp"},
        {"protocol": "http", "address": "127.0.0.1"},
    ],
    "domains": {"us.example": {}, "bücher.example": {}, "[192.0.2.1]": {}},
    "relay": {"domains": ["customer.example"]},
}
# 198.51.100.0/24 is set aside for documents and no public address; 8.8.8.8 and the like belong to somebody.
ADDRESSES = ("198.51.100.1", "2001:4860::25")


def published(addresses: tuple[str, ...] = ADDRESSES, **changed: Any) -> Publication:
    config = msgspec.convert({**SETTINGS, **changed}, Config)
    return publication(config, tuple(map(ip_address, addresses)))


def lines(what: Publication) -> set[str]:
    return {str(record).replace(" 3600 IN", "") for record in what.records}


@pytest.mark.covers("AMTP-7", "AMTP-2a", "MT2-27")
def test_everything_that_peers_look_up() -> None:
    assert lines(published()) == {
        "us.example. MX 10 mx.us.example.",
        "xn--bcher-kva.example. MX 10 mx.us.example.",
        "customer.example. MX 20 mx.us.example.",
        "_amtp._tcp.us.example. SRV 0 0 10125 mx.us.example.",
        "_amtp._tcp.xn--bcher-kva.example. SRV 0 0 10125 mx.us.example.",
        "_mt2._tcp.us.example. SRV 0 0 10126 mx.us.example.",
        "_mt2._tcp.xn--bcher-kva.example. SRV 0 0 10126 mx.us.example.",
        "_submissions._tcp.us.example. SRV 0 0 465 mx.us.example.",
        "_submissions._tcp.xn--bcher-kva.example. SRV 0 0 465 mx.us.example.",
        "mx.us.example. A 198.51.100.1",
        "mx.us.example. AAAA 2001:4860::25",
        "1.100.51.198.in-addr.arpa. PTR mx.us.example.",
        f"{ip_address('2001:4860::25').reverse_pointer}. PTR mx.us.example.",
    }


def test_listeners_with_names_of_their_own() -> None:
    listeners = [
        {"protocol": "smtp", "address": "127.0.0.2", "hostname": "in.us.example"},
        {"protocol": "amtp", "address": "127.0.0.3"},
    ]
    found = lines(
        published(("127.0.0.2", "127.0.0.3"), listeners=listeners, relay={}, domains={"us.example": {}})
    )
    assert found == {
        "us.example. MX 10 in.us.example.",
        "_amtp._tcp.us.example. SRV 0 0 10125 mx.us.example.",
        "in.us.example. A 127.0.0.2",
        "mx.us.example. A 127.0.0.3",
        "2.0.0.127.in-addr.arpa. PTR in.us.example.",
        "3.0.0.127.in-addr.arpa. PTR mx.us.example.",
    }


def test_addresses_that_the_settings_do_not_tell() -> None:
    listeners = [{"protocol": "smtp", "address": "0.0.0.0"}]
    found = published((), listeners=listeners)
    assert found.unknown == ("mx.us.example",)
    assert "; mx.us.example. 3600 IN A <its address>" in zone_text(found)


def test_nobody_outside_is_served() -> None:
    found = published((), listeners=[{"protocol": "smtp", "address": "127.0.0.1"}])
    assert found.records == ()
    assert "no listener is reached by strangers" in zone_text(found)


def test_one_zone_only() -> None:
    text = zone_text(published(), "US.example.")
    records = [line for line in text.splitlines() if not line.startswith(";")]
    assert len(records) == 6
    assert all(".us.example." in f".{line.split()[0]}" for line in records)


TABLE: dict[str, dict[str, list[str]]] = {
    "us.example": {"MX": ["10 mx.us.example"]},
    "_amtp._tcp.us.example": {"SRV": ["0 0 10125 mx.us.example"]},
    "mx.us.example": {"A": ["198.51.100.1"]},
    "198.51.100.1": {"PTR": ["mx.us.example"]},
}
SMALL: dict[str, Any] = {
    "listeners": SETTINGS["listeners"][:2],
    "relay": {},
    "domains": {"us.example": {}},
}


@pytest.mark.parametrize(
    ("changed", "stati"),
    [
        ({}, {"ok"}),
        # The operator's own choices: preferences, further hosts, weights.
        ({"us.example": {"MX": ["12801 mx.us.example", "50 backup.example"]}}, {"ok"}),
        ({"_amtp._tcp.us.example": {"SRV": ["5 9 10125 MX.us.example.", "6 0 1 b.example"]}}, {"ok"}),
        ({"mx.us.example": {"A": ["198.51.100.1", "198.51.100.2"]}}, {"ok"}),
        ({"198.51.100.1": {"PTR": ["host.provider.example", "mx.us.example"]}}, {"ok"}),
        ({"us.example": {"TXT": ["x"]}}, {"ok", "missing"}),
        ({"us.example": {"MX": ["0 ."]}}, {"ok", "differs"}),
        ({"us.example": {"MX": ["10 old.us.example"]}}, {"ok", "differs"}),
        ({"_amtp._tcp.us.example": {"SRV": ["0 0 25 mx.us.example"]}}, {"ok", "differs"}),
        ({"_amtp._tcp.us.example": {"SRV": ["0 0 0 ."]}}, {"ok", "differs"}),
        ({"_amtp._tcp.us.example": {}}, {"ok", "missing"}),
        ({"mx.us.example": {"A": ["198.51.100.9"]}}, {"ok", "differs"}),
        ({"198.51.100.1": {"PTR": ["host.provider.example"]}}, {"ok", "differs"}),
        ({"198.51.100.1": {}}, {"ok", "missing"}),
        (
            {"mx.us.example": {"CNAME": ["h.us.example"]}, "h.us.example": {"A": ["198.51.100.1"]}},
            {"ok", "differs"},
        ),
    ],
)
async def test_each_record_is_held_against_dns(changed: dict[str, Any], stati: set[str]) -> None:
    found = await check(published(ADDRESSES[:1], **SMALL), StaticResolver({**TABLE, **changed}))
    assert {one.status.value for one in found} == stati
    wrong = [one for one in found if one.status is not Status.OK]
    assert len(wrong) == len(stati) - 1
    assert all(one.remedy for one in wrong)


async def test_silence_is_not_absence() -> None:
    resolver = StaticResolver(TABLE)
    resolver.fail("_amtp._tcp.us.example", DnsTemporary, "SRV")
    found = await check(published(ADDRESSES[:1], **SMALL), resolver)
    assert [one.status for one in found if one.status is not Status.OK] == [Status.UNKNOWN]


async def test_a_host_whose_addresses_only_dns_knows() -> None:
    listeners = [{"protocol": "smtp", "address": "0.0.0.0"}]
    settings = {**SMALL, "listeners": listeners}
    found = await check(published((), **settings), StaticResolver(TABLE))
    assert {one.status for one in found} == {Status.OK}
    assert any("PTR" in one.record for one in found)
    missing = await check(published((), **settings), StaticResolver({"us.example": TABLE["us.example"]}))
    assert [one.status for one in missing] == [Status.OK, Status.MISSING]


# -- a real name server ----------------------------------------------------------------------------------


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["dns", *words, "--config", str(folder / "outrider.toml")])


def write(folder: Path, address: str, names: BindServer | None) -> None:
    servers = [f"{names.address}:{names.port}"] if names else []
    settings = {
        "hostname": "mx.us.example",
        "data_dir": str(folder / "data"),
        "listeners": [
            {"protocol": "smtp", "address": address},
            {"protocol": "amtp", "address": address},
            {"protocol": "submission", "address": address},
        ],
        "domains": {"us.example": {"deliver": "discard:"}, "shop.us.example": {"deliver": "discard:"}},
        "dns": {"servers": servers},
    }
    (folder / "outrider.toml").write_text(to_toml(settings))


@pytest.mark.covers("AMTP-7", "AMTP-2a")
def test_what_is_printed_and_published_is_never_complained_about(tmp_path: Path) -> None:
    address = loopback_address()
    write(tmp_path, address, None)
    zones = {}
    for zone in ("us.example", "127.in-addr.arpa"):
        printed = run(tmp_path, "--address", address, "--zone", zone)
        assert printed.exit_code == 0, printed.output
        zones[zone] = printed.stdout
    with BindServer(zones) as names:
        wait_until(lambda: "all zones loaded" in names.log(), "the zones to be loaded")
        assert "ignoring" not in names.log()
        write(tmp_path, address, names)
        done = run(tmp_path, "check", "--address", address, "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.exit_code == 0, rows
        assert len(rows) == 8
        # One record goes, and is missed.
    with BindServer({**zones, "127.in-addr.arpa": ""}) as names:
        wait_until(lambda: "all zones loaded" in names.log(), "the zones to be loaded")
        write(tmp_path, address, names)
        done = run(tmp_path, "check", "--address", address, "--json")
        wrong = [row for row in map(json.loads, done.stdout.splitlines()) if row["status"] != "ok"]
        assert done.exit_code == 1
        assert [row["status"] for row in wrong] == ["missing"]
        assert wrong[0]["remedy"].endswith("PTR mx.us.example.")


def test_json_has_every_record(tmp_path: Path) -> None:
    write(tmp_path, "127.0.0.1", None)
    rows = [
        json.loads(line) for line in run(tmp_path, "--address", "127.0.0.1", "--json").stdout.splitlines()
    ]
    assert {row["rdtype"] for row in rows} == {"MX", "SRV", "A", "PTR"}


def test_a_zone_that_is_none(tmp_path: Path) -> None:
    write(tmp_path, "127.0.0.1", None)
    assert run(tmp_path, "--zone", "a..b").exit_code == 2
    assert run(tmp_path, "check").exit_code == 1  # nothing to check without --address


AMDP: dict[str, Any] = {
    "listeners": [
        {"protocol": "smtp", "address": "198.51.100.1"},
        {"protocol": "amdp", "address": "198.51.100.2"},
        {"protocol": "amdp", "address": "127.0.0.1", "port": 8443},
    ],
    "relay": {},
    "domains": {"us.example": {}, "b.example": {}, ".b.example": {}},
}


@pytest.mark.covers("AMDP-8", "AMDP-16")
def test_the_names_that_amdp_looks_up() -> None:
    """The facility is known where it sends from too; two hosts of one address need one PTR."""
    found = lines(
        published(
            ("198.51.100.1", "198.51.100.2"),
            **AMDP,
            amdp={"roles": ["mhf", "mis"], "holding": {"names": {"b.example": "mhf-3.b.example"}}},
            net={"source_address": "198.51.100.1"},
        )
    )
    assert {line for line in found if "mhf-" in line or "amdp-mis" in line} == {
        "mhf-1.us.example. A 198.51.100.1",
        "mhf-1.us.example. A 198.51.100.2",
        "mhf-3.b.example. A 198.51.100.1",
        "mhf-3.b.example. A 198.51.100.2",
        "amdp-mis.us.example. A 198.51.100.2",
        "amdp-mis.b.example. A 198.51.100.2",
    }


def test_a_facility_on_an_address_of_its_own_is_named_by_it() -> None:
    found = published(
        (), listeners=[{"protocol": "amdp", "address": "8.8.4.4"}], relay={}, domains={"us.example": {}},
        amdp={"roles": ["mhf"]},
    )  # fmt: skip
    assert {"mhf-1.us.example. A 8.8.4.4", "4.4.8.8.in-addr.arpa. PTR mhf-1.us.example."} <= lines(found)


@pytest.mark.parametrize("roles", [[], ["img", "omg"]])
def test_roles_that_nobody_looks_up_publish_nothing(roles: list[str]) -> None:
    assert not any("mhf" in line or "mis" in line for line in lines(published(**AMDP, amdp={"roles": roles})))


def test_amdp_behind_nat_asks_for_the_address() -> None:
    settings = AMDP | {"listeners": [{"protocol": "amdp", "address": "0.0.0.0"}]}
    found = published((), **settings, amdp={"roles": ["mis"]})
    assert "amdp-mis.us.example" in found.unknown
    found = published(("8.8.8.8",), **settings, amdp={"roles": ["mis"]})
    assert "amdp-mis.us.example. A 8.8.8.8" in lines(found)
