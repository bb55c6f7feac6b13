"""The rules of what is rare: SUBSCRIBE, UNSUBSCRIBE, AUTH, and a CONNECT that the core does not know.

Here belong decisions about packets that stop their connection until they are answered. Not here: what happens per
message (``broker._core``), waiting, clocks and chance: nothing in this package awaits, reads a clock or draws a number.
"""

from broker.engine.core import CoreFace, RareKind, RarePacket
from broker.engine.engine import Engine

__all__ = ["CoreFace", "Engine", "RareKind", "RarePacket"]
