"""Which parts a server loads only where its settings ask for them: AMDP with its HTTPS, and the page of
metrics.

They are a third of all that there is to load, with an HTTP library that nothing else needs. Whoever makes or
checks such a part imports it in the function that does so. But what the settings ask for is loaded ahead of
that, here, when they are checked: later the server may have become an account that cannot read its own
programs, and a reload can no longer be refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from outrider.config.amdp_schema import Amdp
from outrider.config.schema import Config


def speaks_amdp(config: Config) -> bool:
    """Whether the settings say anything of AMDP, right or wrong, or of postage."""
    return (
        config.amdp != Amdp()
        or any(one.protocol == "amdp" for one in config.listeners)
        or "postage" in config.mt2.extensions.options
    )


def shows_metrics(config: Config) -> bool:
    """Whether there is a listener for metrics."""
    return any(one.protocol == "http" for one in config.listeners)


def load_parts_for(config: Config) -> None:
    """Load what these settings ask for. Raises ImportError and OSError when it cannot be read (any more)."""
    for module in _modules(config):
        importlib.import_module(module)


def _modules(config: Config) -> Iterator[str]:
    if speaks_amdp(config):
        yield "outrider.runtime.amdp_parts"
        yield "outrider.runtime.amdp_web_parts"
    if shows_metrics(config):
        yield "outrider.net.http_server"
