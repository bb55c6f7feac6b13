"""The doors of a running broker: MQTT's listeners, HTTP's, and the control socket.

Here belongs that they open together and that changed certificates reach them. Not here: what happens behind them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from broker.admin import Operator
from broker.admin.upkeep import Upkeep
from broker.config import BrokerConfig
from broker.control import ControlServer
from broker.doors import Endpoint
from broker.net.certificates import HTTPS, CertificateStore, TlsMaterial
from broker.net.entrances import Entrances
from broker.net.front import HttpFront
from broker.net.listeners import Doors

log = logging.getLogger(__name__)


class Serving:
    """Opens what clients come in by.

    ``keep`` runs what cuts them when their certificates are revoked; ``give_way`` lets MQTT have its turn, and
    ``has_traffic`` tells whether that has any.
    """

    def __init__(
        self,
        config: BrokerConfig,
        doors: Doors,
        certificates: CertificateStore,
        entrances: Entrances,
        keep: Callable[[Coroutine[Any, Any, None]], None],
        give_way: Callable[[], None],
        has_traffic: Callable[[], bool],
    ) -> None:
        self._config = config
        self._doors = doors
        self._certificates = certificates
        self._entrances = entrances
        self._keep = keep
        self._give_way = give_way
        self._has_traffic = has_traffic
        self._front: HttpFront | None = None

    async def open(self, api: ASGIApp, operator: Operator, upkeep: Upkeep, stack: AsyncExitStack) -> None:
        """Open all doors until the stack ends."""
        self._entrances.open(self._doors)
        self._front = HttpFront(api, self._doors, self._certificates, self._config, self._give_way, self._has_traffic)
        stack.push_async_callback(self._front.stop)
        await self._front.start()
        control = ControlServer(self._config.data_dir, operator, upkeep)
        await control.start()
        stack.push_async_callback(control.stop)
        self._certificates.on_change(self._take)
        self._certificates.start()

    def _take(self, name: str, material: TlsMaterial) -> None:
        """Let handshakes that begin from now on have this certificate; ``name`` is the listener's, or ``https``.

        Raises ``ValueError`` when it is not taken; the old one stays in use.
        """
        if name == HTTPS:
            if self._front is not None:
                self._front.take(material)
            return
        self._entrances.take(name, material)
        self._keep(self._entrances.shown.cut())


def tell_endpoints(path: Path, endpoints: Sequence[Endpoint], stack: AsyncExitStack) -> None:
    """Write ``DATA_DIR/endpoints.json``, for scripts that let the system pick ports; it goes when the stack ends."""
    file = path / "endpoints.json"
    new = file.with_suffix(".new")
    stack.callback(file.unlink, missing_ok=True)
    try:
        new.write_text(json.dumps([asdict(one) for one in endpoints], indent=2) + "\n")
        new.replace(file)
    except OSError as error:  # nobody is kept from connecting by a full disk
        file.unlink(missing_ok=True)  # what a dead one has left
        log.warning("%s could not be written: %s", file, error.strerror)
