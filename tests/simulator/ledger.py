"""The ledger: everything that was promised, compared with everything that happens.

Here belongs the order in which its books are told of events. Not here: any single rule, which is in its book.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulator.deliveries import Deliveries
from tests.simulator.facts import NEVER, NO, Broken, Message
from tests.simulator.moment import SECOND_NS, Moment
from tests.simulator.network import Link
from tests.simulator.retained import Retained, Write
from tests.simulator.sessions import Sessions
from tests.simulator.wills import Wills


class Ledger:
    """Told by clients what they see and by the world what happens to the broker."""

    def __init__(
        self, moment: Moment, levels: list[str], expiry_maximum_s: int, grace_s: float, spread_s: float
    ) -> None:
        self.moment = moment
        self.levels = levels
        self.sessions = Sessions(moment, levels, expiry_maximum_s)
        self.deliveries = Deliveries(moment, self.sessions)
        self.retained = Retained(moment)
        self.wills = Wills(moment, levels, grace_s, spread_s, self._will_published)
        self.writes: dict[Message, Write] = {}
        self.number = 0
        self.promises = 0

    # ------------------------------------------------------------ messages

    def message(self, publisher: int, topic: str, qos: int, *, retain: bool, clear: bool = False) -> Message:
        """A message is made, and about to be sent."""
        self.number += 1
        message = Message(self.number, publisher, topic, qos, retain=retain, t=self.moment.t)
        message.clear = clear
        self.deliveries.messages[self.number] = message
        return message

    def expires(self, message: Message, expiry_s: int) -> None:
        """It is sent with an expiry interval."""
        message.expires_ns = self.moment.now_ns + expiry_s * SECOND_NS
        message.wall_expires_ns = self.moment.wall_ns + expiry_s * SECOND_NS

    def clock_set(self) -> None:
        """The wall clock was set: what is read from disk expires by it, what is not written yet will be by the new."""
        offset_ns = self.moment.wall_ns - self.moment.now_ns
        for message in self.deliveries.messages.values():
            if message.expires_ns != NEVER:
                message.expires_ns = min(message.expires_ns, message.wall_expires_ns - offset_ns)
                message.wall_expires_ns = min(message.wall_expires_ns, message.expires_ns + offset_ns)
        self.sessions.clock_set()

    def published(self, message: Message, link: Link) -> None:
        """It was sent, for the first time."""
        message.sent_life = self.moment.life
        message.link = link
        if message.retain:
            self.writes[message] = self.retained.wrote(message, self.levels[message.publisher])

    def published_again(self, message: Message, link: Link) -> None:
        """It was sent once more: below QoS 2 it may be routed once more."""
        message.link = link
        if message.qos == 1 or message.sent_life != self.moment.life:
            message.sends += 1
            message.sent_life = self.moment.life
        elif self.moment.refused_since(message.sent_t):
            message.late = True

    def acked(self, message: Message) -> None:
        """Its publisher has been told that it was taken."""
        self.promises += 1
        message.acked_t = self.moment.t
        if message.clear:
            message.acked = True
        else:
            self.deliveries.promised(message)
        if message in self.writes:
            self.retained.acked(self.writes[message])

    def refused(self, message: Message) -> None:
        """Its publisher has been told that it was not."""
        message.refused = True
        if message in self.writes and message.sends == 1:
            self.retained.refused(self.writes.pop(message))

    def abandoned(self, message: Message) -> None:
        """Its publisher has lost its session, and will not send it again; what is on its way may still arrive."""
        if message not in self.writes:
            return
        if message.link is not None and message.link.is_open:
            message.link.at_most_once.append(message)
        else:
            self.retained.over(self.writes[message])

    def _will_published(self, message: Message) -> None:
        self.deliveries.promised(message)
        if message in self.writes:
            self.retained.acked(self.writes[message])

    # ------------------------------------------------------------ connections

    def connecting(self, link: Link) -> None:
        """A CONNECT was sent."""
        link.sent_ran_ns = self.moment.ran_ns
        link.sent_t = self.moment.t
        self.sessions.connecting(link)

    def haunted(self, link: Link) -> None:
        """A CONNECT arrives that its client has given up: it may take the session from whoever has it."""
        self.sessions.haunted(link)
        self.wills.disturbed(link.client)

    def connected(self, link: Link, *, present: bool) -> None:
        """CONNACK arrived."""
        session = self.sessions.connected(link, present=present)
        self.wills.connected(link, session, present=present)

    def closed(self, link: Link) -> None:
        """The broker's side has ended."""
        self.wills.closed(link)
        will = link.will
        if will is not None and will.message.retain and will.message not in self.writes:
            self.writes[will.message] = self.retained.wrote(will.message, self.levels[link.client])
        self.sessions.closed(link)
        if not link.accepted:
            self.wills.disturbed(link.client)
        for message in link.at_most_once:
            self.abandoned(message)

    def ran(self) -> None:
        """The broker has nothing left to do at this moment: who was lost before is away since now at the latest."""
        if self.sessions.parting:
            for session in self.sessions.parting:
                self.sessions.parted(session)
                self.wills.parted(session)
            self.sessions.parting.clear()

    def farewell(self, link: Link) -> None:
        """Its DISCONNECT has surely been taken."""
        if link.farewell_sent:
            link.farewell_t = self.moment.t
        if link.farewell_expiry_s is not None:
            self.sessions.left(link, link.farewell_expiry_s)

    # ------------------------------------------------------------ the broker's life

    def committed(self) -> None:
        """More is on disk."""
        if self.wills.open:
            self.wills.settle(self.sessions.attempts)

    def crashed(self, links: list[Link]) -> None:
        """The broker has died, with these connections open."""
        for link in links:
            self.sessions.cut_off(link)
            if not link.accepted:
                self.wills.disturbed(link.client)
            link.is_open = False
            for message in link.at_most_once:
                self.abandoned(message)
        self.sessions.parting.clear()
        self.deliveries.crashed()
        for message in list(self.deliveries.messages.values()):
            if (
                message.acked
                and self.levels[message.publisher] == "relaxed"
                and message.acked_t > self.moment.committed_t
            ):
                self._not_promised(message)
        self.retained.crashed()
        self.wills.crashed()
        for will in self.wills.open:
            if will.message.retain and will.message not in self.writes:
                self.writes[will.message] = self.retained.wrote(will.message, self.levels[will.client])
        self.sessions.crashed()

    def _not_promised(self, message: Message) -> None:
        for session in self.sessions.current.values():
            session.must.pop(message, None)
        self.deliveries.groups_owed.pop(message, None)

    def restarted(self) -> None:
        """A new process has read the store."""
        self.sessions.restarted()
        self.wills.restarted(self.sessions.current)

    # ------------------------------------------------------------ at rest

    def missing(self, drops: Callable[[int], int]) -> None:
        """After everybody was back and everything came to rest: nothing that was promised is missing."""
        now_ns = self.moment.now_ns
        if not self.moment.trusted:
            return
        for session in self.sessions.current.values():
            if session.alive == NO:
                continue
            missing = [one for one in session.must if one.expires_ns > now_ns]
            if len(missing) > drops(session.client):
                raise Broken("acknowledged", f"{session} never got {missing[:5]}")
        # Where queues are full, a group without a member that has room loses messages: counted for nobody's session.
        for message in self.deliveries.groups_owed if self.deliveries.roomy else ():
            if message.expires_ns > now_ns and not self.deliveries.excused(message):
                raise Broken("shared group", f"{message} was acknowledged and reached nobody")

    def settled(self) -> None:
        """Forget all that is over: whatever of it comes again comes from nowhere."""
        kept = {one.message.number: one.message for one in self.wills.open}
        for writes in self.retained.writes.values():
            kept.update({one.message.number: one.message for one in writes if one.message is not None})
        self.deliveries.messages = kept
        self.deliveries.groups_owed.clear()
        self.writes = {message: write for message, write in self.writes.items() if message.number in kept}
        for session in self.sessions.current.values():
            session.must.clear()
            session.past.clear()
