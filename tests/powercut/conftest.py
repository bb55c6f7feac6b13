"""Fixtures of the power cuts: the recorder, compiled once, and a folder in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.powercut.machine import Left
from tests.powercut.record import NO_COMPILER, build, compiler, fast_folder


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder; tests that need it are skipped where nothing can compile it."""
    if compiler() is None:
        pytest.skip(NO_COMPILER)
    return build(tmp_path_factory.mktemp("powercut"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory if possible."""
    with fast_folder() as made:
        yield made


@pytest.fixture(scope="session")
def left(library: Path) -> Iterator[Left]:
    """What two brokers have left."""
    with fast_folder() as made:
        yield Left.by_brokers(made, library, seed=1)
