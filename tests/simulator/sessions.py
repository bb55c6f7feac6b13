"""The sessions that the broker must, may and must not have, and their subscriptions.

Here belongs what CONNACK, SUBACK and UNSUBACK promise, and what time and crashes take away again. Not here: messages.
"""

from __future__ import annotations

from tests.simulator.facts import MAYBE, NEVER, NO, YES, Broken, Session, Sub
from tests.simulator.moment import SECOND_NS, SLACK_NS, Moment
from tests.simulator.network import Link
from tests.simulator.topics import MATCHED

PAST_KEPT = 12


class Sessions:
    """One current session for each client, as far as it can be known; ``levels`` is each client's durability."""

    def __init__(self, moment: Moment, levels: list[str], expiry_maximum_s: int) -> None:
        self.moment = moment
        self.levels = levels
        self.expiry_maximum_s = expiry_maximum_s
        self.current: dict[int, Session] = {}
        self.unseen: set[int] = set()  # clients with whom a session may have begun that nobody was told of
        self.ended = 0
        self.left_t: dict[str, int] = {}  # by filter, when somebody last ended his subscription to it
        self.weak_t: dict[str, int] = {}  # when somebody who may have it with QoS 0 last lost his connection
        self.parting: list[Session] = []  # whose connections were lost and may not have been seen to yet
        self.attempts: dict[int, list[Link]] = {}  # CONNECTs not answered yet: time decides nothing meanwhile
        self.down = False  # between two lives nothing expires: what was not on disk is undecided until the next one

    def of(self, client: int) -> Session | None:
        """A client's session, judged by the present time."""
        found = self.current.get(client)
        if found is not None:
            self.age(found)
        return found

    def age(self, session: Session) -> None:
        """Apply the passing of time."""
        if self.down or session.alive == NO or session.deadline_lo_ns == NEVER:
            return
        undecided = session.client in self.attempts or session in self.parting
        if session.deadline_hi_ns + SLACK_NS < self.moment.ran_ns and not undecided:
            self.end(session)
        elif session.deadline_lo_ns < self.moment.now_ns + SLACK_NS:
            session.alive = MAYBE

    def end(self, session: Session) -> None:
        """It is over: nothing is owed to it any more."""
        session.alive = NO
        session.ended_t = self.moment.t
        session.must.clear()
        self.ended += 1
        for topic_filter in session.subs:
            self.left_t[topic_filter] = self.moment.t

    # ------------------------------------------------------------ connections

    def connecting(self, link: Link) -> None:
        """A CONNECT was sent: from now on it may have been taken."""
        self.haunted(link)

    def haunted(self, link: Link) -> None:
        """A CONNECT may be taken now, perhaps long after its client has given it up."""
        session = self.of(link.client)
        if link not in self.attempts.setdefault(link.client, []):
            self.attempts[link.client].append(link)
        if session is None or session.alive == NO:
            return
        if session.expiry_hi_s == 0:
            self.end(session)  # the earlier connection goes before this one comes
        elif link.clean:
            session.alive = MAYBE
        else:
            self._widen(session, link)

    def _widen(self, session: Session, link: Link) -> None:
        # Its CONNECT may have given the session another expiry.
        expiry_s = min(link.expiry_s, self.expiry_maximum_s)
        session.expiry_lo_s = min(session.expiry_lo_s, expiry_s)
        session.expiry_hi_s = max(session.expiry_hi_s, expiry_s)

    def connected(self, link: Link, *, present: bool) -> Session:
        """CONNACK: what it says must agree with what was promised before."""
        session = self.of(link.client)
        self._answered(link)
        if present:
            session = self._resumed(link, session)
        else:
            if session is not None and session.alive == YES and not link.clean and self.moment.trusted:
                raise Broken("session kept", f"client {link.client} comes back and {session} is not there")
            if session is not None and session.alive != NO:
                self.end(session)
            session = Session(link.client, self.moment.t)
        self.unseen.discard(link.client)
        self.current[link.client] = session
        session.alive = YES
        link.unpromised = self.moment.refused_since(link.sent_t)  # let in while the disk took nothing
        if link.unpromised:
            expiry_s = min(link.expiry_s, self.expiry_maximum_s)
            session.expiry_lo_s = min(expiry_s, session.expiry_lo_s) if present else expiry_s
            session.expiry_hi_s = max(expiry_s, session.expiry_hi_s)
            self._unwritten(session)
        session.unpromised = link.unpromised
        session.expiry_lo_s = session.expiry_hi_s = min(link.expiry_s, self.expiry_maximum_s)
        session.deadline_lo_ns = session.deadline_hi_ns = NEVER
        session.link = link
        link.session = session
        return session

    def _answered(self, link: Link) -> None:
        attempts = self.attempts.get(link.client, [])
        if link in attempts:
            attempts.remove(link)
            if not attempts:
                del self.attempts[link.client]

    def _resumed(self, link: Link, session: Session | None) -> Session:
        if link.clean and self.moment.trusted:
            raise Broken("clean start", f"client {link.client} asked for a clean start and is told of a session")
        if session is not None and session.alive != NO:
            return session
        if link.client not in self.unseen and self.moment.trusted:
            raise Broken("session gone", f"client {link.client} is told of a session that has ended")
        found = Session(link.client, self.moment.t)
        found.expiry_hi_s = self.expiry_maximum_s  # nobody was told of it, or of how long it was to last
        return found

    def closed(self, link: Link) -> None:
        """The broker's side of a connection has ended."""
        session = link.session
        if session is None:
            self._closed_unanswered(link)
        elif session.link is link:
            self._disconnected(session)
            session.link = None
            if session.expiry_hi_s == 0:
                self.end(session)
            else:
                self._away(session, session.expiry_lo_s, session.expiry_hi_s)

    def _disconnected(self, session: Session) -> None:
        # What a group's member is sent with QoS 0 is lost with its connection.
        for topic_filter, sub in session.subs.items():
            if sub.weak_t == NEVER:
                self.weak_t[topic_filter] = self.moment.t

    def _closed_unanswered(self, link: Link) -> None:
        session = self.of(link.client)  # before the attempt is forgotten: while it lasted, its session may have gone on
        self._answered(link)
        if session is not None:
            self._disconnected(session)
        if link.expiry_s and (link.clean or session is None or session.alive != YES):
            self.unseen.add(link.client)
        self._perhaps_resumed(link, session)

    def _perhaps_resumed(self, link: Link, session: Session | None) -> None:
        # By a CONNECT that was not answered: then it is away since now.
        if session is not None and session.alive != NO and session.link is None and not link.clean:
            lo, hi = session.deadline_lo_ns, session.deadline_hi_ns
            wall_lo, wall_hi = session.wall_lo_ns, session.wall_hi_ns
            self._away(session, session.expiry_lo_s, session.expiry_hi_s)
            session.deadline_lo_ns = min(lo, session.deadline_lo_ns)
            session.wall_lo_ns = min(wall_lo, session.wall_lo_ns)
            if hi != NEVER:
                session.deadline_hi_ns = max(hi, session.deadline_hi_ns)
                session.wall_hi_ns = max(wall_hi, session.wall_hi_ns)

    def _away(self, session: Session, lo_s: int, hi_s: int) -> None:
        now_ns, wall_ns = self.moment.now_ns, self.moment.wall_ns
        session.deadline_lo_ns, session.deadline_hi_ns = now_ns + lo_s * SECOND_NS, now_ns + hi_s * SECOND_NS
        session.wall_lo_ns, session.wall_hi_ns = wall_ns + lo_s * SECOND_NS, wall_ns + hi_s * SECOND_NS
        session.away_t = self.moment.t
        self.parting.append(session)
        self.age(session)

    def parted(self, session: Session) -> None:
        """The broker has seen to a connection that was lost, at this moment at the latest."""
        if session.deadline_hi_ns != NEVER:
            session.deadline_hi_ns = max(session.deadline_hi_ns, self.moment.now_ns + session.expiry_hi_s * SECOND_NS)
            session.wall_hi_ns = max(session.wall_hi_ns, self.moment.wall_ns + session.expiry_hi_s * SECOND_NS)

    def clock_set(self) -> None:
        """The wall clock was set: who was lost and is not seen to yet may be recorded as away since then."""
        for session in self.parting:
            lo_ns = self.moment.wall_ns + session.expiry_lo_s * SECOND_NS
            session.wall_lo_ns = min(session.wall_lo_ns, lo_ns)

    def leaving(self, link: Link, expiry_s: int) -> None:
        """A DISCONNECT with another expiry interval was sent: either may hold."""
        session = link.session
        if session is not None and session.link is link:
            session.expiry_lo_s = min(session.expiry_lo_s, expiry_s)
            session.expiry_hi_s = max(session.expiry_hi_s, expiry_s)

    def left(self, link: Link, expiry_s: int) -> None:
        """That DISCONNECT has been taken for sure."""
        session = link.session
        if session is not None and session.link is link:
            self._unwritten(session)
            session.expiry_lo_s = session.expiry_hi_s = expiry_s
            for other in self.attempts.get(link.client, ()) if expiry_s else ():
                if not other.clean:
                    self._widen(session, other)  # it may have been taken since, and before this was noticed

    def _unwritten(self, session: Session) -> None:
        # A crash before the next commit may bring its earlier expiry back, whichever of them was recorded last.
        lo_s, hi_s = session.expiry_lo_s, session.expiry_hi_s
        if session.widest_s is not None and session.unwritten_t > self.moment.committed_t:
            lo_s, hi_s = min(lo_s, session.widest_s[0]), max(hi_s, session.widest_s[1])
        session.widest_s = lo_s, hi_s
        session.unwritten_t = self.moment.t

    # ------------------------------------------------------------ subscriptions

    def subscribing(self, session: Session, topic_filter: str, qos: int, *, no_local: bool, identifier: int) -> None:
        """A SUBSCRIBE was sent: what it asks for may hold from now on."""
        sub = session.subs.get(topic_filter)
        if sub is None:
            sub = session.subs[topic_filter] = Sub(topic_filter, MATCHED[topic_filter], self.moment.t)
        sub.qos = (*sub.qos, qos)
        if qos == 0:
            sub.weak_t = NEVER
        sub.identifier = (*sub.identifier, identifier)
        sub.no_local |= no_local
        sub.exact_t = NEVER

    def subscribed(self, session: Session, topic_filter: str, qos: int, *, no_local: bool, identifier: int) -> None:
        """SUBACK: it is there, with these options."""
        sub = session.subs[topic_filter]
        sub.qos = (qos,)
        if qos and sub.weak_t == NEVER:
            sub.weak_t = self.moment.t
        sub.identifier = (identifier,)
        sub.no_local = no_local
        sub.exact_t = self.moment.t
        if sub.sure_t == NEVER:
            sub.sure_t = self.moment.t

    def unsubscribing(self, session: Session, topic_filter: str) -> None:
        """An UNSUBSCRIBE was sent."""
        sub = session.subs.get(topic_filter)
        if sub is not None:
            sub.sure_t = NEVER

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """UNSUBACK: it is gone."""
        sub = session.subs.pop(topic_filter, None)
        if sub is not None:
            sub.gone_t = self.moment.t
            self.left_t[topic_filter] = self.moment.t
            session.past.append(sub)
            del session.past[:-PAST_KEPT]

    # ------------------------------------------------------------ crashes

    def cut_off(self, link: Link) -> None:
        """The broker has died while this connection was open."""
        if link.accepted:
            return
        session = self.of(link.client)  # before the attempt is forgotten, as in _closed_unanswered
        self._answered(link)
        if session is not None:
            self._disconnected(session)
        if link.expiry_s:
            self.unseen.add(link.client)
        self._perhaps_resumed(link, session)
        if session is not None and session.alive != NO:
            session.away_t = NEVER  # it may have been resumed, and that may be recorded or not

    def crashed(self) -> None:
        """The broker has died: what was not promised may be lost, and what was not recorded may come back."""
        for client, session in list(self.current.items()):
            self.age(session)
            if self.levels[client] == "memory":
                self.unseen.discard(client)
                if session.alive != NO:
                    self.end(session)
                session.ended_t = 0
            else:
                self._crashed(client, session)
        self.down = True

    def _crashed(self, client: int, session: Session) -> None:
        committed_t = self.moment.committed_t
        if session.link is not None:
            self._disconnected(session)
        session.link = None
        if session.widest_s is not None and session.unwritten_t > committed_t:
            session.expiry_lo_s, session.expiry_hi_s = session.widest_s
            if session.alive == YES and session.unpromised:
                session.alive = MAYBE  # its return is forgotten, and it may have expired since it left
        if session.alive == NO:
            if session.ended_t <= committed_t or session.expiry_hi_s == 0:
                return
            session.alive = MAYBE
        if session.expiry_hi_s == 0:
            self.end(session)
            return
        if self.levels[client] == "relaxed":
            self._forgotten(session, committed_t)

    def _forgotten(self, session: Session, committed_t: int) -> None:
        if session.sure_t > committed_t:
            session.alive = MAYBE
        for sub in session.past:
            if sub.gone_t != NEVER and sub.gone_t > committed_t and sub.topic_filter not in session.subs:
                sub.gone_t = NEVER
                session.subs[sub.topic_filter] = sub
        session.past = [sub for sub in session.past if sub.gone_t != NEVER]
        for sub in session.subs.values():
            if sub.sure_t != NEVER and sub.sure_t > committed_t:
                sub.sure_t = NEVER
            if sub.exact_t > committed_t:
                sub.exact_t = NEVER
                sub.qos = (*sub.qos, 0, 1, 2)
                sub.weak_t = NEVER

    def restarted(self) -> None:
        """The broker is back: who was connected is away from now on, who was away before goes by the wall clock."""
        self.down = False
        now_ns, wall_ns = self.moment.now_ns, self.moment.wall_ns
        for session in self.current.values():
            if session.alive == NO:
                continue
            lo_ns, hi_ns = now_ns + session.expiry_lo_s * SECOND_NS, now_ns + session.expiry_hi_s * SECOND_NS
            if session.deadline_lo_ns == NEVER:
                session.away_t = NEVER  # its record says that it is connected, until it has been and gone again
            elif session.wall_lo_ns != NEVER:
                by_wall_lo = min(lo_ns, session.wall_lo_ns - wall_ns + now_ns)  # nobody went in the future
                by_wall_hi = min(hi_ns, session.wall_hi_ns - wall_ns + now_ns)
                recorded = session.away_t <= self.moment.crashed_committed_t
                lo_ns = by_wall_lo if recorded else min(lo_ns, by_wall_lo)
                hi_ns = by_wall_hi if recorded else max(hi_ns, by_wall_hi)
            hi_ns = max(hi_ns, now_ns)  # who has expired meanwhile ends with the first tick of the wheel
            session.deadline_lo_ns, session.deadline_hi_ns = lo_ns, hi_ns
            session.wall_lo_ns, session.wall_hi_ns = lo_ns - now_ns + wall_ns, hi_ns - now_ns + wall_ns
            if session.expiry_lo_s == 0:
                session.alive = MAYBE
            self.age(session)
