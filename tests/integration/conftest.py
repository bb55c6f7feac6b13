"""Brokers for integration tests: one shared by all, and ones with a configuration of their own.

Here belong fixtures of this folder. Not here: how a broker is started and looked at (``served``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.served import PORTS, Login, Served, end_all


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A broker with the default configuration on free ports, shared: tests register devices of their own."""
    broker = Served(tmp_path_factory.mktemp("shared") / "data", *PORTS)
    try:
        yield broker
    finally:
        end_all([broker])


@pytest.fixture
def device(served: Served) -> Login:
    """A new device of the shared broker."""
    return served.register()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start brokers: ``serve(*arguments, data_dir=None, ports=PORTS, **Served's)``; all end with the test."""
    running: list[Served] = []
    numbers = itertools.count()

    def start(*arguments: str, data_dir: Path | None = None, ports: tuple[str, ...] = PORTS, **more: Any) -> Served:
        where = data_dir or tmp_path / f"data-{next(numbers)}"
        running.append(Served(where, *ports, *arguments, **more))
        return running[-1]

    try:
        yield start
    finally:
        end_all(running)


@pytest.fixture
def snippets(platform_documents: Path) -> str:
    """The programs that the platform's documents print; skipped where these do not stand beside the project."""
    return (platform_documents / "snippets.md").read_text(encoding="utf-8")
