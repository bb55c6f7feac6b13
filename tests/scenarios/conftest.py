"""What the scenarios share: a core with one known application, which must be empty again at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.core import Core


@pytest.fixture
def core() -> Iterator[Core]:
    made = Core()
    made.grant()
    yield made
    made.end()


@pytest.fixture(params=[False, True], ids=["whole", "split"])
def any_core(request: pytest.FixtureRequest) -> Iterator[Core]:
    """The same, once fed whole packets and once every byte by itself."""
    made = Core(split=request.param)
    made.grant()
    yield made
    made.end()
