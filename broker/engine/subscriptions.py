"""SUBSCRIBE and UNSUBSCRIBE: what is granted, filter by filter.

Here belong the rules of sections 3.8 to 3.11. Not here: matching (``_core.topics``) and rights (``_core.grants``).
"""

from __future__ import annotations

from broker.engine.core import CoreFace
from broker.reasons import ReasonCode
from broker.wire import Suback, Subscribe, Subscription, Unsuback, Unsubscribe

MAXIMUM_QOS = 2
"""The highest QoS that is granted; CONNACK announces it."""


def subscribe(core: CoreFace, handle: int, packet: Subscribe) -> Suback:
    """Apply one SUBSCRIBE, in the order of its filters, as if each had come alone."""
    identifier = _identifier(packet)
    # [MQTT-3.8.4-5]
    codes = tuple(_subscribe_one(core, handle, one, identifier) for one in packet.subscriptions)
    return Suback(packet.packet_id, codes)  # [MQTT-3.8.4-2] [MQTT-3.8.4-6]


def unsubscribe(core: CoreFace, handle: int, packet: Unsubscribe) -> Unsuback:
    """Apply one UNSUBSCRIBE. Deliveries already staged may still arrive, none is added."""
    codes = tuple(  # [MQTT-3.10.4-2]
        ReasonCode.SUCCESS if core.unsubscribe(handle, one.encode()) else ReasonCode.NO_SUBSCRIPTION_EXISTED
        for one in packet.topic_filters
    )
    return Unsuback(packet.packet_id, codes)  # [MQTT-3.10.4-4] [MQTT-3.11.3-1]


def _identifier(packet: Subscribe) -> int:
    found = packet.properties.get("subscription_identifier")
    return found[0] if isinstance(found, tuple) else 0  # one at most [MQTT-3.8.2.1.2]: the decoder has seen to it


def _subscribe_one(core: CoreFace, handle: int, one: Subscription, identifier: int) -> ReasonCode:
    topic_filter = one.topic_filter.encode()
    if not core.valid_topic_filter(topic_filter):
        return ReasonCode.TOPIC_FILTER_INVALID
    if not core.may_subscribe(handle, topic_filter):
        return ReasonCode.NOT_AUTHORIZED
    qos = min(one.qos, MAXIMUM_QOS)
    taken = core.subscribe(
        handle,
        topic_filter,
        qos,
        no_local=one.no_local,
        retain_as_published=one.retain_as_published,
        identifier=identifier,
        retain_handling=one.retain_handling,
    )
    return ReasonCode(qos) if taken else ReasonCode.QUOTA_EXCEEDED
