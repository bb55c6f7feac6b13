"""All local connections of one broker: who gets which, and how they learn that something has come.

Here belong opening, finding and ending them. Not here: what publishers and subscribers say (``publisher``, ``stream``).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping

from broker._core.reactor import Reactor
from broker.config import Capabilities
from broker.errors import BadRequest, BrokerStopped, PayloadTooLarge
from broker.local.link import Link
from broker.local.message import PublishProperties
from broker.local.publisher import Publisher
from broker.local.stream import MessageStream
from broker.ports import LOCAL_PRINCIPALS, Grant
from broker.reasons import ReasonCode
from broker.wire import Publish, Subscription

log = logging.getLogger(__name__)

BUFFER_MAXIMUM = 65_535
ROUNDS_FOR_AN_ANSWER = 16  # a subscription is in effect after two or three, unless very many clients subscribe at once

Payload = bytes | bytearray | memoryview | str


class LocalClients:
    """Publishers and subscriptions of the embedding program; belongs to the thread of the broker's event loop."""

    def __init__(self, reactor: Reactor, capabilities: Capabilities) -> None:
        self._reactor = reactor
        self._capabilities = capabilities
        self._loop = asyncio.get_running_loop()
        self._links: dict[int, Link] = {}
        self._publishers: dict[int, Publisher] = {}
        self._streams: weakref.WeakSet[MessageStream] = weakref.WeakSet()
        self._opened = itertools.count()
        self._stopped = False

    # ------------------------------------------------------------ what the embedding program asks for

    async def publish(
        self,
        account_id: int,
        topic_name: str,
        payload: Payload,
        qos: int,
        retain: bool,
        properties: PublishProperties,
    ) -> ReasonCode:
        """See ``Broker.publish``."""
        _check_qos(qos)
        _check_names(properties)
        data = self._checked(topic_name, payload)
        message = Publish(topic_name, data, qos, retain, properties={**properties})
        return await self._publisher(account_id).publish(message)

    def subscribe(
        self, account_id: int, subscriptions: Iterable[str | Subscription], qos: int, buffer: int
    ) -> MessageStream:
        """See ``Broker.subscribe``."""
        _check_qos(qos)
        wanted = [self._wanted(one, qos) for one in subscriptions]
        if not wanted:
            raise BadRequest(
                'a subscription needs a topic filter: broker.subscribe("devices/#")', field="topic_filters"
            )
        if not 1 <= buffer <= BUFFER_MAXIMUM:
            expected = f"1 to {BUFFER_MAXIMUM} messages"
            raise BadRequest(f"buffer: expected {expected}", field="buffer", provided=buffer, expected=expected)
        link = self._open(account_id)
        try:
            stream = MessageStream(link, wanted, buffer)
        except BaseException:  # a packet that cannot be encoded
            self._close(link)
            raise
        link.on_touched = _weakly(stream)
        self._streams.add(stream)
        weakref.finalize(stream, self._forget, link).atexit = False
        for _ in range(ROUNDS_FOR_AN_ANSWER):
            self._reactor.on_ready()
            if stream.look():
                break
        return stream

    def _checked(self, topic_name: str, payload: Payload) -> bytes:
        """Judge here what the core would close the connection for: others publish over it as well."""
        if not isinstance(topic_name, str) or not self._reactor.shard.valid_topic_name(_utf8(topic_name)):
            raise BadRequest(
                f"{topic_name!r} is no topic name: it has 1 to 65,535 bytes, no + or #, and at most "
                f"{self._capabilities.topic_levels_maximum} levels",
                field="topic_name",
                provided=topic_name,
            )
        if not isinstance(payload, bytes | bytearray | memoryview | str):
            raise BadRequest(
                f"payload: expected bytes or str, not {type(payload).__name__}; json.dumps makes one of a dict",
                field="payload",
                expected="bytes or str",
            )
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        if len(data) > self._capabilities.maximum_payload_bytes:
            raise PayloadTooLarge(
                f"a payload of {len(data)} bytes: capabilities.maximum_payload_bytes allows "
                f"{self._capabilities.maximum_payload_bytes}"
            )
        return data

    def _wanted(self, one: str | Subscription, qos: int) -> Subscription:
        wanted = one if isinstance(one, Subscription) else Subscription(one, qos)
        if not self._reactor.shard.valid_topic_filter(_utf8(wanted.topic_filter)):
            raise BadRequest(
                f"{wanted.topic_filter!r} is no topic filter: + stands for one whole level, # only at the end for all "
                "that follow",
                field="topic_filters",
                provided=wanted.topic_filter,
            )
        return wanted

    # ------------------------------------------------------------ links

    def _publisher(self, account_id: int) -> Publisher:
        publisher = self._publishers.get(account_id)
        if publisher is None or not publisher.is_open:
            if publisher is not None:
                publisher.close()
                self._links.pop(publisher.handle, None)
            link = self._open(account_id)
            publisher = Publisher(link, self._capabilities.server_receive_maximum)
            self._publishers[account_id] = publisher
        return publisher

    def _open(self, account_id: int) -> Link:
        if self._stopped:
            raise BrokerStopped("the broker has stopped")
        number = LOCAL_PRINCIPALS + next(self._opened) % (2**32 - LOCAL_PRINCIPALS)
        link = Link(self._reactor, account_id, number)
        self._links[link.handle] = link
        return link

    def _forget(self, link: Link) -> None:
        """End a link whose stream nobody holds any more: soon, since the collector runs in any thread at any line."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close, link)

    def _close(self, link: Link) -> None:
        self._links.pop(link.handle, None)
        link.close()

    # ------------------------------------------------------------ what the core asks and tells

    def grant_of(self, handle: int) -> Grant | None:
        """Give what the connection of a handle may do; None for one that comes from outside."""
        link = self._links.get(handle)
        return None if link is None else link.grant

    def on_local(self, handles: Iterable[int]) -> None:
        """Hear from the reactor which connections to look at."""
        for handle in handles:
            if (link := self._links.get(handle)) is None:
                continue
            try:
                link.touched()
            except Exception:  # one link's trouble is not the others', nor the round's
                log.exception("a local connection failed")
                self._close(link)

    def close(self) -> None:
        """End all; subscriptions can still be read to the end of what had come."""
        self._stopped = True
        for publisher in self._publishers.values():
            publisher.stop()
        for stream in list(self._streams):
            stream.stop()
        for link in list(self._links.values()):
            self._close(link)


def _weakly(stream: MessageStream) -> Callable[[], None]:
    """Tell a stream without keeping it: one that nobody holds has to end."""
    method = weakref.WeakMethod(stream.touched)

    def tell() -> None:
        if (living := method()) is not None:
            living()

    return tell


def _check_qos(qos: int) -> None:
    if qos not in (0, 1, 2):
        raise BadRequest(f"qos: {qos!r} is not 0, 1 or 2", field="qos", provided=qos, expected="0, 1 or 2")


def _check_names(properties: Mapping[str, object]) -> None:
    allowed = PublishProperties.__annotations__
    for name in properties:
        if name not in allowed:
            expected = "one of " + ", ".join(allowed)
            raise BadRequest(
                f"properties: a publisher has no {name!r}; expected {expected}", field=f"properties.{name}",
                expected=expected,
            )  # fmt: skip


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # which the core then refuses
