"""What a server loads: no more than its settings ask for, and that in good time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.minimal_site import make_minimal_site

WEB = '[[listeners]]\nprotocol = "amdp"\naddress = "127.0.0.1"\nport = 2443\ntls = "none"\n'
METRICS = '[[listeners]]\nprotocol = "http"\naddress = "127.0.0.1"\nport = 2480\n'

SHOW_LOADED = """
import sys
from pathlib import Path
from outrider.runtime.starting import prepare
prepare(Path(sys.argv[1]))
import outrider.runtime.serving
print(*sys.modules, sep="\\n")
"""


def loaded_for(folder: Path, settings: str = "") -> set[str]:
    """The modules in memory when the settings have been checked and the server is about to be made."""
    file = make_minimal_site(folder, settings)
    ended = subprocess.run(
        [sys.executable, "-c", SHOW_LOADED, file], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def test_a_server_for_smtp_loads_nothing_of_amdp_and_no_http(tmp_path: Path) -> None:
    loaded = loaded_for(tmp_path)
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & {"aiohttp", "yarl", "ldap", "psycopg", "rich"}
    assert not {name for name in loaded if name.startswith("outrider.runtime.amdp_parts")}
    assert not {name for name in loaded if name.startswith("outrider.holding.facility")}


@pytest.mark.parametrize(
    ("more", "module"),
    [
        (WEB, "outrider.net.amdp_web_server"),
        ('[amdp]\nroles = ["mhf"]\n', "outrider.holding.facility.hold_transport"),
        ("[amdp]\nport = 4443\n", "outrider.runtime.amdp_checks"),
        ('[mt2.extensions.options.postage]\nrequire = "never"\n', "outrider.runtime.postage_settings"),
        (METRICS, "outrider.net.http_server"),
    ],
    ids=["listener", "role", "setting", "postage", "metrics"],
)
def test_what_is_asked_for_is_there_before_the_server_is(tmp_path: Path, more: str, module: str) -> None:
    assert module in loaded_for(tmp_path, more)
