"""What reaches whom: every delivery must be allowed, every promised one must come, and none twice without a reason.

Here belongs the judgement of one PUBLISH that a client receives, and of one that a client was acknowledged. Not here:
retained state, wills' own rules, time.
"""

from __future__ import annotations

from tests.simulator.facts import NEVER, NO, YES, Broken, Delivery, Message, Session, Sub
from tests.simulator.moment import Moment
from tests.simulator.network import Link
from tests.simulator.sessions import Sessions


class Deliveries:
    """The messages of a run since it last came to rest, and where each has arrived."""

    def __init__(self, moment: Moment, sessions: Sessions) -> None:
        self.moment = moment
        self.sessions = sessions
        self.messages: dict[int, Message] = {}
        self.groups_owed: dict[Message, None] = {}
        self.acknowledged: list[Delivery] = []  # not known to be on disk yet
        self.delivered = 0
        self.roomy = True  # no queue is ever full

    # ------------------------------------------------------------ what is promised

    def promised(self, message: Message) -> None:
        """Its publisher was acknowledged (or its will was due): whoever surely wanted it must get it."""
        message.acked = True
        if message.qos == 0:
            return
        groups: dict[str, list[tuple[Session, Sub]]] = {}
        for session in self.sessions.current.values():
            if session.alive == NO and session.link is None:
                continue  # while its connection is still there, it may be handed what goes to a group
            sure = False
            for sub in session.subs.values():
                if message.topic not in sub.topics:
                    continue
                if sub.topic_filter[0] == "$":
                    groups.setdefault(sub.topic_filter, []).append((session, sub))
                elif sub.no_local and session.client == message.publisher:
                    sure = False
                    break
                elif sub.sure_t <= message.sent_t and sub.weak_t <= message.sent_t:
                    sure = True
            if sure and session.alive != NO and session not in message.seen:
                session.must[message] = None
        if groups:
            self._promised_to_groups(message, groups)

    def _promised_to_groups(self, message: Message, groups: dict[str, list[tuple[Session, Sub]]]) -> None:
        for topic_filter, members in groups.items():
            if self.sessions.left_t.get(topic_filter, 0) >= message.sent_t:
                continue  # it may have gone to somebody who has left, and with him
            if not any(sub.sure_t <= message.sent_t and session.alive == YES for session, sub in members):
                continue
            if all(sub.weak_t <= message.sent_t and self._durable(session) for session, sub in members):
                message.group_need += 1
                message.group_members += [(session, topic_filter) for session, _ in members]
        if message.group_seen < message.group_need:
            self.groups_owed[message] = None

    def _durable(self, session: Session) -> bool:
        return session.kept and self.sessions.levels[session.client] == "synced"

    # ------------------------------------------------------------ what arrives

    def arrived(
        self, link: Link, number: int, topic: str, qos: int, *, dup: bool, retained: bool, identifiers: tuple[int, ...]
    ) -> Delivery:
        """Judge one PUBLISH that is new to its receiver (a repetition of an open QoS 2 exchange is not)."""
        self.delivered += 1
        session = link.session
        assert session is not None
        message = self.messages.get(number)
        if not self.moment.trusted:
            return Delivery(message or Message(number, 0, topic, qos, retain=False, t=0), session, qos, link, 0)
        if message is None:
            raise Broken("deleted things gone", f"{session} gets message {number} ({topic}) from a settled past")
        if message.topic != topic:
            raise Broken("message whole", f"{message} arrives at topic {topic}")
        if message.refused and not message.acked and message.sends == 1:
            raise Broken("refused", f"{message} was refused, and {session} gets it")
        plain, shared = self._wanted(session, message)
        if not plain and not shared and not (message.retain and retained):
            raise Broken("subscription gone", f"{session} gets {message} and does not subscribe to it")
        delivery = Delivery(message, session, qos, link, self.moment.life)
        replayed = message.retain and (retained or message.will is not None)
        if not replayed:
            self._judge_options(link, message, qos, identifiers, plain)
            self._judge_order(session, message, qos, plain)
            self._judge_repetition(delivery, dup=dup, allowed=bool(plain) + len(shared))
        arrivals = message.seen.setdefault(session, [])
        if not replayed:
            arrivals.append(delivery)
        session.must.pop(message, None)
        if shared:
            self._seen_by_group(message)
        return delivery

    def _wanted(self, session: Session, message: Message) -> tuple[list[Sub], list[Sub]]:
        plain: list[Sub] = []
        shared: list[Sub] = []
        for subs in (session.subs.values(), session.past):
            for sub in subs:
                if message.topic in sub.topics and sub.gone_t > message.sent_t:
                    (shared if sub.topic_filter[0] == "$" else plain).append(sub)
        return plain, shared

    def _judge_options(
        self, link: Link, message: Message, qos: int, identifiers: tuple[int, ...], plain: list[Sub]
    ) -> None:
        session = link.session
        if qos > message.qos:
            raise Broken("quality", f"{message} reaches {session} with QoS {qos}")
        if len(plain) != 1 or plain[0].gone_t != NEVER or plain[0].exact_t > message.sent_t:
            return
        if qos != min(message.qos, plain[0].qos[0]):
            raise Broken("subscription whole", f"{session} gets {message} with QoS {qos} and asked for {plain[0].qos}")
        wanted = plain[0].identifier if plain[0].identifier[0] and link.version == 5 else ()
        if identifiers != wanted:
            raise Broken("subscription whole", f"{session} gets {message} with {identifiers}, not {wanted}")

    def _judge_order(self, session: Session, message: Message, qos: int, plain: list[Sub]) -> None:
        if session in message.seen or not plain or message.will is not None:
            return
        if message.sends > 1 or message.late:
            return  # the first may have come before the subscription, or have found a full queue: now it is new here
        key = (message.publisher, message.topic, message.qos, qos)
        if session.last.get(key, 0) > message.number:
            raise Broken("order", f"{session} gets {message} after {session.last[key]}")
        session.last[key] = message.number

    def _judge_repetition(self, delivery: Delivery, *, dup: bool, allowed: int) -> None:
        message, earlier = delivery.message, delivery.message.seen.get(delivery.session)
        if not earlier or message.loose:
            return
        if delivery.qos == 2:
            if sum(one.qos == 2 for one in earlier) >= allowed:
                raise Broken("exactly once", f"{delivery.session} gets {message} again")
            return
        if delivery.qos:
            open_ones = [
                one for one in earlier if one.link is not delivery.link and not one.again and one.acked_t == NEVER
            ]
            # One of this life is repeated with DUP alone, one from before a crash perhaps without.
            open_ones.sort(key=lambda one: one.life != delivery.life)
            for one in open_ones:
                if dup or one.life != delivery.life:
                    one.again = True
                    return
        routes = sum(not one.again for one in earlier)
        if routes >= allowed * message.sends:
            why = "although it has acknowledged it" if any(one.acked_t != NEVER for one in earlier) else "without cause"
            raise Broken("repeated", f"{delivery.session} gets {message} (dup {dup}) again {why}")

    def _seen_by_group(self, message: Message) -> None:
        message.group_seen += 1
        if message.group_seen >= message.group_need:
            self.groups_owed.pop(message, None)

    # ------------------------------------------------------------ what is acknowledged

    def taken(self, delivery: Delivery) -> None:
        """The core has taken a client's acknowledgement."""
        delivery.acked_t = self.moment.t
        self.acknowledged.append(delivery)

    def committed(self) -> None:
        """More is on disk: those acknowledgements hold over a crash."""
        at = self.moment.committed_t
        self.acknowledged = [one for one in self.acknowledged if one.acked_t > at]

    def crashed(self) -> None:
        """Acknowledgements that are not on disk may be forgotten; so may be what was promised without waiting."""
        self.committed()
        for delivery in self.acknowledged:
            delivery.acked_t = NEVER
        self.acknowledged.clear()

    # ------------------------------------------------------------ what is missing

    def excused(self, message: Message) -> bool:
        """Whether a shared group may have lost this: who was to get it has ended, and nobody else was left."""
        ended = [topic_filter for session, topic_filter in message.group_members if session.alive == NO]
        if not ended:
            return False
        if any(self.sessions.weak_t.get(topic_filter, 0) >= message.sent_t for topic_filter in ended):
            return True  # with QoS 0 it is lost with its connection, and who is away is handed nothing [MQTT-4.8.2-3]
        return message.qos == 2 or not any(
            session.alive == YES
            and topic_filter in session.subs
            and session.subs[topic_filter].sure_t <= message.sent_t
            for session, topic_filter in message.group_members
        )
