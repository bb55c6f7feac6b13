"""What may be retained of a topic: the last acknowledged message, or a later one that was not acknowledged.

Here belongs the register of each topic: who wrote what, between which events it took effect, and whether it did.
"""

from __future__ import annotations

from tests.simulator.facts import NEVER, Broken, Message
from tests.simulator.moment import Moment


class Write:
    """One message that was set as retained, or clears, in effect from some event in ``sent_t``..``end_t``."""

    __slots__ = ("end_t", "level", "message", "number", "sent_t", "sure_t")

    def __init__(self, message: Message | None, sent_t: int, level: str) -> None:
        self.message = message
        self.number = None if message is None or message.clear else message.number
        self.sent_t = sent_t
        self.end_t = NEVER
        self.sure_t = NEVER  # when it was acknowledged
        self.level = level


class Retained:
    """The registers of all topics."""

    def __init__(self, moment: Moment) -> None:
        self.moment = moment
        self.writes: dict[str, list[Write]] = {}

    def wrote(self, message: Message, level: str) -> Write:
        """A PUBLISH with RETAIN was sent."""
        write = Write(message, self.moment.t, level)
        self.writes.setdefault(message.topic, []).append(write)
        return write

    def acked(self, write: Write) -> None:
        """It is in effect, and so is all that its publisher has sent before."""
        write.end_t = write.sure_t = self.moment.t
        assert write.message is not None
        for writes in self.writes.values():
            for one in writes:
                if one.end_t == NEVER and one.message and self._precedes(one.message, write.message):
                    one.end_t = self.moment.t

    @staticmethod
    def _precedes(one: Message, acked: Message) -> bool:
        # A number is given when a message is made: a will's at its CONNECT, and it comes after all of its connection.
        if one.qos or one.publisher != acked.publisher or one.number > acked.number:
            return False
        return one.will is None or one.will.link is not acked.link

    def over(self, write: Write) -> None:
        """It was given up: what it has not done yet, it never will."""
        write.end_t = min(write.end_t, self.moment.t)

    def refused(self, write: Write) -> None:
        """It never took effect."""
        assert write.message is not None
        self.writes[write.message.topic].remove(write)

    def crashed(self) -> None:
        """What was acknowledged without waiting for the disk may be gone."""
        for writes in self.writes.values():
            for write in writes:
                if write.level == "memory" or (write.level == "relaxed" and write.sure_t > self.moment.committed_t):
                    write.sure_t = NEVER

    def possible(self, topic: str) -> list[Write]:
        """The writes that may be the last; the empty list at the start: nothing was ever retained."""
        writes = self.writes.get(topic, [])
        newest = max((write.sent_t for write in writes if write.sure_t != NEVER), default=-1)
        return [write for write in writes if write.end_t >= newest]

    def observed(self, topic: str, number: int | None) -> None:
        """A new subscriber has been sent this one, or nothing; from now on it is known to be the last."""
        possible = self.possible(topic)
        allowed = [write.number for write in possible]
        if not any(write.sure_t != NEVER for write in possible):
            allowed.append(None)
        if number not in allowed and self.moment.trusted:
            what = "nothing" if number is None else f"message {number}"
            raise Broken("retained", f"{topic} has {what}, it may have {allowed}")
        found = next((write for write in reversed(possible) if number == write.number), None)
        if found is None:
            found = Write(None, 0, "synced")
        found.end_t = found.sure_t = self.moment.t
        self.writes[topic] = [found]
