"""The servers under attack: one for each module, one more with tight limits where a module asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.target import Target


@pytest.fixture(scope="module")
def module_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for the tests of a module."""
    with Target(tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture
def target(module_target: Target) -> Iterator[Target]:
    """The module's server; after the test the standing conditions are checked."""
    yield module_target
    module_target.stands()
