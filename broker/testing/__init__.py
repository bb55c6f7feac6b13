"""A broker for the tests of programs that talk to one: started in a thread, with faults on command and a clock to move.

``pip install iot-broker`` brings the pytest fixture ``iot_broker`` along; ``docs/embedding.md`` shows it. Here belongs
what such tests need. Not here: anything that a broker in production imports. pytest itself is imported by ``plugin``
alone, so that everything else serves other test frameworks too; and nothing is loaded before it is used, since pytest
loads the plugin in every project that has this package installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.testing.faults import Fault, Faults
    from broker.testing.harness import BrokerUnderTest, Clock, Device
    from broker.testing.inbox import Inbox, NothingArrived

_HOMES = {
    "Fault": "faults",
    "Faults": "faults",
    "BrokerUnderTest": "harness",
    "Clock": "harness",
    "Device": "harness",
    "Inbox": "inbox",
    "NothingArrived": "inbox",
}

__all__ = ["BrokerUnderTest", "Clock", "Device", "Fault", "Faults", "Inbox", "NothingArrived"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"broker.testing.{_HOMES[name]}"), name)
