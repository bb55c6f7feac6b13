"""Wills: published exactly once when their client is lost for good, and never when it has said goodbye.

Here belongs the life of each will as far as it can be known from outside. Deadlines of one that was pending when the
broker died begin anew at the restart, with the grace that clients have to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulator.facts import NEVER, NO, Broken, Message, Session, Will
from tests.simulator.moment import SECOND_NS, SLACK_NS, Moment
from tests.simulator.network import Link


class Wills:
    """``promised`` is told of each will that has surely been published and recorded."""

    def __init__(
        self, moment: Moment, levels: list[str], grace_s: float, spread_s: float, promised: Callable[[Message], None]
    ) -> None:
        self.moment = moment
        self.levels = levels
        self.grace_ns = round(grace_s * SECOND_NS)
        self.spread_ns = round(spread_s * SECOND_NS)
        self.promised = promised
        self.open: list[Will] = []
        self.look: Callable[[], None] = lambda: None  # has the world notice which connections have closed

    def left(self, link: Link, message: Message, delay_s: int) -> None:
        """A CONNECT with a will was sent."""
        will = message.will = link.will = Will(link.client, link, message, delay_s)
        self.open.append(will)

    def connected(self, link: Link, session: Session, *, present: bool) -> None:
        """CONNACK: this connection's will stands, and those of earlier ones are decided."""
        now_ns, ran_ns = self.moment.now_ns, link.sent_ran_ns
        for will in self.open:
            if will.client != link.client or will.link is link or will.state != Will.PENDING:
                continue
            if will.due_hi_ns + SLACK_NS < ran_ns or (will.delay_s == 0 and not will.graced):
                self._decide(will, Will.FIRED)
            elif present and will.due_lo_ns - SLACK_NS > now_ns:
                self._decide(will, Will.CANCELLED)
            elif not present and not will.graced:
                self._decide(will, Will.FIRED)  # its session has ended
            else:
                self._decide(will, Will.UNSURE)
        if link.will is not None:
            link.will.state = Will.ARMED
            link.will.armed_t = self.moment.t

    def closed(self, link: Link) -> None:
        """The broker's side of a connection has ended."""
        will = link.will
        if will is None or will.closed_t != NEVER:
            return
        will.closed_t = self.moment.t
        will.back_ns = self.moment.back_ns
        will.had_left = True
        will.message.sent_t = self.moment.t - 1  # it may have gone out in this event, before what else was done in it
        if link.farewell_t != NEVER:
            self._decide(will, Will.CANCELLED if will.state == Will.ARMED else Will.UNSURE)
        elif link.farewell_sent or will.state != Will.ARMED:
            self._decide(will, Will.UNSURE)
        else:
            will.state = Will.PENDING
            session = link.session
            assert session is not None
            now_ns = self.moment.now_ns
            will.due_lo_ns = now_ns + min(will.delay_s, session.expiry_lo_s) * SECOND_NS
            will.due_hi_ns = now_ns + min(will.delay_s, session.expiry_hi_s) * SECOND_NS

    def parted(self, session: Session) -> None:
        """The broker has seen to a lost connection of this session, at this moment at the latest."""
        for will in self.open:
            if will.client == session.client and will.state == Will.PENDING and not will.graced:
                due_ns = self.moment.now_ns + min(will.delay_s, session.expiry_hi_s) * SECOND_NS
                will.due_hi_ns = max(will.due_hi_ns, due_ns)

    def disturbed(self, client: int) -> None:
        """A CONNECT ended without an answer: it may have cancelled what waits, or not."""
        for will in self.open:
            if will.client == client and will.state == Will.PENDING:
                self._decide(will, Will.UNSURE)

    def _decide(self, will: Will, state: int) -> None:
        will.state = state
        will.decided_t = self.moment.t

    def may_arrive(self, message: Message) -> None:
        """A will arrives somewhere: its client must be lost."""
        will = message.will
        assert will is not None
        if not self.moment.trusted:
            return
        if will.closed_t == NEVER:
            self.look()
        if will.closed_t == NEVER:
            raise Broken("will", f"{message} is published while its client is connected")
        if will.state == Will.CANCELLED:
            raise Broken("will", f"{message} is published although its client said goodbye or came back")

    # ------------------------------------------------------------ time and crashes

    def settle(self, attempts: Mapping[int, list[Link]]) -> None:
        """Decide what time has decided, and close what is recorded; not of clients that may be coming back."""
        still: list[Will] = []
        for will in self.open:
            due = will.due_hi_ns + SLACK_NS < self.moment.ran_ns and will.client not in attempts
            if will.state == Will.PENDING and due:
                self._decide(will, Will.FIRED)
            if will.state == Will.FIRED and will.decided_t <= self.moment.committed_t:
                self.promised(will.message)
                will.state = Will.DONE
            elif will.state != Will.CANCELLED or will.decided_t > self.moment.committed_t:
                still.append(will)
        self.open = still

    def crashed(self) -> None:
        """The broker has died."""
        committed_t = self.moment.committed_t
        for will in self.open:
            level = self.levels[will.client]
            unrecorded = will.decided_t != NEVER and will.decided_t > committed_t
            if level == "memory":
                self._decide(will, Will.UNSURE)
            elif will.state == Will.PENDING and not self._recorded(will, level, committed_t):
                self._decide(will, Will.UNSURE)  # its client had gone before it was on disk
            elif will.state == Will.ARMED and self._recorded(will, level, committed_t):
                will.state = Will.PENDING
            elif will.state == Will.FIRED and unrecorded:
                # It was published before that was known from outside: either is on disk.
                self._decide(will, Will.UNSURE)
            elif will.state == Will.ARMED or (will.state == Will.CANCELLED and unrecorded):
                self._decide(will, Will.UNSURE)
            elif will.state == Will.PENDING and will.due_lo_ns - SLACK_NS <= self.moment.now_ns:
                self._decide(will, Will.UNSURE)  # it may have been published, and that may be on disk
            if will.state == Will.UNSURE:
                will.message.sends += 1
            if will.closed_t == NEVER:
                will.closed_t = will.message.sent_t = self.moment.t
                will.back_ns = self.moment.back_ns

    def _recorded(self, will: Will, level: str, committed_t: int) -> bool:
        # A CONNACK promises it, but for one of QoS 0 that was let in while the disk took nothing: it is recorded later.
        if will.link.unpromised and will.message.qos == 0:
            return not self.moment.refused_since(committed_t)
        return level == "synced" or will.armed_t <= committed_t

    def restarted(self, current: Mapping[int, Session]) -> None:
        """Who was lost has until the end of the grace to come back; a will is due before it if its session ends."""
        now_ns = self.moment.now_ns
        for will in self.open:
            if will.state == Will.PENDING:
                will.graced = True
                shorter_ns, longer_ns = sorted((self.grace_ns, will.delay_s * SECOND_NS))
                will.due_lo_ns = now_ns + (shorter_ns if will.had_left else longer_ns)
                will.due_hi_ns = now_ns + longer_ns + self.spread_ns + self.moment.back_ns - will.back_ns
                session = current.get(will.client)
                if session is not None and session.alive != NO:
                    will.due_lo_ns = min(will.due_lo_ns, session.deadline_lo_ns)

    def latest_ns(self) -> int:
        """When the last of those that wait is due."""
        return max((will.due_hi_ns for will in self.open if will.state == Will.PENDING), default=0)
