"""The pytest plugin: fixtures ``iot_broker`` and ``make_iot_broker``, and the marker that configures them.

Here belongs what needs pytest. Not here: the broker under test itself (``harness``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from broker.testing.harness import BrokerUnderTest

MARKER = (
    "iot_broker(open=False, capabilities=None, config=None, authenticator=None, observer=None): how the broker of the "
    "fixture iot_broker is started; see broker.testing.BrokerUnderTest"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def make_iot_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., BrokerUnderTest]]:
    """Start brokers, each with a data directory of its own: ``make_iot_broker(open=True)``; all end with the test."""
    from broker.testing.harness import BrokerUnderTest

    with ExitStack() as stack:

        def make(data_dir: Path | None = None, **options: Any) -> BrokerUnderTest:
            where = data_dir or tmp_path_factory.mktemp("iot-broker") / "data"
            return stack.enter_context(BrokerUnderTest(where, **options))

        yield make


@pytest.fixture
def iot_broker(request: pytest.FixtureRequest, make_iot_broker: Callable[..., BrokerUnderTest]) -> BrokerUnderTest:
    """A running broker on a free port, for this test alone: ``@pytest.mark.iot_broker(...)`` says how it is started."""
    marker = request.node.get_closest_marker("iot_broker")
    return make_iot_broker(**(marker.kwargs if marker else {}))
