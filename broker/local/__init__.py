"""Publish and subscribe from inside the process: connections without a socket, through the same core as any client's.

Here belong the client's half of MQTT for the embedding program: packets out, acknowledgements in, messages as Python
values. Not here: any rule of the broker's half, which is the core's, and the wiring (``broker.runtime``).
"""

from broker.local.clients import LocalClients
from broker.local.message import Message, PublishProperties
from broker.local.stream import MessageStream

__all__ = ["LocalClients", "Message", "MessageStream", "PublishProperties"]
