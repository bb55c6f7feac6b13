"""A broker for the tests of programs that talk to one: started in a thread, with faults on command and a clock to move.

``pip install iot-broker`` brings the pytest fixture ``iot_broker`` along; ``docs/embedding.md`` shows it. Here belongs
what such tests need. Not here: anything that a broker in production imports; pytest itself is imported by ``plugin``
alone, so that everything else serves other test frameworks too.
"""

from broker.testing.faults import Fault, Faults
from broker.testing.harness import BrokerUnderTest, Clock, Device
from broker.testing.inbox import Inbox, NothingArrived

__all__ = ["BrokerUnderTest", "Clock", "Device", "Fault", "Faults", "Inbox", "NothingArrived"]
