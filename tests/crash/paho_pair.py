"""Two clients that others wrote: paho as a publisher and as a receiver, each in a thread of its own.

Here belongs paho and the way from its threads to the ledger. What paho publishes may come as often as it likes, for it
does not tell when it sends again, but must not be lost. It publishes with QoS 1 alone: after two vain attempts to
connect, paho 2.2 sends a PUBLISH again whose PUBREC it has had, and what comes twice then is its own doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.crash.actor import KEPT_S, Actor, World
from tests.crash.ledger import SESSION_FORGOTTEN, Message, Stream
from tests.integration.wire import V5
from tests.support.paho import leave

AGAIN_S = 0.05
WINDOW = 20
ANY_NUMBER = 1_000_000


class PahoClient(Actor):
    """A paho client with a session that is kept; its callbacks come to the loop's thread."""

    def __init__(self, world: World, name: str, protocol: MQTTProtocolVersion) -> None:
        super().__init__(world, name, protocol)
        self._loop = asyncio.get_running_loop()
        is_v5 = protocol == MQTTProtocolVersion.MQTTv5
        kept: dict[str, Any] = {} if is_v5 else {"clean_session": False}
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **kept)
        self.client.reconnect_delay_set(AGAIN_S, AGAIN_S)  # type: ignore[arg-type]  # seconds need not be whole
        self.client.max_inflight_messages_set(WINDOW)
        self.client.on_connect = self._to_loop(self._connected)
        self.client.on_disconnect = self._to_loop(self._disconnected)

    def _to_loop(self, call: Callable[..., None]) -> Callable[..., None]:
        def from_thread(*arguments: Any) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(call, *arguments)

        return from_thread

    async def live(self) -> None:
        await self.world.up.wait()
        if self.login is not None:
            self.client.username_pw_set(*self.login)
        kept: dict[str, Any] = {}
        if self.version == V5:
            expiry: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            expiry.SessionExpiryInterval = KEPT_S
            kept = {"clean_start": False, "properties": expiry}
        self.client.connect_async("127.0.0.1", self.world.port, keepalive=0, **kept)
        self.client.loop_start()
        try:
            await asyncio.Event().wait()
        finally:
            leave(self.client)

    def _connected(self, _: Any, __: Any, flags: ConnectFlags, code: ReasonCode, ___: Any) -> None:
        if code.value:
            return
        if self.present and not flags.session_present:
            self.world.ledger.find(SESSION_FORGOTTEN, self.name)
            self.forgotten()
        self.present = True
        self.is_in = True
        self.resumed(flags.session_present)

    def _disconnected(self, *_: Any) -> None:
        self.is_in = False

    def drop(self) -> None:
        sock = self.client.socket()
        if sock is not None:
            sock.close()


class PahoPublisher(PahoClient):
    """Publishes what it is told to, and keeps it until it is answered."""

    def __init__(self, world: World, name: str, streams: list[Stream]) -> None:
        super().__init__(world, name, MQTTProtocolVersion.MQTTv5)
        self._streams = streams
        self._open: dict[int, Message] = {}
        self.client.on_publish = self._to_loop(self._published)

    def begin(self, count: int) -> None:
        """Publish so many."""
        rng = self.world.rng
        for _ in range(count if self.is_in else 0):
            stream = rng.choice(self._streams)
            message = self.world.ledger.send(stream, rng.randint(20, 100))
            message.transmissions = ANY_NUMBER
            self._open[self.client.publish(stream.topic_name, message.payload, stream.qos).mid] = message

    def _published(self, _: Any, __: Any, mid: int, code: ReasonCode, ___: Any) -> None:
        message = self._open.pop(mid, None)
        self.world.packets += 1
        if message is not None and code.value >= 0x80:
            self.world.ledger.refused(message)
        elif message is not None:
            self.world.ledger.accepted(message)

    def resumed(self, session_present: bool) -> None:
        self.world.packets += 1

    def waits_for(self) -> str:
        return f"{len(self._open)} answers" if self._open else super().waits_for()


class PahoReceiver(PahoClient):
    """Subscribed with QoS 2 to some filters."""

    def __init__(self, world: World, name: str, filters: list[str]) -> None:
        super().__init__(world, name, MQTTProtocolVersion.MQTTv311)
        self.inbox = world.ledger.inbox(name)
        self._subscriptions = [self.inbox.ask(one) for one in filters]
        self._connection = 0
        self.client.on_message = self._to_loop(self._arrived)
        self.client.on_subscribe = self._to_loop(self._subscribed)

    def resumed(self, session_present: bool) -> None:
        self._connection += 1
        self.world.packets += 1
        if not self._is_subscribed():
            self.client.subscribe([(one.topic_filter, 2) for one in self._subscriptions])

    def _subscribed(self, *_: Any) -> None:
        for one in self._subscriptions:
            self.inbox.subscribed(one)

    def _is_subscribed(self) -> bool:
        return all(one.is_on for one in self._subscriptions)

    def forgotten(self) -> None:
        filters = [one.topic_filter for one in self._subscriptions]
        self.inbox.forgotten(self._subscriptions)
        self._subscriptions = [self.inbox.ask(one) for one in filters]

    def _arrived(self, _: Any, __: Any, arrived: MQTTMessage) -> None:
        self.world.packets += 1
        message = self.inbox.arrived(bytes(arrived.payload), arrived.topic, self._connection, once=arrived.qos == 2)
        if message is not None:
            self.inbox.answered(message)

    def waits_for(self) -> str:
        if not self._is_subscribed():
            return "its SUBACK"
        return f"{len(self.inbox.owed)} messages" if self.inbox.owed else super().waits_for()
