"""Registering many devices at once.

Here belong the verbs behind bulk registration. Not here: one device (``service``), HTTP (``api``), and files
(``broker.cli_devices``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from broker.accounts.device_batch import Described, DeviceBatch
from broker.accounts.records import Device
from broker.admin.clock import Clock
from broker.admin.views import DeviceView, MqttCredentials
from broker.errors import BrokerError

Outcome = tuple[DeviceView, MqttCredentials] | BrokerError


class Registration:
    """Bulk registration; ``require_serving`` raises where nothing may be changed, ``shown`` makes snapshots."""

    def __init__(
        self,
        batch: DeviceBatch,
        clock: Clock,
        require_serving: Callable[[], None],
        shown: Callable[[Device, str], tuple[DeviceView, MqttCredentials]],
    ) -> None:
        self._batch = batch
        self._clock = clock
        self._require_serving = require_serving
        self._shown = shown

    async def create_devices(self, account_id: int, described: Iterable[Described]) -> AsyncIterator[Sequence[Outcome]]:
        """Register devices in their order; gives outcomes in slices, each durable when it is given.

        What cannot be registered spoils nothing else: its outcome is the error that ``create_device`` would raise, or
        the one that stands in its place. Raises ``Unavailable`` where nothing may be changed.
        """
        self._require_serving()
        async for part in self._batch.create(account_id, described, self._clock.wall_s()):
            yield [one if isinstance(one, BrokerError) else self._shown(*one) for one in part]
