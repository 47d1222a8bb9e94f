"""Which servers a configuration means."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.dns.resolver import ResolverSettings
from outrider.dns.servers import Server, parse_server, servers_from_config, system_servers


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1:5353", Server("127.0.0.1", 5353)),
        ("9.9.9.9", Server("9.9.9.9", 53)),
        ("[::1]:53", Server("::1", 53)),
        ("[2620:FE::FE]", Server("2620:fe::fe", 53)),
        ("2620:fe::fe", Server("2620:fe::fe", 53)),
    ],
)
def test_the_forms_of_a_server(text: str, server: Server) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "dns.example:53", "1.2.3", "256.1.1.1", "[::1", "::1]:53", "[127.0.0.1"),
        *("1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:999999", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:53 "),
    ],
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_server(text)


@pytest.mark.parametrize("text", ["127.0.0.1:5353", "[::1]:53", "9.9.9.9:53"])
def test_a_server_prints_as_it_is_written(text: str) -> None:
    assert str(parse_server(text)) == text


def test_the_system_s_servers_are_the_default(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("search example\nnameserver 127.0.0.53\nnameserver ::1\noptions edns0\n")
    assert system_servers(str(path)) == (Server("127.0.0.53"), Server("::1"))
    assert system_servers(str(tmp_path / "missing")) == ()
    assert servers_from_config(None) == system_servers()


def test_settings_take_what_the_configuration_says() -> None:
    settings = ResolverSettings.from_config(["127.0.0.1"], validating=True, timeout_s=3.0)
    assert (settings.servers, settings.validating, settings.total_timeout_s) == (
        (Server("127.0.0.1"),),
        True,
        3.0,
    )
    assert ResolverSettings.from_config([]).servers == ()
