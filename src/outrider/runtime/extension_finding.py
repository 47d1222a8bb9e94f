"""Which MT2 extensions are installed, and whether the settings fit them (MT2-20)."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from outrider.config.schema import Config
from outrider.extension_state.choices import ExtensionStoreThread, StoredChoices
from outrider.extension_state.store import ExtensionStore
from outrider.extensions.interface import GROUP, Extension
from outrider.extensions.registry import Available, Registry, RegistryError
from outrider.extensions.setting_up import Place, set_up
from outrider.extensions.shipped import shipped


def find_extensions() -> Registry:
    """Those that come with Outrider, and those of installed packages. Raises ValueError naming the package
    whose extension cannot be used: an operator who has installed it wants to know."""
    registry = Registry(shipped())
    for point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        try:
            extension: Extension = point.load()()
            registry.add(Available(extension, _origin(point)))
        except RegistryError as error:
            raise ValueError(f"mt2.extensions: the package {_origin(point)}: {error}") from error
        except Exception as error:  # a stranger's program: whatever it is, it is said in one line
            text = f"{point.name} of the package {_origin(point)} cannot be loaded"
            raise ValueError(f"mt2.extensions: {text}: {type(error).__name__}: {error}") from error
    return registry


def _origin(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def check_extensions(config: Config) -> None:
    """Whether the settings fit what is installed. Raises ValueError that begins with the key."""
    settings = config.mt2.extensions
    from_start = frozenset(settings.enabled)
    choices = StoredChoices(ExtensionStoreThread(_never_opened, "extensions"), time.time, from_start)
    try:
        set_up(find_extensions(), place_of(config), settings.options, from_start, choices.memory)
    except ValueError as error:
        raise ValueError(f"mt2.extensions: {error}") from error


def _never_opened() -> ExtensionStore:
    raise AssertionError("an extension must not use its memory while it is set up")


def place_of(config: Config) -> Place:
    """What all extensions of a server are given."""
    return Place(config.hostname, frozenset(config.domains), _new_token, _in_thread)


def _new_token() -> str:
    return base64.b32encode(secrets.token_bytes(16)).decode("ascii").lower().rstrip("=")


async def _in_thread(work: Callable[[], str]) -> str:
    return await asyncio.to_thread(work)
